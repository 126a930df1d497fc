//! From an instant to a position of the log, and from a position to a sequence of a stream.
//!
//! `recorded_at` never goes back along the log, and positions rise along each stream, so both are binary searches over
//! places that have no holes: about 20 reads of one event in a log of a million, and no index to keep.

use std::num::NonZeroU32;

use chrono::{DateTime, Utc};

use super::Resolved;
use crate::{
    envelope::{EventFilter, RecordedEvent},
    ports::{Direction, EventStore, StoreError, StreamRange, StreamSummary},
    version::{Position, Sequence},
};

/// The log as one call found it: everything asked of it is answered for the same head.
#[derive(Debug)]
pub(super) struct Timeline<'a> {
    store: &'a dyn EventStore,
    pub head: Position,
    /// When the head was recorded; `None` in an empty log.
    head_at: Option<DateTime<Utc>>,
}

impl<'a> Timeline<'a> {
    pub async fn of(store: &'a dyn EventStore) -> Result<Self, StoreError> {
        let mut timeline = Self { store, head: store.head().await?, head_at: None };
        if timeline.head > Position::ZERO {
            timeline.head_at = Some(timeline.event(timeline.head).await?.recorded_at);
        }
        Ok(timeline)
    }

    /// The last position recorded at or before an instant. Settled once something later is recorded: until then an
    /// event may still come that bears an instant as early as this.
    pub async fn at(&self, instant: DateTime<Utc>) -> Result<Resolved, StoreError> {
        if self.head_at.is_none_or(|head_at| instant >= head_at) {
            return Ok(Resolved { position: self.head, settled: false });
        }
        let position = self.last(|event| event.recorded_at <= instant).await?;
        Ok(Resolved { position, settled: true })
    }

    /// The last position recorded before an instant.
    pub async fn before(&self, instant: DateTime<Utc>) -> Result<Position, StoreError> {
        if self.head_at.is_none_or(|head_at| instant > head_at) {
            return Ok(self.head);
        }
        self.last(|event| event.recorded_at < instant).await
    }

    /// The last event of a stream at or below a position; 0 before its first.
    pub async fn version(&self, stream: &StreamSummary, position: Position) -> Result<Sequence, StoreError> {
        if position >= stream.position {
            return Ok(stream.head.sequence);
        }
        let (mut low, mut high) = (0, stream.head.sequence.0);
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            let only = Sequence(middle);
            let range = StreamRange { from: only, to: only, direction: Direction::Forward, limit: NonZeroU32::MIN };
            let events = self.store.read_stream(&stream.aggregate_id, range).await?;
            let event = events.first().ok_or_else(|| StoreError::Corrupt {
                reason: format!("event {middle} of {} is not there", stream.aggregate_id),
            })?;
            if event.position <= position { low = middle } else { high = middle }
        }
        Ok(Sequence(low))
    }

    /// The last position whose event, as all before it, passes.
    async fn last(&self, passes: impl Fn(&RecordedEvent) -> bool) -> Result<Position, StoreError> {
        let (mut low, mut high) = (0, self.head.0 + 1);
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            if passes(&self.event(Position(middle)).await?) { low = middle } else { high = middle }
        }
        Ok(Position(low))
    }

    async fn event(&self, position: Position) -> Result<RecordedEvent, StoreError> {
        let before = Position(position.0 - 1);
        let page = self.store.read_all(before, &EventFilter::default(), NonZeroU32::MIN).await?;
        let found = page.events.into_iter().next().filter(|event| event.position == position);
        found.ok_or_else(|| StoreError::Corrupt { reason: format!("there is no event at position {position}") })
    }
}
