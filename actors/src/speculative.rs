//! The speculative state of an aggregate: what is durable and everything in flight. Decisions are made here, events get
//! their places, ids and digests, and raw events are admitted.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use bytes::Bytes;

use crate::{
    aggregate::{DecisionContext, FieldError},
    answer::Answer,
    catalog::{DecidedEvent, Decline, Instance, Model, nearest},
    command_bus::{Action, AppendedEvent, CommandAccepted, CommandRequest, RawAppend},
    envelope::{EventBody, Metadata, NewEvent, Snapshot, StreamHead},
    error::CommandError,
    id::{AggregateId, AggregateType, EventId},
    personal::SUBJECT_ERASED,
    recovery::Recovered,
    registry::WriteSide,
    saga::SAGA_TYPE,
    version::{Position, Sequence},
};

mod sealing;

use sealing::Sealing;
pub(crate) use sealing::Undecided;

/// Streams of these types are written by the runtime only.
const RESERVED_TYPES: [&str; 1] = [SAGA_TYPE];

/// One stream's state at a head that need not be durable yet.
#[derive(Debug)]
pub(crate) struct Speculative {
    pub aggregate_id: AggregateId,
    /// The last event folded in.
    pub head: StreamHead,
    stream: Option<(Arc<dyn Model>, Box<dyn Instance>)>,
}

impl Speculative {
    /// A stream of which nothing is known yet.
    pub fn new(aggregate_id: AggregateId) -> Self {
        Self { aggregate_id, head: StreamHead::EMPTY, stream: None }
    }

    /// Starts from what is durable.
    pub fn restart(&mut self, recovered: Option<Recovered>) {
        self.head = recovered.as_ref().map_or(StreamHead::EMPTY, |recovered| recovered.head);
        self.stream = recovered.map(|recovered| (recovered.model, recovered.instance));
    }

    /// A snapshot when these events cross a multiple of the frequency. The domain's code may panic here: then there is none,
    /// and the command goes its way.
    pub fn snapshot(&self, write_side: &WriteSide, before: Sequence, events: &[NewEvent]) -> Option<Snapshot> {
        let (model, instance) = self.stream.as_ref()?;
        let aggregate_type = model.aggregate_type();
        let frequency = (write_side.snapshot_frequency)(aggregate_type);
        if events.is_empty() || frequency == 0 || before.0 / frequency == self.head.sequence.0 / frequency {
            return None;
        }
        let state = catch_unwind(AssertUnwindSafe(|| instance.state())).ok()?.ok()?;
        Some(Snapshot {
            aggregate_id: self.aggregate_id.clone(),
            aggregate_type: aggregate_type.clone(),
            head: self.head,
            state_version: model.state_version(),
            state: state.into(),
        })
    }

    /// Decides a request: what to answer, and the events to store, folded in already. An error leaves the state as it was.
    ///
    /// Runs the domain's code, which may panic; the state is then in doubt and must be loaded anew.
    pub fn decide(
        &mut self,
        write_side: &WriteSide,
        request: &CommandRequest,
    ) -> Result<(Answer, Vec<NewEvent>), Undecided> {
        let model = self.model(write_side, request)?;
        if !request.expected.is_met_by(self.head.sequence) {
            let current_version = self.head.sequence;
            return Err(CommandError::PreconditionFailed { current_version, replayed: false }.into());
        }
        let metadata = Metadata {
            command_id: request.command_id,
            correlation_id: request.context.correlation_id.clone(),
            causation_id: request.context.causation_id.clone(),
            traceparent: request.context.traceparent.clone(),
            actor: Some(request.principal.name.clone()),
        };
        let Some((_, instance)) = &mut self.stream else {
            return Err(CommandError::Internal { reason: "the state is not loaded".to_owned() }.into());
        };
        let sealing = Sealing::of(&write_side.vault, &model, &self.aggregate_id, request.dry_run);
        // On a copy: an append is admitted whole or not at all, and what cannot be sealed has not happened.
        let is_trial = request.dry_run || matches!(request.action, Action::Append(_)) || sealing.is_in_doubt();
        let mut trial = is_trial.then(|| instance.duplicate());
        let deciding = trial.as_mut().unwrap_or(instance);
        let decided = match &request.action {
            Action::Command(command) => {
                let context = DecisionContext {
                    aggregate_id: &self.aggregate_id,
                    command_id: request.command_id,
                    now: write_side.clock.now(),
                    metadata: &metadata,
                };
                let decided = deciding.decide(command, &context);
                decided.map_err(|decline| declined(decline, command.name, &model, write_side))?
            }
            Action::Append(append) => admit(&mut **deciding, append, &model, write_side, &self.aggregate_id)?,
            Action::Named { command_type, .. } => {
                return Err(CommandError::Internal { reason: format!("{command_type} was not decoded") }.into());
            }
        };
        sealing.check(&model, &self.aggregate_id, &decided)?;
        if let Some(trial) = trial.filter(|_| !request.dry_run) {
            *instance = trial;
        }
        Ok(self.placed(write_side, request, &model, &metadata, decided, &sealing))
    }

    /// Gives decided events their places, ids and digests, and the answer that goes with them.
    fn placed(
        &mut self,
        write_side: &WriteSide,
        request: &CommandRequest,
        model: &Arc<dyn Model>,
        metadata: &Metadata,
        decided: Vec<DecidedEvent>,
        sealing: &Sealing,
    ) -> (Answer, Vec<NewEvent>) {
        let metadata = Bytes::from(serde_json::to_vec(metadata).unwrap_or_else(|_| b"{}".to_vec()));
        let mut head = self.head;
        let events: Vec<NewEvent> = (0_u32..)
            .zip(decided)
            .map(|(ordinal, event)| {
                let chosen = match &request.action {
                    Action::Append(append) => append.events.get(ordinal as usize).and_then(|event| event.event_id),
                    Action::Command(_) | Action::Named { .. } => None,
                };
                let event_id = chosen.unwrap_or_else(|| EventId::derived(request.command_id, ordinal));
                let data = sealing.seal(&write_side.vault, &self.aggregate_id, event_id, &event);
                let body = EventBody {
                    event_id,
                    event_type: event.event_type,
                    schema_version: event.schema_version,
                    data,
                    metadata: metadata.clone(),
                };
                NewEvent::following(&mut head, &self.aggregate_id, model.aggregate_type(), body)
            })
            .collect();
        let accepted = CommandAccepted {
            command_id: request.command_id,
            aggregate_type: model.aggregate_type().clone(),
            aggregate_id: self.aggregate_id.clone(),
            version: head.sequence,
            position: Position::ZERO,
            events: events
                .iter()
                .map(|event| AppendedEvent {
                    event_id: event.event_id,
                    event_type: event.event_type.clone(),
                    sequence: event.sequence,
                    position: Position::ZERO,
                })
                .collect(),
            replayed: false,
        };
        if request.dry_run {
            return (Answer::Tried(accepted), Vec::new());
        }
        self.head = head;
        (Answer::Accepted(accepted), events)
    }

    /// The model of the stream; of the request while the stream has no events.
    fn model(&mut self, write_side: &WriteSide, request: &CommandRequest) -> Result<Arc<dyn Model>, CommandError> {
        let requested = match &request.action {
            Action::Command(command) => Some(command.aggregate_type.clone()),
            Action::Append(append) => self.append_type(write_side, append)?,
            Action::Named { .. } => None,
        };
        if self.head.sequence > Sequence::ZERO
            && let Some((model, _)) = &self.stream
        {
            return match requested {
                Some(requested) if requested != *model.aggregate_type() => Err(CommandError::TypeMismatch {
                    aggregate_id: self.aggregate_id.clone(),
                    actual: model.aggregate_type().clone(),
                    requested,
                }),
                _ => Ok(model.clone()),
            };
        }
        let Some(requested) = requested else {
            return Err(CommandError::Invalid {
                errors: vec![FieldError {
                    pointer: "/aggregate_type".to_owned(),
                    detail: "is needed for a new stream of events that no aggregate owns".to_owned(),
                }],
            });
        };
        let model = write_side.recovery.catalog.model(&requested);
        self.stream = Some((model.clone(), model.empty()));
        Ok(model)
    }

    /// The type a raw append asks for, by name or by its first event.
    fn append_type(&self, write_side: &WriteSide, append: &RawAppend) -> Result<Option<AggregateType>, CommandError> {
        let catalog = &write_side.recovery.catalog;
        let current = self.stream.as_ref().filter(|_| self.head.sequence > Sequence::ZERO);
        let is_reserved = |kind: &AggregateType| RESERVED_TYPES.contains(&kind.as_str());
        if append.aggregate_type.as_ref().is_some_and(is_reserved)
            || current.is_some_and(|(model, _)| is_reserved(model.aggregate_type()))
        {
            return Err(CommandError::ReservedStream { aggregate_id: self.aggregate_id.clone() });
        }
        if append.aggregate_type.is_some() || current.is_some() {
            return Ok(append.aggregate_type.clone());
        }
        let owner = append.events.first().and_then(|event| catalog.owner_of_event(event.event_type.as_str()));
        if owner.is_some_and(is_reserved) {
            return Err(CommandError::ReservedStream { aggregate_id: self.aggregate_id.clone() });
        }
        Ok(owner.cloned())
    }
}

/// Admits raw events one after the other.
fn admit(
    instance: &mut dyn Instance,
    append: &RawAppend,
    model: &Arc<dyn Model>,
    write_side: &WriteSide,
    id: &AggregateId,
) -> Result<Vec<DecidedEvent>, CommandError> {
    let catalog = &write_side.recovery.catalog;
    let mut decided = Vec::with_capacity(append.events.len());
    for (index, event) in append.events.iter().enumerate() {
        let owner = catalog.owner_of_event(event.event_type.as_str());
        let is_theirs =
            owner.is_some_and(|owner| owner != model.aggregate_type()) || event.event_type.as_str() == SUBJECT_ERASED;
        let admitted =
            if is_theirs { Err(Decline::UnknownEventType) } else { instance.admit(id, &event.event_type, &event.data) };
        decided.push(admitted.map_err(|decline| {
            match decline {
                Decline::Invalid(errors) => CommandError::Invalid {
                    errors: errors
                        .into_iter()
                        .map(|error| FieldError { pointer: format!("/{index}/data{}", error.pointer), ..error })
                        .collect(),
                },
                other => declined(other, event.event_type.as_str(), model, write_side),
            }
        })?);
    }
    Ok(decided)
}

fn declined(decline: Decline, name: &str, model: &Arc<dyn Model>, write_side: &WriteSide) -> CommandError {
    match decline {
        Decline::Refused(refusal) => CommandError::Rejected { refusal, replayed: false },
        Decline::Invalid(errors) => CommandError::Invalid { errors },
        Decline::UnknownEventType => CommandError::UnknownEventType {
            event_type: name.to_owned(),
            aggregate_type: model.aggregate_type().to_string(),
            owner: write_side.recovery.catalog.owner_of_event(name).map(ToString::to_string),
            nearest: nearest(name, model.events().iter().map(|(known, _)| *known)),
        },
        Decline::Fault(reason) => CommandError::Internal { reason },
    }
}
