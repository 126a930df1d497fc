//! What a verification found, as the HTTP door answers it and the command line prints it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The outcome of a verification of the log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Report {
    /// Whether nothing is wrong.
    pub intact: bool,
    /// The first thing that is wrong.
    pub first_bad: Option<FirstBad>,
    /// Position of the log's last event when the verification began.
    pub head_position: u64,
    /// The first position that was read: later than 1 when it began at a checkpoint.
    pub from_position: u64,
    /// Every event up to here was read and found intact.
    pub verified_position: u64,
    /// Every event up to here is in the tree.
    pub sealed_position: u64,
    /// Events after it: what was done to them before they are sealed is not found.
    pub unsealed_events: u64,
    /// Age of the first of them.
    pub unsealed_age_s: Option<f64>,
    /// The largest checkpoint outside of the database that the log was held against; without one a cut tail cannot be
    /// excluded.
    pub checkpoint_position: Option<u64>,
    /// Checkpoints that the log was held against.
    pub checkpoints: usize,
    /// Whether the log refuses appends.
    pub read_only: bool,
    /// What else should be known.
    pub remarks: Vec<String>,
    /// How long it took.
    pub duration_ms: f64,
}

/// Where a log is not what it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FirstBad {
    /// The first position that is wrong, or, with `to_position`, may be.
    pub position: u64,
    /// The last position at which the first wrong one may be, when checkpoints alone tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to_position: Option<u64>,
    /// What is wrong.
    pub reason: String,
}

impl FirstBad {
    /// As a sentence.
    #[must_use]
    pub fn sentence(&self) -> String {
        let Self { position, to_position, reason } = self;
        match to_position {
            Some(to) if to != position => format!("between positions {position} and {to}: {reason}"),
            _ => format!("position {position}: {reason}"),
        }
    }
}

/// The outcome of a verification of one stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StreamReport {
    /// The stream.
    pub aggregate_id: String,
    /// Whether nothing is wrong.
    pub intact: bool,
    /// The first event that is wrong.
    pub first_bad: Option<FirstBadEvent>,
    /// Sequence of its last event.
    pub version: u64,
    /// Events of it that were proven to be in the tree of the checkpoint.
    pub proven_events: u64,
    /// The others: the tree does not reach them yet.
    pub unsealed_events: u64,
    /// The checkpoint it was held against.
    pub checkpoint_position: Option<u64>,
}

/// Where a stream is not what it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FirstBadEvent {
    /// Its place in the stream.
    pub sequence: u64,
    /// Its place in the log, if it has one.
    pub position: Option<u64>,
    /// What is wrong.
    pub reason: String,
}
