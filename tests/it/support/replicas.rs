//! Two replicas on one log that take turns, so that each finds the log moved by the other.

use std::{
    num::NonZeroU32,
    sync::atomic::{AtomicUsize, Ordering},
};

use chrono::{DateTime, Utc};
use event_sourcing_actors::{
    AggregateId, AggregateType, EventFilter, EventId, Position, RecordedEvent, Sequence, Snapshot, StreamHead,
    ports::{
        AppendBatch, AppendUnit, EventStore, KeyRecord, LogPage, SnapshotStore, StoreError, StoredSnapshot,
        StreamClaim, StreamRange, StreamSummary, UnitOutcome,
    },
};
use event_sourcing_cqrs::store::PostgresStore;
use futures_util::{FutureExt, future::BoxFuture};

type Answer<'a, T> = BoxFuture<'a, Result<T, StoreError>>;

/// Sends each call to the next replica, and each batch with one more unit, so that none goes the way of a single command.
#[derive(Debug)]
pub struct Replicas {
    stores: [PostgresStore; 2],
    calls: AtomicUsize,
}

impl Replicas {
    pub fn new(stores: [PostgresStore; 2]) -> Self {
        Self { stores, calls: AtomicUsize::new(0) }
    }

    fn next(&self) -> &PostgresStore {
        &self.stores[self.calls.fetch_add(1, Ordering::SeqCst) % 2]
    }
}

impl EventStore for Replicas {
    fn append(&self, mut batch: AppendBatch) -> Answer<'_, Vec<UnitOutcome>> {
        let absent = AggregateId::new("this stream never begins").unwrap();
        let claim = StreamClaim { aggregate_id: absent, head: StreamHead::EMPTY, losses: 0 };
        batch.units.push(AppendUnit { streams: vec![claim], ..AppendUnit::default() });
        async move {
            let mut outcomes = self.next().append(batch).await?;
            assert!(matches!(outcomes.pop(), Some(UnitOutcome::Committed(_))), "an absent stream is confirmed");
            Ok(outcomes)
        }
        .boxed()
    }

    fn read_stream<'a>(&'a self, id: &'a AggregateId, range: StreamRange) -> Answer<'a, Vec<RecordedEvent>> {
        self.next().read_stream(id, range)
    }

    fn read_all<'a>(&'a self, after: Position, filter: &'a EventFilter, limit: NonZeroU32) -> Answer<'a, LogPage> {
        self.next().read_all(after, filter, limit)
    }

    fn head(&self) -> Answer<'_, Position> {
        self.next().head()
    }

    fn stream<'a>(&'a self, id: &'a AggregateId) -> Answer<'a, Option<StreamSummary>> {
        self.next().stream(id)
    }

    fn list_streams<'a>(
        &'a self,
        aggregate_type: Option<&'a AggregateType>,
        after: Option<&'a AggregateId>,
        limit: NonZeroU32,
    ) -> Answer<'a, Vec<StreamSummary>> {
        self.next().list_streams(aggregate_type, after, limit)
    }

    fn find_events<'a>(&'a self, ids: &'a [EventId]) -> Answer<'a, Vec<RecordedEvent>> {
        self.next().find_events(ids)
    }

    fn find_key<'a>(&'a self, principal: &'a str, key: &'a str) -> Answer<'a, Option<KeyRecord>> {
        self.next().find_key(principal, key)
    }

    fn sweep_keys(&self, before: DateTime<Utc>, limit: NonZeroU32) -> Answer<'_, u64> {
        self.next().sweep_keys(before, limit)
    }
}

impl SnapshotStore for Replicas {
    fn save(&self, snapshot: Snapshot) -> Answer<'_, ()> {
        self.next().save(snapshot)
    }

    fn latest<'a>(&'a self, id: &'a AggregateId, at_most: Sequence) -> Answer<'a, Option<StoredSnapshot>> {
        self.next().latest(id, at_most)
    }

    fn remove<'a>(&'a self, id: &'a AggregateId, sequence: Sequence) -> Answer<'a, ()> {
        self.next().remove(id, sequence)
    }

    fn discard<'a>(&'a self, id: &'a AggregateId, from: Sequence) -> Answer<'a, ()> {
        self.next().discard(id, from)
    }
}
