//! Held against the definitions, word for word, and against published vectors.

use std::{collections::HashMap, path::Path};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Deserialize;

use super::*;
use crate::integrity::tiles::{Frontier, TileId, Tiles, needed};

/// A size or index of a tree as one of a list.
fn at(number: u64) -> usize {
    usize::try_from(number).unwrap()
}

/// The definitions of RFC 6962, 2.1, word for word; roots of the same leaves are remembered.
struct Reference {
    leaves: Vec<Hash>,
    known: HashMap<(usize, usize), Hash>,
}

impl Reference {
    fn root(&mut self, start: usize, end: usize) -> Hash {
        if end - start <= 1 {
            return self.leaves.get(start).filter(|_| end > start).copied().unwrap_or_else(empty_root);
        }
        if let Some(known) = self.known.get(&(start, end)) {
            return *known;
        }
        let middle = start + at(split((end - start) as u64));
        let hash = node_hash(&self.root(start, middle), &self.root(middle, end));
        self.known.insert((start, end), hash);
        hash
    }

    /// The hashes of spans, of which each node is a root by itself.
    fn resolved(&mut self, spans: &[Span]) -> Vec<Hash> {
        let mut node = |node: &Node| self.root(at(node.index << node.level), at((node.index + 1) << node.level));
        spans.iter().map(|span| fold(&span.iter().map(&mut node).collect::<Vec<_>>())).collect()
    }

    fn path(&mut self, index: usize, start: usize, end: usize) -> Vec<Hash> {
        if end - start <= 1 {
            return Vec::new();
        }
        let middle = start + at(split((end - start) as u64));
        let (mut path, other) = match index < middle {
            true => (self.path(index, start, middle), self.root(middle, end)),
            false => (self.path(index, middle, end), self.root(start, middle)),
        };
        path.push(other);
        path
    }

    fn consistency(&mut self, old: usize, start: usize, end: usize, is_whole: bool) -> Vec<Hash> {
        if old == end {
            return if is_whole { Vec::new() } else { vec![self.root(start, end)] };
        }
        let middle = start + at(split((end - start) as u64));
        let (mut proof, other) = match old <= middle {
            true => (self.consistency(old, start, middle, is_whole), self.root(middle, end)),
            false => (self.consistency(old, middle, end, false), self.root(start, middle)),
        };
        proof.push(other);
        proof
    }
}

fn leaves(count: u64) -> Vec<Hash> {
    (0..count).map(|number| leaf_hash(&number.to_be_bytes())).collect()
}

fn tiles(leaves: &[Hash]) -> Tiles {
    let mut frontier = Frontier::default();
    leaves.iter().for_each(|leaf| frontier.push(*leaf));
    frontier.take_full().into_iter().chain(frontier.open_tiles()).collect()
}

#[test]
fn all_pairs_up_to_256_agree_with_a_recursive_reference() {
    let leaves = leaves(256);
    let mut reference = Reference { leaves: leaves.clone(), known: HashMap::new() };
    for size in 1..=leaves.len() {
        let n = size as u64;
        let new = TreeHead { size: n, root: reference.root(0, size) };
        assert_eq!(reference.resolved(&[root(n)]), [new.root], "{size}");
        for index in 0..size {
            let proof = reference.resolved(&inclusion(index as u64, n));
            assert_eq!(proof, reference.path(index, 0, size), "{index} of {size}");
            assert!(is_included(&leaves[index], index as u64, n, &proof, &new.root), "{index} of {size}");
            let other = (index + 1) % size;
            assert!(size == 1 || !is_included(&leaves[other], index as u64, n, &proof, &new.root));
        }
        for old in 1..=size {
            let head = TreeHead { size: old as u64, root: reference.root(0, old) };
            let proof = reference.resolved(&consistency(old as u64, n));
            assert_eq!(proof, reference.consistency(old, 0, size, true), "{old} in {size}");
            assert!(is_consistent(&head, &new, &proof), "{old} in {size}");
            assert!(!is_consistent(&TreeHead { root: [7; 32], ..head }, &new, &proof), "{old} in {size}");
            assert!(!is_consistent(&head, &TreeHead { root: [7; 32], ..new }, &proof), "{old} in {size}");
        }
    }
}

#[test]
fn tiles_of_several_levels_give_the_root_and_proofs_of_the_whole() {
    let leaves = leaves(66_000);
    let tiles = tiles(&leaves);
    let mut reference = Reference { leaves: leaves.clone(), known: HashMap::new() };
    assert!(tiles.get(TileId { level: 2, index: 0 }).is_some_and(|hashes| hashes.len() == 1));
    let mut frontier = Frontier::default();
    for (size, leaf) in (1_u64..).zip(&leaves) {
        frontier.push(*leaf);
        if !matches!(size, 255..=257 | 511..=513 | 65_535..=65_537 | 66_000) {
            continue;
        }
        let whole = reference.root(0, at(size));
        assert_eq!(frontier.root(), whole, "{size}");
        let loaded = Frontier::load(size, &tiles).unwrap();
        assert_eq!((loaded.root(), loaded.size()), (whole, size));
        for index in [0, 1, 254, size / 2, size - 1] {
            let spans = inclusion(index, size);
            assert!(needed(&spans).iter().all(|id| tiles.get(*id).is_some()));
            assert!(is_included(&leaves[at(index)], index, size, &tiles.proof(&spans).unwrap(), &whole));
        }
        for old in [1, 128, 255, size / 2, size - 1] {
            let head = TreeHead { size: old, root: reference.root(0, at(old)) };
            let proof = tiles.proof(&consistency(old, size)).unwrap();
            assert!(is_consistent(&head, &TreeHead { size, root: whole }, &proof), "{old} in {size}");
        }
    }
}

#[test]
fn roots_of_the_rfc_6962_example_tree_are_the_known_ones() {
    // The eight leaves that the authors of Certificate Transparency test with, and the roots they publish.
    let data = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"];
    let roots = [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ];
    let leaves: Vec<Hash> = data.iter().map(|text| leaf_hash(&hex::decode(text).unwrap())).collect();
    assert_eq!(hex::encode(empty_root()), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    let tiles = tiles(&leaves);
    for (size, expected) in (1..).zip(roots) {
        assert_eq!(hex::encode(tiles.span(&root(size)).unwrap()), expected, "{size} leaves");
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Vector {
    #[serde(default)]
    leaf_idx: u64,
    #[serde(default)]
    tree_size: u64,
    root: Option<String>,
    leaf_hash: Option<String>,
    #[serde(default)]
    size1: u64,
    #[serde(default)]
    size2: u64,
    root1: Option<String>,
    root2: Option<String>,
    proof: Option<Vec<String>>,
    desc: String,
    want_err: bool,
}

/// A hash of a vector; one of a wrong length is no hash of ours, which refuses it before any proof is looked at.
fn hash(text: &Option<String>) -> Option<Hash> {
    STANDARD.decode(text.as_deref().unwrap_or_default()).unwrap().try_into().ok()
}

/// The same for roots that only have to be equal: in some vectors they read "don't care". Another hash stands for each
/// of those, equal where they are equal.
fn root_of(text: &Option<String>) -> Option<Hash> {
    let any = || leaf_hash(text.as_deref().unwrap_or_default().as_bytes());
    Some(hash(text).unwrap_or_else(any))
}

#[test]
fn vectors_of_transparency_dev_agree() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/vectors/merkle");
    let mut files = Vec::new();
    let mut folders = vec![folder.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            match entry.path() {
                path if path.is_dir() => folders.push(path),
                path => files.push(path),
            }
        }
    }
    if files.is_empty() {
        eprintln!("SKIPPED: no vectors in {}; the recursive reference has to do", folder.display());
        return;
    }
    for path in &files {
        let vector: Vector = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        let proof: Option<Vec<Hash>> =
            vector.proof.iter().flatten().map(|text| STANDARD.decode(text).unwrap().try_into().ok()).collect();
        let is_valid = match (path.strip_prefix(&folder).unwrap().starts_with("inclusion"), proof) {
            (_, None) => false,
            (true, Some(proof)) => match (hash(&vector.leaf_hash), hash(&vector.root)) {
                (Some(leaf), Some(root)) => is_included(&leaf, vector.leaf_idx, vector.tree_size, &proof, &root),
                _ => false,
            },
            (false, Some(proof)) => match (root_of(&vector.root1), root_of(&vector.root2)) {
                (Some(root1), Some(root2)) => {
                    let old = TreeHead { size: vector.size1, root: root1 };
                    is_consistent(&old, &TreeHead { size: vector.size2, root: root2 }, &proof)
                }
                _ => false,
            },
        };
        assert_eq!(is_valid, !vector.want_err, "{} ({})", path.display(), vector.desc);
    }
    println!("{} vectors agree", files.len());
}
