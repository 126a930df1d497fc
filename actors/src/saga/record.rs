//! [`SagaRecord`]: what is known of an instance, folded from its events.

use std::{collections::BTreeMap, sync::Arc};

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    Initiator, Reason, SagaCommandIssued, SagaEvent, SagaStarted, SagaStateRead, StepDirection, TIMEOUT, Trigger,
};
use crate::{
    id::{AggregateId, AggregateType, CommandId, EventId},
    version::Sequence,
};

/// How an instance stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SagaStatus {
    /// Doing its steps.
    Running,
    /// Undoing them.
    Compensating,
    /// Ended: everything is done.
    Completed,
    /// Ended: no lasting effect remains.
    Compensated,
    /// Set aside: an operator must act.
    Failed,
}

impl SagaStatus {
    /// All, in this order.
    pub const ALL: [Self; 5] = [Self::Running, Self::Compensating, Self::Completed, Self::Compensated, Self::Failed];

    /// As it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Compensating => "compensating",
            Self::Completed => "completed",
            Self::Compensated => "compensated",
            Self::Failed => "failed",
        }
    }

    /// Whether nothing happens to it any more, whatever comes.
    #[must_use]
    pub fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Compensated)
    }

    /// Whether it goes on by itself.
    #[must_use]
    pub fn is_open(self) -> bool {
        matches!(self, Self::Running | Self::Compensating)
    }
}

/// How a step stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StepStatus {
    /// Its command, or its read, has no answer yet.
    Running,
    /// Done.
    Completed,
    /// Its command was refused; nothing was done.
    Refused,
    /// Its undo has no answer yet.
    Compensating,
    /// Undone.
    Compensated,
    /// Its undo was refused.
    Failed,
}

/// A step that has begun.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StepRecord {
    /// Its name.
    pub name: String,
    /// How it stands.
    pub status: StepStatus,
    /// Commands it took to do it.
    pub attempts: u32,
    /// Commands it took to undo it.
    #[serde(default)]
    pub undo_attempts: u32,
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// When it was done, refused or undone last.
    #[serde(default)]
    pub ended_at: Option<DateTime<Utc>>,
    /// The last refusal.
    #[serde(default)]
    pub error: Option<Reason>,
}

/// A command without an answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PendingCommand {
    /// Its id.
    pub command_id: CommandId,
    /// The step.
    pub step: String,
    /// Does or undoes it.
    pub direction: StepDirection,
    /// Which try, from 1.
    pub attempt: u32,
    /// The target.
    pub aggregate_id: AggregateId,
    /// Command type.
    pub command_type: String,
    /// Its members.
    pub data: Value,
    /// The version the target must have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_version: Option<Sequence>,
    /// Since when.
    pub issued_at: DateTime<Utc>,
    /// The event that issued it: its cause.
    pub issued_by: EventId,
}

/// A read without an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PendingRead {
    /// The step.
    pub step: String,
    /// Whose state.
    pub aggregate_id: AggregateId,
    /// Since when.
    pub issued_at: DateTime<Utc>,
}

/// A state that was read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ReadRecord {
    /// Whose state.
    pub aggregate_id: AggregateId,
    /// The aggregate's type; none for an unknown aggregate.
    #[serde(default)]
    pub aggregate_type: Option<AggregateType>,
    /// The aggregate's version.
    pub version: Sequence,
    /// The state; null for an unknown aggregate.
    pub state: Value,
}

/// How a timer stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TimerStatus {
    /// Its instant has not come, or was not noticed yet.
    Set,
    /// It fired.
    Fired,
    /// It was cancelled, by itself, with its step or at the end.
    Cancelled,
}

/// A timer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TimerRecord {
    /// Its name.
    pub name: String,
    /// The step it goes with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// When it fires.
    pub due_at: DateTime<Utc>,
    /// How it stands.
    pub status: TimerStatus,
}

/// Everything known of one instance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SagaRecord {
    /// Which instance.
    pub saga_id: AggregateId,
    /// Which saga.
    pub saga_type: String,
    /// The definition it keeps.
    pub definition_version: u32,
    /// How it stands.
    pub status: SagaStatus,
    /// What it works on.
    pub data: Value,
    /// What the saga remembers beside this record.
    #[serde(default)]
    pub state: Value,
    /// The last reason: why it undoes, or was set aside.
    #[serde(default)]
    pub reason: Option<Reason>,
    /// Whether it undoes; kept while it is set aside.
    #[serde(default)]
    pub is_compensating: bool,
    /// Its steps, in the order they began.
    pub steps: Vec<StepRecord>,
    /// Commands without an answer.
    pub pending: Vec<PendingCommand>,
    /// Reads without an answer.
    #[serde(default)]
    pub pending_reads: Vec<PendingRead>,
    /// The states that were read, by step.
    #[serde(default)]
    pub reads: BTreeMap<String, ReadRecord>,
    /// Its timers, in the order they were set first.
    pub timers: Vec<TimerRecord>,
    /// The keys it is correlated by.
    #[serde(default)]
    pub keys: Vec<String>,
    /// In whose name it acts.
    pub initiator: Initiator,
    /// Shared by everything it sets off.
    pub correlation_id: Arc<str>,
    /// The event that started it.
    #[serde(default)]
    pub trigger: Option<Trigger>,
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// When anything happened last.
    pub updated_at: DateTime<Utc>,
    /// When it ended.
    #[serde(default)]
    pub ended_at: Option<DateTime<Utc>>,
}

impl SagaRecord {
    /// The record of an instance that begins.
    #[must_use]
    pub fn started(saga_id: AggregateId, started: &SagaStarted) -> Self {
        let timeout = started.timeout_at.map(|due_at| TimerRecord {
            name: TIMEOUT.to_owned(),
            step: None,
            due_at,
            status: TimerStatus::Set,
        });
        Self {
            saga_id,
            saga_type: started.saga_type.clone(),
            definition_version: started.definition_version,
            status: SagaStatus::Running,
            data: started.data.clone(),
            state: Value::Null,
            reason: None,
            is_compensating: false,
            steps: Vec::new(),
            pending: Vec::new(),
            pending_reads: Vec::new(),
            reads: BTreeMap::new(),
            timers: timeout.into_iter().collect(),
            keys: started.key.clone().into_iter().collect(),
            initiator: started.initiator.clone(),
            correlation_id: started.correlation_id.clone(),
            trigger: started.trigger.clone(),
            started_at: started.at,
            updated_at: started.at,
            ended_at: None,
        }
    }

    /// A step that has begun.
    #[must_use]
    pub fn step(&self, name: &str) -> Option<&StepRecord> {
        self.steps.iter().find(|step| step.name == name)
    }

    /// A command without an answer.
    #[must_use]
    pub fn pending(&self, id: CommandId) -> Option<&PendingCommand> {
        self.pending.iter().find(|command| command.command_id == id)
    }

    /// Whether it waits for nobody's answer.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.pending.is_empty() && self.pending_reads.is_empty()
    }

    /// The timer that is set and due first.
    #[must_use]
    pub fn next_timer(&self) -> Option<&TimerRecord> {
        self.timers.iter().filter(|timer| timer.status == TimerStatus::Set).min_by_key(|timer| timer.due_at)
    }

    /// Folds one event in. Total.
    pub fn apply(&mut self, event: &SagaEvent, id: EventId) {
        match event {
            SagaEvent::SagaStarted(_) | SagaEvent::SagaDefinitionAdopted(_) => return,
            SagaEvent::SagaEventReceived(_) | SagaEvent::SagaCancelRequested(_) => {}
            SagaEvent::SagaCommandIssued(issued) => self.issued(issued, id),
            SagaEvent::SagaCommandAnswered(answered) => {
                self.answered(answered.command_id, &answered.step, answered.direction, answered.at, None);
            }
            SagaEvent::SagaCommandRefused(refused) => {
                let reason = Some(refused.reason.clone());
                self.answered(refused.command_id, &refused.step, refused.direction, refused.at, reason);
            }
            SagaEvent::SagaRefusalAccepted(accepted) => self.accept_refusal(&accepted.step),
            SagaEvent::SagaReadIssued(issued) => {
                let step = self.begun(&issued.step, issued.at);
                step.status = StepStatus::Running;
                step.attempts += 1;
                step.ended_at = None;
                let (step, aggregate_id) = (issued.step.clone(), issued.aggregate_id.clone());
                self.pending_reads.push(PendingRead { step, aggregate_id, issued_at: issued.at });
            }
            SagaEvent::SagaStateRead(read) => self.read(read),
            SagaEvent::SagaTimerSet(_) | SagaEvent::SagaTimerFired(_) | SagaEvent::SagaTimerCancelled(_) => {
                self.timer(event);
            }
            SagaEvent::SagaCorrelated(correlated) => {
                if !self.keys.contains(&correlated.key) {
                    self.keys.push(correlated.key.clone());
                }
            }
            SagaEvent::SagaStateChanged(_)
            | SagaEvent::SagaCompensationStarted(_)
            | SagaEvent::SagaEnded(_)
            | SagaEvent::SagaFailed(_)
            | SagaEvent::SagaRetried(_)
            | SagaEvent::SagaMigrated(_) => self.lives_on(event),
        }
        self.updated_at = event.at();
    }

    fn timer(&mut self, event: &SagaEvent) {
        match event {
            SagaEvent::SagaTimerSet(set) => self.set_timer(&set.timer, set.step.as_deref(), set.due_at),
            SagaEvent::SagaTimerFired(fired) => self.end_timers(TimerStatus::Fired, |timer| timer.name == fired.timer),
            SagaEvent::SagaTimerCancelled(cancelled) => {
                self.end_timers(TimerStatus::Cancelled, |timer| timer.name == cancelled.timer);
            }
            _ => {}
        }
    }

    /// What changes the instance as a whole.
    fn lives_on(&mut self, event: &SagaEvent) {
        match event {
            SagaEvent::SagaStateChanged(changed) => self.state = changed.state.clone(),
            SagaEvent::SagaCompensationStarted(started) => {
                self.status = SagaStatus::Compensating;
                self.is_compensating = true;
                self.reason = Some(started.reason.clone());
            }
            SagaEvent::SagaEnded(ended) => {
                self.status = if ended.is_completed { SagaStatus::Completed } else { SagaStatus::Compensated };
                self.ended_at = Some(ended.at);
                self.end_timers(TimerStatus::Cancelled, |_| true);
            }
            SagaEvent::SagaFailed(failed) => {
                self.status = SagaStatus::Failed;
                self.reason = Some(failed.reason.clone());
            }
            SagaEvent::SagaRetried(_) => {
                self.status = if self.is_compensating { SagaStatus::Compensating } else { SagaStatus::Running };
            }
            SagaEvent::SagaMigrated(migrated) => {
                self.definition_version = migrated.to_version;
                self.state = migrated.state.clone();
            }
            _ => {}
        }
    }

    /// A refused step counts as done, a refused undo as undone.
    pub(super) fn accept_refusal(&mut self, name: &str) {
        if let Some(step) = self.steps.iter_mut().find(|step| step.name == name) {
            step.status = match step.status {
                StepStatus::Failed => StepStatus::Compensated,
                StepStatus::Refused => StepStatus::Completed,
                other => other,
            };
        }
    }

    fn begun(&mut self, name: &str, at: DateTime<Utc>) -> &mut StepRecord {
        let index = self.steps.iter().position(|step| step.name == name).unwrap_or_else(|| {
            self.steps.push(StepRecord {
                name: name.to_owned(),
                status: StepStatus::Running,
                attempts: 0,
                undo_attempts: 0,
                started_at: at,
                ended_at: None,
                error: None,
            });
            self.steps.len() - 1
        });
        &mut self.steps[index]
    }

    fn issued(&mut self, issued: &SagaCommandIssued, id: EventId) {
        let step = self.begun(&issued.step, issued.at);
        step.ended_at = None;
        match issued.direction {
            StepDirection::Forward => {
                step.status = StepStatus::Running;
                step.attempts = issued.attempt;
            }
            StepDirection::Undo => {
                step.status = StepStatus::Compensating;
                step.undo_attempts = issued.attempt;
            }
        }
        if let Some(due_at) = issued.due_at {
            self.set_timer(&issued.step, Some(&issued.step), due_at);
        }
        self.pending.push(PendingCommand {
            command_id: issued.command_id,
            step: issued.step.clone(),
            direction: issued.direction,
            attempt: issued.attempt,
            aggregate_id: issued.aggregate_id.clone(),
            command_type: issued.command_type.clone(),
            data: issued.data.clone(),
            expected_version: issued.expected_version,
            issued_at: issued.at,
            issued_by: id,
        });
    }

    fn answered(
        &mut self,
        id: CommandId,
        name: &str,
        direction: StepDirection,
        at: DateTime<Utc>,
        refusal: Option<Reason>,
    ) {
        self.pending.retain(|command| command.command_id != id);
        self.end_timers(TimerStatus::Cancelled, |timer| timer.step.as_deref() == Some(name));
        let Some(step) = self.steps.iter_mut().find(|step| step.name == name) else { return };
        step.status = match (direction, &refusal) {
            (StepDirection::Forward, None) => StepStatus::Completed,
            (StepDirection::Forward, Some(_)) => StepStatus::Refused,
            (StepDirection::Undo, None) => StepStatus::Compensated,
            (StepDirection::Undo, Some(_)) => StepStatus::Failed,
        };
        step.ended_at = Some(at);
        if refusal.is_some() {
            step.error = refusal;
        }
    }

    fn read(&mut self, read: &SagaStateRead) {
        self.pending_reads.retain(|pending| pending.step != read.step);
        self.end_timers(TimerStatus::Cancelled, |timer| timer.step.as_deref() == Some(&read.step));
        if let Some(step) = self.steps.iter_mut().find(|step| step.name == read.step) {
            step.status = StepStatus::Completed;
            step.ended_at = Some(read.at);
        }
        let record = ReadRecord {
            aggregate_id: read.aggregate_id.clone(),
            aggregate_type: read.aggregate_type.clone(),
            version: read.version,
            state: read.state.clone(),
        };
        self.reads.insert(read.step.clone(), record);
    }

    fn set_timer(&mut self, name: &str, step: Option<&str>, due_at: DateTime<Utc>) {
        let timer =
            TimerRecord { name: name.to_owned(), step: step.map(ToOwned::to_owned), due_at, status: TimerStatus::Set };
        match self.timers.iter_mut().find(|known| known.name == name) {
            Some(known) => *known = timer,
            None => self.timers.push(timer),
        }
    }

    fn end_timers(&mut self, status: TimerStatus, which: impl Fn(&TimerRecord) -> bool) {
        for timer in self.timers.iter_mut().filter(|timer| timer.status == TimerStatus::Set && which(timer)) {
            timer.status = status;
        }
    }
}
