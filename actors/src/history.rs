//! History: a stream's state at a sequence, and replays. Reads the store, never a live actor: durable state only.

use std::{num::NonZeroU32, sync::Arc};

use bytes::Bytes;
use chrono::{DateTime, Utc};

use crate::{
    envelope::RecordedEvent,
    id::{AggregateId, AggregateType},
    ports::{Direction, StreamRange},
    recovery::{Recovered, RecoveryError},
    registry::WriteSide,
    version::{Position, Sequence},
};

/// Folds streams on request. Cloning is cheap.
#[derive(Debug, Clone)]
pub struct History {
    pub(crate) write_side: Arc<WriteSide>,
}

/// A stream's state at one of its events.
#[derive(Debug, Clone)]
pub struct StateAt {
    /// The stream.
    pub aggregate_id: AggregateId,
    /// Its type.
    pub aggregate_type: AggregateType,
    /// The last event folded in.
    pub version: Sequence,
    /// Its position.
    pub position: Position,
    /// Its instant.
    pub recorded_at: DateTime<Utc>,
    /// The state as JSON; `null` for a generic stream.
    pub state: Bytes,
    /// Events folded after the snapshot.
    pub events_replayed: u64,
    /// The snapshot that was used.
    pub snapshot_sequence: Option<Sequence>,
}

/// What to replay.
#[derive(Debug, Clone, Copy)]
pub struct ReplayRequest {
    /// The first event to list; the state is always the full one.
    pub from_sequence: Sequence,
    /// The last event to fold; `Sequence(u64::MAX)` = the head.
    pub to_sequence: Sequence,
    /// Whether a snapshot may be used; it changes the time, never the state.
    pub use_snapshot: bool,
    /// Events to list at most.
    pub limit: NonZeroU32,
}

impl History {
    /// The state at a sequence, or at the head if that comes first; `None` for an unknown stream.
    ///
    /// # Errors
    /// [`RecoveryError`].
    pub async fn state_at(
        &self,
        id: &AggregateId,
        to: Sequence,
        use_snapshot: bool,
    ) -> Result<Option<StateAt>, RecoveryError> {
        let write_side = &self.write_side;
        let _permit = write_side.recoveries.acquire().await;
        let Some(recovered) = write_side.recovery.load(id, to, use_snapshot).await? else { return Ok(None) };
        state(id, &recovered).map(Some)
    }

    /// Replays a stream: the state at `to_sequence`, and a page of the events from `from_sequence` on.
    ///
    /// # Errors
    /// [`RecoveryError`].
    pub async fn replay(
        &self,
        id: &AggregateId,
        request: ReplayRequest,
    ) -> Result<Option<(StateAt, Vec<RecordedEvent>)>, RecoveryError> {
        let Some(state) = self.state_at(id, request.to_sequence, request.use_snapshot).await? else { return Ok(None) };
        if request.from_sequence > state.version {
            return Ok(Some((state, Vec::new())));
        }
        let range = StreamRange {
            from: request.from_sequence,
            to: state.version,
            direction: Direction::Forward,
            limit: request.limit,
        };
        let events = self.write_side.recovery.store.read_stream(id, range).await?;
        Ok(Some((state, events)))
    }
}

fn state(id: &AggregateId, recovered: &Recovered) -> Result<StateAt, RecoveryError> {
    let state = recovered.instance.state().map_err(|error| RecoveryError::Codec {
        aggregate_id: id.clone(),
        sequence: recovered.head.sequence,
        source: crate::codec::CodecError::Encode(error),
    })?;
    Ok(StateAt {
        aggregate_id: id.clone(),
        aggregate_type: recovered.model.aggregate_type().clone(),
        version: recovered.head.sequence,
        position: recovered.position,
        recorded_at: recovered.recorded_at,
        state: state.into(),
        events_replayed: recovered.replayed,
        snapshot_sequence: recovered.snapshot,
    })
}
