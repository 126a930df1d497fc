//! What a database answered about a batch, turned into one outcome per unit: the same rule for every database.

use chrono::{DateTime, Utc};
use event_sourcing_actors::{
    Position,
    ports::{AppendBatch, AppendUnit, Committed, StoreError, UnitOutcome},
};

/// What a process is told that was running while a backup was restored into its database.
const REPLACED: &str = "a backup was restored into the database while this process ran: restart it";

/// The database's answer, read under the lock.
#[derive(Debug)]
pub(super) struct Verdicts {
    /// The log's head before the batch.
    pub head: Position,
    /// The instant of everything the batch stores.
    pub recorded_at: DateTime<Utc>,
    /// Whether the log is read-only.
    pub is_read_only: bool,
    /// Whether the log is another than the one that was opened: a backup was restored beneath.
    pub is_replaced: bool,
    /// (unit, command) pairs that were recorded before.
    pub known: Vec<(usize, usize)>,
    /// Units with a claim that does not hold.
    pub stale: Vec<usize>,
    /// Units on a stream that is another writer's turn.
    pub waiting: Vec<usize>,
}

/// Another log lies in the database by now than the one that was opened.
pub(super) fn replaced() -> StoreError {
    StoreError::ReadOnly { reason: REPLACED.to_owned() }
}

impl Verdicts {
    /// The answer of another log than the one that was opened.
    #[cfg(feature = "postgres")]
    pub(super) fn replaced() -> Self {
        Self {
            head: Position::ZERO,
            recorded_at: DateTime::UNIX_EPOCH,
            is_read_only: true,
            is_replaced: true,
            known: Vec::new(),
            stale: Vec::new(),
            waiting: Vec::new(),
        }
    }

    /// One outcome per unit, in order. `malformed` are the units the database was not asked about.
    pub(super) fn settle(&self, batch: &AppendBatch, malformed: Vec<Option<String>>) -> Vec<UnitOutcome> {
        let mut next = self.head;
        let settled = batch.units.iter().zip(malformed).enumerate().map(|(index, (unit, malformed))| match malformed {
            Some(reason) => UnitOutcome::Failed(StoreError::Refused { reason }),
            None => self.unit(index, unit, &mut next),
        });
        settled.collect()
    }

    fn unit(&self, index: usize, unit: &AppendUnit, last: &mut Position) -> UnitOutcome {
        if self.is_replaced {
            return UnitOutcome::Failed(replaced());
        }
        let mut commands: Vec<usize> =
            self.known.iter().filter(|(of, _)| *of == index).map(|(_, command)| *command).collect();
        if !commands.is_empty() {
            commands.sort_unstable();
            commands.dedup();
            return UnitOutcome::Known { commands };
        }
        if self.stale.contains(&index) {
            return UnitOutcome::Stale;
        }
        if self.waiting.contains(&index) {
            return UnitOutcome::Wait;
        }
        if self.is_read_only && stores_something(unit) {
            let reason = "its integrity is in doubt until an operator decides".to_owned();
            return UnitOutcome::Failed(StoreError::ReadOnly { reason });
        }
        let first_position = if unit.events.is_empty() { *last } else { last.next() };
        *last = last.plus(unit.events.len() as u64);
        UnitOutcome::Committed(Committed { first_position, recorded_at: self.recorded_at })
    }
}

/// Whether committing a unit writes rows; otherwise its claims are only confirmed.
pub(super) fn stores_something(unit: &AppendUnit) -> bool {
    !unit.events.is_empty() || unit.commands.iter().any(|command| command.key.is_some())
}
