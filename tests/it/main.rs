//! Integration tests: one binary.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod http;
mod support;
