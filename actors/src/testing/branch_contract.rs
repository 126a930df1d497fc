//! What every store of branches must do, as a list of cases; each wants a fresh, empty store.
//!
//! The store of a branch is a log as well: [`as_log`] puts one behind the face of the log's own port, so that
//! [`store_contract`](super::store_contract) can be asked of it.

#![allow(clippy::unwrap_used, reason = "a failed expectation is how a case fails")]

mod appends;
mod life;
mod merges;

use std::{collections::HashMap, fmt, num::NonZeroU32, sync::Arc};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures_util::future::BoxFuture;
use uuid::Uuid;

use super::store_contract::Store;
use crate::{
    branches::view::BranchLog,
    envelope::{EventBody, EventFilter, NewEvent, Snapshot, StreamHead},
    id::{AggregateId, AggregateType, BranchId, CommandId, EventId, EventType},
    ports::{
        AppendBatch, AppendUnit, Branch, BranchAppend, BranchCreated, BranchKey, BranchMerge, BranchStatus,
        BranchStore, CommandProbe, CommandRecord, Committed, EventStore, KeyRecord, LogPage, MergeOutcome, NewBranch,
        SnapshotStore, StoreError, StoredSnapshot, StreamClaim, StreamRange, StreamSummary, UnitOutcome,
    },
    version::{Position, Sequence},
};

/// A store under test: the log and its branches.
pub trait Branched: Store + BranchStore {}
impl<S: Store + BranchStore> Branched for S {}

/// One demand on a store.
#[derive(Clone, Copy)]
pub struct Case {
    /// The demand, as a claim.
    pub name: &'static str,
    /// Panics if the store does not meet it.
    pub run: fn(Arc<dyn Branched>) -> BoxFuture<'static, ()>,
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Case").field(&self.name).finish()
    }
}

/// All cases, in reading order.
#[must_use]
pub fn cases() -> Vec<Case> {
    [life::cases(), appends::cases(), merges::cases()].concat()
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

/// A new branch of an empty log, as a log of its own.
pub async fn as_log<S: Branched>(store: Arc<S>) -> Arc<dyn Store> {
    let branch = forked(&*store, Position::ZERO).await;
    let log = BranchLog::new(store.clone(), store.clone(), branch.id, branch.fork);
    Arc::new(AsLog { log, snapshots: store })
}

/// A branch's log beside the snapshots of the store it lies in.
#[derive(Debug)]
struct AsLog {
    log: BranchLog,
    snapshots: Arc<dyn SnapshotStore>,
}

impl EventStore for AsLog {
    fn append(&self, batch: AppendBatch) -> BoxFuture<'_, Result<Vec<UnitOutcome>, StoreError>> {
        self.log.append(batch)
    }
    fn read_stream<'a>(
        &'a self,
        id: &'a AggregateId,
        range: StreamRange,
    ) -> BoxFuture<'a, Result<Vec<crate::envelope::RecordedEvent>, StoreError>> {
        self.log.read_stream(id, range)
    }
    fn read_all<'a>(
        &'a self,
        after: Position,
        filter: &'a EventFilter,
        limit: NonZeroU32,
    ) -> BoxFuture<'a, Result<LogPage, StoreError>> {
        self.log.read_all(after, filter, limit)
    }
    fn head(&self) -> BoxFuture<'_, Result<Position, StoreError>> {
        self.log.head()
    }
    fn stream<'a>(&'a self, id: &'a AggregateId) -> BoxFuture<'a, Result<Option<StreamSummary>, StoreError>> {
        self.log.stream(id)
    }
    fn list_streams<'a>(
        &'a self,
        aggregate_type: Option<&'a AggregateType>,
        after: Option<&'a AggregateId>,
        limit: NonZeroU32,
    ) -> BoxFuture<'a, Result<Vec<StreamSummary>, StoreError>> {
        self.log.list_streams(aggregate_type, after, limit)
    }
    fn find_events<'a>(
        &'a self,
        ids: &'a [EventId],
    ) -> BoxFuture<'a, Result<Vec<crate::envelope::RecordedEvent>, StoreError>> {
        self.log.find_events(ids)
    }
    fn find_key<'a>(
        &'a self,
        principal: &'a str,
        key: &'a str,
    ) -> BoxFuture<'a, Result<Option<KeyRecord>, StoreError>> {
        self.log.find_key(principal, key)
    }
    fn sweep_keys(&self, before: DateTime<Utc>, limit: NonZeroU32) -> BoxFuture<'_, Result<u64, StoreError>> {
        self.log.sweep_keys(before, limit)
    }
}

impl SnapshotStore for AsLog {
    fn save(&self, snapshot: Snapshot) -> BoxFuture<'_, Result<(), StoreError>> {
        self.snapshots.save(snapshot)
    }
    fn latest<'a>(
        &'a self,
        id: &'a AggregateId,
        at_most: Sequence,
    ) -> BoxFuture<'a, Result<Option<StoredSnapshot>, StoreError>> {
        self.snapshots.latest(id, at_most)
    }
    fn remove<'a>(&'a self, id: &'a AggregateId, sequence: Sequence) -> BoxFuture<'a, Result<(), StoreError>> {
        self.snapshots.remove(id, sequence)
    }
    fn discard<'a>(&'a self, id: &'a AggregateId, from: Sequence) -> BoxFuture<'a, Result<(), StoreError>> {
        self.snapshots.discard(id, from)
    }
}

type Tested = Arc<dyn Branched>;

fn id(text: &str) -> AggregateId {
    AggregateId::new(text).unwrap()
}

fn at_most(limit: u32) -> NonZeroU32 {
    NonZeroU32::new(limit).unwrap()
}

fn wish(fork: Position) -> NewBranch {
    NewBranch { id: BranchId::generate(), name: "what if".to_owned(), fork, fork_at: DateTime::UNIX_EPOCH, key: None }
}

async fn forked<S: BranchStore + ?Sized>(store: &S, fork: Position) -> Branch {
    match store.create_branch(wish(fork)).await.unwrap() {
        BranchCreated::Created(branch) => branch,
        other => panic!("expected a branch, got {other:?}"),
    }
}

/// A stream as its writer sees it.
#[derive(Debug, Clone)]
struct Stream {
    id: AggregateId,
    head: StreamHead,
}

impl Stream {
    fn new(name: &str) -> Self {
        Self { id: id(name), head: StreamHead::EMPTY }
    }

    fn event(&mut self, event_id: Uuid) -> NewEvent {
        let kind = AggregateType::new("test").unwrap();
        let body = EventBody {
            event_id: EventId(event_id),
            event_type: EventType::new("Happened").unwrap(),
            schema_version: 1,
            data: Bytes::from_static(b"{}"),
            metadata: Bytes::from_static(
                br#"{"command_id":"00000000-0000-0000-0000-000000000001","correlation_id":"c"}"#,
            ),
        };
        NewEvent::following(&mut self.head, &self.id, &kind, body)
    }

    /// A unit of so many events, each of a command of its own that is kept; moves the head.
    fn unit(&mut self, count: usize) -> AppendUnit {
        let claim = StreamClaim { aggregate_id: self.id.clone(), head: self.head, losses: 0 };
        let events: Vec<NewEvent> = (0..count).map(|_| self.event(Uuid::now_v7())).collect();
        let commands = events.iter().map(|event| CommandProbe {
            event_ids: vec![event.event_id],
            key: None,
            record: Some(record(&self.id, event.event_id)),
        });
        AppendUnit { streams: vec![claim], commands: commands.collect(), events }
    }
}

fn record(stream: &AggregateId, event: EventId) -> CommandRecord {
    let content = Bytes::from(format!(r#"{{"event":"{event}"}}"#));
    CommandRecord { command_id: CommandId(event.0), aggregate_id: stream.clone(), command_type: "Do".into(), content }
}

fn key(name: &str) -> KeyRecord {
    let outcome = Bytes::from_static(b"{}");
    KeyRecord { principal: "alice".into(), key: name.into(), fingerprint: [7; 32], outcome }
}

#[track_caller]
fn committed(outcome: &UnitOutcome) -> Committed {
    match outcome {
        UnitOutcome::Committed(committed) => *committed,
        other => panic!("expected a commit, got {other:?}"),
    }
}

async fn on_main(store: &Tested, unit: AppendUnit) -> Committed {
    committed(&store.append(AppendBatch { units: vec![unit] }).await.unwrap()[0])
}

/// One unit on a branch, on top of what the streams stood at at the fork.
async fn on(store: &Tested, branch: &Branch, unit: AppendUnit, bases: &[&Stream]) -> UnitOutcome {
    let bases: HashMap<AggregateId, StreamHead> = bases.iter().map(|stream| (stream.id.clone(), stream.head)).collect();
    let append = BranchAppend { batch: AppendBatch { units: vec![unit] }, bases };
    store.append_on(branch.id, append).await.unwrap().pop().unwrap()
}

fn merge(seen: Position, unit: AppendUnit) -> BranchMerge {
    BranchMerge { seen, unit, report: Bytes::from_static(b"{\"merged\":true}") }
}

async fn log_of(store: &Tested) -> Vec<(u64, String, u64)> {
    let page = store.read_all(Position::ZERO, &EventFilter::default(), at_most(1_000)).await.unwrap();
    page.events.iter().map(|event| (event.position.0, event.aggregate_id.to_string(), event.sequence.0)).collect()
}

fn whole(limit: u32) -> StreamRange {
    let direction = crate::ports::Direction::Forward;
    StreamRange { from: Sequence(1), to: Sequence(u64::MAX), direction, limit: at_most(limit) }
}
