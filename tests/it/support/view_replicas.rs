//! Two replicas on one set of read models that take turns, so that each finds them moved by the other.

use std::{
    num::NonZeroU32,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use event_sourcing_actors::{
    Position,
    ports::{
        Control, Controlled, Generation, LeaseClaim, Operation, OperationUpdate, OperationsKept, ParkedEvent,
        ParkedFilter, ProjectionState, Revision, StoreError, Tally, ViewChanges, ViewCommit, ViewOutcome, ViewPage,
        ViewStore,
    },
    view::{Row, RowKey, Selection},
};
use event_sourcing_cqrs::store::PostgresStore;
use futures_util::{FutureExt, future::BoxFuture};
use uuid::Uuid;

type Answer<'a, T> = BoxFuture<'a, Result<T, StoreError>>;

/// Sends each call to the next replica.
#[derive(Debug)]
pub struct ViewReplicas {
    stores: [PostgresStore; 2],
    calls: AtomicUsize,
    /// Whether each step is made to pass what is tested of it: what a store without the tests would do.
    pub is_forgiving: bool,
}

impl ViewReplicas {
    pub fn new(stores: [PostgresStore; 2]) -> Self {
        Self { stores, calls: AtomicUsize::new(0), is_forgiving: false }
    }

    fn next(&self) -> &PostgresStore {
        &self.stores[self.calls.fetch_add(1, Ordering::SeqCst) % 2]
    }
}

impl ViewStore for ViewReplicas {
    fn incarnation(&self) -> Uuid {
        self.next().incarnation()
    }

    fn declare<'a>(&'a self, projection: &'a str, version: u64) -> Answer<'a, ProjectionState> {
        self.next().declare(projection, version)
    }

    fn states(&self) -> Answer<'_, Vec<ProjectionState>> {
        self.next().states()
    }

    fn acquire(&self, claim: LeaseClaim) -> Answer<'_, Option<ProjectionState>> {
        self.next().acquire(claim)
    }

    fn release<'a>(&'a self, projection: &'a str, owner: Uuid) -> Answer<'a, ()> {
        self.next().release(projection, owner)
    }

    fn commit(&self, mut commit: ViewCommit) -> Answer<'_, ViewOutcome> {
        if !self.is_forgiving {
            return self.next().commit(commit);
        }
        async move {
            loop {
                let states = self.next().states().await?;
                let state = states.into_iter().find(|state| state.name == commit.projection).unwrap();
                commit.epoch = state.epoch;
                if let Some((generation, step)) = &mut commit.served {
                    (*generation, step.from) = (state.generation, state.checkpoint.position);
                }
                let outcome = self.next().commit(commit.clone()).await?;
                if outcome != ViewOutcome::Lost {
                    return Ok(outcome);
                }
            }
        }
        .boxed()
    }

    fn control<'a>(&'a self, projection: &'a str, control: Control) -> Answer<'a, Controlled> {
        self.next().control(projection, control)
    }

    fn read<'a>(&'a self, projection: &'a str, selection: &'a Selection) -> Answer<'a, Option<ViewPage>> {
        self.next().read(projection, selection)
    }

    fn rows<'a>(&'a self, generation: Generation, keys: &'a [RowKey]) -> Answer<'a, Vec<Option<Bytes>>> {
        self.next().rows(generation, keys)
    }

    fn dump<'a>(
        &'a self,
        generation: Generation,
        after: Option<&'a RowKey>,
        limit: NonZeroU32,
    ) -> Answer<'a, Vec<Row>> {
        self.next().dump(generation, after, limit)
    }

    fn tally<'a>(&'a self, projection: &'a str) -> Answer<'a, Option<(Tally, Tally)>> {
        self.next().tally(projection)
    }

    fn parked<'a>(
        &'a self,
        generation: Generation,
        which: ParkedFilter<'a>,
        after: Position,
        limit: NonZeroU32,
    ) -> Answer<'a, Vec<ParkedEvent>> {
        self.next().parked(generation, which, after, limit)
    }

    fn parked_keys(&self, generation: Generation, limit: NonZeroU32) -> Answer<'_, Vec<String>> {
        self.next().parked_keys(generation, limit)
    }

    fn changes<'a>(&'a self, since: &'a [(String, Revision)]) -> Answer<'a, Vec<ViewChanges>> {
        self.next().changes(since)
    }

    fn prune(&self, changes_before: DateTime<Utc>, limit: NonZeroU32) -> Answer<'_, u64> {
        self.next().prune(changes_before, limit)
    }

    fn end_silent<'a>(&'a self, kind: &'a str, silence: Duration, reason: &'a str) -> Answer<'a, Vec<Uuid>> {
        self.next().end_silent(kind, silence, reason)
    }

    fn prune_operations(&self, kept: OperationsKept, limit: NonZeroU32) -> Answer<'_, u64> {
        self.next().prune_operations(kept, limit)
    }

    fn begin_operation(&self, operation: Operation) -> Answer<'_, ()> {
        self.next().begin_operation(operation)
    }

    fn update_operation(&self, update: OperationUpdate) -> Answer<'_, ()> {
        self.next().update_operation(update)
    }

    fn operation(&self, id: Uuid) -> Answer<'_, Option<Operation>> {
        self.next().operation(id)
    }

    fn operations(&self, before: Option<Uuid>, limit: NonZeroU32) -> Answer<'_, Vec<Operation>> {
        self.next().operations(before, limit)
    }
}
