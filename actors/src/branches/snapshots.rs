//! Snapshots on a branch: the log's as far as the fork, and own ones in memory, which last as long as the branch is live
//! in this process. The log's are only read.

use std::sync::Arc;

use futures_util::{FutureExt, future::BoxFuture};

use super::view::BranchLog;
use crate::{
    envelope::Snapshot,
    id::AggregateId,
    memory::MemoryStore,
    ports::{SnapshotStore, StoreError, StoredSnapshot},
    version::Sequence,
};

/// The snapshots of one branch.
#[derive(Debug)]
pub(super) struct BranchSnapshots {
    pub main: Arc<dyn SnapshotStore>,
    pub log: Arc<BranchLog>,
    pub own: MemoryStore,
}

impl SnapshotStore for BranchSnapshots {
    fn save(&self, snapshot: Snapshot) -> BoxFuture<'_, Result<(), StoreError>> {
        SnapshotStore::save(&self.own, snapshot)
    }

    fn latest<'a>(
        &'a self,
        id: &'a AggregateId,
        at_most: Sequence,
    ) -> BoxFuture<'a, Result<Option<StoredSnapshot>, StoreError>> {
        async move {
            let own = SnapshotStore::latest(&self.own, id, at_most).await?;
            let Some(base) = self.log.base(id).await? else { return Ok(own) };
            if own.as_ref().is_some_and(|own| own.sequence() >= base.head.sequence.min(at_most)) {
                return Ok(own);
            }
            let main = self.main.latest(id, at_most.min(base.head.sequence)).await?;
            Ok(match (own, main) {
                (Some(own), Some(main)) if own.sequence() >= main.sequence() => Some(own),
                (own, None) => own,
                (_, main) => main,
            })
        }
        .boxed()
    }

    fn remove<'a>(&'a self, id: &'a AggregateId, sequence: Sequence) -> BoxFuture<'a, Result<(), StoreError>> {
        SnapshotStore::remove(&self.own, id, sequence)
    }

    fn discard<'a>(&'a self, id: &'a AggregateId, from: Sequence) -> BoxFuture<'a, Result<(), StoreError>> {
        SnapshotStore::discard(&self.own, id, from)
    }
}
