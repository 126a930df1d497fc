//! Recovery: a stream's state from its newest usable snapshot and the events after it, each checked on the way.

use std::{
    num::NonZeroU32,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use chrono::{DateTime, Utc};

use crate::{
    catalog::{Catalog, Instance, Model},
    codec::CodecError,
    envelope::{RecordedEvent, Snapshot, StreamHead},
    id::AggregateId,
    observe::Metrics,
    ports::{Direction, EventStore, SnapshotStore, StoreError, StreamRange},
    version::{Position, Sequence},
};

/// Why a stream cannot be folded.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A stored event cannot be read.
    #[error("event {sequence} of {aggregate_id}: {source}")]
    Codec {
        /// The stream.
        aggregate_id: AggregateId,
        /// The event.
        sequence: Sequence,
        /// Why.
        source: CodecError,
    },
    /// A stored event is not what was recorded.
    #[error("event {sequence} of {aggregate_id} at position {position} was altered: {reason}")]
    Integrity {
        /// The stream.
        aggregate_id: AggregateId,
        /// The event.
        sequence: Sequence,
        /// Its position.
        position: Position,
        /// What does not fit.
        reason: &'static str,
    },
    /// The domain's code panicked on a stored event.
    #[error("folding event {sequence} of {aggregate_id} panicked")]
    Panic {
        /// The stream.
        aggregate_id: AggregateId,
        /// The event.
        sequence: Sequence,
    },
    /// The domain's or the store's code panicked outside any event.
    #[error("loading {aggregate_id} panicked")]
    LoadPanic {
        /// The stream.
        aggregate_id: AggregateId,
    },
}

/// A stream's state at one of its events.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub model: Arc<dyn Model>,
    pub instance: Box<dyn Instance>,
    pub head: StreamHead,
    pub position: Position,
    pub recorded_at: DateTime<Utc>,
    /// Events folded.
    pub replayed: u64,
    /// Where the snapshot stood that was used.
    pub snapshot: Option<Sequence>,
}

/// Loads streams.
#[derive(Debug, Clone)]
pub(crate) struct Recovery {
    pub store: Arc<dyn EventStore>,
    pub snapshots: Arc<dyn SnapshotStore>,
    pub catalog: Arc<Catalog>,
    pub metrics: Metrics,
    pub page: NonZeroU32,
}

impl Recovery {
    /// The state of a stream at `to` or its head; `None` if it has no events.
    pub async fn load(
        &self,
        id: &AggregateId,
        to: Sequence,
        use_snapshot: bool,
    ) -> Result<Option<Recovered>, RecoveryError> {
        if use_snapshot && let Some(snapshot) = self.latest(id, to).await {
            if let Some(recovered) = self.onward_from(id, to, &snapshot).await? {
                return Ok(Some(recovered));
            }
            // It did not fit: never meet it again. A failure here costs a replay next time, no more.
            let _ = self.snapshots.discard(id, snapshot.head.sequence).await;
        }
        let mut events = self.page(id, Sequence(1), to).await?;
        let Some(first) = events.first() else { return Ok(None) };
        let model = self.catalog.model(&first.aggregate_type);
        let mut recovered = Recovered {
            instance: model.empty(),
            model,
            head: StreamHead::EMPTY,
            position: Position::ZERO,
            recorded_at: first.recorded_at,
            replayed: 0,
            snapshot: None,
        };
        loop {
            self.fold(&mut recovered, &events)?;
            if events.len() < self.page.get() as usize {
                return Ok(Some(recovered));
            }
            events = self.page(id, recovered.head.sequence.next(), to).await?;
        }
    }

    /// A cache that fails is an empty one: the events decide whether the stream can be loaded.
    async fn latest(&self, id: &AggregateId, to: Sequence) -> Option<Snapshot> {
        match self.snapshots.latest(id, to).await {
            Ok(snapshot) => snapshot,
            Err(error) => {
                tracing::warn!(%error, aggregate.id = %id, "no snapshot could be read");
                self.metrics.snapshots_ignored.with_label_values(&["store"]).inc();
                None
            }
        }
    }

    async fn onward_from(
        &self,
        id: &AggregateId,
        to: Sequence,
        snapshot: &Snapshot,
    ) -> Result<Option<Recovered>, RecoveryError> {
        let ignore = |reason: &str| {
            tracing::warn!(aggregate.id = %id, sequence = %snapshot.head.sequence, reason, "snapshot ignored");
            self.metrics.snapshots_ignored.with_label_values(&[reason]).inc();
        };
        let mut events = self.page(id, snapshot.head.sequence, to).await?;
        // The snapshot's own event comes first: it must be the very one that was folded in.
        let Some(anchor) = events.first().filter(|event| event.head() == snapshot.head) else {
            ignore("chain");
            return Ok(None);
        };
        let model = self.catalog.model(&anchor.aggregate_type);
        if anchor.aggregate_type != snapshot.aggregate_type {
            ignore("type");
            return Ok(None);
        }
        if model.state_version() != snapshot.state_version {
            ignore("schema");
            return Ok(None);
        }
        // The domain's code reads it, and may panic on what it did not write.
        let Ok(Ok(instance)) = catch_unwind(AssertUnwindSafe(|| model.restore(&snapshot.state))) else {
            ignore("decode");
            return Ok(None);
        };
        let mut recovered = Recovered {
            model,
            instance,
            head: snapshot.head,
            position: anchor.position,
            recorded_at: anchor.recorded_at,
            replayed: 0,
            snapshot: Some(snapshot.head.sequence),
        };
        let mut is_full = events.len() == self.page.get() as usize;
        events.remove(0);
        loop {
            self.fold(&mut recovered, &events)?;
            if !is_full {
                return Ok(Some(recovered));
            }
            events = self.page(id, recovered.head.sequence.next(), to).await?;
            is_full = events.len() == self.page.get() as usize;
        }
    }

    async fn page(&self, id: &AggregateId, from: Sequence, to: Sequence) -> Result<Vec<RecordedEvent>, StoreError> {
        if from > to {
            return Ok(Vec::new());
        }
        self.store.read_stream(id, StreamRange { from, to, direction: Direction::Forward, limit: self.page }).await
    }

    fn fold(&self, recovered: &mut Recovered, events: &[RecordedEvent]) -> Result<(), RecoveryError> {
        for event in events {
            check(recovered.head, event)?;
            let folded = catch_unwind(AssertUnwindSafe(|| recovered.instance.fold(event, self.catalog.upcasters())));
            folded
                .map_err(|_| RecoveryError::Panic {
                    aggregate_id: event.aggregate_id.clone(),
                    sequence: event.sequence,
                })?
                .map_err(|source| RecoveryError::Codec {
                    aggregate_id: event.aggregate_id.clone(),
                    sequence: event.sequence,
                    source,
                })?;
            recovered.head = event.head();
            recovered.position = event.position;
            recovered.recorded_at = event.recorded_at;
            recovered.replayed += 1;
        }
        Ok(())
    }
}

/// Checks that an event is intact and follows a head.
fn check(head: StreamHead, event: &RecordedEvent) -> Result<(), RecoveryError> {
    let reason = if event.sequence != head.sequence.next() {
        "its sequence does not follow its predecessor's"
    } else if !event.is_intact() {
        "its checksum is not the digest of its content"
    } else if event.chain != head.chain.then(event.checksum) {
        "its chain does not continue its predecessor's"
    } else {
        return Ok(());
    };
    Err(RecoveryError::Integrity {
        aggregate_id: event.aggregate_id.clone(),
        sequence: event.sequence,
        position: event.position,
        reason,
    })
}
