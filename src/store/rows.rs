//! Stored rows to the vocabulary, the same for every database.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use event_sourcing_actors::{
    AggregateId, AggregateType, EventId, EventType, NewEvent, Position, RecordedEvent, Sequence, Snapshot, StreamHead,
    digest::{ChainDigest, Checksum},
    ports::{StoreError, StreamSummary},
};
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// Positions examined by one `read_all`, so that a selective filter costs a bounded time per call.
pub(super) const WINDOW_POSITIONS_MAX: i64 = 10_000;

/// Rows fetched at once where a filter is tested here and not by the database.
pub(super) const UNFILTERED_ROWS: i64 = 1_000;

/// A row of `events` as the drivers give it.
pub(super) struct RawEvent {
    pub position: i64,
    pub aggregate_id: String,
    pub aggregate_type: String,
    pub sequence: i64,
    pub event_id: Uuid,
    pub event_type: String,
    pub schema_version: i64,
    pub data: Vec<u8>,
    pub metadata: Vec<u8>,
    pub recorded_at: DateTime<Utc>,
    pub checksum: Vec<u8>,
    pub chain: Vec<u8>,
}

impl RawEvent {
    /// # Errors
    /// [`StoreError::Corrupt`] names the row.
    pub(super) fn checked(self) -> Result<RecordedEvent, StoreError> {
        let position = self.position;
        let corrupt = |what: &str| StoreError::Corrupt { reason: format!("event at position {position}: {what}") };
        let event = NewEvent {
            aggregate_id: AggregateId::new(self.aggregate_id).map_err(|_| corrupt("aggregate_id"))?,
            aggregate_type: AggregateType::new(self.aggregate_type).map_err(|_| corrupt("aggregate_type"))?,
            sequence: Sequence(u64::try_from(self.sequence).map_err(|_| corrupt("sequence"))?),
            event_id: EventId(self.event_id),
            event_type: EventType::new(self.event_type).map_err(|_| corrupt("event_type"))?,
            schema_version: u32::try_from(self.schema_version).map_err(|_| corrupt("schema_version"))?,
            data: self.data.into(),
            metadata: self.metadata.into(),
            checksum: Checksum::from_slice(&self.checksum).ok_or_else(|| corrupt("checksum"))?,
            chain: ChainDigest::from_slice(&self.chain).ok_or_else(|| corrupt("chain"))?,
        };
        let position = Position(u64::try_from(position).map_err(|_| corrupt("position"))?);
        Ok(RecordedEvent::new(position, self.recorded_at, event))
    }
}

/// A stream with its last event as the drivers give it.
pub(super) struct RawStream {
    pub aggregate_id: String,
    pub aggregate_type: String,
    pub sequence: i64,
    pub chain: Vec<u8>,
    pub position: i64,
    pub recorded_at: DateTime<Utc>,
}

impl RawStream {
    /// # Errors
    /// [`StoreError::Corrupt`] names the row.
    pub(super) fn checked(self) -> Result<StreamSummary, StoreError> {
        let corrupt =
            |what: &str| StoreError::Corrupt { reason: format!("last event of {:?}: {what}", self.aggregate_id) };
        Ok(StreamSummary {
            aggregate_id: AggregateId::new(&self.aggregate_id).map_err(|_| corrupt("aggregate_id"))?,
            aggregate_type: AggregateType::new(&self.aggregate_type).map_err(|_| corrupt("aggregate_type"))?,
            head: StreamHead {
                sequence: Sequence(u64::try_from(self.sequence).map_err(|_| corrupt("sequence"))?),
                chain: ChainDigest::from_slice(&self.chain).ok_or_else(|| corrupt("chain"))?,
            },
            position: Position(u64::try_from(self.position).map_err(|_| corrupt("position"))?),
            recorded_at: self.recorded_at,
        })
    }
}

/// A row of `snapshots` as the drivers give it.
pub(super) struct RawSnapshot {
    pub sequence: i64,
    pub aggregate_type: String,
    pub state_version: i64,
    pub chain: Vec<u8>,
    pub state: Vec<u8>,
    pub digest: Vec<u8>,
}

impl RawSnapshot {
    /// `None` if the row is not what this program wrote: a snapshot is a cache, so it is ignored.
    pub(super) fn checked(self, id: &AggregateId) -> Option<Snapshot> {
        let snapshot = Snapshot {
            aggregate_id: id.clone(),
            aggregate_type: AggregateType::new(self.aggregate_type).ok()?,
            head: StreamHead {
                sequence: Sequence(u64::try_from(self.sequence).ok()?),
                chain: ChainDigest::from_slice(&self.chain)?,
            },
            state_version: u16::try_from(self.state_version).ok()?,
            state: self.state.into(),
        };
        (snapshot_digest(&snapshot)[..] == self.digest[..]).then_some(snapshot)
    }
}

/// What `snapshots.digest` holds.
pub(super) fn snapshot_digest(snapshot: &Snapshot) -> [u8; 32] {
    let mut hash = Sha256::new().chain_update(b"event-sourcing-cqrs/snapshot/v1");
    for text in [snapshot.aggregate_id.as_str(), snapshot.aggregate_type.as_str()] {
        hash.update((text.len() as u64).to_be_bytes());
        hash.update(text.as_bytes());
    }
    hash.update(snapshot.head.sequence.0.to_be_bytes());
    hash.update(snapshot.head.chain.0);
    hash.update(snapshot.state_version.to_be_bytes());
    hash.update(&snapshot.state);
    hash.finalize().into()
}

/// Streams that were found, in the order they were asked for.
pub(super) fn in_order(found: Vec<StreamSummary>, ids: &[AggregateId]) -> Vec<Option<StreamSummary>> {
    let found: HashMap<AggregateId, StreamSummary> =
        found.into_iter().map(|stream| (stream.aggregate_id.clone(), stream)).collect();
    ids.iter().map(|id| found.get(id).cloned()).collect()
}
