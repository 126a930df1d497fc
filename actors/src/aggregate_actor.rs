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

use futures_util::FutureExt;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use rand::RngExt;
use tokio::task::AbortHandle;

use crate::{
    answer::{Answer, probe, recall},
    envelope::{NewEvent, StreamHead},
    error::CommandError,
    id::AggregateId,
    journal::Member,
    ports::StoreError,
    progress::Progress,
    recovery::{Recovered, RecoveryError},
    registry::WriteSide,
    speculative::{Speculative, Undecided},
    work::Work,
};

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
    /// Nothing is to be loaded: the stream is new, or so it is thought.
    pub is_new_stream: bool,
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

/// What deciding a command came to.
#[derive(Debug)]
enum Decided {
    /// This is to be submitted.
    Submit(Box<Member>),
    /// Nothing more is to be done with it now.
    Over,
    /// It is to be decided again once the subject has a key.
    KeyNeeded,
}

/// How often a command asks for a key: it may have run out of its life before it was used.
const KEY_ATTEMPTS: u32 = 3;

/// The actor's memory.
#[derive(Debug)]
pub(crate) struct AggregateState {
    write_side: Arc<WriteSide>,
    phase: Phase,
    generation: u64,
    ticket: u64,
    state: Speculative,
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
            phase: Phase::Vacant,
            generation: 1,
            ticket: 0,
            state: Speculative::new(arguments.aggregate_id),
            held: VecDeque::new(),
            progress: Arc::default(),
        };
        if arguments.is_new_stream && arguments.previous.is_none() {
            state.phase = Phase::Ready;
        } else {
            state.load(&myself, arguments.previous, Vec::new());
        }
        Ok(state)
    }

    async fn handle(
        &self,
        myself: ActorRef<AggregateMessage>,
        message: AggregateMessage,
        state: &mut AggregateState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            AggregateMessage::Do(work) => match state.phase {
                Phase::Ready => {
                    state.take(&myself, work).await;
                }
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
                if state.progress.is_settled() && state.held.is_empty() && !is_loading {
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
        state.write_side.registry.forget(&state.state.aggregate_id, myself.get_id());
        Ok(())
    }
}

impl AggregateState {
    /// Loads the state in a task of its own, after the previous incarnation's end and after answering known commands.
    fn load(
        &mut self,
        myself: &ActorRef<AggregateMessage>,
        previous: Option<ActorRef<AggregateMessage>>,
        known: Vec<Arc<Work>>,
    ) {
        let (write_side, id, myself) = (self.write_side.clone(), self.state.aggregate_id.clone(), myself.clone());
        let pause = backoff(self.held.iter().map(|work| work.attempts()).max().unwrap_or(0));
        let task = self.write_side.tasks.spawn(async move {
            if let Some(previous) = previous {
                let _ = previous.wait(Some(write_side.limits.command_deadline)).await;
            }
            let load = async {
                for work in known {
                    work.answer(recall(&*write_side.recovery.store, &work.request).await);
                }
                if let Some(pause) = pause {
                    tokio::time::sleep(pause).await;
                }
                write_side.load(&id).await
            };
            // The actor waits for this message: domain or store may panic on the way, but it must come.
            let result = AssertUnwindSafe(load).catch_unwind().await;
            let result = result.unwrap_or_else(|_| Err(RecoveryError::LoadPanic { aggregate_id: id.clone() }));
            let _ = myself.send_message(AggregateMessage::Loaded(Box::new(LoadedState(result))));
        });
        self.phase = Phase::Loading(task.abort_handle());
    }

    /// An append did not go as decided: nothing of this generation is valid any more.
    fn start_over(&mut self, myself: &ActorRef<AggregateMessage>, known: &[u64]) {
        self.generation += 1;
        let (mut answered, mut again) = (Vec::new(), VecDeque::new());
        for (ticket, work) in self.progress.take() {
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
                if let Some(recovered) = &recovered {
                    self.progress.raise_position(recovered.position);
                }
                self.state.restart(recovered);
                self.phase = Phase::Ready;
                // A panic on the way sends the actor back to loading; the rest then waits again.
                while matches!(self.phase, Phase::Ready)
                    && let Some(work) = self.held.pop_front()
                {
                    self.take(myself, work).await;
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

    /// Decides a command and submits the outcome. The first personal data of a person has to wait for a key, which is
    /// stored before the event is.
    async fn take(&mut self, myself: &ActorRef<AggregateMessage>, work: Arc<Work>) {
        for _ in 0..KEY_ATTEMPTS {
            match self.decide(myself, &work) {
                Decided::Submit(member) => return self.submit(member).await,
                Decided::Over => return,
                Decided::KeyNeeded => {}
            }
            if let Err(error) = Box::pin(self.write_side.vault.make(&self.state.aggregate_id)).await {
                tracing::warn!(%error, aggregate.id = %self.state.aggregate_id, "no key for personal data");
                let answer = match error {
                    // An older attempt may have been stored: its caller sends it again to find out.
                    StoreError::Unavailable { .. } => CommandError::Interrupted,
                    error => error.into(),
                };
                return work.answer(Err(answer));
            }
        }
        work.answer(Err(CommandError::Interrupted));
    }

    /// Decides one command on the speculative state; the outcome is to be submitted. Boxed, so that the future of an
    /// idle actor is small.
    fn decide(&mut self, myself: &ActorRef<AggregateMessage>, work: &Arc<Work>) -> Decided {
        if !work.submit() {
            return Decided::Over;
        }
        if work.losses() > self.write_side.limits.conflict_losses_max {
            work.answer(Err(CommandError::Conflict { aggregate_id: self.state.aggregate_id.clone() }));
            return Decided::Over;
        }
        let predecessor = self.state.head;
        let decision = match work.fault() {
            Some(fault) => Ok(Err(fault.into())),
            None => catch_unwind(AssertUnwindSafe(|| self.state.decide(&self.write_side, &work.request))),
        };
        let (answer, events) = match decision {
            Ok(Ok(decided)) => decided,
            // Faults are confirmed like refusals: the command may be stored already, and is then answered from the log.
            Ok(Err(Undecided::Refused(error))) => (Answer::Refused(error), Vec::new()),
            Ok(Err(Undecided::KeyNeeded)) => return Decided::KeyNeeded,
            Err(_) => {
                let reason = format!("deciding {} panicked", work.request.action.name());
                work.note_fault(reason);
                tracing::error!(aggregate.id = %self.state.aggregate_id, command.name = work.request.action.name(), "panic");
                // The state may be half-changed. What the journal has appended meanwhile is recognised by its ids.
                self.progress.kill(self.generation);
                self.held.push_front(work.clone());
                self.start_over(myself, &[]);
                return Decided::Over;
            }
        };
        Decided::Submit(self.member(myself, work.clone(), predecessor, answer, events))
    }

    /// Hands a decision to the journal. Waiting here is the back-pressure; the journal never waits for an actor.
    async fn submit(&self, member: Box<Member>) {
        if let Err(closed) = self.write_side.journal.send(member).await {
            // Not this time; but an older attempt may have been stored, so "nothing was done" would be a guess.
            closed.0.work.answer(Err(CommandError::Interrupted));
        }
    }

    fn member(
        &mut self,
        myself: &ActorRef<AggregateMessage>,
        work: Arc<Work>,
        predecessor: StreamHead,
        answer: Answer,
        events: Vec<NewEvent>,
    ) -> Box<Member> {
        self.ticket += 1;
        let probe = probe(&work.request, &answer);
        let snapshot = self.state.snapshot(&self.write_side, predecessor.sequence, &events);
        self.progress.submitted(self.ticket, work.clone());
        Box::new(Member {
            work,
            owner: myself.clone(),
            progress: self.progress.clone(),
            generation: self.generation,
            ticket: self.ticket,
            aggregate_id: self.state.aggregate_id.clone(),
            predecessor,
            probe,
            events,
            answer,
            snapshot,
        })
    }
}

/// The wait before the next attempt of commands that were decided in vain so often: none at first, then up to some milliseconds, at
/// random, so that two writers do not meet again in step.
fn backoff(attempts: u32) -> Option<Duration> {
    let most = Duration::from_millis(1 << attempts.checked_sub(1)?.min(4));
    Some(most.mul_f64(rand::rng().random_range(0.0..1.0)))
}
