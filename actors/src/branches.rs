//! Branches: alternative timelines that fork at a position of the log. On each the same aggregates take the same commands,
//! and nothing of it reaches the log, its followers, read models or sagas, until a merge runs its commands there.
//!
//! A live branch is a [`Runtime`] of its own over the log as it is on the branch (`view`): it is begun at first use, ended
//! when it has been idle, and any process can have it; what happens on it lies in the [`BranchStore`], which arbitrates as
//! the log does. Its sagas are worked on wherever it is live, by an index in memory.

mod diff;
mod live;
mod merge;
pub(crate) mod record;
mod snapshots;
pub(crate) mod view;

use std::{num::NonZeroU32, sync::Arc};

use chrono::{DateTime, Utc};
use tokio::time::Instant;

pub use diff::{BranchDifference, BranchSide, DIFF_EVENTS_MAX};
pub(crate) use live::{BranchPart, Recipe};
pub use merge::{COMMANDS_MAX, EVENTS_MAX, MergeReport, MergedCommand, Merging, Rejected};

use crate::{
    aggregate::FieldError,
    envelope::EventFilter,
    history::History,
    id::{AggregateId, BranchId},
    ports::{Branch, BranchCreated, BranchKey, BranchStore, Direction, EventStore, NewBranch, StoreError, StreamRange},
    recovery::RecoveryError,
    registry::WriteSide,
    runtime::{Runtime, StartError},
    version::{Position, Sequence},
};
use live::LiveBranches;

/// The branches of a runtime. Cloning is cheap.
#[derive(Debug, Clone)]
pub struct Branches {
    /// None where no branches are kept.
    kept: Option<Arc<Kept>>,
}

#[derive(Debug)]
struct Kept {
    own: Arc<dyn BranchStore>,
    main: Arc<WriteSide>,
    live: LiveBranches,
}

/// Where a branch forks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ForkAt {
    /// After this event of a stream.
    Sequence(AggregateId, Sequence),
    /// After everything recorded at or before this instant.
    Time(DateTime<Utc>),
    /// After this event of the log; 0 = before the first.
    Position(Position),
}

/// A wish for a branch.
#[derive(Debug, Clone)]
pub struct NewFork {
    /// A name for people, 1 to 255 bytes.
    pub name: String,
    /// Where it forks.
    pub at: ForkAt,
    /// How a repeated request is recognised.
    pub key: Option<BranchKey>,
}

/// Why something of a branch cannot be done.
#[derive(Debug, thiserror::Error)]
pub enum BranchError {
    /// There is no such branch.
    #[error("there is no branch {branch:?}: it was deleted, or never made")]
    Unknown {
        /// As asked for.
        branch: String,
    },
    /// This runtime was given no place to keep branches.
    #[error("no branches are kept here")]
    Unsupported,
    /// Too many are open.
    #[error("{} branches are open, and no more can be: merge or delete one", crate::ports::BRANCHES_LIVE_MAX)]
    Full,
    /// Too many are in use in this process.
    #[error("too many branches are in use at once; try again")]
    Crowded,
    /// The key stands for another request.
    #[error("the idempotency key was used for another request: take a new key for each new request")]
    KeyReused,
    /// Something about the wish is wrong.
    #[error("the branch cannot be made so")]
    Invalid {
        /// What, where.
        errors: Vec<FieldError>,
    },
    /// The stream whose sequence names the fork has no events.
    #[error("there is no aggregate {:?}: no event was ever recorded under this id", .aggregate_id.as_str())]
    UnknownAggregate {
        /// As asked for.
        aggregate_id: AggregateId,
    },
    /// Some of the branch's commands are refused on the log; nothing was changed.
    #[error("{} of the branch's {} commands are refused on main, so nothing was merged", .report.refused(), .report.commands.len())]
    Refused {
        /// All of them.
        report: MergeReport,
    },
    /// The branch cannot be merged as one unit.
    #[error("the merge would take {what}: delete the branch, or send its commands to main in parts")]
    TooLarge {
        /// How much, and how much is allowed.
        what: String,
    },
    /// Other writers changed what the commands were decided on each time; nothing was changed.
    #[error("other writers changed what the merge was decided on each time; nothing was merged, so merge again")]
    Contended,
    /// The runtime is shutting down.
    #[error("the server is shutting down; try again")]
    Draining,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A stream cannot be read.
    #[error(transparent)]
    Recovery(#[from] RecoveryError),
    /// The branch could not be begun.
    #[error("the branch could not be begun: {0}")]
    Start(#[from] StartError),
    /// A fault in the domain's code or in what is stored.
    #[error("internal fault: {reason}")]
    Internal {
        /// What happened.
        reason: String,
    },
}

impl Branches {
    /// None where there is no recipe.
    pub(crate) fn new(recipe: Option<Recipe>, main: &Arc<WriteSide>) -> Self {
        let kept = |recipe: Recipe| {
            let (own, main) = (recipe.own.clone(), main.clone());
            Arc::new(Kept { own, main, live: LiveBranches::new(recipe) })
        };
        Self { kept: recipe.map(kept) }
    }

    fn kept(&self) -> Result<&Arc<Kept>, BranchError> {
        self.kept.as_ref().ok_or(BranchError::Unsupported)
    }

    /// Makes a branch; durable when this returns. `true`: an equal request had made it before.
    ///
    /// # Errors
    /// [`BranchError::Invalid`], [`BranchError::UnknownAggregate`], [`BranchError::Full`], [`BranchError::KeyReused`].
    pub async fn create(&self, new: NewFork) -> Result<(Branch, bool), BranchError> {
        let kept = self.kept()?;
        if let Err(error) = AggregateId::new(&new.name) {
            return Err(invalid("/name", error.to_string()));
        }
        let (fork, fork_at) = kept.fork(&new.at).await?;
        let new = NewBranch { id: BranchId::generate(), name: new.name, fork, fork_at, key: new.key };
        match kept.own.create_branch(new).await? {
            BranchCreated::Created(branch) => Ok((branch, false)),
            BranchCreated::Known(branch) => Ok((branch, true)),
            BranchCreated::KeyReused => Err(BranchError::KeyReused),
            BranchCreated::Full => Err(BranchError::Full),
        }
    }

    /// One branch.
    ///
    /// # Errors
    /// [`BranchError::Unknown`].
    pub async fn show(&self, id: BranchId) -> Result<Branch, BranchError> {
        let Some(kept) = &self.kept else { return Err(unknown(id)) };
        kept.own.branch(id).await?.ok_or_else(|| unknown(id))
    }

    /// Branches, newest first, before one.
    ///
    /// # Errors
    /// [`BranchError::Store`].
    pub async fn list(&self, before: Option<BranchId>, limit: NonZeroU32) -> Result<Vec<Branch>, BranchError> {
        match &self.kept {
            Some(kept) => Ok(kept.own.branches(before, limit).await?),
            None => Ok(Vec::new()),
        }
    }

    /// Forgets a branch and all that happened on it.
    ///
    /// # Errors
    /// [`BranchError::Unknown`].
    pub async fn delete(&self, id: BranchId) -> Result<(), BranchError> {
        let Some(kept) = &self.kept else { return Err(unknown(id)) };
        let was_there = kept.own.delete_branch(id).await?;
        kept.live.end(id).await;
        if was_there { Ok(()) } else { Err(unknown(id)) }
    }

    /// The runtime of a branch; begun if it is not live in this process. It takes commands, and answers all that the
    /// log's own runtime answers, as it is on the branch; it stays live as long as this is held.
    ///
    /// That a live one is still there is asked again when it was last asked longer ago than
    /// [`CONFIRMED_AGE_MAX`](crate::freshness::CONFIRMED_AGE_MAX): one that another process deletes can be entered for so
    /// long. It takes nothing any more.
    ///
    /// # Errors
    /// [`BranchError::Unknown`], [`BranchError::Crowded`].
    pub async fn enter(&self, id: BranchId) -> Result<Arc<Runtime>, BranchError> {
        if let Some(kept) = &self.kept
            && let Some(runtime) = kept.live.confirmed(id).await?
        {
            return Ok(runtime);
        }
        let asked_at = Instant::now();
        let branch = self.show(id).await?;
        self.kept()?.live.enter(&branch, asked_at).await
    }

    /// How many are live in this process.
    pub async fn live(&self) -> usize {
        match &self.kept {
            Some(kept) => kept.live.len().await,
            None => 0,
        }
    }

    /// Ends what is live.
    pub(crate) async fn shutdown(&self) {
        if let Some(kept) = &self.kept {
            kept.live.shutdown().await;
        }
    }
}

impl Kept {
    fn log(&self) -> &Arc<dyn EventStore> {
        &self.main.recovery.store
    }

    /// The position a fork means, and when it was recorded.
    async fn fork(&self, at: &ForkAt) -> Result<(Position, DateTime<Utc>), BranchError> {
        let position = match at {
            ForkAt::Sequence(id, sequence) => return self.event_of(id, *sequence).await,
            ForkAt::Time(instant) => {
                let history = History { write_side: self.main.clone() };
                history.position_at(*instant).await?.position
            }
            ForkAt::Position(position) => {
                let head = self.log().head().await?;
                if *position > head {
                    return Err(invalid("/at_position", format!("is after the log's last event, which is at {head}")));
                }
                *position
            }
        };
        let Some(before) = position.0.checked_sub(1) else { return Ok((position, DateTime::UNIX_EPOCH)) };
        let page = self.log().read_all(Position(before), &EventFilter::default(), NonZeroU32::MIN).await?;
        let event = page.events.first().filter(|event| event.position == position);
        let missing = || StoreError::Corrupt { reason: format!("there is no event at position {position}") };
        Ok((position, event.ok_or_else(missing)?.recorded_at))
    }

    async fn event_of(&self, id: &AggregateId, sequence: Sequence) -> Result<(Position, DateTime<Utc>), BranchError> {
        let Some(stream) = self.log().stream(id).await? else {
            return Err(BranchError::UnknownAggregate { aggregate_id: id.clone() });
        };
        let head = stream.head.sequence;
        if sequence == Sequence::ZERO || sequence > head {
            return Err(invalid("/from_sequence", format!("must be from 1 to {head}, the aggregate's last event")));
        }
        let range = StreamRange { from: sequence, to: sequence, direction: Direction::Forward, limit: NonZeroU32::MIN };
        let events = self.log().read_stream(id, range).await?;
        let missing = || StoreError::Corrupt { reason: format!("event {sequence} of {id} is not there") };
        let event = events.first().ok_or_else(missing)?;
        Ok((event.position, event.recorded_at))
    }
}

fn unknown(id: BranchId) -> BranchError {
    BranchError::Unknown { branch: id.to_string() }
}

fn invalid(pointer: &str, detail: String) -> BranchError {
    BranchError::Invalid { errors: vec![FieldError { pointer: pointer.to_owned(), detail }] }
}
