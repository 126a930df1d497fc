//! What operators see: metrics, alerts and dashboard that name them, traces, lines of the log, health.

mod deploy;
mod ending;
mod exposition;
mod health;
mod lines;
mod metrics;
#[cfg(feature = "otlp")]
mod otlp;
#[cfg(feature = "otlp")]
mod traces;

use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);

/// Waits for what another process or thread does.
#[allow(clippy::disallowed_methods, reason = "these tests have threads of their own and block nobody")]
fn until(what: &str, holds: impl Fn() -> bool) {
    let give_up = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < give_up, "waited {PATIENCE:?} for this: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
