//! The owner of a projection: one bounded step after the other, each one commit.

use std::{collections::BTreeSet, num::NonZeroU32, sync::Arc, time::Duration};

use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;
use tracing::{Instrument, Span};
use uuid::Uuid;

use super::{
    audience::told,
    context::{ProjectionContext, Standing, StepError},
    fold::Track,
};
use crate::{
    envelope::RecordedEvent,
    parked::{Settling, commit_error},
    ports::{
        Checkpoint, LeaseClaim, LogPage, Move, OperationUpdate, ProjectionState, Revision, StoreError, Tally,
        Transition, ViewCommit, ViewOutcome,
    },
    version::Position,
    view::Touched,
};

/// What the next step waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    /// Nothing.
    Now,
    /// News of the log, or of operators.
    Rest,
    /// This process must not own the projection.
    Leave,
}

/// What one commit does.
#[derive(Debug, Default)]
pub(crate) struct Step {
    pub served: Option<Move>,
    pub shadow: Option<Move>,
    pub transition: Option<Transition>,
    pub operation: Option<OperationUpdate>,
}

type Prefetched = AbortOnDropHandle<Result<LogPage, StoreError>>;

/// The tally under way.
pub(crate) type Tallying = AbortOnDropHandle<Result<Option<(Tally, Tally)>, StoreError>>;

/// After a step in which nothing concerned the projection; other processes see its checkpoint so much later.
const QUIET_EMPTY: Duration = Duration::from_millis(25);
/// After a step of few events.
const QUIET_SMALL: Duration = Duration::from_millis(4);
/// After a step of a projection with an audience in this process, while many events come.
const QUIET_INTERNAL: Duration = Duration::from_millis(40);
/// So many events in a step are many.
const BUSY_EVENTS: usize = 16;
/// A step of fewer events is small.
const SMALL_EVENTS: usize = 100;

/// How long no step is made after one of so many events: each costs the database a commit, which under load is better
/// spent on more events.
fn quiet_after(events: usize) -> Duration {
    match events {
        0 => QUIET_EMPTY,
        few if few < SMALL_EVENTS => QUIET_SMALL,
        _ => Duration::ZERO,
    }
}

/// A projection while this process holds its lease.
#[derive(Debug)]
pub(crate) struct Owner {
    pub context: Arc<ProjectionContext>,
    pub id: Uuid,
    /// As of the last commit, or of the last look.
    pub state: ProjectionState,
    pub served: Track,
    pub shadow: Option<Track>,
    pub settling: Option<Settling>,
    pub tally: Option<Tallying>,
    /// When the operation of the rebuild was told of its progress.
    pub told_at: Instant,
    /// Pages are halved so often, because the store refused a bigger one, or it took too long.
    pub halvings: u32,
    /// The event whose rows the store refuses.
    pub refused: Option<(Position, String)>,
    /// The checkpoints were compared with the log.
    is_checked: bool,
    /// The served rows rest on another log; a rebuild is under way.
    is_off_log: bool,
    prefetched: Option<(Position, Prefetched)>,
    /// Small steps leave room for the writers of the log: the next one comes not before.
    quiet_until: Instant,
    renewed_at: Instant,
    prune_at: Instant,
}

impl Owner {
    /// Begins to own what was acquired.
    pub async fn open(context: Arc<ProjectionContext>, id: Uuid, state: ProjectionState) -> Result<Self, StepError> {
        let served = Track::open(&context, state.generation, state.checkpoint).await?;
        let now = Instant::now();
        let mut owner = Self {
            id,
            served,
            shadow: None,
            settling: None,
            tally: None,
            told_at: now,
            halvings: 0,
            refused: None,
            is_checked: false,
            is_off_log: false,
            prefetched: None,
            quiet_until: now,
            renewed_at: now,
            prune_at: now + context.limits.prune_pause,
            state: state.clone(),
            context,
        };
        owner.sync(state).await?;
        owner.end_orphans(true).await?;
        owner.show_gauges().await?;
        Ok(owner)
    }

    /// One step: at most one page of the served rows and one of a rebuild.
    pub async fn step(&mut self) -> Result<Pace, StepError> {
        match self.step_or_slow().await {
            Err(StepError::Slow) => {
                self.halve();
                self.forget().await?;
                Ok(Pace::Now)
            }
            other => other,
        }
    }

    async fn step_or_slow(&mut self) -> Result<Pace, StepError> {
        if self.context.board.take_stale() || self.renewed_at.elapsed() >= self.context.limits.lease / 3 {
            self.renew().await?;
            self.is_checked = false;
        }
        if self.state.is_paused {
            return Ok(Pace::Rest);
        }
        match self.context.standing(&self.state) {
            Standing::Welcome => {}
            Standing::Outdated => return Ok(Pace::Leave),
            Standing::Newer => {
                self.context.begin_own_rebuild(&self.state).await?;
                self.renew().await?;
                return Ok(if self.shadow.is_some() { Pace::Now } else { Pace::Rest });
            }
        }
        if self.state.fault.is_some() {
            return Ok(Pace::Rest);
        }
        self.check().await?;
        // Rows that a rebuild will replace are left alone: they rest on another log, or on other code.
        if !self.stands_still() && (self.state.has_requests || self.settling.is_some()) {
            self.settle().await?;
            return Ok(Pace::Now);
        }
        let mut has_moved = !self.stands_still() && self.live().await?;
        if self.shadow.is_some() {
            has_moved |= self.rebuild().await?;
        }
        // Under load too: a projection that never rests leaves as much behind.
        has_moved |= self.prune().await?;
        Ok(if has_moved { Pace::Now } else { Pace::Rest })
    }

    /// Whether the served rows do not follow the log: only a rebuild replaces them.
    pub fn stands_still(&self) -> bool {
        self.state.is_frozen || self.is_off_log || self.state.version != self.context.version
    }

    /// Whether both generations stand at one position, and move together.
    pub fn is_lockstep(&self) -> bool {
        !self.stands_still() && self.shadow.as_ref().is_some_and(|shadow| shadow.checkpoint == self.served.checkpoint)
    }

    /// Renews the lease and looks at the state; [`StepError::Lost`] if another has it.
    pub async fn renew(&mut self) -> Result<(), StepError> {
        let (projection, owner) = (self.context.name.clone(), self.id);
        let claim = LeaseClaim { projection, owner, lease: self.context.limits.lease };
        let state = self.context.ask(self.context.views.acquire(claim)).await?.ok_or(StepError::Lost)?;
        self.renewed_at = Instant::now();
        let is_same = state.epoch != self.state.epoch
            || (state.generation == self.served.generation && state.checkpoint == self.served.checkpoint);
        if !is_same || state.revision < self.state.revision {
            // The store lost commits it had told of, in a crash: they must not be counted again as if they were the same.
            return Err(StepError::Lost);
        }
        self.sync(state).await
    }

    /// Takes note of a state, and opens anew what moved without us.
    async fn sync(&mut self, state: ProjectionState) -> Result<(), StepError> {
        let context = self.context.clone();
        if self.served.generation != state.generation || self.served.checkpoint != state.checkpoint {
            let is_swapped = |shadow: &mut crate::projection_actor::Track| {
                shadow.generation == state.generation && shadow.checkpoint == state.checkpoint
            };
            self.served = match self.shadow.take_if(is_swapped) {
                Some(shadow) => shadow,
                None => Track::open(&context, state.generation, state.checkpoint).await?,
            };
            (self.prefetched, self.settling, self.is_checked) = (None, None, false);
        }
        let is_same = |track: &Track, shadow: &crate::ports::Shadow| {
            track.generation == shadow.generation && track.checkpoint == shadow.checkpoint
        };
        match &state.shadow {
            None => (self.shadow, self.tally, self.is_off_log) = (None, None, false),
            Some(shadow) if self.shadow.as_ref().is_some_and(|track| is_same(track, shadow)) => {}
            Some(shadow) => {
                self.shadow = Some(Track::open_shadow(&context, shadow, state.generation).await?);
                (self.tally, self.is_checked) = (None, false);
            }
        }
        self.is_checked &= self.state.fault.is_none();
        context.freshness.note(&state);
        context.board.put(state.clone());
        self.state = state;
        Ok(())
    }

    /// Forgets everything that is not stored.
    pub async fn forget(&mut self) -> Result<(), StepError> {
        (self.prefetched, self.tally) = (None, None);
        self.served = Track::open(&self.context, self.state.generation, self.state.checkpoint).await?;
        self.shadow = match self.state.shadow {
            Some(shadow) => Some(Track::open_shadow(&self.context, &shadow, self.state.generation).await?),
            None => None,
        };
        Ok(())
    }

    /// Compares the checkpoints with the log, which may have been restored to an earlier state.
    async fn check(&mut self) -> Result<(), StepError> {
        if self.is_checked {
            return Ok(());
        }
        if let Some(shadow) = self.state.shadow
            && let Some(reason) = self.context.objection(shadow.checkpoint).await?
        {
            self.drop_shadow(shadow, reason, None).await?;
        }
        let objection = match self.state.is_frozen {
            true => None,
            false => self.context.objection(self.state.checkpoint).await?,
        };
        match objection {
            Some(_) if self.state.shadow.is_some() => self.is_off_log = true,
            Some(reason) => return Err(StepError::Halt { reason, position: self.state.checkpoint.position }),
            None => self.is_off_log = false,
        }
        self.is_checked = true;
        Ok(())
    }

    /// The next page of the served rows; both generations, if they stand at one position.
    async fn live(&mut self) -> Result<bool, StepError> {
        let context = self.context.clone();
        let from = self.served.checkpoint.position;
        if context.publisher.head() <= from || Instant::now() < self.quiet_until {
            // Nobody has heard of more, and the watcher looks now and then; or it is too soon.
            return Ok(false);
        }
        let page = self.page(from).await?;
        if page.examined <= from {
            return Ok(false);
        }
        context.publisher.raise(page.examined);
        let to = context.checkpoint_at(page.examined, &page.events).await?;
        if to.position < context.publisher.head() {
            self.prefetch(to.position);
        }
        let span = span(&context, &page.events, to.position);
        self.take(from, to, page).instrument(span).await?;
        Ok(true)
    }

    /// Folds and stores one page of the served rows.
    async fn take(&mut self, from: Position, to: Checkpoint, page: LogPage) -> Result<(), StepError> {
        let context = self.context.clone();
        let refused = self.refused.clone();
        let is_lockstep = self.is_lockstep();
        let folded = self.served.fold(&context, &page.events, refused.as_ref()).await?;
        let applied = folded.applied;
        let mut step = Step { served: Some(folded.into_move(from, to)), ..Step::default() };
        if let Some(shadow) = self.shadow.as_mut().filter(|_| is_lockstep) {
            let folded = shadow.fold(&context, &page.events, refused.as_ref()).await?;
            step.shadow = Some(folded.into_move(from, to));
        }
        match self.commit(step).await {
            Err(StepError::Refused(reason)) => self.narrow(&page.events, reason).await?,
            other => {
                other?;
                context.metrics.applied_events.inc_by(applied);
                self.quiet_until = Instant::now() + self.quiet_after(page.events.len());
                self.halvings = self.halvings.saturating_sub(1);
            }
        }
        Ok(())
    }

    /// How long to rest, at most `longest`.
    pub fn rest(&self, longest: Duration) -> Duration {
        let quiet = self.quiet_until.saturating_duration_since(Instant::now());
        // While it is quiet news do not shorten the rest by themselves: it ends in time.
        if quiet.is_zero() { longest } else { longest.min(quiet) }
    }

    /// The store refused a page: smaller ones tell the guilty event, which is then parked.
    pub async fn narrow(&mut self, page: &[RecordedEvent], reason: String) -> Result<(), StepError> {
        match page {
            [] => return Err(StepError::Refused(reason)),
            [event] => self.refused = Some((event.position, format!("the store refused its rows: {reason}"))),
            _ => self.halve(),
        }
        self.forget().await
    }

    fn halve(&mut self) {
        self.halvings = (self.halvings + 1).min(31);
    }

    /// A page's size.
    pub fn limit(&self, events_max: u32) -> NonZeroU32 {
        NonZeroU32::new(events_max >> self.halvings).unwrap_or(NonZeroU32::MIN)
    }

    async fn page(&mut self, after: Position) -> Result<LogPage, StepError> {
        if let Some((_, fetched)) = self.prefetched.take_if(|(from, _)| *from == after)
            && let Ok(Ok(page)) = fetched.await
            && page.examined > after
        {
            return Ok(page);
        }
        self.prefetched = None;
        let limit = self.limit(self.context.limits.batch_events_max);
        let context = &self.context;
        Ok(context.ask(context.events.read_all(after, &context.interest, limit)).await?)
    }

    /// Reads on while the page before is folded and stored.
    fn prefetch(&mut self, after: Position) {
        let (context, limit) = (self.context.clone(), self.limit(self.context.limits.batch_events_max));
        let read = async move { context.ask(context.events.read_all(after, &context.interest, limit)).await };
        self.prefetched = Some((after, AbortOnDropHandle::new(tokio::spawn(read))));
    }

    /// Makes one commit, in a task that nobody cancels.
    pub async fn commit(&mut self, step: Step) -> Result<(), StepError> {
        let context = self.context.clone();
        let is_swap = matches!(step.transition, Some(Transition::Swap { .. }));
        let touched = if is_swap { Touched::Everything } else { self.touched(step.served.as_ref()) };
        let gauges = self.changed_gauges(step.served.as_ref());
        let told = context.audience.as_deref().map(|audience| told(audience, step.served.as_ref()));
        let (served_to, shadow_to) = (step.served.as_ref().map(|s| s.to), step.shadow.as_ref().map(|s| s.to));
        if !touched.is_nothing() {
            context.freshness.announce(&context.name, &touched, Revision(self.state.revision.0 + 1));
        }
        let shadow = self.shadow.as_ref().map(|shadow| shadow.generation);
        let commit = ViewCommit {
            projection: context.name.clone(),
            owner: self.id,
            epoch: self.state.epoch,
            lease: context.limits.lease,
            served: step.served.map(|step| (self.served.generation, step)),
            shadow: shadow.zip(step.shadow),
            touched,
            transition: step.transition,
            operation: step.operation,
        };
        let started = Instant::now();
        let views = context.views.clone();
        let task = context.tasks.spawn(async move { views.commit(commit).await });
        let outcome = context.ask(async move { task.await.unwrap_or_else(|panic| Err(broken(&panic))) }).await;
        match outcome.map_err(commit_error)? {
            ViewOutcome::Lost => return Err(StepError::Lost),
            ViewOutcome::Committed(state) => {
                context.metrics.commit_duration.observe(started.elapsed().as_secs_f64());
                self.served.checkpoint = served_to.unwrap_or(self.served.checkpoint);
                if let Some((shadow, to)) = self.shadow.as_mut().zip(shadow_to) {
                    shadow.checkpoint = to;
                    shadow.trim(&context);
                }
                self.served.trim(&context);
                self.renewed_at = started;
                self.sync(*state).await?;
                // Both generations meet it, one after the other.
                let is_behind = |track: &Track, at: Position| track.checkpoint.position < at;
                let mut tracks = std::iter::once(&self.served).chain(&self.shadow);
                self.refused.take_if(|(at, _)| !tracks.any(|track| is_behind(track, *at)));
            }
        }
        self.set_gauges(gauges);
        context.audience(|audience| match is_swap {
            true => audience.opened(),
            false => audience.moved(&told.unwrap_or_default()),
        });
        if is_swap { self.show_gauges().await } else { Ok(()) }
    }

    /// How long no step is made after one of so many events.
    fn quiet_after(&self, events: usize) -> Duration {
        let is_full = events >= self.limit(self.context.limits.batch_events_max).get() as usize;
        // What has an audience here does not wait for rows in the common case, and larger pages cost less.
        if self.context.audience.is_some() && events >= BUSY_EVENTS && !is_full {
            return QUIET_INTERNAL;
        }
        quiet_after(events)
    }

    /// What a step of the served rows touches. Rows with an audience in the process are no query's, so no cached answer has
    /// to be told from another.
    fn touched(&self, step: Option<&Move>) -> Touched {
        let is_nothing = step.is_none_or(|step| step.puts.is_empty() && step.deletes.is_empty());
        if self.context.audience.is_some() && !is_nothing {
            return Touched::Everything;
        }
        Touched::rows(step.iter().flat_map(|step| step.puts.iter().map(|row| &row.key).chain(&step.deletes)))
    }

    /// Stops the projection until an operator acts.
    pub async fn halt(&mut self, reason: String, position: Position) -> Result<(), StepError> {
        let projection = &self.context.name;
        tracing::error!(projection, %position, reason, "the projection stops");
        let fault = self.context.fault(reason, position);
        self.commit(Step { transition: Some(Transition::Stop(fault)), ..Step::default() }).await
    }

    /// Removes what nobody can reach any more, now and then; whether there is more.
    async fn prune(&mut self) -> Result<bool, StepError> {
        if Instant::now() < self.prune_at {
            return Ok(false);
        }
        let limits = &self.context.limits;
        let retention = chrono::Duration::from_std(limits.change_retention).unwrap_or(chrono::Duration::MAX);
        let before = self.context.clock.now() - retention;
        let limit = NonZeroU32::new(limits.prune_rows_max).unwrap_or(NonZeroU32::MIN);
        let pruned = self.context.ask(self.context.views.prune(before, limit)).await?;
        // Operations belong to no projection: whichever owner comes by removes them.
        let pruned = pruned + self.context.ask(self.context.views.prune_operations(limits.operations, limit)).await?;
        if pruned > 0 {
            return Ok(true);
        }
        self.prune_at = Instant::now() + limits.prune_pause;
        Ok(false)
    }

    /// Rows that cannot be reached are looked for at once.
    pub fn prune_soon(&mut self) {
        self.prune_at = Instant::now() + Duration::from_secs(1);
    }
}

/// The span of one page, linked to the traces its events were recorded in.
fn span(context: &ProjectionContext, events: &[RecordedEvent], to: Position) -> Span {
    if events.is_empty() {
        return Span::none();
    }
    let span =
        tracing::debug_span!("projection", projection = context.name, event.position = %to, events = events.len());
    if context.traces.is_on() && !span.is_disabled() {
        let traces = events.iter().take(LINKS_MAX).filter_map(|event| event.parsed_metadata()?.traceparent);
        let traces: BTreeSet<_> = traces.collect();
        traces.iter().for_each(|traceparent| context.traces.link(&span, traceparent));
    }
    span
}

/// Causes that one span is linked to.
const LINKS_MAX: usize = 64;

fn broken(panic: &tokio::task::JoinError) -> StoreError {
    StoreError::Unavailable { reason: format!("the commit did not end: {panic}") }
}
