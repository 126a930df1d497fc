//! What the past looks like: states, what changed between two of them, and what happened in a stretch of time.

use chrono::{DateTime, Utc};
use event_sourcing_actors::{
    AggregateId, AggregateType, Position, Sequence,
    difference::Change,
    history::{Difference, Resolved, StateAsOf, StateAt, Stretch},
    ports::StoreError,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::RawValue;

use super::{Event, events, microseconds, state::AggregateState};

/// A stream's state at one of its events.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct State {
    /// The stream.
    pub aggregate_id: AggregateId,
    /// Its type.
    pub aggregate_type: AggregateType,
    /// The last event folded in; 0 before the first.
    pub version: Sequence,
    /// That event's position; `null` before the first.
    pub position: Option<Position>,
    /// That event's instant, in microseconds with `Z`.
    #[serde(serialize_with = "optional_microseconds")]
    pub recorded_at: Option<DateTime<Utc>>,
    /// The state; `null` before the first event and for a generic stream.
    #[schemars(with = "AggregateState")]
    pub state: Box<RawValue>,
    /// The last position of the log that counts at the point asked for; by it, the same comes back for ever. Absent when
    /// no point was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub as_of_position: Option<Position>,
    /// Whether the point itself means the same for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settled: Option<bool>,
}

impl State {
    /// The state of a stream that has events.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when the state is no JSON.
    pub fn new(
        aggregate_id: AggregateId,
        aggregate_type: AggregateType,
        state: Option<&StateAt>,
        as_of: Option<Resolved>,
    ) -> Result<Self, StoreError> {
        Ok(Self {
            aggregate_id,
            aggregate_type,
            version: state.map_or(Sequence::ZERO, |state| state.version),
            position: state.map(|state| state.position),
            recorded_at: state.map(|state| state.recorded_at),
            state: raw_state(state)?,
            as_of_position: as_of.map(|resolved| resolved.position),
            settled: as_of.map(|resolved| resolved.settled),
        })
    }

    /// The state as of a point of the past.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when the state is no JSON.
    pub fn as_of(aggregate_id: AggregateId, found: StateAsOf) -> Result<Self, StoreError> {
        Self::new(aggregate_id, found.aggregate_type, found.state.as_ref(), Some(found.resolved))
    }
}

/// What changed in a stream's state between two sequences.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Changes {
    /// The stream.
    pub aggregate_id: AggregateId,
    /// Its type.
    pub aggregate_type: AggregateType,
    /// The first sequence, or the head if that comes first.
    pub from_sequence: Sequence,
    /// The second one, or the head.
    pub to_sequence: Sequence,
    /// The paths that differ.
    pub changes: Vec<Change>,
}

impl Changes {
    /// What the history answered.
    #[must_use]
    pub fn new(aggregate_id: AggregateId, found: Difference) -> Self {
        Self {
            aggregate_id,
            aggregate_type: found.aggregate_type,
            from_sequence: found.from,
            to_sequence: found.to,
            changes: found.changes,
        }
    }
}

/// What happened to a stream in a stretch of time.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Timespan {
    /// The stream.
    pub aggregate_id: AggregateId,
    /// Its type.
    pub aggregate_type: AggregateType,
    /// A page of the events.
    pub events: Vec<Event>,
    /// The sequence where the next page starts; `null` past the end.
    pub next_cursor: Option<Sequence>,
    /// The state at the beginning.
    #[schemars(with = "AggregateState")]
    pub state_at_from: Box<RawValue>,
    /// The state at the end.
    #[schemars(with = "AggregateState")]
    pub state_at_to: Box<RawValue>,
    /// The last position recorded at or before the beginning.
    pub from_position: Position,
    /// The last position recorded at or before the end.
    pub to_position: Position,
    /// Whether the answer is the same for ever.
    pub settled: bool,
}

impl Timespan {
    /// What the history answered.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when a state or an event is no JSON.
    pub fn new(aggregate_id: AggregateId, found: Stretch) -> Result<Self, StoreError> {
        Ok(Self {
            aggregate_id,
            events: events(&found.events)?,
            next_cursor: found.next_cursor,
            state_at_from: raw_state(found.from.state.as_ref())?,
            state_at_to: raw_state(found.to.state.as_ref())?,
            from_position: found.from.resolved.position,
            to_position: found.to.resolved.position,
            settled: found.from.resolved.settled && found.to.resolved.settled,
            aggregate_type: found.to.aggregate_type,
        })
    }
}

fn raw_state(state: Option<&StateAt>) -> Result<Box<RawValue>, StoreError> {
    let Some(state) = state else { return Ok(RawValue::NULL.to_owned()) };
    let unreadable = |error| StoreError::Corrupt { reason: format!("the state of {}: {error}", state.aggregate_id) };
    serde_json::from_slice(&state.state).map_err(unreadable)
}

fn optional_microseconds<S: Serializer>(instant: &Option<DateTime<Utc>>, serializer: S) -> Result<S::Ok, S::Error> {
    match instant {
        Some(instant) => microseconds(instant, serializer),
        None => serializer.serialize_none(),
    }
}
