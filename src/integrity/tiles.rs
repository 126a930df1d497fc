//! The tree in tiles: 256 neighbouring hashes of every eighth level lie together, so that growing writes few rows and a
//! proof reads few. Pure; where tiles are kept is [`super::port`]'s business.

use std::collections::{BTreeMap, BTreeSet};

use super::tree::{self, Hash, Node, Span};

/// Levels from one tile level to the next.
const HEIGHT: u32 = 8;
/// Hashes of a full tile.
pub const TILE_HASHES: usize = 1 << HEIGHT;
const WIDTH: u64 = 1 << HEIGHT;

/// The place of a tile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TileId {
    /// Its hashes are of level `8 × level` of the tree.
    pub level: u8,
    /// Its place in that level.
    pub index: u64,
}

/// A tile: up to 256 hashes of its level.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tile {
    /// Its place.
    pub id: TileId,
    /// Its hashes.
    pub hashes: Vec<Hash>,
}

impl Tile {
    /// From stored bytes; `None` unless they are 1 to 256 hashes.
    #[must_use]
    pub fn from_bytes(id: TileId, bytes: &[u8]) -> Option<Self> {
        let (hashes, rest) = bytes.as_chunks::<32>();
        let is_whole = rest.is_empty() && (1..=TILE_HASHES).contains(&hashes.len());
        is_whole.then(|| Self { id, hashes: hashes.to_vec() })
    }

    /// As stored.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        self.hashes.as_flattened().to_vec()
    }
}

/// Tiles at hand.
#[derive(Debug, Clone, Default)]
pub struct Tiles(BTreeMap<TileId, Vec<Hash>>);

impl FromIterator<Tile> for Tiles {
    fn from_iter<T: IntoIterator<Item = Tile>>(tiles: T) -> Self {
        Self(tiles.into_iter().map(|tile| (tile.id, tile.hashes)).collect())
    }
}

/// Where the hash of a node comes from: a tile, and the hashes in it that lie below the node.
fn place(node: Node) -> (TileId, std::ops::Range<usize>) {
    let (level, within) = (node.level / HEIGHT, node.level % HEIGHT);
    let first = node.index << within;
    // Trees have fewer than 2^64 leaves, hence fewer than 8 tile levels; the rest is below 256.
    let id = TileId { level: u8::try_from(level).unwrap_or(u8::MAX), index: first / WIDTH };
    let start = usize::try_from(first % WIDTH).unwrap_or(0);
    (id, start..start + (1 << within))
}

/// The tiles that hold what spans are hashed from.
#[must_use]
pub fn needed(spans: &[Span]) -> BTreeSet<TileId> {
    spans.iter().flatten().map(|node| place(*node).0).collect()
}

/// The same, with how many of a tile's hashes are needed.
#[must_use]
pub fn reach(spans: &[Span]) -> BTreeMap<TileId, usize> {
    let mut reach = BTreeMap::new();
    for (id, range) in spans.iter().flatten().map(|node| place(*node)) {
        let end: &mut usize = reach.entry(id).or_default();
        *end = range.end.max(*end);
    }
    reach
}

/// The hash of a power of two of neighbours.
fn perfect(hashes: &[Hash]) -> Hash {
    match hashes {
        [] => tree::empty_root(),
        [one] => *one,
        many => {
            let (left, right) = many.split_at(many.len() / 2);
            tree::node_hash(&perfect(left), &perfect(right))
        }
    }
}

impl Tiles {
    /// Adds another.
    pub fn insert(&mut self, tile: Tile) {
        self.0.insert(tile.id, tile.hashes);
    }

    /// The hashes of a tile.
    #[must_use]
    pub fn get(&self, id: TileId) -> Option<&[Hash]> {
        self.0.get(&id).map(Vec::as_slice)
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The hash of one span; `None` if a tile is missing or too short.
    #[must_use]
    pub fn span(&self, span: &[Node]) -> Option<Hash> {
        let hashes: Option<Vec<Hash>> = span.iter().map(|node| self.node(*node)).collect();
        hashes.map(|hashes| tree::fold(&hashes))
    }

    /// The hashes of a proof; `None` if a tile is missing or too short.
    #[must_use]
    pub fn proof(&self, spans: &[Span]) -> Option<Vec<Hash>> {
        spans.iter().map(|span| self.span(span)).collect()
    }

    fn node(&self, node: Node) -> Option<Hash> {
        let (id, range) = place(node);
        self.0.get(&id)?.get(range).map(perfect)
    }
}

/// The growing edge of a tree: the last, unfinished tile of each level.
#[derive(Debug, Clone, Default)]
pub struct Frontier {
    size: u64,
    edge: Vec<Vec<Hash>>,
    full: Vec<Tile>,
}

impl Frontier {
    /// The edge tiles of a tree of this size.
    #[must_use]
    pub fn tiles_of(size: u64) -> Vec<TileId> {
        let mut ids = Vec::new();
        let (mut level, mut count) = (0, size);
        while count > 0 {
            if count % WIDTH > 0 {
                ids.push(TileId { level, index: count / WIDTH });
            }
            (level, count) = (level + 1, count / WIDTH);
        }
        ids
    }

    /// The edge of a tree of this size from its stored tiles, which may have grown further; `None` if one is missing.
    #[must_use]
    pub fn load(size: u64, tiles: &Tiles) -> Option<Self> {
        let (mut edge, mut count) = (Vec::new(), size);
        for level in 0.. {
            if count == 0 {
                break;
            }
            let width = usize::try_from(count % WIDTH).unwrap_or(0);
            let hashes = match width {
                0 => &[],
                width => tiles.get(TileId { level, index: count / WIDTH })?.get(..width)?,
            };
            edge.push(hashes.to_vec());
            count /= WIDTH;
        }
        Some(Self { size, edge, full: Vec::new() })
    }

    /// Leaves so far.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The last leaf, while its tile is unfinished.
    #[must_use]
    pub fn last_leaf(&self) -> Option<Hash> {
        self.edge.first()?.last().copied()
    }

    /// The leaves of the unfinished tile.
    #[must_use]
    pub fn open_leaves(&self) -> &[Hash] {
        self.edge.first().map_or(&[], Vec::as_slice)
    }

    /// Adds a leaf.
    pub fn push(&mut self, leaf: Hash) {
        let (mut hash, mut count) = (leaf, self.size);
        self.size += 1;
        for level in 0.. {
            let at = usize::from(level);
            if self.edge.len() <= at {
                self.edge.push(Vec::new());
            }
            let tile = &mut self.edge[at];
            tile.push(hash);
            if tile.len() < TILE_HASHES {
                return;
            }
            let hashes = std::mem::take(tile);
            hash = perfect(&hashes);
            self.full.push(Tile { id: TileId { level, index: count / WIDTH }, hashes });
            count /= WIDTH;
        }
    }

    /// Tiles that became full since the last call, in the order in which they did.
    pub fn take_full(&mut self) -> Vec<Tile> {
        std::mem::take(&mut self.full)
    }

    /// The unfinished tiles.
    #[must_use]
    pub fn open_tiles(&self) -> Vec<Tile> {
        let tile = |id: TileId| Some(Tile { id, hashes: self.edge.get(usize::from(id.level))?.clone() });
        Self::tiles_of(self.size).into_iter().filter_map(tile).collect()
    }

    /// The root of the tree so far.
    #[must_use]
    pub fn root(&self) -> Hash {
        let tiles: Tiles = self.open_tiles().into_iter().collect();
        // Every node of the root's span lies in an unfinished tile.
        tiles.span(&tree::root(self.size)).unwrap_or_else(tree::empty_root)
    }
}
