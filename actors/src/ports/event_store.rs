//! The event store port: the log, and what is decided in the same transaction as an append.

use std::{
    collections::{HashMap, HashSet},
    fmt::Debug,
    num::NonZeroU32,
    sync::Arc,
};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures_util::future::BoxFuture;

use crate::{
    envelope::{EventFilter, NewEvent, RecordedEvent, StreamHead},
    id::{AggregateId, AggregateType, CommandId, EventId},
    version::{Position, Sequence},
};

/// Several independent appends, made in one transaction.
#[derive(Debug, Clone, Default)]
pub struct AppendBatch {
    /// Each commits whole or not at all, whatever becomes of the others. No id or key occurs in two of them, and no
    /// stream is claimed by two of them.
    pub units: Vec<AppendUnit>,
}

impl AppendBatch {
    /// Per unit, what is wrong with it by itself, before any store is asked. Every store answers such a unit with
    /// [`UnitOutcome::Failed`] and stores the others.
    ///
    /// Tested: no stream, event id or key occurs in two units or twice in one; no key holds U+0000; every event's
    /// stream is claimed; the events of each stream follow its claimed head without a hole.
    #[must_use]
    pub fn malformed(&self) -> Vec<Option<String>> {
        let mut seen = Names::default();
        self.units.iter().map(|unit| unit.hole().or_else(|| seen.admit(unit))).collect()
    }
}

/// What the units of a batch before this one have used.
#[derive(Default)]
struct Names<'a> {
    streams: HashSet<&'a AggregateId>,
    ids: HashSet<EventId>,
    keys: HashSet<(&'a str, &'a str)>,
}

impl<'a> Names<'a> {
    fn admit(&mut self, unit: &'a AppendUnit) -> Option<String> {
        if let Some(claim) = unit.streams.iter().find(|claim| !self.streams.insert(&claim.aggregate_id)) {
            return Some(format!("stream {:?} is claimed twice in one batch", claim.aggregate_id));
        }
        // A command names its own events' ids, so these may occur twice: once as a probe, once as an event.
        let probes: HashSet<EventId> = unit.commands.iter().flat_map(|command| &command.event_ids).copied().collect();
        let mut events = HashSet::with_capacity(unit.events.len());
        let twice = unit.events.iter().map(|event| event.event_id).find(|id| !events.insert(*id));
        if let Some(id) = twice.or_else(|| events.union(&probes).copied().find(|id| self.ids.contains(id))) {
            return Some(format!("event id {id} occurs twice in one batch"));
        }
        self.ids.extend(events.into_iter().chain(probes));
        let keys = unit.commands.iter().filter_map(|command| command.key.as_ref());
        for record in keys {
            if record.principal.contains('\0') || record.key.contains('\0') {
                return Some("a key holds U+0000, which not every database can store".to_owned());
            }
            if !self.keys.insert((&record.principal, &record.key)) {
                return Some(format!("key {:?} occurs twice in one batch", record.key));
            }
        }
        None
    }
}

/// What stands or falls together: the consecutive commands of one stream, or one act over several streams.
#[derive(Debug, Clone, Default)]
pub struct AppendUnit {
    /// Each stream, with the head everything here was decided on.
    pub streams: Vec<StreamClaim>,
    /// The commands, also those without events: their claim is confirmed.
    pub commands: Vec<CommandProbe>,
    /// The events, in order; of each stream they follow the claimed head without a hole.
    pub events: Vec<NewEvent>,
}

impl AppendUnit {
    /// Why its events do not follow its claims.
    fn hole(&self) -> Option<String> {
        let mut heads: HashMap<&AggregateId, Sequence> =
            self.streams.iter().map(|claim| (&claim.aggregate_id, claim.head.sequence)).collect();
        for event in &self.events {
            let Some(head) = heads.get_mut(&event.aggregate_id) else {
                return Some(format!("stream {:?} has events but no claim", event.aggregate_id));
            };
            *head = head.next();
            if event.sequence != *head {
                return Some(format!("stream {:?}: sequence {} instead of {head}", event.aggregate_id, event.sequence));
            }
        }
        None
    }
}

/// A stream and the head its writer knows.
#[derive(Debug, Clone)]
pub struct StreamClaim {
    /// The stream.
    pub aggregate_id: AggregateId,
    /// The last event the writer knows.
    pub head: StreamHead,
    /// How often this unit has lost already; from 2 on a store shared by several processes writes it a short turn.
    pub losses: u32,
}

/// How a store recognises a command it has seen.
#[derive(Debug, Clone, Default)]
pub struct CommandProbe {
    /// Ids of its events: the first is enough where ids are derived from the command's id; all where a client chose them.
    pub event_ids: Vec<EventId>,
    /// Its idempotency key.
    pub key: Option<KeyRecord>,
    /// What was asked for, where that is kept: on branches. Stores of the log leave it aside.
    pub record: Option<CommandRecord>,
}

/// A command as it was asked for, so that it can be decided again on another timeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandRecord {
    /// Its id.
    pub command_id: CommandId,
    /// Whom it was for.
    pub aggregate_id: AggregateId,
    /// Its type.
    pub command_type: Arc<str>,
    /// Everything else about it; opaque to the store.
    pub content: Bytes,
}

/// An idempotency key with what it stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRecord {
    /// Whose key.
    pub principal: Arc<str>,
    /// The key.
    pub key: Arc<str>,
    /// SHA-256 of the request.
    pub fingerprint: [u8; 32],
    /// The answer to give again; opaque to the store.
    pub outcome: Bytes,
}

/// What became of one unit.
#[derive(Debug)]
pub enum UnitOutcome {
    /// Every stream stood at its claimed head; all events are durable.
    Committed(Committed),
    /// Some commands (by index in `commands`) were recorded before; nothing of the unit was stored.
    Known {
        /// Indices into [`AppendUnit::commands`], ascending.
        commands: Vec<usize>,
    },
    /// A stream has moved on, or its last event is another; nothing was stored.
    Stale,
    /// Another writer that lost twice has the turn on a stream; nothing was stored.
    Wait,
    /// The store refused this unit alone; nothing of it was stored.
    Failed(StoreError),
}

/// Where a unit's events went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Committed {
    /// Position of the first event; the others follow without a hole. Without events: the log's head.
    pub first_position: Position,
    /// The instant of all of them, in microseconds.
    pub recorded_at: DateTime<Utc>,
}

/// A store's failure, told apart by what the caller can do.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// Not reachable, or it gave no answer: after an append the outcome is unknown. Send the same batch again.
    #[error("the event store is not available: {reason}")]
    Unavailable {
        /// What the driver said.
        reason: String,
    },
    /// A flush failed: what the store shows may not survive a power cut, so nothing it says can be acknowledged any
    /// more. The process should end; what was flushed is found again at its next start.
    #[error("the event store could not flush: {reason}")]
    DurabilityLost {
        /// What the driver said.
        reason: String,
    },
    /// The store refused the statement; certainly nothing was stored.
    #[error("the event store refused: {reason}")]
    Refused {
        /// What the driver said.
        reason: String,
    },
    /// The log takes no appends until an operator decides; nothing was stored.
    #[error("the log is read-only: {reason}")]
    ReadOnly {
        /// Why, and what to do.
        reason: String,
    },
    /// The branch takes no more events, or is gone; nothing was stored.
    #[error("{reason}")]
    Closed {
        /// Why, and what to do.
        reason: String,
    },
    /// Stored rows are not what this program writes.
    #[error("the event store holds something unreadable: {reason}")]
    Corrupt {
        /// Which row, and why.
        reason: String,
    },
}

/// Order of reading a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Direction {
    /// Oldest first.
    #[default]
    Forward,
    /// Newest first.
    Backward,
}

/// Part of a stream; both ends inclusive.
#[derive(Debug, Clone, Copy)]
pub struct StreamRange {
    /// From this sequence on; 0 and 1 mean the first event.
    pub from: Sequence,
    /// Up to this sequence; `Sequence(u64::MAX)` means the head.
    pub to: Sequence,
    /// Which end first.
    pub direction: Direction,
    /// At most so many events.
    pub limit: NonZeroU32,
}

/// A page of the log.
#[derive(Debug, Clone)]
pub struct LogPage {
    /// What passed the filter, in order of position.
    pub events: Vec<RecordedEvent>,
    /// The last position examined: the next page starts after it. Equal to `after` only at the end of the log.
    pub examined: Position,
}

/// A stream as lists show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamSummary {
    /// The stream.
    pub aggregate_id: AggregateId,
    /// Its type.
    pub aggregate_type: AggregateType,
    /// Its last event.
    pub head: StreamHead,
    /// That event's position.
    pub position: Position,
    /// That event's instant.
    pub recorded_at: DateTime<Utc>,
}

/// The log of all events. Every method may be called from many tasks at once.
pub trait EventStore: Debug + Send + Sync + 'static {
    /// Makes several independent appends in one transaction; one outcome each, in order.
    ///
    /// One lock, taken first, orders all writers of all processes; then per unit: is a command known (ids and keys),
    /// is each stream's head the claimed one, is it nobody else's turn. What passes is stored: positions follow the
    /// log's head without holes in the order of the batch, `recorded_at` is the clock but never before the last
    /// event's. On return everything committed is durable (flushed). Keys are recorded for units that commit, also
    /// those without events.
    ///
    /// Not cancellation safe: run it in a task that nobody drops.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]: the outcome of the whole batch is unknown; the same batch may be sent again.
    /// [`StoreError::Refused`]: the whole batch certainly had no effect; the caller may send its halves.
    fn append(&self, batch: AppendBatch) -> BoxFuture<'_, Result<Vec<UnitOutcome>, StoreError>>;

    /// Reads part of a stream; empty if there is none.
    ///
    /// # Errors
    /// [`StoreError`].
    fn read_stream<'a>(
        &'a self,
        id: &'a AggregateId,
        range: StreamRange,
    ) -> BoxFuture<'a, Result<Vec<RecordedEvent>, StoreError>>;

    /// Reads the log after a position. A bounded number of positions is examined per call, so a page may hold fewer
    /// events than `limit`, even none, before the end: go on while `examined` rises.
    ///
    /// # Errors
    /// [`StoreError`].
    fn read_all<'a>(
        &'a self,
        after: Position,
        filter: &'a EventFilter,
        limit: NonZeroU32,
    ) -> BoxFuture<'a, Result<LogPage, StoreError>>;

    /// Position of the last event; 0 = none.
    ///
    /// # Errors
    /// [`StoreError::ReadOnly`] when another log lies there by now than the one that was opened; [`StoreError`].
    fn head(&self) -> BoxFuture<'_, Result<Position, StoreError>>;

    /// One stream's type and head, if it has events.
    ///
    /// # Errors
    /// [`StoreError`].
    fn stream<'a>(&'a self, id: &'a AggregateId) -> BoxFuture<'a, Result<Option<StreamSummary>, StoreError>>;

    /// These streams, in the order asked; `None` for those without events.
    ///
    /// # Errors
    /// [`StoreError`].
    fn find_streams<'a>(
        &'a self,
        ids: &'a [AggregateId],
    ) -> BoxFuture<'a, Result<Vec<Option<StreamSummary>>, StoreError>> {
        Box::pin(async move {
            let mut found = Vec::with_capacity(ids.len());
            for id in ids {
                found.push(self.stream(id).await?);
            }
            Ok(found)
        })
    }

    /// Streams in order of id, after one, of a type or of all.
    ///
    /// # Errors
    /// [`StoreError`].
    fn list_streams<'a>(
        &'a self,
        aggregate_type: Option<&'a AggregateType>,
        after: Option<&'a AggregateId>,
        limit: NonZeroU32,
    ) -> BoxFuture<'a, Result<Vec<StreamSummary>, StoreError>>;

    /// The events with these ids, in order of position; ids that nobody used are left out.
    ///
    /// # Errors
    /// [`StoreError`].
    fn find_events<'a>(&'a self, ids: &'a [EventId]) -> BoxFuture<'a, Result<Vec<RecordedEvent>, StoreError>>;

    /// What is recorded under an idempotency key.
    ///
    /// # Errors
    /// [`StoreError`].
    fn find_key<'a>(&'a self, principal: &'a str, key: &'a str)
    -> BoxFuture<'a, Result<Option<KeyRecord>, StoreError>>;

    /// Forgets up to `limit` keys recorded before an instant; returns how many.
    ///
    /// # Errors
    /// [`StoreError`].
    fn sweep_keys(&self, before: DateTime<Utc>, limit: NonZeroU32) -> BoxFuture<'_, Result<u64, StoreError>>;
}
