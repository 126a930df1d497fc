//! Digests: SHA-256 of a recorded event ([`Checksum`]) and the chain of a stream ([`ChainDigest`]).
//!
//! Both cover only what is known *before* an append, so an append can name its predecessor by digest. Position and
//! instant are covered by the log's Merkle tree. Hashes go over the stored bytes, length-prefixed and under a domain tag.

use std::fmt;

use sha2::{Digest, Sha256};

use crate::{
    envelope::RecordedEvent,
    id::{AggregateId, AggregateType, EventId, EventType},
    version::Sequence,
};

const EVENT_TAG: &[u8] = b"event-sourcing-cqrs/event/v1";
const CHAIN_TAG: &[u8] = b"event-sourcing-cqrs/chain/v1";
const ROW_TAG: &[u8] = b"event-sourcing-cqrs/row/v1";

macro_rules! digest_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash)]
        pub struct $name(pub [u8; 32]);

        impl $name {
            /// From stored bytes; `None` unless there are 32.
            #[must_use]
            pub fn from_slice(bytes: &[u8]) -> Option<Self> {
                bytes.try_into().ok().map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(&self.0[..6]))
            }
        }
    };
}

digest_type! {
    /// SHA-256 of one event: stream, type, sequence, event id, event type, schema version, digests of data and metadata.
    Checksum
}
digest_type! {
    /// SHA-256 over a stream's checksums up to one event: equal digests mean equal histories.
    ChainDigest
}

digest_type! {
    /// Leaf hash of one event in the log's Merkle tree (RFC 6962, 2.1): covers position and instant too.
    LeafHash
}

impl LeafHash {
    /// SHA-256(0x00 ‖ position ‖ `recorded_at` in microseconds ‖ checksum), numbers as 8 bytes, most significant first.
    #[must_use]
    pub fn of(event: &RecordedEvent) -> Self {
        Self::of_parts(event.position.0, event.recorded_at.timestamp_micros(), event.checksum)
    }

    /// The same from its parts.
    #[must_use]
    pub fn of_parts(position: u64, recorded_at_micros: i64, checksum: Checksum) -> Self {
        let mut hash = Sha256::new_with_prefix([0]);
        hash.update(position.to_be_bytes());
        hash.update(recorded_at_micros.to_be_bytes());
        hash.update(checksum.0);
        Self(hash.finalize().into())
    }
}

/// Digest of one row of a read model in 64 bits, to be added up over rows in any order.
#[must_use]
pub fn row_digest(collection: &str, group: &str, sort: &str, data: &[u8]) -> u64 {
    let mut hash = Sha256::new_with_prefix(ROW_TAG);
    for part in [collection.as_bytes(), group.as_bytes(), sort.as_bytes(), data] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let digest: [u8; 32] = hash.finalize().into();
    digest.iter().take(8).fold(0, |number, byte| (number << 8) | u64::from(*byte))
}

impl ChainDigest {
    /// The chain of a stream without events.
    pub const EMPTY: Self = Self([0; 32]);

    /// The chain after one more event.
    #[must_use]
    pub fn then(self, checksum: Checksum) -> Self {
        Self(Sha256::new().chain_update(CHAIN_TAG).chain_update(self.0).chain_update(checksum.0).finalize().into())
    }
}

/// What a checksum covers.
#[derive(Debug, Clone, Copy)]
pub struct Covered<'a> {
    /// The stream.
    pub aggregate_id: &'a AggregateId,
    /// Its type.
    pub aggregate_type: &'a AggregateType,
    /// Place in the stream.
    pub sequence: Sequence,
    /// The event's own id.
    pub event_id: EventId,
    /// The event's type.
    pub event_type: &'a EventType,
    /// Shape of the payload.
    pub schema_version: u32,
    /// Stored payload, byte for byte.
    pub data: &'a [u8],
    /// Stored metadata, byte for byte.
    pub metadata: &'a [u8],
}

impl Covered<'_> {
    /// The event's checksum.
    #[must_use]
    pub fn checksum(&self) -> Checksum {
        StoredParts {
            aggregate_id: self.aggregate_id.as_str().as_bytes(),
            aggregate_type: self.aggregate_type.as_str().as_bytes(),
            sequence: self.sequence.0,
            event_id: self.event_id.0.as_bytes(),
            event_type: self.event_type.as_str().as_bytes(),
            schema_version: self.schema_version,
            data: self.data,
            metadata: self.metadata,
        }
        .checksum()
    }
}

/// The same as bytes: what is stored need not be a name or an id any more, and still has a digest.
#[derive(Debug, Clone, Copy)]
pub struct StoredParts<'a> {
    /// The stream.
    pub aggregate_id: &'a [u8],
    /// Its type.
    pub aggregate_type: &'a [u8],
    /// Place in the stream.
    pub sequence: u64,
    /// The event's own id.
    pub event_id: &'a [u8; 16],
    /// The event's type.
    pub event_type: &'a [u8],
    /// Shape of the payload.
    pub schema_version: u32,
    /// Stored payload.
    pub data: &'a [u8],
    /// Stored metadata.
    pub metadata: &'a [u8],
}

impl StoredParts<'_> {
    /// The event's checksum.
    #[must_use]
    pub fn checksum(&self) -> Checksum {
        let mut hash = Sha256::new().chain_update(EVENT_TAG);
        for text in [self.aggregate_id, self.aggregate_type, self.event_type] {
            hash.update((text.len() as u64).to_be_bytes());
            hash.update(text);
        }
        hash.update(self.sequence.to_be_bytes());
        hash.update(self.event_id);
        hash.update(self.schema_version.to_be_bytes());
        hash.update(Sha256::digest(self.data));
        hash.update(Sha256::digest(self.metadata));
        Checksum(hash.finalize().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[test]
    fn every_covered_field_changes_the_checksum() {
        let (a, b) = (AggregateId::new("a").unwrap(), AggregateId::new("ab").unwrap());
        let (t, u) = (AggregateType::new("bc").unwrap(), AggregateType::new("c").unwrap());
        let (e, f) = (EventType::new("E").unwrap(), EventType::new("F").unwrap());
        let base = Covered {
            aggregate_id: &a,
            aggregate_type: &t,
            sequence: Sequence(1),
            event_id: EventId(Uuid::nil()),
            event_type: &e,
            schema_version: 1,
            data: b"{}",
            metadata: b"{}",
        };
        let others = [
            Covered { aggregate_id: &b, aggregate_type: &u, ..base },
            Covered { aggregate_type: &u, ..base },
            Covered { sequence: Sequence(2), ..base },
            Covered { event_id: EventId(Uuid::max()), ..base },
            Covered { event_type: &f, ..base },
            Covered { schema_version: 2, ..base },
            Covered { data: b"{ }", ..base },
            Covered { metadata: b"{ }", ..base },
        ];
        for other in others {
            assert_ne!(base.checksum(), other.checksum(), "{other:?}");
        }
        assert_ne!(ChainDigest::EMPTY.then(base.checksum()), ChainDigest::EMPTY);
    }
}
