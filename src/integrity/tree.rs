//! The Merkle tree of RFC 6962 and RFC 9162: hashes, roots, proofs and their verification. Pure; knows no store.
//!
//! A proof is first a list of [`Node`]s to be hashed together ([`inclusion`], [`consistency`], [`root`]); whoever holds
//! the hashes of the tree turns it into bytes ([`super::tiles`]).

#[cfg(test)]
mod tests;

use sha2::{Digest, Sha256};

/// SHA-256 of a leaf or of a node.
pub type Hash = [u8; 32];

/// The hash of a leaf (RFC 9162, 2.1.1).
#[must_use]
pub fn leaf_hash(data: &[u8]) -> Hash {
    Sha256::new_with_prefix([0]).chain_update(data).finalize().into()
}

/// The hash of a node with these two below it.
#[must_use]
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    Sha256::new_with_prefix([1]).chain_update(left).chain_update(right).finalize().into()
}

/// The root of the tree without leaves.
#[must_use]
pub fn empty_root() -> Hash {
    Sha256::digest([]).into()
}

/// A perfect subtree: it covers the leaves from `index << level` on, `1 << level` of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Node {
    /// Levels above the leaves.
    pub level: u32,
    /// Its place in its level.
    pub index: u64,
}

/// Perfect subtrees side by side, left to right, that are hashed together into one hash of a proof.
pub type Span = Vec<Node>;

/// The perfect subtrees that cover the leaves from `start` up to `end`, the largest that fit, left to right.
#[must_use]
pub fn cover(start: u64, end: u64) -> Span {
    let (mut nodes, mut at) = (Vec::new(), start);
    while at < end {
        let fits = (end - at).ilog2();
        let level = at.trailing_zeros().min(fits);
        nodes.push(Node { level, index: at >> level });
        at += 1 << level;
    }
    nodes
}

/// What the root of a tree is hashed from.
#[must_use]
pub fn root(size: u64) -> Span {
    cover(0, size)
}

/// The hash of neighbours: the one on the right is the deepest.
#[must_use]
pub fn fold(hashes: &[Hash]) -> Hash {
    let mut from_right = hashes.iter().rev();
    match from_right.next() {
        None => empty_root(),
        Some(last) => from_right.fold(*last, |right, left| node_hash(left, &right)),
    }
}

/// The greatest power of two below a number of leaves above one: where a tree is split.
fn split(leaves: u64) -> u64 {
    1 << (leaves - 1).ilog2()
}

/// What the inclusion proof of a leaf is made of, from the leaf up; empty unless `index < size`.
#[must_use]
pub fn inclusion(index: u64, size: u64) -> Vec<Span> {
    let (mut spans, mut low, mut high) = (Vec::new(), 0, size);
    while index < size && high - low > 1 {
        let middle = low + split(high - low);
        if index < middle {
            spans.push(cover(middle, high));
            high = middle;
        } else {
            spans.push(cover(low, middle));
            low = middle;
        }
    }
    spans.reverse();
    spans
}

/// What the proof that a tree of `from` leaves is the beginning of one of `to` is made of; empty unless `0 < from < to`.
#[must_use]
pub fn consistency(from: u64, to: u64) -> Vec<Span> {
    let (mut spans, mut low, mut high) = (Vec::new(), 0, to);
    if from == 0 || from >= to {
        return spans;
    }
    while from < high {
        let middle = low + split(high - low);
        if from <= middle {
            spans.push(cover(middle, high));
            high = middle;
        } else {
            spans.push(cover(low, middle));
            low = middle;
        }
    }
    // The old root itself is known to whoever asks, unless the old tree ends inside.
    if low > 0 {
        spans.push(cover(low, high));
    }
    spans.reverse();
    spans
}

/// Whether a proof shows that the leaf with this hash is at `index` of the tree with this root (RFC 9162, 2.1.3.2).
#[must_use]
pub fn is_included(leaf: &Hash, index: u64, size: u64, proof: &[Hash], root: &Hash) -> bool {
    if index >= size {
        return false;
    }
    let (mut at, mut last, mut hash) = (index, size - 1, *leaf);
    for step in proof {
        if last == 0 {
            return false;
        }
        if at & 1 == 1 || at == last {
            hash = node_hash(step, &hash);
            while at & 1 == 0 && at != 0 {
                at >>= 1;
                last >>= 1;
            }
        } else {
            hash = node_hash(&hash, step);
        }
        at >>= 1;
        last >>= 1;
    }
    last == 0 && hash == *root
}

/// A tree as a checkpoint names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TreeHead {
    /// Its leaves.
    pub size: u64,
    /// Its root.
    pub root: Hash,
}

/// Whether a proof shows that `old` is the beginning of `new` (RFC 9162, 2.1.4.2). No proof is about the tree without
/// leaves: it is the beginning of every tree.
#[must_use]
pub fn is_consistent(old: &TreeHead, new: &TreeHead, proof: &[Hash]) -> bool {
    if old.size == 0 {
        return false;
    }
    if old.size == new.size {
        return proof.is_empty() && old.root == new.root;
    }
    if old.size > new.size {
        return false;
    }
    // A perfect old tree is a node of the new one, and its root stands for the first step.
    let (first, steps) = match proof.split_first() {
        _ if old.size.is_power_of_two() => (&old.root, proof),
        Some((first, steps)) => (first, steps),
        None => return false,
    };
    let (mut at, mut last) = (old.size - 1, new.size - 1);
    while at & 1 == 1 {
        at >>= 1;
        last >>= 1;
    }
    let (mut old_hash, mut new_hash) = (*first, *first);
    for step in steps {
        if last == 0 {
            return false;
        }
        if at & 1 == 1 || at == last {
            old_hash = node_hash(step, &old_hash);
            new_hash = node_hash(step, &new_hash);
            while at & 1 == 0 && at != 0 {
                at >>= 1;
                last >>= 1;
            }
        } else {
            new_hash = node_hash(&new_hash, step);
        }
        at >>= 1;
        last >>= 1;
    }
    last == 0 && old_hash == old.root && new_hash == new.root
}
