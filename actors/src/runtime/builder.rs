//! How a runtime is made, and the tasks it starts.

mod branches;
mod keys;
mod projections;
mod queries;
mod sagas;

pub(crate) use keys::Keys;

use std::{
    fmt,
    num::NonZeroU32,
    sync::{Arc, OnceLock},
    time::Duration,
};

use ractor::{Actor, ActorCell};
use tokio::{
    sync::{Semaphore, mpsc},
    time::Instant,
};
use tokio_util::{
    sync::CancellationToken,
    task::{AbortOnDropHandle, TaskTracker},
};

use super::{Runtime, Tasks};
use crate::{
    aggregate::Aggregate,
    branches::{BranchPart, Branches},
    catalog::{Catalog, CatalogError},
    command_bus::{AllowAll, Authorizer, CommandBus, Middleware},
    envelope::Snapshot,
    erasure::{self, Erasures},
    feed::Feed,
    history::History,
    id::AggregateType,
    journal::{Journal, Member},
    limits::Limits,
    observe::{Metrics, Pulse},
    ports::{
        BranchStore, Clock, EventStore, NoTraces, Scrubber, SnapshotStore, StoreError, SystemClock, Tombstones, Traces,
        Wakeups,
    },
    projections::life::{ProjectionsSetup, ProjectionsStartError},
    pubsub::{HeadWatcher, Publisher},
    query_bus::{Past, QueryParts, Sources},
    recovery::Recovery,
    registry::{Registry, SnapshotFrequency, WriteSide},
    saga::ORDERS,
    sagas::life::SagasSetup,
    supervisor::Supervisor,
    vault::Vault,
};

/// How a runtime is made.
pub struct RuntimeBuilder {
    store: Arc<dyn EventStore>,
    snapshots: Arc<dyn SnapshotStore>,
    catalog: Catalog,
    limits: Limits,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    traces: Arc<dyn Traces>,
    authorizer: Arc<dyn Authorizer>,
    middleware: Vec<Arc<dyn Middleware>>,
    snapshot_frequency: SnapshotFrequency,
    wakeups: Option<Arc<dyn Wakeups>>,
    projections: ProjectionsSetup,
    queries: QueryParts,
    sagas: SagasSetup,
    keys: Keys,
    scrubbers: Vec<Arc<dyn Scrubber>>,
    tombstones: Option<Arc<dyn Tombstones>>,
    looks_after_erasures: bool,
    is_sealed: bool,
    /// Where branches are kept.
    branches: Option<Arc<dyn BranchStore>>,
    /// The timeline is a branch.
    branch: Option<BranchPart>,
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
            traces: Arc::new(NoTraces),
            authorizer: Arc::new(AllowAll),
            middleware: Vec::new(),
            snapshot_frequency: Arc::new(|_| 100),
            wakeups: None,
            projections: ProjectionsSetup::default(),
            queries: QueryParts::default(),
            sagas: SagasSetup::default(),
            keys: None,
            scrubbers: Vec::new(),
            tombstones: None,
            looks_after_erasures: true,
            is_sealed: false,
            branches: None,
            branch: None,
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

    /// The same with a type for the payload before and one for it after.
    #[must_use]
    pub fn upcaster_typed<Old: serde::de::DeserializeOwned, New: serde::Serialize>(
        mut self,
        event_type: &str,
        from_version: u32,
        to_version: u32,
        function: impl Fn(Old) -> Result<New, String> + Send + Sync + 'static,
    ) -> Self {
        self.catalog.upcasters_mut().register_typed(event_type, from_version, to_version, function);
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

    /// Sets who ties spans to traces of other processes; nobody unless set.
    #[must_use]
    pub fn traces(self, traces: Arc<dyn Traces>) -> Self {
        Self { traces, ..self }
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

    /// Sets who tells of other processes on the same store; without, the store is asked every [`Limits::feed_poll`].
    #[must_use]
    pub fn wakeups(self, wakeups: Arc<dyn Wakeups>) -> Self {
        Self { wakeups: Some(wakeups), ..self }
    }

    /// Puts together what was registered.
    fn prepare(&mut self) -> Result<(), CatalogError> {
        self.catalog.register_sagas(self.sagas.definitions.clone())?;
        self.sagas.prepare(&mut self.projections, &self.metrics.sagas);
        self.catalog.check()?;
        prepare_series(&self.metrics, &self.catalog, !self.sagas.definitions.is_empty());
        Ok(())
    }

    /// What loads streams.
    fn recovery(
        &self,
        catalog: Arc<Catalog>,
        store: &Arc<dyn EventStore>,
        snapshot_queue: &mpsc::Sender<Snapshot>,
    ) -> Recovery {
        Recovery {
            store: store.clone(),
            snapshots: self.snapshots.clone(),
            snapshot_queue: snapshot_queue.downgrade(),
            snapshot_frequency: self.snapshot_frequency.clone(),
            catalog,
            metrics: self.metrics.clone(),
            page: NonZeroU32::new(self.limits.page_events_max).unwrap_or(NonZeroU32::MIN),
        }
    }

    /// What decides and submits.
    fn write_side(
        &self,
        recovery: Recovery,
        vault: Arc<Vault>,
        journal: mpsc::Sender<Box<Member>>,
        pulse: Arc<Pulse>,
    ) -> Arc<WriteSide> {
        Arc::new(WriteSide {
            registry: Registry::new(self.metrics.clone()),
            recovery,
            recoveries: Semaphore::new(self.limits.recoveries_max),
            vault,
            journal,
            clock: self.clock.clone(),
            limits: self.limits.clone(),
            metrics: self.metrics.clone(),
            traces: self.traces.clone(),
            pulse,
            snapshot_frequency: self.snapshot_frequency.clone(),
            supervisor: OnceLock::new(),
            tasks: TaskTracker::new(),
            is_branch: self.branch.is_some(),
        })
    }

    /// Starts the runtime's tasks. Needs a tokio runtime.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start(mut self) -> Result<Runtime, StartError> {
        let publisher = Publisher::new(self.metrics.clone());
        let recipe = self.recipe(&publisher);
        self.prepare()?;
        // The bare store: a look now and then is neither traffic to measure nor a sign that commands get through.
        let watcher = HeadWatcher::new(self.store.clone(), publisher.clone(), self.wakeups.take(), self.limits.clone());
        let pulse = Arc::new(Pulse::default());
        let catalog = Arc::new(std::mem::take(&mut self.catalog));
        let keys::Stores { sealed, store, vault, graveyard } = self.stores(&catalog, &pulse).await?;
        let (journal, queue) = mpsc::channel(self.limits.journal_queue_max);
        let (snapshot_queue, to_save) = mpsc::channel(self.limits.snapshot_queue_max);
        let recovery = self.recovery(catalog, &store, &snapshot_queue);
        let write_side = self.write_side(recovery, vault.clone(), journal, pulse);
        let supervisor = supervisor(&write_side).await?;
        let _ = write_side.supervisor.set(supervisor.clone());
        let journal = Journal {
            store: store.clone(),
            queue,
            publisher: publisher.clone(),
            snapshots: snapshot_queue,
            limits: self.limits.clone(),
            metrics: self.metrics.clone(),
            closing: CancellationToken::new(),
        };
        let (followed, past) = self.timeline(&store);
        let on_branch = self.branch.as_ref().map(|_| &self.limits.branches);
        let past = Past::new(&write_side.recovery.catalog, past, vault.clone(), on_branch);
        let projections = self.projections.start(&write_side, followed, publisher.clone()).await?;
        let stop = CancellationToken::new();
        let parts =
            erasure::Parts::new(&write_side, &sealed, &self.snapshots, &projections.handle, &publisher, graveyard);
        let parts = parts.sweeping(&self.queries.cache, &self.queries.limits, self.scrubbers);
        let erasures = Erasures::start(parts, self.looks_after_erasures);
        let sweeper = tokio::spawn(sweep(write_side.clone(), store.clone(), stop.clone()));
        let bus = CommandBus::new(write_side.clone(), self.authorizer, self.middleware);
        let (views, freshness) = (projections.handle.views.clone(), projections.freshness.clone());
        let sagas = self.sagas.start(bus.clone(), views.clone(), store.clone(), freshness.clone());
        let sources = Sources::new(views, store.clone(), publisher.clone(), freshness, &self.metrics, past);
        let (queries, follower) = self.queries.start(sources, Some(publisher.subscribe_views()), stop.clone());
        Ok(Runtime {
            branches: Branches::new(recipe, &write_side),
            queries,
            feed: Feed::new(store, sealed, vault, publisher, &self.limits),
            erasures,
            history: History { write_side: write_side.clone() },
            tasks: std::sync::Mutex::new(Some(Tasks {
                closing: journal.closing.clone(),
                journal: tokio::spawn(journal.run()),
                snapshots: tokio::spawn(save_snapshots(self.snapshots, to_save, self.metrics.clone())),
                sweeper,
                watcher: AbortOnDropHandle::new(tokio::spawn(watcher.run(stop.clone()))),
                follower,
            })),
            bus,
            projections,
            sagas,
            write_side,
            supervisor,
            stop,
        })
    }
}

/// The root of all aggregates' actors.
async fn supervisor(write_side: &Arc<WriteSide>) -> Result<ActorCell, StartError> {
    let spawned = Supervisor::spawn(None, Supervisor, write_side.clone()).await;
    let (supervisor, _) = spawned.map_err(|error| StartError::Supervisor { reason: error.to_string() })?;
    Ok(supervisor.get_cell())
}

/// Makes the series of known labels, so that they are there from the first look.
fn prepare_series(metrics: &Metrics, catalog: &Catalog, has_sagas: bool) {
    let types: Vec<_> = catalog.entries().map(|(kind, commands, _)| (kind.as_str(), commands)).collect();
    let commands = types.iter().flat_map(|(_, commands)| commands.iter().copied());
    // What nobody sends by name: raw appends, and what the runtime tells sagas.
    let own = std::iter::once("AppendEvents").chain(ORDERS.into_iter().filter(|_| has_sagas));
    metrics.prepare(types.iter().map(|(kind, _)| *kind), commands.chain(own));
}

/// Why a runtime does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The aggregates do not fit together.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The projections do not fit together.
    #[error(transparent)]
    Projections(#[from] ProjectionsStartError),
    /// An aggregate declares personal members, and nobody keeps keys for them.
    #[error("aggregates declare personal members: give the builder a place for their keys, and a master key")]
    NoSubjectKeys,
    /// The store's keys are wrapped by a master key that is not here.
    #[error(
        "personal data of this store is read with master key {needed}, and this process has {current}: \
         name the master key file that all processes on this store share"
    )]
    ForeignMasterKey {
        /// The one that is needed.
        needed: String,
        /// The one that is here.
        current: String,
    },
    /// The keys' store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The root actor did not start.
    #[error("the supervisor could not start: {reason}")]
    Supervisor {
        /// Why.
        reason: String,
    },
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
    let crowded = &write_side.registry.crowded;
    let due = || async move {
        let rest = CROWDED_PAUSE.min(pause);
        tokio::time::sleep(rest).await;
        let _ = tokio::time::timeout(pause.saturating_sub(rest), crowded.notified()).await;
    };
    while stop.run_until_cancelled(due()).await.is_some() {
        write_side.registry.passivate(limits);
        if Instant::now() < keys_due {
            continue;
        }
        keys_due = Instant::now() + Duration::from_secs(60);
        let Ok(retention) = chrono::Duration::from_std(limits.key_retention) else { continue };
        let before = write_side.clock.now() - retention;
        loop {
            match store.sweep_keys(before, KEYS_PER_SWEEP).await {
                // A full sweep leaves more: one a minute would be slower than keys can come.
                Ok(swept) if swept >= u64::from(KEYS_PER_SWEEP.get()) && !stop.is_cancelled() => {}
                Ok(_) => break,
                Err(error) => {
                    tracing::warn!(%error, "old idempotency keys could not be removed");
                    break;
                }
            }
        }
    }
}

/// Between two sweeps, even if aggregates come faster than they end: each looks at all of them.
const CROWDED_PAUSE: Duration = Duration::from_millis(100);

/// Bounds one sweep's transaction.
const KEYS_PER_SWEEP: NonZeroU32 = NonZeroU32::MIN.saturating_add(9_999);
