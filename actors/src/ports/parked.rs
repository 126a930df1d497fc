//! Parked events: what a projection could not apply, and what waits behind it.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    id::{AggregateId, EventType},
    version::Position,
};

/// An event that could not be applied, or that comes after one of the same key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewParked {
    /// The event.
    pub position: Position,
    /// What is parked together, by default the stream.
    pub key: String,
    /// The event's stream.
    pub aggregate_id: AggregateId,
    /// The event's type.
    pub event_type: EventType,
    /// Why; of an event that only waits behind another: which one.
    pub error: String,
    /// How often it was tried; 0 = it only waits behind another.
    pub attempts: u32,
}

/// A parked event on record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParkedEvent {
    /// What is parked.
    pub event: NewParked,
    /// When it was parked first.
    pub parked_at: DateTime<Utc>,
    /// What an operator wants done with it, and the operation that tells the outcome.
    pub request: Option<(ParkedRequest, Uuid)>,
    /// When and by whom it was skipped.
    pub skipped: Option<(DateTime<Utc>, String)>,
}

/// Which parked events a reader wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParkedFilter<'a> {
    /// All on record, skipped ones included.
    All,
    /// Those not skipped.
    Waiting,
    /// Those not skipped of one key.
    Key(&'a str),
    /// Those an operator wants retried or skipped.
    Requested,
}

/// What an operator may want of a parked event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ParkedRequest {
    /// Apply it, and what waits behind it, again.
    Retry,
    /// Leave it out, and apply what waits behind it. A rebuild tries it again, and leaves it out again if it still fails.
    Skip,
}
