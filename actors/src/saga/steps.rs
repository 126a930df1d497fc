//! The common saga: steps one after the other, each with an undo. [`StepSaga`] says what they are, this file when.
//!
//! ```
//! use event_sourcing_actors::saga::{Call, Step, StepSaga};
//! use serde_json::json;
//!
//! #[derive(serde::Deserialize)]
//! struct Transfer { from: String, to: String, amount: i64 }
//!
//! let saga = StepSaga::<Transfer>::new("Transfer")
//!     .step(|transfer, saga| {
//!         let data = json!({ "amount": transfer.amount, "transfer_id": saga.saga_id });
//!         let withdraw = Call::new(&transfer.from, "WithdrawMoney", data.clone())?;
//!         Ok(Step::command("withdraw", withdraw).undo(Call::new(&transfer.from, "DepositMoney", data)?))
//!     })
//!     .step(|transfer, saga| {
//!         let data = json!({ "amount": transfer.amount, "transfer_id": saga.saga_id });
//!         Ok(Step::command("deposit", Call::new(&transfer.to, "DepositMoney", data)?).pivot())
//!     })
//!     .timeout(std::time::Duration::from_secs(60));
//! # let _ = saga;
//! ```
//!
//! # When
//! A step begins when the one before is done. A refusal, a step's time-out, the whole time-out and a cancellation turn the
//! saga round: it waits until every command that was sent has an answer (unknown is not an answer), then undoes the steps
//! that were done, the last one first. A refused undo is tried again, and then set aside for an operator.

use std::{collections::HashSet, fmt, sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{
    Reaction, Reason, Route, Saga, SagaError, SagaInput, SagaRecord, StepCommand, StepDirection, StepRecord,
    StepStatus, TIMEOUT, TimerStatus,
};
use crate::{
    aggregate::FieldError, codec::decode_object, id::AggregateId, id::EventType, projection::ProjectedEvent,
    version::Sequence,
};

/// A command to an aggregate.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// The target.
    pub aggregate_id: AggregateId,
    /// Command type.
    pub command_type: String,
    /// Its members.
    pub data: Value,
    /// The version the target must have.
    pub expected: Option<Sequence>,
}

impl Call {
    /// A command to the aggregate of this id.
    ///
    /// # Errors
    /// [`SagaError`] when the id is no identifier.
    pub fn new(aggregate_id: &str, command_type: impl Into<String>, data: Value) -> Result<Self, SagaError> {
        let aggregate_id = AggregateId::new(aggregate_id)
            .map_err(|error| SagaError::new(format!("{aggregate_id:?} is no aggregate id: {error}")))?;
        Ok(Self { aggregate_id, command_type: command_type.into(), data, expected: None })
    }

    /// Only if the target has this version.
    #[must_use]
    pub fn at_version(self, expected: Sequence) -> Self {
        Self { expected: Some(expected), ..self }
    }
}

/// How long and how often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepPolicy {
    /// Without an answer by then the saga turns round; none: it waits as long as the whole may take.
    pub timeout: Option<Duration>,
    /// How often a step is tried that is refused.
    pub attempts: u32,
    /// The same for its undo; after that an operator must act.
    pub undo_attempts: u32,
    /// Between two tries.
    pub pause: Duration,
}

impl Default for StepPolicy {
    fn default() -> Self {
        Self { timeout: Some(Duration::from_secs(30)), attempts: 1, undo_attempts: 3, pause: Duration::from_secs(1) }
    }
}

#[derive(Debug, Clone)]
enum Forward {
    Call(Call),
    Read(AggregateId),
    Refuse(Reason),
}

/// Which refusals of an undo mean that there is nothing to undo any more.
type Tolerates = fn(&Reason) -> bool;

/// One step.
#[derive(Debug, Clone)]
pub struct Step {
    name: String,
    forward: Forward,
    undo: Option<(Call, Tolerates)>,
    policy: Option<StepPolicy>,
    is_pivot: bool,
}

impl Step {
    /// A step that sends a command.
    #[must_use]
    pub fn command(name: impl Into<String>, call: Call) -> Self {
        Self { name: name.into(), forward: Forward::Call(call), undo: None, policy: None, is_pivot: false }
    }

    /// A step that reads an aggregate's state, to be found in [`SagaRecord::reads`] under the step's name. It has no
    /// time-out of its own, and is never refused.
    #[must_use]
    pub fn read(name: impl Into<String>, aggregate_id: AggregateId) -> Self {
        Self { name: name.into(), forward: Forward::Read(aggregate_id), undo: None, policy: None, is_pivot: false }
    }

    /// A step that cannot be done, which is known without asking anybody, say from a state that was read: the saga turns
    /// round for this reason as if a command had been refused. It is the answer to data that is wrong; an error is for
    /// code that is.
    #[must_use]
    pub fn refuse(name: impl Into<String>, reason: Reason) -> Self {
        Self { name: name.into(), forward: Forward::Refuse(reason), undo: None, policy: None, is_pivot: false }
    }

    /// The command that undoes it. Its target should accept it always.
    #[must_use]
    pub fn undo(self, call: Call) -> Self {
        self.undo_unless(call, |_| false)
    }

    /// The same; a refusal that `tolerates` takes means that nothing is left to undo.
    #[must_use]
    pub fn undo_unless(self, call: Call, tolerates: fn(&Reason) -> bool) -> Self {
        Self { undo: Some((call, tolerates)), ..self }
    }

    /// The last step, with which all is done: there is no way back from it, and needs to be none. If the saga turned
    /// round while its command had no answer yet, the answer decides: accepted, the saga is completed; refused, it
    /// undoes the steps before. Without it a last step that has no undo would stay while those before it are undone.
    #[must_use]
    pub fn pivot(self) -> Self {
        Self { is_pivot: true, ..self }
    }

    /// How long and how often, instead of the saga's own.
    #[must_use]
    pub fn policy(self, policy: StepPolicy) -> Self {
        Self { policy: Some(policy), ..self }
    }
}

type Group<D> = Arc<dyn Fn(&D, &SagaRecord) -> Result<Vec<Step>, SagaError> + Send + Sync>;
type Check<D> = Arc<dyn Fn(&D) -> Vec<FieldError> + Send + Sync>;
type Router = Arc<dyn Fn(&ProjectedEvent<'_>) -> Result<Vec<Route>, SagaError> + Send + Sync>;

/// A saga made of steps; `D` is what it works on.
pub struct StepSaga<D> {
    name: String,
    version: u32,
    groups: Vec<Group<D>>,
    check: Check<D>,
    timeout: Option<Duration>,
    policy: StepPolicy,
    interest: Vec<EventType>,
    router: Option<Router>,
    pub(super) schema: Option<crate::schema::SchemaOf>,
}

impl<D> fmt::Debug for StepSaga<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StepSaga").field("name", &self.name).field("version", &self.version).finish_non_exhaustive()
    }
}

impl<D: DeserializeOwned + 'static> StepSaga<D> {
    /// A saga without steps yet, in version 1.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            version: 1,
            groups: Vec::new(),
            check: Arc::new(|_| Vec::new()),
            timeout: None,
            policy: StepPolicy::default(),
            interest: Vec::new(),
            router: None,
            schema: None,
        }
    }

    /// Adds a step. It is asked for again and again: a step that has begun must stay the same for the same record. Names
    /// are unique in a saga, and none is [`TIMEOUT`].
    #[must_use]
    pub fn step(self, step: impl Fn(&D, &SagaRecord) -> Result<Step, SagaError> + Send + Sync + 'static) -> Self {
        self.steps(move |data, saga| step(data, saga).map(|step| vec![step]))
    }

    /// Adds steps that are known only when those before are done: one for each line of an order that was read, say.
    #[must_use]
    pub fn steps(
        mut self,
        steps: impl Fn(&D, &SagaRecord) -> Result<Vec<Step>, SagaError> + Send + Sync + 'static,
    ) -> Self {
        self.groups.push(Arc::new(steps));
        self
    }

    /// Checks the data of a start beyond its shape.
    #[must_use]
    pub fn check(self, check: impl Fn(&D) -> Vec<FieldError> + Send + Sync + 'static) -> Self {
        Self { check: Arc::new(check), ..self }
    }

    /// How long the whole may take before it turns round.
    #[must_use]
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { timeout: Some(timeout), ..self }
    }

    /// How long and how often for each step that does not say otherwise.
    #[must_use]
    pub fn policy(self, policy: StepPolicy) -> Self {
        Self { policy, ..self }
    }

    /// See [`Saga::version`].
    #[must_use]
    pub fn version(self, version: u32) -> Self {
        Self { version, ..self }
    }

    /// Starts instances, or tells open ones to look again, by events of the log.
    #[must_use]
    pub fn on(
        self,
        event_types: Vec<EventType>,
        route: impl Fn(&ProjectedEvent<'_>) -> Result<Vec<Route>, SagaError> + Send + Sync + 'static,
    ) -> Self {
        Self { interest: event_types, router: Some(Arc::new(route)), ..self }
    }

    fn data(&self, saga: &SagaRecord) -> Result<D, SagaError> {
        serde_json::from_value(saga.data.clone())
            .map_err(|error| SagaError::new(format!("the data of {:?} cannot be read: {error}", self.name)))
    }

    fn policy_of(&self, step: &Step) -> StepPolicy {
        step.policy.unwrap_or(self.policy)
    }

    /// The steps up to the first group in which one has not begun.
    fn begun(&self, saga: &SagaRecord) -> Result<Vec<Step>, SagaError> {
        let (data, mut seen, mut steps) = (self.data(saga)?, Seen::default(), Vec::new());
        for group in &self.groups {
            let group = seen.take(group(&data, saga)?)?;
            let is_last = group.iter().any(|step| saga.step(&step.name).is_none());
            steps.extend(group);
            if is_last {
                break;
            }
        }
        Ok(steps)
    }

    /// Begins the next step, or ends.
    fn go_on(&self, saga: &SagaRecord) -> Result<Vec<Reaction>, SagaError> {
        let (data, mut seen) = (self.data(saga)?, Seen::default());
        for group in &self.groups {
            for step in seen.take(group(&data, saga)?)? {
                match saga.step(&step.name).map(|known| known.status) {
                    Some(StepStatus::Completed) => {}
                    // Its answer, or the timer of its next try, comes.
                    Some(StepStatus::Running) => return Ok(Vec::new()),
                    Some(StepStatus::Refused) if is_set(saga, &retry_timer(&step.name)) => return Ok(Vec::new()),
                    _ => return self.begin(&step, saga),
                }
            }
        }
        Ok(vec![Reaction::Complete])
    }

    fn begin(&self, step: &Step, saga: &SagaRecord) -> Result<Vec<Reaction>, SagaError> {
        Ok(vec![match &step.forward {
            Forward::Read(aggregate_id) => {
                Reaction::Read { step: step.name.clone(), aggregate_id: aggregate_id.clone() }
            }
            Forward::Call(call) => command(&step.name, call, StepDirection::Forward, self.policy_of(step).timeout),
            Forward::Refuse(reason) => return self.turn(saga, reason.clone()),
        }])
    }

    /// Turns round for this reason; nothing if it did before.
    fn turn(&self, saga: &SagaRecord, reason: Reason) -> Result<Vec<Reaction>, SagaError> {
        if saga.is_compensating {
            return self.go_back(saga);
        }
        let mut reactions = vec![Reaction::Compensate { reason }];
        // What was put off is not tried again.
        let waiting = saga.timers.iter().filter(|timer| timer.step.is_none() && timer.name != TIMEOUT);
        let waiting = waiting.filter(|timer| timer.status == TimerStatus::Set).map(|timer| timer.name.clone());
        reactions.extend(waiting.map(|timer| Reaction::CancelTimer { timer }));
        reactions.extend(self.go_back(saga)?);
        Ok(reactions)
    }

    /// Undoes the last step that is done, or ends.
    fn go_back(&self, saga: &SagaRecord) -> Result<Vec<Reaction>, SagaError> {
        if !saga.is_quiet() {
            return Ok(Vec::new());
        }
        if saga.steps.is_empty() {
            // Also of an instance whose data nobody can read.
            return Ok(vec![Reaction::Compensated]);
        }
        let steps = self.begun(saga)?;
        let is_done = |step: &Step| saga.step(&step.name).is_some_and(|known| known.status == StepStatus::Completed);
        if steps.last().is_some_and(|last| last.is_pivot && is_done(last)) {
            return Ok(vec![Reaction::Complete]);
        }
        for step in steps.iter().rev() {
            let (Some(known), Some((undo, _))) = (saga.step(&step.name), &step.undo) else { continue };
            match known.status {
                StepStatus::Failed if is_set(saga, &undo_timer(&step.name)) => return Ok(Vec::new()),
                StepStatus::Completed | StepStatus::Failed => {
                    return Ok(vec![command(&step.name, undo, StepDirection::Undo, None)]);
                }
                StepStatus::Running | StepStatus::Compensating | StepStatus::Refused | StepStatus::Compensated => {}
            }
        }
        Ok(vec![Reaction::Compensated])
    }

    fn refused(
        &self,
        saga: &SagaRecord,
        name: &str,
        direction: StepDirection,
        reason: &Reason,
    ) -> Result<Vec<Reaction>, SagaError> {
        let step = self.begun(saga)?.into_iter().find(|step| step.name == name);
        let step = step.ok_or_else(|| SagaError::new(format!("step {name:?} is not among the steps any more")))?;
        let policy = self.policy_of(&step);
        let tries = |known: &StepRecord| match direction {
            StepDirection::Forward => known.attempts,
            StepDirection::Undo => known.undo_attempts,
        };
        let tried = saga.step(name).map_or(0, tries);
        let again = |timer: String| vec![Reaction::SetTimer { timer, after: policy.pause, step: None }];
        match direction {
            StepDirection::Forward if saga.is_compensating => self.go_back(saga),
            StepDirection::Forward if tried < policy.attempts => Ok(again(retry_timer(name))),
            StepDirection::Forward => self.turn(saga, reason.clone()),
            StepDirection::Undo if step.undo.is_some_and(|(_, tolerates)| tolerates(reason)) => {
                let mut reactions = vec![Reaction::AcceptRefusal { step: name.to_owned() }];
                let mut after = saga.clone();
                after.accept_refusal(name);
                reactions.extend(self.go_back(&after)?);
                Ok(reactions)
            }
            StepDirection::Undo if tried < policy.undo_attempts => Ok(again(undo_timer(name))),
            StepDirection::Undo => {
                let message = format!("step {name:?} could not be undone: {}", reason.message);
                Ok(vec![Reaction::Fail { reason: Reason { message, ..reason.clone() } }])
            }
        }
    }

    fn fired(&self, saga: &SagaRecord, timer: &str, step: Option<&str>) -> Result<Vec<Reaction>, SagaError> {
        if timer == TIMEOUT {
            return self.turn(saga, Reason::new("timeout", "the whole did not end in time"));
        }
        if let Some(step) = step {
            return self.turn(saga, Reason::new("timeout", format!("step {step:?} had no answer in time")));
        }
        // A try that was put off.
        if saga.is_compensating { self.go_back(saga) } else { self.go_on(saga) }
    }
}

impl<D: DeserializeOwned + 'static> Saga for StepSaga<D> {
    type State = ();

    fn name(&self) -> &str {
        &self.name
    }
    fn data_schema(&self) -> Option<crate::schema::SchemaOf> {
        self.schema.clone()
    }
    fn version(&self) -> u32 {
        self.version
    }
    fn check(&self, data: &Value) -> Vec<FieldError> {
        match decode_object::<D>(&data.to_string()) {
            Ok(data) => (self.check)(&data),
            Err(error) => vec![error],
        }
    }
    fn timeout(&self) -> Option<Duration> {
        self.timeout
    }
    fn interest(&self) -> Vec<EventType> {
        self.interest.clone()
    }
    fn route(&self, event: &ProjectedEvent<'_>) -> Result<Vec<Route>, SagaError> {
        self.router.as_ref().map_or(Ok(Vec::new()), |route| route(event))
    }
    fn steps(&self, saga: &SagaRecord) -> Vec<String> {
        let Ok(data) = self.data(saga) else { return Vec::new() };
        let groups = self.groups.iter().map_while(|group| group(&data, saga).ok());
        groups.flatten().map(|step| step.name).collect()
    }
    fn react(
        &self,
        (): &mut (),
        input: &SagaInput,
        saga: &SagaRecord,
        _: DateTime<Utc>,
    ) -> Result<Vec<Reaction>, SagaError> {
        match input {
            SagaInput::Refused { command, reason } => self.refused(saga, &command.step, command.direction, reason),
            SagaInput::TimerFired { timer, step } => self.fired(saga, timer, step.as_deref()),
            SagaInput::CancelRequested => self.turn(saga, Reason::new("cancelled", "it was cancelled")),
            SagaInput::Started
            | SagaInput::Event(_)
            | SagaInput::Answered { .. }
            | SagaInput::Read { .. }
            | SagaInput::Retried => {
                if saga.is_compensating {
                    self.go_back(saga)
                } else {
                    self.go_on(saga)
                }
            }
        }
    }
}

/// What steps there were so far.
#[derive(Debug, Default)]
struct Seen {
    names: HashSet<String>,
    is_over: bool,
}

impl Seen {
    /// A step whose name another has would count as done with it; after a pivot there is no way back.
    fn take(&mut self, steps: Vec<Step>) -> Result<Vec<Step>, SagaError> {
        for step in &steps {
            if !self.names.insert(step.name.clone()) {
                return Err(SagaError::new(format!("two steps are called {:?}", step.name)));
            }
            if self.is_over {
                return Err(SagaError::new(format!("step {:?} follows a pivot, which must be the last", step.name)));
            }
            self.is_over = step.is_pivot;
        }
        Ok(steps)
    }
}

fn command(step: &str, call: &Call, direction: StepDirection, timeout: Option<Duration>) -> Reaction {
    Reaction::Command(StepCommand {
        step: step.to_owned(),
        direction,
        aggregate_id: call.aggregate_id.clone(),
        command_type: call.command_type.clone(),
        data: call.data.clone(),
        expected: call.expected,
        timeout,
    })
}

/// The timer of a refused step's next try.
fn retry_timer(step: &str) -> String {
    format!("{step}/retry")
}

/// The timer of a refused undo's next try.
fn undo_timer(step: &str) -> String {
    format!("{step}/undo-retry")
}

fn is_set(saga: &SagaRecord, timer: &str) -> bool {
    saga.timers.iter().any(|known| known.name == timer && known.status == TimerStatus::Set)
}

#[cfg(test)]
mod tests;
