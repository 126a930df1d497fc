//! Recovery: a stream's state from its newest usable snapshot and the events after it, each checked on the way.

use std::{
    cmp::Ordering,
    collections::BTreeSet,
    fmt,
    num::NonZeroU32,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use chrono::{DateTime, Utc};
use tokio::sync::mpsc;

use crate::{
    catalog::{Catalog, Instance, Model},
    codec::CodecError,
    envelope::{RecordedEvent, Snapshot, StreamHead},
    id::AggregateId,
    observe::Metrics,
    ports::{Direction, EventStore, SNAPSHOT_GAP_EVENTS_MAX, SnapshotStore, StoreError, StoredSnapshot, StreamRange},
    registry::SnapshotFrequency,
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
#[derive(Clone)]
pub(crate) struct Recovery {
    pub store: Arc<dyn EventStore>,
    pub snapshots: Arc<dyn SnapshotStore>,
    /// Where snapshots wait to be written; weak, so that the journal's end is the writer's.
    pub snapshot_queue: mpsc::WeakSender<Snapshot>,
    pub snapshot_frequency: SnapshotFrequency,
    pub catalog: Arc<Catalog>,
    pub metrics: Metrics,
    pub page: NonZeroU32,
}

impl fmt::Debug for Recovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recovery").field("store", &self.store).finish_non_exhaustive()
    }
}

/// Snapshots of one stream that do not fit, before a load folds all events instead. Only a new shape of the state makes
/// so many, and then the older ones are of the old shape too.
const MISFITS_MAX: usize = 64;

impl Recovery {
    /// The state of a stream at `to` or its head; `None` if it has no events.
    ///
    /// Snapshots that do not fit are passed over, counted and removed; new ones take their places on the way, and where a
    /// long stretch has none.
    pub async fn load(
        &self,
        id: &AggregateId,
        to: Sequence,
        use_snapshot: bool,
    ) -> Result<Option<Recovered>, RecoveryError> {
        let mut misfits = use_snapshot.then(BTreeSet::new);
        let start = match &mut misfits {
            Some(misfits) => self.start(id, to, misfits).await?,
            None => None,
        };
        let (mut recovered, mut events) = match start {
            Some(start) => start,
            None => {
                let events = self.page(id, Sequence(1), to).await?;
                let Some(first) = events.first() else { return Ok(None) };
                let model = self.catalog.model(&first.aggregate_type);
                let recovered = Recovered {
                    instance: model.empty(),
                    model,
                    head: StreamHead::EMPTY,
                    position: Position::ZERO,
                    recorded_at: first.recorded_at,
                    replayed: 0,
                    snapshot: None,
                };
                (recovered, events)
            }
        };
        // A snapshot's own event is folded already.
        let mut folded = usize::from(recovered.snapshot.is_some());
        loop {
            let is_full = events.len() == self.page.get() as usize;
            self.fold(&mut recovered, &events[folded..], misfits.as_ref())?;
            folded = 0;
            if !is_full {
                return Ok(Some(recovered));
            }
            events = self.page(id, recovered.head.sequence.next(), to).await?;
        }
    }

    /// The newest snapshot that fits, with the first page from its own event on. A cache that fails is an empty one: the
    /// events decide whether the stream can be loaded.
    async fn start(
        &self,
        id: &AggregateId,
        to: Sequence,
        misfits: &mut BTreeSet<Sequence>,
    ) -> Result<Option<(Recovered, Vec<RecordedEvent>)>, RecoveryError> {
        let mut at_most = to;
        while misfits.len() < MISFITS_MAX {
            let found = match self.snapshots.latest(id, at_most).await {
                Ok(Some(found)) => found,
                Ok(None) => return Ok(None),
                Err(error) => {
                    tracing::warn!(%error, aggregate.id = %id, "no snapshot could be read");
                    self.metrics.snapshots_ignored.with_label_values(&["store"]).inc();
                    return Ok(None);
                }
            };
            let sequence = found.sequence();
            let reason = match found {
                StoredSnapshot::Unreadable(_) => "digest",
                StoredSnapshot::Readable(snapshot) => match self.onward_from(id, to, &snapshot).await? {
                    Ok(start) => return Ok(Some(start)),
                    Err(reason) => reason,
                },
            };
            // Once per load: a new shape of the state makes all of them misfits.
            if misfits.is_empty() {
                tracing::warn!(aggregate.id = %id, %sequence, reason, "snapshot ignored");
            }
            self.metrics.snapshots_ignored.with_label_values(&[reason]).inc();
            misfits.insert(sequence);
            // Never meet it again. A failure here costs a look next time, no more.
            let _ = self.snapshots.remove(id, sequence).await;
            match sequence.min(at_most).0 {
                0 | 1 => return Ok(None),
                met => at_most = Sequence(met - 1),
            }
        }
        Ok(None)
    }

    /// Starts from a snapshot, or says why it does not fit.
    async fn onward_from(
        &self,
        id: &AggregateId,
        to: Sequence,
        snapshot: &Snapshot,
    ) -> Result<Result<(Recovered, Vec<RecordedEvent>), &'static str>, RecoveryError> {
        let model = self.catalog.model(&snapshot.aggregate_type);
        match snapshot.state_version.cmp(&model.state_version()) {
            Ordering::Less => return Ok(Err("schema")),
            Ordering::Greater => return Ok(Err("future")),
            Ordering::Equal => {}
        }
        // The domain's code reads it, and may panic on what it did not write.
        let Ok(Ok(instance)) = catch_unwind(AssertUnwindSafe(|| model.restore(&snapshot.state))) else {
            return Ok(Err("decode"));
        };
        let events = self.page(id, snapshot.head.sequence, to).await?;
        // The snapshot's own event comes first: it must be the very one that was folded in.
        let Some(anchor) = events.first().filter(|event| event.head() == snapshot.head) else {
            return Ok(Err("chain"));
        };
        if anchor.aggregate_type != snapshot.aggregate_type {
            return Ok(Err("type"));
        }
        let recovered = Recovered {
            model,
            instance,
            head: snapshot.head,
            position: anchor.position,
            recorded_at: anchor.recorded_at,
            replayed: 0,
            snapshot: Some(snapshot.head.sequence),
        };
        Ok(Ok((recovered, events)))
    }

    async fn page(&self, id: &AggregateId, from: Sequence, to: Sequence) -> Result<Vec<RecordedEvent>, StoreError> {
        if from > to {
            return Ok(Vec::new());
        }
        self.store.read_stream(id, StreamRange { from, to, direction: Direction::Forward, limit: self.page }).await
    }

    /// Folds events in; with `misfits`, makes snapshots in their places and at every great gap.
    fn fold(
        &self,
        recovered: &mut Recovered,
        events: &[RecordedEvent],
        misfits: Option<&BTreeSet<Sequence>>,
    ) -> Result<(), RecoveryError> {
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
            let is_place = |misfits: &BTreeSet<Sequence>| {
                event.sequence.0 % SNAPSHOT_GAP_EVENTS_MAX == 0 || misfits.contains(&event.sequence)
            };
            if misfits.is_some_and(is_place) {
                self.keep(recovered, &event.aggregate_id);
            }
        }
        Ok(())
    }

    /// Queues a snapshot. Whatever stands against it (the domain's code panics, the queue is full) costs time later only.
    fn keep(&self, recovered: &Recovered, id: &AggregateId) {
        let aggregate_type = recovered.model.aggregate_type();
        if (self.snapshot_frequency)(aggregate_type) == 0 {
            return;
        }
        let Some(queue) = self.snapshot_queue.upgrade() else { return };
        let Ok(Ok(state)) = catch_unwind(AssertUnwindSafe(|| recovered.instance.state())) else { return };
        let _ = queue.try_send(Snapshot {
            aggregate_id: id.clone(),
            aggregate_type: aggregate_type.clone(),
            head: recovered.head,
            state_version: recovered.model.state_version(),
            state: state.into(),
        });
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
