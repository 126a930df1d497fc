//! The JSON of the outside world: what the HTTP door answers, the command line prints, and a client reads.
//!
//! One set of structs for both sides, so that `--format json` and the HTTP answer cannot drift apart. Payloads, metadata
//! and states are passed on byte for byte.

mod access;
mod history;
mod integrity;
mod operations;
mod projections;
mod sagas;
mod settings;
mod state;

use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use event_sourcing_actors::{
    AggregateId, AggregateType, CommandId, EventId, EventType, Metadata, Position, RecordedEvent, Sequence,
    command_bus::CommandAccepted, history::StateAt, ports::StoreError,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::RawValue;

pub use crate::auth::port::AuditRecord;
pub use crate::integrity::{FirstBad, Report, StreamReport};
pub use access::{CreatedToken, Token};
pub use history::{Changes, State, Timespan};
pub use integrity::{ConsistencyProof, InclusionProof};
pub use operations::{Operation, OperationProgress};
pub use projections::{Answered, Page, Parked, Projection, ProjectionError, Rebuild, Requested, Skipped, status_name};
pub use sagas::{ListedSaga, Saga, SagaAccepted, SagaStep, SagaTimer, TimelineEvent};
pub use settings::{LogLevelChanged, LogLevelWanted, Setting};
use state::AggregateState;

/// An event of the log.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Event {
    /// Place in the whole log.
    pub position: Position,
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
    /// Payload; with personal members opened unless the stored form was asked for.
    pub data: Box<RawValue>,
    /// Command, correlation, causation, trace and actor.
    #[schemars(with = "Metadata")]
    pub metadata: Box<RawValue>,
    /// When it was recorded, in microseconds with `Z`.
    #[serde(serialize_with = "microseconds")]
    pub recorded_at: DateTime<Utc>,
    /// SHA-256 of the event as it is stored, 64 hex digits.
    pub checksum: String,
}

impl TryFrom<&RecordedEvent> for Event {
    type Error = StoreError;

    /// Fails with [`StoreError::Corrupt`] when what is stored is no JSON.
    fn try_from(event: &RecordedEvent) -> Result<Self, StoreError> {
        let unreadable = |part: &str| StoreError::Corrupt {
            reason: format!("the {part} of the event at position {} is not JSON", event.position),
        };
        Ok(Self {
            position: event.position,
            aggregate_id: event.aggregate_id.clone(),
            aggregate_type: event.aggregate_type.clone(),
            sequence: event.sequence,
            event_id: event.event_id,
            event_type: event.event_type.clone(),
            schema_version: event.schema_version,
            data: serde_json::from_slice(event.payload()).map_err(|_| unreadable("data"))?,
            metadata: serde_json::from_slice(&event.metadata).map_err(|_| unreadable("metadata"))?,
            recorded_at: event.recorded_at,
            checksum: event.checksum.to_string(),
        })
    }
}

/// All of them, or the first that cannot be read.
///
/// # Errors
/// [`StoreError::Corrupt`].
pub fn events(recorded: &[RecordedEvent]) -> Result<Vec<Event>, StoreError> {
    recorded.iter().map(Event::try_from).collect()
}

/// A page of one stream.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct StreamPage {
    /// The stream.
    pub aggregate_id: AggregateId,
    /// Its type.
    pub aggregate_type: AggregateType,
    /// Its version.
    pub version: Sequence,
    /// The events.
    pub events: Vec<Event>,
    /// The sequence where the next page starts; `null` past the end.
    pub next_cursor: Option<Sequence>,
}

/// A page of the whole log.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct LogPage {
    /// The events.
    pub events: Vec<Event>,
    /// The last position examined; the next page comes after it.
    pub next_cursor: Position,
}

/// The answer to an accepted command or append.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Accepted {
    /// The command.
    pub command_id: CommandId,
    /// Its type; [`APPEND`] for an append.
    pub command_type: String,
    /// The stream's type.
    pub aggregate_type: AggregateType,
    /// The stream.
    pub aggregate_id: AggregateId,
    /// Its version now.
    pub version: Sequence,
    /// Position of its last event; `null` in a dry run, whose events have no place in the log.
    pub position: Option<Position>,
    /// The events it led to; none if it changed nothing.
    pub events: Vec<Appended>,
    /// Whether nothing was stored.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
}

/// The command type in the answer to an append.
pub const APPEND: &str = "AppendEvents";

/// An event in an answer.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Appended {
    /// Its id.
    pub event_id: EventId,
    /// Its type.
    pub event_type: EventType,
    /// Place in the stream.
    pub sequence: Sequence,
    /// Place in the log; `null` in a dry run.
    pub position: Option<Position>,
}

impl Accepted {
    /// The answer of the bus to a command of this type.
    #[must_use]
    pub fn new(command_type: &str, accepted: &CommandAccepted, dry_run: bool) -> Self {
        let place = |position: Position| (!dry_run).then_some(position);
        let events = accepted.events.iter().map(|event| Appended {
            event_id: event.event_id,
            event_type: event.event_type.clone(),
            sequence: event.sequence,
            position: place(event.position),
        });
        Self {
            command_id: accepted.command_id,
            command_type: command_type.to_owned(),
            aggregate_type: accepted.aggregate_type.clone(),
            aggregate_id: accepted.aggregate_id.clone(),
            version: accepted.version,
            position: if accepted.events.is_empty() { Some(accepted.position) } else { place(accepted.position) },
            events: events.collect(),
            dry_run,
        }
    }
}

/// The answer to a replay.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Replayed {
    /// The stream.
    pub aggregate_id: AggregateId,
    /// Its type.
    pub aggregate_type: AggregateType,
    /// The last event folded in.
    pub version: Sequence,
    /// The state there; `null` for a generic stream.
    #[schemars(with = "AggregateState")]
    pub state: Box<RawValue>,
    /// Events folded after the snapshot.
    pub events_replayed: u64,
    /// The snapshot that was used.
    pub snapshot_sequence: Option<Sequence>,
    /// How long it took.
    pub duration_ms: f64,
    /// A page of the events asked for.
    pub events: Vec<Event>,
}

impl Replayed {
    /// What the history answered, and how long it took.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when an event is no JSON.
    pub fn new(state: &StateAt, recorded: &[RecordedEvent], time: Duration) -> Result<Self, StoreError> {
        let unreadable = |_| StoreError::Corrupt { reason: format!("the state of {} is not JSON", state.aggregate_id) };
        Ok(Self {
            aggregate_id: state.aggregate_id.clone(),
            aggregate_type: state.aggregate_type.clone(),
            version: state.version,
            state: serde_json::from_slice(&state.state).map_err(unreadable)?,
            events_replayed: state.events_replayed,
            snapshot_sequence: state.snapshot_sequence,
            duration_ms: milliseconds(time),
            events: events(recorded)?,
        })
    }

    /// The stream before its first event.
    #[must_use]
    pub fn nothing(aggregate_id: AggregateId, aggregate_type: AggregateType, time: Duration) -> Self {
        Self {
            aggregate_id,
            aggregate_type,
            version: Sequence::ZERO,
            state: RawValue::NULL.to_owned(),
            events_replayed: 0,
            snapshot_sequence: None,
            duration_ms: milliseconds(time),
            events: Vec::new(),
        }
    }
}

/// A refusal: `application/problem+json` (RFC 9457).
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Problem {
    /// In few words.
    pub title: String,
    /// In a sentence.
    pub detail: String,
    /// Stable name.
    pub code: String,
    /// The domain's own name of its refusal.
    pub rejection: Option<String>,
    /// What is wrong where.
    pub errors: Vec<ProblemMember>,
}

/// One wrong member of a request.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ProblemMember {
    /// JSON pointer.
    pub pointer: String,
    /// What is wrong.
    pub detail: String,
}

/// To the microsecond.
fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

fn maybe_microseconds<S: Serializer>(instant: &Option<DateTime<Utc>>, serializer: S) -> Result<S::Ok, S::Error> {
    match instant {
        Some(instant) => microseconds(instant, serializer),
        None => serializer.serialize_none(),
    }
}

fn microseconds<S: Serializer>(instant: &DateTime<Utc>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&instant.to_rfc3339_opts(SecondsFormat::Micros, true))
}
