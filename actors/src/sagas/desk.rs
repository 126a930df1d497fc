//! What the workers share: how instances are told things and loaded, who works on what, what is tried again later.

use std::{
    collections::{BTreeSet, HashMap},
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use dashmap::{DashMap, mapref::entry::Entry};
use futures_util::FutureExt;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    news::News,
    recent::Recent,
    worker::{self, Rest},
};
use crate::{
    command_bus::{Action, CommandAccepted, CommandBus, CommandRequest, Idempotency, Principal, RequestContext},
    error::CommandError,
    id::{AggregateId, CommandId},
    limits::SagaLimits,
    observe::SagaMetrics,
    ports::{EventStore, ViewStore},
    recovery::RecoveryError,
    saga::{Reason, SagaCommand, SagaDefinitions, SagaOrder, SagaRecord, SagaStatus, Slot},
    version::Position,
};

/// Instances remembered as to be tried again; the others are found in the index.
const LATER_MAX: usize = 100_000;

/// The workers' shared memory.
#[derive(Debug)]
pub(crate) struct Desk {
    pub bus: CommandBus,
    pub views: Arc<dyn ViewStore>,
    pub events: Arc<dyn EventStore>,
    pub definitions: Arc<SagaDefinitions>,
    pub limits: SagaLimits,
    pub metrics: SagaMetrics,
    pub news: Arc<News>,
    pub stop: CancellationToken,
    /// Owns the workers, so that shutdown can wait for them.
    pub tasks: TaskTracker,
    /// Instances being worked on, and whether there is news since their worker looked.
    working: DashMap<AggregateId, bool>,
    places: Arc<Semaphore>,
    recent: Mutex<Recent>,
    later: Mutex<Later>,
    troubles: Mutex<HashMap<AggregateId, Trouble>>,
    waiting: DashMap<AggregateId, watch::Sender<Option<Arc<SagaRecord>>>>,
}

/// What everything of the desk is made of.
#[derive(Debug)]
pub(crate) struct DeskParts {
    pub bus: CommandBus,
    pub views: Arc<dyn ViewStore>,
    pub events: Arc<dyn EventStore>,
    pub definitions: Arc<SagaDefinitions>,
    pub news: Arc<News>,
}

/// Instances that are tried again, in order of time.
#[derive(Debug, Default)]
struct Later {
    by_time: BTreeSet<(Instant, AggregateId)>,
    by_id: HashMap<AggregateId, Instant>,
}

/// What goes wrong with an instance.
#[derive(Debug, Clone, Default)]
pub(crate) struct Trouble {
    /// Faults in a row.
    pub faults: u32,
    /// Rounds in a row in which something did not answer.
    pub silences: u32,
    /// The last of either.
    pub reason: String,
}

/// How an order is sent.
#[derive(Debug, Clone)]
pub(crate) struct Telling {
    pub command_id: CommandId,
    pub principal: Principal,
    pub context: RequestContext,
    pub idempotency: Option<Idempotency>,
    pub is_new_stream: bool,
    pub deadline: Option<Instant>,
}

impl Telling {
    /// By the runtime itself, under an id that repeats.
    pub fn internal(command_id: CommandId, context: RequestContext) -> Self {
        let principal = Principal::system();
        Self { command_id, principal, context, idempotency: None, is_new_stream: false, deadline: None }
    }
}

/// What an order led to.
#[derive(Debug)]
pub(crate) struct Told {
    pub accepted: CommandAccepted,
    /// The instance after it; none if the order had been recorded before: then it has to be loaded.
    pub record: Option<Arc<SagaRecord>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Desk {
    pub fn new(parts: DeskParts, stop: CancellationToken) -> Self {
        let limits = parts.bus.write_side.limits.sagas.clone();
        Self {
            metrics: parts.bus.write_side.metrics.sagas.clone(),
            places: Arc::new(Semaphore::new(limits.in_flight_max)),
            bus: parts.bus,
            views: parts.views,
            events: parts.events,
            definitions: parts.definitions,
            news: parts.news,
            limits,
            stop,
            tasks: TaskTracker::new(),
            working: DashMap::new(),
            recent: Mutex::default(),
            later: Mutex::default(),
            troubles: Mutex::default(),
            waiting: DashMap::new(),
        }
    }

    /// Whether instances are this process's to work on.
    pub fn may_work(&self) -> bool {
        self.news.tenure().is_some() && !self.stop.is_cancelled()
    }

    /// Tells an instance something; its events are durable when this returns.
    pub async fn tell(&self, id: &AggregateId, order: SagaOrder, telling: Telling) -> Result<Told, CommandError> {
        let slot = Slot::default();
        let longest = self.bus.write_side.limits.command_deadline;
        let action = Action::Command(SagaCommand::decoded(order, slot.clone()));
        let mut request = CommandRequest::new(id.clone(), action, longest);
        request.command_id = telling.command_id;
        request.principal = telling.principal;
        request.context = telling.context;
        request.idempotency = telling.idempotency;
        request.is_new_stream = telling.is_new_stream;
        if let Some(deadline) = telling.deadline {
            request.deadline = request.deadline.min(deadline);
        }
        let accepted = self.bus.send(request).await?;
        self.saw(&accepted.aggregate_id, accepted.position);
        let record = slot.take().filter(|_| !accepted.replayed);
        if let Some(record) = &record {
            self.measure(&accepted, record);
            self.show(record);
        }
        Ok(Told { accepted, record })
    }

    /// Counts what an append of this process did.
    fn measure(&self, accepted: &CommandAccepted, record: &SagaRecord) {
        let saga = record.saga_type.as_str();
        for event in &accepted.events {
            match event.event_type.as_str() {
                "SagaStarted" => self.metrics.started.with_label_values(&[saga]).inc(),
                "SagaTimerFired" => self.metrics.timers_fired.with_label_values(&[saga]).inc(),
                "SagaFailed" => self.finished(saga, SagaStatus::Failed),
                "SagaEnded" => {
                    self.finished(saga, record.status);
                    let took = record.ended_at.and_then(|ended| (ended - record.started_at).to_std().ok());
                    self.metrics
                        .duration
                        .with_label_values(&[saga, record.status.as_str()])
                        .observe(took.unwrap_or_default().as_secs_f64());
                }
                _ => {}
            }
        }
    }

    fn finished(&self, saga: &str, status: SagaStatus) {
        self.metrics.finished.with_label_values(&[saga, status.as_str()]).inc();
    }

    /// The durable record of an instance; none if there is no such saga.
    pub async fn load(&self, id: &AggregateId) -> Result<Option<Arc<SagaRecord>>, RecoveryError> {
        let Some(recovered) = self.bus.write_side.load(id).await? else { return Ok(None) };
        self.saw(id, recovered.position);
        let record = recovered.instance.saga();
        if let Some(record) = &record {
            self.show(record);
        }
        Ok(record)
    }

    fn saw(&self, id: &AggregateId, position: Position) {
        locked(&self.recent).note(id, position, Instant::now());
    }

    /// Works on an instance, if that is this process's task and nobody does already. `record` as it stands, if known.
    pub fn work_on(self: &Arc<Self>, id: &AggregateId, record: Option<Arc<SagaRecord>>) {
        if !self.may_work() || record.as_ref().is_some_and(|record| !record.status.is_open() || record.is_quiet()) {
            // It costs no actor while it waits, here or elsewhere.
            self.bus.write_side.registry.let_go(id);
            return;
        }
        match self.working.entry(id.clone()) {
            Entry::Occupied(mut entry) => {
                entry.insert(true);
            }
            Entry::Vacant(entry) => match self.places.clone().try_acquire_owned() {
                Ok(place) => {
                    entry.insert(false);
                    self.tasks.spawn(self.clone().work(id.clone(), record, place));
                }
                Err(_) => self.leave(id),
            },
        }
    }

    /// There is no place for an instance now: it is found in the index again.
    fn leave(&self, id: &AggregateId) {
        // Having seen it is not having worked on it.
        locked(&self.recent).forget(id);
        self.news.leave_rest();
    }

    /// The same for what the index told: nothing, if this process has seen as much of the instance, or tries it later.
    pub fn work_on_if_new(self: &Arc<Self>, id: &AggregateId, told: Position) {
        if locked(&self.recent).position(id).is_none_or(|seen| seen < told) && !self.is_later(id) {
            self.work_on(id, None);
        }
    }

    async fn work(self: Arc<Self>, id: AggregateId, record: Option<Arc<SagaRecord>>, place: OwnedSemaphorePermit) {
        let mut record = record;
        loop {
            let worked = AssertUnwindSafe(worker::run(&self, &id, record.take())).catch_unwind().await;
            let rest = worked.unwrap_or_else(|_| {
                tracing::error!(saga.id = %id, "working on a saga panicked");
                Rest::Later(self.limits.retry_pause_max)
            });
            let is_done = match self.working.entry(id.clone()) {
                Entry::Occupied(mut entry) if *entry.get() => {
                    entry.insert(false);
                    false
                }
                Entry::Occupied(entry) => {
                    entry.remove();
                    true
                }
                Entry::Vacant(_) => true,
            };
            match rest {
                // News came meanwhile, which may be what was waited for.
                _ if !is_done => {}
                Rest::Done => break,
                Rest::Later(pause) => {
                    self.put_off(&id, pause);
                    break;
                }
            }
        }
        drop(place);
        if self.news.has_rest() {
            self.news.wake.notify_one();
        }
    }

    /// Whether a worker has a place, for work that is not an instance's own.
    pub async fn place(&self) -> Option<OwnedSemaphorePermit> {
        self.places.clone().acquire_owned().await.ok()
    }

    /// Whether there are places left.
    pub fn has_places(&self) -> bool {
        self.places.available_permits() > 0
    }

    /// Tries an instance again after a while.
    fn put_off(&self, id: &AggregateId, pause: Duration) {
        let mut later = locked(&self.later);
        if later.by_id.len() >= LATER_MAX {
            drop(later);
            self.leave(id);
            return;
        }
        let at = Instant::now() + pause;
        if let Some(before) = later.by_id.insert(id.clone(), at) {
            later.by_time.remove(&(before, id.clone()));
        }
        later.by_time.insert((at, id.clone()));
        drop(later);
        self.news.wake.notify_one();
    }

    fn is_later(&self, id: &AggregateId) -> bool {
        locked(&self.later).by_id.contains_key(id)
    }

    /// Those whose time has come, and when the next one's comes.
    pub fn take_later(&self) -> (Vec<AggregateId>, Option<Instant>) {
        let (now, mut later, mut due) = (Instant::now(), locked(&self.later), Vec::new());
        while let Some((at, id)) = later.by_time.first().cloned() {
            if at > now {
                return (due, Some(at));
            }
            later.by_time.remove(&(at, id.clone()));
            later.by_id.remove(&id);
            due.push(id);
        }
        (due, None)
    }

    /// Forgets what is another process's now.
    pub fn forget(&self) {
        *locked(&self.later) = Later::default();
        locked(&self.troubles).clear();
        *locked(&self.recent) = Recent::default();
    }

    /// Something of an instance went well.
    pub fn is_well(&self, id: &AggregateId) {
        let mut troubles = locked(&self.troubles);
        if !troubles.is_empty() {
            troubles.remove(id);
        }
    }

    /// Notes a trouble; how it stands with it.
    pub fn trouble(&self, id: &AggregateId, note: impl FnOnce(&mut Trouble)) -> Trouble {
        let mut troubles = locked(&self.troubles);
        // Bounded as what is put off is: whoever has trouble is put off.
        if troubles.len() >= LATER_MAX && !troubles.contains_key(id) {
            troubles.clear();
        }
        let trouble = troubles.entry(id.clone()).or_default();
        note(trouble);
        trouble.clone()
    }

    /// Instances with trouble now, up to a number.
    pub fn troubled(&self, limit: usize) -> Vec<(AggregateId, Trouble)> {
        locked(&self.troubles).iter().take(limit).map(|(id, trouble)| (id.clone(), trouble.clone())).collect()
    }

    /// Sets an instance aside.
    pub async fn set_aside(
        &self,
        id: &AggregateId,
        context: RequestContext,
        reason: Reason,
    ) -> Result<(), CommandError> {
        tracing::error!(saga.id = %id, code = reason.code, reason = reason.message, "a saga is set aside; retry it when the cause is mended");
        let telling = Telling::internal(CommandId::generate(), context);
        self.tell(id, SagaOrder::SetAside(reason), telling).await?;
        self.is_well(id);
        self.bus.write_side.registry.let_go(id);
        Ok(())
    }

    /// How far a worker of this process has brought an instance; follows it until the receiver is dropped.
    pub fn watch(&self, id: &AggregateId) -> watch::Receiver<Option<Arc<SagaRecord>>> {
        self.waiting.entry(id.clone()).or_insert_with(|| watch::Sender::new(None)).subscribe()
    }

    /// The last watcher is gone.
    pub fn unwatch(&self, id: &AggregateId) {
        self.waiting.remove_if(id, |_, sender| sender.receiver_count() == 0);
    }

    fn show(&self, record: &Arc<SagaRecord>) {
        if let Some(sender) = self.waiting.get(&record.saga_id) {
            sender.send_replace(Some(record.clone()));
        }
    }
}
