//! Integration tests: one binary.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod store;
mod store_postgres;
mod store_sqlite;
mod support;
