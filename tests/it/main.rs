//! Integration tests: one binary.

mod http;
mod support;
