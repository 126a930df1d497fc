//! What evidence asks of the database of the events: [`TreeStore`], and rows as they lie there.

use std::{fmt::Debug, ops::Range, time::Duration};

use event_sourcing_actors::{digest::ChainDigest, ports::StoreError};
use futures_util::future::BoxFuture;
use uuid::Uuid;

use super::tiles::{Tile, TileId};

/// A row of `events`, byte for byte as it is stored: whoever altered it need not have left it readable.
#[derive(Debug, Clone, Copy)]
pub struct StoredRow<'a> {
    /// Place in the log.
    pub position: i64,
    /// The stream.
    pub aggregate_id: &'a [u8],
    /// Its type.
    pub aggregate_type: &'a [u8],
    /// Place in the stream.
    pub sequence: i64,
    /// The event's own id.
    pub event_id: &'a [u8],
    /// The event's type.
    pub event_type: &'a [u8],
    /// Shape of the payload.
    pub schema_version: i64,
    /// Payload.
    pub data: &'a [u8],
    /// Metadata.
    pub metadata: &'a [u8],
    /// Microseconds since 1970.
    pub recorded_at: i64,
    /// Digest of the event.
    pub checksum: &'a [u8],
    /// The stream's chain after the event.
    pub chain: &'a [u8],
}

/// Rows in one buffer.
#[derive(Debug, Default)]
pub struct StoredRows {
    bytes: Vec<u8>,
    rows: Vec<Spans>,
}

#[derive(Debug)]
struct Spans {
    numbers: [i64; 4],
    parts: [Range<usize>; 8],
}

impl StoredRows {
    /// Rows whose parts lie one after the other in `bytes`, from the place given on: per row its numbers (position,
    /// sequence, schema version, microseconds) and the lengths of its parts, in the order of [`StoredRow`]. `None` if
    /// they do not fit.
    #[must_use]
    pub fn packed(bytes: Vec<u8>, start: usize, rows: &[([i64; 4], [usize; 8])]) -> Option<Self> {
        let mut at = start;
        let spans = rows.iter().map(|(numbers, lengths)| {
            let mut fits = true;
            let parts = lengths.map(|length| {
                let part = at..at.saturating_add(length);
                fits &= part.end <= bytes.len();
                at = part.end;
                part
            });
            fits.then_some(Spans { numbers: *numbers, parts })
        });
        let rows = spans.collect::<Option<Vec<_>>>()?;
        Some(Self { bytes, rows })
    }

    /// Adds one.
    pub fn push(&mut self, row: &StoredRow<'_>) {
        let parts = [
            row.aggregate_id,
            row.aggregate_type,
            row.event_id,
            row.event_type,
            row.data,
            row.metadata,
            row.checksum,
            row.chain,
        ];
        let parts = parts.map(|part| {
            let start = self.bytes.len();
            self.bytes.extend_from_slice(part);
            start..self.bytes.len()
        });
        self.rows.push(Spans { numbers: [row.position, row.sequence, row.schema_version, row.recorded_at], parts });
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The bytes of all of them.
    #[must_use]
    pub fn bytes_len(&self) -> usize {
        self.bytes.len()
    }

    /// Forgets those after a position.
    pub fn retain_up_to(&mut self, position: i64) {
        self.rows.retain(|row| row.numbers[0] <= position);
    }

    /// Forgets those up to a position.
    pub fn retain_after(&mut self, position: i64) {
        self.rows.retain(|row| row.numbers[0] > position);
    }

    /// One after the other.
    pub fn iter(&self) -> impl Iterator<Item = StoredRow<'_>> {
        self.rows.iter().map(|row| {
            let part = |index: usize| &self.bytes[row.parts[index].clone()];
            StoredRow {
                position: row.numbers[0],
                aggregate_id: part(0),
                aggregate_type: part(1),
                sequence: row.numbers[1],
                event_id: part(2),
                event_type: part(3),
                schema_version: row.numbers[2],
                data: part(4),
                metadata: part(5),
                recorded_at: row.numbers[3],
                checksum: part(6),
                chain: part(7),
            }
        })
    }
}

/// How the stored tree stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeState {
    /// Its leaves.
    pub size: u64,
    /// How often an operator has accepted that the log went back.
    pub acceptances: u64,
    /// The last checkpoint that was signed.
    pub checkpoint: Option<String>,
    /// Position of the log's last event, read after the above.
    pub head: u64,
    /// Whether the log refuses appends.
    pub is_read_only: bool,
}

/// The right to let the tree grow, for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SealLease {
    /// Who has it.
    pub owner: Uuid,
    /// Rises with each new owner.
    pub epoch: u64,
}

/// New leaves.
#[derive(Debug, Clone)]
pub struct Growth {
    /// By whom.
    pub lease: SealLease,
    /// The size it grows from.
    pub from: u64,
    /// The size it grows to.
    pub to: u64,
    /// The tiles that change, as they are then.
    pub tiles: Vec<Tile>,
}

/// The predecessor of an event in its stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Predecessor {
    /// Its position.
    pub position: i64,
    /// The chain after it; `None` if what is stored is no digest.
    pub chain: Option<ChainDigest>,
}

/// The tree in the database of the events, and the events as they lie there.
pub trait TreeStore: Debug + Send + Sync + 'static {
    /// The store's own id, random at its first migration.
    fn tree_id(&self) -> Uuid;

    /// How the tree stands.
    ///
    /// # Errors
    /// [`StoreError`].
    fn tree(&self) -> BoxFuture<'_, Result<TreeState, StoreError>>;

    /// Takes or renews the right to let the tree grow; `None` while somebody else has it.
    ///
    /// # Errors
    /// [`StoreError`].
    fn acquire_tree(&self, owner: Uuid, lease: Duration) -> BoxFuture<'_, Result<Option<SealLease>, StoreError>>;

    /// Gives the right back.
    ///
    /// # Errors
    /// [`StoreError`].
    fn release_tree(&self, owner: Uuid) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Lets the tree grow by compare-and-set on its size and owner; `false` if it stands elsewhere, or another owns it,
    /// and then nothing was stored.
    ///
    /// # Errors
    /// [`StoreError`].
    fn grow_tree(&self, growth: Growth) -> BoxFuture<'_, Result<bool, StoreError>>;

    /// Stores the last checkpoint, for other processes to read; ignored unless the lease still holds.
    ///
    /// # Errors
    /// [`StoreError`].
    fn publish_checkpoint(&self, lease: SealLease, note: String) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Makes the log read-only, unless an operator has accepted something since the number of acceptances was read.
    ///
    /// # Errors
    /// [`StoreError`].
    fn refuse_appends(&self, acceptances: u64) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Records an acceptance with its first checkpoint, and lets the log take appends again.
    ///
    /// # Errors
    /// [`StoreError`].
    fn accept(&self, acceptances: u64, note: String) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Those tiles that are there.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when one is no tile.
    fn tiles<'a>(&'a self, ids: &'a [TileId]) -> BoxFuture<'a, Result<Vec<Tile>, StoreError>>;

    /// Rows of the log from a position on, in order of position, at most so many.
    ///
    /// # Errors
    /// [`StoreError`].
    fn rows(&self, from: i64, limit: u32) -> BoxFuture<'_, Result<StoredRows, StoreError>>;

    /// Rows of a stream from a sequence on, in order of sequence, at most so many.
    ///
    /// # Errors
    /// [`StoreError`].
    fn stream_rows<'a>(
        &'a self,
        stream: &'a [u8],
        from: i64,
        limit: u32,
    ) -> BoxFuture<'a, Result<StoredRows, StoreError>>;

    /// The event of a stream with this sequence, if there is one.
    ///
    /// # Errors
    /// [`StoreError`].
    fn predecessor<'a>(
        &'a self,
        stream: &'a [u8],
        sequence: i64,
    ) -> BoxFuture<'a, Result<Option<Predecessor>, StoreError>>;
}
