//! The snapshot store port.

use std::fmt::Debug;

use futures_util::future::BoxFuture;

use super::StoreError;
use crate::{envelope::Snapshot, id::AggregateId, version::Sequence};

/// Keeps folded states. A cache: losing all of it costs time only.
pub trait SnapshotStore: Debug + Send + Sync + 'static {
    /// Stores a snapshot; one at the same sequence is replaced. A stream whose subject's key was destroyed gets none any
    /// more, and that is no error: whoever sends one may not have heard of it.
    ///
    /// # Errors
    /// [`StoreError`]; the caller counts it and goes on.
    fn save(&self, snapshot: Snapshot) -> BoxFuture<'_, Result<(), StoreError>>;

    /// The newest snapshot of a stream at or below `at_most`. The caller compares its head with the stored event.
    ///
    /// # Errors
    /// [`StoreError`]; a row that cannot be read (bad digest, impossible numbers) is `Ok(None)`, not an error.
    fn latest<'a>(
        &'a self,
        id: &'a AggregateId,
        at_most: Sequence,
    ) -> BoxFuture<'a, Result<Option<Snapshot>, StoreError>>;

    /// Removes a stream's snapshots at or above `from`, after one of them proved wrong.
    ///
    /// # Errors
    /// [`StoreError`].
    fn discard<'a>(&'a self, id: &'a AggregateId, from: Sequence) -> BoxFuture<'a, Result<(), StoreError>>;
}
