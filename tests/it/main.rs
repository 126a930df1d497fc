//! Integration tests: one binary.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

#[cfg(feature = "http")]
mod http;
mod store;
mod store_postgres;
mod store_sqlite;
mod support;
