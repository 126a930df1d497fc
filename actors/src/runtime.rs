//! The runtime: puts the parts together, owns every task, and ends them in order.

use std::{fmt, num::NonZeroU32, sync::Arc, sync::OnceLock, time::Duration};

use ractor::{Actor, ActorCell, ActorRef};
use tokio::{
    sync::{Semaphore, mpsc, oneshot},
    task::JoinHandle,
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    aggregate::Aggregate,
    aggregate_actor::AggregateMessage,
    catalog::{Catalog, CatalogError},
    command_bus::{Action, AllowAll, Authorizer, CommandBus, CommandRequest, CommandResult, Middleware},
    envelope::Snapshot,
    error::CommandError,
    feed::Feed,
    history::History,
    id::{AggregateId, AggregateType, IdError},
    journal::Journal,
    limits::Limits,
    observe::{Metrics, ObservedStore},
    ports::{Clock, EventStore, SnapshotStore, SystemClock},
    pubsub::Publisher,
    recovery::Recovery,
    registry::{ParkedAggregate, Registry, SnapshotFrequency, WriteSide},
    supervisor::Supervisor,
    work::Work,
};

/// How a runtime is made.
pub struct RuntimeBuilder {
    store: Arc<dyn EventStore>,
    snapshots: Arc<dyn SnapshotStore>,
    catalog: Catalog,
    limits: Limits,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    authorizer: Arc<dyn Authorizer>,
    middleware: Vec<Arc<dyn Middleware>>,
    snapshot_frequency: SnapshotFrequency,
}

impl fmt::Debug for RuntimeBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RuntimeBuilder").field("catalog", &self.catalog).finish_non_exhaustive()
    }
}

impl RuntimeBuilder {
    /// Over a store of events and a store of snapshots, which may be one object.
    #[must_use]
    pub fn new(store: Arc<dyn EventStore>, snapshots: Arc<dyn SnapshotStore>) -> Self {
        Self {
            store,
            snapshots,
            catalog: Catalog::default(),
            limits: Limits::default(),
            clock: Arc::new(SystemClock),
            metrics: Metrics::default(),
            authorizer: Arc::new(AllowAll),
            middleware: Vec::new(),
            snapshot_frequency: Arc::new(|_| 100),
        }
    }

    /// Adds an aggregate.
    ///
    /// # Errors
    /// [`CatalogError`] when a name is taken.
    pub fn aggregate<A: Aggregate>(mut self) -> Result<Self, CatalogError> {
        self.catalog.register::<A>()?;
        Ok(self)
    }

    /// Takes a catalog made elsewhere.
    #[must_use]
    pub fn catalog(self, catalog: Catalog) -> Self {
        Self { catalog, ..self }
    }

    /// Registers the function that lifts an event from an old schema version to a newer one.
    #[must_use]
    pub fn upcaster(
        mut self,
        event_type: &str,
        from_version: u32,
        to_version: u32,
        function: impl Fn(serde_json::Value) -> Result<serde_json::Value, String> + Send + Sync + 'static,
    ) -> Self {
        self.catalog.upcasters_mut().register(event_type, from_version, to_version, function);
        self
    }

    /// Sets the bounds.
    #[must_use]
    pub fn limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// Sets the clock.
    #[must_use]
    pub fn clock(self, clock: Arc<dyn Clock>) -> Self {
        Self { clock, ..self }
    }

    /// Sets where measurements go.
    #[must_use]
    pub fn metrics(self, metrics: Metrics) -> Self {
        Self { metrics, ..self }
    }

    /// Sets who may do what.
    #[must_use]
    pub fn authorizer(self, authorizer: Arc<dyn Authorizer>) -> Self {
        Self { authorizer, ..self }
    }

    /// Adds a link to the chain, after validation and before admission; several run in the order they were added.
    #[must_use]
    pub fn middleware(mut self, link: Arc<dyn Middleware>) -> Self {
        self.middleware.push(link);
        self
    }

    /// Sets the events between two snapshots, by aggregate type; 0 = no snapshots.
    #[must_use]
    pub fn snapshot_frequency(self, frequency: impl Fn(&AggregateType) -> u64 + Send + Sync + 'static) -> Self {
        Self { snapshot_frequency: Arc::new(frequency), ..self }
    }

    /// Starts the runtime's tasks. Needs a tokio runtime.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start(self) -> Result<Runtime, StartError> {
        self.catalog.check()?;
        let types: Vec<_> = self.catalog.entries().map(|(kind, commands, _)| (kind.as_str(), commands)).collect();
        self.metrics.prepare(
            types.iter().map(|(kind, _)| *kind),
            types.iter().flat_map(|(_, commands)| commands.iter().copied()),
        );
        let store: Arc<dyn EventStore> = Arc::new(ObservedStore { inner: self.store, metrics: self.metrics.clone() });
        let (journal, queue) = mpsc::channel(self.limits.journal_queue_max);
        let (snapshot_queue, to_save) = mpsc::channel(self.limits.snapshot_queue_max);
        let page = NonZeroU32::new(self.limits.page_events_max).unwrap_or(NonZeroU32::MIN);
        let publisher = Publisher::new(self.metrics.clone());
        let write_side = Arc::new(WriteSide {
            registry: Registry::new(self.metrics.clone()),
            recovery: Recovery {
                store: store.clone(),
                snapshots: self.snapshots.clone(),
                catalog: Arc::new(self.catalog),
                metrics: self.metrics.clone(),
                page,
            },
            recoveries: Semaphore::new(self.limits.recoveries_max),
            journal,
            clock: self.clock,
            limits: self.limits.clone(),
            metrics: self.metrics.clone(),
            snapshot_frequency: self.snapshot_frequency,
            supervisor: OnceLock::new(),
            tasks: TaskTracker::new(),
        });
        let (supervisor, _) = Supervisor::spawn(None, Supervisor, write_side.clone())
            .await
            .map_err(|error| StartError::Supervisor { reason: error.to_string() })?;
        let _ = write_side.supervisor.set(supervisor.get_cell());
        let journal = Journal {
            store: store.clone(),
            queue,
            publisher: publisher.clone(),
            snapshots: snapshot_queue,
            limits: self.limits.clone(),
            metrics: self.metrics.clone(),
            closing: CancellationToken::new(),
        };
        let stop = CancellationToken::new();
        let sweeper = tokio::spawn(sweep(write_side.clone(), store.clone(), stop.clone()));
        let bus = CommandBus::new(write_side.clone(), self.authorizer, self.middleware);
        Ok(Runtime {
            feed: Feed { store, publisher, page, poll: self.limits.feed_poll },
            history: History { write_side: write_side.clone() },
            tasks: std::sync::Mutex::new(Some(Tasks {
                closing: journal.closing.clone(),
                journal: tokio::spawn(journal.run()),
                snapshots: tokio::spawn(save_snapshots(self.snapshots, to_save, self.metrics.clone())),
                sweeper,
            })),
            bus,
            write_side,
            supervisor: supervisor.get_cell(),
            stop,
        })
    }
}

/// Why a runtime does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The aggregates do not fit together.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The root actor did not start.
    #[error("the supervisor could not start: {reason}")]
    Supervisor {
        /// Why.
        reason: String,
    },
}

/// A running write side: commands in, durable events out.
#[derive(Debug)]
pub struct Runtime {
    bus: CommandBus,
    feed: Feed,
    history: History,
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

    /// Every aggregate by name.
    #[must_use]
    pub fn catalog(&self) -> &Catalog {
        &self.write_side.recovery.catalog
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
            is_alive: journal_runs && self.supervisor.get_status() < ractor::ActorStatus::Draining,
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
        self.bus.permits.close();
        let give_up = Instant::now() + limits.drain;
        let is_idle = || self.bus.permits.available_permits() >= limits.commands_in_flight_max;
        while !is_idle() && Instant::now() < give_up {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let was_drained = is_idle();
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
            for mut task in [tasks.journal, tasks.snapshots, tasks.sweeper] {
                if tokio::time::timeout(Duration::from_millis(500), &mut task).await.is_err() {
                    task.abort();
                }
            }
        }
        was_drained
    }
}

/// Writes snapshots, one after the other, until the journal is gone.
async fn save_snapshots(store: Arc<dyn SnapshotStore>, mut queue: mpsc::Receiver<Snapshot>, metrics: Metrics) {
    while let Some(snapshot) = queue.recv().await {
        let (id, sequence) = (snapshot.aggregate_id.clone(), snapshot.head.sequence);
        match store.save(snapshot).await {
            Ok(()) => metrics.snapshots_written.inc(),
            Err(error) => tracing::warn!(%error, aggregate.id = %id, %sequence, "a snapshot could not be written"),
        }
    }
}

/// Passivates idle aggregates, and forgets old idempotency keys now and then.
async fn sweep(write_side: Arc<WriteSide>, store: Arc<dyn EventStore>, stop: CancellationToken) {
    let limits = &write_side.limits;
    let pause = (limits.aggregate_idle / 4).clamp(Duration::from_millis(1), Duration::from_secs(5));
    let mut keys_due = Instant::now() + Duration::from_secs(60);
    while stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_some() {
        write_side.registry.passivate(limits);
        if Instant::now() < keys_due {
            continue;
        }
        keys_due = Instant::now() + Duration::from_secs(60);
        let Ok(retention) = chrono::Duration::from_std(limits.key_retention) else { continue };
        if let Err(error) = store.sweep_keys(write_side.clock.now() - retention, KEYS_PER_SWEEP).await {
            tracing::warn!(%error, "old idempotency keys could not be removed");
        }
    }
}

/// Bounds one sweep's transaction.
const KEYS_PER_SWEEP: NonZeroU32 = NonZeroU32::MIN.saturating_add(9_999);
