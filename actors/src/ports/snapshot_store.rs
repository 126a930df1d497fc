//! The snapshot store port.

use std::fmt::Debug;

use futures_util::future::BoxFuture;

use super::StoreError;
use crate::{envelope::Snapshot, id::AggregateId, version::Sequence};

/// What a store has at a sequence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoredSnapshot {
    /// A snapshot, as it was saved.
    Readable(Snapshot),
    /// Something that is not what was saved: its digest is wrong, or a column cannot be.
    Unreadable(Sequence),
}

impl StoredSnapshot {
    /// Where it stands.
    #[must_use]
    pub fn sequence(&self) -> Sequence {
        match self {
            Self::Readable(snapshot) => snapshot.head.sequence,
            Self::Unreadable(sequence) => *sequence,
        }
    }

    /// The snapshot, if it can be read.
    #[must_use]
    pub fn readable(self) -> Option<Snapshot> {
        match self {
            Self::Readable(snapshot) => Some(snapshot),
            Self::Unreadable(_) => None,
        }
    }
}

/// Keeps folded states. A cache: losing all of it costs time only.
pub trait SnapshotStore: Debug + Send + Sync + 'static {
    /// Stores a snapshot; one at the same sequence is replaced. Then removes those of its stream that
    /// [`superfluous`](super::superfluous) names, so that a long stream keeps few old ones and any state is near one.
    /// A stream whose subject's key was destroyed gets none any more, and that is no error: whoever sends one may not have
    /// heard of it.
    ///
    /// # Errors
    /// [`StoreError`]; the caller counts it and goes on.
    fn save(&self, snapshot: Snapshot) -> BoxFuture<'_, Result<(), StoreError>>;

    /// The newest snapshot of a stream at or below `at_most`. The caller compares its head with the stored event.
    ///
    /// # Errors
    /// [`StoreError`]; a row that cannot be read is [`StoredSnapshot::Unreadable`], not an error: older ones may be good.
    fn latest<'a>(
        &'a self,
        id: &'a AggregateId,
        at_most: Sequence,
    ) -> BoxFuture<'a, Result<Option<StoredSnapshot>, StoreError>>;

    /// Removes one snapshot, after it proved wrong.
    ///
    /// # Errors
    /// [`StoreError`].
    fn remove<'a>(&'a self, id: &'a AggregateId, sequence: Sequence) -> BoxFuture<'a, Result<(), StoreError>>;

    /// Removes a stream's snapshots at or above `from`.
    ///
    /// # Errors
    /// [`StoreError`].
    fn discard<'a>(&'a self, id: &'a AggregateId, from: Sequence) -> BoxFuture<'a, Result<(), StoreError>>;
}
