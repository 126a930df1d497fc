//! History: a stream's state at a sequence, a position or an instant, what lies between two of them, and replays. Reads
//! the store, never a live actor: durable state only.

mod timeline;

use std::{num::NonZeroU32, sync::Arc};

use bytes::Bytes;
use chrono::{DateTime, Utc};

use crate::{
    difference::{Change, changes},
    envelope::RecordedEvent,
    id::{AggregateId, AggregateType},
    ports::{Direction, StoreError, StreamRange},
    recovery::{Recovered, RecoveryError},
    registry::WriteSide,
    version::{Position, Sequence},
};
use timeline::Timeline;

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

/// A point of the past.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// After this event of the stream.
    Sequence(Sequence),
    /// After this event of the log.
    Position(Position),
    /// After everything recorded at or before this instant.
    Time(DateTime<Utc>),
}

/// Which place of the log a point means. Asked for by this position, the same comes back for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resolved {
    /// The last position that counts; 0 = none.
    pub position: Position,
    /// Whether the point itself means the same for ever. It does not while the log has not gone past it: what is recorded
    /// next may belong to it.
    pub settled: bool,
}

/// A stream as it was at a point of the past.
#[derive(Debug, Clone)]
pub struct StateAsOf {
    /// The stream's type.
    pub aggregate_type: AggregateType,
    /// What the point meant.
    pub resolved: Resolved,
    /// The state; `None` before the stream's first event.
    pub state: Option<StateAt>,
}

/// A stretch of time, both ends inclusive.
#[derive(Debug, Clone, Copy)]
pub struct TimeRange {
    /// From this instant on.
    pub from: DateTime<Utc>,
    /// Up to this one.
    pub to: DateTime<Utc>,
    /// Where the page begins: [`Stretch::next_cursor`] of the page before.
    pub cursor: Option<Sequence>,
    /// Events of the page at most.
    pub limit: NonZeroU32,
}

/// What happened to a stream in a stretch of time.
#[derive(Debug, Clone)]
pub struct Stretch {
    /// The stream as it was at the beginning, with everything recorded at that very instant.
    pub from: StateAsOf,
    /// The stream as it was at the end.
    pub to: StateAsOf,
    /// A page of the events recorded in it.
    pub events: Vec<RecordedEvent>,
    /// Where the next page begins; `None` past the end.
    pub next_cursor: Option<Sequence>,
}

/// What changed in a stream's state between two sequences.
#[derive(Debug, Clone)]
pub struct Difference {
    /// The stream's type.
    pub aggregate_type: AggregateType,
    /// The first sequence, or the head if that comes first.
    pub from: Sequence,
    /// The second one, or the head.
    pub to: Sequence,
    /// The paths that differ.
    pub changes: Vec<Change>,
}

impl History {
    /// The position an instant means: the last one recorded at or before it.
    ///
    /// # Errors
    /// [`RecoveryError::Store`].
    pub async fn position_at(&self, instant: DateTime<Utc>) -> Result<Resolved, RecoveryError> {
        Ok(Timeline::of(&*self.write_side.recovery.store).await?.at(instant).await?)
    }

    /// A stream as it was at a point of the past; `None` for a stream that has no events today.
    ///
    /// # Errors
    /// [`RecoveryError`].
    pub async fn as_of(&self, id: &AggregateId, at: At) -> Result<Option<StateAsOf>, RecoveryError> {
        let store = &*self.write_side.recovery.store;
        // The log before the stream: what the one has, the other shows.
        let timeline = Timeline::of(store).await?;
        let Some(stream) = store.stream(id).await? else { return Ok(None) };
        let (resolved, version) = match at {
            At::Sequence(sequence) => {
                let state = self.state_or_none(id, sequence.min(stream.head.sequence)).await?;
                let position = state.as_ref().map_or(Position::ZERO, |state| state.position);
                let resolved = Resolved { position, settled: sequence <= stream.head.sequence };
                return Ok(Some(StateAsOf { aggregate_type: stream.aggregate_type, resolved, state }));
            }
            At::Position(position) => {
                let settled = position <= timeline.head;
                let resolved = Resolved { position: position.min(timeline.head), settled };
                (resolved, timeline.version(&stream, resolved.position).await?)
            }
            At::Time(instant) => {
                let resolved = timeline.at(instant).await?;
                (resolved, timeline.version(&stream, resolved.position).await?)
            }
        };
        let state = self.state_or_none(id, version).await?;
        Ok(Some(StateAsOf { aggregate_type: stream.aggregate_type, resolved, state }))
    }

    /// What happened to a stream between two instants; `None` for a stream that has no events today. Both are resolved for
    /// one and the same head of the log.
    ///
    /// # Errors
    /// [`RecoveryError`].
    pub async fn between(&self, id: &AggregateId, range: TimeRange) -> Result<Option<Stretch>, RecoveryError> {
        let store = &*self.write_side.recovery.store;
        let timeline = Timeline::of(store).await?;
        let Some(stream) = store.stream(id).await? else { return Ok(None) };
        let before = timeline.before(range.from).await?;
        let (from, to) = (timeline.at(range.from).await?, timeline.at(range.to).await?);
        let before = timeline.version(&stream, before).await?;
        let (at_from, at_to) =
            (timeline.version(&stream, from.position).await?, timeline.version(&stream, to.position).await?);
        let first = range.cursor.unwrap_or_default().max(before.next());
        let events = if first > at_to {
            Vec::new()
        } else {
            let (direction, limit) = (Direction::Forward, range.limit);
            store.read_stream(id, StreamRange { from: first, to: at_to, direction, limit }).await?
        };
        let next_cursor = events.last().map(|last| last.sequence.next()).filter(|next| *next <= at_to);
        let end = |resolved, state| StateAsOf { aggregate_type: stream.aggregate_type.clone(), resolved, state };
        Ok(Some(Stretch {
            from: end(from, self.state_or_none(id, at_from).await?),
            to: end(to, self.state_or_none(id, at_to).await?),
            events,
            next_cursor,
        }))
    }

    /// What changed in a stream's state between two sequences, in whichever order; `None` for a stream that has no events.
    ///
    /// # Errors
    /// [`RecoveryError`].
    pub async fn difference(
        &self,
        id: &AggregateId,
        from: Sequence,
        to: Sequence,
    ) -> Result<Option<Difference>, RecoveryError> {
        let Some(stream) = self.write_side.recovery.store.stream(id).await? else { return Ok(None) };
        let (from, to) = (from.min(stream.head.sequence), to.min(stream.head.sequence));
        let mut documents = [serde_json::Value::Null, serde_json::Value::Null];
        for (document, sequence) in documents.iter_mut().zip([from, to]) {
            if let Some(state) = self.state_or_none(id, sequence).await? {
                *document = serde_json::from_slice(&state.state).map_err(|error| StoreError::Corrupt {
                    reason: format!("the state of {id} at {sequence} is not JSON: {error}"),
                })?;
            }
        }
        let [before, after] = documents;
        Ok(Some(Difference { aggregate_type: stream.aggregate_type, from, to, changes: changes(&before, &after) }))
    }

    /// The state at a sequence; `None` before the first event.
    async fn state_or_none(&self, id: &AggregateId, sequence: Sequence) -> Result<Option<StateAt>, RecoveryError> {
        if sequence == Sequence::ZERO { Ok(None) } else { self.state_at(id, sequence, true).await }
    }

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
