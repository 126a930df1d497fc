//! The branch store port: timelines beside the log, each with a fork and what happened on it since.
//!
//! A store knows nothing of what lies before the fork; whoever appends says what the streams stood at there. Names end
//! with `_on` or `_branch`, since one object is usually this store and the log's.

use std::{collections::HashMap, fmt::Debug, num::NonZeroU32, sync::Arc};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures_util::future::BoxFuture;

use super::{
    AppendBatch, AppendUnit, CommandRecord, Committed, KeyRecord, LogPage, StoreError, StreamRange, StreamSummary,
    UnitOutcome,
};
use crate::{
    envelope::{EventFilter, RecordedEvent, StreamHead},
    id::{AggregateId, AggregateType, BranchId, EventId},
    version::Position,
};

/// Open branches at most.
pub const BRANCHES_LIVE_MAX: usize = 64;

/// How a branch stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BranchStatus {
    /// It takes commands.
    Open,
    /// Its commands were run on the log; it can still be read.
    Merged,
}

impl BranchStatus {
    /// As it is stored and shown.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Merged => "merged",
        }
    }

    /// From what is stored.
    #[must_use]
    pub fn parse(stored: &str) -> Option<Self> {
        [Self::Open, Self::Merged].into_iter().find(|status| status.as_str() == stored)
    }
}

/// The request that makes a branch, when it came with an idempotency key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BranchKey {
    /// Whose key.
    pub principal: Arc<str>,
    /// The key.
    pub key: Arc<str>,
    /// SHA-256 of the request.
    pub fingerprint: [u8; 32],
}

/// A branch to be made.
#[derive(Debug, Clone)]
pub struct NewBranch {
    /// Its id.
    pub id: BranchId,
    /// Its name, for people.
    pub name: String,
    /// The last position of the log that belongs to it.
    pub fork: Position,
    /// When that was recorded.
    pub fork_at: DateTime<Utc>,
    /// How a repeated request is recognised.
    pub key: Option<BranchKey>,
}

/// A branch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Branch {
    /// Its id.
    pub id: BranchId,
    /// Its name, for people.
    pub name: String,
    /// The last position of the log that belongs to it. Its own events come after: fork + 1, fork + 2, …
    pub fork: Position,
    /// How it stands.
    pub status: BranchStatus,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// What its merge answered.
    pub report: Option<Bytes>,
}

/// What became of a wish for a branch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BranchCreated {
    /// It is there.
    Created(Branch),
    /// The same request has made this one before.
    Known(Branch),
    /// The key stands for another request.
    KeyReused,
    /// [`BRANCHES_LIVE_MAX`] are open already.
    Full,
}

/// An append to a branch.
#[derive(Debug, Clone)]
pub struct BranchAppend {
    /// As for the log.
    pub batch: AppendBatch,
    /// What each claimed stream stood at at the fork; streams that are not named had no events there.
    pub bases: HashMap<AggregateId, StreamHead>,
}

/// A command that led to events on a branch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BranchCommand {
    /// The position of its first event.
    pub position: Position,
    /// What was asked for.
    pub record: CommandRecord,
}

/// The end of a branch.
#[derive(Debug, Clone)]
pub struct BranchMerge {
    /// The branch's last position that was looked at; if there is more by now, nothing is done.
    pub seen: Position,
    /// What its commands lead to on the log: one unit over all streams concerned.
    pub unit: AppendUnit,
    /// What to answer, now and to whoever asks again.
    pub report: Bytes,
}

/// What became of a merge.
#[derive(Debug)]
pub enum MergeOutcome {
    /// The events are in the log and the branch is closed, both at once and durably.
    Merged(Committed),
    /// It was merged before.
    Closed(Branch),
    /// There is no such branch.
    Unknown,
    /// More has happened on the branch than was looked at.
    Behind,
    /// What became of the unit where it did not commit: stale, another's turn, known, or refused.
    Unit(UnitOutcome),
}

/// The timelines beside the log. Every method may be called from many tasks and processes at once.
pub trait BranchStore: Debug + Send + Sync + 'static {
    /// Makes a branch, unless [`BRANCHES_LIVE_MAX`] are open. Counting and making are one transaction.
    ///
    /// # Errors
    /// [`StoreError`].
    fn create_branch(&self, new: NewBranch) -> BoxFuture<'_, Result<BranchCreated, StoreError>>;

    /// One branch.
    ///
    /// # Errors
    /// [`StoreError`].
    fn branch(&self, id: BranchId) -> BoxFuture<'_, Result<Option<Branch>, StoreError>>;

    /// Branches, newest first, before one.
    ///
    /// # Errors
    /// [`StoreError`].
    fn branches(&self, before: Option<BranchId>, limit: NonZeroU32) -> BoxFuture<'_, Result<Vec<Branch>, StoreError>>;

    /// Forgets a branch and all that happened on it; whether there was one.
    ///
    /// # Errors
    /// [`StoreError`].
    fn delete_branch(&self, id: BranchId) -> BoxFuture<'_, Result<bool, StoreError>>;

    /// Appends to a branch, by the rules of [`EventStore::append`](super::EventStore::append): known ids and keys (of this
    /// branch), the claimed head (that of the branch's own events, else the base), positions without holes after the
    /// fork, instants that never go back. The commands' records are stored with their events. A branch that is merged or
    /// gone answers [`StoreError::Closed`] for each unit. The log is not touched, nor locked.
    ///
    /// # Errors
    /// As for the log.
    fn append_on(&self, id: BranchId, append: BranchAppend) -> BoxFuture<'_, Result<Vec<UnitOutcome>, StoreError>>;

    /// Reads the branch's own events of a stream.
    ///
    /// # Errors
    /// [`StoreError`].
    fn read_stream_on<'a>(
        &'a self,
        id: BranchId,
        stream: &'a AggregateId,
        range: StreamRange,
    ) -> BoxFuture<'a, Result<Vec<RecordedEvent>, StoreError>>;

    /// Reads the branch's own events after a position, as [`EventStore::read_all`](super::EventStore::read_all) does;
    /// `after` is not below the fork.
    ///
    /// # Errors
    /// [`StoreError`].
    fn read_all_on<'a>(
        &'a self,
        id: BranchId,
        after: Position,
        filter: &'a EventFilter,
        limit: NonZeroU32,
    ) -> BoxFuture<'a, Result<LogPage, StoreError>>;

    /// Position of the branch's last own event, if it has any.
    ///
    /// # Errors
    /// [`StoreError`].
    fn head_on(&self, id: BranchId) -> BoxFuture<'_, Result<Option<Position>, StoreError>>;

    /// A stream's last own event on the branch, if it has any.
    ///
    /// # Errors
    /// [`StoreError`].
    fn stream_on<'a>(
        &'a self,
        id: BranchId,
        stream: &'a AggregateId,
    ) -> BoxFuture<'a, Result<Option<StreamSummary>, StoreError>>;

    /// Streams with own events on the branch in order of id, after one, of a type or of all.
    ///
    /// # Errors
    /// [`StoreError`].
    fn streams_on<'a>(
        &'a self,
        id: BranchId,
        aggregate_type: Option<&'a AggregateType>,
        after: Option<&'a AggregateId>,
        limit: NonZeroU32,
    ) -> BoxFuture<'a, Result<Vec<StreamSummary>, StoreError>>;

    /// The branch's own events with these ids, in order of position.
    ///
    /// # Errors
    /// [`StoreError`].
    fn find_events_on<'a>(
        &'a self,
        id: BranchId,
        ids: &'a [EventId],
    ) -> BoxFuture<'a, Result<Vec<RecordedEvent>, StoreError>>;

    /// What is recorded under an idempotency key of the branch.
    ///
    /// # Errors
    /// [`StoreError`].
    fn find_key_on<'a>(
        &'a self,
        id: BranchId,
        principal: &'a str,
        key: &'a str,
    ) -> BoxFuture<'a, Result<Option<KeyRecord>, StoreError>>;

    /// Forgets up to `limit` keys of the branch recorded before an instant; returns how many.
    ///
    /// # Errors
    /// [`StoreError`].
    fn sweep_keys_on(
        &self,
        id: BranchId,
        before: DateTime<Utc>,
        limit: NonZeroU32,
    ) -> BoxFuture<'_, Result<u64, StoreError>>;

    /// The commands that led to events on the branch, in order, after a position.
    ///
    /// # Errors
    /// [`StoreError`].
    fn commands_on(
        &self,
        id: BranchId,
        after: Position,
        limit: NonZeroU32,
    ) -> BoxFuture<'_, Result<Vec<BranchCommand>, StoreError>>;

    /// Appends to the log what a branch's commands lead to there, and closes the branch: one transaction, all or nothing.
    ///
    /// Not cancellation safe: run it in a task that nobody drops.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]: the outcome is unknown; merging again tells.
    fn merge_branch(&self, id: BranchId, merge: BranchMerge) -> BoxFuture<'_, Result<MergeOutcome, StoreError>>;
}
