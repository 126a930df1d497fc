//! Metrics of one runtime, in a registry of its own, and a store that measures another.

mod branches;
mod projections;
mod sagas;

use std::{
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use futures_util::future::BoxFuture;
use prometheus::{Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry};
use tracing::{Instrument, Span};

pub(crate) use branches::{BranchEnd, BranchMetrics};
use projections::ProjectionFamilies;
pub(crate) use projections::ProjectionMetrics;
pub(crate) use sagas::SagaMetrics;

use crate::{
    envelope::{EventFilter, RecordedEvent},
    id::{AggregateId, AggregateType, EventId},
    ports::{AppendBatch, EventStore, KeyRecord, LogPage, StoreError, StreamRange, StreamSummary, UnitOutcome},
    projection::RowGauge,
    version::Position,
};

/// Bounds of duration histograms, in seconds: from a tenth of a millisecond to the command deadline and beyond.
const SECONDS: [f64; 14] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5, 10.0];

/// Outcomes whose series are there before the first command: the usual two, and those that alerts count. The others come
/// with the first command that ends so; all of them for each command would make a scrape four times as long.
const COMMAND_OUTCOMES: [&str; 6] = ["accepted", "rejected", "internal", "overloaded", "store_unavailable", "timeout"];

/// Every call of [`ObservedStore`].
const STORE_OPERATIONS: [&str; 9] =
    ["append", "read_stream", "read_all", "head", "stream", "list_streams", "find_events", "find_key", "sweep_keys"];

/// The runtime's metrics. Cloning shares them.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Registry,
    pub(crate) events_appended: IntCounterVec,
    pub(crate) command_duration: HistogramVec,
    store_duration: HistogramVec,
    pub(crate) conflicts: IntCounter,
    pub(crate) replayed_events: Histogram,
    pub(crate) active_aggregates: IntGauge,
    pub(crate) actor_restarts: IntCounter,
    pub(crate) parked_aggregates: IntGauge,
    pub(crate) snapshots_ignored: IntCounterVec,
    pub(crate) snapshots_written: IntCounter,
    pub(crate) batch_events: Histogram,
    pub(crate) log_position: IntGauge,
    projections: ProjectionFamilies,
    pub(crate) queries: QueryMetrics,
    pub(crate) sagas: SagaMetrics,
    pub(crate) branches: BranchMetrics,
}

/// What is measured of queries.
#[derive(Debug, Clone)]
pub(crate) struct QueryMetrics {
    pub duration: HistogramVec,
    pub cache_requests: IntCounterVec,
}

/// Registers a metric; a name registered twice is a mistake of this file, and the metric then only goes unseen.
fn registered<M: prometheus::core::Collector + Clone + 'static>(registry: &Registry, metric: M) -> M {
    if let Err(error) = registry.register(Box::new(metric.clone())) {
        tracing::error!(%error, "a metric could not be registered");
    }
    metric
}

macro_rules! metric {
    ($registry:expr, $kind:ident, $options:expr $(, $labels:expr)?) => {
        $kind::with_opts($options $(, $labels)?)
            .map(|metric| registered($registry, metric))
            .unwrap_or_else(|error| unreachable!("metric names are constants and valid: {error}"))
    };
}

fn vec_counter(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    IntCounterVec::new(Opts::new(name, help), labels)
        .map(|metric| registered(registry, metric))
        .unwrap_or_else(|error| unreachable!("metric names are constants and valid: {error}"))
}

fn vec_seconds(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> HistogramVec {
    HistogramVec::new(HistogramOpts::new(name, help).buckets(SECONDS.to_vec()), labels)
        .map(|metric| registered(registry, metric))
        .unwrap_or_else(|error| unreachable!("metric names are constants and valid: {error}"))
}

impl Default for Metrics {
    fn default() -> Self {
        let registry = Registry::new();
        let r = &registry;
        let powers = |help: &str, name: &str| {
            HistogramOpts::new(name, help).buckets((0..=14).map(|power| f64::from(1_u32 << power)).collect())
        };
        Self {
            events_appended: vec_counter(
                r,
                "es_events_appended_total",
                "Events made durable, by aggregate type.",
                &["aggregate_type"],
            ),
            command_duration: vec_seconds(
                r,
                "es_command_duration_seconds",
                "Time from a command's arrival at the bus to its answer.",
                &["command_type", "outcome"],
            ),
            store_duration: vec_seconds(
                r,
                "es_store_operation_duration_seconds",
                "Time of one call to the event store.",
                &["operation", "outcome"],
            ),
            conflicts: metric!(
                r,
                IntCounter,
                Opts::new("es_store_conflicts_total", "Appends decided again because another writer was faster.")
            ),
            replayed_events: metric!(
                r,
                Histogram,
                powers("Events folded to load one aggregate.", "es_aggregate_replayed_events")
            ),
            active_aggregates: metric!(r, IntGauge, Opts::new("es_active_aggregates", "Aggregates with a live actor.")),
            actor_restarts: metric!(
                r,
                IntCounter,
                Opts::new("es_actor_restarts_total", "Aggregate actors that failed and were replaced.")
            ),
            parked_aggregates: metric!(
                r,
                IntGauge,
                Opts::new("es_parked_aggregates", "Aggregates parked after repeated failures.")
            ),
            snapshots_ignored: vec_counter(
                r,
                "es_snapshots_ignored_total",
                "Snapshots not used because they did not fit, by reason.",
                &["reason"],
            ),
            snapshots_written: metric!(r, IntCounter, Opts::new("es_snapshots_written_total", "Snapshots written.")),
            batch_events: metric!(
                r,
                Histogram,
                powers("Events in one commit of the journal.", "es_journal_batch_events")
            ),
            queries: QueryMetrics::new(r),
            sagas: SagaMetrics::new(r),
            branches: BranchMetrics::new(r),
            log_position: metric!(
                r,
                IntGauge,
                Opts::new("es_log_position", "Position of the last event this process knows.")
            ),
            projections: ProjectionFamilies::new(r),
            registry,
        }
    }
}

impl Metrics {
    /// The registry, to add further metrics and to render all.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The metrics of one projection.
    pub(crate) fn projection(&self, name: &str, gauges: &[RowGauge]) -> ProjectionMetrics {
        self.projections.of(&self.registry, name, gauges)
    }

    /// Creates the series of known labels, so that they are there from the first scrape.
    pub(crate) fn prepare<'a>(
        &self,
        aggregate_types: impl Iterator<Item = &'a str>,
        commands: impl Iterator<Item = &'a str>,
    ) {
        for aggregate_type in aggregate_types {
            let _ = self.events_appended.with_label_values(&[aggregate_type]);
        }
        for command in commands {
            for outcome in COMMAND_OUTCOMES {
                let _ = self.command_duration.with_label_values(&[command, outcome]);
            }
        }
        for operation in STORE_OPERATIONS {
            let _ = self.store_duration.with_label_values(&[operation, "ok"]);
            let _ = self.store_duration.with_label_values(&[operation, "error"]);
        }
        for reason in ["schema", "future", "type", "chain", "decode", "digest", "store"] {
            let _ = self.snapshots_ignored.with_label_values(&[reason]);
        }
    }
}

impl QueryMetrics {
    fn new(registry: &Registry) -> Self {
        Self {
            duration: vec_seconds(
                registry,
                "es_query_duration_seconds",
                "Time from a query's arrival at the bus to its answer.",
                &["projection", "outcome"],
            ),
            cache_requests: vec_counter(
                registry,
                "es_cache_requests_total",
                "Queries by what became of their look into the cache.",
                &["result"],
            ),
        }
    }

    /// Creates the series of known labels.
    pub fn prepare<'a>(&self, projections: impl Iterator<Item = &'a str>) {
        for projection in projections {
            for outcome in ["answered", "stale", "not_found", "behind", "timeout", "store_unavailable", "internal"] {
                let _ = self.duration.with_label_values(&[projection, outcome]);
            }
        }
        for result in ["hit", "miss", "refused", "bypass", "error"] {
            let _ = self.cache_requests.with_label_values(&[result]);
        }
    }
}

/// When the store answered last: tells a store that is silent from a process that is busy.
#[derive(Debug)]
pub(crate) struct Pulse {
    started: Instant,
    last_ms: AtomicU64,
}

impl Default for Pulse {
    fn default() -> Self {
        Self { started: Instant::now(), last_ms: AtomicU64::new(0) }
    }
}

impl Pulse {
    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn beat(&self) {
        self.last_ms.store(self.now_ms(), Ordering::Relaxed);
    }

    /// How long ago the store answered.
    pub fn silence(&self) -> Duration {
        Duration::from_millis(self.now_ms().saturating_sub(self.last_ms.load(Ordering::Relaxed)))
    }
}

/// An event store whose calls are measured.
#[derive(Debug)]
pub(crate) struct ObservedStore {
    pub inner: Arc<dyn EventStore>,
    pub metrics: Metrics,
    pub pulse: Arc<Pulse>,
}

impl ObservedStore {
    fn measured<'a, T: Send + 'a>(
        &'a self,
        operation: &'static str,
        call: BoxFuture<'a, Result<T, StoreError>>,
    ) -> BoxFuture<'a, Result<T, StoreError>> {
        Box::pin(async move {
            let started = Instant::now();
            // Under whoever asks; what nobody asked for, such as looks for news, is no part of any trace.
            let is_asked = !Span::current().is_none();
            let span = if is_asked { tracing::debug_span!("store", operation) } else { Span::none() };
            let result = call.instrument(span).await;
            let outcome = if result.is_ok() { "ok" } else { "error" };
            if result.is_ok() {
                self.pulse.beat();
            }
            self.metrics
                .store_duration
                .with_label_values(&[operation, outcome])
                .observe(started.elapsed().as_secs_f64());
            result
        })
    }
}

impl EventStore for ObservedStore {
    fn append(&self, batch: AppendBatch) -> BoxFuture<'_, Result<Vec<UnitOutcome>, StoreError>> {
        self.measured("append", self.inner.append(batch))
    }
    fn read_stream<'a>(
        &'a self,
        id: &'a AggregateId,
        range: StreamRange,
    ) -> BoxFuture<'a, Result<Vec<RecordedEvent>, StoreError>> {
        self.measured("read_stream", self.inner.read_stream(id, range))
    }
    fn read_all<'a>(
        &'a self,
        after: Position,
        filter: &'a EventFilter,
        limit: NonZeroU32,
    ) -> BoxFuture<'a, Result<LogPage, StoreError>> {
        self.measured("read_all", self.inner.read_all(after, filter, limit))
    }
    fn head(&self) -> BoxFuture<'_, Result<Position, StoreError>> {
        self.measured("head", self.inner.head())
    }
    fn stream<'a>(&'a self, id: &'a AggregateId) -> BoxFuture<'a, Result<Option<StreamSummary>, StoreError>> {
        self.measured("stream", self.inner.stream(id))
    }
    fn list_streams<'a>(
        &'a self,
        aggregate_type: Option<&'a AggregateType>,
        after: Option<&'a AggregateId>,
        limit: NonZeroU32,
    ) -> BoxFuture<'a, Result<Vec<StreamSummary>, StoreError>> {
        self.measured("list_streams", self.inner.list_streams(aggregate_type, after, limit))
    }
    fn find_events<'a>(&'a self, ids: &'a [EventId]) -> BoxFuture<'a, Result<Vec<RecordedEvent>, StoreError>> {
        self.measured("find_events", self.inner.find_events(ids))
    }
    fn find_key<'a>(
        &'a self,
        principal: &'a str,
        key: &'a str,
    ) -> BoxFuture<'a, Result<Option<KeyRecord>, StoreError>> {
        self.measured("find_key", self.inner.find_key(principal, key))
    }
    fn sweep_keys(&self, before: DateTime<Utc>, limit: NonZeroU32) -> BoxFuture<'_, Result<u64, StoreError>> {
        self.measured("sweep_keys", self.inner.sweep_keys(before, limit))
    }
}
