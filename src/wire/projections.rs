//! Read models as the outside sees them: answered queries, and how each projection stands.

use chrono::{DateTime, Utc};
use event_sourcing_actors::{
    AggregateId, EventType, Position,
    ports::{ParkedEvent, ParkedRequest, StoreError},
    projections::{ProjectionFailure, ProjectionReport, ProjectionStatus},
    query_bus::QueryAnswer,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::microseconds;

/// A list: one page of it.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "{T}Page")]
pub struct Page<T, C> {
    /// The page.
    pub items: Vec<T>,
    /// Where the next page starts, as the parameter `cursor`; `null` past the end.
    pub next_cursor: Option<C>,
}

impl<T, C> Page<T, C> {
    /// A page of up to `limit` items; `cursor` names the last one. A full page may have another behind it.
    pub fn new(items: Vec<T>, limit: u32, cursor: impl FnOnce(&T) -> C) -> Self {
        let next_cursor = items.last().filter(|_| items.len() >= limit as usize).map(cursor);
        Self { items, next_cursor }
    }

    /// The whole list.
    #[must_use]
    pub fn whole(items: Vec<T>) -> Self {
        Self { items, next_cursor: None }
    }
}

/// An answered query.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Answered {
    /// As asked.
    pub query_type: String,
    /// The projection that answered.
    pub projection: String,
    /// The row, or `{"items":[…],"next_cursor"}`.
    pub data: Box<RawValue>,
    /// The answer rests on every event up to here.
    pub position: Position,
    /// The head of the log when the query came.
    pub head_position: Position,
    /// Whether `position` is below the one asked for.
    pub stale: bool,
    /// Whether it came from the cache.
    pub cached: bool,
}

impl TryFrom<QueryAnswer> for Answered {
    type Error = StoreError;

    /// Fails with [`StoreError::Corrupt`] when a row is no JSON.
    fn try_from(answer: QueryAnswer) -> Result<Self, StoreError> {
        let data = serde_json::from_slice(&answer.data).map_err(|_| StoreError::Corrupt {
            reason: format!("the rows {} read in {} are not JSON", answer.query_type, answer.projection),
        })?;
        Ok(Self {
            query_type: answer.query_type.to_owned(),
            projection: (*answer.projection).to_owned(),
            data,
            position: answer.position,
            head_position: answer.head_position,
            stale: answer.stale,
            cached: answer.cached,
        })
    }
}

/// How a projection stands.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Projection {
    /// Its name.
    pub name: String,
    /// `live`, `catching_up`, `rebuilding`, `paused`, `rolled_back`, `stopped`, `outdated` or `unowned`.
    pub status: String,
    /// Version of the code that made the served rows.
    pub version: u64,
    /// The last position they have applied.
    pub checkpoint: Position,
    /// The head of the log.
    pub head: Position,
    /// Positions between the two.
    pub lag_events: u64,
    /// Age of the oldest event not applied yet; 0 when there is none.
    pub lag_seconds: f64,
    /// What went wrong last, with its event.
    pub last_error: Option<ProjectionError>,
    /// Events that wait for an operator, or behind such an event.
    pub parked: u64,
    /// The rebuild under way.
    pub rebuild: Option<Rebuild>,
    /// Whether an operator has paused it.
    pub paused: bool,
    /// The process that keeps it; new for each start of a process.
    pub owner: Option<Uuid>,
    /// Whether that is the process that answers.
    pub owned_here: bool,
    /// Whether there are rows to roll back to.
    pub can_roll_back: bool,
}

/// What went wrong with a projection.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct ProjectionError {
    /// What.
    pub reason: String,
    /// The event's position.
    pub position: Option<Position>,
    /// Its stream.
    pub aggregate_id: Option<AggregateId>,
    /// Its type.
    pub event_type: Option<EventType>,
    /// When.
    #[serde(serialize_with = "microseconds")]
    pub at: DateTime<Utc>,
}

/// A rebuild under way.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Rebuild {
    /// The operation that tells its outcome.
    pub operation_id: Uuid,
    /// Events applied.
    pub done: u64,
    /// Events to apply.
    pub total: u64,
}

impl From<ProjectionFailure> for ProjectionError {
    fn from(failure: ProjectionFailure) -> Self {
        let ProjectionFailure { reason, position, aggregate_id, event_type, at } = failure;
        Self { reason, position, aggregate_id, event_type, at }
    }
}

impl From<ProjectionReport> for Projection {
    fn from(report: ProjectionReport) -> Self {
        Self {
            name: report.name,
            status: status_name(report.status).to_owned(),
            version: report.version,
            checkpoint: report.checkpoint,
            head: report.head,
            lag_events: report.lag_events,
            // To the millisecond: more is noise.
            lag_seconds: (report.lag_seconds * 1e3).round() / 1e3,
            last_error: report.last_error.map(Into::into),
            parked: report.parked,
            rebuild: report.rebuild.map(|rebuild| Rebuild {
                operation_id: rebuild.operation,
                done: rebuild.done,
                total: rebuild.total,
            }),
            paused: report.is_paused,
            owner: report.owner,
            owned_here: report.is_owned_here,
            can_roll_back: report.can_roll_back,
        }
    }
}

/// A status as the outside reads it.
#[must_use]
pub fn status_name(status: ProjectionStatus) -> &'static str {
    match status {
        ProjectionStatus::Live => "live",
        ProjectionStatus::CatchingUp => "catching_up",
        ProjectionStatus::Rebuilding => "rebuilding",
        ProjectionStatus::Paused => "paused",
        ProjectionStatus::RolledBack => "rolled_back",
        ProjectionStatus::Stopped => "stopped",
        ProjectionStatus::Outdated => "outdated",
        ProjectionStatus::Unowned => "unowned",
    }
}

/// An event a projection could not apply, or one that waits behind such an event.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Parked {
    /// The event.
    pub position: Position,
    /// Its stream.
    pub aggregate_id: AggregateId,
    /// Its type.
    pub event_type: EventType,
    /// What is parked together, by default the stream.
    pub key: String,
    /// Why it could not be applied; `null` if it only waits.
    pub error: Option<String>,
    /// What it waits for; `null` if it failed itself.
    pub waiting_for: Option<String>,
    /// How often it was tried.
    pub attempts: u32,
    /// When it was parked first.
    #[serde(serialize_with = "microseconds")]
    pub parked_at: DateTime<Utc>,
    /// What an operator wants done with it.
    pub request: Option<Requested>,
    /// When and by whom it was left out for good.
    pub skipped: Option<Skipped>,
}

/// An operator's wish.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Requested {
    /// `retry` or `skip`.
    pub request: ParkedRequest,
    /// The operation that tells the outcome.
    pub operation_id: Uuid,
}

/// A parked event that was left out for good.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Skipped {
    /// When.
    #[serde(serialize_with = "microseconds")]
    pub at: DateTime<Utc>,
    /// By whom.
    pub by: String,
}

impl From<ParkedEvent> for Parked {
    fn from(parked: ParkedEvent) -> Self {
        let ParkedEvent { event, parked_at, request, skipped } = parked;
        // An event that was never tried only waits, and its error says for what.
        let (error, waiting_for) =
            if event.attempts == 0 { (None, Some(event.error)) } else { (Some(event.error), None) };
        Self {
            position: event.position,
            aggregate_id: event.aggregate_id,
            event_type: event.event_type,
            key: event.key,
            error,
            waiting_for,
            attempts: event.attempts,
            parked_at,
            request: request.map(|(request, operation_id)| Requested { request, operation_id }),
            skipped: skipped.map(|(at, by)| Skipped { at, by }),
        }
    }
}
