//! The view store port in memory.

mod operations;

use std::{
    collections::BTreeMap,
    num::NonZeroU32,
    ops::Bound,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures_util::{FutureExt, future::BoxFuture};
use uuid::Uuid;

use super::MemoryStore;
use crate::{
    digest::row_digest,
    id::AggregateId,
    ports::{
        Control, Controlled, Direction, ERASED_WORDS, Generation, LeaseClaim, Move, NewParked, Objection, Operation,
        OperationStatus, OperationUpdate, OperationsKept, ParkedEvent, ParkedFilter, ProjectionState, Revision, Ruling,
        StoreError, Tally, VIEW_CHANGES_MAX, ViewChanges, ViewCommit, ViewOutcome, ViewPage, ViewStore,
    },
    version::Position,
    view::{ListRange, Row, RowKey, Selection, Touched},
};

/// Everything behind one lock.
#[derive(Debug)]
pub(super) struct Views {
    incarnation: Uuid,
    contents: Mutex<Contents>,
}

impl Default for Views {
    fn default() -> Self {
        Self { incarnation: Uuid::now_v7(), contents: Mutex::default() }
    }
}

#[derive(Debug, Default)]
struct Contents {
    /// The last number given to a generation.
    generations: u64,
    projections: BTreeMap<String, ProjectionState>,
    rows: BTreeMap<Generation, BTreeMap<RowKey, Bytes>>,
    parked: BTreeMap<(Generation, Position), Parked>,
    changes: BTreeMap<(String, Revision), Change>,
    operations: BTreeMap<Uuid, Operation>,
}

#[derive(Debug)]
struct Parked {
    event: ParkedEvent,
    /// Who asked for what is requested.
    principal: String,
}

#[derive(Debug)]
struct Change {
    before: Revision,
    touched: Touched,
    recorded_at: DateTime<Utc>,
}

impl Views {
    fn contents(&self) -> MutexGuard<'_, Contents> {
        // Nothing below panics half-way through a change, so a poisoned lock guards whole contents.
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl MemoryStore {
    /// Takes the errors of a stream's parked events away.
    pub(super) fn forget_parked_words(&self, stream: &AggregateId) {
        let mut contents = self.views.contents();
        for parked in contents.parked.values_mut().filter(|parked| parked.event.event.aggregate_id == *stream) {
            parked.event.event.error = ERASED_WORDS.to_owned();
        }
    }
}

impl Contents {
    /// The last number plus one; it counts as given only when a state with it is stored.
    fn fresh(&self) -> Generation {
        Generation(self.generations + 1)
    }

    fn counted(&self, mut state: ProjectionState) -> ProjectionState {
        let waiting = self.parked_of(state.generation).filter(|(_, it)| it.event.skipped.is_none());
        state.parked = waiting.count() as u64;
        state.has_requests = self.parked_of(state.generation).any(|(_, it)| it.event.request.is_some());
        state
    }

    fn parked_of(&self, generation: Generation) -> impl Iterator<Item = (Position, &Parked)> {
        let range = (generation, Position::ZERO)..=(generation, Position(u64::MAX));
        self.parked.range(range).map(|((_, position), parked)| (*position, parked))
    }

    /// Stores a projection's row, and what readers may notice of it.
    fn store(&mut self, ruling: Ruling, now: DateTime<Utc>) -> ProjectionState {
        let Ruling { state, change } = ruling;
        let before = self.projections.get(&state.name).map_or(Revision::default(), |before| before.revision);
        if let Some(touched) = change {
            let change = Change { before, touched, recorded_at: now };
            self.changes.insert((state.name.clone(), state.revision), change);
        }
        let used = state.shadow.map_or(state.generation, |shadow| shadow.generation.max(state.generation));
        self.generations = self.generations.max(used.0);
        self.projections.insert(state.name.clone(), state.clone());
        self.counted(state)
    }

    fn declare(&mut self, projection: &str, version: u64, now: DateTime<Utc>) -> ProjectionState {
        match self.projections.get(projection) {
            Some(state) => self.counted(state.clone()),
            None => {
                let state = ProjectionState::declared(projection, version, self.fresh());
                self.store(Ruling { state, change: None }, now)
            }
        }
    }

    fn commit(&mut self, commit: ViewCommit, now: DateTime<Utc>) -> ViewOutcome {
        let state = self.projections.get(&commit.projection);
        let Some(ruling) = state.and_then(|state| state.stepped(&commit, now)) else { return ViewOutcome::Lost };
        for (generation, step) in commit.served.into_iter().chain(commit.shadow) {
            self.apply(generation, step, now);
        }
        if let Some(update) = commit.operation {
            self.update(update, now);
        }
        ViewOutcome::Committed(Box::new(self.store(ruling, now)))
    }

    fn apply(&mut self, generation: Generation, step: Move, now: DateTime<Utc>) {
        let rows = self.rows.entry(generation).or_default();
        for key in &step.deletes {
            rows.remove(key);
        }
        rows.extend(step.puts.into_iter().map(|row| (row.key, row.data)));
        for event in step.parked {
            let fresh = ParkedEvent { event, parked_at: now, request: None, skipped: None };
            let key = (generation, fresh.event.position);
            self.parked.entry(key).or_insert(Parked { event: fresh, principal: String::new() });
        }
        let is_waiting = |parked: &Parked| parked.event.skipped.is_none();
        for key in step.released.into_iter().map(|position| (generation, position)) {
            if self.parked.get(&key).is_some_and(is_waiting) {
                self.parked.remove(&key);
            }
        }
        for position in step.skipped {
            let parked = self.parked.get_mut(&(generation, position));
            if let Some(parked) = parked.filter(|parked| parked.event.skipped.is_none()) {
                parked.event.skipped = Some((now, std::mem::take(&mut parked.principal)));
                parked.event.request = None;
            }
        }
        for NewParked { position, error, attempts, .. } in step.retried {
            if let Some(parked) = self.parked.get_mut(&(generation, position)) {
                parked.event.event.error = error;
                parked.event.event.attempts = attempts;
                parked.event.request = None;
            }
        }
    }

    fn control(&mut self, projection: &str, control: Control, now: DateTime<Utc>) -> Controlled {
        let Some(state) = self.projections.get(projection) else { return Controlled::UnknownProjection };
        let generation = state.generation;
        let ruled = state.controlled(&control, self.fresh());
        match ruled.and_then(|ruling| self.settle(generation, &control).map(|()| ruling)) {
            Ok(ruling) => {
                if let Some(operation) = control.operation(projection, now) {
                    self.operations.entry(operation.id).or_insert(operation);
                }
                if let Control::Cancel { operation } = control
                    && let Some(operation) = self.operations.get_mut(&operation)
                    && operation.status == OperationStatus::Running
                {
                    (operation.status, operation.updated_at) = (OperationStatus::Cancelled, now);
                }
                Controlled::Done(Box::new(self.store(ruling, now)))
            }
            Err(Objection { operation, reason }) => Controlled::Refused { operation, reason: reason.to_owned() },
        }
    }

    fn settle(&mut self, generation: Generation, control: &Control) -> Result<(), Objection> {
        let Control::Settle { position, request, operation, principal } = control else { return Ok(()) };
        let parked = self.parked.get_mut(&(generation, *position)).filter(|parked| parked.event.skipped.is_none());
        let parked = parked.ok_or(Objection { operation: None, reason: Objection::NOT_PARKED })?;
        if let Some((_, operation)) = parked.event.request {
            return Err(Objection { operation: Some(operation), reason: Objection::REQUESTED });
        }
        parked.event.request = Some((*request, *operation));
        parked.principal.clone_from(principal);
        Ok(())
    }

    fn read(&self, projection: &str, selection: &Selection) -> Option<ViewPage> {
        let state = self.projections.get(projection)?;
        let nothing = BTreeMap::new();
        let rows = self.rows.get(&state.generation).unwrap_or(&nothing);
        let rows = match selection {
            Selection::Row(key) => rows.get(key).map(|data| (key.sort.clone(), data.clone())).into_iter().collect(),
            Selection::List(list) => list_of(rows, list),
        };
        Some(ViewPage {
            generation: state.generation,
            position: state.checkpoint.position,
            revision: state.revision,
            rows,
        })
    }

    fn dump(&self, generation: Generation, after: Option<&RowKey>, limit: usize) -> Vec<Row> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let rows = self.rows.get(&generation).into_iter().flat_map(|rows| rows.range((from, Bound::Unbounded)));
        rows.take(limit).map(|(key, data)| Row { key: key.clone(), data: data.clone() }).collect()
    }

    fn tally(&self, generation: Generation, position: Position) -> Tally {
        let rows = self.rows.get(&generation).into_iter().flatten();
        let digests = rows.map(|(key, data)| row_digest(&key.collection, &key.group, &key.sort, data));
        let (rows, digest) = digests.fold((0, 0_u64), |(rows, sum), digest| (rows + 1, sum.wrapping_add(digest)));
        Tally { generation, position, rows, digest, parked: self.parked_of(generation).count() as u64 }
    }

    fn changes(&self, projection: &str, since: Revision) -> Option<ViewChanges> {
        let state = self.projections.get(projection)?;
        let from = (projection.to_owned(), Revision(since.0.saturating_add(1)));
        let to = (projection.to_owned(), Revision(u64::MAX));
        let (mut last, mut changes) = (since, Vec::new());
        for ((_, revision), change) in self.changes.range(from..=to).take(VIEW_CHANGES_MAX + 1) {
            if change.before != last {
                break;
            }
            last = *revision;
            changes.push((last, change.touched.clone()));
        }
        let whole = last == state.revision && changes.len() <= VIEW_CHANGES_MAX;
        Some(ViewChanges {
            projection: projection.to_owned(),
            position: state.checkpoint.position,
            revision: state.revision,
            changes: whole.then_some(changes),
        })
    }

    fn prune(&mut self, before: DateTime<Utc>, limit: usize) -> u64 {
        let Self { projections, rows, parked, changes, .. } = self;
        let is_reached = |generation| projections.values().any(|state| state.reaches(generation));
        let mut left = limit;
        for (_, dropped) in rows.iter_mut().filter(|(generation, _)| !is_reached(**generation)) {
            while left > 0 && dropped.pop_first().is_some() {
                left -= 1;
            }
        }
        rows.retain(|generation, rows| !rows.is_empty() || is_reached(*generation));
        parked.retain(|(generation, _), _| is_reached(*generation) || take_one(&mut left));
        changes.retain(|(name, revision), change| {
            let is_newest = projections.get(name).is_some_and(|state| state.revision == *revision);
            is_newest || change.recorded_at >= before || take_one(&mut left)
        });
        (limit - left) as u64
    }
}

/// Whether something has to stay because nothing is left of the limit; otherwise counts it.
fn take_one(left: &mut usize) -> bool {
    let stays = *left == 0;
    *left = left.saturating_sub(1);
    stays
}

fn list_of(rows: &BTreeMap<RowKey, Bytes>, list: &ListRange) -> Vec<(Box<str>, Bytes)> {
    let least = list.from.as_deref().unwrap_or_default();
    let first = RowKey { collection: list.collection.clone(), group: list.group.clone(), sort: least.into() };
    let same = |key: &RowKey| key.collection == list.collection && key.group == list.group;
    let group = rows.range(first..).take_while(|(key, _)| same(key)).filter(|(key, _)| list.contains(&key.sort));
    let page = |(key, data): (&RowKey, &Bytes)| (key.sort.clone(), data.clone());
    let limit = list.limit.get() as usize;
    match list.direction {
        Direction::Forward => group.take(limit).map(page).collect(),
        Direction::Backward => {
            let group: Vec<_> = group.collect();
            group.into_iter().rev().take(limit).map(page).collect()
        }
    }
}

type Answer<'a, T> = BoxFuture<'a, Result<T, StoreError>>;

impl MemoryStore {
    fn views(&self) -> MutexGuard<'_, Contents> {
        self.views.contents()
    }
}

impl ViewStore for MemoryStore {
    fn incarnation(&self) -> Uuid {
        self.views.incarnation
    }

    fn declare<'a>(&'a self, projection: &'a str, version: u64) -> Answer<'a, ProjectionState> {
        async move { Ok(self.views().declare(projection, version, self.clock.now())) }.boxed()
    }

    fn states(&self) -> Answer<'_, Vec<ProjectionState>> {
        async move {
            let views = self.views();
            Ok(views.projections.values().map(|state| views.counted(state.clone())).collect())
        }
        .boxed()
    }

    fn acquire(&self, claim: LeaseClaim) -> Answer<'_, Option<ProjectionState>> {
        async move {
            let (mut views, now) = (self.views(), self.clock.now());
            let ruling = views.projections.get(&claim.projection).and_then(|state| state.leased(&claim, now));
            Ok(ruling.map(|ruling| views.store(ruling, now)))
        }
        .boxed()
    }

    fn release<'a>(&'a self, projection: &'a str, owner: Uuid) -> Answer<'a, ()> {
        async move {
            if let Some(state) = self.views().projections.get_mut(projection) {
                state.lease = state.lease.filter(|lease| lease.owner != owner);
            }
            Ok(())
        }
        .boxed()
    }

    fn commit(&self, commit: ViewCommit) -> Answer<'_, ViewOutcome> {
        async move {
            match commit.malformed() {
                Some(reason) => Err(StoreError::Refused { reason }),
                None => Ok(self.views().commit(commit, self.clock.now())),
            }
        }
        .boxed()
    }

    fn control<'a>(&'a self, projection: &'a str, control: Control) -> Answer<'a, Controlled> {
        async move { Ok(self.views().control(projection, control, self.clock.now())) }.boxed()
    }

    fn read<'a>(&'a self, projection: &'a str, selection: &'a Selection) -> Answer<'a, Option<ViewPage>> {
        async move { Ok(self.views().read(projection, selection)) }.boxed()
    }

    fn rows<'a>(&'a self, generation: Generation, keys: &'a [RowKey]) -> Answer<'a, Vec<Option<Bytes>>> {
        async move {
            let views = self.views();
            let rows = views.rows.get(&generation);
            Ok(keys.iter().map(|key| rows.and_then(|rows| rows.get(key)).cloned()).collect())
        }
        .boxed()
    }

    fn dump<'a>(
        &'a self,
        generation: Generation,
        after: Option<&'a RowKey>,
        limit: NonZeroU32,
    ) -> Answer<'a, Vec<Row>> {
        async move { Ok(self.views().dump(generation, after, limit.get() as usize)) }.boxed()
    }

    fn tally<'a>(&'a self, projection: &'a str) -> Answer<'a, Option<(Tally, Tally)>> {
        async move {
            let views = self.views();
            let Some(state) = views.projections.get(projection) else { return Ok(None) };
            let served = views.tally(state.generation, state.checkpoint.position);
            Ok(state.shadow.map(|shadow| (served, views.tally(shadow.generation, shadow.checkpoint.position))))
        }
        .boxed()
    }

    fn parked<'a>(
        &'a self,
        generation: Generation,
        which: ParkedFilter<'a>,
        after: Position,
        limit: NonZeroU32,
    ) -> Answer<'a, Vec<ParkedEvent>> {
        async move {
            let views = self.views();
            let wanted = views.parked_of(generation).filter(|(position, parked)| {
                let event = &parked.event;
                let fits = match which {
                    ParkedFilter::All => true,
                    ParkedFilter::Waiting => event.skipped.is_none(),
                    ParkedFilter::Key(key) => event.skipped.is_none() && event.event.key == key,
                    ParkedFilter::Requested => event.request.is_some(),
                };
                *position > after && fits
            });
            Ok(wanted.take(limit.get() as usize).map(|(_, parked)| parked.event.clone()).collect())
        }
        .boxed()
    }

    fn parked_keys(&self, generation: Generation, limit: NonZeroU32) -> Answer<'_, Vec<String>> {
        async move {
            let views = self.views();
            let waiting = views.parked_of(generation).filter(|(_, parked)| parked.event.skipped.is_none());
            let keys: std::collections::BTreeSet<_> = waiting.map(|(_, parked)| &parked.event.event.key).collect();
            Ok(keys.into_iter().take(limit.get() as usize).cloned().collect())
        }
        .boxed()
    }

    fn changes<'a>(&'a self, since: &'a [(String, Revision)]) -> Answer<'a, Vec<ViewChanges>> {
        async move {
            let views = self.views();
            Ok(since.iter().filter_map(|(projection, since)| views.changes(projection, *since)).collect())
        }
        .boxed()
    }

    fn prune(&self, changes_before: DateTime<Utc>, limit: NonZeroU32) -> Answer<'_, u64> {
        async move { Ok(self.views().prune(changes_before, limit.get() as usize)) }.boxed()
    }

    fn end_silent<'a>(&'a self, kind: &'a str, silence: Duration, reason: &'a str) -> Answer<'a, Vec<Uuid>> {
        async move { Ok(self.views().end_silent(kind, silence, reason, self.clock.now())) }.boxed()
    }

    fn prune_operations(&self, kept: OperationsKept, limit: NonZeroU32) -> Answer<'_, u64> {
        async move { Ok(self.views().prune_operations(kept, limit, self.clock.now())) }.boxed()
    }

    fn begin_operation(&self, operation: Operation) -> Answer<'_, ()> {
        async move {
            self.views().operations.entry(operation.id).or_insert(operation);
            Ok(())
        }
        .boxed()
    }

    fn update_operation(&self, update: OperationUpdate) -> Answer<'_, ()> {
        async move {
            self.views().update(update, self.clock.now());
            Ok(())
        }
        .boxed()
    }

    fn operation(&self, id: Uuid) -> Answer<'_, Option<Operation>> {
        async move { Ok(self.views().operations.get(&id).cloned()) }.boxed()
    }

    fn operations(&self, before: Option<Uuid>, limit: NonZeroU32) -> Answer<'_, Vec<Operation>> {
        async move {
            let to = before.map_or(Bound::Unbounded, Bound::Excluded);
            let views = self.views();
            let page = views.operations.range((Bound::Unbounded, to)).rev().take(limit.get() as usize);
            Ok(page.map(|(_, operation)| operation.clone()).collect())
        }
        .boxed()
    }
}
