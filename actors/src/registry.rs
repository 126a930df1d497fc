//! The registry: which aggregates have a live actor; single-flight spawn by id, passivation, parking after failures.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use dashmap::{DashMap, mapref::entry::Entry};
use ractor::{ActorCell, ActorId, ActorRef, ActorRuntime, ActorStatus, MessagingErr};
use tokio::{
    sync::{Notify, Semaphore, mpsc, oneshot},
    time::Instant,
};
use tokio_util::task::TaskTracker;

use crate::{
    aggregate_actor::{AggregateActor, AggregateArguments, AggregateMessage},
    command_bus::{CommandRequest, CommandResult},
    error::CommandError,
    id::{AggregateId, AggregateType},
    journal::Member,
    limits::Limits,
    observe::{Metrics, Pulse},
    ports::{Clock, StoreError},
    recovery::{Recovered, Recovery, RecoveryError},
    vault::Vault,
    version::Sequence,
    work::{Stage, Work},
};

/// Everything the write side shares.
pub(crate) struct WriteSide {
    pub registry: Registry,
    pub recovery: Recovery,
    pub recoveries: Semaphore,
    pub vault: Arc<Vault>,
    pub journal: mpsc::Sender<Box<Member>>,
    pub clock: Arc<dyn Clock>,
    pub limits: Limits,
    pub metrics: Metrics,
    pub pulse: Arc<Pulse>,
    pub snapshot_frequency: SnapshotFrequency,
    pub supervisor: OnceLock<ActorCell>,
    pub tasks: TaskTracker,
}

/// Events between two snapshots, by aggregate type; 0 = none.
pub type SnapshotFrequency = Arc<dyn Fn(&AggregateType) -> u64 + Send + Sync>;

impl std::fmt::Debug for WriteSide {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WriteSide").field("live", &self.registry.live.len()).finish_non_exhaustive()
    }
}

/// Live aggregates by id.
#[derive(Debug)]
pub(crate) struct Registry {
    live: DashMap<AggregateId, Live>,
    ids: DashMap<ActorId, AggregateId>,
    failures: DashMap<AggregateId, Failures>,
    started: Instant,
    /// Woken when there are more live aggregates than allowed.
    pub crowded: Notify,
    metrics: Metrics,
}

#[derive(Debug, Clone)]
struct Live {
    actor: ActorRef<AggregateMessage>,
    /// Milliseconds since the registry's start of the last command.
    used_ms: Arc<AtomicU64>,
    permits: Arc<Semaphore>,
}

#[derive(Debug, Clone)]
struct Failures {
    count: u32,
    since: Instant,
    not_before: Instant,
    reason: Arc<str>,
}

/// An aggregate that is refused for a while.
#[derive(Debug, Clone)]
pub struct ParkedAggregate {
    /// Which.
    pub aggregate_id: AggregateId,
    /// Its last failure.
    pub reason: Arc<str>,
    /// How often it failed within a minute.
    pub failures: u32,
}

/// A store that answered nothing for so long, while a command waited, is the reason.
const SILENT_STORE: Duration = Duration::from_secs(2);

/// Failures further apart than this are not counted together.
const FAILURE_WINDOW: Duration = Duration::from_secs(60);

impl Registry {
    pub fn new(metrics: Metrics) -> Self {
        Self {
            live: DashMap::new(),
            ids: DashMap::new(),
            failures: DashMap::new(),
            started: Instant::now(),
            crowded: Notify::new(),
            metrics,
        }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    pub fn len(&self) -> usize {
        self.live.len()
    }

    /// An actor ended: its entry goes, unless a successor has it already.
    pub fn forget(&self, id: &AggregateId, actor: ActorId) {
        self.live.remove_if(id, |_, live| live.actor.get_id() == actor);
        self.ids.remove(&actor);
        self.metrics.active_aggregates.set(i64::try_from(self.live.len()).unwrap_or(i64::MAX));
    }

    /// An actor ended, however it did.
    pub fn ended(&self, actor: ActorId) {
        // A copy: no guard is held while the entry goes.
        let id = self.ids.get(&actor).map(|id| id.clone());
        if let Some(id) = id {
            self.forget(&id, actor);
        }
    }

    /// An actor failed: its entry goes, and the next start waits longer the more often that happens.
    pub fn failed(&self, actor: ActorId, reason: &str, limits: &Limits) {
        self.metrics.actor_restarts.inc();
        let Some((_, id)) = self.ids.remove(&actor) else { return };
        self.forget(&id, actor);
        let now = Instant::now();
        let mut failures = self.failures.entry(id).or_insert_with(|| Failures {
            count: 0,
            since: now,
            not_before: now,
            reason: Arc::from(""),
        });
        if now.duration_since(failures.since) > FAILURE_WINDOW {
            failures.count = 0;
            failures.since = now;
        }
        failures.count += 1;
        failures.reason = Arc::from(reason);
        failures.not_before = now
            + if failures.count > limits.restarts_max {
                limits.parked
            } else {
                Duration::from_millis(50) * 2_u32.saturating_pow(failures.count - 1)
            };
    }

    /// Aggregates that are parked now; forgets failures that are long past.
    pub fn parked(&self, limits: &Limits) -> Vec<ParkedAggregate> {
        let now = Instant::now();
        self.failures
            .retain(|_, failures| now.duration_since(failures.since) < FAILURE_WINDOW || failures.not_before > now);
        let parked: Vec<ParkedAggregate> = self
            .failures
            .iter()
            .filter(|entry| entry.count > limits.restarts_max && entry.not_before > now)
            .map(|entry| ParkedAggregate {
                aggregate_id: entry.key().clone(),
                reason: entry.reason.clone(),
                failures: entry.count,
            })
            .collect();
        self.metrics.parked_aggregates.set(i64::try_from(parked.len()).unwrap_or(i64::MAX));
        parked
    }

    fn check_parked(&self, id: &AggregateId) -> Result<(), CommandError> {
        if self.failures.is_empty() {
            return Ok(());
        }
        let Some(failures) = self.failures.get(id).map(|failures| failures.clone()) else { return Ok(()) };
        match failures.not_before.checked_duration_since(Instant::now()) {
            Some(rest) if !rest.is_zero() => Err(CommandError::Parked {
                aggregate_id: id.clone(),
                reason: failures.reason.to_string(),
                retry_after: rest,
            }),
            _ => Ok(()),
        }
    }

    /// Tells aggregates that were idle for so long, and the longest idle ones above the maximum, to end.
    pub fn passivate(&self, limits: &Limits) {
        let now = self.now_ms();
        let idle_ms = u64::try_from(limits.aggregate_idle.as_millis()).unwrap_or(u64::MAX);
        let mut awake: Vec<(u64, ActorRef<AggregateMessage>)> = Vec::new();
        let excess = self.live.len().saturating_sub(limits.live_aggregates_max);
        for live in &self.live {
            let used = live.used_ms.load(Ordering::Relaxed);
            if now.saturating_sub(used) >= idle_ms {
                let _ = live.actor.send_message(AggregateMessage::Idle);
            } else if excess > 0 {
                awake.push((used, live.actor.clone()));
            }
        }
        if excess > 0 {
            awake.sort_unstable_by_key(|(used, _)| *used);
            for (_, actor) in awake.into_iter().take(excess) {
                let _ = actor.send_message(AggregateMessage::Idle);
            }
        }
    }

    /// Tells one aggregate to end: nothing more is expected of it for now.
    pub fn let_go(&self, id: &AggregateId) {
        if let Some(live) = self.live.get(id) {
            let _ = live.actor.send_message(AggregateMessage::Idle);
        }
    }

    /// Every live actor.
    pub fn actors(&self) -> Vec<ActorRef<AggregateMessage>> {
        self.live.iter().map(|live| live.actor.clone()).collect()
    }
}

impl WriteSide {
    /// Loads an aggregate's state; at most so many at once, and a store that stumbles is asked again shortly.
    pub async fn load(&self, id: &AggregateId) -> Result<Option<Recovered>, RecoveryError> {
        let mut pause = Duration::from_millis(50);
        loop {
            let result = {
                let _permit = self.recoveries.acquire().await;
                let load = self.recovery.load(id, Sequence(u64::MAX), true);
                tokio::time::timeout(self.limits.load, load).await.unwrap_or_else(|_| {
                    let reason = format!("the history did not arrive within {:?}", self.limits.load);
                    Err(StoreError::Unavailable { reason }.into())
                })
            };
            match result {
                Err(RecoveryError::Store(StoreError::Unavailable { .. })) if pause < Duration::from_millis(400) => {
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                }
                result => {
                    if let Ok(recovered) = &result {
                        let replayed = recovered.as_ref().map_or(0, |recovered| recovered.replayed);
                        self.metrics.replayed_events.observe(replayed as f64);
                    }
                    return result;
                }
            }
        }
    }

    /// The live actor of an aggregate; spawned if there is none.
    pub fn actor(self: &Arc<Self>, id: &AggregateId) -> Result<ActorRef<AggregateMessage>, CommandError> {
        self.resolve(id, false).map(|live| live.actor)
    }

    /// No await under the map's guard: spawning is instant, loading happens in the actor.
    fn resolve(self: &Arc<Self>, id: &AggregateId, is_new_stream: bool) -> Result<Live, CommandError> {
        if let Some(live) = self.registry.live.get(id)
            && live.actor.get_status() < ActorStatus::Draining
        {
            return Ok(live.clone());
        }
        self.registry.check_parked(id)?;
        match self.registry.live.entry(id.clone()) {
            Entry::Occupied(mut entry) => {
                if entry.get().actor.get_status() < ActorStatus::Draining {
                    return Ok(entry.get().clone());
                }
                let live = self.spawn(id, Some(entry.get().actor.clone()), false)?;
                entry.insert(live.clone());
                Ok(live)
            }
            Entry::Vacant(entry) => Ok(entry.insert(self.spawn(id, None, is_new_stream)?).clone()),
        }
    }

    fn spawn(
        self: &Arc<Self>,
        id: &AggregateId,
        previous: Option<ActorRef<AggregateMessage>>,
        is_new_stream: bool,
    ) -> Result<Live, CommandError> {
        let supervisor = self.supervisor.get().ok_or(CommandError::Draining)?.clone();
        if supervisor.get_status() >= ActorStatus::Stopping {
            // Nobody would own the actor any more.
            return Err(CommandError::Draining);
        }
        let arguments =
            AggregateArguments { write_side: self.clone(), aggregate_id: id.clone(), previous, is_new_stream };
        // The start cannot fail: it only sets the memory up, so nothing is lost by not watching the handle.
        let (actor, _starting) = ActorRuntime::spawn_linked_instant(None, AggregateActor, arguments, supervisor)
            .map_err(|error| CommandError::Internal { reason: format!("the actor could not start: {error}") })?;
        self.registry.ids.insert(actor.get_id(), id.clone());
        self.metrics.active_aggregates.inc();
        // By the gauge: the map is locked here.
        let live = usize::try_from(self.metrics.active_aggregates.get()).unwrap_or(0);
        if live > self.limits.live_aggregates_max {
            self.registry.crowded.notify_one();
        }
        Ok(Live {
            actor,
            used_ms: Arc::new(AtomicU64::new(self.registry.now_ms())),
            permits: Arc::new(Semaphore::new(self.limits.commands_per_aggregate_max)),
        })
    }

    /// One attempt at a command: to its actor, and back with the answer.
    pub async fn dispatch(self: &Arc<Self>, request: CommandRequest) -> CommandResult {
        let command_id = request.command_id;
        let deadline = request.deadline;
        let (stage, answer) = self.send(request).await?;
        match tokio::time::timeout_at(deadline, answer).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(CommandError::Interrupted),
            Err(_) if stage.abandon() => Err(self.not_decided()),
            Err(_) => Err(CommandError::OutcomeUnknown { command_id }),
        }
    }

    /// Why a command was not decided in time: a store that has been silent all the while, or too much work.
    fn not_decided(&self) -> CommandError {
        let silence = self.pulse.silence();
        if silence < SILENT_STORE {
            return CommandError::DeadlineExceeded;
        }
        CommandError::StoreUnavailable { reason: format!("it has not answered for {} s", silence.as_secs()) }
    }

    async fn send(
        self: &Arc<Self>,
        request: CommandRequest,
    ) -> Result<(Stage, oneshot::Receiver<CommandResult>), CommandError> {
        let id = request.aggregate_id.clone();
        let deadline = request.deadline;
        let live = self.resolve(&id, request.is_new_stream)?;
        let permit = live
            .permits
            .clone()
            .try_acquire_owned()
            .map_err(|_| CommandError::Overloaded { scope: "aggregate", retry_after: Duration::from_secs(1) })?;
        let (work, answer) = Work::new(request, Some(permit));
        let mut live = live;
        loop {
            live.used_ms.store(self.registry.now_ms(), Ordering::Relaxed);
            match live.actor.send_message(AggregateMessage::Do(work.clone())) {
                Ok(()) => return Ok((work.stage(), answer)),
                Err(MessagingErr::SendErr(_)) if Instant::now() < deadline => {
                    // Certainly not delivered: that actor is ending. Its successor waits for it; so do we, a little.
                    let _ = live.actor.wait(Some(Duration::from_millis(5))).await;
                    live = self.resolve(&id, false)?;
                }
                Err(_) => return Err(CommandError::DeadlineExceeded),
            }
        }
    }
}
