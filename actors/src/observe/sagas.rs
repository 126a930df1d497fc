//! Metrics of sagas, each with the label `saga`.

use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry};

use super::{registered, vec_counter};
use crate::saga::SagaStatus;

/// Bounds of a saga's duration, in seconds: from a few commits to an hour.
const SECONDS: [f64; 14] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0, 120.0, 600.0, 3_600.0];

/// What is measured of sagas. Started and finished are counted by the process whose append it was; their ratio is the
/// completion rate. What is in flight is told by the process that owns the index.
#[derive(Debug, Clone)]
pub(crate) struct SagaMetrics {
    pub started: IntCounterVec,
    pub finished: IntCounterVec,
    pub duration: HistogramVec,
    pub in_flight: IntGaugeVec,
    pub failed: IntGaugeVec,
    pub timers_fired: IntCounterVec,
}

impl SagaMetrics {
    pub fn new(r: &Registry) -> Self {
        let gauge = |name: &str, help: &str| {
            IntGaugeVec::new(Opts::new(name, help), &["saga"])
                .map(|metric| registered(r, metric))
                .unwrap_or_else(|error| unreachable!("metric names are constants and valid: {error}"))
        };
        let duration = HistogramOpts::new("es_saga_duration_seconds", "Time from a saga's start to its end.");
        Self {
            started: vec_counter(r, "es_sagas_started_total", "Saga instances started.", &["saga"]),
            finished: vec_counter(
                r,
                "es_sagas_finished_total",
                "Saga instances that came to an end (completed, compensated) or were set aside (failed).",
                &["saga", "outcome"],
            ),
            duration: HistogramVec::new(duration.buckets(SECONDS.to_vec()), &["saga", "outcome"])
                .map(|metric| registered(r, metric))
                .unwrap_or_else(|error| unreachable!("metric names are constants and valid: {error}")),
            in_flight: gauge("es_sagas_in_flight", "Saga instances that are running or compensating."),
            failed: gauge("es_sagas_failed", "Saga instances that are set aside until an operator acts."),
            timers_fired: vec_counter(r, "es_saga_timers_fired_total", "Timers that fired.", &["saga"]),
        }
    }

    /// Makes the series of these sagas, so that they are there from the first look.
    pub fn prepare<'a>(&self, sagas: impl Iterator<Item = &'a str>) {
        for saga in sagas {
            let _ = self.started.with_label_values(&[saga]);
            let _ = self.timers_fired.with_label_values(&[saga]);
            // Nothing is known before the index tells; a sum over all processes is right with that.
            let _ = (self.in_flight.with_label_values(&[saga]), self.failed.with_label_values(&[saga]));
            for outcome in [SagaStatus::Completed, SagaStatus::Compensated, SagaStatus::Failed] {
                let _ = self.finished.with_label_values(&[saga, outcome.as_str()]);
            }
            for outcome in [SagaStatus::Completed, SagaStatus::Compensated] {
                let _ = self.duration.with_label_values(&[saga, outcome.as_str()]);
            }
        }
    }
}
