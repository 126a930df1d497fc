//! A saga instance as the write side sees it: an aggregate of type `saga` whose commands only the runtime sends.
//!
//! So an instance has everything an aggregate has: an actor of its own under the supervisor, one decision at a time,
//! group commit, recovery, snapshots, and at most one effect for each input, since inputs have derived command ids.

use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, Utc};
use serde_json::{Value, value::RawValue};

use super::{
    Delivery, Initiator, Reason, SAGA_TYPE, SagaCancelRequested, SagaDefinitionAdopted, SagaDefinitions, SagaError,
    SagaEvent, SagaEventReceived, SagaFailed, SagaInput, SagaMigrated, SagaRecord, SagaRetried, SagaStarted,
    SagaStateRead, SagaStatus, SagaTimerFired, TimerStatus, Trigger, definitions::Resolved, draft::Draft,
};
use crate::{
    aggregate::{DecisionContext, DomainEvent, FieldError, Refusal},
    catalog::{DecidedEvent, Decline, Instance, Model},
    codec::CodecError,
    command_bus::DecodedCommand,
    envelope::RecordedEvent,
    id::{AggregateId, AggregateType, EventType, IdError},
    saga::{CommandOutcome, SagaCommandAnswered, SagaCommandRefused, SagaTimerSet},
    schema::SchemaOf,
    upcast::Upcasters,
};

/// Refusal of instances whose definition this process does not have.
pub const DEFINITION_UNKNOWN: &str = "saga-definition-unknown";
/// Refusal of words to an instance that is over.
pub const SAGA_ENDED: &str = "saga-ended";
/// Refusal of words to an instance that does not exist.
pub(crate) const SAGA_NOT_FOUND: &str = "saga-not-found";
/// Refusal of a retry of an instance that goes on by itself.
pub const SAGA_NOT_FAILED: &str = "saga-not-failed";

/// What an instance is told.
#[derive(Debug, Clone)]
pub(crate) enum SagaOrder {
    /// Begin.
    Start(StartOrder),
    /// Something came in.
    Deliver(Delivery),
    /// A timer's instant has come.
    Fire { timer: String, due_at: DateTime<Utc> },
    /// Undo what was done.
    Cancel,
    /// Go on after a failure.
    Retry,
    /// Stand aside until an operator acts.
    SetAside(Reason),
    /// From now on a saga sees the log; told to a stream of its own.
    Adopt { saga_type: String },
}

/// How an instance begins.
#[derive(Debug, Clone)]
pub(crate) struct StartOrder {
    pub saga_type: String,
    pub data: Value,
    /// Instead of the definition's.
    pub timeout: Option<std::time::Duration>,
    pub initiator: Initiator,
    pub trigger: Option<Trigger>,
    pub key: Option<String>,
}

/// Where the record of a decision is put, for whoever sent the order; only what the answer confirms may be trusted.
#[derive(Debug, Clone, Default)]
pub(crate) struct Slot(Arc<Mutex<Option<Arc<SagaRecord>>>>);

impl Slot {
    fn put(&self, record: &Arc<SagaRecord>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(record.clone());
    }

    pub fn take(&self) -> Option<Arc<SagaRecord>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// An order on its way through the bus.
#[derive(Debug)]
pub(crate) struct SagaCommand {
    pub order: SagaOrder,
    pub slot: Slot,
}

impl SagaCommand {
    /// As the bus takes it.
    pub fn decoded(order: SagaOrder, slot: Slot) -> DecodedCommand {
        let name = match order {
            SagaOrder::Start(_) => "StartSaga",
            SagaOrder::Deliver(_) => "ContinueSaga",
            SagaOrder::Fire { .. } => "FireSagaTimer",
            SagaOrder::Cancel => "CancelSaga",
            SagaOrder::Retry => "RetrySaga",
            SagaOrder::SetAside(_) => "SetSagaAside",
            SagaOrder::Adopt { .. } => "AdoptSaga",
        };
        DecodedCommand { name, aggregate_type: saga_type(), value: Arc::new(Self { order, slot }) }
    }
}

/// The aggregate type of sagas.
pub(crate) fn saga_type() -> AggregateType {
    static TYPE: std::sync::LazyLock<AggregateType> = std::sync::LazyLock::new(|| {
        AggregateType::new(SAGA_TYPE).unwrap_or_else(|error| unreachable!("a constant, and valid: {error}"))
    });
    TYPE.clone()
}

/// All saga instances behind the face of an aggregate type.
#[derive(Debug)]
pub(crate) struct SagaModel {
    aggregate_type: AggregateType,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    definitions: Arc<SagaDefinitions>,
    /// Event types as shared names with their schema versions, made once.
    kinds: Box<[(EventType, u32)]>,
}

impl SagaModel {
    pub fn new(definitions: Arc<SagaDefinitions>) -> Result<Self, IdError> {
        let kinds = SagaEvent::KINDS.iter().map(|(name, version)| EventType::new(name).map(|kind| (kind, *version)));
        let kinds = kinds.collect::<Result<_, _>>()?;
        Ok(Self { aggregate_type: saga_type(), shared: Arc::new(Shared { definitions, kinds }) })
    }
}

impl Model for SagaModel {
    fn aggregate_type(&self) -> &AggregateType {
        &self.aggregate_type
    }
    fn state_version(&self) -> u16 {
        1
    }
    fn commands(&self) -> &'static [&'static str] {
        // None by name: only the runtime tells sagas anything.
        &[]
    }
    fn events(&self) -> &'static [(&'static str, u32)] {
        SagaEvent::KINDS
    }
    fn event_schema(&self, event_type: &str) -> Option<SchemaOf> {
        SagaEvent::schema(event_type)
    }
    fn state_schema(&self) -> Option<SchemaOf> {
        Some(SchemaOf::type_of::<SagaRecord>())
    }
    fn decode(&self, name: &str, _: &RawValue) -> Result<DecodedCommand, Vec<FieldError>> {
        Err(vec![FieldError { pointer: String::new(), detail: format!("a saga has no command {name:?}") }])
    }
    fn validate(&self, _: &DecodedCommand, _: &AggregateId) -> Vec<FieldError> {
        Vec::new()
    }
    fn empty(&self) -> Box<dyn Instance> {
        Box::new(SagaInstance { shared: self.shared.clone(), record: None, is_adopted: false })
    }
    fn restore(&self, state: &[u8]) -> Result<Box<dyn Instance>, serde_json::Error> {
        let record: Option<SagaRecord> = serde_json::from_slice(state)?;
        let is_adopted = record.is_none();
        Ok(Box::new(SagaInstance { shared: self.shared.clone(), record: record.map(Arc::new), is_adopted }))
    }
}

/// One stream of type `saga`.
#[derive(Debug)]
pub(crate) struct SagaInstance {
    shared: Arc<Shared>,
    /// None before its first event, and in the stream that says since when a saga sees the log.
    record: Option<Arc<SagaRecord>>,
    is_adopted: bool,
}

/// What deciding an order led to.
type Decided = Result<(Option<SagaRecord>, Vec<SagaEvent>), Decline>;

impl Instance for SagaInstance {
    fn decide(
        &mut self,
        command: &DecodedCommand,
        context: &DecisionContext<'_>,
    ) -> Result<Vec<DecidedEvent>, Decline> {
        let Some(SagaCommand { order, slot }) = command.value.downcast_ref::<SagaCommand>() else {
            return Err(Decline::Fault(format!("{} is no command of a saga", command.name)));
        };
        let (record, events) = self.decided(order, context)?;
        let decided = events.iter().map(|event| self.encoded(event)).collect::<Result<Vec<_>, _>>()?;
        self.is_adopted |= matches!(events.first(), Some(SagaEvent::SagaDefinitionAdopted(_)));
        if let Some(record) = record {
            self.record = Some(Arc::new(record));
        }
        if let Some(record) = &self.record {
            slot.put(record);
        }
        Ok(decided)
    }

    fn admit(&mut self, _: &AggregateId, _: &EventType, _: &RawValue) -> Result<DecidedEvent, Decline> {
        Err(Decline::Fault("streams of sagas take no events from outside".to_owned()))
    }

    fn fold(&mut self, stored: &RecordedEvent, upcasters: &Upcasters) -> Result<(), CodecError> {
        let name = stored.event_type.as_str();
        let Some((_, current)) = self.shared.kinds.iter().find(|(kind, _)| kind.as_str() == name) else {
            return Err(CodecError::UnknownEventType { event_type: name.to_owned() });
        };
        match (SagaEvent::decode(name, &upcasters.current(stored, *current)?)?, &mut self.record) {
            (SagaEvent::SagaDefinitionAdopted(_), _) => self.is_adopted = true,
            (SagaEvent::SagaStarted(started), _) => {
                self.record = Some(Arc::new(SagaRecord::started(stored.aggregate_id.clone(), &started)));
            }
            (event, Some(record)) => Arc::make_mut(record).apply(&event, stored.event_id),
            (_, None) => {}
        }
        Ok(())
    }

    fn state(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(&self.record)
    }

    fn saga(&self) -> Option<Arc<SagaRecord>> {
        self.record.clone()
    }

    fn duplicate(&self) -> Box<dyn Instance> {
        Box::new(Self { shared: self.shared.clone(), record: self.record.clone(), is_adopted: self.is_adopted })
    }
}

impl SagaInstance {
    fn encoded(&self, event: &SagaEvent) -> Result<DecidedEvent, Decline> {
        let name = event.event_type();
        let kind = self.shared.kinds.iter().find(|(kind, _)| kind.as_str() == name);
        let (event_type, schema_version) =
            kind.ok_or_else(|| Decline::Fault(format!("{name} is no event of sagas")))?;
        Ok(DecidedEvent {
            event_type: event_type.clone(),
            schema_version: *schema_version,
            data: event.encode().map_err(|error| Decline::Fault(error.to_string()))?.into(),
        })
    }

    fn decided(&self, order: &SagaOrder, context: &DecisionContext<'_>) -> Decided {
        match order {
            SagaOrder::Adopt { .. } if self.is_adopted => Ok((None, Vec::new())),
            SagaOrder::Adopt { saga_type } => {
                let adopted = SagaDefinitionAdopted { at: context.now, saga_type: saga_type.clone() };
                Ok((None, vec![adopted.into()]))
            }
            // A key names one instance; whoever comes second finds it there.
            SagaOrder::Start(_) if self.record.is_some() => Ok((None, Vec::new())),
            SagaOrder::Start(start) => self.start(start, context),
            _ => self.go_on(order, context),
        }
    }

    fn start(&self, start: &StartOrder, context: &DecisionContext<'_>) -> Decided {
        let Some(saga) = self.shared.definitions.newest(&start.saga_type) else {
            return Err(unknown_definition(&start.saga_type, None));
        };
        let errors = saga.check(&start.data);
        // A caller hears of wrong data; an event has no caller, so its instance is set aside for an operator to see.
        let has_caller = start.trigger.is_none();
        if !errors.is_empty() && has_caller {
            return Err(Decline::Invalid(errors));
        }
        let timeout = start.timeout.or_else(|| saga.timeout());
        let started = SagaStarted {
            at: context.now,
            saga_type: start.saga_type.clone(),
            definition_version: saga.version(),
            data: start.data.clone(),
            timeout_at: timeout.map(|timeout| context.now + super::draft::span(timeout)),
            initiator: start.initiator.clone(),
            correlation_id: context.metadata.correlation_id.clone(),
            trigger: start.trigger.clone(),
            key: start.key.clone(),
        };
        let record = SagaRecord::started(context.aggregate_id.clone(), &started);
        let mut draft = Draft::new(record.clone(), vec![started.clone().into()], context.command_id, context.now);
        let begun = match errors.first() {
            None => draft.react(saga, &SagaInput::Started),
            Some(first) => Err(SagaError::new(format!("its data is not valid: {} {}", first.pointer, first.detail))),
        };
        if let Err(error) = begun {
            if has_caller {
                return Err(fault(error));
            }
            draft = Draft::new(record, vec![started.into()], context.command_id, context.now);
            draft.push(SagaFailed { at: context.now, reason: Reason::new("fault", error.reason) });
        }
        Ok((Some(draft.record), draft.events))
    }

    /// An order to an instance that has begun.
    fn go_on(&self, order: &SagaOrder, context: &DecisionContext<'_>) -> Decided {
        let Some(known) = &self.record else {
            return Err(refused(SAGA_NOT_FOUND, format!("there is no saga {:?}", context.aggregate_id.as_str())));
        };
        if !self.concerns(known, order, context.now)? {
            return Ok((None, Vec::new()));
        }
        let mut draft = Draft::new(SagaRecord::clone(known), Vec::new(), context.command_id, context.now);
        if let SagaOrder::SetAside(reason) = order {
            draft.push(SagaFailed { at: context.now, reason: reason.clone() });
            return Ok((Some(draft.record), draft.events));
        }
        if known.status == SagaStatus::Failed {
            draft.push(SagaRetried { at: context.now, by: actor(context) });
            set_anew(&mut draft, known, context.now);
        }
        let saga = match self.shared.definitions.resolve(&known.saga_type, known.definition_version) {
            Resolved::Exact(saga) => saga,
            Resolved::Newer(saga) => match saga.migrate(known.definition_version, known.state.clone()) {
                Ok(state) => {
                    let (from_version, to_version) = (known.definition_version, saga.version());
                    draft.push(SagaMigrated { at: context.now, from_version, to_version, state });
                    saga
                }
                Err(error) => {
                    let reason = Reason::new("definition-refused", error.reason);
                    draft.push(SagaFailed { at: context.now, reason });
                    return Ok((Some(draft.record), draft.events));
                }
            },
            Resolved::Foreign => return Err(unknown_definition(&known.saga_type, Some(known.definition_version))),
        };
        let input = take_in(&mut draft, order, context);
        draft.react(&saga, &input).map_err(fault)?;
        Ok((Some(draft.record), draft.events))
    }

    /// Whether an order changes anything; the first of several that mean the same wins.
    fn concerns(&self, known: &SagaRecord, order: &SagaOrder, now: DateTime<Utc>) -> Result<bool, Decline> {
        let ended = || {
            let status = known.status.as_str();
            refused(SAGA_ENDED, format!("the saga has ended: it is {status}; nothing can be done to it any more"))
        };
        Ok(match order {
            SagaOrder::Start(_) | SagaOrder::Adopt { .. } => false,
            SagaOrder::Cancel | SagaOrder::Retry if known.status.is_final() => return Err(ended()),
            SagaOrder::Cancel => known.status != SagaStatus::Compensating,
            SagaOrder::Retry if known.status.is_open() => {
                let status = known.status.as_str();
                return Err(refused(SAGA_NOT_FAILED, format!("the saga is {status} and goes on by itself")));
            }
            SagaOrder::Retry => true,
            _ if !known.status.is_open() => false,
            SagaOrder::SetAside(_) => true,
            SagaOrder::Deliver(Delivery::Outcome { command_id, .. }) => known.pending(*command_id).is_some(),
            SagaOrder::Deliver(Delivery::Read { step, .. }) => {
                known.pending_reads.iter().any(|read| read.step == *step)
            }
            SagaOrder::Deliver(Delivery::Event(_)) => true,
            SagaOrder::Fire { timer, due_at } => {
                let is_it = |known: &&super::TimerRecord| {
                    known.name == *timer && known.status == TimerStatus::Set && known.due_at == *due_at
                };
                known.timers.iter().any(|known| is_it(&known)) && *due_at <= now
            }
        })
    }
}

/// Gives timers that fell due while the instance was set aside the time they were set for once more: else a retry would
/// only find that it is too late.
fn set_anew(draft: &mut Draft, known: &SagaRecord, now: DateTime<Utc>) {
    let overdue = known.timers.iter().filter(|timer| timer.status == TimerStatus::Set && timer.due_at <= now);
    for timer in overdue {
        let command = known.pending.iter().find(|command| timer.step.as_deref() == Some(command.step.as_str()));
        let set_at = command.map_or(known.started_at, |command| command.issued_at);
        let due_at = now + (timer.due_at - set_at).max(chrono::Duration::zero());
        draft.push(SagaTimerSet { at: now, timer: timer.name.clone(), due_at, step: timer.step.clone() });
    }
}

/// Notes what came in; what the saga is told of it.
fn take_in(draft: &mut Draft, order: &SagaOrder, context: &DecisionContext<'_>) -> SagaInput {
    let at = context.now;
    match order {
        SagaOrder::Deliver(Delivery::Outcome { command_id, outcome }) => {
            // Without the command the order would not have concerned the instance.
            let Some(command) = draft.record.pending(*command_id).cloned() else { return SagaInput::Started };
            let (step, direction, command_id) = (command.step.clone(), command.direction, *command_id);
            match outcome.clone() {
                CommandOutcome::Accepted { version, position } => {
                    draft.push(SagaCommandAnswered { at, step, direction, command_id, version, position });
                    SagaInput::Answered { command, version, position }
                }
                CommandOutcome::Refused(reason) => {
                    draft.push(SagaCommandRefused { at, step, direction, command_id, reason: reason.clone() });
                    SagaInput::Refused { command, reason }
                }
            }
        }
        SagaOrder::Deliver(Delivery::Read { step, read }) => {
            let super::ReadRecord { aggregate_id, aggregate_type, version, state } = read.clone();
            draft.push(SagaStateRead { at, step: step.clone(), aggregate_id, aggregate_type, version, state });
            SagaInput::Read { step: step.clone() }
        }
        SagaOrder::Deliver(Delivery::Event(event)) => {
            let (position, aggregate_id, event_type) =
                (event.position, event.aggregate_id.clone(), event.event_type.clone());
            draft.push(SagaEventReceived { at, event: Trigger { position, aggregate_id, event_type } });
            SagaInput::Event(event.clone())
        }
        SagaOrder::Fire { timer, .. } => {
            let step =
                draft.record.timers.iter().find(|known| known.name == *timer).and_then(|timer| timer.step.clone());
            draft.push(SagaTimerFired { at, timer: timer.clone() });
            SagaInput::TimerFired { timer: timer.clone(), step }
        }
        SagaOrder::Cancel => {
            draft.push(SagaCancelRequested { at, by: actor(context) });
            SagaInput::CancelRequested
        }
        SagaOrder::Start(_) | SagaOrder::Adopt { .. } | SagaOrder::Retry | SagaOrder::SetAside(_) => SagaInput::Retried,
    }
}

fn actor(context: &DecisionContext<'_>) -> Arc<str> {
    context.metadata.actor.clone().unwrap_or_else(|| Arc::from("system"))
}

fn fault(error: SagaError) -> Decline {
    Decline::Fault(error.reason)
}

fn refused(code: &str, message: String) -> Decline {
    Decline::Refused(Refusal { code: code.to_owned(), message, details: None })
}

fn unknown_definition(saga_type: &str, version: Option<u32>) -> Decline {
    let version = version.map_or(String::new(), |version| format!(" in version {version}"));
    refused(DEFINITION_UNKNOWN, format!("this process has no saga {saga_type:?}{version}"))
}
