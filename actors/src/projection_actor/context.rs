//! What a projection's actor, the watcher and the operators' handle share: parts, bounds, and a board with news.

use std::{
    future::Future,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::sync::Notify;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

use super::Audience;
use crate::{
    catalog::Catalog,
    digest::LeafHash,
    envelope::{EventFilter, RecordedEvent},
    freshness::Freshness,
    limits::ProjectionLimits,
    observe::ProjectionMetrics,
    ports::{
        Checkpoint, Clock, Control, Controlled, EventStore, Fault, ProjectionState, StoreError, Traces, ViewStore,
    },
    projection::Projection,
    projections::ProjectionFailure,
    pubsub::Publisher,
    version::Position,
};

/// One registered projection of a runtime.
#[derive(Debug)]
pub(crate) struct ProjectionContext {
    pub projection: Arc<dyn Projection>,
    pub name: String,
    pub version: u64,
    pub interest: EventFilter,
    pub limits: ProjectionLimits,
    /// How often the log is looked at when nothing wakes the actor.
    pub poll: Duration,
    /// Whether this process begins a rebuild by itself where another version wrote the rows.
    pub upgrades: bool,
    pub events: Arc<dyn EventStore>,
    pub views: Arc<dyn ViewStore>,
    pub catalog: Arc<Catalog>,
    pub publisher: Publisher,
    pub freshness: Freshness,
    pub clock: Arc<dyn Clock>,
    pub metrics: ProjectionMetrics,
    pub traces: Arc<dyn Traces>,
    /// The runtime ends: finish the commit under way, give the lease back.
    pub stop: CancellationToken,
    /// Owns the commits under way, so that shutdown can wait for them.
    pub tasks: TaskTracker,
    /// Wakes the actor: an operator acted, or something it waits for is done.
    pub nudge: Notify,
    pub board: Board,
    /// Who hears what its owner does.
    pub audience: Option<Arc<dyn Audience>>,
}

/// Why a step was not made.
#[derive(Debug)]
pub(crate) enum StepError {
    /// Somebody else moved the projection, certainly nothing was stored.
    Lost,
    /// A read failed.
    Store(StoreError),
    /// A commit failed; whether it is stored, or will be, is unknown.
    Unknown(StoreError),
    /// The store does not take what was to be written; certainly nothing was stored.
    Refused(String),
    /// A page takes so long that the lease might end under it; nothing was stored.
    Slow,
    /// Going on would do harm: the projection stops until an operator acts.
    Halt { reason: String, position: Position },
}

impl From<StoreError> for StepError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// Whether this process may write a projection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It may.
    Welcome,
    /// It may, and has to begin a rebuild: it has a newer version.
    Newer,
    /// It must not: the rows are, or are going to be, another version's.
    Outdated,
}

impl ProjectionContext {
    /// Tells the audience, if there is one.
    pub fn audience(&self, tell: impl FnOnce(&dyn Audience)) {
        if let Some(audience) = &self.audience {
            tell(&**audience);
        }
    }

    /// Asks a store, but not for ever.
    pub async fn ask<T>(&self, call: impl Future<Output = Result<T, StoreError>> + Send) -> Result<T, StoreError> {
        let bound = self.limits.store_call;
        tokio::time::timeout(bound, call)
            .await
            .unwrap_or_else(|_| Err(StoreError::Unavailable { reason: format!("no answer within {bound:?}") }))
    }

    /// The event at a position of the log.
    pub async fn event_at(&self, position: Position) -> Result<Option<RecordedEvent>, StoreError> {
        let Some(before) = position.0.checked_sub(1) else { return Ok(None) };
        let everything = EventFilter::default();
        let page = self.ask(self.events.read_all(Position(before), &everything, std::num::NonZeroU32::MIN)).await?;
        Ok(page.events.into_iter().next().filter(|event| event.position == position))
    }

    /// The checkpoint after a page that was examined up to a position.
    pub async fn checkpoint_at(&self, position: Position, page: &[RecordedEvent]) -> Result<Checkpoint, StepError> {
        let leaf = match page.last().filter(|event| event.position == position) {
            Some(event) => LeafHash::of(event),
            // The page's last event did not pass the filter.
            None => LeafHash::of(&self.event_at(position).await?.ok_or(StepError::Lost)?),
        };
        Ok(Checkpoint { position, leaf: Some(leaf) })
    }

    /// Why a checkpoint was not made with this log; `None` if it fits.
    pub async fn objection(&self, checkpoint: Checkpoint) -> Result<Option<String>, StoreError> {
        if checkpoint.position == Position::ZERO {
            return Ok(None);
        }
        let position = checkpoint.position;
        Ok(match self.event_at(position).await? {
            None => Some(format!(
                "the rows have applied event {position}, but the log does not reach so far: it went back; rebuild the \
                 projection"
            )),
            Some(event) if checkpoint.leaf.is_some_and(|leaf| leaf != LeafHash::of(&event)) => Some(format!(
                "event {position} is not the one the rows have applied: the log was replaced; rebuild the projection"
            )),
            Some(_) => None,
        })
    }

    /// Whether this process may write the projection as it stands.
    pub fn standing(&self, state: &ProjectionState) -> Standing {
        let shadow = state.shadow.map(|shadow| shadow.version);
        if shadow == Some(self.version) {
            return Standing::Welcome;
        }
        let is_same = state.version == self.version;
        if !self.projection.is_version_ordered() {
            let is_welcome = shadow.is_none() && (is_same || state.is_frozen);
            return if is_welcome { Standing::Welcome } else { Standing::Outdated };
        }
        // After a rollback an operator wants older rows: only he ends that.
        let is_ahead = (state.version > self.version && !state.is_frozen) || shadow > Some(self.version);
        match is_ahead {
            true => Standing::Outdated,
            false if !state.is_frozen && (shadow.is_some() || !is_same) => {
                if self.upgrades {
                    Standing::Newer
                } else {
                    Standing::Outdated
                }
            }
            false => Standing::Welcome,
        }
    }

    /// Begins a rebuild with this version; one of another version is given up for it.
    pub async fn begin_own_rebuild(&self, state: &ProjectionState) -> Result<(), StoreError> {
        if let Some(shadow) = state.shadow {
            self.ask(self.views.control(&self.name, Control::Cancel { operation: shadow.operation })).await?;
        }
        let operation = Uuid::now_v7();
        let control = Control::Rebuild { operation, version: self.version, accepts_difference: true };
        match self.ask(self.views.control(&self.name, control)).await? {
            Controlled::Done(state) => {
                let (projection, version) = (&self.name, self.version);
                tracing::info!(projection, version, %operation, "another version wrote the rows: a rebuild begins");
                self.board.put(*state);
            }
            refused => tracing::warn!(projection = self.name, ?refused, "the rebuild for this version did not begin"),
        }
        Ok(())
    }

    /// A fault of now.
    pub fn fault(&self, reason: String, position: Position) -> Fault {
        Fault { reason, position, at: self.clock.now() }
    }

    /// Notes a trouble that is not in the store.
    pub fn note_trouble(&self, reason: String) {
        let at = self.clock.now();
        self.board.lock().last_error =
            Some(ProjectionFailure { reason, position: None, aggregate_id: None, event_type: None, at });
    }
}

/// The latest news of one projection in this process.
#[derive(Debug, Default)]
pub(crate) struct Board {
    news: Mutex<News>,
    /// Somebody else than the actor saw a state that the actor should look at.
    is_stale: AtomicBool,
    /// The projection was declared by this process.
    is_declared: AtomicBool,
    /// This process was started with another version than the stored rows have, and has not begun its rebuild yet.
    owes_rebuild: AtomicBool,
}

#[derive(Debug, Default)]
pub(crate) struct News {
    pub state: Option<ProjectionState>,
    /// The name under which this process owns the projection.
    pub owner: Option<Uuid>,
    /// Names under which it owned it, to be given up before the next.
    pub former: Vec<Uuid>,
    pub restarts: u64,
    pub last_error: Option<ProjectionFailure>,
    pub lag_events: u64,
    pub lag_seconds: f64,
}

impl Board {
    pub fn lock(&self) -> MutexGuard<'_, News> {
        self.news.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The actor's own news.
    pub fn put(&self, state: ProjectionState) {
        self.lock().state = Some(state);
    }

    /// A state that somebody else read; whether the actor has to look at it.
    pub fn saw(&self, state: ProjectionState) -> bool {
        let mut news = self.lock();
        let is_news = news.state.as_ref().is_none_or(|known| orders(known) != orders(&state));
        // One that was read before the actor's last commit must not hide it.
        if news.state.as_ref().is_none_or(|known| known.revision <= state.revision) {
            news.state = Some(state);
        }
        drop(news);
        self.is_stale.fetch_or(is_news, Ordering::AcqRel);
        is_news
    }

    /// The projection was declared, once in this process's life: a version without order that differs now is news.
    pub fn declare(&self, context: &ProjectionContext, state: &ProjectionState) {
        self.put(state.clone());
        let shadow = state.shadow.map(|shadow| shadow.version);
        let differs = shadow.unwrap_or(state.version) != context.version;
        let owes = context.upgrades && !context.projection.is_version_ordered() && differs && !state.is_frozen;
        self.owes_rebuild.store(owes, Ordering::Release);
        self.is_declared.store(true, Ordering::Release);
    }

    /// Whether [`Self::declare`] was called.
    pub fn is_declared(&self) -> bool {
        self.is_declared.load(Ordering::Acquire)
    }

    /// Whether this process still has to begin the rebuild for its version.
    pub fn owes_rebuild(&self) -> bool {
        self.owes_rebuild.load(Ordering::Acquire)
    }

    /// It began.
    pub fn pay_rebuild(&self) {
        self.owes_rebuild.store(false, Ordering::Release);
    }

    /// The actor has to look again.
    pub fn mark_stale(&self) {
        self.is_stale.store(true, Ordering::Release);
    }

    /// Whether the actor has to look again; asked once.
    pub fn take_stale(&self) -> bool {
        self.is_stale.swap(false, Ordering::AcqRel)
    }

    /// The projection's state as known here.
    pub fn state(&self) -> Option<ProjectionState> {
        self.lock().state.clone()
    }
}

/// What operators and other owners change.
fn orders(state: &ProjectionState) -> impl PartialEq + use<> {
    (
        state.epoch,
        state.generation,
        state.is_paused,
        state.is_frozen,
        state.fault.is_some(),
        state.has_requests,
        state.shadow.map(|shadow| shadow.operation),
        state.lease.map(|lease| lease.owner),
    )
}
