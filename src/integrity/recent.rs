//! Tiles that were read lately, for proofs: of the handful that one is made of all but one are those of many others.
//!
//! What a tile holds never changes while the log only grows, and every proof is checked against the signed root before it is
//! handed out. One that fails is made again of nothing but what is stored: so a tree that was stored anew, after a log went
//! back and that was accepted, costs one more read and never a wrong answer. Sealing and verification never look here.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
};

use event_sourcing_actors::ports::StoreError;

use super::{
    port::TreeStore,
    proofs::checked,
    tiles::{Tile, TileId, Tiles, reach},
    tree::{self, Hash, Node, TreeHead},
};

/// Tiles remembered at most, 8 KiB each.
const TILES_MAX: usize = 512;

/// A bounded memory of tiles.
#[derive(Debug, Default)]
pub struct RecentTiles(Mutex<Recent>);

#[derive(Debug, Default)]
struct Recent {
    /// With the number of the last use.
    tiles: HashMap<TileId, (Vec<Hash>, u64)>,
    uses: u64,
}

impl RecentTiles {
    fn lock(&self) -> MutexGuard<'_, Recent> {
        // Every change is whole when the lock is let go.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The leaf at an index with the proof that it is in the tree of this head; `None` if the stored tree is another.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn inclusion(
        &self,
        store: &dyn TreeStore,
        index: u64,
        head: &TreeHead,
    ) -> Result<Option<(Hash, Vec<Hash>)>, StoreError> {
        let mut spans = tree::inclusion(index, head.size);
        spans.push(vec![Node { level: 0, index }]);
        let needed = reach(&spans);
        let mut tiles = self.known(&needed);
        let is_all_read = tiles.is_empty();
        self.read(store, &needed, &mut tiles).await?;
        let proof = checked(&tiles, &spans, index, head);
        if proof.is_some() || is_all_read {
            return Ok(proof);
        }
        self.lock().tiles.clear();
        let mut tiles = Tiles::default();
        self.read(store, &needed, &mut tiles).await?;
        Ok(checked(&tiles, &spans, index, head))
    }

    /// Those of the tiles that are remembered, as far as they are needed.
    fn known(&self, needed: &BTreeMap<TileId, usize>) -> Tiles {
        let recent = &mut *self.lock();
        recent.uses += 1;
        let known = needed.iter().filter_map(|(id, width)| {
            let (hashes, used) = recent.tiles.get_mut(id)?;
            // An unfinished one may have grown since.
            let hashes = hashes.get(..*width)?.to_vec();
            *used = recent.uses;
            Some(Tile { id: *id, hashes })
        });
        known.collect()
    }

    /// Reads the others, in one call.
    async fn read(
        &self,
        store: &dyn TreeStore,
        needed: &BTreeMap<TileId, usize>,
        tiles: &mut Tiles,
    ) -> Result<(), StoreError> {
        let missing: Vec<TileId> = needed.keys().copied().filter(|id| tiles.get(*id).is_none()).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let read = store.tiles(&missing).await?;
        let recent = &mut *self.lock();
        for tile in read {
            recent.tiles.insert(tile.id, (tile.hashes.clone(), recent.uses));
            tiles.insert(tile);
        }
        if recent.tiles.len() > TILES_MAX {
            recent.shrink();
        }
        Ok(())
    }
}

impl Recent {
    /// Lets a quarter go, those that were not used for longest.
    fn shrink(&mut self) {
        let mut uses: Vec<u64> = self.tiles.values().map(|(_, used)| *used).collect();
        let (_, limit, _) = uses.select_nth_unstable(TILES_MAX / 4);
        let limit = *limit;
        self.tiles.retain(|_, (_, used)| *used > limit);
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use event_sourcing_actors::{memory::MemoryStore, ports::SystemClock};
    use uuid::Uuid;

    use super::*;
    use crate::integrity::{memory::MemoryTree, port::Growth, tiles::Frontier, tree::leaf_hash};

    fn leaf(of: &str, index: u64) -> Hash {
        leaf_hash(format!("{of} {index}").as_bytes())
    }

    /// A stored tree that grows step by step.
    struct Growing {
        store: MemoryTree,
        frontier: Frontier,
    }

    impl Growing {
        fn new() -> Self {
            let store = MemoryTree::new(MemoryStore::new(Arc::new(SystemClock)));
            Self { store, frontier: Frontier::default() }
        }

        async fn to(&mut self, of: &str, size: u64) -> TreeHead {
            let lease = self.store.acquire_tree(Uuid::nil(), Duration::ZERO).await.unwrap().unwrap();
            let from = self.frontier.size();
            (from..size).for_each(|index| self.frontier.push(leaf(of, index)));
            let mut tiles = self.frontier.take_full();
            tiles.extend(self.frontier.open_tiles());
            assert!(self.store.grow_tree(Growth { lease, from, to: size, tiles }).await.unwrap());
            TreeHead { size, root: self.frontier.root() }
        }
    }

    #[tokio::test]
    async fn proofs_are_the_same_with_and_without_a_memory_while_the_tree_grows() {
        let (mut tree, recent) = (Growing::new(), RecentTiles::default());
        for size in [1, 2, 255, 256, 257, 1_000, 66_000, 70_001] {
            let head = tree.to("a", size).await;
            for index in [0, 1, size / 3, size / 2, size - 1].into_iter().filter(|index| *index < size) {
                let proof = recent.inclusion(&tree.store, index, &head).await.unwrap();
                let plain = RecentTiles::default().inclusion(&tree.store, index, &head).await.unwrap();
                let (found, hashes) = proof.clone().unwrap();
                assert_eq!((proof, found), (plain, leaf("a", index)));
                assert!(tree::is_included(&found, index, size, &hashes, &head.root));
            }
        }
        // The older head is proven by what was read since.
        let old = TreeHead { size: 256, root: Growing::new().to("a", 256).await.root };
        assert!(recent.inclusion(&tree.store, 9, &old).await.unwrap().is_some());
        assert!(recent.inclusion(&tree.store, 9, &TreeHead { size: 255, ..old }).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn a_tree_that_was_stored_anew_is_proven_by_what_is_stored() {
        let (mut before, mut after, recent) = (Growing::new(), Growing::new(), RecentTiles::default());
        let old = before.to("before", 70_000).await;
        let new = after.to("after", 70_000).await;
        assert!(recent.inclusion(&before.store, 300, &old).await.unwrap().is_some());
        let (found, _) = recent.inclusion(&after.store, 300, &new).await.unwrap().expect("a proof of what is stored");
        assert_eq!(found, leaf("after", 300));
        assert!(recent.inclusion(&after.store, 300, &old).await.unwrap().is_none(), "the stored tree is another");
    }

    #[tokio::test]
    async fn memory_of_tiles_is_bounded_and_saves_reads() {
        let (mut tree, recent) = (Growing::new(), RecentTiles::default());
        let size = 256 * 700;
        let head = tree.to("a", size).await;
        for tile in 0..700 {
            assert!(recent.inclusion(&tree.store, tile * 256, &head).await.unwrap().is_some());
            assert!(recent.lock().tiles.len() <= TILES_MAX);
        }
        let needed = reach(&tree::inclusion(699 * 256 + 7, size));
        assert!(needed.keys().all(|id| recent.lock().tiles.contains_key(id)), "a neighbour's proof needs no read");
    }
}
