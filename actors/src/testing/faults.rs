//! [`FaultStore`]: a store with bad days, for tests of what callers are promised then.

use std::{
    collections::VecDeque,
    num::NonZeroU32,
    sync::{Arc, Mutex, PoisonError},
};

use chrono::{DateTime, Utc};
use futures_util::future::BoxFuture;

use crate::{
    envelope::{EventFilter, RecordedEvent, Snapshot, StreamHead},
    id::{AggregateId, AggregateType, EventId},
    ports::{
        AppendBatch, AppendUnit, EventStore, KeyRecord, LogPage, SnapshotStore, StoreError, StoredSnapshot,
        StreamRange, StreamSummary, UnitOutcome,
    },
    version::{Position, Sequence},
};

/// What goes wrong with one append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// The connection is lost before the request arrives.
    LostRequest,
    /// The batch is stored, and the answer is lost.
    LostAnswer,
    /// The store refuses every batch that holds an event with this word in its payload.
    RefusesWord(&'static str),
    /// Another writer has the turn on every stream.
    AnothersTurn,
    /// A flush fails: nothing more can be acknowledged.
    FlushFails,
    /// The batch is stored, and the answer comes so much later.
    LateAnswer(std::time::Duration),
}

/// Wraps a store; each append takes the next planned fault, and none when the plan is used up.
#[derive(Debug)]
pub struct FaultStore<S> {
    inner: S,
    plan: Mutex<VecDeque<Fault>>,
    always: Mutex<Fault>,
    is_dark: std::sync::atomic::AtomicBool,
    is_silent: std::sync::atomic::AtomicBool,
}

impl<S> FaultStore<S> {
    /// Without a plan, nothing goes wrong.
    pub fn new(inner: S) -> Arc<Self> {
        Arc::new(Self {
            inner,
            plan: Mutex::default(),
            always: Mutex::new(Fault::None),
            is_dark: std::sync::atomic::AtomicBool::new(false),
            is_silent: std::sync::atomic::AtomicBool::new(false),
        })
    }

    /// The faults of the next appends, in order.
    pub fn plan(&self, faults: impl IntoIterator<Item = Fault>) {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner).extend(faults);
    }

    /// The fault of every append that has none planned.
    pub fn always(&self, fault: Fault) {
        *self.always.lock().unwrap_or_else(PoisonError::into_inner) = fault;
    }

    /// Makes every read fail, or work again.
    pub fn darken(&self, is_dark: bool) {
        self.is_dark.store(is_dark, std::sync::atomic::Ordering::SeqCst);
    }

    /// Makes reads that begin from now on wait until they are dropped, or answer again.
    pub fn silence(&self, is_silent: bool) {
        self.is_silent.store(is_silent, std::sync::atomic::Ordering::SeqCst);
    }

    fn next(&self) -> Fault {
        let planned = self.plan.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        planned.unwrap_or(*self.always.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn seen<'a, T: Send + 'a>(
        &self,
        read: BoxFuture<'a, Result<T, StoreError>>,
    ) -> BoxFuture<'a, Result<T, StoreError>> {
        if self.is_silent.load(std::sync::atomic::Ordering::SeqCst) {
            return Box::pin(std::future::pending());
        }
        if self.is_dark.load(std::sync::atomic::Ordering::SeqCst) { Box::pin(async { Err(lost()) }) } else { read }
    }
}

impl<S: EventStore> FaultStore<S> {
    async fn is_stale(&self, unit: &AppendUnit) -> Result<bool, StoreError> {
        for claim in &unit.streams {
            let stream = self.inner.stream(&claim.aggregate_id).await?;
            if stream.map_or(StreamHead::EMPTY, |stream| stream.head) != claim.head {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

fn lost() -> StoreError {
    StoreError::Unavailable { reason: "the connection was lost (planned)".to_owned() }
}

impl<S: EventStore> EventStore for FaultStore<S> {
    fn append(&self, batch: AppendBatch) -> BoxFuture<'_, Result<Vec<UnitOutcome>, StoreError>> {
        Box::pin(async move {
            match self.next() {
                Fault::None => self.inner.append(batch).await,
                Fault::FlushFails => Err(StoreError::DurabilityLost { reason: "no flush (planned)".to_owned() }),
                Fault::LostRequest => Err(lost()),
                Fault::LostAnswer => {
                    self.inner.append(batch).await?;
                    Err(lost())
                }
                Fault::RefusesWord(word) => {
                    let is_guilty = |data: &[u8]| String::from_utf8_lossy(data).contains(word);
                    for unit in &batch.units {
                        // Claims are tested before anything is inserted, so what is stale is not refused.
                        let is_stale = self.is_stale(unit).await?;
                        if !is_stale && unit.events.iter().any(|event| is_guilty(&event.data)) {
                            return Err(StoreError::Refused { reason: format!("{word} is not welcome (planned)") });
                        }
                    }
                    self.inner.append(batch).await
                }
                Fault::LateAnswer(by) => {
                    let outcomes = self.inner.append(batch).await;
                    tokio::time::sleep(by).await;
                    outcomes
                }
                Fault::AnothersTurn => Ok(batch.units.iter().map(|_| UnitOutcome::Wait).collect()),
            }
        })
    }
    fn read_stream<'a>(
        &'a self,
        id: &'a AggregateId,
        range: StreamRange,
    ) -> BoxFuture<'a, Result<Vec<RecordedEvent>, StoreError>> {
        self.seen(self.inner.read_stream(id, range))
    }
    fn read_all<'a>(
        &'a self,
        after: Position,
        filter: &'a EventFilter,
        limit: NonZeroU32,
    ) -> BoxFuture<'a, Result<LogPage, StoreError>> {
        self.seen(self.inner.read_all(after, filter, limit))
    }
    fn head(&self) -> BoxFuture<'_, Result<Position, StoreError>> {
        self.seen(self.inner.head())
    }
    fn stream<'a>(&'a self, id: &'a AggregateId) -> BoxFuture<'a, Result<Option<StreamSummary>, StoreError>> {
        self.seen(self.inner.stream(id))
    }
    fn list_streams<'a>(
        &'a self,
        aggregate_type: Option<&'a AggregateType>,
        after: Option<&'a AggregateId>,
        limit: NonZeroU32,
    ) -> BoxFuture<'a, Result<Vec<StreamSummary>, StoreError>> {
        self.seen(self.inner.list_streams(aggregate_type, after, limit))
    }
    fn find_events<'a>(&'a self, ids: &'a [EventId]) -> BoxFuture<'a, Result<Vec<RecordedEvent>, StoreError>> {
        self.seen(self.inner.find_events(ids))
    }
    fn find_key<'a>(
        &'a self,
        principal: &'a str,
        key: &'a str,
    ) -> BoxFuture<'a, Result<Option<KeyRecord>, StoreError>> {
        self.seen(self.inner.find_key(principal, key))
    }
    fn sweep_keys(&self, before: DateTime<Utc>, limit: NonZeroU32) -> BoxFuture<'_, Result<u64, StoreError>> {
        self.seen(self.inner.sweep_keys(before, limit))
    }
}

impl<S: SnapshotStore> SnapshotStore for FaultStore<S> {
    fn save(&self, snapshot: Snapshot) -> BoxFuture<'_, Result<(), StoreError>> {
        self.seen(self.inner.save(snapshot))
    }
    fn latest<'a>(
        &'a self,
        id: &'a AggregateId,
        at_most: Sequence,
    ) -> BoxFuture<'a, Result<Option<StoredSnapshot>, StoreError>> {
        self.seen(self.inner.latest(id, at_most))
    }
    fn remove<'a>(&'a self, id: &'a AggregateId, sequence: Sequence) -> BoxFuture<'a, Result<(), StoreError>> {
        self.seen(self.inner.remove(id, sequence))
    }
    fn discard<'a>(&'a self, id: &'a AggregateId, from: Sequence) -> BoxFuture<'a, Result<(), StoreError>> {
        self.seen(self.inner.discard(id, from))
    }
}
