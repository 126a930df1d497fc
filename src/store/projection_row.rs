//! The row of a projection, and what its changes touched, as databases keep them.

use chrono::{DateTime, Utc};
use event_sourcing_actors::{
    Position,
    digest::LeafHash,
    ports::{Checkpoint, Fault, Generation, Lease, Previous, ProjectionState, Revision, Shadow, StoreError},
    view::{Tag, Touched},
};
use uuid::Uuid;

/// The columns of `projections` beside partition, name, `row_version` and lease, in their order.
#[derive(Debug, Clone, Default)]
pub(super) struct ProjectionRow {
    pub version: i64,
    pub generation: i64,
    pub checkpoint: i64,
    pub checkpoint_leaf: Option<Vec<u8>>,
    pub revision: i64,
    pub owner: Option<Uuid>,
    pub lease_until: Option<DateTime<Utc>>,
    pub epoch: i64,
    pub paused: bool,
    pub frozen: bool,
    pub shadow_generation: Option<i64>,
    pub shadow_version: Option<i64>,
    pub shadow_checkpoint: Option<i64>,
    pub shadow_leaf: Option<Vec<u8>>,
    pub shadow_operation: Option<Uuid>,
    pub shadow_accepts_difference: Option<bool>,
    pub previous_generation: Option<i64>,
    pub previous_version: Option<i64>,
    pub previous_checkpoint: Option<i64>,
    pub previous_leaf: Option<Vec<u8>>,
    pub fault_reason: Option<String>,
    pub fault_position: Option<i64>,
    pub fault_at: Option<DateTime<Utc>>,
}

/// A number of 64 bits as databases keep it, and back: versions that are hashes use all of them.
pub(super) fn signed(number: u64) -> i64 {
    i64::from_ne_bytes(number.to_ne_bytes())
}

/// The same, back.
pub(super) fn unsigned(number: i64) -> u64 {
    u64::from_ne_bytes(number.to_ne_bytes())
}

fn leaf_of(checkpoint: Checkpoint) -> Option<Vec<u8>> {
    checkpoint.leaf.map(|leaf| leaf.0.to_vec())
}

fn checkpoint(position: i64, leaf: Option<&[u8]>) -> Option<Checkpoint> {
    let leaf = leaf.map(LeafHash::from_slice);
    // A leaf of another length was written by nobody.
    (leaf != Some(None)).then_some(Checkpoint { position: Position::from_i64(position), leaf: leaf.flatten() })
}

impl From<&ProjectionState> for ProjectionRow {
    fn from(state: &ProjectionState) -> Self {
        let (shadow, previous, fault) = (state.shadow.as_ref(), state.previous.as_ref(), state.fault.as_ref());
        Self {
            version: signed(state.version),
            generation: signed(state.generation.0),
            checkpoint: state.checkpoint.position.as_i64(),
            checkpoint_leaf: leaf_of(state.checkpoint),
            revision: signed(state.revision.0),
            owner: state.lease.map(|lease| lease.owner),
            lease_until: state.lease.map(|lease| lease.expires_at),
            epoch: signed(state.epoch),
            paused: state.is_paused,
            frozen: state.is_frozen,
            shadow_generation: shadow.map(|shadow| signed(shadow.generation.0)),
            shadow_version: shadow.map(|shadow| signed(shadow.version)),
            shadow_checkpoint: shadow.map(|shadow| shadow.checkpoint.position.as_i64()),
            shadow_leaf: shadow.and_then(|shadow| leaf_of(shadow.checkpoint)),
            shadow_operation: shadow.map(|shadow| shadow.operation),
            shadow_accepts_difference: shadow.map(|shadow| shadow.accepts_difference),
            previous_generation: previous.map(|previous| signed(previous.generation.0)),
            previous_version: previous.map(|previous| signed(previous.version)),
            previous_checkpoint: previous.map(|previous| previous.checkpoint.position.as_i64()),
            previous_leaf: previous.and_then(|previous| leaf_of(previous.checkpoint)),
            fault_reason: fault.map(|fault| fault.reason.replace('\0', "\u{fffd}")),
            fault_position: fault.map(|fault| fault.position.as_i64()),
            fault_at: fault.map(|fault| fault.at),
        }
    }
}

impl ProjectionRow {
    /// As the port tells it.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when the columns do not fit each other.
    pub fn checked(self, name: String, parked: i64, has_requests: bool) -> Result<ProjectionState, StoreError> {
        let corrupt =
            |what: &str| StoreError::Corrupt { reason: format!("the row of projection {name:?}: {what} is damaged") };
        let generation = |number: i64| Generation(unsigned(number));
        let shadow = match (self.shadow_generation, self.shadow_version, self.shadow_checkpoint, self.shadow_operation)
        {
            (None, ..) => None,
            (Some(number), Some(version), Some(position), Some(operation)) => Some(Shadow {
                generation: generation(number),
                version: unsigned(version),
                checkpoint: checkpoint(position, self.shadow_leaf.as_deref()).ok_or_else(|| corrupt("shadow_leaf"))?,
                operation,
                accepts_difference: self.shadow_accepts_difference.unwrap_or(false),
            }),
            _ => return Err(corrupt("its shadow")),
        };
        let previous = match (self.previous_generation, self.previous_version, self.previous_checkpoint) {
            (None, ..) => None,
            (Some(number), Some(version), Some(position)) => Some(Previous {
                generation: generation(number),
                version: unsigned(version),
                checkpoint: checkpoint(position, self.previous_leaf.as_deref())
                    .ok_or_else(|| corrupt("previous_leaf"))?,
            }),
            _ => return Err(corrupt("its previous generation")),
        };
        let fault = self.fault_reason.zip(self.fault_position).zip(self.fault_at);
        Ok(ProjectionState {
            version: unsigned(self.version),
            generation: generation(self.generation),
            checkpoint: checkpoint(self.checkpoint, self.checkpoint_leaf.as_deref())
                .ok_or_else(|| corrupt("checkpoint_leaf"))?,
            revision: Revision(unsigned(self.revision)),
            lease: self.owner.zip(self.lease_until).map(|(owner, expires_at)| Lease { owner, expires_at }),
            epoch: unsigned(self.epoch),
            is_paused: self.paused,
            is_frozen: self.frozen,
            shadow,
            previous,
            fault: fault.map(|((reason, position), at)| Fault { reason, position: Position::from_i64(position), at }),
            parked: u64::try_from(parked).unwrap_or(0),
            has_requests,
            name,
        })
    }
}

/// What was touched as `view_changes` keeps it: 8 bytes a tag, none = everything.
pub(super) fn touched_bytes(touched: &Touched) -> Vec<u8> {
    match touched {
        Touched::Everything => Vec::new(),
        Touched::Tags(tags) => tags.iter().flat_map(|tag| tag.0.to_be_bytes()).collect(),
    }
}

/// The same, back; what cannot be read counts as everything.
pub(super) fn touched_of(bytes: &[u8]) -> Touched {
    let (words, rest) = bytes.as_chunks::<8>();
    if words.is_empty() || !rest.is_empty() {
        return Touched::Everything;
    }
    Touched::Tags(words.iter().map(|word| Tag(u64::from_be_bytes(*word))).collect())
}

/// Changes since a revision, from (revision, the revision before, touched) in ascending order; `None` if they do not
/// lead from `since` to `now` without a hole, or are too many.
pub(super) fn unbroken(
    since: Revision,
    now: Revision,
    stored: Vec<(Revision, Revision, Touched)>,
    most: usize,
) -> Option<Vec<(Revision, Touched)>> {
    let (mut last, mut changes) = (since, Vec::with_capacity(stored.len()));
    for (revision, before, touched) in stored {
        if before != last || changes.len() >= most {
            return None;
        }
        last = revision;
        changes.push((revision, touched));
    }
    (last == now).then_some(changes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_touched_survives_storage() {
        for touched in [Touched::Everything, Touched::Tags(vec![Tag(1), Tag(u64::MAX)])] {
            assert_eq!(touched_of(&touched_bytes(&touched)), touched);
        }
        assert_eq!(touched_of(&[1, 2, 3]), Touched::Everything);
        assert_eq!(unsigned(signed(u64::MAX)), u64::MAX);
    }

    #[test]
    fn a_hole_in_the_changes_is_noticed() {
        let change = |before, after| (Revision(after), Revision(before), Touched::Everything);
        let told = |stored| unbroken(Revision(1), Revision(4), stored, 3).map(|changes| changes.len());
        assert_eq!(told(vec![change(1, 2), change(2, 4)]), Some(2));
        assert_eq!(told(vec![change(2, 4)]), None);
        assert_eq!(told(vec![change(1, 2)]), None);
        assert_eq!(told(vec![change(1, 2), change(2, 3), change(3, 5), change(5, 4)]), None);
    }
}
