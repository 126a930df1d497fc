//! Projections as operators see them: how each stands, and rebuild, rollback, pause, resume, retry and skip.
//!
//! Any process may ask; whatever is asked is written to the view store, where the owner finds it, and this process's
//! actor is woken at once.

pub(crate) mod life;
mod report;
mod watch;

use std::{num::NonZeroU32, sync::Arc};

use uuid::Uuid;

pub use life::ProjectionsStartError;
pub use report::{
    ProjectionFailure, ProjectionHealth, ProjectionReport, ProjectionStatus, ProjectionsError, RebuildProgress,
};

use crate::{
    catalog::nearest,
    ports::{
        Clock, Control, Controlled, EventStore, Operation, ParkedEvent, ParkedFilter, ParkedRequest, ProjectionState,
        ViewStore,
    },
    projection_actor::{ProjectionContext, Standing},
    version::Position,
};

/// A projection that is behind by no more than this, in seconds, is live.
const LIVE_SECONDS: f64 = 2.0;

/// The registered projections of a runtime, for operators. Cloning is cheap.
#[derive(Debug, Clone)]
pub struct Projections {
    /// By name.
    contexts: Arc<[Arc<ProjectionContext>]>,
    pub(crate) views: Arc<dyn ViewStore>,
    events: Arc<dyn EventStore>,
    clock: Arc<dyn Clock>,
}

impl Projections {
    /// The names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.contexts.iter().map(|context| context.name.as_str())
    }

    pub(crate) fn contexts(&self) -> &[Arc<ProjectionContext>] {
        &self.contexts
    }

    /// How each stands, by name.
    ///
    /// # Errors
    /// [`ProjectionsError::Store`].
    pub async fn list(&self) -> Result<Vec<ProjectionReport>, ProjectionsError> {
        let states = self.views.states().await?;
        let head = self.events.head().await?;
        let mut reports = Vec::with_capacity(self.contexts.len());
        for context in &*self.contexts {
            let state = states.iter().find(|state| state.name == context.name);
            reports.push(self.report(context, state, head).await?);
        }
        Ok(reports)
    }

    /// How one stands.
    ///
    /// # Errors
    /// [`ProjectionsError::UnknownProjection`], [`ProjectionsError::Store`].
    pub async fn show(&self, name: &str) -> Result<ProjectionReport, ProjectionsError> {
        let context = self.context(name)?;
        let states = self.views.states().await?;
        let head = self.events.head().await?;
        self.report(context, states.iter().find(|state| state.name == name), head).await
    }

    /// Begins to build new rows beside the served ones; they are swapped in when they have caught up. With the same
    /// version they have to be equal to the served ones, unless `accepts_difference`.
    ///
    /// # Errors
    /// [`ProjectionsError::UnknownProjection`]; [`ProjectionsError::Refused`] while another rebuild is under way or
    /// when this process's version is not the current one; [`ProjectionsError::Store`].
    pub async fn rebuild(&self, name: &str, accepts_difference: bool) -> Result<Operation, ProjectionsError> {
        let context = self.context(name)?;
        let states = self.views.states().await?;
        if let Some(state) = states.iter().find(|state| state.name == name) {
            // A process that only reads could begin what nobody would go on with.
            let is_foreign = match context.standing(state) {
                Standing::Welcome => false,
                Standing::Newer => !context.board.is_declared(),
                Standing::Outdated => true,
            };
            if is_foreign {
                let reason = "another version of the projection is current; ask a process that has it".to_owned();
                let operation = state.shadow.map(|shadow| shadow.operation);
                return Err(ProjectionsError::Refused { reason, operation });
            }
        }
        let operation = Uuid::now_v7();
        let control = Control::Rebuild { operation, version: context.version, accepts_difference };
        self.control(context, control).await?;
        self.operation(operation).await
    }

    /// Serves the rows of before the last swap again; they stand still until a rebuild replaces them.
    ///
    /// # Errors
    /// [`ProjectionsError::UnknownProjection`]; [`ProjectionsError::Refused`] when there are none;
    /// [`ProjectionsError::Store`].
    pub async fn rollback(&self, name: &str) -> Result<ProjectionReport, ProjectionsError> {
        self.controlled(name, Control::Rollback).await
    }

    /// Makes it stand still.
    ///
    /// # Errors
    /// [`ProjectionsError::UnknownProjection`], [`ProjectionsError::Store`].
    pub async fn pause(&self, name: &str) -> Result<ProjectionReport, ProjectionsError> {
        self.controlled(name, Control::Pause).await
    }

    /// Makes it go on, after a pause or after it stopped by itself.
    ///
    /// # Errors
    /// [`ProjectionsError::UnknownProjection`], [`ProjectionsError::Store`].
    pub async fn resume(&self, name: &str) -> Result<ProjectionReport, ProjectionsError> {
        self.controlled(name, Control::Resume).await
    }

    /// Parked events of the served rows in order of position, after one; skipped ones too.
    ///
    /// # Errors
    /// [`ProjectionsError::UnknownProjection`], [`ProjectionsError::Store`].
    pub async fn parked(
        &self,
        name: &str,
        after: Position,
        limit: NonZeroU32,
    ) -> Result<Vec<ParkedEvent>, ProjectionsError> {
        let Some(state) = self.state(self.context(name)?).await? else { return Ok(Vec::new()) };
        Ok(self.views.parked(state.generation, ParkedFilter::All, after, limit).await?)
    }

    /// Wants a parked event retried or skipped; the operation tells what came of it.
    ///
    /// # Errors
    /// [`ProjectionsError::UnknownProjection`], [`ProjectionsError::UnknownParked`]; [`ProjectionsError::Refused`]
    /// when it was skipped already or waits for another request; [`ProjectionsError::Store`].
    pub async fn settle(
        &self,
        name: &str,
        position: Position,
        request: ParkedRequest,
        principal: &str,
    ) -> Result<Operation, ProjectionsError> {
        let context = self.context(name)?;
        let before = Position(position.0.saturating_sub(1));
        let found = self.parked(name, before, NonZeroU32::MIN).await?;
        if found.first().is_none_or(|parked| parked.event.position != position) {
            return Err(ProjectionsError::UnknownParked { position });
        }
        if self.state(context).await?.is_some_and(|state| state.is_frozen) {
            let reason = "rolled back rows stand still: rebuild the projection".to_owned();
            return Err(ProjectionsError::Refused { reason, operation: None });
        }
        let operation = Uuid::now_v7();
        let control = Control::Settle { position, request, operation, principal: principal.to_owned() };
        self.control(context, control).await?;
        self.operation(operation).await
    }

    /// An operation.
    ///
    /// # Errors
    /// [`ProjectionsError::UnknownOperation`], [`ProjectionsError::Store`].
    pub async fn operation(&self, id: Uuid) -> Result<Operation, ProjectionsError> {
        self.views.operation(id).await?.ok_or(ProjectionsError::UnknownOperation)
    }

    /// Operations, newest first, before one.
    ///
    /// # Errors
    /// [`ProjectionsError::Store`].
    pub async fn operations(
        &self,
        before: Option<Uuid>,
        limit: NonZeroU32,
    ) -> Result<Vec<Operation>, ProjectionsError> {
        Ok(self.views.operations(before, limit).await?)
    }

    /// Gives up a rebuild.
    ///
    /// # Errors
    /// [`ProjectionsError::UnknownOperation`]; [`ProjectionsError::Refused`] when it is no rebuild, or over;
    /// [`ProjectionsError::Store`].
    pub async fn cancel(&self, id: Uuid) -> Result<Operation, ProjectionsError> {
        let operation = self.operation(id).await?;
        let is_over = operation.status != crate::ports::OperationStatus::Running;
        let context = match self.context(&operation.subject) {
            // A subject may be named like a projection.
            Ok(context) if !is_over && operation.kind != crate::erasure::KIND => context,
            _ => {
                let reason = match is_over {
                    true => "the operation is over".to_owned(),
                    false => format!("an operation of kind {} cannot be cancelled", operation.kind),
                };
                return Err(ProjectionsError::Refused { reason, operation: Some(id) });
            }
        };
        self.control(context, Control::Cancel { operation: id }).await?;
        self.operation(id).await
    }

    /// How each is as this process knows it; asks nobody.
    #[must_use]
    pub fn health(&self) -> Vec<ProjectionHealth> {
        self.contexts.iter().map(|context| self.health_of(context)).collect()
    }

    fn health_of(&self, context: &ProjectionContext) -> ProjectionHealth {
        let news = context.board.lock();
        let (lag_events, lag_seconds) = (news.lag_events, news.lag_seconds);
        let status = news.state.as_ref().map(|state| self.status(context, state, lag_events, lag_seconds));
        ProjectionHealth {
            name: context.name.clone(),
            status: status.unwrap_or(ProjectionStatus::Unowned),
            restarts: news.restarts,
            lag_seconds,
            last_error: news.state.as_ref().and_then(stopped).or_else(|| news.last_error.clone()),
        }
    }

    fn context(&self, name: &str) -> Result<&Arc<ProjectionContext>, ProjectionsError> {
        self.contexts.iter().find(|context| context.name == name).ok_or_else(|| ProjectionsError::UnknownProjection {
            projection: name.to_owned(),
            nearest: nearest(name, self.names()),
        })
    }

    async fn state(&self, context: &ProjectionContext) -> Result<Option<ProjectionState>, ProjectionsError> {
        Ok(self.views.states().await?.into_iter().find(|state| state.name == context.name))
    }

    async fn controlled(&self, name: &str, control: Control) -> Result<ProjectionReport, ProjectionsError> {
        let context = self.context(name)?;
        let state = self.control(context, control).await?;
        let head = self.events.head().await?;
        self.report(context, Some(&state), head).await
    }

    async fn control(
        &self,
        context: &ProjectionContext,
        control: Control,
    ) -> Result<ProjectionState, ProjectionsError> {
        match self.views.control(&context.name, control).await? {
            Controlled::Done(state) => {
                context.freshness.note(&state);
                context.board.saw((*state).clone());
                context.board.mark_stale();
                context.nudge.notify_one();
                Ok(*state)
            }
            Controlled::UnknownProjection => Err(ProjectionsError::Refused {
                reason: "no process has begun with this projection yet".to_owned(),
                operation: None,
            }),
            Controlled::Refused { operation, reason } => Err(ProjectionsError::Refused { reason, operation }),
        }
    }

    async fn report(
        &self,
        context: &ProjectionContext,
        state: Option<&ProjectionState>,
        head: Position,
    ) -> Result<ProjectionReport, ProjectionsError> {
        let Some(state) = state else { return Ok(undeclared(context, head)) };
        let lag_seconds = watch::lag_seconds(context, state.checkpoint.position, head).await?;
        let lag_events = head.0.saturating_sub(state.checkpoint.position.0);
        let (local, owner) = {
            let news = context.board.lock();
            (news.last_error.clone(), news.owner)
        };
        let holder = state.lease.map(|lease| lease.owner);
        let last_error = match stopped(state) {
            Some(fault) => Some(fault),
            None => self.first_parked(state).await?.or(local),
        };
        Ok(ProjectionReport {
            name: context.name.clone(),
            status: self.status(context, state, lag_events, lag_seconds),
            version: state.version,
            checkpoint: state.checkpoint.position,
            head,
            lag_events,
            lag_seconds,
            last_error,
            parked: state.parked,
            rebuild: state.shadow.map(|shadow| RebuildProgress {
                operation: shadow.operation,
                done: shadow.checkpoint.position.0,
                total: head.0.max(shadow.checkpoint.position.0),
            }),
            is_paused: state.is_paused,
            owner: holder,
            is_owned_here: holder.is_some() && holder == owner,
            can_roll_back: state.previous.is_some(),
        })
    }

    async fn first_parked(&self, state: &ProjectionState) -> Result<Option<ProjectionFailure>, ProjectionsError> {
        if state.parked == 0 {
            return Ok(None);
        }
        let waiting =
            self.views.parked(state.generation, ParkedFilter::Waiting, Position::ZERO, NonZeroU32::MIN).await?;
        Ok(waiting.into_iter().next().map(|parked| ProjectionFailure {
            reason: parked.event.error,
            position: Some(parked.event.position),
            aggregate_id: Some(parked.event.aggregate_id),
            event_type: Some(parked.event.event_type),
            at: parked.parked_at,
        }))
    }

    fn status(
        &self,
        context: &ProjectionContext,
        state: &ProjectionState,
        lag_events: u64,
        lag_seconds: f64,
    ) -> ProjectionStatus {
        // The clocks of store and process may differ a little.
        let grace = chrono::Duration::seconds(2);
        let is_owned = state.lease.is_some_and(|lease| lease.expires_at + grace > self.clock.now());
        let batch = u64::from(context.limits.batch_events_max);
        match state {
            _ if state.fault.is_some() => ProjectionStatus::Stopped,
            _ if state.is_paused => ProjectionStatus::Paused,
            _ if context.standing(state) == Standing::Outdated => ProjectionStatus::Outdated,
            _ if state.shadow.is_some() => ProjectionStatus::Rebuilding,
            _ if state.is_frozen => ProjectionStatus::RolledBack,
            _ if !is_owned => ProjectionStatus::Unowned,
            _ if lag_events > 0 && (lag_events > batch || lag_seconds > LIVE_SECONDS) => ProjectionStatus::CatchingUp,
            _ => ProjectionStatus::Live,
        }
    }
}

fn stopped(state: &ProjectionState) -> Option<ProjectionFailure> {
    state.fault.as_ref().map(|fault| ProjectionFailure {
        reason: fault.reason.clone(),
        position: Some(fault.position),
        aggregate_id: None,
        event_type: None,
        at: fault.at,
    })
}

fn undeclared(context: &ProjectionContext, head: Position) -> ProjectionReport {
    ProjectionReport {
        name: context.name.clone(),
        status: ProjectionStatus::Unowned,
        version: context.version,
        checkpoint: Position::ZERO,
        head,
        lag_events: head.0,
        lag_seconds: 0.0,
        last_error: context.board.lock().last_error.clone(),
        parked: 0,
        rebuild: None,
        is_paused: false,
        owner: None,
        is_owned_here: false,
        can_roll_back: false,
    }
}
