//! The events of a saga instance's stream. Each carries the instant of its decision, so that the fold needs nothing else.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Reason, StepDirection};
use crate::{
    events,
    id::{AggregateId, AggregateType, CommandId, EventType},
    version::{Position, Sequence},
};

events! {
    /// All that happens to a saga instance.
    pub enum SagaEvent {
        SagaStarted = 1,
        SagaEventReceived = 1,
        SagaCommandIssued = 1,
        SagaCommandAnswered = 1,
        SagaCommandRefused = 1,
        SagaRefusalAccepted = 1,
        SagaReadIssued = 1,
        SagaStateRead = 1,
        SagaTimerSet = 1,
        SagaTimerFired = 1,
        SagaTimerCancelled = 1,
        SagaCorrelated = 1,
        SagaStateChanged = 1,
        SagaCompensationStarted = 1,
        SagaCancelRequested = 1,
        SagaEnded = 1,
        SagaFailed = 1,
        SagaRetried = 1,
        SagaMigrated = 1,
        SagaDefinitionAdopted = 1,
    }
}

impl SagaEvent {
    /// When it was decided.
    #[must_use]
    pub fn at(&self) -> DateTime<Utc> {
        match self {
            Self::SagaStarted(event) => event.at,
            Self::SagaEventReceived(event) => event.at,
            Self::SagaCommandIssued(event) => event.at,
            Self::SagaCommandAnswered(event) => event.at,
            Self::SagaCommandRefused(event) => event.at,
            Self::SagaRefusalAccepted(event) => event.at,
            Self::SagaReadIssued(event) => event.at,
            Self::SagaStateRead(event) => event.at,
            Self::SagaTimerSet(event) => event.at,
            Self::SagaTimerFired(event) => event.at,
            Self::SagaTimerCancelled(event) => event.at,
            Self::SagaCorrelated(event) => event.at,
            Self::SagaStateChanged(event) => event.at,
            Self::SagaCompensationStarted(event) => event.at,
            Self::SagaCancelRequested(event) => event.at,
            Self::SagaEnded(event) => event.at,
            Self::SagaFailed(event) => event.at,
            Self::SagaRetried(event) => event.at,
            Self::SagaMigrated(event) => event.at,
            Self::SagaDefinitionAdopted(event) => event.at,
        }
    }
}

/// In whose name a saga sends its commands: whoever started it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Initiator {
    /// The principal's name.
    pub name: Arc<str>,
    /// What it may do; pinned, so that an undo is not refused later.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<Arc<str>>,
}

/// The event of the log that started an instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Trigger {
    /// Where it is.
    pub position: Position,
    /// Its stream.
    pub aggregate_id: AggregateId,
    /// Its type.
    pub event_type: EventType,
}

/// An instance began.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SagaStarted {
    /// When.
    pub at: DateTime<Utc>,
    /// Which saga.
    pub saga_type: String,
    /// The definition it keeps.
    pub definition_version: u32,
    /// What it works on.
    pub data: Value,
    /// When the whole must have ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_at: Option<DateTime<Utc>>,
    /// In whose name.
    pub initiator: Initiator,
    /// Shared by everything it sets off.
    pub correlation_id: Arc<str>,
    /// What started it, if no call did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trigger: Option<Trigger>,
    /// The key it was started by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

/// An event of the log came in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SagaEventReceived {
    /// When.
    pub at: DateTime<Utc>,
    /// Which.
    #[serde(flatten)]
    pub event: Trigger,
}

/// A command is to be sent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SagaCommandIssued {
    /// When.
    pub at: DateTime<Utc>,
    /// The step.
    pub step: String,
    /// Does or undoes it.
    pub direction: StepDirection,
    /// Which try, from 1.
    pub attempt: u32,
    /// Derived from saga, step, direction and attempt: the same however often it is sent.
    pub command_id: CommandId,
    /// The target.
    pub aggregate_id: AggregateId,
    /// Command type.
    pub command_type: String,
    /// Its members.
    pub data: Value,
    /// The version the target must have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_version: Option<Sequence>,
    /// When the step's timer fires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due_at: Option<DateTime<Utc>>,
}

/// A command was accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SagaCommandAnswered {
    /// When.
    pub at: DateTime<Utc>,
    /// The step.
    pub step: String,
    /// Done or undone.
    pub direction: StepDirection,
    /// Which command.
    pub command_id: CommandId,
    /// The target's version after it.
    pub version: Sequence,
    /// Where its last event is.
    pub position: Position,
}

/// A command was refused.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SagaCommandRefused {
    /// When.
    pub at: DateTime<Utc>,
    /// The step.
    pub step: String,
    /// Not done or not undone.
    pub direction: StepDirection,
    /// Which command.
    pub command_id: CommandId,
    /// Why.
    pub reason: Reason,
}

/// What a refused command was to bring about is so already.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SagaRefusalAccepted {
    /// When.
    pub at: DateTime<Utc>,
    /// The step.
    pub step: String,
}

/// A state is to be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SagaReadIssued {
    /// When.
    pub at: DateTime<Utc>,
    /// The step.
    pub step: String,
    /// Whose state.
    pub aggregate_id: AggregateId,
}

/// A state was read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SagaStateRead {
    /// When.
    pub at: DateTime<Utc>,
    /// The step.
    pub step: String,
    /// Whose state.
    pub aggregate_id: AggregateId,
    /// The aggregate's type; none for an unknown aggregate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aggregate_type: Option<AggregateType>,
    /// The aggregate's version.
    pub version: Sequence,
    /// The state; null for an unknown aggregate.
    pub state: Value,
}

/// A timer was set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SagaTimerSet {
    /// When it was set.
    pub at: DateTime<Utc>,
    /// Its name.
    pub timer: String,
    /// When it fires.
    pub due_at: DateTime<Utc>,
    /// It goes with this step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
}

/// A timer's instant had come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SagaTimerFired {
    /// When it was noticed.
    pub at: DateTime<Utc>,
    /// Its name.
    pub timer: String,
}

/// A timer was cancelled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SagaTimerCancelled {
    /// When.
    pub at: DateTime<Utc>,
    /// Its name.
    pub timer: String,
}

/// Events routed to a key concern the instance from now on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SagaCorrelated {
    /// When.
    pub at: DateTime<Utc>,
    /// The key.
    pub key: String,
}

/// What the saga remembers changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SagaStateChanged {
    /// When.
    pub at: DateTime<Utc>,
    /// The whole of it.
    pub state: Value,
}

/// From now on it undoes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SagaCompensationStarted {
    /// When.
    pub at: DateTime<Utc>,
    /// Why.
    pub reason: Reason,
}

/// Somebody wants it undone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SagaCancelRequested {
    /// When.
    pub at: DateTime<Utc>,
    /// Who.
    pub by: Arc<str>,
}

/// It is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SagaEnded {
    /// When.
    pub at: DateTime<Utc>,
    /// `true`: everything is done; `false`: no lasting effect remains.
    pub is_completed: bool,
}

/// It was set aside: an operator must act.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SagaFailed {
    /// When.
    pub at: DateTime<Utc>,
    /// Why.
    pub reason: Reason,
}

/// An operator wants it to go on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SagaRetried {
    /// When.
    pub at: DateTime<Utc>,
    /// Who.
    pub by: Arc<str>,
}

/// It goes on under a newer definition.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SagaMigrated {
    /// When.
    pub at: DateTime<Utc>,
    /// The definition it had.
    pub from_version: u32,
    /// The one it has now.
    pub to_version: u32,
    /// What it remembers now.
    pub state: Value,
}

/// A saga that follows the log was met for the first time: it sees events recorded after this one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SagaDefinitionAdopted {
    /// When.
    pub at: DateTime<Utc>,
    /// Which saga.
    pub saga_type: String,
}

#[cfg(test)]
mod tests;
