//! Whom words talk to: the configured store, opened by this process, or a running server.

use std::{num::NonZeroU32, time::Duration};

use event_sourcing_actors::{
    AggregateId, AggregateType, BranchId, EventFilter, EventType, Expected, Position, Sequence,
    history::At,
    ports::{Direction, ParkedRequest},
};
use event_sourcing_cqrs::{auth::NewToken, wire};
use futures_util::stream::BoxStream;
use serde_json::value::RawValue;
use uuid::Uuid;

#[cfg(feature = "http")]
use super::remote::Remote;
use super::{
    Context,
    branch::{Merged, NewBranch},
    exit::Failure,
    local::Local,
    saga::{ListQuery, NewSaga},
};

/// Whom words talk to.
#[derive(Debug)]
pub(crate) enum Target {
    /// The store.
    Local(Box<Local>),
    /// A server.
    #[cfg(feature = "http")]
    Remote(Remote),
}

/// A page of the log.
#[derive(Debug, Clone)]
pub(crate) struct LogQuery {
    /// Events after this position.
    pub(crate) after: Position,
    /// Which of them.
    pub(crate) filter: EventFilter,
    /// How many at most.
    pub(crate) limit: NonZeroU32,
    /// Payloads as they are stored, which is what checksums cover; otherwise personal members are opened.
    pub(crate) is_raw: bool,
}

/// A page of a stream.
#[derive(Debug, Clone)]
pub(crate) struct StreamQuery {
    /// The first sequence.
    pub(crate) from: u64,
    /// The last sequence; the head if absent.
    pub(crate) to: Option<u64>,
    /// Which end first.
    pub(crate) direction: Direction,
    /// How many at most.
    pub(crate) limit: NonZeroU32,
}

/// Something to change.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    /// The stream.
    pub(crate) aggregate_id: AggregateId,
    /// A command, or an event to append.
    pub(crate) what: What,
    /// Its payload.
    pub(crate) data: Box<RawValue>,
    /// Demanded version.
    pub(crate) expected: Expected,
    /// Recognises a repetition.
    pub(crate) idempotency_key: Option<String>,
    /// Decide, but store nothing.
    pub(crate) dry_run: bool,
}

/// A command, or an event to append.
#[derive(Debug, Clone)]
pub(crate) enum What {
    /// A command of this type.
    Command(String),
    /// An event of this type, to a stream of that type if it is new.
    Event(EventType, Option<AggregateType>),
}

/// A replay.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReplayQuery {
    /// The first event to list.
    pub(crate) from: u64,
    /// The last event to fold; the head if absent.
    pub(crate) to: Option<u64>,
    /// Whether a snapshot may be used.
    pub(crate) use_snapshot: bool,
}

/// A query.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    /// Its type.
    pub(crate) query_type: String,
    /// The projection, if it is named.
    pub(crate) projection: Option<String>,
    /// An object.
    pub(crate) filters: Box<RawValue>,
    /// What the answer must rest on at least.
    pub(crate) min_position: Option<Position>,
    /// As of which position.
    pub(crate) as_of: Option<Position>,
    /// How long to wait for it.
    pub(crate) wait: Option<Duration>,
    /// Whether older rows will do.
    pub(crate) is_lenient: bool,
}

/// What an operator may do to a projection at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Switch {
    /// Serve the rows from before the last rebuild.
    Rollback,
    /// Stop.
    Pause,
    /// Go on.
    Resume,
}

/// What may be asked of an instance of a saga.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SagaChange {
    /// Go on after a failure.
    Retry,
    /// Undo what was done.
    Cancel,
}

/// What this process does on the store while a word runs. What a process beside it does already, it leaves to that one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// Looks at what is stored, and opens nothing personal: it needs no master key.
    Inspects,
    /// Reads and writes it.
    Looks,
    /// Keeps its read models, too.
    Follows,
    /// Keeps them, and works on its sagas.
    Works,
}

/// Events as they come.
pub(crate) type Events = BoxStream<'static, Result<wire::Event, Failure>>;

macro_rules! ask {
    ($target:expr, $method:ident($($argument:expr),*)) => {
        match $target {
            Target::Local(local) => local.$method($($argument),*).await,
            #[cfg(feature = "http")]
            Target::Remote(remote) => remote.$method($($argument),*).await,
        }
    };
}

impl Target {
    /// Opens the store, or makes ready to talk to the server.
    pub(crate) async fn open(context: &Context) -> Result<Self, Failure> {
        Self::open_as(context, Part::Looks).await
    }

    /// The same for words that look at evidence, also in a backup far from its master key.
    pub(crate) async fn open_inspecting(context: &Context) -> Result<Self, Failure> {
        Self::open_as(context, Part::Inspects).await
    }

    /// The same for words that need read models: this process keeps them too while it runs, unless a server beside it
    /// does.
    pub(crate) async fn open_following(context: &Context) -> Result<Self, Failure> {
        Self::open_as(context, Part::Follows).await
    }

    /// The same with the part this process takes where there is no server.
    pub(crate) async fn open_as(context: &Context, part: Part) -> Result<Self, Failure> {
        match &context.url {
            None => Ok(Self::Local(Box::new(Local::open(context, part).await?))),
            #[cfg(feature = "http")]
            Some(url) => Ok(Self::Remote(
                Remote::new(url, context.timeout)?.with_token(context.token.clone()).about(context.branch),
            )),
            #[cfg(not(feature = "http"))]
            Some(_) => Err(Failure::usage("--url needs the feature \"http\", which this program was built without")),
        }
    }

    /// Closes the store, whatever became of the word.
    pub(crate) async fn close(self) {
        match self {
            Self::Local(local) => local.close().await,
            #[cfg(feature = "http")]
            Self::Remote(_) => {}
        }
    }

    /// Does an administrative act; in the store it is recorded, as a server records it.
    pub(crate) async fn audited<T>(
        &self,
        act: &str,
        target: String,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        match self {
            Self::Local(local) => {
                let begun = local.begin(act, target).await?;
                let result = work.await;
                local.end(begun, &result).await?;
                result
            }
            #[cfg(feature = "http")]
            Self::Remote(_) => work.await,
        }
    }

    /// Makes a key.
    pub(crate) async fn create_token(&self, new: NewToken) -> Result<wire::CreatedToken, Failure> {
        let target = new.name.clone().unwrap_or_default();
        self.audited("token create", target, async { ask!(self, create_token(new)) }).await
    }

    /// Keys, newest first, before one.
    pub(crate) async fn tokens(
        &self,
        before: Option<Uuid>,
        limit: NonZeroU32,
    ) -> Result<wire::Page<wire::Token, Uuid>, Failure> {
        ask!(self, tokens(before, limit))
    }

    /// Revokes a key.
    pub(crate) async fn revoke_token(&self, id: Uuid) -> Result<wire::Token, Failure> {
        self.audited("token revoke", id.to_string(), async { ask!(self, revoke_token(id)) }).await
    }

    /// Lines of the audit, newest first, before one.
    pub(crate) async fn audit(
        &self,
        before: Option<Uuid>,
        limit: NonZeroU32,
    ) -> Result<wire::Page<wire::AuditRecord, Uuid>, Failure> {
        ask!(self, audit(before, limit))
    }

    /// A page of the log.
    pub(crate) async fn log(&self, query: &LogQuery) -> Result<wire::LogPage, Failure> {
        ask!(self, log(query))
    }

    /// A page of a stream.
    pub(crate) async fn stream(&self, id: &AggregateId, query: &StreamQuery) -> Result<wire::StreamPage, Failure> {
        ask!(self, stream(id, query))
    }

    /// Position of the last event.
    pub(crate) async fn head(&self) -> Result<Position, Failure> {
        ask!(self, head())
    }

    /// The events after a position as they come, without end.
    pub(crate) async fn follow(&self, after: Position, filter: EventFilter) -> Result<Events, Failure> {
        ask!(self, follow(after, filter))
    }

    /// Sends a command, or appends an event.
    pub(crate) async fn change(&self, change: Change) -> Result<wire::Accepted, Failure> {
        ask!(self, change(change))
    }

    /// Folds a stream.
    pub(crate) async fn replay(&self, id: &AggregateId, query: ReplayQuery) -> Result<wire::Replayed, Failure> {
        ask!(self, replay(id, query))
    }

    /// A stream as it was at a point of the past.
    pub(crate) async fn as_of(&self, id: &AggregateId, at: At) -> Result<wire::State, Failure> {
        ask!(self, as_of(id, at))
    }

    /// What changed in a stream's state between two sequences.
    pub(crate) async fn difference(
        &self,
        id: &AggregateId,
        from: Sequence,
        to: Option<Sequence>,
    ) -> Result<wire::Changes, Failure> {
        ask!(self, difference(id, from, to))
    }

    /// Whether a server does the work, so that it goes on without this process.
    pub(crate) fn is_server(&self) -> bool {
        !matches!(self, Self::Local(_))
    }

    /// Asks a read model.
    pub(crate) async fn query(&self, wanted: &Wanted) -> Result<wire::Answered, Failure> {
        ask!(self, query(wanted))
    }

    /// All projections.
    pub(crate) async fn projections(&self) -> Result<wire::Page<wire::Projection, String>, Failure> {
        ask!(self, projections())
    }

    /// One projection.
    pub(crate) async fn projection(&self, name: &str) -> Result<wire::Projection, Failure> {
        ask!(self, projection(name))
    }

    /// Begins to build a projection's rows anew.
    pub(crate) async fn rebuild(&self, name: &str, accepts_difference: bool) -> Result<wire::Operation, Failure> {
        let work = async { ask!(self, rebuild(name, accepts_difference)) };
        self.audited("projection rebuild", name.to_owned(), work).await
    }

    /// Does something to a projection at once.
    pub(crate) async fn switch(&self, name: &str, switch: Switch) -> Result<wire::Projection, Failure> {
        let act = match switch {
            Switch::Rollback => "projection rollback",
            Switch::Pause => "projection pause",
            Switch::Resume => "projection resume",
        };
        self.audited(act, name.to_owned(), async { ask!(self, switch(name, switch)) }).await
    }

    /// A projection's parked events after a position.
    pub(crate) async fn parked(
        &self,
        name: &str,
        after: Position,
        limit: NonZeroU32,
    ) -> Result<wire::Page<wire::Parked, Position>, Failure> {
        ask!(self, parked(name, after, limit))
    }

    /// Begins to retry or skip a parked event.
    pub(crate) async fn settle(
        &self,
        name: &str,
        position: Position,
        request: ParkedRequest,
    ) -> Result<wire::Operation, Failure> {
        let act = match request {
            ParkedRequest::Retry => "projection retry",
            ParkedRequest::Skip => "projection skip",
        };
        let work = async { ask!(self, settle(name, position, request)) };
        self.audited(act, format!("{name} {position}"), work).await
    }

    /// Begins to erase a person's data.
    pub(crate) async fn erase(&self, subject: &AggregateId) -> Result<wire::Operation, Failure> {
        self.audited("erase", subject.as_str().to_owned(), async { ask!(self, erase(subject)) }).await
    }

    /// One operation.
    pub(crate) async fn operation(&self, id: Uuid) -> Result<wire::Operation, Failure> {
        ask!(self, operation(id))
    }

    /// Operations, newest first, before one.
    pub(crate) async fn operations(
        &self,
        before: Option<Uuid>,
        limit: NonZeroU32,
    ) -> Result<wire::Page<wire::Operation, Uuid>, Failure> {
        ask!(self, operations(before, limit))
    }

    /// Gives an operation up.
    pub(crate) async fn cancel(&self, id: Uuid) -> Result<wire::Operation, Failure> {
        self.audited("operation cancel", id.to_string(), async { ask!(self, cancel(id)) }).await
    }

    /// Starts a saga.
    pub(crate) async fn start_saga(&self, new: &NewSaga) -> Result<wire::SagaAccepted, Failure> {
        ask!(self, start_saga(new))
    }

    /// One saga.
    pub(crate) async fn saga(&self, id: &AggregateId) -> Result<wire::Saga, Failure> {
        ask!(self, saga(id))
    }

    /// Sagas, newest first.
    pub(crate) async fn sagas(&self, query: &ListQuery) -> Result<wire::Page<wire::ListedSaga, String>, Failure> {
        ask!(self, sagas(query))
    }

    /// Asks something of a saga.
    pub(crate) async fn change_saga(
        &self,
        id: &AggregateId,
        change: SagaChange,
        key: Option<&str>,
    ) -> Result<wire::SagaAccepted, Failure> {
        let act = match change {
            SagaChange::Retry => "saga retry",
            SagaChange::Cancel => "saga cancel",
        };
        let work = Box::pin(async { ask!(self, change_saga(id, change, key)) });
        self.audited(act, id.as_str().to_owned(), work).await
    }

    /// Makes a branch.
    pub(crate) async fn create_branch(&self, new: &NewBranch) -> Result<wire::Branch, Failure> {
        ask!(self, create_branch(new))
    }

    /// Branches, newest first.
    pub(crate) async fn branches(&self, limit: NonZeroU32) -> Result<wire::Page<wire::Branch, BranchId>, Failure> {
        ask!(self, branches(limit))
    }

    /// One branch.
    pub(crate) async fn branch(&self, id: BranchId) -> Result<wire::Branch, Failure> {
        ask!(self, branch(id))
    }

    /// What a branch has changed.
    pub(crate) async fn branch_diff(
        &self,
        id: BranchId,
        limit: NonZeroU32,
    ) -> Result<wire::Page<wire::BranchChanges, AggregateId>, Failure> {
        ask!(self, branch_diff(id, limit))
    }

    /// Runs a branch's commands on the log.
    pub(crate) async fn merge_branch(&self, id: BranchId, dry_run: bool) -> Result<Merged, Failure> {
        let work = Box::pin(async { ask!(self, merge_branch(id, dry_run)) });
        // Nothing comes of a dry run.
        if dry_run { work.await } else { self.audited("branch merge", id.to_string(), work).await }
    }

    /// Forgets a branch.
    pub(crate) async fn delete_branch(&self, id: BranchId) -> Result<(), Failure> {
        self.audited("branch delete", id.to_string(), async { ask!(self, delete_branch(id)) }).await
    }

    /// Whether a process beside this one works on the sagas of the store.
    pub(crate) async fn has_saga_worker_beside(&self) -> bool {
        match self {
            Self::Local(local) => local.has_saga_worker_beside().await,
            #[cfg(feature = "http")]
            Self::Remote(_) => false,
        }
    }
}
