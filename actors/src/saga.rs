//! What a long-running transaction is written by: [`Saga`], pure functions from what happened to what to do next.
//!
//! An instance is a stream of aggregate type `saga`: what came in and what was decided on it are its events
//! ([`SagaEvent`]), folded into one [`SagaRecord`]. The runtime appends a step's events first and acts on them after, with
//! command ids that derive from the instance, so a crash repeats what the target then recognises.

mod definitions;
mod documented;
mod draft;
mod event;
mod ids;
mod instance;
mod record;
mod steps;
#[cfg(test)]
mod tests;

use std::{fmt::Debug, time::Duration};

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

pub(crate) use definitions::AnySaga;
pub use definitions::{SagaDefinitions, SagaTwice};
pub use event::{
    Initiator, SagaCancelRequested, SagaCommandAnswered, SagaCommandIssued, SagaCommandRefused,
    SagaCompensationStarted, SagaCorrelated, SagaDefinitionAdopted, SagaEnded, SagaEvent, SagaEventReceived,
    SagaFailed, SagaMigrated, SagaReadIssued, SagaRefusalAccepted, SagaRetried, SagaStarted, SagaStateChanged,
    SagaStateRead, SagaTimerCancelled, SagaTimerFired, SagaTimerSet, Trigger,
};
pub(crate) use ids::{derived_command_id, started_by_key};
#[cfg(any(test, feature = "testing"))]
pub(crate) use instance::saga_type;
pub use instance::{DEFINITION_UNKNOWN, SAGA_ENDED, SAGA_NOT_FAILED};
pub(crate) use instance::{SAGA_NOT_FOUND, SagaCommand, SagaModel, SagaOrder, Slot, StartOrder};
pub use record::{
    PendingCommand, PendingRead, ReadRecord, SagaRecord, SagaStatus, StepRecord, StepStatus, TimerRecord, TimerStatus,
};
pub use steps::{Call, Step, StepPolicy, StepSaga};

use crate::{
    aggregate::FieldError,
    id::{AggregateId, AggregateType, CommandId, EventType},
    projection::ProjectedEvent,
    schema::SchemaOf,
    version::{Position, Sequence},
};

/// The aggregate type of the streams of sagas; only the runtime writes them.
pub const SAGA_TYPE: &str = "saga";

/// The timer of the whole instance.
pub const TIMEOUT: &str = "timeout";

/// Decides what a long-running transaction does next. Pure: no clock, no storage, no waiting.
pub trait Saga: Debug + Send + Sync + 'static {
    /// What it remembers beside its [`SagaRecord`]; `()` if that is all.
    type State: Default + Clone + Serialize + DeserializeOwned + Debug + Send + Sync + 'static;

    /// Its name, unique in a runtime.
    fn name(&self) -> &str;

    /// Version of the definition; each instance keeps the one it was started with. Raise it with every change of
    /// meaning, and register the old one beside it, or say in [`Saga::migrate`] how old instances go on.
    fn version(&self) -> u32 {
        1
    }

    /// What is wrong with the data an instance is to be started with; pointers start at the data.
    fn check(&self, data: &Value) -> Vec<FieldError> {
        let _ = data;
        Vec::new()
    }

    /// The schema of that data, for documents; none by default, which is shown as an object.
    fn data_schema(&self) -> Option<SchemaOf> {
        None
    }

    /// How long an instance may take, unless its start says otherwise; then [`SagaInput::TimerFired`] tells it, with the
    /// timer [`TIMEOUT`].
    fn timeout(&self) -> Option<Duration> {
        None
    }

    /// The types of the events of the log it wants to see; none by default. Of those recorded after the first process
    /// with this saga had started.
    fn interest(&self) -> Vec<EventType> {
        Vec::new()
    }

    /// Whom an event of the log concerns.
    ///
    /// # Errors
    /// [`SagaError`] (or a panic) parks the event, with everything later of its stream, until an operator retries or
    /// skips it.
    fn route(&self, event: &ProjectedEvent<'_>) -> Result<Vec<Route>, SagaError> {
        let _ = event;
        Ok(Vec::new())
    }

    /// The names of its steps in order, as far as they are known now; for people.
    fn steps(&self, saga: &SagaRecord) -> Vec<String> {
        let _ = saga;
        Vec::new()
    }

    /// What to do now that something came in. `saga` has it folded in already.
    ///
    /// Pure: the outcome depends on the arguments alone. It may be called several times for one input, of which one
    /// counts.
    ///
    /// # Errors
    /// [`SagaError`] (or a panic): nothing is recorded; after some tries the instance is set aside, alone, with the reason.
    fn react(
        &self,
        state: &mut Self::State,
        input: &SagaInput,
        saga: &SagaRecord,
        now: DateTime<Utc>,
    ) -> Result<Vec<Reaction>, SagaError>;

    /// How an instance of an older version goes on under this one: its state for this version.
    ///
    /// # Errors
    /// That it cannot (the default): the instance is set aside with the reason.
    fn migrate(&self, from_version: u32, state: Value) -> Result<Self::State, SagaError> {
        let _ = state;
        Err(SagaError::new(format!(
            "version {from_version} of {:?} is not registered, and version {} does not say how its instances go on: \
             register version {from_version} beside it, or implement Saga::migrate",
            self.name(),
            self.version()
        )))
    }
}

/// Why a saga's code cannot go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct SagaError {
    /// Why, for the operator who finds the instance set aside.
    pub reason: String,
}

impl SagaError {
    /// It cannot, for this reason.
    #[must_use]
    pub fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into() }
    }
}

/// Whom an event concerns.
#[derive(Debug, Clone, PartialEq)]
pub enum Route {
    /// A new instance; the same key always names the same instance, so it is started once.
    Start {
        /// Names the instance among those of its saga, such as an order's id. It is correlated by it, too.
        key: String,
        /// What it starts with.
        data: Value,
    },
    /// Every open instance that is correlated by this key.
    Continue {
        /// The key.
        key: String,
    },
}

/// What came in.
#[derive(Debug, Clone, PartialEq)]
pub enum SagaInput {
    /// It was started.
    Started,
    /// An event of the log.
    Event(RoutedEvent),
    /// A command was accepted; its effect is durable.
    Answered {
        /// Which.
        command: PendingCommand,
        /// The target's version after it.
        version: Sequence,
        /// Where its last event is.
        position: Position,
    },
    /// A command was refused; it has no effect.
    Refused {
        /// Which.
        command: PendingCommand,
        /// Why.
        reason: Reason,
    },
    /// A state was read.
    Read {
        /// The step it was read for; the state is in [`SagaRecord::reads`].
        step: String,
    },
    /// A timer's instant has come.
    TimerFired {
        /// Its name; [`TIMEOUT`] for the whole instance.
        timer: String,
        /// The step it belongs to.
        step: Option<String>,
    },
    /// Somebody wants it undone.
    CancelRequested,
    /// An operator wants a failed instance to go on.
    Retried,
}

/// An event of the log that concerns an instance.
#[derive(Debug, Clone, PartialEq)]
pub struct RoutedEvent {
    /// Where it is.
    pub position: Position,
    /// Its stream.
    pub aggregate_id: AggregateId,
    /// The stream's type.
    pub aggregate_type: AggregateType,
    /// Its type.
    pub event_type: EventType,
    /// Its payload in today's shape.
    pub data: Value,
}

/// Why something was refused, undone or set aside.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Reason {
    /// A stable word, such as `insufficient-funds`, `timeout` or `cancelled`.
    pub code: String,
    /// A sentence for people.
    pub message: String,
    /// Facts for programs.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub details: Option<Value>,
}

impl Reason {
    /// A reason without facts.
    #[must_use]
    pub fn new(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { code: code.into(), message: message.into(), details: None }
    }
}

/// Whether a command does a step or undoes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StepDirection {
    /// Does it.
    Forward,
    /// Undoes it.
    Undo,
}

impl StepDirection {
    /// As it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Forward => "forward",
            Self::Undo => "undo",
        }
    }
}

/// What a saga wants done.
#[derive(Debug, Clone, PartialEq)]
pub enum Reaction {
    /// Send a command. It is sent again under the same id until there is an answer; transport refusals are no answers.
    Command(StepCommand),
    /// Read an aggregate's durable state.
    Read {
        /// The step it is for.
        step: String,
        /// Whose.
        aggregate_id: AggregateId,
    },
    /// Set a timer, or set it anew.
    SetTimer {
        /// Its name.
        timer: String,
        /// From now.
        after: Duration,
        /// It goes when this step has an answer.
        step: Option<String>,
    },
    /// Cancel a timer.
    CancelTimer {
        /// Its name.
        timer: String,
    },
    /// From now on events routed to this key concern this instance.
    Correlate {
        /// The key.
        key: String,
    },
    /// Undo from now on.
    Compensate {
        /// Why.
        reason: Reason,
    },
    /// A refused step counts as done: what it was to bring about is so already.
    AcceptRefusal {
        /// The step.
        step: String,
    },
    /// The end: everything is done.
    Complete,
    /// The end: no lasting effect remains.
    Compensated,
    /// Set it aside: an operator must act.
    Fail {
        /// Why.
        reason: Reason,
    },
}

/// A command of a step.
#[derive(Debug, Clone, PartialEq)]
pub struct StepCommand {
    /// The step's name.
    pub step: String,
    /// Whether it does or undoes it.
    pub direction: StepDirection,
    /// The target.
    pub aggregate_id: AggregateId,
    /// Command type.
    pub command_type: String,
    /// Its members.
    pub data: Value,
    /// The version the target must have; else it is refused with the code `precondition-failed`.
    pub expected: Option<Sequence>,
    /// After this [`SagaInput::TimerFired`] comes, with the step's name as timer, unless there is an answer before.
    pub timeout: Option<Duration>,
}

/// What a command came to, as its target said.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum CommandOutcome {
    Accepted { version: Sequence, position: Position },
    Refused(Reason),
}

/// What is delivered to an instance by its actor.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Delivery {
    Outcome { command_id: CommandId, outcome: CommandOutcome },
    Read { step: String, read: ReadRecord },
    Event(RoutedEvent),
}
