//! One decision of an instance: what came in and what its saga wants done, as events.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::{
    AnySaga, Reaction, SagaCommandIssued, SagaCompensationStarted, SagaCorrelated, SagaEnded, SagaError, SagaEvent,
    SagaFailed, SagaInput, SagaReadIssued, SagaRecord, SagaRefusalAccepted, SagaStateChanged, SagaTimerCancelled,
    SagaTimerSet, StepCommand, StepDirection, TIMEOUT, ids::derived_command_id,
};
use crate::id::{CommandId, EventId};

/// What one input may lead to; more is a saga that never ends.
const REACTIONS_MAX: usize = 1_000;

/// A record on which events are being decided.
#[derive(Debug)]
pub(super) struct Draft {
    pub record: SagaRecord,
    pub events: Vec<SagaEvent>,
    command_id: CommandId,
    now: DateTime<Utc>,
}

impl Draft {
    pub fn new(record: SagaRecord, events: Vec<SagaEvent>, command_id: CommandId, now: DateTime<Utc>) -> Self {
        Self { record, events, command_id, now }
    }

    /// Adds an event, and folds it in.
    pub fn push(&mut self, event: impl Into<SagaEvent>) {
        let event = event.into();
        let ordinal = u32::try_from(self.events.len()).unwrap_or(u32::MAX);
        self.record.apply(&event, EventId::derived(self.command_id, ordinal));
        self.events.push(event);
    }

    /// Asks the saga what to do about an input that is folded in already, and adds it.
    pub fn react(&mut self, saga: &Arc<dyn AnySaga>, input: &SagaInput) -> Result<(), SagaError> {
        let (state, reactions) = saga.react(input, &self.record, self.now)?;
        if reactions.len() > REACTIONS_MAX {
            return Err(SagaError::new(format!("{} reactions to one input; at most {REACTIONS_MAX}", reactions.len())));
        }
        if state != self.record.state {
            self.push(SagaStateChanged { at: self.now, state });
        }
        reactions.into_iter().try_for_each(|reaction| self.take(reaction))
    }

    fn take(&mut self, reaction: Reaction) -> Result<(), SagaError> {
        let at = self.now;
        if !self.record.status.is_open() {
            return Err(SagaError::new("something is to be done after the end, or after it was set aside"));
        }
        match reaction {
            Reaction::Command(command) => self.issue(command),
            Reaction::Read { step, aggregate_id } => {
                self.is_free(&step)?;
                self.push(SagaReadIssued { at, step, aggregate_id });
                Ok(())
            }
            Reaction::SetTimer { timer, after, step } => {
                let due_at = at + span(after);
                self.push(SagaTimerSet { at, timer, due_at, step });
                Ok(())
            }
            Reaction::CancelTimer { timer } => {
                self.push(SagaTimerCancelled { at, timer });
                Ok(())
            }
            Reaction::Correlate { key } => {
                self.push(SagaCorrelated { at, key });
                Ok(())
            }
            Reaction::Compensate { reason } => {
                self.push(SagaCompensationStarted { at, reason });
                Ok(())
            }
            Reaction::AcceptRefusal { step } => {
                self.push(SagaRefusalAccepted { at, step });
                Ok(())
            }
            Reaction::Complete => self.end(true),
            Reaction::Compensated => self.end(false),
            Reaction::Fail { reason } => {
                self.push(SagaFailed { at, reason });
                Ok(())
            }
        }
    }

    fn issue(&mut self, command: StepCommand) -> Result<(), SagaError> {
        let StepCommand { step, direction, aggregate_id, command_type, data, expected, timeout } = command;
        self.is_free(&step)?;
        let known = self.record.step(&step);
        let attempt = 1 + known.map_or(0, |known| match direction {
            StepDirection::Forward => known.attempts,
            StepDirection::Undo => known.undo_attempts,
        });
        let label = format!("{step}/{}/{attempt}", direction.as_str());
        let command_id = derived_command_id(&self.record.saga_id, self.record.started_at, &label);
        self.push(SagaCommandIssued {
            at: self.now,
            step,
            direction,
            attempt,
            command_id,
            aggregate_id,
            command_type,
            data,
            expected_version: expected,
            due_at: timeout.map(|timeout| self.now + span(timeout)),
        });
        Ok(())
    }

    /// One command or read of a step at a time: an answer names the step it is for.
    fn is_free(&self, step: &str) -> Result<(), SagaError> {
        if step == TIMEOUT {
            return Err(SagaError::new(format!("no step can be called {TIMEOUT:?}: so is the timer of the whole")));
        }
        let is_busy = self.record.pending.iter().any(|command| command.step == step)
            || self.record.pending_reads.iter().any(|read| read.step == step);
        if is_busy { Err(SagaError::new(format!("step {step:?} has no answer yet"))) } else { Ok(()) }
    }

    /// Unknown is not an answer: nothing ends while the effect of a command is not known.
    fn end(&mut self, is_completed: bool) -> Result<(), SagaError> {
        if !self.record.is_quiet() {
            return Err(SagaError::new("it is to end while an answer is awaited"));
        }
        self.push(SagaEnded { at: self.now, is_completed });
        Ok(())
    }
}

/// A span of time; one that is too long for the calendar is as good as for ever.
pub(super) fn span(duration: std::time::Duration) -> chrono::Duration {
    const CENTURY: chrono::Duration = chrono::Duration::days(36_525);
    chrono::Duration::from_std(duration).map_or(CENTURY, |span| span.min(CENTURY))
}
