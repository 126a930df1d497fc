//! What operators see: metrics, alerts and dashboard that name them, traces, lines of the log, health.

mod deploy;
mod exposition;
mod health;
mod lines;
mod metrics;
#[cfg(feature = "otlp")]
mod otlp;
#[cfg(feature = "otlp")]
mod traces;
