//! What a backup says of itself: what it is of, the evidence, and that it is whole.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// What a backup is of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The backup's own id.
    pub backup_id: Uuid,
    /// The store it is of.
    pub store_id: Uuid,
    /// Which kind of store that was.
    pub store_kind: String,
    /// The schema of its tables.
    pub schema: Option<i64>,
    /// The program that made it.
    pub program: String,
    /// When.
    pub created_at: DateTime<Utc>,
    /// The last position in it.
    pub head_position: u64,
    /// How often an operator has accepted that the log went back.
    pub acceptances: u64,
    /// Whether the log was read-only.
    pub read_only: bool,
}

/// Keys and checkpoints that lay outside of the database.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Evidence {
    /// Public keys, oldest first.
    pub keys: Vec<String>,
    /// Signed notes, oldest first; none is later than the last position.
    pub checkpoints: Vec<String>,
    /// The secret key, only if it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signing_key: Option<String>,
}

/// That all of it is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct End {
    /// Events in it.
    pub events: u64,
    /// The root of the tree over them, hexadecimal.
    pub tree_root: String,
}
