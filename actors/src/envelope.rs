//! What the log holds: [`NewEvent`] before, [`RecordedEvent`] after an append; [`Metadata`], [`Snapshot`], filters.

use std::sync::Arc;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    digest::{ChainDigest, Checksum, Covered},
    id::{AggregateId, AggregateType, CommandId, EventId, EventType},
    version::{Position, Sequence},
};

/// Who caused an event and in which context; stored beside the payload as JSON, byte for byte.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Metadata {
    /// The command that decided the event.
    pub command_id: CommandId,
    /// Shared by everything that one request set off.
    pub correlation_id: Arc<str>,
    /// What directly caused the command: an event or a request.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub causation_id: Option<Arc<str>>,
    /// W3C trace context of the request.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub traceparent: Option<Arc<str>>,
    /// The principal in whose name the command ran.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub actor: Option<Arc<str>>,
}

/// The last event of a stream as an append names it: number *and* content, so a replaced event is noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamHead {
    /// Sequence of the last event; 0 = none.
    pub sequence: Sequence,
    /// Chain digest at that event.
    pub chain: ChainDigest,
}

impl StreamHead {
    /// The head of a stream without events.
    pub const EMPTY: Self = Self { sequence: Sequence::ZERO, chain: ChainDigest::EMPTY };
}

/// An event ready to be stored: everything but its position and instant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEvent {
    /// The stream.
    pub aggregate_id: AggregateId,
    /// Its type.
    pub aggregate_type: AggregateType,
    /// Place in the stream.
    pub sequence: Sequence,
    /// The event's own id.
    pub event_id: EventId,
    /// The event's type.
    pub event_type: EventType,
    /// Shape of the payload.
    pub schema_version: u32,
    /// Payload: JSON, stored byte for byte.
    pub data: Bytes,
    /// [`Metadata`] as JSON, stored byte for byte.
    pub metadata: Bytes,
    /// Digest of all of the above.
    pub checksum: Checksum,
    /// The stream's chain after this event.
    pub chain: ChainDigest,
}

/// What distinguishes one event of a stream from the next; the rest of a [`NewEvent`] follows from the stream.
#[derive(Debug, Clone)]
pub struct EventBody {
    /// The event's own id.
    pub event_id: EventId,
    /// The event's type.
    pub event_type: EventType,
    /// Shape of the payload.
    pub schema_version: u32,
    /// Payload: JSON.
    pub data: Bytes,
    /// Metadata: JSON.
    pub metadata: Bytes,
}

impl NewEvent {
    /// The event that follows `head` in a stream, with its digests; moves `head` onto it.
    #[must_use]
    pub fn following(head: &mut StreamHead, id: &AggregateId, kind: &AggregateType, body: EventBody) -> Self {
        let sequence = head.sequence.next();
        let checksum = Covered {
            aggregate_id: id,
            aggregate_type: kind,
            sequence,
            event_id: body.event_id,
            event_type: &body.event_type,
            schema_version: body.schema_version,
            data: &body.data,
            metadata: &body.metadata,
        }
        .checksum();
        *head = StreamHead { sequence, chain: head.chain.then(checksum) };
        Self {
            aggregate_id: id.clone(),
            aggregate_type: kind.clone(),
            sequence,
            event_id: body.event_id,
            event_type: body.event_type,
            schema_version: body.schema_version,
            data: body.data,
            metadata: body.metadata,
            checksum,
            chain: head.chain,
        }
    }
}

/// An event of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedEvent {
    /// Place in the whole log.
    pub position: Position,
    /// When it was recorded, in microseconds; never goes back along the log.
    pub recorded_at: DateTime<Utc>,
    /// Everything known before the append.
    pub event: NewEvent,
    /// The payload with its personal members opened, where it has some; never stored, and covered by no digest.
    pub opened: Option<Bytes>,
}

impl std::ops::Deref for RecordedEvent {
    type Target = NewEvent;
    fn deref(&self) -> &NewEvent {
        &self.event
    }
}

impl RecordedEvent {
    /// As a store reads it: nothing is opened.
    #[must_use]
    pub fn new(position: Position, recorded_at: DateTime<Utc>, event: NewEvent) -> Self {
        Self { position, recorded_at, event, opened: None }
    }

    /// The payload to read: with personal members opened, or tombstones where their key was destroyed. `data` of the
    /// event it derefs to is the stored one, which the checksum covers.
    #[must_use]
    pub fn payload(&self) -> &Bytes {
        self.opened.as_ref().unwrap_or(&self.event.data)
    }

    /// Whether the stored checksum is the digest of the stored fields.
    #[must_use]
    pub fn is_intact(&self) -> bool {
        let covered = Covered {
            aggregate_id: &self.aggregate_id,
            aggregate_type: &self.aggregate_type,
            sequence: self.sequence,
            event_id: self.event_id,
            event_type: &self.event_type,
            schema_version: self.schema_version,
            data: &self.data,
            metadata: &self.metadata,
        };
        covered.checksum() == self.checksum
    }

    /// The head of its stream while this event was the last.
    #[must_use]
    pub fn head(&self) -> StreamHead {
        StreamHead { sequence: self.sequence, chain: self.chain }
    }

    /// The metadata, when it is what this library writes.
    #[must_use]
    pub fn parsed_metadata(&self) -> Option<Metadata> {
        serde_json::from_slice(&self.metadata).ok()
    }
}

/// Folded state of a stream at a version; a cache, never needed for correctness.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The stream.
    pub aggregate_id: AggregateId,
    /// Its type.
    pub aggregate_type: AggregateType,
    /// The last event folded in, by number and content.
    pub head: StreamHead,
    /// [`crate::Aggregate::STATE_VERSION`] of the code that wrote it.
    pub state_version: u16,
    /// The state as JSON.
    pub state: Bytes,
}

/// Which events of the log a reader wants; empty lists and `None` mean all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// One of these event types.
    pub event_types: Vec<EventType>,
    /// One of these aggregate types.
    pub aggregate_types: Vec<AggregateType>,
    /// With this correlation id in the metadata.
    pub correlation_id: Option<Arc<str>>,
    /// Recorded at or after.
    pub from_time: Option<DateTime<Utc>>,
    /// Recorded at or before.
    pub to_time: Option<DateTime<Utc>>,
}

impl EventFilter {
    /// Whether an event passes.
    #[must_use]
    pub fn matches(&self, event: &RecordedEvent) -> bool {
        (self.event_types.is_empty() || self.event_types.contains(&event.event_type))
            && (self.aggregate_types.is_empty() || self.aggregate_types.contains(&event.aggregate_type))
            && self.from_time.is_none_or(|from| event.recorded_at >= from)
            && self.to_time.is_none_or(|to| event.recorded_at <= to)
            && self
                .correlation_id
                .as_ref()
                .is_none_or(|wanted| event.parsed_metadata().is_some_and(|metadata| metadata.correlation_id == *wanted))
    }
}
