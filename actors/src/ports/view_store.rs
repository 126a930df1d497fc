//! The view store port: rows of read models, each projection's checkpoint and lease, and the requests of operators.
//!
//! A projection has up to three *generations* of rows: the **served** one, a **shadow** that a rebuild fills beside it,
//! and the **previous** one, kept for a rollback. Everything that decides who may write which is one row per
//! projection: owner, epoch, lease, checkpoints. Each commit tests that row first, so two owners cannot both win.

use std::{fmt::Debug, num::NonZeroU32, time::Duration};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    NewParked, Operation, OperationUpdate, OperationsKept, ParkedEvent, ParkedFilter, ParkedRequest, StoreError,
};
use crate::{
    digest::LeafHash,
    version::Position,
    view::{Row, RowKey, Selection, Touched},
};

/// Names one generation of a projection's rows, in the whole store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Generation(pub u64);

/// Counts what readers could notice: rises with each commit that touches served rows, by a leap whenever the owner
/// changes (so that commits a crash undid are never counted again), and never falls, not even on rollback.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Revision(pub u64);

/// The leap of a revision at a change of owner: more commits than a crash could undo.
pub const REVISION_LEAP: u64 = 1_000_000;

/// Changes told by one [`ViewStore::changes`] per projection; a reader that lags further is told that everything may
/// have changed.
pub const VIEW_CHANGES_MAX: usize = 1_000;

/// The last event a generation has applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Checkpoint {
    /// Its position; 0 = none yet.
    pub position: Position,
    /// Its leaf hash, by which a log that went back is noticed; `None` at position 0.
    pub leaf: Option<LeafHash>,
}

/// One projection as the store knows it.
#[derive(Debug, Clone, PartialEq)]
pub struct ProjectionState {
    /// The projection.
    pub name: String,
    /// [`Projection::version`](crate::projection::Projection::version) of the code that writes the served generation.
    pub version: u64,
    /// The rows readers get.
    pub generation: Generation,
    /// What they have applied.
    pub checkpoint: Checkpoint,
    /// Rises with every change that readers could notice.
    pub revision: Revision,
    /// Who may write.
    pub lease: Option<Lease>,
    /// Raised at each change of owner and never reset.
    pub epoch: u64,
    /// An operator has paused it: neither the served nor the shadow rows move.
    pub is_paused: bool,
    /// After a rollback: the served rows do not follow the log until a rebuild replaces them.
    pub is_frozen: bool,
    /// The rebuild under way.
    pub shadow: Option<Shadow>,
    /// The rows before the last swap, with their version.
    pub previous: Option<Previous>,
    /// Why it stopped by itself.
    pub fault: Option<Fault>,
    /// Events of the served generation that are parked (not counting skipped ones).
    pub parked: u64,
    /// Whether some parked event waits to be retried or skipped.
    pub has_requests: bool,
}

/// Who may write a projection's rows, and until when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// The owner: new for each start of a process.
    pub owner: Uuid,
    /// By the store's clock.
    pub expires_at: DateTime<Utc>,
}

/// Rows that a rebuild fills beside the served ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shadow {
    /// The rows.
    pub generation: Generation,
    /// The version of the code that writes them.
    pub version: u64,
    /// What they have applied.
    pub checkpoint: Checkpoint,
    /// The operation that tells its progress.
    pub operation: Uuid,
    /// Whether the swap may go on though the rows differ from the served ones.
    pub accepts_difference: bool,
}

/// The generation before the last swap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Previous {
    /// The rows.
    pub generation: Generation,
    /// The version of the code that wrote them.
    pub version: u64,
    /// What they had applied when they were swapped out.
    pub checkpoint: Checkpoint,
}

/// Why a projection stopped by itself; a rebuild or a resume makes it go on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// A sentence that says what to do.
    pub reason: String,
    /// Where in the log.
    pub position: Position,
    /// When.
    pub at: DateTime<Utc>,
}

/// A wish to own a projection.
#[derive(Debug, Clone)]
pub struct LeaseClaim {
    /// The projection.
    pub projection: String,
    /// Who asks.
    pub owner: Uuid,
    /// How long the lease lasts unless it is renewed; each commit renews it.
    pub lease: Duration,
}

/// What one generation becomes in a commit.
#[derive(Debug, Clone, Default)]
pub struct Move {
    /// Where it stands: tested.
    pub from: Position,
    /// Where it goes; equal to `from` when only parked events are settled.
    pub to: Checkpoint,
    /// Rows to write, each key once.
    pub puts: Vec<Row>,
    /// Rows to remove; a missing one is no fault.
    pub deletes: Vec<RowKey>,
    /// Events to park.
    pub parked: Vec<NewParked>,
    /// Parked events that were applied after all: they are forgotten.
    pub released: Vec<Position>,
    /// Parked events that an operator skipped: they stay on record, as skipped, and hold back nothing any more.
    pub skipped: Vec<Position>,
    /// Parked events that were tried again in vain: their error and number of attempts are renewed, their request is
    /// taken back.
    pub retried: Vec<NewParked>,
}

/// A step of an owner, in one transaction.
#[derive(Debug, Clone)]
pub struct ViewCommit {
    /// The projection.
    pub projection: String,
    /// Who commits: tested.
    pub owner: Uuid,
    /// The epoch of its lease: tested.
    pub epoch: u64,
    /// The lease is renewed for so long.
    pub lease: Duration,
    /// What the served generation becomes, if that generation is still this one: tested.
    pub served: Option<(Generation, Move)>,
    /// What the shadow becomes, if it is still this one: tested.
    pub shadow: Option<(Generation, Move)>,
    /// What readers may notice; the revision rises unless it is nothing.
    pub touched: Touched,
    /// What becomes of the projection beside that.
    pub transition: Option<Transition>,
    /// News of an operation.
    pub operation: Option<OperationUpdate>,
}

/// What becomes of a projection, beside its rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transition {
    /// The shadow is served from now on, with its version; the served rows become the previous ones, and previous ones
    /// before them are up for removal. Taken only while both stand at one position, or `force` (a new version's rows
    /// replace others that stood still). Clears fault and freeze.
    Swap {
        /// Whether different positions are fine.
        force: bool,
    },
    /// The shadow is given up and its rows are up for removal.
    DropShadow,
    /// It stops until an operator acts.
    Stop(Fault),
}

/// What became of a commit.
#[derive(Debug, Clone, PartialEq)]
pub enum ViewOutcome {
    /// All of it is stored; the projection now stands like this.
    Committed(Box<ProjectionState>),
    /// Something tested was not so: nothing is stored. Read the state anew, and trust nothing remembered.
    Lost,
}

/// What an operator wants of a projection. Every process may ask; the owner is made to notice.
#[derive(Debug, Clone)]
pub enum Control {
    /// Neither served nor shadow rows move any more.
    Pause,
    /// They move again; a fault is cleared.
    Resume,
    /// Begin a shadow from position 0 and record its operation (kind `projection-rebuild`, subject the projection). Clears a fault; does not touch the served rows.
    Rebuild {
        /// The operation's id.
        operation: Uuid,
        /// The version of the code that asks.
        version: u64,
        /// Whether the swap may go on though the rows differ from the served ones.
        accepts_difference: bool,
    },
    /// Give up the shadow of this operation; the operation becomes cancelled. The epoch rises, so a step of the owner
    /// that is under way is lost.
    Cancel {
        /// The rebuild.
        operation: Uuid,
    },
    /// Serve the previous rows again, frozen; what was served becomes the previous. The epoch rises. Refused while a
    /// rebuild is under way.
    Rollback,
    /// Let go of the previous rows: there is nothing to roll back to, and they are up for removal.
    ForgetPrevious,
    /// Retry or skip a parked event of the served rows, and record the operation (kind `parked-retry` or `parked-skip`,
    /// subject `projection/position`). Refused while an earlier wish about it is open.
    Settle {
        /// The event.
        position: Position,
        /// What to do.
        request: ParkedRequest,
        /// The operation's id.
        operation: Uuid,
        /// Who asks.
        principal: String,
    },
}

/// What became of an operator's wish.
#[derive(Debug, Clone, PartialEq)]
pub enum Controlled {
    /// It is so; the projection stands like this.
    Done(Box<ProjectionState>),
    /// There is no such projection.
    UnknownProjection,
    /// It cannot be done now: a rebuild is under way (with its operation), there is nothing to roll back to, nothing to
    /// cancel, or no such parked event.
    Refused {
        /// The operation in the way.
        operation: Option<Uuid>,
        /// A sentence for people.
        reason: String,
    },
}

/// Rows as a query gets them, with what they rest on: all of one instant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ViewPage {
    /// The generation that was read.
    pub generation: Generation,
    /// What it has applied.
    pub position: Position,
    /// The revision of what was read.
    pub revision: Revision,
    /// The rows: their sorts and data.
    pub rows: Vec<(Box<str>, Bytes)>,
}

/// A generation measured, for comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tally {
    /// The generation.
    pub generation: Generation,
    /// What it has applied.
    pub position: Position,
    /// Its rows.
    pub rows: u64,
    /// The sum, modulo 2⁶⁴, of [`row_digest`](crate::digest::row_digest) of its rows: independent of their order.
    pub digest: u64,
    /// Its parked events, skipped ones included.
    pub parked: u64,
}

/// What happened to the served rows of one projection since a revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ViewChanges {
    /// The projection.
    pub projection: String,
    /// Its served rows have applied this.
    pub position: Position,
    /// The revision they stand at.
    pub revision: Revision,
    /// What was touched, with the revision after it, ascending. `None`: the record does not reach back to the revision
    /// asked about without a hole, or more than [`VIEW_CHANGES_MAX`] changes lie between; everything may have changed.
    pub changes: Option<Vec<(Revision, Touched)>>,
}

/// Read models. Every method may be called from many tasks and processes at once.
///
/// Nothing here is acknowledged to a user, so commits need not be flushed; but a commit is stored whole or not at all,
/// in order, and [`ViewStore::acquire`] **is** flushed when the owner changes. After a crash some of the last commits may
/// be gone, and are made again from the log.
pub trait ViewStore: Debug + Send + Sync + 'static {
    /// Names the store, and its history as long as it is not replaced by another (a backup, say): part of cache keys.
    fn incarnation(&self) -> Uuid;

    /// The state of a projection, made at position 0 with an empty served generation of this version if there is none.
    ///
    /// # Errors
    /// [`StoreError`].
    fn declare<'a>(&'a self, projection: &'a str, version: u64) -> BoxFuture<'a, Result<ProjectionState, StoreError>>;

    /// The states of all projections, by name.
    ///
    /// # Errors
    /// [`StoreError`].
    fn states(&self) -> BoxFuture<'_, Result<Vec<ProjectionState>, StoreError>>;

    /// Takes the lease, or renews it: if nobody holds it, it has expired, or the asker holds it. A new owner raises the
    /// epoch, and the revision by [`REVISION_LEAP`]; an asker that holds it still, expired or not, does neither. (Who has
    /// released it comes back as a new owner: so does a process whose database lost its last commits in a crash.) `None`:
    /// another holds it, or there is no such projection.
    ///
    /// # Errors
    /// [`StoreError`].
    fn acquire(&self, claim: LeaseClaim) -> BoxFuture<'_, Result<Option<ProjectionState>, StoreError>>;

    /// Gives the lease back, if it is still this owner's.
    ///
    /// # Errors
    /// [`StoreError`].
    fn release<'a>(&'a self, projection: &'a str, owner: Uuid) -> BoxFuture<'a, Result<(), StoreError>>;

    /// Makes one step of an owner: first tests and moves the projection's row, then everything else, in one
    /// transaction, then tells other processes that read models moved. While the projection is paused, a commit that
    /// moves rows or swaps is lost; while it is frozen, one that moves served rows.
    ///
    /// Not cancellation safe: run it in a task that nobody drops. After an error its outcome is unknown.
    ///
    /// # Errors
    /// [`StoreError`].
    fn commit(&self, commit: ViewCommit) -> BoxFuture<'_, Result<ViewOutcome, StoreError>>;

    /// Does what an operator wants, and tells other processes that read models moved.
    ///
    /// # Errors
    /// [`StoreError`].
    fn control<'a>(&'a self, projection: &'a str, control: Control) -> BoxFuture<'a, Result<Controlled, StoreError>>;

    /// Reads served rows, with position and revision of the same instant. `None`: no such projection.
    ///
    /// # Errors
    /// [`StoreError`].
    fn read<'a>(
        &'a self,
        projection: &'a str,
        selection: &'a Selection,
    ) -> BoxFuture<'a, Result<Option<ViewPage>, StoreError>>;

    /// The data of these rows of a generation, in the order of the keys; `None` for those it does not have.
    ///
    /// # Errors
    /// [`StoreError`].
    fn rows<'a>(
        &'a self,
        generation: Generation,
        keys: &'a [RowKey],
    ) -> BoxFuture<'a, Result<Vec<Option<Bytes>>, StoreError>>;

    /// All rows of a generation in order of collection, group and sort, after one, up to `limit`: the canonical dump.
    ///
    /// # Errors
    /// [`StoreError`].
    fn dump<'a>(
        &'a self,
        generation: Generation,
        after: Option<&'a RowKey>,
        limit: NonZeroU32,
    ) -> BoxFuture<'a, Result<Vec<Row>, StoreError>>;

    /// Measures the served and the shadow generation of a projection at one instant. `None`: there is no shadow.
    ///
    /// # Errors
    /// [`StoreError`].
    fn tally<'a>(&'a self, projection: &'a str) -> BoxFuture<'a, Result<Option<(Tally, Tally)>, StoreError>>;

    /// Parked events of a generation in order of position, after one.
    ///
    /// # Errors
    /// [`StoreError`].
    fn parked<'a>(
        &'a self,
        generation: Generation,
        which: ParkedFilter<'a>,
        after: Position,
        limit: NonZeroU32,
    ) -> BoxFuture<'a, Result<Vec<ParkedEvent>, StoreError>>;

    /// The keys of a generation with waiting events, each once, up to `limit`.
    ///
    /// # Errors
    /// [`StoreError`].
    fn parked_keys(&self, generation: Generation, limit: NonZeroU32) -> BoxFuture<'_, Result<Vec<String>, StoreError>>;

    /// What happened to each of these projections since the revision given, in the order asked; unknown ones are left
    /// out.
    ///
    /// # Errors
    /// [`StoreError`].
    fn changes<'a>(&'a self, since: &'a [(String, Revision)]) -> BoxFuture<'a, Result<Vec<ViewChanges>, StoreError>>;

    /// Removes up to `limit` rows that no projection can reach any more, and records of changes before an instant.
    /// Each projection's newest change stays. Returns how many rows of either kind are gone; 0 means that was all.
    ///
    /// # Errors
    /// [`StoreError`].
    fn prune(&self, changes_before: DateTime<Utc>, limit: NonZeroU32) -> BoxFuture<'_, Result<u64, StoreError>>;

    /// Records an operation of another kind than those of [`Control`]; one that is on record stays as it is.
    ///
    /// # Errors
    /// [`StoreError`].
    fn begin_operation(&self, operation: Operation) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Notes news of an operation; one that has ended stays as it ended.
    ///
    /// # Errors
    /// [`StoreError`].
    fn update_operation(&self, update: OperationUpdate) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Ends the running operations of a kind that nobody has told anything of for so long, by the store's clock: they have
    /// failed, for this reason. Returns which.
    ///
    /// # Errors
    /// [`StoreError`].
    fn end_silent<'a>(
        &'a self,
        kind: &'a str,
        silence: Duration,
        reason: &'a str,
    ) -> BoxFuture<'a, Result<Vec<Uuid>, StoreError>>;

    /// Removes up to `limit` operations that have ended and are not to be kept, the oldest first; running ones stay.
    /// Returns how many are gone; 0 means that was all.
    ///
    /// # Errors
    /// [`StoreError`].
    fn prune_operations(&self, kept: OperationsKept, limit: NonZeroU32) -> BoxFuture<'_, Result<u64, StoreError>>;

    /// An operation.
    ///
    /// # Errors
    /// [`StoreError`].
    fn operation(&self, id: Uuid) -> BoxFuture<'_, Result<Option<Operation>, StoreError>>;

    /// Operations, newest first, before one (by id: they grow with time).
    ///
    /// # Errors
    /// [`StoreError`].
    fn operations(&self, before: Option<Uuid>, limit: NonZeroU32) -> BoxFuture<'_, Result<Vec<Operation>, StoreError>>;
}
