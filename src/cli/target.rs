//! Whom words talk to: the configured store, opened by this process, or a running server.

use std::num::NonZeroU32;

use event_sourcing_actors::{AggregateId, AggregateType, EventFilter, EventType, Expected, Position, ports::Direction};
use event_sourcing_cqrs::wire;
use futures_util::stream::BoxStream;
use serde_json::value::RawValue;

#[cfg(feature = "http")]
use super::remote::Remote;
use super::{Context, exit::Failure, local::Local};

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
        match &context.url {
            None => Ok(Self::Local(Box::new(Local::open(context).await?))),
            #[cfg(feature = "http")]
            Some(url) => Ok(Self::Remote(Remote::new(url, context.timeout)?)),
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
}
