//! The projection actor: stands by until it gets the lease, then moves the projection step by step.
//!
//! Standby ⇄ owner (catching up, live, rebuilding, paused, stopped) → gone. A step is one message and at most a few
//! commits; between two of them the actor can be stopped. Whatever goes wrong, the answer is the same: forget
//! everything, acquire again, go on from what is stored. Undo is forgetting: what is not stored was never seen.

mod audience;
mod context;
mod fold;
mod gauges;
mod owner;

use std::{sync::Arc, time::Duration};

use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

pub(crate) use audience::Audience;
pub(crate) use context::Board;
pub(crate) use context::{ProjectionContext, Standing, StepError};
pub(crate) use fold::{Changes, Track};
use owner::Pace;
pub(crate) use owner::{Owner, Step};

use crate::{ports::LeaseClaim, version::Position};

/// What a projection's actor is told.
#[derive(Debug)]
pub(crate) enum ProjectionMessage {
    /// Make the next step.
    Step,
}

/// The handler of one projection; holds nothing.
#[derive(Debug)]
pub(crate) struct ProjectionActor;

/// The actor's memory.
#[derive(Debug)]
pub(crate) struct ProjectionActorState {
    context: Arc<ProjectionContext>,
    /// The name under which this incarnation asks for the lease. A new one whenever it lost track of what is stored: the
    /// lease then changes hands, which fences off whatever is still on its way and makes the revision leap.
    id: Uuid,
    owner: Option<Box<Owner>>,
    log: watch::Receiver<Position>,
    pause: Duration,
    /// Why it stands by, as far as the log was told.
    standing_by: Option<&'static str>,
    waker: Option<AbortOnDropHandle<()>>,
}

/// First pause after a failure.
const PAUSE: Duration = Duration::from_millis(20);

/// Between two tries of a standby.
const STANDBY_MAX: Duration = Duration::from_secs(1);

/// Former names whose leases are still to be given back; older ones expire by themselves.
const FORMER_MAX: usize = 16;

impl Actor for ProjectionActor {
    type Msg = ProjectionMessage;
    type State = ProjectionActorState;
    type Arguments = Arc<ProjectionContext>;

    async fn pre_start(
        &self,
        myself: ActorRef<ProjectionMessage>,
        context: Arc<ProjectionContext>,
    ) -> Result<ProjectionActorState, ActorProcessingErr> {
        let log = context.publisher.subscribe();
        context.audience(|audience| audience.closed());
        let id = rename(&context);
        myself.send_message(ProjectionMessage::Step)?;
        Ok(ProjectionActorState { context, id, owner: None, log, pause: PAUSE, standing_by: None, waker: None })
    }

    async fn handle(
        &self,
        myself: ActorRef<ProjectionMessage>,
        ProjectionMessage::Step: ProjectionMessage,
        state: &mut ProjectionActorState,
    ) -> Result<(), ActorProcessingErr> {
        state.waker = None;
        if state.context.stop.is_cancelled() {
            state.leave().await;
            myself.stop(None);
            return Ok(());
        }
        // Before the step: news that come during it must not be slept over.
        state.log.borrow_and_update();
        let wait = match Box::pin(state.step()).await {
            Ok(wait) => wait,
            Err(error) => Some(state.recover(error).await),
        };
        match wait {
            None => myself.send_message(ProjectionMessage::Step)?,
            Some(wait) => state.wake_after(wait, myself),
        }
        Ok(())
    }
}

impl ProjectionActorState {
    /// One step; how long to wait for news after it.
    async fn step(&mut self) -> Result<Option<Duration>, StepError> {
        if self.context.publisher.is_replaced() {
            return Ok(Some(self.stand_aside().await));
        }
        let Some(owner) = &mut self.owner else { return self.stand_by().await };
        let pace = owner.step().await?;
        self.pause = PAUSE;
        match pace {
            Pace::Now => Ok(None),
            Pace::Rest => Ok(Some(owner.rest(self.context.poll.min(self.context.limits.lease / 3)))),
            Pace::Leave => {
                self.leave().await;
                self.id = rename(&self.context);
                Ok(Some(self.standby_pause()))
            }
        }
    }

    /// Tries to get the lease.
    async fn stand_by(&mut self) -> Result<Option<Duration>, StepError> {
        let context = self.context.clone();
        self.give_back().await?;
        context.board.take_stale();
        let known = match context.board.state().filter(|_| context.board.is_declared()) {
            Some(state) => state,
            None => {
                let state = context.ask(context.views.declare(&context.name, context.version)).await?;
                context.board.declare(&context, &state);
                state
            }
        };
        if context.board.owes_rebuild() && !known.is_paused {
            context.begin_own_rebuild(&known).await?;
            context.board.pay_rebuild();
        }
        let known = context.board.state().unwrap_or(known);
        if context.standing(&known) == Standing::Outdated {
            if self.standing_by.replace("outdated") != Some("outdated") {
                let (projection, stored, own) = (&context.name, known.version, context.version);
                tracing::warn!(
                    projection,
                    stored,
                    own,
                    "another version of the projection is kept; this process stands by"
                );
            }
            return Ok(Some(self.standby_pause()));
        }
        let claim = LeaseClaim { projection: context.name.clone(), owner: self.id, lease: context.limits.lease };
        let Some(state) = context.ask(context.views.acquire(claim)).await? else {
            context.metrics.clear_row_gauges();
            context.audience(|audience| audience.closed());
            if self.standing_by.replace("leased") != Some("leased") {
                tracing::info!(projection = context.name, "another owner has the projection; this process stands by");
            }
            return Ok(Some(self.standby_pause()));
        };
        self.standing_by = None;
        tracing::info!(projection = context.name, epoch = state.epoch, "this process owns the projection");
        context.board.put(state.clone());
        self.owner = Some(Box::new(Owner::open(context.clone(), self.id, state).await?));
        context.audience(|audience| audience.opened());
        Ok(None)
    }

    /// Lets go of what another process is to keep: the log that this one knows is no more. Also where read models lie in a
    /// database of their own, which knows nothing of that.
    async fn stand_aside(&mut self) -> Duration {
        if self.standing_by.replace("replaced") != Some("replaced") {
            self.leave().await;
            self.id = rename(&self.context);
        }
        self.standby_pause()
    }

    fn standby_pause(&self) -> Duration {
        (self.context.limits.lease / 3).min(STANDBY_MAX)
    }

    /// After a step that was not made: forgets everything. Returns how long to wait before the next.
    async fn recover(&mut self, error: StepError) -> Duration {
        let context = self.context.clone();
        let projection = &context.name;
        match error {
            StepError::Lost => tracing::debug!(projection, "somebody else moved the projection"),
            StepError::Slow => tracing::debug!(projection, "a page took too long"),
            StepError::Store(error) => self.trouble(error.to_string()),
            StepError::Refused(reason) => self.trouble(format!("the store refused: {reason}")),
            StepError::Unknown(error) => self.trouble(format!("the outcome of a commit is unknown: {error}")),
            StepError::Halt { reason, position } => {
                self.trouble(reason.clone());
                if let Some(owner) = &mut self.owner {
                    let stopped = Box::pin(owner.halt(reason, position)).await;
                    tracing::debug!(projection, ?stopped, "the fault is told");
                } else if let Err(error) = self.halt_before_owning(reason, position).await {
                    tracing::warn!(projection, ?error, "the projection's fault could not be stored");
                }
            }
        }
        if self.owner.take().is_some() {
            context.audience(|audience| audience.closed());
            self.id = rename(&context);
        }
        let pause = self.pause;
        self.pause = (pause * 2).min(context.limits.retry_pause_max);
        pause
    }

    /// What was acquired could not be opened.
    async fn halt_before_owning(&self, reason: String, position: Position) -> Result<(), StepError> {
        let context = &self.context;
        let Some(state) = context.board.state() else { return Ok(()) };
        let commit = crate::ports::ViewCommit {
            projection: context.name.clone(),
            owner: self.id,
            epoch: state.epoch,
            lease: context.limits.lease,
            served: None,
            shadow: None,
            touched: crate::view::Touched::Tags(Vec::new()),
            transition: Some(crate::ports::Transition::Stop(context.fault(reason, position))),
            operation: None,
        };
        context.ask(context.views.commit(commit)).await?;
        Ok(())
    }

    fn trouble(&self, reason: String) {
        tracing::warn!(projection = self.context.name, reason, "a projection's step was not made");
        self.context.note_trouble(reason);
    }

    /// Gives the lease back, as far as the store can be reached.
    async fn leave(&mut self) {
        self.owner = None;
        self.context.audience(|audience| audience.closed());
        self.context.metrics.clear_row_gauges();
        let _ = self.context.ask(self.context.views.release(&self.context.name, self.id)).await;
        let _ = self.give_back().await;
    }

    /// Gives back what was held under former names.
    async fn give_back(&self) -> Result<(), StepError> {
        let context = &self.context;
        loop {
            let Some(former) = context.board.lock().former.last().copied() else { return Ok(()) };
            context.ask(context.views.release(&context.name, former)).await?;
            context.board.lock().former.retain(|name| *name != former);
        }
    }

    fn wake_after(&mut self, wait: Duration, myself: ActorRef<ProjectionMessage>) {
        let (context, mut log) = (self.context.clone(), self.log.clone());
        let is_owner = self.owner.is_some();
        self.waker = Some(AbortOnDropHandle::new(tokio::spawn(async move {
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                Ok(()) = log.changed(), if is_owner => {}
                () = context.nudge.notified() => {}
                () = context.stop.cancelled() => {}
            }
            let _ = myself.send_message(ProjectionMessage::Step);
        })));
    }
}

/// A new name to own the projection by; the one before is to be given up.
fn rename(context: &ProjectionContext) -> Uuid {
    let id = Uuid::now_v7();
    let mut news = context.board.lock();
    let before = news.owner.replace(id);
    news.former.extend(before);
    let excess = news.former.len().saturating_sub(FORMER_MAX);
    news.former.drain(..excess);
    id
}
