//! Branches in memory.

use std::{
    collections::{BTreeMap, HashMap},
    num::NonZeroU32,
    sync::{Mutex, MutexGuard, PoisonError},
};

use chrono::{DateTime, Utc};
use futures_util::{FutureExt, future::BoxFuture};

use super::{Log, MemoryStore};
use crate::{
    envelope::{EventFilter, RecordedEvent, StreamHead},
    id::{AggregateId, AggregateType, BranchId, EventId},
    ports::{
        AppendUnit, BRANCHES_LIVE_MAX, Branch, BranchAppend, BranchCommand, BranchCreated, BranchKey, BranchMerge,
        BranchStatus, BranchStore, KeyRecord, LogPage, MergeOutcome, NewBranch, StoreError, StreamRange, StreamSummary,
        UnitOutcome,
    },
    version::Position,
};

/// All branches.
#[derive(Default)]
pub(super) struct BranchesKept(Mutex<BTreeMap<BranchId, Kept>>);

struct Kept {
    branch: Branch,
    fork_at: DateTime<Utc>,
    key: Option<BranchKey>,
    /// Own events, by the rules of a log; its positions count from 1.
    own: Log,
    commands: Vec<BranchCommand>,
}

impl BranchesKept {
    fn all(&self) -> MutexGuard<'_, BTreeMap<BranchId, Kept>> {
        // Nothing below panics half-way through a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    /// An own event at its place after the fork.
    fn placed(&self, event: RecordedEvent) -> RecordedEvent {
        RecordedEvent { position: event.position.plus(self.branch.fork.0), ..event }
    }

    fn summary(&self, stream: &AggregateId) -> Option<StreamSummary> {
        let summary = self.own.summary(stream)?;
        Some(StreamSummary { position: summary.position.plus(self.branch.fork.0), ..summary })
    }

    fn objection(&self, unit: &AppendUnit, bases: &HashMap<AggregateId, StreamHead>) -> Option<UnitOutcome> {
        let known = unit.commands.iter().enumerate().filter(|(_, command)| self.own.knows(command));
        let commands: Vec<usize> = known.map(|(index, _)| index).collect();
        if !commands.is_empty() {
            return Some(UnitOutcome::Known { commands });
        }
        let stands_at = |id: &AggregateId| match self.own.stream_head(id) {
            StreamHead::EMPTY => bases.get(id).copied().unwrap_or(StreamHead::EMPTY),
            own => own,
        };
        let is_stale = unit.streams.iter().any(|claim| stands_at(&claim.aggregate_id) != claim.head);
        is_stale.then_some(UnitOutcome::Stale)
    }

    fn append(&mut self, append: BranchAppend, now: DateTime<Utc>) -> Result<Vec<UnitOutcome>, StoreError> {
        let recorded_at = self.own.events.last().map_or(self.fork_at, |last| last.recorded_at).max(now);
        let malformed = append.batch.malformed();
        let verdicts: Vec<_> = (append.batch.units.iter().zip(malformed))
            .map(|(unit, malformed)| match malformed {
                Some(reason) => Some(UnitOutcome::Failed(StoreError::Refused { reason })),
                None => self.objection(unit, &append.bases),
            })
            .collect();
        let passing = append.batch.units.iter().zip(&verdicts).filter(|(_, verdict)| verdict.is_none());
        for event in passing.flat_map(|(unit, _)| &unit.events) {
            if self.own.ids.contains_key(&event.event_id) {
                return Err(StoreError::Refused { reason: format!("event id {} is already used", event.event_id) });
            }
        }
        let fork = self.branch.fork;
        let outcomes = append.batch.units.into_iter().zip(verdicts).map(|(unit, verdict)| match verdict {
            Some(outcome) => outcome,
            None => {
                self.commands.extend(commands_of(&unit, fork.plus(self.own.head().0)));
                let mut committed = self.own.commit(unit, recorded_at);
                committed.first_position = committed.first_position.plus(fork.0);
                UnitOutcome::Committed(committed)
            }
        });
        Ok(outcomes.collect())
    }
}

/// The records of a unit's commands, each at the position of its first event; `head` is where the log ends before it.
fn commands_of(unit: &AppendUnit, head: Position) -> Vec<BranchCommand> {
    let records = unit.commands.iter().filter_map(|command| command.record.as_ref().zip(command.event_ids.first()));
    let place = |first: &EventId| unit.events.iter().position(|event| event.event_id == *first);
    records
        .filter_map(|(record, first)| {
            Some(BranchCommand { position: head.plus(place(first)? as u64 + 1), record: record.clone() })
        })
        .collect()
}

fn closed(branch: Option<&Branch>) -> StoreError {
    let reason = match branch {
        Some(branch) => format!("branch {} was merged: it takes no more commands; send them to main", branch.id),
        None => "the branch was deleted: it takes no more commands".to_owned(),
    };
    StoreError::Closed { reason }
}

impl MemoryStore {
    fn on<T: Send>(&self, id: BranchId, none: T, read: impl FnOnce(&Kept) -> T) -> T {
        self.branches.all().get(&id).map_or(none, read)
    }
}

impl BranchStore for MemoryStore {
    fn create_branch(&self, new: NewBranch) -> BoxFuture<'_, Result<BranchCreated, StoreError>> {
        async move {
            let mut all = self.branches.all();
            if let Some(key) = &new.key {
                let is_same = |known: &BranchKey| known.principal == key.principal && known.key == key.key;
                if let Some(known) = all.values().find(|kept| kept.key.as_ref().is_some_and(is_same)) {
                    let is_equal = known.key.as_ref() == Some(key);
                    let branch = known.branch.clone();
                    return Ok(if is_equal { BranchCreated::Known(branch) } else { BranchCreated::KeyReused });
                }
            }
            if all.values().filter(|kept| kept.branch.status == BranchStatus::Open).count() >= BRANCHES_LIVE_MAX {
                return Ok(BranchCreated::Full);
            }
            let NewBranch { id, name, fork, fork_at, key } = new;
            let (status, created_at) = (BranchStatus::Open, self.clock.now());
            let branch = Branch { id, name, fork, status, created_at, report: None };
            all.insert(id, Kept { branch: branch.clone(), fork_at, key, own: Log::default(), commands: Vec::new() });
            Ok(BranchCreated::Created(branch))
        }
        .boxed()
    }

    fn branch(&self, id: BranchId) -> BoxFuture<'_, Result<Option<Branch>, StoreError>> {
        async move { Ok(self.on(id, None, |kept| Some(kept.branch.clone()))) }.boxed()
    }

    fn branches(&self, before: Option<BranchId>, limit: NonZeroU32) -> BoxFuture<'_, Result<Vec<Branch>, StoreError>> {
        async move {
            let all = self.branches.all();
            let older = all.values().rev().filter(|kept| before.is_none_or(|before| kept.branch.id < before));
            Ok(older.take(limit.get() as usize).map(|kept| kept.branch.clone()).collect())
        }
        .boxed()
    }

    fn delete_branch(&self, id: BranchId) -> BoxFuture<'_, Result<bool, StoreError>> {
        async move { Ok(self.branches.all().remove(&id).is_some()) }.boxed()
    }

    fn append_on(&self, id: BranchId, append: BranchAppend) -> BoxFuture<'_, Result<Vec<UnitOutcome>, StoreError>> {
        async move {
            let mut all = self.branches.all();
            let now = self.clock.now();
            match all.get_mut(&id) {
                Some(kept) if kept.branch.status == BranchStatus::Open => kept.append(append, now),
                kept => {
                    let error = closed(kept.map(|kept| &kept.branch));
                    Ok(append.batch.units.iter().map(|_| UnitOutcome::Failed(error.clone())).collect())
                }
            }
        }
        .boxed()
    }

    fn read_stream_on<'a>(
        &'a self,
        id: BranchId,
        stream: &'a AggregateId,
        range: StreamRange,
    ) -> BoxFuture<'a, Result<Vec<RecordedEvent>, StoreError>> {
        async move {
            Ok(self.on(id, Vec::new(), |kept| {
                let indices = kept.own.streams.get(stream).map_or(&[][..], Vec::as_slice);
                let events = indices.iter().map(|index| &kept.own.events[*index]);
                let part = events.filter(|event| event.sequence >= range.from && event.sequence <= range.to);
                let part = part.map(|event| kept.placed(event.clone()));
                let limit = range.limit.get() as usize;
                match range.direction {
                    crate::ports::Direction::Forward => part.take(limit).collect(),
                    crate::ports::Direction::Backward => part.rev().take(limit).collect(),
                }
            }))
        }
        .boxed()
    }

    fn read_all_on<'a>(
        &'a self,
        id: BranchId,
        after: Position,
        filter: &'a EventFilter,
        limit: NonZeroU32,
    ) -> BoxFuture<'a, Result<LogPage, StoreError>> {
        async move {
            let none = LogPage { events: Vec::new(), examined: after };
            Ok(self.on(id, none, |kept| {
                let fork = kept.branch.fork.0;
                let page = kept.own.read_all(Position(after.0.saturating_sub(fork)), filter, limit.get() as usize);
                let events = page.events.into_iter().map(|event| kept.placed(event)).collect();
                LogPage { events, examined: page.examined.plus(fork) }
            }))
        }
        .boxed()
    }

    fn head_on(&self, id: BranchId) -> BoxFuture<'_, Result<Option<Position>, StoreError>> {
        async move {
            let head = |kept: &Kept| (!kept.own.events.is_empty()).then(|| kept.own.head().plus(kept.branch.fork.0));
            Ok(self.on(id, None, head))
        }
        .boxed()
    }

    fn stream_on<'a>(
        &'a self,
        id: BranchId,
        stream: &'a AggregateId,
    ) -> BoxFuture<'a, Result<Option<StreamSummary>, StoreError>> {
        async move { Ok(self.on(id, None, |kept| kept.summary(stream))) }.boxed()
    }

    fn streams_on<'a>(
        &'a self,
        id: BranchId,
        aggregate_type: Option<&'a AggregateType>,
        after: Option<&'a AggregateId>,
        limit: NonZeroU32,
    ) -> BoxFuture<'a, Result<Vec<StreamSummary>, StoreError>> {
        async move {
            Ok(self.on(id, Vec::new(), |kept| {
                let streams = kept.own.list_streams(aggregate_type, after, limit.get() as usize);
                streams.iter().filter_map(|stream| kept.summary(&stream.aggregate_id)).collect()
            }))
        }
        .boxed()
    }

    fn find_events_on<'a>(
        &'a self,
        id: BranchId,
        ids: &'a [EventId],
    ) -> BoxFuture<'a, Result<Vec<RecordedEvent>, StoreError>> {
        async move {
            let found = |kept: &Kept| kept.own.find_events(ids).into_iter().map(|event| kept.placed(event)).collect();
            Ok(self.on(id, Vec::new(), found))
        }
        .boxed()
    }

    fn find_key_on<'a>(
        &'a self,
        id: BranchId,
        principal: &'a str,
        key: &'a str,
    ) -> BoxFuture<'a, Result<Option<KeyRecord>, StoreError>> {
        async move {
            let name = (principal.into(), key.into());
            Ok(self.on(id, None, |kept| kept.own.keys.get(&name).map(|(record, _)| record.clone())))
        }
        .boxed()
    }

    fn sweep_keys_on(
        &self,
        id: BranchId,
        before: DateTime<Utc>,
        limit: NonZeroU32,
    ) -> BoxFuture<'_, Result<u64, StoreError>> {
        async move {
            let mut all = self.branches.all();
            Ok(all.get_mut(&id).map_or(0, |kept| kept.own.sweep_keys(before, limit.get() as usize)))
        }
        .boxed()
    }

    fn commands_on(
        &self,
        id: BranchId,
        after: Position,
        limit: NonZeroU32,
    ) -> BoxFuture<'_, Result<Vec<BranchCommand>, StoreError>> {
        async move {
            Ok(self.on(id, Vec::new(), |kept| {
                let later = kept.commands.iter().filter(|command| command.position > after);
                later.take(limit.get() as usize).cloned().collect()
            }))
        }
        .boxed()
    }

    fn merge_branch(&self, id: BranchId, merge: BranchMerge) -> BoxFuture<'_, Result<MergeOutcome, StoreError>> {
        async move {
            let mut all = self.branches.all();
            let Some(kept) = all.get_mut(&id) else { return Ok(MergeOutcome::Unknown) };
            if kept.branch.status == BranchStatus::Merged {
                return Ok(MergeOutcome::Closed(kept.branch.clone()));
            }
            if kept.own.head().plus(kept.branch.fork.0) != merge.seen {
                return Ok(MergeOutcome::Behind);
            }
            // The branches before the log, as everywhere.
            let mut log = self.log();
            let batch = crate::ports::AppendBatch { units: vec![merge.unit] };
            match log.append(batch, self.clock.now())?.pop() {
                Some(UnitOutcome::Committed(committed)) => {
                    kept.branch.status = BranchStatus::Merged;
                    kept.branch.report = Some(merge.report);
                    Ok(MergeOutcome::Merged(committed))
                }
                Some(outcome) => Ok(MergeOutcome::Unit(outcome)),
                None => Err(StoreError::Corrupt { reason: "a merge was not answered".to_owned() }),
            }
        }
        .boxed()
    }
}
