//! Integration tests: one binary.

mod store;
mod store_postgres;
mod store_sqlite;
mod support;
