//! Metrics of projections, each with the label `projection`.

use std::collections::HashMap;

use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry,
};

use super::{SECONDS, registered};
use crate::projection::RowGauge;

/// The families, one for the whole runtime.
#[derive(Debug, Clone)]
pub(crate) struct ProjectionFamilies {
    lag_events: IntGaugeVec,
    lag_seconds: GaugeVec,
    last_event_timestamp: GaugeVec,
    rebuild_progress: GaugeVec,
    parked: IntGaugeVec,
    applied_events: IntCounterVec,
    commit_duration: HistogramVec,
    restarts: IntCounterVec,
}

/// The metrics of one projection.
#[derive(Debug, Clone)]
pub(crate) struct ProjectionMetrics {
    pub lag_events: IntGauge,
    pub lag_seconds: Gauge,
    pub last_event_timestamp: Gauge,
    pub rebuild_progress: Gauge,
    pub parked: IntGauge,
    pub applied_events: IntCounter,
    pub commit_duration: Histogram,
    pub restarts: IntCounter,
    rows: HashMap<&'static str, IntGauge>,
}

const LABELS: [&str; 1] = ["projection"];

macro_rules! family {
    ($registry:expr, $kind:ident, $options:expr) => {
        $kind::new($options, &LABELS)
            .map(|metric| registered($registry, metric))
            .unwrap_or_else(|error| unreachable!("metric names are constants and valid: {error}"))
    };
}

impl ProjectionFamilies {
    pub fn new(r: &Registry) -> Self {
        let seconds = HistogramOpts::new(
            "es_projection_commit_duration_seconds",
            "Time of one commit of rows and checkpoint, by the process that owns the projection.",
        );
        Self {
            lag_events: family!(
                r,
                IntGaugeVec,
                Opts::new("es_projection_lag_events", "Positions of the log that the served rows have not passed yet.")
            ),
            lag_seconds: family!(
                r,
                GaugeVec,
                Opts::new(
                    "es_projection_lag_seconds",
                    "Age of the oldest event the served rows have not applied; 0 when there is none."
                )
            ),
            last_event_timestamp: family!(
                r,
                GaugeVec,
                Opts::new(
                    "es_projection_last_event_timestamp_seconds",
                    "When the event at the served rows' checkpoint was recorded, in seconds since 1970."
                )
            ),
            rebuild_progress: family!(
                r,
                GaugeVec,
                Opts::new("es_projection_rebuild_progress_ratio", "How far the rebuild under way is; 0 without one.")
            ),
            parked: family!(
                r,
                IntGaugeVec,
                Opts::new(
                    "es_projection_parked_events",
                    "Events that could not be applied, or wait behind such a one."
                )
            ),
            applied_events: family!(
                r,
                IntCounterVec,
                Opts::new("es_projection_applied_events_total", "Events applied to the served rows by this process.")
            ),
            commit_duration: family!(r, HistogramVec, seconds.buckets(SECONDS.to_vec())),
            restarts: family!(
                r,
                IntCounterVec,
                Opts::new("es_projection_restarts_total", "Projection actors that failed and were started again.")
            ),
        }
    }

    /// The metrics of one projection, from now on to be seen.
    pub fn of(&self, registry: &Registry, projection: &str, gauges: &[RowGauge]) -> ProjectionMetrics {
        let label = [projection];
        let row = |gauge: &RowGauge| match IntGauge::new(gauge.metric, gauge.help) {
            Ok(metric) => Some((gauge.metric, registered(registry, metric))),
            Err(error) => {
                tracing::error!(%error, projection, metric = gauge.metric, "a projection's metric is not shown");
                None
            }
        };
        ProjectionMetrics {
            lag_events: self.lag_events.with_label_values(&label),
            lag_seconds: self.lag_seconds.with_label_values(&label),
            last_event_timestamp: self.last_event_timestamp.with_label_values(&label),
            rebuild_progress: self.rebuild_progress.with_label_values(&label),
            parked: self.parked.with_label_values(&label),
            applied_events: self.applied_events.with_label_values(&label),
            commit_duration: self.commit_duration.with_label_values(&label),
            restarts: self.restarts.with_label_values(&label),
            rows: gauges.iter().filter_map(row).collect(),
        }
    }
}

impl ProjectionMetrics {
    /// Shows a number among the rows.
    pub fn row_gauge(&self, metric: &str, number: i64) {
        if let Some(gauge) = self.rows.get(metric) {
            gauge.set(number);
        }
    }

    /// Another process shows them now.
    pub fn clear_row_gauges(&self) {
        self.rows.values().for_each(|gauge| gauge.set(0));
    }
}
