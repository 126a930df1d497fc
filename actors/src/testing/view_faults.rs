//! [`FaultViews`]: a view store with bad days, for tests of what a projection's rows are promised then.

use std::{
    collections::VecDeque,
    num::NonZeroU32,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures_util::future::BoxFuture;
use uuid::Uuid;

use crate::{
    ports::{
        Checkpoint, Control, Controlled, Generation, LeaseClaim, Move, Operation, OperationUpdate, OperationsKept,
        ParkedEvent, ParkedFilter, ProjectionState, Revision, StoreError, Tally, ViewChanges, ViewCommit, ViewOutcome,
        ViewPage, ViewStore,
    },
    version::Position,
    view::{Row, RowKey, Selection},
};

/// What goes wrong with one commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ViewFault {
    /// Nothing.
    None,
    /// The connection is lost before the request arrives.
    LostRequest,
    /// It is stored, and the answer is lost.
    LostAnswer,
    /// The answer is lost at once, and the request arrives so much later.
    LateRequest(Duration),
    /// The rows are stored without the checkpoint, and the answer is lost: what a store that does not keep both in one
    /// transaction does when its process dies between them. The control of tests that count.
    Torn,
}

/// Wraps a view store; each commit takes the next planned fault, and none when the plan is used up.
#[derive(Debug)]
pub struct FaultViews {
    inner: Arc<dyn ViewStore>,
    plan: Mutex<VecDeque<ViewFault>>,
    is_silent: AtomicBool,
    refused: Mutex<Option<Vec<u8>>>,
    commits: AtomicU64,
    acquires: AtomicU64,
}

impl FaultViews {
    /// Without a plan, nothing goes wrong.
    pub fn new(inner: Arc<dyn ViewStore>) -> Arc<Self> {
        Arc::new(Self {
            inner,
            plan: Mutex::default(),
            is_silent: AtomicBool::new(false),
            refused: Mutex::default(),
            commits: AtomicU64::new(0),
            acquires: AtomicU64::new(0),
        })
    }

    /// The faults of the next commits, in order.
    pub fn plan(&self, faults: impl IntoIterator<Item = ViewFault>) {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner).extend(faults);
    }

    /// How many planned faults are still to come.
    pub fn planned(&self) -> usize {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Makes every call that begins from now on wait until it is dropped, or work again: a frozen process.
    pub fn silence(&self, is_silent: bool) {
        self.is_silent.store(is_silent, Ordering::SeqCst);
    }

    /// Makes the store refuse rows that hold this word.
    pub fn refuse(&self, word: &str) {
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = Some(word.as_bytes().to_vec());
    }

    /// Commits asked for so far.
    pub fn commits(&self) -> u64 {
        self.commits.load(Ordering::SeqCst)
    }

    /// Claims of a lease, and renewals, so far.
    pub fn acquires(&self) -> u64 {
        self.acquires.load(Ordering::SeqCst)
    }

    fn seen<'a, T: Send + 'a>(&self, call: BoxFuture<'a, T>) -> BoxFuture<'a, T> {
        if self.is_silent.load(Ordering::SeqCst) { Box::pin(std::future::pending()) } else { call }
    }

    fn refuses(&self, commit: &ViewCommit) -> bool {
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(word) = &*refused else { return false };
        let moves = commit.served.iter().chain(&commit.shadow).map(|(_, step)| step);
        let mut rows = moves.flat_map(|step| &step.puts);
        rows.any(|row| row.data.windows(word.len()).any(|part| part == word))
    }
}

fn lost() -> StoreError {
    StoreError::Unavailable { reason: "the connection was lost (planned)".to_owned() }
}

/// The rows of a step without its checkpoint.
fn torn((generation, step): (Generation, Move)) -> (Generation, Move) {
    let to = Checkpoint { position: step.from, leaf: None };
    (generation, Move { to, ..step })
}

impl ViewStore for FaultViews {
    fn incarnation(&self) -> Uuid {
        self.inner.incarnation()
    }
    fn declare<'a>(&'a self, projection: &'a str, version: u64) -> BoxFuture<'a, Result<ProjectionState, StoreError>> {
        self.seen(self.inner.declare(projection, version))
    }
    fn states(&self) -> BoxFuture<'_, Result<Vec<ProjectionState>, StoreError>> {
        self.seen(self.inner.states())
    }
    fn acquire(&self, claim: LeaseClaim) -> BoxFuture<'_, Result<Option<ProjectionState>, StoreError>> {
        self.acquires.fetch_add(1, Ordering::SeqCst);
        self.seen(self.inner.acquire(claim))
    }
    fn release<'a>(&'a self, projection: &'a str, owner: Uuid) -> BoxFuture<'a, Result<(), StoreError>> {
        self.seen(self.inner.release(projection, owner))
    }
    fn commit(&self, mut commit: ViewCommit) -> BoxFuture<'_, Result<ViewOutcome, StoreError>> {
        self.commits.fetch_add(1, Ordering::SeqCst);
        if self.refuses(&commit) {
            let reason = "such rows are not welcome (planned)".to_owned();
            return Box::pin(async { Err(StoreError::Refused { reason }) });
        }
        let planned = self.plan.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        let call = async move {
            match planned.unwrap_or(ViewFault::None) {
                ViewFault::None => return self.inner.commit(commit).await,
                ViewFault::LostRequest => {}
                ViewFault::LostAnswer => drop(self.inner.commit(commit).await?),
                ViewFault::LateRequest(by) => {
                    let inner = self.inner.clone();
                    // Nobody waits for it: that is the fault.
                    tokio::spawn(async move {
                        tokio::time::sleep(by).await;
                        inner.commit(commit).await
                    });
                }
                ViewFault::Torn => {
                    commit.served = commit.served.map(torn);
                    self.inner.commit(commit).await?;
                }
            }
            Err(lost())
        };
        self.seen(Box::pin(call))
    }
    fn control<'a>(&'a self, projection: &'a str, control: Control) -> BoxFuture<'a, Result<Controlled, StoreError>> {
        self.seen(self.inner.control(projection, control))
    }
    fn read<'a>(
        &'a self,
        projection: &'a str,
        selection: &'a Selection,
    ) -> BoxFuture<'a, Result<Option<ViewPage>, StoreError>> {
        self.seen(self.inner.read(projection, selection))
    }
    fn rows<'a>(
        &'a self,
        generation: Generation,
        keys: &'a [RowKey],
    ) -> BoxFuture<'a, Result<Vec<Option<Bytes>>, StoreError>> {
        self.seen(self.inner.rows(generation, keys))
    }
    fn dump<'a>(
        &'a self,
        generation: Generation,
        after: Option<&'a RowKey>,
        limit: NonZeroU32,
    ) -> BoxFuture<'a, Result<Vec<Row>, StoreError>> {
        self.seen(self.inner.dump(generation, after, limit))
    }
    fn tally<'a>(&'a self, projection: &'a str) -> BoxFuture<'a, Result<Option<(Tally, Tally)>, StoreError>> {
        self.seen(self.inner.tally(projection))
    }
    fn parked<'a>(
        &'a self,
        generation: Generation,
        which: ParkedFilter<'a>,
        after: Position,
        limit: NonZeroU32,
    ) -> BoxFuture<'a, Result<Vec<ParkedEvent>, StoreError>> {
        self.seen(self.inner.parked(generation, which, after, limit))
    }
    fn parked_keys(&self, generation: Generation, limit: NonZeroU32) -> BoxFuture<'_, Result<Vec<String>, StoreError>> {
        self.seen(self.inner.parked_keys(generation, limit))
    }
    fn changes<'a>(&'a self, since: &'a [(String, Revision)]) -> BoxFuture<'a, Result<Vec<ViewChanges>, StoreError>> {
        self.seen(self.inner.changes(since))
    }
    fn prune(&self, changes_before: DateTime<Utc>, limit: NonZeroU32) -> BoxFuture<'_, Result<u64, StoreError>> {
        self.seen(self.inner.prune(changes_before, limit))
    }
    fn end_silent<'a>(
        &'a self,
        kind: &'a str,
        silence: Duration,
        reason: &'a str,
    ) -> BoxFuture<'a, Result<Vec<Uuid>, StoreError>> {
        self.seen(self.inner.end_silent(kind, silence, reason))
    }
    fn prune_operations(&self, kept: OperationsKept, limit: NonZeroU32) -> BoxFuture<'_, Result<u64, StoreError>> {
        self.seen(self.inner.prune_operations(kept, limit))
    }
    fn begin_operation(&self, operation: Operation) -> BoxFuture<'_, Result<(), StoreError>> {
        self.seen(self.inner.begin_operation(operation))
    }
    fn update_operation(&self, update: OperationUpdate) -> BoxFuture<'_, Result<(), StoreError>> {
        self.seen(self.inner.update_operation(update))
    }
    fn operation(&self, id: Uuid) -> BoxFuture<'_, Result<Option<Operation>, StoreError>> {
        self.seen(self.inner.operation(id))
    }
    fn operations(&self, before: Option<Uuid>, limit: NonZeroU32) -> BoxFuture<'_, Result<Vec<Operation>, StoreError>> {
        self.seen(self.inner.operations(before, limit))
    }
}
