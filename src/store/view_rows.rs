//! Stored rows of read models to the vocabulary, the same for every database.

use std::{borrow::Cow, num::NonZeroU32};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use event_sourcing_actors::{
    AggregateId, EventType, Position,
    digest::{LeafHash, row_digest},
    ports::{
        Checkpoint, Direction, Fault, Generation, Lease, NewParked, Operation, OperationStatus, ParkedEvent,
        ParkedRequest, Previous, ProjectionState, Revision, Shadow, StoreError, Tally, VIEW_CHANGES_MAX, ViewChanges,
    },
    view::{ListRange, Row, RowKey, Tag, Touched},
};
use uuid::Uuid;

/// Rows looked up by one statement.
pub(super) const LOOK_UPS_MAX: usize = 1_000;

/// Rows of one page while a generation is measured.
pub(super) const TALLY_PAGE_ROWS: NonZeroU32 = NonZeroU32::new(2_000).unwrap();

/// The columns of `projection_states`, in the order of [`RawProjection`].
macro_rules! projection_columns {
    () => {
        "name, version, generation, checkpoint, checkpoint_leaf, revision, owner, lease_until, epoch, paused, frozen, \
         shadow_generation, shadow_version, shadow_checkpoint, shadow_leaf, shadow_operation, \
         shadow_accepts_difference, previous_generation, previous_version, previous_checkpoint, previous_leaf, \
         fault_reason, fault_position, fault_at, parked, has_requests"
    };
}
/// The columns of `parked_events`, in the order of [`RawParked`].
macro_rules! parked_columns {
    () => {
        "position, key, aggregate_id, event_type, error, attempts, parked_at, request, request_operation, skipped_at, \
         skipped_by"
    };
}
/// The columns of `operations`, in the order of [`RawOperation`].
macro_rules! operation_columns {
    () => {
        "id, kind, subject, status, done, total, result, error, created_at, updated_at"
    };
}
pub(super) use {operation_columns, parked_columns, projection_columns};

fn corrupt(what: &str) -> StoreError {
    StoreError::Corrupt { reason: what.to_owned() }
}

/// A checkpoint as the drivers give it.
pub(super) struct RawCheckpoint {
    pub position: i64,
    pub leaf: Option<Vec<u8>>,
}

impl RawCheckpoint {
    fn checked(self) -> Result<Checkpoint, StoreError> {
        let leaf = self.leaf.map(|leaf| LeafHash::from_slice(&leaf).ok_or_else(|| corrupt("a checkpoint's leaf hash")));
        Ok(Checkpoint { position: Position::from_i64(self.position), leaf: leaf.transpose()? })
    }
}

/// A row of `projection_states` as the drivers give it.
pub(super) struct RawProjection {
    pub name: String,
    pub version: i64,
    pub generation: i64,
    pub checkpoint: RawCheckpoint,
    pub revision: i64,
    pub lease: Option<(Uuid, DateTime<Utc>)>,
    pub epoch: i64,
    pub is_paused: bool,
    pub is_frozen: bool,
    pub shadow: Option<RawShadow>,
    pub previous: Option<RawPrevious>,
    pub fault: Option<(String, i64, DateTime<Utc>)>,
    pub parked: i64,
    pub has_requests: bool,
}

pub(super) struct RawShadow {
    pub generation: i64,
    pub version: i64,
    pub checkpoint: RawCheckpoint,
    pub operation: Uuid,
    pub accepts_difference: bool,
}

pub(super) struct RawPrevious {
    pub generation: i64,
    pub version: i64,
    pub checkpoint: RawCheckpoint,
}

impl RawProjection {
    /// # Errors
    /// [`StoreError::Corrupt`].
    pub(super) fn checked(self) -> Result<ProjectionState, StoreError> {
        let shadow = self.shadow.map(|shadow| -> Result<_, StoreError> {
            Ok(Shadow {
                generation: Generation(shadow.generation.cast_unsigned()),
                version: shadow.version.cast_unsigned(),
                checkpoint: shadow.checkpoint.checked()?,
                operation: shadow.operation,
                accepts_difference: shadow.accepts_difference,
            })
        });
        let previous = self.previous.map(|previous| -> Result<_, StoreError> {
            Ok(Previous {
                generation: Generation(previous.generation.cast_unsigned()),
                version: previous.version.cast_unsigned(),
                checkpoint: previous.checkpoint.checked()?,
            })
        });
        Ok(ProjectionState {
            name: self.name,
            version: self.version.cast_unsigned(),
            generation: Generation(self.generation.cast_unsigned()),
            checkpoint: self.checkpoint.checked()?,
            revision: Revision(self.revision.cast_unsigned()),
            lease: self.lease.map(|(owner, expires_at)| Lease { owner, expires_at }),
            epoch: self.epoch.cast_unsigned(),
            is_paused: self.is_paused,
            is_frozen: self.is_frozen,
            shadow: shadow.transpose()?,
            previous: previous.transpose()?,
            fault: self.fault.map(|(reason, at, when)| Fault { reason, position: Position::from_i64(at), at: when }),
            parked: self.parked.cast_unsigned(),
            has_requests: self.has_requests,
        })
    }
}

/// A row of `parked_events` as the drivers give it.
pub(super) struct RawParked {
    pub position: i64,
    pub key: String,
    pub aggregate_id: String,
    pub event_type: String,
    pub error: String,
    pub attempts: i64,
    pub parked_at: DateTime<Utc>,
    pub request: Option<(String, Uuid)>,
    pub skipped: Option<(DateTime<Utc>, String)>,
}

impl RawParked {
    /// # Errors
    /// [`StoreError::Corrupt`] names the row.
    pub(super) fn checked(self) -> Result<ParkedEvent, StoreError> {
        let position = self.position;
        let corrupt = |what: &str| corrupt(&format!("parked event at position {position}: {what}"));
        let request = self.request.map(|(request, operation)| match &*request {
            "retry" => Ok((ParkedRequest::Retry, operation)),
            "skip" => Ok((ParkedRequest::Skip, operation)),
            _ => Err(corrupt("request")),
        });
        Ok(ParkedEvent {
            event: NewParked {
                position: Position::from_i64(position),
                key: self.key,
                aggregate_id: AggregateId::new(self.aggregate_id).map_err(|_| corrupt("aggregate_id"))?,
                event_type: EventType::new(self.event_type).map_err(|_| corrupt("event_type"))?,
                error: self.error,
                attempts: u32::try_from(self.attempts).map_err(|_| corrupt("attempts"))?,
            },
            parked_at: self.parked_at,
            request: request.transpose()?,
            skipped: self.skipped,
        })
    }
}

/// How a request is stored.
pub(super) fn request_word(request: ParkedRequest) -> &'static str {
    match request {
        ParkedRequest::Retry => "retry",
        ParkedRequest::Skip => "skip",
    }
}

/// A row of `operations` as the drivers give it.
pub(super) struct RawOperation {
    pub id: Uuid,
    pub kind: String,
    pub subject: String,
    pub status: String,
    pub done: i64,
    pub total: i64,
    pub result: Option<Vec<u8>>,
    pub error: Option<String>,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

impl RawOperation {
    /// # Errors
    /// [`StoreError::Corrupt`] names the row.
    pub(super) fn checked(self) -> Result<Operation, StoreError> {
        let status = match &*self.status {
            "running" => OperationStatus::Running,
            "succeeded" => OperationStatus::Succeeded,
            "failed" => OperationStatus::Failed,
            "cancelled" => OperationStatus::Cancelled,
            other => return Err(corrupt(&format!("operation {}: status {other:?}", self.id))),
        };
        Ok(Operation {
            id: self.id,
            kind: self.kind,
            subject: self.subject,
            status,
            done: self.done.cast_unsigned(),
            total: self.total.cast_unsigned(),
            result: self.result.map(Bytes::from),
            error: self.error,
            created_at: self.created_at,
            updated_at: self.updated_at,
        })
    }
}

/// How a status is stored.
pub(super) fn status_word(status: OperationStatus) -> &'static str {
    match status {
        OperationStatus::Running => "running",
        OperationStatus::Succeeded => "succeeded",
        OperationStatus::Failed => "failed",
        OperationStatus::Cancelled => "cancelled",
    }
}

/// What was touched as it is stored: 8 bytes per tag; `None` = everything.
pub(super) fn touched_bytes(touched: &Touched) -> Option<Vec<u8>> {
    match touched {
        Touched::Everything => None,
        Touched::Tags(tags) => Some(tags.iter().flat_map(|tag| tag.0.to_be_bytes()).collect()),
    }
}

fn touched(stored: Option<&[u8]>) -> Touched {
    let Some(bytes) = stored else { return Touched::Everything };
    let (tags, rest) = bytes.as_chunks();
    // What cannot be read may have been anything.
    if rest.is_empty() {
        Touched::Tags(tags.iter().map(|tag| Tag(u64::from_be_bytes(*tag))).collect())
    } else {
        Touched::Everything
    }
}

/// Revision, the one before it, what was touched.
pub(super) type RawChange = (i64, i64, Option<Vec<u8>>);

/// What is known of a projection since a revision; at most one change more than is told was read.
pub(super) fn changes(
    projection: String,
    position: i64,
    revision: i64,
    since: Revision,
    stored: &[RawChange],
) -> ViewChanges {
    let revision = Revision(revision.cast_unsigned());
    let mut last = since;
    let mut changes = Vec::with_capacity(stored.len());
    for (after, before, what) in stored {
        if Revision(before.cast_unsigned()) != last {
            break;
        }
        last = Revision(after.cast_unsigned());
        changes.push((last, touched(what.as_deref())));
    }
    let is_whole = last == revision && changes.len() <= VIEW_CHANGES_MAX;
    let position = Position::from_i64(position);
    ViewChanges { projection, position, revision, changes: is_whole.then_some(changes) }
}

/// A text that every database can hold.
pub(super) fn storable(text: &str) -> Cow<'_, str> {
    if text.contains('\0') { Cow::Owned(text.replace('\0', "\u{fffd}")) } else { Cow::Borrowed(text) }
}

/// Text of rows; a commit is checked for it before.
pub(super) fn text(data: &[u8]) -> Result<&str, StoreError> {
    std::str::from_utf8(data).map_err(|error| StoreError::Refused { reason: error.to_string() })
}

/// The ends of a list as an index knows them: the least sort, inclusive; the greatest, exclusive.
pub(super) struct Bounds {
    pub least: String,
    pub below: Option<String>,
    pub is_forward: bool,
}

/// No key holds U+0000, so nothing lies between a text and the text with U+0001 at its end.
fn just_after(text: &str) -> String {
    format!("{text}\u{1}")
}

impl Bounds {
    pub(super) fn of(list: &ListRange) -> Self {
        // As no key holds U+0000, a bound with U+0001 in its place parts the same keys.
        let end = |sort: &Option<Box<str>>| sort.as_deref().map(|sort| sort.replace('\0', "\u{1}"));
        let (from, to, after) = (end(&list.from), end(&list.to), end(&list.after));
        let mut least = from.unwrap_or_default();
        let mut below = to.as_deref().map(just_after);
        let is_forward = list.direction == Direction::Forward;
        match after {
            Some(after) if is_forward => least = least.max(just_after(&after)),
            Some(after) => below = Some(below.map_or(after.clone(), |below| below.min(after))),
            None => {}
        }
        Self { least, below, is_forward }
    }
}

/// Adds up a generation page by page.
pub(super) struct Sum {
    pub tally: Tally,
    pub last: Option<RowKey>,
}

impl Sum {
    pub(super) fn of(generation: Generation, position: Position, parked: i64) -> Self {
        let tally = Tally { generation, position, rows: 0, digest: 0, parked: parked.cast_unsigned() };
        Self { tally, last: None }
    }

    /// Whether there may be more.
    pub(super) fn add(&mut self, mut page: Vec<Row>) -> bool {
        for Row { key, data } in &page {
            let digest = row_digest(&key.collection, &key.group, &key.sort, data);
            self.tally.rows += 1;
            self.tally.digest = self.tally.digest.wrapping_add(digest);
        }
        let is_full = page.len() >= TALLY_PAGE_ROWS.get() as usize;
        self.last = page.pop().map(|row| row.key);
        is_full
    }
}
