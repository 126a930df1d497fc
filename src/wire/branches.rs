//! Branches as the outside sees them.

use chrono::{DateTime, Utc};
use event_sourcing_actors::{
    AggregateId, AggregateType, BranchId, Position, Sequence,
    branches::{BranchDifference, BranchSide},
    difference::Change,
    ports::{self, StoreError},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Event, events, microseconds};

/// A branch.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Branch {
    /// Its id; ids grow with time.
    pub branch_id: BranchId,
    /// Its name, for people.
    pub name: String,
    /// The last position of the log that belongs to it; its own events come after: fork + 1, fork + 2, …
    pub fork_position: Position,
    /// `open` or `merged`.
    pub status: String,
    /// When it was made.
    #[serde(serialize_with = "microseconds")]
    pub created_at: DateTime<Utc>,
}

impl From<ports::Branch> for Branch {
    fn from(branch: ports::Branch) -> Self {
        Self {
            branch_id: branch.id,
            name: branch.name,
            fork_position: branch.fork,
            status: branch.status.as_str().to_owned(),
            created_at: branch.created_at,
        }
    }
}

/// What differs between a branch and the log in one aggregate.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct BranchChanges {
    /// The stream.
    pub aggregate_id: AggregateId,
    /// Its type.
    pub aggregate_type: AggregateType,
    /// On the log.
    pub main: BranchEvents,
    /// On the branch.
    pub branch: BranchEvents,
    /// What leads from the log's state to the branch's.
    pub changes: Vec<Change>,
}

/// What happened to an aggregate since the fork, on one side.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct BranchEvents {
    /// The version now.
    pub version: Sequence,
    /// The events since the fork, up to 100.
    pub events: Vec<Event>,
    /// The sequence of the first event that is not listed; absent when all are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_sequence: Option<Sequence>,
}

impl TryFrom<BranchDifference> for BranchChanges {
    type Error = StoreError;

    /// Fails with [`StoreError::Corrupt`] when what is stored is no JSON.
    fn try_from(found: BranchDifference) -> Result<Self, StoreError> {
        Ok(Self {
            aggregate_id: found.aggregate_id,
            aggregate_type: found.aggregate_type,
            main: found.main.try_into()?,
            branch: found.branch.try_into()?,
            changes: found.changes,
        })
    }
}

impl TryFrom<BranchSide> for BranchEvents {
    type Error = StoreError;

    fn try_from(side: BranchSide) -> Result<Self, StoreError> {
        Ok(Self { version: side.version, events: events(&side.events)?, next_sequence: side.next })
    }
}
