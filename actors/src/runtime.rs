//! The runtime: puts the parts together, owns every task, and ends them in order.

mod builder;

use std::{sync::Arc, time::Duration};

use ractor::{ActorCell, ActorRef};
use tokio::{sync::oneshot, task::JoinHandle, time::Instant};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

pub(crate) use builder::Keys;
pub use builder::{RuntimeBuilder, StartError};

use crate::{
    aggregate::Aggregate,
    aggregate_actor::AggregateMessage,
    branches::Branches,
    catalog::Catalog,
    command_bus::{Action, CommandBus, CommandRequest, CommandResult},
    erasure::Erasures,
    error::CommandError,
    feed::Feed,
    freshness::Freshness,
    history::History,
    id::{AggregateId, IdError},
    limits::Limits,
    observe::Metrics,
    ports::{Traces, ViewStore},
    projections::{Projections, life::ProjectionsLife},
    query_bus::QueryBus,
    registry::{ParkedAggregate, WriteSide},
    sagas::{Sagas, life::SagasLife},
    vault::Vault,
    work::Work,
};

/// A running write side: commands in, durable events out.
#[derive(Debug)]
pub struct Runtime {
    branches: Branches,
    bus: CommandBus,
    queries: QueryBus,
    feed: Feed,
    history: History,
    projections: ProjectionsLife,
    sagas: SagasLife,
    erasures: Erasures,
    write_side: Arc<WriteSide>,
    supervisor: ActorCell,
    stop: CancellationToken,
    tasks: std::sync::Mutex<Option<Tasks>>,
}

#[derive(Debug)]
struct Tasks {
    /// Ends the journal, and with it the snapshot writer.
    closing: CancellationToken,
    journal: JoinHandle<()>,
    snapshots: JoinHandle<()>,
    sweeper: JoinHandle<()>,
    /// Keeps the known head of the log up to date.
    watcher: AbortOnDropHandle<()>,
    /// Follows what changes in the view store.
    follower: JoinHandle<()>,
}

/// What the runtime knows of its own health.
#[derive(Debug, Clone)]
pub struct RuntimeHealth {
    /// Whether commands are taken.
    pub is_accepting: bool,
    /// Whether the journal and the supervisor run; if not, the process should end and be started again.
    pub is_alive: bool,
    /// Live aggregates.
    pub live_aggregates: usize,
    /// Commands in flight.
    pub commands_in_flight: usize,
    /// Aggregates parked after repeated failures.
    pub parked: Vec<ParkedAggregate>,
}

impl Runtime {
    /// Where commands enter.
    #[must_use]
    pub fn bus(&self) -> &CommandBus {
        &self.bus
    }

    /// Where queries enter.
    #[must_use]
    pub fn queries(&self) -> &QueryBus {
        &self.queries
    }

    /// The log, in pages and live.
    #[must_use]
    pub fn feed(&self) -> &Feed {
        &self.feed
    }

    /// States at sequences, and replays.
    #[must_use]
    pub fn history(&self) -> &History {
        &self.history
    }

    /// The projections, for operators.
    #[must_use]
    pub fn projections(&self) -> &Projections {
        &self.projections.handle
    }

    /// The long-running transactions.
    #[must_use]
    pub fn sagas(&self) -> &Sagas {
        &self.sagas.handle
    }

    /// What opens and seals personal data.
    #[must_use]
    pub fn vault(&self) -> &Vault {
        &self.write_side.vault
    }

    /// Erasures of personal data.
    #[must_use]
    pub fn erasures(&self) -> &Erasures {
        &self.erasures
    }

    /// The alternative timelines. A branch has none.
    #[must_use]
    pub fn branches(&self) -> &Branches {
        &self.branches
    }

    /// Where read models lie.
    #[must_use]
    pub fn views(&self) -> &Arc<dyn ViewStore> {
        &self.projections.handle.views
    }

    /// How far each projection is known to have come.
    #[must_use]
    pub fn freshness(&self) -> &Freshness {
        &self.projections.freshness
    }

    /// Ends the actors of all projections in the middle of what they do; their successors come.
    #[cfg(any(test, feature = "testing"))]
    pub fn kill_projections(&self) {
        self.projections.kill();
    }

    /// Every aggregate by name.
    #[must_use]
    pub fn catalog(&self) -> &Catalog {
        &self.write_side.recovery.catalog
    }

    /// Who ties spans to traces of other processes.
    #[must_use]
    pub fn traces(&self) -> &Arc<dyn Traces> {
        &self.write_side.traces
    }

    /// The measurements.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.write_side.metrics
    }

    /// The bounds.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.write_side.limits
    }

    /// Sends a typed command in the system's name.
    ///
    /// # Errors
    /// [`CommandError`].
    pub async fn execute<A: Aggregate>(
        &self,
        id: impl TryInto<AggregateId, Error: Into<IdError>>,
        command: impl Into<A::Command>,
    ) -> CommandResult {
        self.bus.send(self.request::<A>(id, command)?).await
    }

    /// A request for a typed command, to be changed and sent by [`CommandBus::send`].
    ///
    /// # Errors
    /// [`CommandError::Invalid`] for a bad id, [`CommandError::Internal`] when `A` is not registered.
    pub fn request<A: Aggregate>(
        &self,
        id: impl TryInto<AggregateId, Error: Into<IdError>>,
        command: impl Into<A::Command>,
    ) -> Result<CommandRequest, CommandError> {
        let id = id.try_into().map_err(|error| CommandError::Invalid {
            errors: vec![crate::FieldError { pointer: "/aggregate_id".to_owned(), detail: error.into().to_string() }],
        })?;
        let command = self.catalog().typed_command::<A>(command.into()).ok_or_else(|| CommandError::Internal {
            reason: format!("aggregate {} is not registered with this runtime", A::TYPE),
        })?;
        Ok(CommandRequest::new(id, Action::Command(command), self.write_side.limits.command_deadline))
    }

    /// The actor of an aggregate, for messaging of one's own; started if it is not live.
    ///
    /// It ends when it has been idle; a message that it no longer takes comes back in the error, to be sent to the
    /// actor this method then gives.
    ///
    /// # Errors
    /// [`CommandError::Parked`] or [`CommandError::Draining`].
    pub fn actor(&self, id: &AggregateId) -> Result<ActorRef<AggregateMessage>, CommandError> {
        self.write_side.actor(id)
    }

    /// A message that makes an actor decide a command, and the answer to come. It counts as a command in flight.
    ///
    /// # Errors
    /// [`CommandError::Overloaded`] or [`CommandError::Draining`].
    pub fn prepare(
        &self,
        mut request: CommandRequest,
    ) -> Result<(AggregateMessage, oneshot::Receiver<CommandResult>), CommandError> {
        let permit = self.bus.permits.clone().try_acquire_owned().map_err(|error| match error {
            tokio::sync::TryAcquireError::Closed => CommandError::Draining,
            tokio::sync::TryAcquireError::NoPermits => {
                CommandError::Overloaded { scope: "process", retry_after: Duration::from_secs(1) }
            }
        })?;
        request.deadline = request.deadline.min(Instant::now() + self.write_side.limits.command_deadline);
        request.permit = Some(Arc::new(permit));
        let (work, answer) = Work::new(request, None);
        Ok((AggregateMessage::Do(work), answer))
    }

    /// How it is.
    #[must_use]
    pub fn health(&self) -> RuntimeHealth {
        let permits = &self.bus.permits;
        let tasks = self.tasks.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let journal_runs = tasks.as_ref().is_some_and(|tasks| !tasks.journal.is_finished());
        RuntimeHealth {
            is_accepting: !permits.is_closed(),
            is_alive: journal_runs
                && self.projections.is_alive()
                && self.sagas.is_alive()
                && self.supervisor.get_status() < ractor::ActorStatus::Draining,
            live_aggregates: self.write_side.registry.len(),
            commands_in_flight: self
                .write_side
                .limits
                .commands_in_flight_max
                .saturating_sub(permits.available_permits()),
            parked: self.write_side.registry.parked(&self.write_side.limits),
        }
    }

    /// Ends the runtime: refuses new commands, waits for those in flight up to the drain bound, ends the actors, then
    /// the journal and the snapshot writer. Returns whether everything in flight was answered in time.
    pub async fn shutdown(&self) -> bool {
        let limits = &self.write_side.limits;
        // First, so that no step is begun that nobody would finish.
        self.branches.shutdown().await;
        self.sagas.shutdown().await;
        self.erasures.shutdown().await;
        self.bus.permits.close();
        let give_up = Instant::now() + limits.drain;
        let is_idle = || self.bus.permits.available_permits() >= limits.commands_in_flight_max;
        while !is_idle() && Instant::now() < give_up {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let was_drained = is_idle();
        // Nothing is appended any more; what is not applied yet is applied by the next owner.
        self.projections.shutdown(Duration::from_secs(5)).await;
        self.queries.close();
        self.stop.cancel();
        for actor in self.write_side.registry.actors() {
            let _ = actor.send_message(AggregateMessage::Idle);
        }
        // Idle actors end themselves; what is left after the bound is stopped with its supervisor.
        let _ = tokio::time::timeout(Duration::from_secs(2), async {
            while self.write_side.registry.len() > 0 {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        })
        .await;
        self.supervisor.stop(None);
        let _ = self.supervisor.wait(Some(Duration::from_secs(1))).await;
        self.write_side.tasks.close();
        let tasks = self.tasks.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        if let Some(tasks) = tasks {
            tasks.closing.cancel();
            let give_up = give_up.max(Instant::now() + Duration::from_millis(500));
            if tokio::time::timeout_at(give_up, tasks.journal).await.is_err() {
                // Let go of, not cut: its transaction ends as the store decides.
                tracing::error!("the journal did not end in time; what it holds has an unknown outcome");
            }
            for mut task in [tasks.snapshots, tasks.sweeper, tasks.follower] {
                if tokio::time::timeout_at(give_up, &mut task).await.is_err() {
                    task.abort();
                }
            }
            let _ = tokio::time::timeout_at(give_up, tasks.watcher).await;
        }
        self.feed.publisher.end();
        was_drained
    }
}
