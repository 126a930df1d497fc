//! What every store must do, as a list of cases; each wants a fresh, empty store.
//!
//! The lists of cases follow, in ideas, the TCK of Akka persistence (journal and snapshot store) and the shared
//! event-store test cases of commanded; what is peculiar to this port comes on top.
//!
//! ```
//! # use std::sync::Arc;
//! # use event_sourcing_actors::{memory::MemoryStore, ports::SystemClock, testing::store_contract};
//! # tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime").block_on(async {
//! for case in store_contract::cases() {
//!     println!("{}", case.name);
//!     (case.run)(Arc::new(MemoryStore::new(Arc::new(SystemClock)))).await;
//! }
//! # });
//! ```

#![allow(clippy::unwrap_used, reason = "a failed expectation is how a case fails")]

mod append;
mod commands;
mod reading;
mod replay;
mod snapshots;

use std::{fmt, num::NonZeroU32, sync::Arc};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use uuid::Uuid;

use crate::{
    envelope::{EventBody, EventFilter, NewEvent, RecordedEvent, StreamHead},
    id::{AggregateId, AggregateType, EventId, EventType},
    ports::{
        AppendBatch, AppendUnit, CommandProbe, Committed, Direction, EventStore, KeyRecord, SnapshotStore, StoreError,
        StreamClaim, StreamRange, UnitOutcome,
    },
    version::{Position, Sequence},
};

/// A store under test: both ports.
pub trait Store: EventStore + SnapshotStore {}
impl<S: EventStore + SnapshotStore> Store for S {}

/// One demand on a store.
#[derive(Clone, Copy)]
pub struct Case {
    /// The demand, as a claim.
    pub name: &'static str,
    /// Panics if the store does not meet it.
    pub run: fn(Arc<dyn Store>) -> BoxFuture<'static, ()>,
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Case").field(&self.name).finish()
    }
}

/// All cases, in reading order.
#[must_use]
pub fn cases() -> Vec<Case> {
    [append::cases(), commands::cases(), replay::cases(), reading::cases(), snapshots::cases()].concat()
}

/// Lists functions as cases under their own names.
macro_rules! listed {
    ($($name:ident),* $(,)?) => {
        pub(super) fn cases() -> Vec<super::Case> {
            vec![$(super::Case { name: stringify!($name), run: |store| Box::pin($name(store)) }),*]
        }
    };
}
use listed;

type Tested = Arc<dyn Store>;

fn id(text: &str) -> AggregateId {
    AggregateId::new(text).unwrap()
}

fn kind(text: &str) -> AggregateType {
    AggregateType::new(text).unwrap()
}

fn at_most(limit: u32) -> NonZeroU32 {
    NonZeroU32::new(limit).unwrap()
}

/// A stream as its writer sees it.
#[derive(Debug, Clone)]
struct Stream {
    id: AggregateId,
    kind: AggregateType,
    head: StreamHead,
}

impl Stream {
    fn new(name: &str) -> Self {
        Self { id: id(name), kind: kind("test"), head: StreamHead::EMPTY }
    }

    fn of(name: &str, kind_name: &str) -> Self {
        Self { kind: kind(kind_name), ..Self::new(name) }
    }

    fn claim(&self) -> StreamClaim {
        StreamClaim { aggregate_id: self.id.clone(), head: self.head, losses: 0 }
    }

    /// The next event; moves the head onto it.
    fn event(&mut self, data: &str) -> NewEvent {
        self.typed("Happened", data)
    }

    fn typed(&mut self, event_type: &str, data: &str) -> NewEvent {
        let body = EventBody {
            event_id: EventId(Uuid::now_v7()),
            event_type: EventType::new(event_type).unwrap(),
            schema_version: 1,
            data: Bytes::copy_from_slice(data.as_bytes()),
            metadata: Bytes::from_static(
                br#"{"command_id":"00000000-0000-0000-0000-000000000001","correlation_id":"c"}"#,
            ),
        };
        self.with(body)
    }

    fn with(&mut self, body: EventBody) -> NewEvent {
        NewEvent::following(&mut self.head, &self.id, &self.kind, body)
    }

    /// A unit of so many events, each of its own command; moves the head.
    fn unit(&mut self, count: u32) -> AppendUnit {
        let claim = self.claim();
        let events = (0..count).map(|number| self.event(&format!(r#"{{"number":{number}}}"#))).collect();
        unit(vec![claim], events)
    }

    /// A unit without events.
    fn confirmation(&self) -> AppendUnit {
        AppendUnit { streams: vec![self.claim()], commands: vec![CommandProbe::default()], events: Vec::new() }
    }
}

/// A unit in which each event is the only one of a command.
fn unit(streams: Vec<StreamClaim>, events: Vec<NewEvent>) -> AppendUnit {
    let commands =
        events.iter().map(|event| CommandProbe { event_ids: vec![event.event_id], key: None, record: None }).collect();
    AppendUnit { streams, commands, events }
}

fn key(name: &str) -> KeyRecord {
    KeyRecord {
        principal: "alice".into(),
        key: name.into(),
        fingerprint: [7; 32],
        outcome: Bytes::from_static(b"{\"answer\":\"\\u0000\"}"),
    }
}

async fn append(store: &Tested, units: Vec<AppendUnit>) -> Vec<UnitOutcome> {
    let expected = units.len();
    let outcomes = store.append(AppendBatch { units }).await.unwrap();
    assert_eq!(outcomes.len(), expected, "one outcome per unit");
    outcomes
}

async fn append_one(store: &Tested, unit: AppendUnit) -> UnitOutcome {
    append(store, vec![unit]).await.pop().unwrap()
}

async fn commit(store: &Tested, unit: AppendUnit) -> Committed {
    committed(&append_one(store, unit).await)
}

#[track_caller]
fn committed(outcome: &UnitOutcome) -> Committed {
    match outcome {
        UnitOutcome::Committed(committed) => *committed,
        other => panic!("expected a commit, got {other:?}"),
    }
}

#[track_caller]
fn assert_known(outcome: &UnitOutcome, expected: &[usize]) {
    match outcome {
        UnitOutcome::Known { commands } => assert_eq!(commands, expected),
        other => panic!("expected commands {expected:?} to be known, got {other:?}"),
    }
}

#[track_caller]
fn assert_stale(outcome: &UnitOutcome) {
    assert!(matches!(outcome, UnitOutcome::Stale), "expected Stale, got {outcome:?}");
}

/// A stream with so many events.
async fn seeded(store: &Tested, name: &str, count: u32) -> (Stream, Vec<NewEvent>) {
    let mut stream = Stream::new(name);
    let unit = stream.unit(count);
    let events = unit.events.clone();
    commit(store, unit).await;
    (stream, events)
}

fn range(from: u64, to: u64, limit: u32) -> StreamRange {
    StreamRange { from: Sequence(from), to: Sequence(to), direction: Direction::Forward, limit: at_most(limit) }
}

const WHOLE: u64 = u64::MAX;

async fn read(store: &Tested, name: &str, range: StreamRange) -> Vec<RecordedEvent> {
    store.read_stream(&id(name), range).await.unwrap()
}

async fn sequences(store: &Tested, name: &str, range: StreamRange) -> Vec<u64> {
    read(store, name, range).await.iter().map(|event| event.sequence.0).collect()
}

/// The whole log, page by page.
async fn whole_log(store: &Tested, filter: &EventFilter, page: u32) -> Vec<RecordedEvent> {
    let (mut all, mut after) = (Vec::new(), Position::ZERO);
    loop {
        let page = store.read_all(after, filter, at_most(page)).await.unwrap();
        assert!(page.events.iter().all(|event| event.position > after && event.position <= page.examined));
        all.extend(page.events);
        if page.examined == after {
            return all;
        }
        after = page.examined;
    }
}

/// Positions 1..n without holes, instants in order, sequences 1..n per stream, digests as stored: the log's own law.
async fn assert_lawful(store: &Tested, count: usize) {
    let log = whole_log(store, &EventFilter::default(), 97).await;
    assert_eq!(log.len(), count, "events in the log");
    let mut heads = std::collections::HashMap::new();
    for (expected, event) in (1..).zip(&log) {
        assert_eq!(event.position, Position(expected), "positions have no holes");
        let head = heads.entry(event.aggregate_id.clone()).or_insert(StreamHead::EMPTY);
        assert_eq!(event.sequence, head.sequence.next(), "sequences have no holes");
        assert_eq!(event.chain, head.chain.then(event.checksum), "the chain holds");
        assert!(event.is_intact());
        *head = event.head();
    }
    assert!(log.is_sorted_by_key(|event| event.recorded_at), "recorded_at never goes back");
    assert_eq!(store.head().await.unwrap(), Position(count as u64));
}

/// A refusal of a unit alone or of the whole batch: both certainly stored nothing of the unit.
#[track_caller]
fn assert_refused(result: &Result<Vec<UnitOutcome>, StoreError>) {
    let refused = match result {
        Err(error) => matches!(error, StoreError::Refused { .. }),
        Ok(outcomes) => matches!(outcomes.last(), Some(UnitOutcome::Failed(StoreError::Refused { .. }))),
    };
    assert!(refused, "expected a refusal, got {result:?}");
}
