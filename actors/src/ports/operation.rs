//! Operations: long work, on record from its beginning to its end.

use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Long work, as people follow it.
#[derive(Debug, Clone, PartialEq)]
pub struct Operation {
    /// Its id.
    pub id: Uuid,
    /// What is done, such as `projection-rebuild`.
    pub kind: String,
    /// To what, such as a projection's name.
    pub subject: String,
    /// How it stands.
    pub status: OperationStatus,
    /// How much is done, in units of its own (events).
    pub done: u64,
    /// How much there is to do, as far as it is known.
    pub total: u64,
    /// What came of it: a JSON object.
    pub result: Option<Bytes>,
    /// Why it failed.
    pub error: Option<String>,
    /// When it was asked for.
    pub created_at: DateTime<Utc>,
    /// When something was last heard of it.
    pub updated_at: DateTime<Utc>,
}

/// How an operation stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OperationStatus {
    /// Asked for or under way.
    Running,
    /// Done.
    Succeeded,
    /// Over, in vain.
    Failed,
    /// Given up by an operator.
    Cancelled,
}

/// How long operations that have ended stay on record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OperationsKept {
    /// Since their end.
    pub age: Duration,
    /// Among so many of the newest operations, whatever became of them.
    pub newest_max: u32,
}

/// News of an operation. One that has ended stays as it ended.
#[derive(Debug, Clone, PartialEq)]
pub struct OperationUpdate {
    /// Which.
    pub id: Uuid,
    /// How it stands.
    pub status: OperationStatus,
    /// How much is done.
    pub done: u64,
    /// How much there is to do.
    pub total: u64,
    /// What came of it.
    pub result: Option<Bytes>,
    /// Why it failed.
    pub error: Option<String>,
}
