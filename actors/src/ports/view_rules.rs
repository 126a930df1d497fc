//! What every view store decides about a projection's row, as pure functions: who may lease it, whether a step counts,
//! what an operator's wish makes of it. A store that decides in its own language (a function in the database) is held to
//! the same by the contract suite.

use std::collections::HashSet;

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use super::{
    Checkpoint, Control, Generation, Lease, LeaseClaim, Move, Operation, OperationStatus, ParkedRequest, Previous,
    ProjectionState, REVISION_LEAP, Revision, Shadow, Transition, ViewCommit,
};
use crate::view::Touched;

/// A projection's row after a decision.
#[derive(Debug, Clone, PartialEq)]
pub struct Ruling {
    /// The row; [`ProjectionState::parked`] and [`ProjectionState::has_requests`] are the store's to count.
    pub state: ProjectionState,
    /// What readers may notice: recorded with the new revision.
    pub change: Option<Touched>,
}

/// Why an operator's wish cannot be granted now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Objection {
    /// The operation in the way.
    pub operation: Option<Uuid>,
    /// A sentence for people.
    pub reason: &'static str,
}

impl Objection {
    /// A rebuild is under way.
    pub const REBUILDING: &'static str =
        "a rebuild of this projection is under way: wait for its end, or cancel it first";
    /// No rebuild is under way.
    pub const NOT_REBUILDING: &'static str = "this rebuild is not under way, so there is nothing to cancel";
    /// No swap before.
    pub const NO_PREVIOUS: &'static str = "there are no previous rows to serve again: nothing was swapped since";
    /// Not on record, or skipped.
    pub const NOT_PARKED: &'static str = "no event of this position waits in the projection's parking place";
    /// Asked for before.
    pub const REQUESTED: &'static str = "this parked event is about to be retried or skipped already";
}

fn after(now: DateTime<Utc>, lease: std::time::Duration) -> DateTime<Utc> {
    let lease = TimeDelta::from_std(lease).unwrap_or(TimeDelta::MAX);
    now.checked_add_signed(lease).unwrap_or(DateTime::<Utc>::MAX_UTC)
}

impl ProjectionState {
    /// A projection that nobody has declared before.
    #[must_use]
    pub fn declared(name: &str, version: u64, generation: Generation) -> Self {
        Self {
            name: name.to_owned(),
            version,
            generation,
            checkpoint: Checkpoint::default(),
            revision: Revision::default(),
            lease: None,
            epoch: 0,
            is_paused: false,
            is_frozen: false,
            shadow: None,
            previous: None,
            fault: None,
            parked: 0,
            has_requests: false,
        }
    }

    /// Whether readers can reach rows of this generation, now or after a swap or rollback.
    #[must_use]
    pub fn reaches(&self, generation: Generation) -> bool {
        self.generation == generation
            || self.shadow.is_some_and(|shadow| shadow.generation == generation)
            || self.previous.is_some_and(|previous| previous.generation == generation)
    }

    /// After a claim; `None`: another holds the lease.
    #[must_use]
    pub fn leased(&self, claim: &LeaseClaim, now: DateTime<Utc>) -> Option<Ruling> {
        let is_owner = self.lease.is_some_and(|lease| lease.owner == claim.owner);
        if !is_owner && self.lease.is_some_and(|lease| lease.expires_at > now) {
            return None;
        }
        let mut state = self.clone();
        state.lease = Some(Lease { owner: claim.owner, expires_at: after(now, claim.lease) });
        if is_owner {
            return Some(Ruling { state, change: None });
        }
        state.epoch += 1;
        state.revision.0 += REVISION_LEAP;
        Some(Ruling { state, change: Some(Touched::Everything) })
    }

    /// After a step of its owner; `None`: lost.
    #[must_use]
    pub fn stepped(&self, commit: &ViewCommit, now: DateTime<Utc>) -> Option<Ruling> {
        let is_owner = self.lease.is_some_and(|lease| lease.owner == commit.owner) && self.epoch == commit.epoch;
        let swaps = matches!(commit.transition, Some(Transition::Swap { .. }));
        let moves = commit.served.is_some() || commit.shadow.is_some() || swaps;
        if !is_owner || (self.is_paused && moves) || (self.is_frozen && commit.served.is_some()) {
            return None;
        }
        let mut state = self.clone();
        state.lease = Some(Lease { owner: commit.owner, expires_at: after(now, commit.lease) });
        if let Some((generation, step)) = &commit.served {
            (*generation == state.generation && step.from == state.checkpoint.position).then_some(())?;
            state.checkpoint = step.to;
        }
        if let Some((generation, step)) = &commit.shadow {
            let shadow = state.shadow.as_mut().filter(|shadow| shadow.generation == *generation)?;
            (step.from == shadow.checkpoint.position).then_some(())?;
            shadow.checkpoint = step.to;
        }
        match &commit.transition {
            None => {}
            Some(Transition::Swap { force }) => {
                let shadow = state.shadow.take()?;
                (*force || shadow.checkpoint.position == state.checkpoint.position).then_some(())?;
                state.swap_in(shadow);
            }
            Some(Transition::DropShadow) => state.shadow = None,
            Some(Transition::Stop(fault)) => state.fault = Some(fault.clone()),
        }
        let change = if swaps { Some(Touched::Everything) } else { Some(commit.touched.clone()) };
        let change = change.filter(|touched| !touched.is_nothing());
        state.revision.0 += u64::from(change.is_some());
        Some(Ruling { state, change })
    }

    fn swap_in(&mut self, shadow: Shadow) {
        self.previous =
            Some(Previous { generation: self.generation, version: self.version, checkpoint: self.checkpoint });
        self.generation = shadow.generation;
        self.version = shadow.version;
        self.checkpoint = shadow.checkpoint;
        self.is_frozen = false;
        self.fault = None;
    }

    /// After an operator's wish; `fresh` is a generation nobody has, for a rebuild. A wish about a parked event changes
    /// nothing here.
    ///
    /// # Errors
    /// [`Objection`].
    pub fn controlled(&self, control: &Control, fresh: Generation) -> Result<Ruling, Objection> {
        let mut state = self.clone();
        let under_way = self.shadow.map(|shadow| shadow.operation);
        match control {
            Control::Pause => state.is_paused = true,
            Control::Resume => (state.is_paused, state.fault) = (false, None),
            Control::Rebuild { operation, version, accepts_difference } => {
                if under_way.is_some() {
                    return Err(Objection { operation: under_way, reason: Objection::REBUILDING });
                }
                state.fault = None;
                state.shadow = Some(Shadow {
                    generation: fresh,
                    version: *version,
                    checkpoint: Checkpoint::default(),
                    operation: *operation,
                    accepts_difference: *accepts_difference,
                });
            }
            Control::Cancel { operation } => {
                if under_way != Some(*operation) {
                    return Err(Objection { operation: under_way, reason: Objection::NOT_REBUILDING });
                }
                state.shadow = None;
                state.epoch += 1;
            }
            Control::Rollback => {
                if under_way.is_some() {
                    return Err(Objection { operation: under_way, reason: Objection::REBUILDING });
                }
                let none = Objection { operation: None, reason: Objection::NO_PREVIOUS };
                let previous = self.previous.ok_or(none)?;
                state.previous =
                    Some(Previous { generation: self.generation, version: self.version, checkpoint: self.checkpoint });
                state.generation = previous.generation;
                state.version = previous.version;
                state.checkpoint = previous.checkpoint;
                state.is_frozen = true;
                state.epoch += 1;
                state.revision.0 += 1;
                return Ok(Ruling { state, change: Some(Touched::Everything) });
            }
            Control::ForgetPrevious => state.previous = None,
            Control::Settle { .. } => {}
        }
        Ok(Ruling { state, change: None })
    }
}

impl Control {
    /// The operation that this wish begins, if it is granted.
    #[must_use]
    pub fn operation(&self, projection: &str, now: DateTime<Utc>) -> Option<Operation> {
        let (id, kind, subject) = match self {
            Self::Rebuild { operation, .. } => (*operation, "projection-rebuild", projection.to_owned()),
            Self::Settle { operation, request: ParkedRequest::Retry, position, .. } => {
                (*operation, "parked-retry", format!("{projection}/{position}"))
            }
            Self::Settle { operation, request: ParkedRequest::Skip, position, .. } => {
                (*operation, "parked-skip", format!("{projection}/{position}"))
            }
            Self::Pause | Self::Resume | Self::Cancel { .. } | Self::Rollback | Self::ForgetPrevious => return None,
        };
        Some(Operation {
            id,
            kind: kind.to_owned(),
            subject,
            status: OperationStatus::Running,
            done: 0,
            total: 0,
            result: None,
            error: None,
            created_at: now,
            updated_at: now,
        })
    }
}

impl ViewCommit {
    /// Its moves, with their generations.
    pub fn moves(&self) -> impl Iterator<Item = &(Generation, Move)> {
        self.served.iter().chain(&self.shadow)
    }

    /// Why no store could keep it; every store refuses it, whatever it holds. Tested: each row is named once, keys fit
    /// an index, data is text without U+0000.
    #[must_use]
    pub fn malformed(&self) -> Option<String> {
        self.moves().find_map(|(_, step)| {
            let keys = step.puts.iter().map(|row| &row.key).chain(&step.deletes);
            let mut seen = HashSet::with_capacity(step.puts.len() + step.deletes.len());
            for key in keys {
                if let Some(problem) = key.problem() {
                    return Some(problem);
                }
                if !seen.insert(key) {
                    return Some(format!("row {key} is named twice in one commit"));
                }
            }
            let odd = |data: &[u8]| std::str::from_utf8(data).is_err() || data.contains(&0);
            let row = step.puts.iter().find(|row| odd(&row.data))?;
            Some(format!("the data of row {} is not text", row.key))
        })
    }
}
