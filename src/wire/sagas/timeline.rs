//! The timeline of a saga: each event of its stream as a sentence.

use chrono::{DateTime, SecondsFormat, Utc};
use event_sourcing_actors::{
    DomainEvent, EventType, Position, RecordedEvent, Sequence,
    saga::{Reason, SagaCommandAnswered, SagaCommandIssued, SagaEvent, SagaStarted, SagaStateRead, StepDirection},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::wire::microseconds;

/// One event of an instance.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct TimelineEvent {
    /// Its place in the instance's stream.
    pub sequence: Sequence,
    /// Its place in the log.
    pub position: Position,
    /// When it was recorded.
    #[serde(serialize_with = "microseconds")]
    pub at: DateTime<Utc>,
    /// Its type.
    pub event: EventType,
    /// The step it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// What it says, for people; absent when this program is too old to read it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

impl From<&RecordedEvent> for TimelineEvent {
    fn from(recorded: &RecordedEvent) -> Self {
        let event = SagaEvent::decode(recorded.event_type.as_str(), &recorded.data).ok();
        Self {
            sequence: recorded.sequence,
            position: recorded.position,
            at: recorded.recorded_at,
            event: recorded.event_type.clone(),
            step: event.as_ref().and_then(step).map(str::to_owned),
            detail: event.as_ref().map(sentence),
        }
    }
}

fn step(event: &SagaEvent) -> Option<&str> {
    match event {
        SagaEvent::SagaCommandIssued(issued) => Some(&issued.step),
        SagaEvent::SagaCommandAnswered(answered) => Some(&answered.step),
        SagaEvent::SagaCommandRefused(refused) => Some(&refused.step),
        SagaEvent::SagaRefusalAccepted(accepted) => Some(&accepted.step),
        SagaEvent::SagaReadIssued(issued) => Some(&issued.step),
        SagaEvent::SagaStateRead(read) => Some(&read.step),
        SagaEvent::SagaTimerSet(set) => set.step.as_deref(),
        _ => None,
    }
}

fn sentence(event: &SagaEvent) -> String {
    match event {
        SagaEvent::SagaStarted(started) => begun(started),
        SagaEvent::SagaEventReceived(received) => {
            let event = &received.event;
            format!("{} of {} at position {} came in", event.event_type, event.aggregate_id, event.position)
        }
        SagaEvent::SagaCommandIssued(issued) => sent(issued),
        SagaEvent::SagaCommandAnswered(answered) => done(answered),
        SagaEvent::SagaCommandRefused(refused) => {
            let what = match refused.direction {
                StepDirection::Forward => "refused",
                StepDirection::Undo => "the undo is refused",
            };
            format!("{what}: {}", told(&refused.reason))
        }
        SagaEvent::SagaRefusalAccepted(_) => {
            "the refusal counts as done: what was wanted is so already, or nothing is left to undo".to_owned()
        }
        SagaEvent::SagaReadIssued(issued) => format!("the state of {} is to be read", issued.aggregate_id),
        SagaEvent::SagaStateRead(read) => seen(read),
        SagaEvent::SagaTimerSet(set) => {
            let due_at = set.due_at.to_rfc3339_opts(SecondsFormat::Millis, true);
            format!("timer {:?} is set to {due_at}", set.timer)
        }
        SagaEvent::SagaTimerFired(fired) => format!("timer {:?} fired", fired.timer),
        SagaEvent::SagaTimerCancelled(cancelled) => format!("timer {:?} was cancelled", cancelled.timer),
        SagaEvent::SagaCorrelated(correlated) => {
            format!("events with the key {:?} concern it from now on", correlated.key)
        }
        SagaEvent::SagaStateChanged(_) => "what it remembers changed".to_owned(),
        SagaEvent::SagaCompensationStarted(started) => format!("it undoes from now on: {}", told(&started.reason)),
        SagaEvent::SagaCancelRequested(cancel) => format!("{} cancelled it", cancel.by),
        SagaEvent::SagaEnded(ended) if ended.is_completed => "completed: everything is done".to_owned(),
        SagaEvent::SagaEnded(_) => "compensated: no lasting effect remains".to_owned(),
        SagaEvent::SagaFailed(failed) => format!("set aside until an operator acts: {}", told(&failed.reason)),
        SagaEvent::SagaRetried(retried) => format!("{} lets it go on", retried.by),
        SagaEvent::SagaMigrated(migrated) => {
            format!(
                "it goes on under version {} of its definition, no longer {}",
                migrated.to_version, migrated.from_version
            )
        }
        SagaEvent::SagaDefinitionAdopted(adopted) => format!("{} sees the log from here on", adopted.saga_type),
    }
}

fn begun(started: &SagaStarted) -> String {
    let SagaStarted { saga_type, definition_version, initiator, trigger, .. } = started;
    let by = match trigger {
        Some(event) => format!("{} of {} at position {}", event.event_type, event.aggregate_id, event.position),
        None => initiator.name.to_string(),
    };
    format!("{saga_type} version {definition_version} is started by {by}")
}

fn sent(issued: &SagaCommandIssued) -> String {
    let lead = match issued.direction {
        StepDirection::Forward => "",
        StepDirection::Undo => "undo: ",
    };
    let again = if issued.attempt > 1 { format!(", try {}", issued.attempt) } else { String::new() };
    format!("{lead}{} is to be sent to {}{again}", issued.command_type, issued.aggregate_id)
}

fn done(answered: &SagaCommandAnswered) -> String {
    let what = match answered.direction {
        StepDirection::Forward => "done",
        StepDirection::Undo => "undone",
    };
    format!("{what}: its target is at version {}, position {}", answered.version, answered.position)
}

fn seen(read: &SagaStateRead) -> String {
    match &read.aggregate_type {
        Some(kind) => format!("{kind} {} was read at version {}", read.aggregate_id, read.version),
        None => format!("there is no aggregate {} to be read", read.aggregate_id),
    }
}

fn told(reason: &Reason) -> String {
    format!("{} ({})", reason.message, reason.code)
}
