//! What tests share: fresh databases, and waiting for a condition.

#![allow(dead_code, reason = "not every build of this binary has every kind of test")]

#[cfg(feature = "http")]
pub mod access;
pub mod batches;
#[cfg(feature = "http")]
pub mod http;
#[cfg(feature = "http")]
pub mod load;
pub mod postgres;
#[cfg(feature = "http")]
pub mod read_models;
#[cfg(all(unix, feature = "redis"))]
pub mod redis;
pub mod replicas;
#[cfg(feature = "http")]
pub mod sagas;
#[cfg(unix)]
pub mod server;
pub mod tombstones;
#[cfg(feature = "http")]
pub mod transfers;
pub mod view_replicas;
#[cfg(unix)]
pub mod words;

use std::{future::Future, time::Duration};

/// Number of the last migration: a new one raises it.
pub const SCHEMA: i64 = 11;
use event_sourcing_cqrs::settings::Settings;

/// The defaults for this database, with nothing written beside the tests.
pub fn settings_for(database_url: &str) -> Settings {
    let mut settings = Settings::default();
    if database_url.starts_with("postgres") {
        settings.erasure.tombstone_file = Some(concat!(env!("CARGO_TARGET_TMPDIR"), "/erasure-of-tests.erased").into());
    }
    settings
}

/// Waits until a condition holds; panics with `what` after a minute.
pub async fn eventually<F: Future<Output = bool>>(what: &str, condition: impl Fn() -> F) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    while !condition().await {
        assert!(tokio::time::Instant::now() < deadline, "waited a minute for this: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
