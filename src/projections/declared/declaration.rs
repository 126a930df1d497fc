//! A declaration as it is understood. Its JSON form is canonical: what means the same has the same digest.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

/// Raised when the same declaration begins to mean something else.
const MEANING: &[u8] = b"declared projection 1\n";

/// What a projection does, by event type.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Declaration {
    pub(super) on: BTreeMap<String, Rule>,
}

/// What one event does.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Rule {
    /// Names the row.
    pub(super) key: Source,
    pub(super) effect: Effect,
}

/// What happens to the row.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) enum Effect {
    /// It goes.
    Remove,
    /// Its fields change; a missing row is made.
    Change { fields: BTreeMap<String, Operation> },
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) enum Source {
    /// A part of the payload; the tokens of its JSON pointer.
    Payload(Vec<String>),
    /// A part of the metadata.
    Metadata(Vec<String>),
    /// Something the envelope says.
    Envelope(Envelope),
    /// Written in the declaration.
    Constant(Value),
}

/// What the envelope says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) enum Envelope {
    AggregateId,
    AggregateType,
    EventId,
    EventType,
    Position,
    RecordedAt,
    RecordedOn,
    Sequence,
}

impl Envelope {
    /// Its words.
    pub(super) const WORDS: [(&str, Self); 8] = [
        ("$aggregate_id", Self::AggregateId),
        ("$aggregate_type", Self::AggregateType),
        ("$event_id", Self::EventId),
        ("$event_type", Self::EventType),
        ("$position", Self::Position),
        ("$recorded_at", Self::RecordedAt),
        ("$recorded_on", Self::RecordedOn),
        ("$sequence", Self::Sequence),
    ];
}

/// What happens to a field.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) enum Operation {
    /// One more.
    Count,
    /// The field goes.
    RemoveField,
    /// Something with a value.
    With {
        verb: Verb,
        source: Source,
        /// Whether an event without the value leaves the field alone.
        optional: bool,
    },
}

/// What is done with a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) enum Verb {
    Set,
    Add,
    Subtract,
    Min,
    Max,
    Append { elements_max: usize },
    Remove,
}

impl Declaration {
    /// Changes with the declaration. 53 bits, which every JSON library reads exactly.
    pub(super) fn version(&self) -> u64 {
        let canonical = serde_json::to_vec(self).unwrap_or_default();
        let digest: [u8; 32] = Sha256::new_with_prefix(MEANING).chain_update(canonical).finalize().into();
        let number = digest.iter().take(8).fold(0, |number: u64, byte| (number << 8) | u64::from(*byte));
        (number >> 11).max(1)
    }
}
