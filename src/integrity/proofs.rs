//! Proofs out of the stored tree, each checked before it is handed out.

use event_sourcing_actors::ports::StoreError;

use super::{
    port::TreeStore,
    tiles::{Frontier, Tiles, needed},
    tree::{self, Hash, Span, TreeHead},
};

/// Tiles fetched at once.
const TILES_MAX: usize = 64;

/// The tiles that spans are hashed from.
pub(super) async fn tiles_of(store: &dyn TreeStore, spans: &[Span]) -> Result<Tiles, StoreError> {
    let ids: Vec<_> = needed(spans).into_iter().collect();
    let mut tiles = Tiles::default();
    for some in ids.chunks(TILES_MAX) {
        store.tiles(some).await?.into_iter().for_each(|tile| tiles.insert(tile));
    }
    Ok(tiles)
}

/// The growing edge of the stored tree at a size; `None` if tiles are missing.
pub(super) async fn frontier(store: &dyn TreeStore, size: u64) -> Result<Option<Frontier>, StoreError> {
    let tiles = store.tiles(&Frontier::tiles_of(size)).await?;
    Ok(Frontier::load(size, &tiles.into_iter().collect()))
}

/// The root of the stored tree at a size; `None` if tiles are missing.
pub(crate) async fn root(store: &dyn TreeStore, size: u64) -> Result<Option<Hash>, StoreError> {
    let spans = [tree::root(size)];
    Ok(tiles_of(store, &spans).await?.span(&spans[0]))
}

/// The leaf at an index with its proof, if these tiles show that it is in the tree of this head; the leaf is the last span.
pub(super) fn checked(tiles: &Tiles, spans: &[Span], index: u64, head: &TreeHead) -> Option<(Hash, Vec<Hash>)> {
    let mut hashes = tiles.proof(spans)?;
    let leaf = hashes.pop()?;
    tree::is_included(&leaf, index, head.size, &hashes, &head.root).then_some((leaf, hashes))
}

/// The proof between two sizes, unchecked; `None` if tiles are missing.
pub(super) async fn consistency(store: &dyn TreeStore, from: u64, to: u64) -> Result<Option<Vec<Hash>>, StoreError> {
    let spans = tree::consistency(from, to);
    Ok(tiles_of(store, &spans).await?.proof(&spans))
}

/// Whether the stored tree shows that `old` is the beginning of `new`.
pub(super) async fn is_beginning(store: &dyn TreeStore, old: &TreeHead, new: &TreeHead) -> Result<bool, StoreError> {
    if old.size == 0 {
        let is_empty = |head: &TreeHead| head.size > 0 || head.root == tree::empty_root();
        return Ok(is_empty(old) && is_empty(new));
    }
    let proof = consistency(store, old.size, new.size).await?;
    Ok(proof.is_some_and(|proof| tree::is_consistent(old, new, &proof)))
}
