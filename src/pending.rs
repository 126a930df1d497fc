//! Stands in for the read side's handles until their branches are merged.
#![allow(missing_docs, clippy::unused_async)]

use std::num::NonZeroU32;

use chrono::{DateTime, Utc};
use event_sourcing_actors::{
    AggregateId, EventType, Position, Runtime,
    ports::{Operation, ParkedEvent, ParkedRequest, StoreError},
    query_bus::{QueryError, QueryRequest, QueryResult},
};
use uuid::Uuid;

#[derive(Debug, Clone)]
pub struct ProjectionReport {
    pub name: String,
    pub status: ProjectionStatus,
    pub version: u64,
    pub checkpoint: Position,
    pub head: Position,
    pub lag_events: u64,
    pub lag_seconds: f64,
    pub last_error: Option<ProjectionFailure>,
    pub parked: u64,
    pub rebuild: Option<RebuildProgress>,
    pub is_paused: bool,
    pub owner: Option<Uuid>,
    pub is_owned_here: bool,
    pub can_roll_back: bool,
}
#[derive(Debug, Clone)]
pub struct ProjectionFailure {
    pub reason: String,
    pub position: Option<Position>,
    pub aggregate_id: Option<AggregateId>,
    pub event_type: Option<EventType>,
    pub at: DateTime<Utc>,
}
#[derive(Debug, Clone)]
pub struct RebuildProgress {
    pub operation: Uuid,
    pub done: u64,
    pub total: u64,
}
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProjectionStatus {
    Live,
    CatchingUp,
    Rebuilding,
    Paused,
    RolledBack,
    Stopped,
    Outdated,
    Unowned,
}
#[derive(Debug, Clone)]
pub struct ProjectionHealth {
    pub name: String,
    pub status: ProjectionStatus,
    pub restarts: u64,
    pub last_error: Option<String>,
}
#[derive(Debug, thiserror::Error)]
pub enum ProjectionsError {
    #[error("there is no projection {projection:?}")]
    UnknownProjection { projection: String, nearest: Vec<String> },
    #[error("there is no such operation")]
    UnknownOperation,
    #[error("no event is parked at position {position}")]
    UnknownParked { position: Position },
    #[error("{reason}")]
    Refused { reason: String, operation: Option<Uuid> },
    #[error(transparent)]
    Store(#[from] StoreError),
}
#[derive(Debug)]
pub struct Projections;
#[derive(Debug)]
pub struct QueryBus;
type Outcome<T> = Result<T, ProjectionsError>;
fn nothing<T>() -> Outcome<T> {
    Err(StoreError::Unavailable { reason: String::new() }.into())
}
impl Projections {
    pub async fn list(&self) -> Outcome<Vec<ProjectionReport>> {
        nothing()
    }
    pub async fn show(&self, _: &str) -> Outcome<ProjectionReport> {
        nothing()
    }
    pub async fn rebuild(&self, _: &str, _: bool) -> Outcome<Operation> {
        nothing()
    }
    pub async fn rollback(&self, _: &str) -> Outcome<ProjectionReport> {
        nothing()
    }
    pub async fn pause(&self, _: &str) -> Outcome<ProjectionReport> {
        nothing()
    }
    pub async fn resume(&self, _: &str) -> Outcome<ProjectionReport> {
        nothing()
    }
    pub async fn parked(&self, _: &str, _: Position, _: NonZeroU32) -> Outcome<Vec<ParkedEvent>> {
        nothing()
    }
    pub async fn settle(&self, _: &str, _: Position, _: ParkedRequest, _: &str) -> Outcome<Operation> {
        nothing()
    }
    pub async fn operation(&self, _: Uuid) -> Outcome<Operation> {
        nothing()
    }
    pub async fn operations(&self, _: Option<Uuid>, _: NonZeroU32) -> Outcome<Vec<Operation>> {
        nothing()
    }
    pub async fn cancel(&self, _: Uuid) -> Outcome<Operation> {
        nothing()
    }
    pub fn names(&self) -> impl Iterator<Item = &str> {
        std::iter::empty()
    }
    pub fn health(&self) -> Vec<ProjectionHealth> {
        Vec::new()
    }
}
impl QueryBus {
    pub async fn ask(&self, _: QueryRequest) -> QueryResult {
        Err(QueryError::Overloaded)
    }
}
pub trait ReadSide {
    fn queries(&self) -> &QueryBus;
    fn projections(&self) -> &Projections;
}
impl ReadSide for Runtime {
    fn queries(&self) -> &QueryBus {
        &QueryBus
    }
    fn projections(&self) -> &Projections {
        &Projections
    }
}
