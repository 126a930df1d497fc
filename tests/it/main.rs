//! Integration tests: one binary.

#[cfg(feature = "http")]
mod http;
mod store;
mod store_postgres;
mod store_sqlite;
mod support;
