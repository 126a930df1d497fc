//! Evidence as the outside sees it.

use event_sourcing_actors::Position;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Why an event is in the tree of a checkpoint (RFC 9162, 2.1.3). Hashes are 64 hex digits.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct InclusionProof {
    /// The event's position; its leaf has the index before it.
    pub position: Position,
    /// Leaves of the tree.
    pub tree_size: u64,
    /// Hash of the event's leaf.
    pub leaf_hash: String,
    /// From the leaf up.
    pub hashes: Vec<String>,
    /// The signed note with the tree's root.
    pub checkpoint: String,
}

/// Why a tree is the beginning of a later one (RFC 9162, 2.1.4).
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct ConsistencyProof {
    /// Leaves of the earlier tree.
    pub from: u64,
    /// Leaves of the later one.
    pub to: u64,
    /// The proof.
    pub hashes: Vec<String>,
    /// The signed note of the last checkpoint.
    pub checkpoint: String,
}
