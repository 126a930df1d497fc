//! The aggregate actor: decides on speculative state, submits to the journal, and goes on; the journal answers.
//!
//! Loading → Ready ⇄ Loading (after a failed append) → draining → gone. Undo is reload: when an append did not go as
//! decided, the state is loaded anew and every command in flight is decided again, in order.

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use rand::RngExt;
use tokio::task::AbortHandle;

use crate::{
    aggregate::{DecisionContext, FieldError},
    answer::{Answer, probe, recall},
    catalog::{DecidedEvent, Decline, Instance, Model},
    command_bus::{Action, AppendedEvent, CommandAccepted, CommandRequest, RawAppend},
    envelope::{EventBody, Metadata, NewEvent, Snapshot, StreamHead},
    error::CommandError,
    id::{AggregateId, AggregateType, EventId},
    journal::{Member, Progress},
    ports::StoreError,
    recovery::{Recovered, RecoveryError},
    registry::WriteSide,
    version::{Position, Sequence},
    work::Work,
};

/// Streams of these types are written by the runtime only.
const RESERVED_TYPES: [&str; 1] = ["saga"];

/// What an aggregate's actor is told. Embedders send [`Self::Do`] with work from
/// [`Runtime::prepare`](crate::runtime::Runtime::prepare).
#[derive(Debug)]
pub enum AggregateMessage {
    /// Decide a command.
    Do(Arc<Work>),
    /// An append of this generation did not go as decided; the members with these tickets were recorded before.
    #[doc(hidden)]
    Failed {
        /// Which generation.
        generation: u64,
        /// Tickets.
        known: Vec<u64>,
    },
    /// The state was loaded, or could not be.
    #[doc(hidden)]
    Loaded(Box<LoadedState>),
    /// Nothing to do for a while: end, if nothing is in flight.
    #[doc(hidden)]
    Idle,
}

/// The result of a load.
#[derive(Debug)]
pub struct LoadedState(pub(crate) Result<Option<Recovered>, RecoveryError>);

/// The handler of one aggregate; holds nothing.
#[derive(Debug)]
pub(crate) struct AggregateActor;

/// What an actor starts with.
#[derive(Debug)]
pub(crate) struct AggregateArguments {
    pub write_side: Arc<WriteSide>,
    pub aggregate_id: AggregateId,
    /// The incarnation before, whose end must be awaited.
    pub previous: Option<ActorRef<AggregateMessage>>,
}

#[derive(Debug)]
enum Phase {
    /// The state is being loaded; commands wait.
    Loading(AbortHandle),
    /// The state is known.
    Ready,
    /// The last load failed for want of the store; the next command tries again.
    Vacant,
}

/// The actor's memory.
#[derive(Debug)]
pub(crate) struct AggregateState {
    write_side: Arc<WriteSide>,
    aggregate_id: AggregateId,
    phase: Phase,
    generation: u64,
    ticket: u64,
    /// Speculative: durable state and everything in flight.
    stream: Option<(Arc<dyn Model>, Box<dyn Instance>)>,
    head: StreamHead,
    pending: VecDeque<(u64, Arc<Work>)>,
    held: VecDeque<Arc<Work>>,
    progress: Arc<Progress>,
}

impl Actor for AggregateActor {
    type Msg = AggregateMessage;
    type State = AggregateState;
    type Arguments = AggregateArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<AggregateMessage>,
        arguments: AggregateArguments,
    ) -> Result<AggregateState, ActorProcessingErr> {
        let mut state = AggregateState {
            write_side: arguments.write_side,
            aggregate_id: arguments.aggregate_id,
            phase: Phase::Vacant,
            generation: 1,
            ticket: 0,
            stream: None,
            head: StreamHead::EMPTY,
            pending: VecDeque::new(),
            held: VecDeque::new(),
            progress: Arc::default(),
        };
        state.load(&myself, arguments.previous, Vec::new());
        Ok(state)
    }

    async fn handle(
        &self,
        myself: ActorRef<AggregateMessage>,
        message: AggregateMessage,
        state: &mut AggregateState,
    ) -> Result<(), ActorProcessingErr> {
        state.forget_settled();
        match message {
            AggregateMessage::Do(work) => match state.phase {
                Phase::Ready => state.decide(&myself, work).await,
                Phase::Loading(_) => state.held.push_back(work),
                Phase::Vacant => {
                    state.held.push_back(work);
                    state.load(&myself, None, Vec::new());
                }
            },
            AggregateMessage::Failed { generation, known } => {
                if generation == state.generation && !matches!(state.phase, Phase::Loading(_)) {
                    state.start_over(&myself, &known);
                }
            }
            AggregateMessage::Loaded(loaded) => return state.loaded(&myself, loaded.0).await,
            AggregateMessage::Idle => {
                let is_loading = matches!(state.phase, Phase::Loading(_));
                if state.pending.is_empty() && state.held.is_empty() && !is_loading {
                    // Queued commands are still served; later ones go to the next incarnation.
                    let _ = myself.drain();
                }
            }
        }
        Ok(())
    }

    async fn post_stop(
        &self,
        myself: ActorRef<AggregateMessage>,
        state: &mut AggregateState,
    ) -> Result<(), ActorProcessingErr> {
        if let Phase::Loading(load) = &state.phase {
            load.abort();
        }
        state.write_side.registry.forget(&state.aggregate_id, myself.get_id());
        Ok(())
    }
}

impl AggregateState {
    fn forget_settled(&mut self) {
        let settled = self.progress.settled();
        while self.pending.front().is_some_and(|(ticket, _)| *ticket <= settled) {
            self.pending.pop_front();
        }
    }

    /// Loads the state in a task of its own, after the previous incarnation's end and after answering known commands.
    fn load(
        &mut self,
        myself: &ActorRef<AggregateMessage>,
        previous: Option<ActorRef<AggregateMessage>>,
        known: Vec<Arc<Work>>,
    ) {
        let (write_side, id, myself) = (self.write_side.clone(), self.aggregate_id.clone(), myself.clone());
        let pause = backoff(self.held.iter().map(|work| work.losses()).max().unwrap_or(0));
        let task = self.write_side.tasks.spawn(async move {
            if let Some(previous) = previous {
                let _ = previous.wait(Some(write_side.limits.command_deadline)).await;
            }
            for work in known {
                work.answer(recall(&*write_side.recovery.store, &work.request).await);
            }
            if let Some(pause) = pause {
                tokio::time::sleep(pause).await;
            }
            let result = write_side.load(&id).await;
            let _ = myself.send_message(AggregateMessage::Loaded(Box::new(LoadedState(result))));
        });
        self.phase = Phase::Loading(task.abort_handle());
    }

    /// An append did not go as decided: nothing of this generation is valid any more.
    fn start_over(&mut self, myself: &ActorRef<AggregateMessage>, known: &[u64]) {
        self.generation += 1;
        let (mut answered, mut again) = (Vec::new(), VecDeque::new());
        for (ticket, work) in self.pending.drain(..) {
            if known.contains(&ticket) {
                answered.push(work);
            } else {
                again.push_back(work);
            }
        }
        again.append(&mut self.held);
        self.held = again;
        self.load(myself, None, answered);
    }

    async fn loaded(
        &mut self,
        myself: &ActorRef<AggregateMessage>,
        result: Result<Option<Recovered>, RecoveryError>,
    ) -> Result<(), ActorProcessingErr> {
        match result {
            Ok(recovered) => {
                if let Some(recovered) = recovered {
                    self.progress.raise_position(recovered.position);
                    self.head = recovered.head;
                    self.stream = Some((recovered.model, recovered.instance));
                } else {
                    self.head = StreamHead::EMPTY;
                    self.stream = None;
                }
                self.phase = Phase::Ready;
                // A panic on the way sends the actor back to loading; the rest then waits again.
                while matches!(self.phase, Phase::Ready)
                    && let Some(work) = self.held.pop_front()
                {
                    self.decide(myself, work).await;
                }
                Ok(())
            }
            Err(RecoveryError::Store(error @ StoreError::Unavailable { .. })) => {
                self.phase = Phase::Vacant;
                self.answer_held(&error.into());
                Ok(())
            }
            Err(error) => {
                self.phase = Phase::Vacant;
                self.answer_held(&CommandError::Internal { reason: error.to_string() });
                Err(error.into())
            }
        }
    }

    fn answer_held(&mut self, error: &CommandError) {
        for work in self.held.drain(..) {
            // What was submitted once may have been stored meanwhile: its caller sends it again to find out.
            let answer = if work.abandon() { error.clone() } else { CommandError::Interrupted };
            work.answer(Err(answer));
        }
    }

    /// Decides one command on the speculative state and submits the outcome.
    async fn decide(&mut self, myself: &ActorRef<AggregateMessage>, work: Arc<Work>) {
        if !work.submit() {
            return;
        }
        if work.losses() > self.write_side.limits.conflict_losses_max {
            work.answer(Err(CommandError::Conflict { aggregate_id: self.aggregate_id.clone() }));
            return;
        }
        let predecessor = self.head;
        let decision = catch_unwind(AssertUnwindSafe(|| self.decision(&work.request)));
        let (answer, events) = match decision {
            Ok(Ok(decided)) => decided,
            Ok(Err(error @ CommandError::Internal { .. })) => {
                work.answer(Err(error));
                return;
            }
            Ok(Err(error)) => (Answer::Refused(error), Vec::new()),
            Err(_) => {
                let reason = format!("deciding {} panicked", work.request.action.name());
                work.answer(Err(CommandError::Internal { reason }));
                tracing::error!(aggregate.id = %self.aggregate_id, command.name = work.request.action.name(), "panic");
                // The state may be half-changed. What the journal has appended meanwhile is recognised by its ids.
                self.progress.kill(self.generation);
                self.start_over(myself, &[]);
                return;
            }
        };
        self.submit(myself, work, predecessor, answer, events).await;
    }

    async fn submit(
        &mut self,
        myself: &ActorRef<AggregateMessage>,
        work: Arc<Work>,
        predecessor: StreamHead,
        answer: Answer,
        events: Vec<NewEvent>,
    ) {
        self.ticket += 1;
        let probe = probe(&work.request, &answer);
        let snapshot = self.snapshot(predecessor.sequence, &events);
        self.pending.push_back((self.ticket, work.clone()));
        let member = Member {
            work,
            owner: myself.clone(),
            progress: self.progress.clone(),
            generation: self.generation,
            ticket: self.ticket,
            aggregate_id: self.aggregate_id.clone(),
            predecessor,
            probe,
            events,
            answer,
            snapshot,
        };
        // Waiting here is the back-pressure; the journal never waits for an actor.
        if let Err(closed) = self.write_side.journal.send(member).await {
            closed.0.work.answer(Err(CommandError::Draining));
        }
    }

    /// A snapshot when these events cross a multiple of the frequency.
    fn snapshot(&self, before: Sequence, events: &[NewEvent]) -> Option<Snapshot> {
        let (model, instance) = self.stream.as_ref()?;
        let aggregate_type = model.aggregate_type();
        let frequency = (self.write_side.snapshot_frequency)(aggregate_type);
        if events.is_empty() || frequency == 0 || before.0 / frequency == self.head.sequence.0 / frequency {
            return None;
        }
        let state = instance.state().ok()?;
        Some(Snapshot {
            aggregate_id: self.aggregate_id.clone(),
            aggregate_type: aggregate_type.clone(),
            head: self.head,
            state_version: model.state_version(),
            state: state.into(),
        })
    }

    /// The decision: what to answer, and the events to store, folded in already.
    fn decision(&mut self, request: &CommandRequest) -> Result<(Answer, Vec<NewEvent>), CommandError> {
        let model = self.model(request)?;
        if !request.expected.is_met_by(self.head.sequence) {
            return Err(CommandError::PreconditionFailed { current_version: self.head.sequence, replayed: false });
        }
        let metadata = Metadata {
            command_id: request.command_id,
            correlation_id: request.context.correlation_id.clone(),
            causation_id: request.context.causation_id.clone(),
            traceparent: request.context.traceparent.clone(),
            actor: Some(request.principal.name.clone()),
        };
        let Some((_, instance)) = &mut self.stream else {
            return Err(CommandError::Internal { reason: "the state is not loaded".to_owned() });
        };
        let decided = match &request.action {
            Action::Command(command) => {
                let context = DecisionContext {
                    aggregate_id: &self.aggregate_id,
                    command_id: request.command_id,
                    now: self.write_side.clock.now(),
                    metadata: &metadata,
                };
                let mut trial = request.dry_run.then(|| instance.duplicate());
                let decided = trial.as_mut().unwrap_or(instance).decide(command, &context);
                decided.map_err(|decline| declined(decline, command.name, &model, &self.write_side))?
            }
            Action::Append(append) => {
                // On a copy: an append is admitted whole or not at all.
                let mut trial = instance.duplicate();
                let decided = admit(&mut *trial, append, &model, &self.write_side)?;
                if !request.dry_run {
                    *instance = trial;
                }
                decided
            }
            Action::Named { command_type, .. } => {
                return Err(CommandError::Internal { reason: format!("{command_type} was not decoded") });
            }
        };
        Ok(self.placed(request, &model, &metadata, decided))
    }

    /// Gives decided events their places, ids and digests, and the answer that goes with them.
    fn placed(
        &mut self,
        request: &CommandRequest,
        model: &Arc<dyn Model>,
        metadata: &Metadata,
        decided: Vec<DecidedEvent>,
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
                let body = EventBody {
                    event_id: chosen.unwrap_or_else(|| EventId::derived(request.command_id, ordinal)),
                    event_type: event.event_type,
                    schema_version: event.schema_version,
                    data: event.data,
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
    fn model(&mut self, request: &CommandRequest) -> Result<Arc<dyn Model>, CommandError> {
        let requested = match &request.action {
            Action::Command(command) => Some(command.aggregate_type.clone()),
            Action::Append(append) => self.append_type(append)?,
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
        let model = self.write_side.recovery.catalog.model(&requested);
        self.stream = Some((model.clone(), model.empty()));
        Ok(model)
    }

    /// The type a raw append asks for, by name or by its first event.
    fn append_type(&self, append: &RawAppend) -> Result<Option<AggregateType>, CommandError> {
        let catalog = &self.write_side.recovery.catalog;
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
        Ok(append.events.first().and_then(|event| catalog.owner_of_event(event.event_type.as_str())).cloned())
    }
}

/// The wait before the next attempt of commands that lost so often: none at first, then up to some milliseconds, at
/// random, so that two writers do not meet again in step.
fn backoff(losses: u32) -> Option<Duration> {
    let most = Duration::from_millis(1 << losses.checked_sub(1)?.min(4));
    Some(most.mul_f64(rand::rng().random_range(0.0..1.0)))
}

/// Admits raw events one after the other.
fn admit(
    instance: &mut dyn Instance,
    append: &RawAppend,
    model: &Arc<dyn Model>,
    write_side: &WriteSide,
) -> Result<Vec<DecidedEvent>, CommandError> {
    let catalog = &write_side.recovery.catalog;
    let mut decided = Vec::with_capacity(append.events.len());
    for (index, event) in append.events.iter().enumerate() {
        let owner = catalog.owner_of_event(event.event_type.as_str());
        let is_theirs = owner.is_some_and(|owner| owner != model.aggregate_type());
        let admitted = if is_theirs {
            Err(Decline::UnknownEventType)
        } else {
            instance.admit(&event.event_type, &event.data, catalog.upcasters())
        };
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
            nearest: write_side.recovery.catalog.nearest_event(name),
        },
        Decline::Fault(reason) => CommandError::Internal { reason },
    }
}
