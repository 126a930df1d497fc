//! Purses projected: sums that count every event once or show it, and the harness to move them.

use std::{
    borrow::Cow,
    collections::HashMap,
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use event_sourcing_actors::{
    AggregateId, AggregateType, EventFilter, EventId, EventType, Limits, NewEvent, Position, RecordedEvent, Runtime,
    StreamHead,
    catalog::Catalog,
    envelope::EventBody,
    limits::ProjectionLimits,
    memory::MemoryStore,
    ports::{
        AppendBatch, AppendUnit, CommandProbe, EventStore, Operation, OperationStatus, ProjectionState, StreamClaim,
        UnitOutcome, ViewStore,
    },
    projection::{ApplyError, ProjectedEvent, Projection, RowGauge, Rows},
    projections::ProjectionStatus,
    testing::given_events::fold_of_log,
    view::Row,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::support::{Added, builder, id};

pub const SUMS: &str = "sums";

#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, PartialEq, Eq)]
pub struct Sum {
    pub sum: i64,
    pub count: u64,
}

const ALL: RowGauge =
    RowGauge { metric: "test_sum_of_all", help: "The sum of all purses.", row: ("totals", "", "all"), member: "sum" };

/// Counts: an event applied twice, or not at all, shows.
#[derive(Debug, Clone)]
pub struct Sums {
    pub name: &'static str,
    pub version: u64,
    /// The amount 13 cannot be applied.
    pub is_superstitious: Arc<AtomicBool>,
    /// The amount 99 makes it panic.
    pub is_nervous: bool,
    /// Added to each sum: what a mistake in the code does.
    pub bonus: i64,
    pub is_ordered: bool,
    /// Keys of this stream cannot be told, and that is a mistake outside of what is caught.
    pub breaks_at: Option<&'static str>,
}

impl Default for Sums {
    fn default() -> Self {
        Self {
            name: SUMS,
            version: 1,
            is_superstitious: Arc::new(AtomicBool::new(true)),
            is_nervous: false,
            bonus: 0,
            is_ordered: true,
            breaks_at: None,
        }
    }
}

impl Projection for Sums {
    fn name(&self) -> &str {
        self.name
    }
    fn version(&self) -> u64 {
        self.version
    }
    fn is_version_ordered(&self) -> bool {
        self.is_ordered
    }
    fn interest(&self) -> EventFilter {
        EventFilter { event_types: vec![EventType::new("Added").unwrap()], ..EventFilter::default() }
    }
    fn gauges(&self) -> &'static [RowGauge] {
        if self.name == SUMS { &[ALL] } else { &[] }
    }
    fn parking_key<'a>(&self, event: &'a RecordedEvent) -> Cow<'a, str> {
        assert!(self.breaks_at != Some(event.aggregate_id.as_str()), "as told");
        Cow::Borrowed(event.aggregate_id.as_str())
    }
    fn apply(&self, event: &ProjectedEvent<'_>, rows: &mut Rows<'_>) -> Result<(), ApplyError> {
        let Added { amount } = event.read()?;
        let one: Sum = rows.get("purses", "", event.aggregate_id.as_str())?.unwrap_or_default();
        let all: Sum = rows.get("totals", "", "all")?.unwrap_or_default();
        if amount == 13 && self.is_superstitious.load(Ordering::SeqCst) {
            return Err(ApplyError::failed("thirteen is not welcome"));
        }
        assert!(!(amount == 99 && self.is_nervous), "ninety-nine is too much");
        let amount = amount + self.bonus;
        let plus = |sum: Sum| Sum { sum: sum.sum + amount, count: sum.count + 1 };
        rows.put("purses", "", event.aggregate_id.as_str(), &plus(one))?;
        rows.put("totals", "", "all", &plus(all))?;
        rows.put("entries", event.aggregate_id.as_str(), &format!("{:020}", event.sequence.0), &amount)
    }
}

/// Appends to a log by hand.
pub struct Writer<S> {
    pub store: Arc<S>,
    heads: HashMap<AggregateId, StreamHead>,
}

impl<S: EventStore> Writer<S> {
    pub fn new(store: &Arc<S>) -> Self {
        Self { store: store.clone(), heads: HashMap::new() }
    }

    fn unit(&mut self, purse: &str, amount: i64) -> AppendUnit {
        let (stream, kind) = (id(purse), AggregateType::new("purse").unwrap());
        let head = self.heads.entry(stream.clone()).or_insert(StreamHead::EMPTY);
        let claim = StreamClaim { aggregate_id: stream.clone(), head: *head, losses: 0 };
        let body = EventBody {
            event_id: EventId(Uuid::now_v7()),
            event_type: EventType::new("Added").unwrap(),
            schema_version: 1,
            data: serde_json::to_vec(&Added { amount }).unwrap().into(),
            metadata: bytes::Bytes::from_static(b"{}"),
        };
        let event = NewEvent::following(head, &stream, &kind, body);
        AppendUnit {
            streams: vec![claim],
            commands: vec![CommandProbe { event_ids: vec![event.event_id], key: None, record: None }],
            events: vec![event],
        }
    }

    /// One event of each purse with this amount; the purses are different ones.
    pub async fn add(&mut self, amounts: &[(&str, i64)]) {
        let units = amounts.iter().map(|(purse, amount)| self.unit(purse, *amount)).collect();
        let outcomes = self.store.append(AppendBatch { units }).await.unwrap();
        assert!(outcomes.iter().all(|outcome| matches!(outcome, UnitOutcome::Committed(_))), "{outcomes:?}");
    }

    /// `rounds` events of each of `purses` purses.
    pub async fn fill(&mut self, purses: usize, rounds: usize) {
        let names: Vec<String> = (0..purses).map(|number| format!("p{number}")).collect();
        for round in 0..rounds {
            let amounts: Vec<_> = names.iter().map(|name| (name.as_str(), (round % 7) as i64)).collect();
            self.add(&amounts).await;
        }
    }
}

pub fn quick() -> Limits {
    let projection = ProjectionLimits {
        lease: Duration::from_millis(900),
        apply_pause: Duration::from_millis(1),
        store_call: Duration::from_secs(5),
        retry_pause_max: Duration::from_millis(100),
        ..ProjectionLimits::default()
    };
    Limits {
        feed_poll: Duration::from_millis(20),
        projection_watch: Duration::from_millis(20),
        restarts_max: 1_000,
        projection,
        ..Limits::default()
    }
}

pub fn small_pages(events_max: u32) -> Limits {
    let mut limits = quick();
    limits.projection.batch_events_max = events_max;
    limits.projection.rebuild_batch_events_max = events_max;
    limits
}

pub async fn start(
    store: &Arc<MemoryStore>,
    views: Arc<dyn ViewStore>,
    projection: impl Projection,
    limits: Limits,
) -> Runtime {
    builder(store).views(views).projection(projection).limits(limits).start().await.unwrap()
}

/// Waits for a condition, but not for ever.
pub async fn until<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    let give_up = tokio::time::Instant::now() + Duration::from_secs(20);
    while !condition().await {
        assert!(tokio::time::Instant::now() < give_up, "{what}: not within 20 s");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub async fn state(views: &dyn ViewStore, name: &str) -> Option<ProjectionState> {
    views.states().await.unwrap().into_iter().find(|state| state.name == name)
}

/// Waits until the served rows have applied the whole log.
pub async fn caught_up(views: &dyn ViewStore, store: &MemoryStore) {
    until("the projection catches up", || async {
        let head = store.head().await.unwrap();
        state(views, SUMS).await.is_some_and(|state| state.checkpoint.position == head)
    })
    .await;
}

pub async fn status(runtime: &Runtime) -> ProjectionStatus {
    runtime.projections().show(SUMS).await.unwrap().status
}

/// Waits until the operation has ended.
pub async fn ended(runtime: &Runtime, operation: &Operation) -> Operation {
    until("the operation ends", || async {
        runtime.projections().operation(operation.id).await.unwrap().status != OperationStatus::Running
    })
    .await;
    runtime.projections().operation(operation.id).await.unwrap()
}

/// All served rows.
pub async fn dump(views: &dyn ViewStore) -> Vec<Row> {
    let generation = state(views, SUMS).await.unwrap().generation;
    let mut rows: Vec<Row> = Vec::new();
    loop {
        let after = rows.last().map(|row| row.key.clone());
        let page = views.dump(generation, after.as_ref(), NonZeroU32::new(500).unwrap()).await.unwrap();
        if page.is_empty() {
            return rows;
        }
        rows.extend(page);
    }
}

pub async fn log(store: &MemoryStore) -> Vec<RecordedEvent> {
    let (mut events, filter) = (Vec::new(), EventFilter::default());
    loop {
        let after = events.last().map_or(Position::ZERO, |event: &RecordedEvent| event.position);
        let page = store.read_all(after, &filter, NonZeroU32::new(1_000).unwrap()).await.unwrap();
        if page.events.is_empty() {
            return events;
        }
        events.extend(page.events);
    }
}

/// What the rows must be, by one simple pass over the log.
pub async fn expected(store: &MemoryStore, projection: &dyn Projection) -> Vec<Row> {
    fold_of_log(projection, &Catalog::default(), &log(store).await)
}

pub async fn assert_exact(views: &dyn ViewStore, store: &MemoryStore, projection: &dyn Projection) {
    let (got, expected) = (dump(views).await, expected(store, projection).await);
    assert_eq!(got.len(), expected.len());
    for (got, expected) in got.iter().zip(&expected) {
        assert_eq!(got, expected);
    }
}
