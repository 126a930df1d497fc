//! Erasures: long work that takes one person's data out of everything but the log, where it is no longer readable.
//!
//! The order is what makes it hold, see `docs/erasure.md`: first the key is destroyed; then everybody's memory of the key
//! runs out; then [`SUBJECT_ERASED`](crate::personal::SUBJECT_ERASED) is appended, so that nothing before it can be read
//! by anyone any more while nothing after it was ever readable; then read models pass that event; then snapshots, words
//! of parked events and cached answers go; last the database overwrites what was removed. Every step may be done twice,
//! so an erasure that was cut off begins again from its beginning, in whatever process finds it.

mod graveyard;
mod keyless;
mod read_models;
mod steps;
mod told;

use std::{
    collections::{HashMap, HashSet, hash_map::Entry},
    num::NonZeroU32,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use chrono::TimeDelta;
use serde::{Deserialize, Serialize};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

pub(crate) use self::graveyard::Graveyard;
use self::steps::Erasure;
pub use self::{
    keyless::Keyless,
    told::{told, told_by},
};
use crate::{
    id::AggregateId,
    ports::{
        EventStore, Operation, OperationStatus, OperationUpdate, QueryCache, Scrubber, SnapshotStore, StoreError,
        ViewStore,
    },
    projections::Projections,
    pubsub::Publisher,
    query_bus::QueryLimits,
    registry::WriteSide,
};

/// The kind of these operations.
pub const KIND: &str = "subject-erase";

/// Operations looked through at once for erasures that were cut off.
const OPERATIONS_PAGE: NonZeroU32 = NonZeroU32::MIN.saturating_add(199);
/// Pages of operations looked through at a start; an erasure that was cut off is among the newer ones.
const OPERATIONS_PAGES_MAX: usize = 50;
/// The same later on, where it is looked for those whose process has ended.
const OPERATIONS_PAGES_LATER: usize = 5;
/// Between two tries while a store does not answer.
const PAUSE: Duration = Duration::from_secs(1);
/// Between two tries while the log takes no appends.
const READ_ONLY_PAUSE: Duration = Duration::from_secs(5);

/// How long a shutdown waits for an erasure to stop.
const SHUTDOWN: Duration = Duration::from_secs(2);

/// Why an erasure does not begin.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ErasureError {
    /// Nothing personal was ever recorded under this id.
    #[error("nothing is known of a subject {:?}: no event with personal members was recorded under this id", .subject.as_str())]
    UnknownSubject {
        /// The subject.
        subject: AggregateId,
    },
    /// The runtime ends.
    #[error("the server is shutting down; try again")]
    Draining,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What is told of an erasure, beside how far it has come; no personal data.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
struct Account {
    /// In whose name.
    requested_by: String,
    /// When the key was destroyed.
    #[serde(skip_serializing_if = "Option::is_none")]
    key_destroyed_at: Option<String>,
    /// Where the event that says so stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    position: Option<u64>,
    /// Events whose personal members were stored in the clear, before they were declared: the log keeps them.
    events_in_the_clear: u64,
    /// What it waits for now.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    waiting_for: Vec<String>,
    /// What became of cached answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    cache: Option<String>,
    /// How far the databases overwrote what was removed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    database: Vec<String>,
    /// What is out of reach of it, and what to do about that.
    #[serde(skip_serializing_if = "Option::is_none")]
    elsewhere: Option<String>,
}

/// Begins and follows erasures. Cloning is cheap.
#[derive(Debug, Clone)]
pub struct Erasures(Arc<Parts>);

/// What erasures work with.
#[derive(Debug)]
pub(crate) struct Parts {
    pub write_side: Arc<WriteSide>,
    /// Events as they are stored.
    pub sealed: Arc<dyn EventStore>,
    pub snapshots: Arc<dyn SnapshotStore>,
    pub projections: Projections,
    pub cache: Option<Arc<dyn QueryCache>>,
    pub cache_life: Duration,
    pub scrubbers: Vec<Arc<dyn Scrubber>>,
    pub graveyard: Graveyard,
    pub publisher: Publisher,
    pub stop: CancellationToken,
    pub tasks: TaskTracker,
    /// Under way in this process.
    pub running: Mutex<HashMap<AggregateId, Uuid>>,
    /// Bounds those that work at once; the others wait.
    pub places: tokio::sync::Semaphore,
    pub scrubbing: Shared,
}

/// Work that many want done: one does it for all who asked before it began.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    asked: std::sync::atomic::AtomicU64,
    /// Everything asked up to this number is done, with these words.
    done: tokio::sync::Mutex<(u64, Vec<String>)>,
}

impl Shared {
    async fn run<E>(&self, work: impl Future<Output = Result<Vec<String>, E>>) -> Result<Vec<String>, E> {
        use std::sync::atomic::Ordering::SeqCst;
        let ours = self.asked.fetch_add(1, SeqCst) + 1;
        let mut done = self.done.lock().await;
        if done.0 < ours {
            let asked = self.asked.load(SeqCst);
            *done = (asked, work.await?);
        }
        Ok(done.1.clone())
    }
}

impl Parts {
    pub fn new(
        write_side: &Arc<WriteSide>,
        sealed: &Arc<dyn EventStore>,
        snapshots: &Arc<dyn SnapshotStore>,
        projections: &Projections,
        publisher: &Publisher,
        graveyard: Graveyard,
    ) -> Self {
        Self {
            write_side: write_side.clone(),
            sealed: sealed.clone(),
            snapshots: snapshots.clone(),
            projections: projections.clone(),
            cache: None,
            cache_life: Duration::ZERO,
            scrubbers: Vec::new(),
            graveyard,
            publisher: publisher.clone(),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
            running: Mutex::default(),
            places: tokio::sync::Semaphore::new(write_side.limits.erasures_max),
            scrubbing: Shared::default(),
        }
    }

    /// With what is swept beside the stores.
    pub fn sweeping(
        self,
        cache: &Option<Arc<dyn QueryCache>>,
        limits: &QueryLimits,
        scrubbers: Vec<Arc<dyn Scrubber>>,
    ) -> Self {
        Self { cache: cache.clone(), cache_life: limits.cache_ttl, scrubbers, ..self }
    }
}

impl Erasures {
    /// Starts the task that looks after what other processes left behind, unless this one only looks in, and wraps keys
    /// anew after a rotation of master keys.
    pub(crate) fn start(parts: Parts, looks_after: bool) -> Self {
        let erasures = Self(Arc::new(parts));
        if looks_after {
            erasures.look_after();
        }
        erasures
    }

    /// Begins to erase a subject's data, or finds the erasure of it that is under way in this process; returns once it is
    /// on record. It goes on by itself, also after a restart. Erasing again what was erased looks everywhere again.
    ///
    /// # Errors
    /// [`ErasureError`].
    pub async fn erase(&self, subject: AggregateId, requested_by: &str) -> Result<Operation, ErasureError> {
        let parts = &self.0;
        if parts.stop.is_cancelled() {
            return Err(ErasureError::Draining);
        }
        if !self.knows(&subject).await? {
            return Err(ErasureError::UnknownSubject { subject });
        }
        let (now, id) = (parts.write_side.clock.now(), Uuid::now_v7());
        let under_way = *self.running().entry(subject.clone()).or_insert(id);
        let is_first = under_way == id;
        if !is_first && let Some(operation) = self.views().operation(under_way).await? {
            return Ok(operation);
        }
        let account = Account { requested_by: requested_by.to_owned(), ..Account::default() };
        let operation = Operation {
            id: under_way,
            kind: KIND.to_owned(),
            subject: subject.as_str().to_owned(),
            status: OperationStatus::Running,
            done: 0,
            total: steps::TOTAL,
            result: account.written(),
            error: None,
            created_at: now,
            updated_at: now,
        };
        if !is_first {
            // Another caller is just about to record it.
            return Ok(operation);
        }
        if let Err(error) = self.views().begin_operation(operation.clone()).await {
            self.running().remove(&subject);
            return Err(error.into());
        }
        tracing::info!(subject = %subject, operation = %under_way, requested_by, "an erasure begins");
        self.go_on(subject, under_way, account);
        Ok(operation)
    }

    /// The read models of this process whose rows were made from events with personal members.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn read_models_about_people(&self) -> Result<Vec<String>, StoreError> {
        self.0.read_models_about_people().await
    }

    /// Looks at some people's streams for whether their keys are here.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn keyless(&self) -> Result<Keyless, StoreError> {
        self.0.keyless().await
    }

    fn look_after(&self) {
        let erasures = self.clone();
        self.0.tasks.spawn(async move {
            let stop = erasures.0.stop.clone();
            stop.run_until_cancelled(async {
                while let Err(error) = erasures.take_up().await {
                    tracing::warn!(%error, "erasures that were cut off could not be looked for yet");
                    tokio::time::sleep(PAUSE).await;
                }
                match erasures.0.write_side.vault.rewrap().await {
                    Ok(0) => {}
                    Ok(keys) => tracing::info!(keys, "keys were wrapped by the new master key"),
                    Err(error) => tracing::error!(%error, "keys could not be wrapped by the new master key"),
                }
                loop {
                    tokio::time::sleep(erasures.0.write_side.limits.erasure_look).await;
                    if let Err(error) = erasures.look().await {
                        tracing::warn!(%error, "erasures of other processes could not be looked for; it is tried again");
                    }
                }
            })
            .await;
        });
    }

    /// At a start: goes on with whatever is under way, and erases again what a restored database has brought back.
    async fn take_up(&self) -> Result<(), StoreError> {
        self.0.graveyard.catch_up().await?;
        // Looked for before and after operations are: one under way, in whatever process, was on record before its key was
        // destroyed, so it is found; and one that ends meanwhile has its event by then.
        let buried = self.0.graveyard.subjects().await?;
        let unfinished = self.0.graveyard.unfinished(&buried, &*self.0.sealed).await?;
        self.resume(None, OPERATIONS_PAGES_MAX).await?;
        let under_way: HashSet<AggregateId> = self.running().keys().cloned().collect();
        let brought_back: Vec<_> = unfinished.into_iter().filter(|subject| !under_way.contains(subject)).collect();
        for subject in self.0.graveyard.unfinished(&brought_back, &*self.0.sealed).await? {
            tracing::warn!(subject = %subject, "was erased, and a restored database does not say so: it is erased again");
            match self.erase(subject, "restored database").await {
                Ok(_) | Err(ErasureError::Draining | ErasureError::UnknownSubject { .. }) => {}
                Err(ErasureError::Store(error)) => return Err(error),
            }
        }
        Ok(())
    }

    /// Writes down outside of the database what was destroyed, and goes on with what has told nothing for so long.
    async fn look(&self) -> Result<(), StoreError> {
        self.0.graveyard.catch_up().await?;
        self.resume(Some(self.0.write_side.limits.erasure_silence), OPERATIONS_PAGES_LATER).await
    }

    /// Cuts off what is under way; it goes on at the next start.
    pub(crate) async fn shutdown(&self) {
        self.0.stop.cancel();
        self.0.tasks.close();
        if tokio::time::timeout(SHUTDOWN, self.0.tasks.wait()).await.is_err() {
            tracing::error!("an erasure did not stop in time");
        }
    }

    /// Goes on with erasures that were cut off: those that have told nothing for so long. Two processes at one do no harm.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn resume(&self, silence: Option<Duration>, pages: usize) -> Result<(), StoreError> {
        let silence = silence.and_then(|silence| TimeDelta::from_std(silence).ok());
        let silent_since = silence.map(|silence| self.0.write_side.clock.now() - silence);
        let mut before = None;
        for _ in 0..pages {
            let page = self.views().operations(before, OPERATIONS_PAGE).await?;
            let is_end = page.len() < OPERATIONS_PAGE.get() as usize;
            before = page.last().map(|operation| operation.id);
            for operation in page {
                let is_ours = operation.kind == KIND && operation.status == OperationStatus::Running;
                let is_ours = is_ours && silent_since.is_none_or(|since| operation.updated_at <= since);
                let Some(subject) = AggregateId::new(operation.subject.as_str()).ok().filter(|_| is_ours) else {
                    continue;
                };
                let account = operation.result.as_deref().and_then(|result| serde_json::from_slice(result).ok());
                if self.is_first(&subject, operation.id) {
                    tracing::info!(subject = %subject, operation = %operation.id, "an erasure goes on");
                    self.go_on(subject, operation.id, account.unwrap_or_default());
                }
            }
            if is_end {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Takes the place of a subject's erasure in this process; false if there is one.
    fn is_first(&self, subject: &AggregateId, operation: Uuid) -> bool {
        match self.running().entry(subject.clone()) {
            Entry::Occupied(_) => false,
            Entry::Vacant(place) => {
                place.insert(operation);
                true
            }
        }
    }

    /// Whether there may be something to erase: a key, or events that a person's data belongs in.
    async fn knows(&self, subject: &AggregateId) -> Result<bool, StoreError> {
        let write_side = &self.0.write_side;
        let states = write_side.vault.load(std::slice::from_ref(subject)).await?;
        if states.iter().any(|state| !matches!(state, crate::personal::KeyState::Absent)) {
            return Ok(true);
        }
        let stream = self.0.sealed.stream(subject).await?;
        Ok(stream.is_some_and(|stream| write_side.recovery.catalog.is_about_people(&stream.aggregate_type)))
    }

    fn go_on(&self, subject: AggregateId, id: Uuid, account: Account) {
        let erasures = self.clone();
        self.0.tasks.spawn(async move {
            let stop = erasures.0.stop.clone();
            let work = stop.run_until_cancelled(erasures.work(&subject, id, account)).await;
            if work.is_none() {
                tracing::info!(subject = %subject, operation = %id, "an erasure is cut off; it goes on at the next start");
            }
            erasures.running().remove(&subject);
        });
    }

    async fn work(&self, subject: &AggregateId, id: Uuid, account: Account) {
        let mut erasure = Erasure { parts: &self.0, id, subject, account, done: 0 };
        let failed = loop {
            match erasure.run().await {
                Ok(()) => break None,
                Err(StoreError::Unavailable { reason }) => {
                    tracing::warn!(reason, operation = %id, "an erasure waits for the store");
                    tokio::time::sleep(PAUSE).await;
                }
                Err(StoreError::ReadOnly { reason }) => {
                    // An operator has to act first; until then the key is destroyed, and rows are as they were.
                    erasure.account.waiting_for = vec![reason];
                    if let Err(error) = erasure.note().await {
                        tracing::warn!(%error, operation = %id, "what an erasure waits for could not be noted");
                    }
                    tokio::time::sleep(READ_ONLY_PAUSE).await;
                }
                Err(error) => break Some(error.to_string()),
            }
        };
        let error = failed.or_else(|| erasure.shortcoming());
        let status = if error.is_some() { OperationStatus::Failed } else { OperationStatus::Succeeded };
        match &error {
            None => tracing::info!(subject = %subject, operation = %id, "an erasure is done"),
            Some(reason) => tracing::error!(subject = %subject, operation = %id, reason, "an erasure is not complete"),
        }
        erasure.account.waiting_for.clear();
        let update = OperationUpdate {
            id,
            status,
            done: erasure.done,
            total: steps::TOTAL,
            result: erasure.account.written(),
            error,
        };
        while let Err(error) = self.views().update_operation(update.clone()).await {
            tracing::warn!(%error, operation = %id, "the end of an erasure could not be noted yet");
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn views(&self) -> &Arc<dyn ViewStore> {
        &self.0.projections.views
    }

    fn running(&self) -> std::sync::MutexGuard<'_, HashMap<AggregateId, Uuid>> {
        self.0.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Account {
    fn written(&self) -> Option<Bytes> {
        serde_json::to_vec(self).ok().map(Bytes::from)
    }
}
