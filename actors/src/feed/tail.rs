//! The tail: the last events of the log, read once for all followers that are near its head. Never the only copy: who is
//! not near, or finds a gap, asks the store.

use std::{
    collections::VecDeque,
    num::NonZeroU32,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::timeout;

use crate::{
    envelope::{EventFilter, RecordedEvent},
    limits::Limits,
    ports::{EventStore, StoreError},
    version::Position,
};

/// The last events, contiguous by position.
#[derive(Debug)]
pub(crate) struct Tail {
    ring: Mutex<Ring>,
    /// Held by the one follower that reads what is new.
    filling: tokio::sync::Mutex<()>,
    events_max: usize,
    bytes_max: usize,
}

/// Every event after `start` up to `end`.
#[derive(Debug, Default)]
struct Ring {
    start: Position,
    end: Position,
    events: VecDeque<Arc<RecordedEvent>>,
    bytes: usize,
}

impl Tail {
    pub fn new(limits: &Limits) -> Self {
        Self {
            ring: Mutex::default(),
            filling: tokio::sync::Mutex::new(()),
            events_max: limits.tail_events_max,
            bytes_max: limits.tail_bytes_max,
        }
    }

    /// Some events after a position, unfiltered and without a gap; the first to ask for new ones reads them for all.
    /// `None` when the caller has to ask the store itself.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn events(
        &self,
        store: &dyn EventStore,
        after: Position,
        known: Position,
    ) -> Result<Option<Vec<Arc<RecordedEvent>>>, StoreError> {
        // Who is far behind is better served by its own filter, stream and larger pages.
        if known.0.saturating_sub(after.0) > self.events_max as u64 {
            return Ok(None);
        }
        if let Some(events) = self.held(after) {
            return Ok(Some(events));
        }
        // Who waited too long for a reader that is stuck asks the store itself.
        let Ok(_filling) = timeout(FILLING, self.filling.lock()).await else { return Ok(None) };
        if let Some(events) = self.held(after) {
            return Ok(Some(events));
        }
        let Some(from) = self.ring().place(after, known) else { return Ok(None) };
        let page = store.read_all(from, &EventFilter::default(), BATCH).await?;
        self.ring().extend(page.events, self.events_max, self.bytes_max);
        Ok(self.held(after))
    }

    fn held(&self, after: Position) -> Option<Vec<Arc<RecordedEvent>>> {
        let ring = self.ring();
        if after < ring.start || after >= ring.end {
            return None;
        }
        let from = ring.events.partition_point(|event| event.position <= after);
        Some(ring.events.range(from..).take(BATCH.get() as usize).cloned().collect())
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ring {
    /// Where to read on for a follower at `after`; `None` when it is behind the tail. The tail begins anew at a follower
    /// that is ahead of it, and when it lies beyond a log that was never so long.
    fn place(&mut self, after: Position, known: Position) -> Option<Position> {
        if after >= known {
            return None;
        }
        if after > self.end || self.start > known {
            *self = Self { start: after, end: after, ..Self::default() };
        }
        (after >= self.start).then_some(self.end)
    }

    fn extend(&mut self, events: Vec<RecordedEvent>, events_max: usize, bytes_max: usize) {
        for event in events {
            self.end = event.position;
            self.bytes += size(&event);
            self.events.push_back(Arc::new(event));
        }
        while self.events.len() > events_max || self.bytes > bytes_max {
            let Some(first) = self.events.pop_front() else { break };
            self.bytes -= size(&first);
            self.start = first.position;
        }
    }
}

fn size(event: &RecordedEvent) -> usize {
    event.data.len() + event.metadata.len()
}

/// Events read, and given, at once.
const BATCH: NonZeroU32 = NonZeroU32::MIN.saturating_add(63);
/// How long a follower waits for another that reads.
const FILLING: Duration = Duration::from_secs(1);
