//! The tree of a log in memory: it lives and ends with the process, as the log does.

use std::{
    collections::BTreeMap,
    num::NonZeroU32,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use event_sourcing_actors::{
    AggregateId, EventFilter, Position, RecordedEvent, Sequence,
    memory::MemoryStore,
    ports::{Direction, EventStore, StoreError, StreamRange},
};
use futures_util::{FutureExt, future::BoxFuture};
use uuid::Uuid;

use super::{
    port::{Growth, Predecessor, SealLease, StoredRow, StoredRows, TreeState, TreeStore},
    tiles::{Tile, TileId},
};

/// The tree of one [`MemoryStore`].
#[derive(Debug)]
pub struct MemoryTree {
    id: Uuid,
    log: MemoryStore,
    tree: Mutex<Tree>,
}

#[derive(Debug, Default)]
struct Tree {
    size: u64,
    acceptances: u64,
    checkpoint: Option<String>,
    tiles: BTreeMap<TileId, Tile>,
}

impl MemoryTree {
    /// The tree of this log, empty.
    #[must_use]
    pub fn new(log: MemoryStore) -> Self {
        Self { id: Uuid::from_bytes(rand::random()), log, tree: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Tree> {
        // Every change is whole when the lock is let go, so a panic elsewhere harms nothing.
        self.tree.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn one(&self, stream: &[u8], from: i64, limit: u32) -> Result<Vec<RecordedEvent>, StoreError> {
        let id = std::str::from_utf8(stream).ok().and_then(|id| AggregateId::new(id).ok());
        let (Some(id), Some(limit)) = (id, NonZeroU32::new(limit)) else { return Ok(Vec::new()) };
        let from = Sequence(u64::try_from(from).unwrap_or(0));
        let range = StreamRange { from, to: Sequence(u64::MAX), direction: Direction::Forward, limit };
        self.log.read_stream(&id, range).await
    }
}

fn stored(events: &[RecordedEvent]) -> StoredRows {
    let mut rows = StoredRows::default();
    for event in events {
        rows.push(&StoredRow {
            position: event.position.as_i64(),
            aggregate_id: event.aggregate_id.as_str().as_bytes(),
            aggregate_type: event.aggregate_type.as_str().as_bytes(),
            sequence: event.sequence.as_i64(),
            event_id: event.event_id.0.as_bytes(),
            event_type: event.event_type.as_str().as_bytes(),
            schema_version: i64::from(event.schema_version),
            data: &event.data,
            metadata: &event.metadata,
            recorded_at: event.recorded_at.timestamp_micros(),
            checksum: &event.checksum.0,
            chain: &event.chain.0,
        });
    }
    rows
}

impl TreeStore for MemoryTree {
    fn tree_id(&self) -> Uuid {
        self.id
    }

    fn tree(&self) -> BoxFuture<'_, Result<TreeState, StoreError>> {
        async move {
            let (size, acceptances, checkpoint) = {
                let tree = self.lock();
                (tree.size, tree.acceptances, tree.checkpoint.clone())
            };
            let head = self.log.head().await?.0;
            Ok(TreeState { size, acceptances, checkpoint, head, is_read_only: false })
        }
        .boxed()
    }

    fn acquire_tree(&self, owner: Uuid, _: Duration) -> BoxFuture<'_, Result<Option<SealLease>, StoreError>> {
        async move { Ok(Some(SealLease { owner, epoch: 1 })) }.boxed()
    }

    fn release_tree(&self, _: Uuid) -> BoxFuture<'_, Result<(), StoreError>> {
        async { Ok(()) }.boxed()
    }

    fn grow_tree(&self, growth: Growth) -> BoxFuture<'_, Result<bool, StoreError>> {
        async move {
            let mut tree = self.lock();
            if tree.size != growth.from {
                return Ok(false);
            }
            tree.size = growth.to;
            tree.tiles.extend(growth.tiles.into_iter().map(|tile| (tile.id, tile)));
            Ok(true)
        }
        .boxed()
    }

    fn publish_checkpoint(&self, _: SealLease, note: String) -> BoxFuture<'_, Result<(), StoreError>> {
        async move {
            self.lock().checkpoint = Some(note);
            Ok(())
        }
        .boxed()
    }

    /// Nobody else can reach this memory, so nothing is to be refused.
    fn refuse_appends(&self, _: u64) -> BoxFuture<'_, Result<(), StoreError>> {
        async { Ok(()) }.boxed()
    }

    fn accept(&self, acceptances: u64, note: String) -> BoxFuture<'_, Result<(), StoreError>> {
        async move {
            let mut tree = self.lock();
            (tree.acceptances, tree.checkpoint) = (acceptances, Some(note));
            Ok(())
        }
        .boxed()
    }

    fn tiles<'a>(&'a self, ids: &'a [TileId]) -> BoxFuture<'a, Result<Vec<Tile>, StoreError>> {
        async move {
            let tree = self.lock();
            Ok(ids.iter().filter_map(|id| tree.tiles.get(id).cloned()).collect())
        }
        .boxed()
    }

    fn rows(&self, from: i64, limit: u32) -> BoxFuture<'_, Result<StoredRows, StoreError>> {
        async move {
            let Some(limit) = NonZeroU32::new(limit) else { return Ok(StoredRows::default()) };
            let after = Position(u64::try_from(from).unwrap_or(0).saturating_sub(1));
            Ok(stored(&self.log.read_all(after, &EventFilter::default(), limit).await?.events))
        }
        .boxed()
    }

    fn stream_rows<'a>(
        &'a self,
        stream: &'a [u8],
        from: i64,
        limit: u32,
    ) -> BoxFuture<'a, Result<StoredRows, StoreError>> {
        async move { Ok(stored(&self.one(stream, from, limit).await?)) }.boxed()
    }

    fn predecessor<'a>(
        &'a self,
        stream: &'a [u8],
        sequence: i64,
    ) -> BoxFuture<'a, Result<Option<Predecessor>, StoreError>> {
        async move {
            let found = self.one(stream, sequence, 1).await?;
            let found = found.into_iter().find(|event| event.sequence.as_i64() == sequence);
            Ok(found.map(|event| Predecessor { position: event.position.as_i64(), chain: Some(event.chain) }))
        }
        .boxed()
    }
}
