//! What travels the command bus: [`CommandRequest`] in, [`CommandResult`] out.

use std::{
    any::Any,
    fmt,
    sync::{Arc, LazyLock},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::time::Instant;

use crate::{
    error::CommandError,
    id::{AggregateId, AggregateType, CommandId, EventId, EventType},
    version::{Expected, Position, Sequence},
};

/// What the bus answers.
pub type CommandResult = Result<CommandAccepted, CommandError>;

/// One command on its way; one struct for the whole path.
#[derive(Debug, Clone)]
pub struct CommandRequest {
    /// Names the command for ever; the ids of its events derive from it.
    pub command_id: CommandId,
    /// Whom it is for.
    pub aggregate_id: AggregateId,
    /// What to do.
    pub action: Action,
    /// Demanded version.
    pub expected: Expected,
    /// In whose name.
    pub principal: Principal,
    /// Correlation, causation, trace.
    pub context: RequestContext,
    /// Recognises a repeated request.
    pub idempotency: Option<Idempotency>,
    /// When the caller stops waiting.
    pub deadline: Instant,
    /// Decide, but append nothing.
    pub dry_run: bool,
    /// The place among the commands in flight; admission sets it.
    pub(crate) permit: Option<Arc<tokio::sync::OwnedSemaphorePermit>>,
    /// The stream's id was made for this command, so its actor begins without looking for a history. Should there be one
    /// after all, the append finds out, and it is loaded.
    pub(crate) is_new_stream: bool,
}

impl CommandRequest {
    /// A request with a new id, in the system's name, with `time` to answer.
    #[must_use]
    pub fn new(aggregate_id: AggregateId, action: Action, time: Duration) -> Self {
        let command_id = CommandId::generate();
        Self {
            command_id,
            aggregate_id,
            action,
            expected: Expected::Any,
            principal: Principal::system(),
            context: RequestContext::new(),
            idempotency: None,
            deadline: Instant::now() + time,
            dry_run: false,
            permit: None,
            is_new_stream: false,
        }
    }
}

/// What a request wants done.
#[derive(Debug, Clone)]
pub enum Action {
    /// A command by name and JSON, as it came from outside; the validate middleware decodes it.
    Named {
        /// Command type.
        command_type: String,
        /// Its members.
        data: Arc<RawValue>,
    },
    /// A command ready to be decided.
    Command(DecodedCommand),
    /// Events nobody decided, appended through the aggregate's actor.
    Append(RawAppend),
}

impl Action {
    /// The command type, for logs and metrics.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Named { command_type, .. } => command_type,
            Self::Command(command) => command.name,
            Self::Append(_) => "AppendEvents",
        }
    }
}

/// A command of some aggregate, its type known to that aggregate only.
#[derive(Clone)]
pub struct DecodedCommand {
    /// Command type.
    pub name: &'static str,
    /// The aggregate type it belongs to.
    pub aggregate_type: AggregateType,
    pub(crate) value: Arc<dyn Any + Send + Sync>,
}

impl fmt::Debug for DecodedCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // No payload: requests are logged.
        f.debug_struct("DecodedCommand").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Events to append as they are.
#[derive(Debug, Clone)]
pub struct RawAppend {
    /// The stream's type; needed for a new stream of events that no aggregate owns.
    pub aggregate_type: Option<AggregateType>,
    /// The events, in order.
    pub events: Vec<RawEvent>,
}

/// One event to append as it is.
#[derive(Debug, Clone)]
pub struct RawEvent {
    /// Chosen by the client; else derived from the command id.
    pub event_id: Option<EventId>,
    /// Event type.
    pub event_type: EventType,
    /// Payload, kept byte for byte.
    pub data: Arc<RawValue>,
}

/// In whose name a request runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// Its name; idempotency keys belong to it.
    pub name: Arc<str>,
    /// What it may do.
    pub roles: Arc<[Arc<str>]>,
}

impl Principal {
    /// The process itself.
    #[must_use]
    pub fn system() -> Self {
        static SYSTEM: LazyLock<Principal> =
            LazyLock::new(|| Principal { name: Arc::from("system"), roles: Arc::new([Arc::from("admin")]) });
        SYSTEM.clone()
    }

    /// Somebody unknown where no authentication is configured: whoever it is may do everything.
    #[must_use]
    pub fn unguarded() -> Self {
        static UNGUARDED: LazyLock<Principal> =
            LazyLock::new(|| Principal { name: Arc::from("anonymous"), roles: Arc::new([Arc::from("admin")]) });
        UNGUARDED.clone()
    }

    /// Somebody unknown, who may do what everybody may.
    #[must_use]
    pub fn anonymous() -> Self {
        static ANONYMOUS: LazyLock<Principal> =
            LazyLock::new(|| Principal { name: Arc::from("anonymous"), roles: Arc::new([]) });
        ANONYMOUS.clone()
    }
}

/// What is recorded of a request's context in each event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestContext {
    /// Shared by everything that one request sets off.
    pub correlation_id: Arc<str>,
    /// The direct cause.
    pub causation_id: Option<Arc<str>>,
    /// W3C trace context.
    pub traceparent: Option<Arc<str>>,
}

impl RequestContext {
    /// A context of its own.
    #[must_use]
    pub fn new() -> Self {
        Self { correlation_id: Arc::from(uuid::Uuid::now_v7().to_string()), causation_id: None, traceparent: None }
    }
}

impl Default for RequestContext {
    fn default() -> Self {
        Self::new()
    }
}

/// An idempotency key with the digest of the request it came with.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Idempotency {
    /// The key.
    pub key: Arc<str>,
    /// SHA-256 over method, path, query, body and demanded version.
    pub fingerprint: [u8; 32],
}

/// The answer to an accepted command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandAccepted {
    /// The command; on a repeated request the id of the one that was decided.
    pub command_id: CommandId,
    /// The stream's type.
    pub aggregate_type: AggregateType,
    /// The stream.
    pub aggregate_id: AggregateId,
    /// The stream's version after the command.
    pub version: Sequence,
    /// Position of the stream's last event; 0 if there is none.
    pub position: Position,
    /// The events it led to; none if it changed nothing.
    pub events: Vec<AppendedEvent>,
    /// Whether this is the recorded answer of an earlier, equal request.
    #[serde(skip)]
    pub replayed: bool,
}

/// An event in an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppendedEvent {
    /// Its id.
    pub event_id: EventId,
    /// Its type.
    pub event_type: EventType,
    /// Place in the stream.
    pub sequence: Sequence,
    /// Place in the log; 0 in a dry run, which stores nothing.
    pub position: Position,
}
