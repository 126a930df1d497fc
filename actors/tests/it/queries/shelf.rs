//! A view store of one projection, moved by hand: rows with a position and a revision, and a record of changes.

use std::{
    collections::BTreeMap,
    num::NonZeroU32,
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use event_sourcing_actors::{
    Position,
    ports::{
        Checkpoint, Control, Controlled, Direction, Generation, LeaseClaim, Operation, OperationUpdate, OperationsKept,
        ParkedEvent, ParkedFilter, ProjectionState, Revision, StoreError, Tally, ViewChanges, ViewCommit, ViewOutcome,
        ViewPage, ViewStore,
    },
    view::{Row, RowKey, Selection, Touched},
};
use futures_util::future::BoxFuture;
use uuid::Uuid;

pub const PROJECTION: &str = "purses";

#[derive(Debug, Default, Clone)]
pub struct Shelved {
    pub rows: BTreeMap<RowKey, Bytes>,
    pub position: u64,
    pub revision: u64,
    changes: Vec<(Revision, Touched)>,
}

#[derive(Debug, Default)]
pub struct Shelf {
    inner: Mutex<Shelved>,
    pub reads: AtomicU64,
    /// A read looks first and answers so much later.
    pub slowness_ms: AtomicU64,
    pub is_down: std::sync::atomic::AtomicBool,
}

pub fn key(name: &str) -> RowKey {
    RowKey::new("purses", "", name)
}

impl Shelf {
    /// Stands at revision 1 and position 0, as a declared projection does.
    pub fn new() -> std::sync::Arc<Self> {
        let shelf = Self::default();
        shelf.lock().revision = 1;
        std::sync::Arc::new(shelf)
    }

    pub fn lock(&self) -> MutexGuard<'_, Shelved> {
        self.inner.lock().unwrap()
    }

    /// One commit: rows, and the position they rest on.
    pub fn put(&self, rows: &[(&str, String)], position: u64) {
        let mut inner = self.lock();
        let keys: Vec<RowKey> = rows.iter().map(|(name, _)| key(name)).collect();
        for ((_, data), key) in rows.iter().zip(&keys) {
            inner.rows.insert(key.clone(), data.clone().into());
        }
        inner.position = position;
        if !keys.is_empty() {
            inner.revision += 1;
            let change = (Revision(inner.revision), Touched::rows(keys.iter()));
            inner.changes.push(change);
        }
    }

    /// Serves earlier rows again.
    pub fn roll_back(&self, rows: BTreeMap<RowKey, Bytes>, position: u64) {
        let mut inner = self.lock();
        inner.rows = rows;
        inner.position = position;
        inner.revision += 1;
        let change = (Revision(inner.revision), Touched::Everything);
        inner.changes.push(change);
    }

    /// The record of changes is lost.
    pub fn forget_changes(&self) {
        self.lock().changes.clear();
    }

    pub fn reads(&self) -> u64 {
        self.reads.load(Ordering::Relaxed)
    }

    pub fn state(&self) -> ProjectionState {
        let inner = self.lock();
        ProjectionState {
            name: PROJECTION.to_owned(),
            version: 1,
            generation: Generation(1),
            checkpoint: Checkpoint { position: Position(inner.position), leaf: None },
            revision: Revision(inner.revision),
            lease: None,
            epoch: 1,
            is_paused: false,
            is_frozen: false,
            shadow: None,
            previous: None,
            fault: None,
            parked: 0,
            has_requests: false,
        }
    }

    fn ready<T>(&self, answer: T) -> Result<T, StoreError> {
        if self.is_down.load(Ordering::Relaxed) {
            return Err(StoreError::Unavailable { reason: "down".to_owned() });
        }
        Ok(answer)
    }

    fn page(&self, selection: &Selection) -> ViewPage {
        let inner = self.lock();
        let rows = match selection {
            Selection::Row(key) => {
                inner.rows.get(key).map(|data| (key.sort.clone(), data.clone())).into_iter().collect()
            }
            Selection::List(list) => {
                let mut rows: Vec<_> = inner
                    .rows
                    .iter()
                    .filter(|(key, _)| key.collection == list.collection && key.group == list.group)
                    .filter(|(key, _)| list.contains(&key.sort))
                    .map(|(key, data)| (key.sort.clone(), data.clone()))
                    .collect();
                if list.direction == Direction::Backward {
                    rows.reverse();
                }
                rows.truncate(list.limit.get() as usize);
                rows
            }
        };
        let (position, revision) = (Position(inner.position), Revision(inner.revision));
        ViewPage { generation: Generation(1), position, revision, rows }
    }

    fn changes_since(&self, since: Revision) -> ViewChanges {
        let inner = self.lock();
        let changes: Vec<_> = inner.changes.iter().filter(|(revision, _)| *revision > since).cloned().collect();
        let is_whole = changes.len() as u64 == inner.revision.saturating_sub(since.0);
        ViewChanges {
            projection: PROJECTION.to_owned(),
            position: Position(inner.position),
            revision: Revision(inner.revision),
            changes: is_whole.then_some(changes),
        }
    }
}

macro_rules! unused {
    () => {
        Box::pin(async { Err(StoreError::Refused { reason: "no query needs this".to_owned() }) })
    };
}

impl ViewStore for Shelf {
    fn incarnation(&self) -> Uuid {
        Uuid::nil()
    }
    fn states(&self) -> BoxFuture<'_, Result<Vec<ProjectionState>, StoreError>> {
        Box::pin(async { self.ready(vec![self.state()]) })
    }
    fn read<'a>(
        &'a self,
        projection: &'a str,
        selection: &'a Selection,
    ) -> BoxFuture<'a, Result<Option<ViewPage>, StoreError>> {
        Box::pin(async move {
            self.reads.fetch_add(1, Ordering::Relaxed);
            let page = (projection == PROJECTION).then(|| self.page(selection));
            let slowness = self.slowness_ms.load(Ordering::Relaxed);
            if slowness > 0 {
                tokio::time::sleep(Duration::from_millis(slowness)).await;
            }
            self.ready(page)
        })
    }
    fn changes<'a>(&'a self, since: &'a [(String, Revision)]) -> BoxFuture<'a, Result<Vec<ViewChanges>, StoreError>> {
        Box::pin(async move { self.ready(since.iter().map(|(_, since)| self.changes_since(*since)).collect()) })
    }

    fn declare<'a>(&'a self, _: &'a str, _: u64) -> BoxFuture<'a, Result<ProjectionState, StoreError>> {
        unused!()
    }
    fn acquire(&self, _: LeaseClaim) -> BoxFuture<'_, Result<Option<ProjectionState>, StoreError>> {
        unused!()
    }
    fn release<'a>(&'a self, _: &'a str, _: Uuid) -> BoxFuture<'a, Result<(), StoreError>> {
        unused!()
    }
    fn commit(&self, _: ViewCommit) -> BoxFuture<'_, Result<ViewOutcome, StoreError>> {
        unused!()
    }
    fn control<'a>(&'a self, _: &'a str, _: Control) -> BoxFuture<'a, Result<Controlled, StoreError>> {
        unused!()
    }
    fn rows<'a>(&'a self, _: Generation, _: &'a [RowKey]) -> BoxFuture<'a, Result<Vec<Option<Bytes>>, StoreError>> {
        unused!()
    }
    fn dump<'a>(
        &'a self,
        _: Generation,
        _: Option<&'a RowKey>,
        _: NonZeroU32,
    ) -> BoxFuture<'a, Result<Vec<Row>, StoreError>> {
        unused!()
    }
    fn tally<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Option<(Tally, Tally)>, StoreError>> {
        unused!()
    }
    fn parked<'a>(
        &'a self,
        _: Generation,
        _: ParkedFilter<'a>,
        _: Position,
        _: NonZeroU32,
    ) -> BoxFuture<'a, Result<Vec<ParkedEvent>, StoreError>> {
        unused!()
    }
    fn parked_keys(&self, _: Generation, _: NonZeroU32) -> BoxFuture<'_, Result<Vec<String>, StoreError>> {
        unused!()
    }
    fn prune(&self, _: DateTime<Utc>, _: NonZeroU32) -> BoxFuture<'_, Result<u64, StoreError>> {
        unused!()
    }
    fn end_silent<'a>(&'a self, _: &'a str, _: Duration, _: &'a str) -> BoxFuture<'a, Result<Vec<Uuid>, StoreError>> {
        unused!()
    }
    fn prune_operations(&self, _: OperationsKept, _: NonZeroU32) -> BoxFuture<'_, Result<u64, StoreError>> {
        unused!()
    }
    fn begin_operation(&self, _: Operation) -> BoxFuture<'_, Result<(), StoreError>> {
        unused!()
    }
    fn update_operation(&self, _: OperationUpdate) -> BoxFuture<'_, Result<(), StoreError>> {
        unused!()
    }
    fn operation(&self, _: Uuid) -> BoxFuture<'_, Result<Option<Operation>, StoreError>> {
        unused!()
    }
    fn operations(&self, _: Option<Uuid>, _: NonZeroU32) -> BoxFuture<'_, Result<Vec<Operation>, StoreError>> {
        unused!()
    }
}
