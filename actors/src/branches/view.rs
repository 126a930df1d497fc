//! The log as it is on a branch: what lies before the fork is read from the log, what came since from the branch's own
//! store. Everything that works on a log works on this one.
//!
//! What lies before the fork never changes, so what is once known of it is remembered.

use std::{collections::HashMap, num::NonZeroU32, sync::Arc};

use chrono::{DateTime, Utc};
use dashmap::DashMap;
use futures_util::{FutureExt, future::BoxFuture};

use crate::{
    envelope::{EventFilter, RecordedEvent},
    id::{AggregateId, AggregateType, BranchId, EventId},
    ports::{
        AppendBatch, BranchAppend, BranchStore, Direction, EventStore, KeyRecord, LogPage, StoreError, StreamRange,
        StreamSummary, UnitOutcome,
    },
    version::{Position, Sequence},
};

/// Streams whose end at the fork is remembered; when there are more, all are looked up again.
const BASES_MAX: usize = 65_536;

/// One branch's log.
#[derive(Debug)]
pub(crate) struct BranchLog {
    main: Arc<dyn EventStore>,
    own: Arc<dyn BranchStore>,
    id: BranchId,
    fork: Position,
    /// Where who reads from the very beginning begins.
    begins_after: Position,
    /// How streams stood at the fork; none for those that began later.
    bases: Arc<DashMap<AggregateId, Option<StreamSummary>>>,
}

/// A stream has the type of its first event.
fn continued(own: StreamSummary, base: Option<&StreamSummary>) -> StreamSummary {
    let aggregate_type = base.map_or(own.aggregate_type, |base| base.aggregate_type.clone());
    StreamSummary { aggregate_type, ..own }
}

/// Which part of a stream lies where.
struct Parts {
    /// The part before the fork.
    base: Option<(Sequence, Sequence)>,
    /// The part since.
    own: Option<(Sequence, Sequence)>,
}

impl BranchLog {
    pub fn new(main: Arc<dyn EventStore>, own: Arc<dyn BranchStore>, id: BranchId, fork: Position) -> Self {
        Self { main, own, id, fork, begins_after: Position::ZERO, bases: Arc::default() }
    }

    /// The same log without what lies before the fork: the sagas of a branch see what happens on it. Only who begins at the
    /// very beginning is moved on: who asks for the event at a place gets it.
    pub fn since_fork(&self) -> Self {
        let (main, own, bases) = (self.main.clone(), self.own.clone(), self.bases.clone());
        Self { main, own, bases, begins_after: self.fork, ..*self }
    }

    /// How a stream stood at the fork; none if it had no events.
    pub async fn base(&self, id: &AggregateId) -> Result<Option<StreamSummary>, StoreError> {
        if let Some(known) = self.bases.get(id) {
            return Ok(known.clone());
        }
        let base = match self.main.stream(id).await? {
            Some(now) => self.at_fork(now).await?,
            None => None,
        };
        if self.bases.len() >= BASES_MAX {
            self.bases.clear();
        }
        self.bases.insert(id.clone(), base.clone());
        Ok(base)
    }

    /// A stream of the log as it stood at the fork: the last event at or below it, found by halving.
    async fn at_fork(&self, now: StreamSummary) -> Result<Option<StreamSummary>, StoreError> {
        if now.position <= self.fork {
            return Ok(Some(now));
        }
        let (mut found, mut low, mut high) = (None, 0, now.head.sequence.0);
        while high - low > 1 {
            // The first event is asked for first: streams that began after the fork are the most.
            let middle =
                if low == 0 && found.is_none() && high == now.head.sequence.0 { 1 } else { low.midpoint(high) };
            let event = self.event(&now.aggregate_id, Sequence(middle)).await?;
            if event.position <= self.fork {
                low = middle;
                found = Some(event);
            } else {
                high = middle;
            }
        }
        Ok(found.map(|event| StreamSummary {
            head: event.head(),
            position: event.position,
            recorded_at: event.recorded_at,
            ..now
        }))
    }

    async fn event(&self, id: &AggregateId, only: Sequence) -> Result<RecordedEvent, StoreError> {
        let range = StreamRange { from: only, to: only, direction: Direction::Forward, limit: NonZeroU32::MIN };
        let events = self.main.read_stream(id, range).await?;
        events
            .into_iter()
            .next()
            .ok_or_else(|| StoreError::Corrupt { reason: format!("event {only} of {id} is not there") })
    }

    async fn parts(&self, id: &AggregateId, range: StreamRange) -> Result<Parts, StoreError> {
        let end = self.base(id).await?.map_or(Sequence::ZERO, |base| base.head.sequence);
        let from = range.from.max(Sequence(1));
        Ok(Parts {
            base: Some((from, range.to.min(end))).filter(|(from, to)| from <= to),
            own: Some((from.max(end.next()), range.to)).filter(|(from, to)| from <= to),
        })
    }

    async fn stream_part(&self, id: &AggregateId, range: StreamRange) -> Result<Vec<RecordedEvent>, StoreError> {
        let parts = self.parts(id, range).await?;
        let order = match range.direction {
            Direction::Forward => [(false, parts.base), (true, parts.own)],
            Direction::Backward => [(true, parts.own), (false, parts.base)],
        };
        let mut events: Vec<RecordedEvent> = Vec::new();
        for (is_own, part) in order {
            let read = u32::try_from(events.len()).unwrap_or(u32::MAX);
            let (Some((from, to)), Some(limit)) = (part, NonZeroU32::new(range.limit.get().saturating_sub(read)))
            else {
                continue;
            };
            let range = StreamRange { from, to, limit, ..range };
            let more = match is_own {
                true => self.own.read_stream_on(self.id, id, range).await?,
                false => self.main.read_stream(id, range).await?,
            };
            events.extend(more);
        }
        Ok(events)
    }

    async fn page(&self, after: Position, filter: &EventFilter, limit: NonZeroU32) -> Result<LogPage, StoreError> {
        if after >= self.fork {
            return self.own.read_all_on(self.id, after, filter, limit).await;
        }
        let mut page = self.main.read_all(after, filter, limit).await?;
        page.events.retain(|event| event.position <= self.fork);
        page.examined = page.examined.min(self.fork);
        Ok(page)
    }

    /// Streams as they are on the branch: those of the log as of the fork, and those with own events, merged in order of id.
    async fn merged_streams(
        &self,
        kind: Option<&AggregateType>,
        after: Option<&AggregateId>,
        limit: NonZeroU32,
    ) -> Result<Vec<StreamSummary>, StoreError> {
        let own = self.own.streams_on(self.id, kind, after, limit).await?;
        let mut merged: std::collections::BTreeMap<AggregateId, StreamSummary> =
            self.base_streams(kind, after, limit).await?.into_iter().map(|it| (it.aggregate_id.clone(), it)).collect();
        for own in own {
            let base = self.base(&own.aggregate_id).await?;
            merged.insert(own.aggregate_id.clone(), continued(own, base.as_ref()));
        }
        Ok(merged.into_values().take(limit.get() as usize).collect())
    }

    async fn base_streams(
        &self,
        kind: Option<&AggregateType>,
        after: Option<&AggregateId>,
        limit: NonZeroU32,
    ) -> Result<Vec<StreamSummary>, StoreError> {
        let mut found: Vec<StreamSummary> = Vec::new();
        let mut after = after.cloned();
        // Those that began after the fork are passed over, page by page.
        while found.len() < limit.get() as usize {
            let page = self.main.list_streams(kind, after.as_ref(), limit).await?;
            after = page.last().map(|last| last.aggregate_id.clone());
            let is_last = page.len() < limit.get() as usize;
            for now in page {
                found.extend(self.at_fork(now).await?);
            }
            if is_last {
                break;
            }
        }
        found.truncate(limit.get() as usize);
        Ok(found)
    }

    async fn events_by_id(&self, ids: &[EventId]) -> Result<Vec<RecordedEvent>, StoreError> {
        let mut events = self.main.find_events(ids).await?;
        events.retain(|event| event.position <= self.fork);
        events.extend(self.own.find_events_on(self.id, ids).await?);
        Ok(events)
    }

    /// Which commands were recorded before the fork already: the branch has their events.
    async fn known_before(&self, batch: &AppendBatch) -> Result<Vec<Option<UnitOutcome>>, StoreError> {
        let ids: Vec<EventId> =
            batch.units.iter().flat_map(|unit| &unit.commands).flat_map(|it| it.event_ids.clone()).collect();
        let mut found = if ids.is_empty() { Vec::new() } else { self.main.find_events(&ids).await? };
        found.retain(|event| event.position <= self.fork);
        let is_known = |id: &EventId| found.iter().any(|event| event.event_id == *id);
        let known = batch.units.iter().map(|unit| {
            let commands =
                unit.commands.iter().enumerate().filter(|(_, command)| command.event_ids.iter().any(is_known));
            let commands: Vec<usize> = commands.map(|(index, _)| index).collect();
            (!commands.is_empty()).then_some(UnitOutcome::Known { commands })
        });
        Ok(known.collect())
    }

    async fn append_since(&self, batch: AppendBatch) -> Result<Vec<UnitOutcome>, StoreError> {
        let known = self.known_before(&batch).await?;
        let (mut bases, mut units) = (HashMap::new(), Vec::new());
        for (unit, known) in batch.units.into_iter().zip(&known) {
            if known.is_some() {
                continue;
            }
            for claim in &unit.streams {
                if let Some(base) = self.base(&claim.aggregate_id).await? {
                    bases.insert(claim.aggregate_id.clone(), base.head);
                }
            }
            units.push(unit);
        }
        let mut outcomes = match units.is_empty() {
            true => Vec::new(),
            false => self.own.append_on(self.id, BranchAppend { batch: AppendBatch { units }, bases }).await?,
        }
        .into_iter();
        let missing = || StoreError::Corrupt { reason: "an append to a branch was not answered whole".to_owned() };
        known.into_iter().map(|known| known.or_else(|| outcomes.next()).ok_or_else(missing)).collect()
    }
}

impl EventStore for BranchLog {
    fn append(&self, batch: AppendBatch) -> BoxFuture<'_, Result<Vec<UnitOutcome>, StoreError>> {
        self.append_since(batch).boxed()
    }

    fn read_stream<'a>(
        &'a self,
        id: &'a AggregateId,
        range: StreamRange,
    ) -> BoxFuture<'a, Result<Vec<RecordedEvent>, StoreError>> {
        self.stream_part(id, range).boxed()
    }

    fn read_all<'a>(
        &'a self,
        after: Position,
        filter: &'a EventFilter,
        limit: NonZeroU32,
    ) -> BoxFuture<'a, Result<LogPage, StoreError>> {
        let after = if after == Position::ZERO { self.begins_after } else { after };
        self.page(after, filter, limit).boxed()
    }

    fn head(&self) -> BoxFuture<'_, Result<Position, StoreError>> {
        async move { Ok(self.own.head_on(self.id).await?.unwrap_or(self.fork)) }.boxed()
    }

    fn stream<'a>(&'a self, id: &'a AggregateId) -> BoxFuture<'a, Result<Option<StreamSummary>, StoreError>> {
        async move {
            let base = self.base(id).await?;
            Ok(match self.own.stream_on(self.id, id).await? {
                Some(own) => Some(continued(own, base.as_ref())),
                None => base,
            })
        }
        .boxed()
    }

    fn list_streams<'a>(
        &'a self,
        aggregate_type: Option<&'a AggregateType>,
        after: Option<&'a AggregateId>,
        limit: NonZeroU32,
    ) -> BoxFuture<'a, Result<Vec<StreamSummary>, StoreError>> {
        self.merged_streams(aggregate_type, after, limit).boxed()
    }

    fn find_events<'a>(&'a self, ids: &'a [EventId]) -> BoxFuture<'a, Result<Vec<RecordedEvent>, StoreError>> {
        self.events_by_id(ids).boxed()
    }

    fn find_key<'a>(
        &'a self,
        principal: &'a str,
        key: &'a str,
    ) -> BoxFuture<'a, Result<Option<KeyRecord>, StoreError>> {
        self.own.find_key_on(self.id, principal, key)
    }

    fn sweep_keys(&self, before: DateTime<Utc>, limit: NonZeroU32) -> BoxFuture<'_, Result<u64, StoreError>> {
        self.own.sweep_keys_on(self.id, before, limit)
    }
}
