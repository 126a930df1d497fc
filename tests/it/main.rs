//! Integration tests: one binary.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

#[cfg(all(feature = "sqlite", feature = "postgres"))]
mod archive_keys;
#[cfg(all(unix, feature = "http", feature = "sqlite"))]
mod branches;
#[cfg(all(unix, feature = "redis"))]
mod cache_redis;
#[cfg(all(unix, feature = "http", feature = "sqlite"))]
mod cli;
#[cfg(all(unix, feature = "http", feature = "sqlite", feature = "postgres"))]
mod cli_backup;
#[cfg(all(unix, feature = "http", feature = "sqlite"))]
mod cli_bench;
#[cfg(all(unix, feature = "http", feature = "sqlite"))]
mod cli_branches;
#[cfg(all(unix, feature = "http", feature = "sqlite", feature = "postgres"))]
mod cli_doctor;
#[cfg(all(unix, feature = "http", feature = "sqlite"))]
mod cli_export;
#[cfg(all(unix, feature = "http", feature = "sqlite", feature = "postgres"))]
mod cli_keys;
#[cfg(all(unix, feature = "http", feature = "sqlite"))]
mod cli_projections;
#[cfg(all(unix, feature = "http", feature = "sqlite"))]
mod cli_sagas;
#[cfg(all(unix, feature = "http", feature = "sqlite"))]
mod cli_tokens;
#[cfg(all(unix, feature = "http", feature = "sqlite", feature = "postgres"))]
mod cli_troubles;
#[cfg(all(unix, feature = "console", feature = "sqlite"))]
mod console;
mod declared;
#[cfg(all(unix, feature = "http", feature = "sqlite"))]
mod documented;
#[cfg(all(unix, feature = "http", feature = "redis", feature = "sqlite", feature = "postgres"))]
mod erasure;
#[cfg(all(unix, feature = "http", feature = "sqlite", feature = "postgres"))]
mod faults;
#[cfg(all(unix, feature = "http", feature = "sqlite"))]
mod hostile;
#[cfg(feature = "http")]
mod http;
#[cfg(all(unix, feature = "http", feature = "sqlite", feature = "postgres"))]
mod integrity;
mod keys;
#[cfg(all(unix, feature = "http", feature = "sqlite", feature = "postgres", feature = "redis"))]
mod observe;
#[cfg(all(feature = "http", feature = "postgres", feature = "redis"))]
mod packaging;
#[cfg(all(feature = "sqlite", feature = "postgres"))]
mod queries;
#[cfg(all(unix, feature = "http", feature = "sqlite"))]
mod readme;
#[cfg(feature = "sqlite")]
mod snapshots;
mod store;
mod store_access;
mod store_branches;
mod store_postgres;
mod store_restore;
mod store_sqlite;
mod store_views;
mod store_views_plans;
mod support;
mod tidy;
