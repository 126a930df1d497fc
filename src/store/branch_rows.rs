//! Rows of branches to the vocabulary, the same for every database.

use chrono::{DateTime, Utc};
use event_sourcing_actors::{
    AggregateId, BranchId, CommandId, EventId, NewEvent, Position,
    ports::{AppendUnit, Branch, BranchCommand, BranchStatus, CommandRecord, StoreError, UnitOutcome},
};
use uuid::Uuid;

/// A row of `branches` as the drivers give it.
pub(super) struct RawBranch {
    pub id: Uuid,
    pub name: String,
    pub fork_position: i64,
    pub status: String,
    pub created_at: DateTime<Utc>,
    pub report: Option<Vec<u8>>,
}

impl RawBranch {
    /// # Errors
    /// [`StoreError::Corrupt`] names the row.
    pub(super) fn checked(self) -> Result<Branch, StoreError> {
        let corrupt = || StoreError::Corrupt { reason: format!("branch {}: status {:?}", self.id, self.status) };
        Ok(Branch {
            status: BranchStatus::parse(&self.status).ok_or_else(corrupt)?,
            id: BranchId(self.id),
            name: self.name,
            fork: Position::from_i64(self.fork_position),
            created_at: self.created_at,
            report: self.report.map(Into::into),
        })
    }
}

/// A row of `branch_commands` as the drivers give it.
pub(super) struct RawCommand {
    pub position: i64,
    pub command_id: Uuid,
    pub aggregate_id: String,
    pub command_type: String,
    pub content: Vec<u8>,
}

impl RawCommand {
    /// # Errors
    /// [`StoreError::Corrupt`] names the row.
    pub(super) fn checked(self) -> Result<BranchCommand, StoreError> {
        let position = self.position;
        let corrupt =
            |_| StoreError::Corrupt { reason: format!("command at position {position} of a branch: aggregate_id") };
        Ok(BranchCommand {
            position: Position::from_i64(position),
            record: CommandRecord {
                command_id: CommandId(self.command_id),
                aggregate_id: AggregateId::new(self.aggregate_id).map_err(corrupt)?,
                command_type: self.command_type.into(),
                content: self.content.into(),
            },
        })
    }
}

/// Why a branch takes no append; none if it does. `status` is none when there is no such branch.
pub(super) fn closed(id: BranchId, status: Option<&str>) -> Option<StoreError> {
    let reason = match status {
        Some("open") => return None,
        Some(_) => format!("branch {id} was merged: it takes no more commands; send them to main"),
        None => "the branch was deleted: it takes no more commands".to_owned(),
    };
    Some(StoreError::Closed { reason })
}

/// The units that are stored, and their events with the positions after `head`.
pub(super) fn stored<'a>(
    units: &'a [AppendUnit],
    outcomes: &[UnitOutcome],
    head: Position,
) -> (Vec<&'a AppendUnit>, Vec<(i64, &'a NewEvent)>) {
    let passing = units.iter().zip(outcomes).filter(|(_, outcome)| matches!(outcome, UnitOutcome::Committed(_)));
    let passing: Vec<&AppendUnit> = passing.map(|(unit, _)| unit).collect();
    let events = (head.as_i64() + 1..).zip(passing.iter().flat_map(|unit| &unit.events)).collect();
    (passing, events)
}

/// The records of commands, each at the position of its first event.
pub(super) fn records<'a>(units: &[&'a AppendUnit], events: &[(i64, &NewEvent)]) -> Vec<(i64, &'a CommandRecord)> {
    let place =
        |first: &EventId| events.iter().find(|(_, event)| event.event_id == *first).map(|(position, _)| *position);
    let commands = units.iter().flat_map(|unit| &unit.commands);
    commands.filter_map(|command| Some((place(command.event_ids.first()?)?, command.record.as_ref()?))).collect()
}
