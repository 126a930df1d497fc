//! Which branches are live in this process: begun at first use, ended when nobody has used them for a while.

use std::{
    collections::{HashMap, HashSet},
    num::NonZeroU32,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::{FutureExt, future::BoxFuture, future::join_all};
use tokio::{sync::Mutex as AsyncMutex, task::JoinHandle, time::Instant};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{BranchError, snapshots::BranchSnapshots, view::BranchLog};
use crate::{
    catalog::Catalog,
    command_bus::{Authorizer, Middleware},
    freshness::CONFIRMED_AGE_MAX,
    id::{AggregateType, BranchId},
    limits::Limits,
    memory::MemoryStore,
    observe::{BranchEnd, BranchMetrics},
    ports::{Branch, BranchStatus, BranchStore, Clock, EventStore, SnapshotStore, Traces},
    projection::Projection,
    pubsub::Publisher,
    query::QueryCatalog,
    query_bus::{QueryAuthorizer, QueryLimits, QueryMiddleware},
    registry::SnapshotFrequency,
    runtime::{Keys, Runtime, RuntimeBuilder},
    saga::{SagaDefinitions, SagaStatus},
    sagas::SagaFilter,
    version::Position,
};

/// What the runtime of a branch is made of: what the log's is made of.
pub(crate) struct Recipe {
    pub own: Arc<dyn BranchStore>,
    /// Who keeps the subjects' keys: what is personal in the log is read on a branch too.
    pub keys: Keys,
    pub is_sealed: bool,
    pub store: Arc<dyn EventStore>,
    pub snapshots: Arc<dyn SnapshotStore>,
    pub catalog: Catalog,
    pub definitions: Arc<SagaDefinitions>,
    pub limits: Limits,
    pub clock: Arc<dyn Clock>,
    pub traces: Arc<dyn Traces>,
    pub authorizer: Arc<dyn Authorizer>,
    pub middleware: Vec<Arc<dyn Middleware>>,
    pub snapshot_frequency: SnapshotFrequency,
    pub projections: Vec<Arc<dyn Projection>>,
    pub queries: QueryCatalog,
    pub query_authorizer: Arc<dyn QueryAuthorizer>,
    pub query_middleware: Vec<Arc<dyn QueryMiddleware>>,
    pub query_limits: QueryLimits,
    /// Tells followers of the log what a merge brought.
    pub publisher: Publisher,
    /// Counts the live ones, beside what is measured of the log.
    pub metrics: BranchMetrics,
}

impl std::fmt::Debug for Recipe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recipe").field("own", &self.own).finish_non_exhaustive()
    }
}

/// What a builder is told when its timeline is a branch.
#[derive(Debug)]
pub(crate) struct BranchPart {
    /// What the index of the sagas sees of the log.
    pub since_fork: Arc<dyn EventStore>,
    /// The read models whose rows are made on the spot.
    pub past: Vec<Arc<dyn Projection>>,
}

/// Branches that are live in this process.
#[derive(Debug)]
pub(super) struct LiveBranches {
    pub recipe: Arc<Recipe>,
    live: Arc<AsyncMutex<Map>>,
    stop: CancellationToken,
    /// Begins, ends and merges, which are not cut off half-way.
    pub tasks: TaskTracker,
    janitor: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug, Default)]
struct Map {
    branches: HashMap<BranchId, Live>,
    is_closed: bool,
}

impl Map {
    /// What is live of a branch that was there at an instant.
    fn enter(&mut self, id: BranchId, asked_at: Instant) -> Result<Option<Arc<Runtime>>, BranchError> {
        if self.is_closed {
            return Err(BranchError::Draining);
        }
        let live = self.branches.get_mut(&id);
        Ok(live.map(|live| {
            live.used = Instant::now();
            live.confirmed = live.confirmed.max(asked_at);
            live.runtime.clone()
        }))
    }

    /// What is live of a branch that was there a moment ago.
    fn confirmed(&mut self, id: BranchId) -> Result<Option<Arc<Runtime>>, BranchError> {
        let Some(live) = self.branches.get(&id) else { return Ok(None) };
        let confirmed = live.confirmed;
        if confirmed.elapsed() > CONFIRMED_AGE_MAX {
            return Ok(None);
        }
        self.enter(id, confirmed)
    }

    /// Takes out the branch that has been idle longest if there is no room for one more; it is to be ended.
    fn make_room(&mut self, live_max: usize) -> Result<Option<Live>, BranchError> {
        if self.branches.len() < live_max {
            return Ok(None);
        }
        let unused = self.branches.iter().filter(|(_, live)| live.is_unused());
        let longest = unused.min_by_key(|(_, live)| live.used).map(|(id, _)| *id).ok_or(BranchError::Crowded)?;
        Ok(self.branches.remove(&longest))
    }
}

#[derive(Debug)]
struct Live {
    runtime: Arc<Runtime>,
    used: Instant,
    /// The instant before the store was asked last whether there is such a branch.
    confirmed: Instant,
}

impl Live {
    /// Whether nobody holds it: who enters does so under the map's lock.
    fn is_unused(&self) -> bool {
        Arc::strong_count(&self.runtime) == 1
    }
}

impl LiveBranches {
    pub fn new(recipe: Recipe) -> Self {
        Self {
            recipe: Arc::new(recipe),
            live: Arc::default(),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
            janitor: Mutex::default(),
        }
    }

    pub async fn len(&self) -> usize {
        self.live.lock().await.branches.len()
    }

    /// The runtime of a branch that is live here, and was there a moment ago.
    pub async fn confirmed(&self, id: BranchId) -> Result<Option<Arc<Runtime>>, BranchError> {
        self.live.lock().await.confirmed(id)
    }

    /// The runtime of a branch, which was there at an instant. What has to be begun or ended for it goes on when its
    /// caller goes away.
    pub async fn enter(&self, branch: &Branch, asked_at: Instant) -> Result<Arc<Runtime>, BranchError> {
        if let Some(runtime) = self.live.lock().await.enter(branch.id, asked_at)? {
            return Ok(runtime);
        }
        self.tidy_up();
        let entering = enter_anew(self.live.clone(), self.recipe.clone(), branch.clone(), asked_at);
        let entering = self.tasks.spawn(entering);
        let broken = |_| Err(BranchError::Internal { reason: "the beginning of a branch broke off".to_owned() });
        entering.await.unwrap_or_else(broken)
    }

    /// Ends a branch that was deleted. Who is in the middle of something hears from the store that it is gone.
    pub async fn end(&self, id: BranchId) {
        let live = self.live.lock().await.branches.remove(&id);
        if let Some(live) = live {
            self.recipe.metrics.end(BranchEnd::Deleted);
            // Whole, also when its caller goes away.
            let _ = self.tasks.spawn(end(live.runtime)).await;
        }
    }

    /// Sees to it that idle branches are ended.
    fn tidy_up(&self) {
        let mut janitor = self.janitor.lock().unwrap_or_else(PoisonError::into_inner);
        if janitor.is_none() && !self.stop.is_cancelled() {
            let (live, recipe, idle) = (self.live.clone(), self.recipe.clone(), self.recipe.limits.branches.idle);
            let pause = (idle / 4).clamp(Duration::from_millis(10), Duration::from_secs(5));
            let stop = self.stop.clone();
            *janitor = Some(tokio::spawn(async move {
                while stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_some() {
                    passivate(&live, &recipe, idle).await;
                }
            }));
        }
    }

    pub async fn shutdown(&self) {
        self.stop.cancel();
        let janitor = self.janitor.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(janitor) = janitor {
            let _ = janitor.await;
        }
        let branches = {
            let mut map = self.live.lock().await;
            map.is_closed = true;
            std::mem::take(&mut map.branches)
        };
        branches.iter().for_each(|_| self.recipe.metrics.end(BranchEnd::Shutdown));
        self.tasks.close();
        let ends = join_all(branches.into_values().map(|live| end(live.runtime)));
        let (_, others) = tokio::join!(ends, tokio::time::timeout(self.recipe.limits.drain, self.tasks.wait()));
        if others.is_err() {
            tracing::error!("a merge, or the end of a branch, is not over in time");
        }
    }
}

/// Begins a branch that is not live, in the place of the one that has been idle longest if there is none. That one ends
/// outside of the lock, as long as that takes.
async fn enter_anew(
    live: Arc<AsyncMutex<Map>>,
    recipe: Arc<Recipe>,
    branch: Branch,
    asked_at: Instant,
) -> Result<Arc<Runtime>, BranchError> {
    let mut map = live.lock().await;
    if let Some(runtime) = map.enter(branch.id, asked_at)? {
        return Ok(runtime);
    }
    let idle = map.make_room(recipe.limits.branches.live_max).inspect_err(|_| recipe.metrics.crowded.inc())?;
    if idle.is_some() {
        recipe.metrics.end(BranchEnd::Room);
    }
    let begun = begin(&recipe, &branch).await.map(Arc::new);
    if let Ok(runtime) = &begun {
        let live = Live { runtime: runtime.clone(), used: Instant::now(), confirmed: asked_at };
        map.branches.insert(branch.id, live);
        recipe.metrics.begin();
    }
    drop(map);
    if let Some(idle) = idle {
        end(idle.runtime).await;
    }
    begun
}

/// Ends the branches that nobody has used for so long, unless their sagas are under way. Those of a branch that takes no
/// commands any more stand still.
async fn passivate(live: &AsyncMutex<Map>, recipe: &Recipe, idle: Duration) {
    let is_idle = |live: &Live| live.is_unused() && live.used.elapsed() >= idle;
    let candidates: Vec<(BranchId, Arc<Runtime>)> = {
        let map = live.lock().await;
        let idle = map.branches.iter().filter(|(_, live)| is_idle(live));
        idle.map(|(id, live)| (*id, live.runtime.clone())).collect()
    };
    let mut busy = HashSet::new();
    for (id, runtime) in candidates.iter() {
        let branch = recipe.own.branch(*id).await;
        let is_closed = branch.is_ok_and(|branch| branch.is_none_or(|branch| branch.status != BranchStatus::Open));
        if !is_closed && has_open_sagas(runtime).await {
            busy.insert(*id);
        }
    }
    let ids: Vec<BranchId> = candidates.iter().map(|(id, _)| *id).filter(|id| !busy.contains(id)).collect();
    drop(candidates);
    for id in ids {
        // Somebody may have come meanwhile; who comes from now on begins it anew.
        let ended = {
            let mut map = live.lock().await;
            match map.branches.get(&id).is_some_and(is_idle) {
                true => map.branches.remove(&id),
                false => None,
            }
        };
        if let Some(live) = ended {
            recipe.metrics.end(BranchEnd::Idle);
            end(live.runtime).await;
        }
    }
}

/// Whether a saga of the branch is under way; when that cannot be told, it may be.
async fn has_open_sagas(runtime: &Runtime) -> bool {
    for status in [SagaStatus::Running, SagaStatus::Compensating] {
        let filter = SagaFilter { status: Some(status), saga_type: None };
        match runtime.sagas().list(&filter, None, NonZeroU32::MIN).await {
            Ok(page) if page.items.is_empty() => {}
            _ => return true,
        }
    }
    false
}

/// Boxed under a name: a runtime ends its branches, which are runtimes.
fn end(runtime: Arc<Runtime>) -> BoxFuture<'static, ()> {
    async move {
        runtime.shutdown().await;
    }
    .boxed()
}

fn begin<'a>(recipe: &'a Recipe, branch: &'a Branch) -> BoxFuture<'a, Result<Runtime, BranchError>> {
    async move { Ok(builder(recipe, branch.id, branch.fork).start().await?) }.boxed()
}

/// A runtime over the branch's log. It measures for itself, so that nothing of it is counted as the log's.
fn builder(recipe: &Recipe, id: BranchId, fork: Position) -> RuntimeBuilder {
    let log = Arc::new(BranchLog::new(recipe.store.clone(), recipe.own.clone(), id, fork));
    let since_fork = Arc::new(log.since_fork());
    let own = MemoryStore::new(recipe.clock.clone());
    let snapshots = BranchSnapshots { main: recipe.snapshots.clone(), log: log.clone(), own: own.clone() };
    // A state of a person would outlive the erasure on main, which knows nothing of this memory.
    let (frequency, catalog) = (recipe.snapshot_frequency.clone(), recipe.catalog.clone());
    let frequency = move |kind: &AggregateType| if catalog.is_about_people(kind) { 0 } else { frequency(kind) };
    let mut builder = RuntimeBuilder::new(log, Arc::new(snapshots))
        .catalog(recipe.catalog.clone())
        .limits(bounds(&recipe.limits))
        .clock(recipe.clock.clone())
        .traces(recipe.traces.clone())
        .authorizer(recipe.authorizer.clone())
        .snapshot_frequency(frequency)
        .views(Arc::new(own))
        .query_catalog(recipe.queries.clone())
        .query_authorizer(recipe.query_authorizer.clone())
        .query_limits(recipe.query_limits.clone())
        .on_branch(recipe.definitions.clone(), BranchPart { since_fork, past: recipe.projections.clone() });
    // Erasures are the log's: a branch holds nothing personal of its own.
    builder = builder.look_after_erasures(false);
    if let Some((keys, masters)) = recipe.keys.clone() {
        builder = builder.subject_keys(keys, masters);
    }
    if recipe.is_sealed {
        builder = builder.sealed();
    }
    for link in &recipe.middleware {
        builder = builder.middleware(link.clone());
    }
    for link in &recipe.query_middleware {
        builder = builder.query_middleware(link.clone());
    }
    builder
}

/// The log's bounds, smaller where many branches would add up.
fn bounds(limits: &Limits) -> Limits {
    let mut bounds = limits.clone();
    bounds.commands_in_flight_max = limits.commands_in_flight_max.min(256);
    bounds.live_aggregates_max = limits.live_aggregates_max.min(1_000);
    bounds.recoveries_max = limits.recoveries_max.min(8);
    bounds.journal_queue_max = limits.journal_queue_max.min(256);
    bounds.tail_events_max = limits.tail_events_max.min(256);
    bounds.tail_bytes_max = limits.tail_bytes_max.min(256 << 10);
    bounds.sagas.in_flight_max = limits.sagas.in_flight_max.min(64);
    // Only what other processes do on the branch is found by looking.
    bounds.feed_poll = limits.feed_poll.max(Duration::from_secs(1));
    bounds
}
