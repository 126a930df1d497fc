//! What operators are told of projections.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    id::{AggregateId, EventType},
    ports::StoreError,
    version::Position,
};

/// How a projection stands.
#[derive(Debug, Clone, PartialEq)]
pub struct ProjectionReport {
    /// Its name.
    pub name: String,
    /// In one word.
    pub status: ProjectionStatus,
    /// Version of the code that wrote the served rows.
    pub version: u64,
    /// What the served rows have applied.
    pub checkpoint: Position,
    /// The log's last event.
    pub head: Position,
    /// Positions between the two.
    pub lag_events: u64,
    /// Age of the oldest event not yet applied; 0 when there is none.
    pub lag_seconds: f64,
    /// What stopped it, or the first event that is parked, or the last trouble of this process with it.
    pub last_error: Option<ProjectionFailure>,
    /// Events parked and not skipped.
    pub parked: u64,
    /// The rebuild under way.
    pub rebuild: Option<RebuildProgress>,
    /// An operator has paused it.
    pub is_paused: bool,
    /// Who holds its lease.
    pub owner: Option<Uuid>,
    /// Whether that is this process.
    pub is_owned_here: bool,
    /// Whether rows of before the last swap are kept.
    pub can_roll_back: bool,
}

/// Something that went wrong with a projection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProjectionFailure {
    /// Why.
    pub reason: String,
    /// At which event.
    pub position: Option<Position>,
    /// Of which stream.
    pub aggregate_id: Option<AggregateId>,
    /// Of which type.
    pub event_type: Option<EventType>,
    /// When.
    pub at: DateTime<Utc>,
}

/// How far a rebuild is, in positions of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct RebuildProgress {
    /// Its operation.
    pub operation: Uuid,
    /// What the new rows have applied.
    pub done: u64,
    /// The log's last event.
    pub total: u64,
}

/// How a projection stands, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProjectionStatus {
    /// It follows the log closely.
    Live,
    /// It has many events, or old ones, to apply.
    CatchingUp,
    /// New rows are built beside the served ones.
    Rebuilding,
    /// An operator has paused it.
    Paused,
    /// Earlier rows are served again, until a rebuild replaces them.
    RolledBack,
    /// It stopped by itself; the report says why and what to do.
    Stopped,
    /// Another version of it is or will be served, and this process stands by.
    Outdated,
    /// No process moves it.
    Unowned,
}

/// A projection's health as this process knows it, without asking anybody.
#[derive(Debug, Clone, PartialEq)]
pub struct ProjectionHealth {
    /// The projection.
    pub name: String,
    /// As last seen; [`ProjectionStatus::Unowned`] before it was seen.
    pub status: ProjectionStatus,
    /// How often its actor failed here and was started again.
    pub restarts: u64,
    /// Age of the oldest event not yet applied, in seconds, as last seen.
    pub lag_seconds: f64,
    /// Why it stopped, else the last trouble of this process with it, which may be over.
    pub last_error: Option<ProjectionFailure>,
}

/// Why an operator's wish about projections was not done.
#[derive(Debug, thiserror::Error)]
pub enum ProjectionsError {
    /// No such projection.
    #[error("there is no projection {projection:?}")]
    UnknownProjection {
        /// What was asked for.
        projection: String,
        /// Known names that resemble it.
        nearest: Vec<String>,
    },
    /// No such operation.
    #[error("there is no such operation")]
    UnknownOperation,
    /// No such parked event.
    #[error("no event at position {position} is parked")]
    UnknownParked {
        /// What was asked for.
        position: Position,
    },
    /// It cannot be done now.
    #[error("{reason}")]
    Refused {
        /// Why.
        reason: String,
        /// The operation in the way.
        operation: Option<Uuid>,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}
