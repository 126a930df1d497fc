//! What can become of a command that is not accepted: one variant per thing the caller can do about it.

use std::time::Duration;

use crate::{
    aggregate::{FieldError, Refusal},
    id::{AggregateId, AggregateType, CommandId, EventId},
    ports::StoreError,
    version::Sequence,
};

/// Why a command has no accepted answer.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum CommandError {
    /// The domain refused it.
    #[error("{}", refusal.message)]
    Rejected {
        /// The refusal.
        refusal: Refusal,
        /// Whether this is the recorded answer of an earlier request with the same key.
        replayed: bool,
    },
    /// Something inside its data is wrong.
    #[error("the command is not valid")]
    Invalid {
        /// What, where.
        errors: Vec<FieldError>,
    },
    /// No aggregate has this command type.
    #[error("unknown command type {command_type:?}")]
    UnknownCommandType {
        /// As sent.
        command_type: String,
        /// Known names close to it, nearest first.
        nearest: Vec<String>,
    },
    /// The event type is neither owned by the stream's aggregate nor free.
    #[error("a stream of type {aggregate_type:?} does not take events of type {event_type:?}{}", owned_by(owner))]
    UnknownEventType {
        /// As sent.
        event_type: String,
        /// The stream's type, or the one asked for.
        aggregate_type: String,
        /// The aggregate type that owns the event type, if another one does.
        owner: Option<String>,
        /// Names close to it that the stream takes, nearest first.
        nearest: Vec<String>,
    },
    /// The stream is not at the version the caller demands.
    #[error("the aggregate is at version {current_version}, not at the expected one: read it again and decide anew")]
    PreconditionFailed {
        /// Where it is.
        current_version: Sequence,
        /// Whether this is the recorded answer of an earlier request with the same key.
        replayed: bool,
    },
    /// Other writers were faster each time.
    #[error("other writers changed {aggregate_id} each time; try again")]
    Conflict {
        /// The contended stream.
        aggregate_id: AggregateId,
    },
    /// The stream belongs to another aggregate type.
    #[error("{:?} is of type {actual}, not {requested}: name another aggregate", .aggregate_id.as_str())]
    TypeMismatch {
        /// The stream.
        aggregate_id: AggregateId,
        /// Its type.
        actual: AggregateType,
        /// The type of the command.
        requested: AggregateType,
    },
    /// The stream is written by the system only.
    #[error("streams of sagas are written by the system only: {:?} takes no events from outside", .aggregate_id.as_str())]
    ReservedStream {
        /// The stream.
        aggregate_id: AggregateId,
    },
    /// The person's data was erased under this id, and none is taken any more.
    #[error("the personal data of {:?} was erased, and none is taken under this id any more", .aggregate_id.as_str())]
    SubjectErased {
        /// The stream.
        aggregate_id: AggregateId,
    },
    /// The event id is used by another event.
    #[error("event id {event_id} is taken: repeat it only with the very same request, else take a new id")]
    EventIdReused {
        /// The id.
        event_id: EventId,
    },
    /// The key stands for another request.
    #[error("the idempotency key was used for another request: take a new key for each new request")]
    KeyReused,
    /// A request with this key is still running.
    #[error("a request with this idempotency key is still running: send it again in a moment")]
    KeyInProgress,
    /// The caller is not known.
    #[error("authentication is required")]
    Unauthenticated,
    /// The caller may not do this.
    #[error("{reason}")]
    Forbidden {
        /// Which role is missing.
        reason: String,
    },
    /// Too much work is in flight; nothing was done.
    #[error("too many commands are in flight ({scope}); try again")]
    Overloaded {
        /// `process` or `aggregate`.
        scope: &'static str,
        /// When to try again.
        retry_after: Duration,
    },
    /// The server is shutting down; nothing was done.
    #[error("the server is shutting down; try again")]
    Draining,
    /// The store does not answer; nothing was done.
    #[error("the event store is not available: {reason}")]
    StoreUnavailable {
        /// What it said.
        reason: String,
    },
    /// The log takes no appends until an operator decides; nothing was done.
    #[error("the log is read-only: {reason}")]
    ReadOnly {
        /// Why.
        reason: String,
    },
    /// The aggregate fails again and again and is parked; nothing was done.
    #[error("{aggregate_id} is parked after repeated failures: {reason}")]
    Parked {
        /// The aggregate.
        aggregate_id: AggregateId,
        /// Its last failure.
        reason: String,
        /// When it will be tried again.
        retry_after: Duration,
    },
    /// The deadline passed before the command was decided; nothing was done.
    #[error("the command was not decided within its deadline; nothing was done")]
    DeadlineExceeded,
    /// The deadline passed before the outcome was known: repeat the same command.
    #[error("the outcome of command {command_id} is not known; repeat it under the same id or key")]
    OutcomeUnknown {
        /// The command.
        command_id: CommandId,
    },
    /// The actor ended before it answered; the bus sends the same command again.
    #[error("the aggregate's actor ended before it answered")]
    Interrupted,
    /// A fault in the domain's code or in what is stored.
    #[error("internal fault: {reason}")]
    Internal {
        /// What happened.
        reason: String,
    },
}

impl CommandError {
    /// A stable word for metrics and logs.
    #[must_use]
    pub fn outcome(&self) -> &'static str {
        match self {
            Self::Rejected { .. } => "rejected",
            Self::Invalid { .. } | Self::UnknownCommandType { .. } | Self::UnknownEventType { .. } => "invalid",
            Self::PreconditionFailed { .. } => "precondition_failed",
            Self::Conflict { .. } => "conflict",
            Self::TypeMismatch { .. } | Self::ReservedStream { .. } | Self::EventIdReused { .. } => "mismatch",
            Self::SubjectErased { .. } => "erased",
            Self::KeyReused | Self::KeyInProgress => "key",
            Self::Unauthenticated | Self::Forbidden { .. } => "denied",
            Self::Overloaded { .. } | Self::Parked { .. } => "overloaded",
            Self::Draining => "draining",
            Self::StoreUnavailable { .. } => "store_unavailable",
            Self::ReadOnly { .. } => "read_only",
            Self::DeadlineExceeded | Self::OutcomeUnknown { .. } | Self::Interrupted => "timeout",
            Self::Internal { .. } => "internal",
        }
    }
}

impl From<StoreError> for CommandError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable { reason } => Self::StoreUnavailable { reason },
            StoreError::ReadOnly { reason } => Self::ReadOnly { reason },
            StoreError::DurabilityLost { .. } | StoreError::Refused { .. } | StoreError::Corrupt { .. } => {
                Self::Internal { reason: error.to_string() }
            }
        }
    }
}

fn owned_by(owner: &Option<String>) -> String {
    owner.as_ref().map(|owner| format!(": they belong to streams of type {owner:?}")).unwrap_or_default()
}
