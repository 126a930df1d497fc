//! [`MemoryStore`]: the ports without a disk, for tests, examples and throw-away servers.
//!
//! It keeps every promise of the ports but one: what is acknowledged lives as long as the process.

mod keys;
mod views;

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    num::NonZeroU32,
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use chrono::{DateTime, Utc};
use futures_util::{FutureExt, future::BoxFuture};

use crate::{
    envelope::{EventFilter, RecordedEvent, Snapshot, StreamHead},
    id::{AggregateId, AggregateType, EventId},
    ports::{
        AppendBatch, AppendUnit, Clock, CommandProbe, Committed, Direction, EventStore, KeyRecord, LogPage,
        SnapshotStore, StoreError, StoredSnapshot, StreamRange, StreamSummary, UnitOutcome, superfluous,
    },
    version::{Position, Sequence},
};

/// Positions examined by one [`EventStore::read_all`], as in the stores on disk.
const WINDOW_POSITIONS_MAX: usize = 10_000;

/// A store in memory. Clones share their contents.
#[derive(Clone)]
pub struct MemoryStore {
    clock: Arc<dyn Clock>,
    log: Arc<Mutex<Log>>,
    snapshots: Arc<Mutex<HashMap<AggregateId, BTreeMap<Sequence, Snapshot>>>>,
    views: Arc<views::Views>,
    keys: Arc<keys::Keys>,
}

#[derive(Default)]
struct Log {
    /// Index = position − 1.
    events: Vec<RecordedEvent>,
    /// Indices into `events`, in order of sequence.
    streams: BTreeMap<AggregateId, Vec<usize>>,
    ids: HashMap<EventId, usize>,
    keys: HashMap<KeyName, (KeyRecord, DateTime<Utc>)>,
}

/// Principal and key.
type KeyName = (Arc<str>, Arc<str>);

impl MemoryStore {
    /// An empty store that stamps events with this clock.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, log: Arc::default(), snapshots: Arc::default(), views: Arc::default(), keys: Arc::default() }
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        // Nothing below panics half-way through a change, so a poisoned lock guards a whole log.
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").field("head", &self.log().events.len()).finish_non_exhaustive()
    }
}

impl Log {
    fn head(&self) -> Position {
        Position(self.events.len() as u64)
    }

    fn stream_head(&self, id: &AggregateId) -> StreamHead {
        let last = self.streams.get(id).and_then(|indices| indices.last());
        last.map_or(StreamHead::EMPTY, |&index| self.events[index].head())
    }

    fn summary(&self, id: &AggregateId) -> Option<StreamSummary> {
        let indices = self.streams.get(id)?;
        let (first, last) = (&self.events[*indices.first()?], &self.events[*indices.last()?]);
        Some(StreamSummary {
            aggregate_id: id.clone(),
            aggregate_type: first.aggregate_type.clone(),
            head: last.head(),
            position: last.position,
            recorded_at: last.recorded_at,
        })
    }

    fn knows(&self, command: &CommandProbe) -> bool {
        command.event_ids.iter().any(|id| self.ids.contains_key(id))
            || command
                .key
                .as_ref()
                .is_some_and(|record| self.keys.contains_key(&(record.principal.clone(), record.key.clone())))
    }

    /// Why nothing of a unit may be stored; `None` if it may.
    fn objection(&self, unit: &AppendUnit) -> Option<UnitOutcome> {
        let known: Vec<_> =
            unit.commands.iter().enumerate().filter(|(_, command)| self.knows(command)).map(|(i, _)| i).collect();
        if !known.is_empty() {
            return Some(UnitOutcome::Known { commands: known });
        }
        let stale = unit.streams.iter().any(|claim| self.stream_head(&claim.aggregate_id) != claim.head);
        stale.then_some(UnitOutcome::Stale)
    }

    fn commit(&mut self, unit: AppendUnit, recorded_at: DateTime<Utc>) -> Committed {
        let first = if unit.events.is_empty() { self.head() } else { self.head().next() };
        for event in unit.events {
            let index = self.events.len();
            self.ids.insert(event.event_id, index);
            self.streams.entry(event.aggregate_id.clone()).or_default().push(index);
            self.events.push(RecordedEvent::new(self.head().next(), recorded_at, event));
        }
        for record in unit.commands.into_iter().filter_map(|command| command.key) {
            self.keys.insert((record.principal.clone(), record.key.clone()), (record, recorded_at));
        }
        Committed { first_position: first, recorded_at }
    }

    fn append(&mut self, batch: AppendBatch, now: DateTime<Utc>) -> Result<Vec<UnitOutcome>, StoreError> {
        let recorded_at = self.events.last().map_or(now, |last| last.recorded_at.max(now));
        let malformed = batch.malformed();
        // All heads are read before anything is stored, as one statement on disk does.
        let verdicts: Vec<_> = (batch.units.iter().zip(malformed))
            .map(|(unit, malformed)| match malformed {
                Some(reason) => Some(UnitOutcome::Failed(StoreError::Refused { reason })),
                None => self.objection(unit),
            })
            .collect();
        let passing = batch.units.iter().zip(&verdicts).filter(|(_, verdict)| verdict.is_none());
        for event in passing.flat_map(|(unit, _)| &unit.events) {
            if self.ids.contains_key(&event.event_id) {
                return Err(StoreError::Refused { reason: format!("event id {} is already used", event.event_id) });
            }
        }
        let outcomes = batch.units.into_iter().zip(verdicts).map(|(unit, verdict)| match verdict {
            Some(outcome) => outcome,
            None => UnitOutcome::Committed(self.commit(unit, recorded_at)),
        });
        Ok(outcomes.collect())
    }

    fn read_stream(&self, id: &AggregateId, range: StreamRange) -> Vec<RecordedEvent> {
        let indices = self.streams.get(id).map_or(&[][..], Vec::as_slice);
        let start = usize::try_from(range.from.0.saturating_sub(1)).unwrap_or(usize::MAX).min(indices.len());
        let end = usize::try_from(range.to.0).unwrap_or(usize::MAX).min(indices.len());
        let part = indices.get(start..end).unwrap_or(&[]).iter().map(|&index| self.events[index].clone());
        let limit = range.limit.get() as usize;
        match range.direction {
            Direction::Forward => part.take(limit).collect(),
            Direction::Backward => part.rev().take(limit).collect(),
        }
    }

    fn read_all(&self, after: Position, filter: &EventFilter, limit: usize) -> LogPage {
        let start = usize::try_from(after.0).unwrap_or(usize::MAX).min(self.events.len());
        let mut page = LogPage { events: Vec::new(), examined: after };
        for event in self.events[start..].iter().take(WINDOW_POSITIONS_MAX) {
            page.examined = event.position;
            if filter.matches(event) {
                page.events.push(event.clone());
                if page.events.len() == limit {
                    break;
                }
            }
        }
        page
    }

    fn list_streams(
        &self,
        aggregate_type: Option<&AggregateType>,
        after: Option<&AggregateId>,
        limit: usize,
    ) -> Vec<StreamSummary> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        (self.streams.range::<AggregateId, _>((from, Bound::Unbounded)))
            .filter_map(|(id, _)| self.summary(id))
            .filter(|summary| aggregate_type.is_none_or(|wanted| summary.aggregate_type == *wanted))
            .take(limit)
            .collect()
    }

    fn find_events(&self, ids: &[EventId]) -> Vec<RecordedEvent> {
        let mut indices: Vec<_> = ids.iter().filter_map(|id| self.ids.get(id).copied()).collect();
        indices.sort_unstable();
        indices.dedup();
        indices.into_iter().map(|index| self.events[index].clone()).collect()
    }

    fn sweep_keys(&mut self, before: DateTime<Utc>, limit: usize) -> u64 {
        let old = self.keys.iter().filter(|(_, (_, at))| *at < before).take(limit);
        let old: Vec<_> = old.map(|(key, _)| key.clone()).collect();
        for key in &old {
            self.keys.remove(key);
        }
        old.len() as u64
    }
}

impl EventStore for MemoryStore {
    fn append(&self, batch: AppendBatch) -> BoxFuture<'_, Result<Vec<UnitOutcome>, StoreError>> {
        async move {
            let mut log = self.log();
            // Read under the lock, so that the order of instants is the order of appends.
            let now = self.clock.now();
            log.append(batch, now)
        }
        .boxed()
    }

    fn read_stream<'a>(
        &'a self,
        id: &'a AggregateId,
        range: StreamRange,
    ) -> BoxFuture<'a, Result<Vec<RecordedEvent>, StoreError>> {
        async move { Ok(self.log().read_stream(id, range)) }.boxed()
    }

    fn read_all<'a>(
        &'a self,
        after: Position,
        filter: &'a EventFilter,
        limit: NonZeroU32,
    ) -> BoxFuture<'a, Result<LogPage, StoreError>> {
        async move { Ok(self.log().read_all(after, filter, limit.get() as usize)) }.boxed()
    }

    fn head(&self) -> BoxFuture<'_, Result<Position, StoreError>> {
        async move { Ok(self.log().head()) }.boxed()
    }

    fn stream<'a>(&'a self, id: &'a AggregateId) -> BoxFuture<'a, Result<Option<StreamSummary>, StoreError>> {
        async move { Ok(self.log().summary(id)) }.boxed()
    }

    fn list_streams<'a>(
        &'a self,
        aggregate_type: Option<&'a AggregateType>,
        after: Option<&'a AggregateId>,
        limit: NonZeroU32,
    ) -> BoxFuture<'a, Result<Vec<StreamSummary>, StoreError>> {
        async move { Ok(self.log().list_streams(aggregate_type, after, limit.get() as usize)) }.boxed()
    }

    fn find_events<'a>(&'a self, ids: &'a [EventId]) -> BoxFuture<'a, Result<Vec<RecordedEvent>, StoreError>> {
        async move { Ok(self.log().find_events(ids)) }.boxed()
    }

    fn find_key<'a>(
        &'a self,
        principal: &'a str,
        key: &'a str,
    ) -> BoxFuture<'a, Result<Option<KeyRecord>, StoreError>> {
        async move { Ok(self.log().keys.get(&(principal.into(), key.into())).map(|(record, _)| record.clone())) }
            .boxed()
    }

    fn sweep_keys(&self, before: DateTime<Utc>, limit: NonZeroU32) -> BoxFuture<'_, Result<u64, StoreError>> {
        async move { Ok(self.log().sweep_keys(before, limit.get() as usize)) }.boxed()
    }
}

impl SnapshotStore for MemoryStore {
    fn save(&self, snapshot: Snapshot) -> BoxFuture<'_, Result<(), StoreError>> {
        async move {
            let mut all = self.snapshots.lock().unwrap_or_else(PoisonError::into_inner);
            if self.keys.is_destroyed(&snapshot.aggregate_id) {
                return Ok(());
            }
            let kept = all.entry(snapshot.aggregate_id.clone()).or_default();
            kept.insert(snapshot.head.sequence, snapshot);
            let ascending: Vec<Sequence> = kept.keys().copied().collect();
            for sequence in superfluous(&ascending) {
                kept.remove(&sequence);
            }
            Ok(())
        }
        .boxed()
    }

    fn latest<'a>(
        &'a self,
        id: &'a AggregateId,
        at_most: Sequence,
    ) -> BoxFuture<'a, Result<Option<StoredSnapshot>, StoreError>> {
        async move {
            let all = self.snapshots.lock().unwrap_or_else(PoisonError::into_inner);
            let newest = all.get(id).and_then(|kept| kept.range(..=at_most).next_back());
            Ok(newest.map(|(_, snapshot)| StoredSnapshot::Readable(snapshot.clone())))
        }
        .boxed()
    }

    fn remove<'a>(&'a self, id: &'a AggregateId, sequence: Sequence) -> BoxFuture<'a, Result<(), StoreError>> {
        async move {
            if let Some(kept) = self.snapshots.lock().unwrap_or_else(PoisonError::into_inner).get_mut(id) {
                kept.remove(&sequence);
            }
            Ok(())
        }
        .boxed()
    }

    fn discard<'a>(&'a self, id: &'a AggregateId, from: Sequence) -> BoxFuture<'a, Result<(), StoreError>> {
        async move {
            if let Some(kept) = self.snapshots.lock().unwrap_or_else(PoisonError::into_inner).get_mut(id) {
                kept.split_off(&from);
            }
            Ok(())
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        envelope::{EventBody, NewEvent},
        id::EventType,
        ports::{StreamClaim, SystemClock},
    };
    use bytes::Bytes;
    use uuid::Uuid;

    fn unit(head: StreamHead, id: Uuid) -> AppendUnit {
        let (stream, kind) = (AggregateId::new("a").unwrap(), AggregateType::new("t").unwrap());
        let body = EventBody {
            event_id: EventId(id),
            event_type: EventType::new("E").unwrap(),
            schema_version: 1,
            data: Bytes::from_static(b"{}"),
            metadata: Bytes::from_static(b"{}"),
        };
        let event = NewEvent::following(&mut head.clone(), &stream, &kind, body);
        AppendUnit {
            streams: vec![StreamClaim { aggregate_id: stream, head, losses: 0 }],
            commands: vec![CommandProbe { event_ids: vec![event.event_id], key: None }],
            events: vec![event],
        }
    }

    #[tokio::test]
    async fn known_comes_before_stale_and_a_second_claim_of_a_stream_is_refused_alone() {
        let store = MemoryStore::new(Arc::new(SystemClock));
        let units = vec![unit(StreamHead::EMPTY, Uuid::from_u128(1)), unit(StreamHead::EMPTY, Uuid::from_u128(2))];
        let outcomes = store.append(AppendBatch { units }).await.unwrap();
        assert!(matches!(outcomes[0], UnitOutcome::Committed(Committed { first_position: Position(1), .. })));
        assert!(matches!(outcomes[1], UnitOutcome::Failed(StoreError::Refused { .. })));
        for (id, stale) in [(1, false), (2, true)] {
            let units = vec![unit(StreamHead::EMPTY, Uuid::from_u128(id))];
            let outcomes = store.append(AppendBatch { units }).await.unwrap();
            assert_eq!(matches!(outcomes[0], UnitOutcome::Stale), stale);
            assert_eq!(matches!(&outcomes[0], UnitOutcome::Known { commands } if commands == &[0]), !stale);
        }
    }
}
