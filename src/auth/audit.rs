//! The audit: administrative and refused acts, append-only, beside the log.
//!
//! An administrative act is recorded before it is begun (without that line it is not begun) and again when its outcome is
//! known. Refused acts are what an attacker can make as many of as he likes: those of one caller within a minute make one
//! line with a count, and only so many callers a minute get a line of their own.

use std::{
    collections::HashMap,
    num::NonZeroU32,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use chrono::{DateTime, SubsecRound, Utc};
use event_sourcing_actors::ports::{Clock, StoreError};
use tokio::sync::{mpsc, oneshot};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

use super::port::{AccessStore, AuditRecord, Outcome};

/// How long refused acts are gathered before they are written.
pub const GATHER: Duration = Duration::from_secs(60);
/// Callers with a line of their own in that time; further ones share one.
pub const REFUSED_CALLERS_MAX: usize = 32;
/// Lines that wait to be written.
const QUEUE_MAX: usize = 1_024;
/// Longest target that is kept.
const TARGET_BYTES_MAX: usize = 512;

/// Who does what to what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Act {
    /// Who, where the caller is known.
    pub principal: Option<String>,
    /// From where.
    pub peer: Option<String>,
    /// What.
    pub act: String,
    /// To what.
    pub target: String,
    /// The request.
    pub request_id: Option<String>,
}

impl Act {
    pub(super) fn line(&self, at: DateTime<Utc>, outcome: Outcome, status: Option<u16>, count: u64) -> AuditRecord {
        let end = (0..=TARGET_BYTES_MAX.min(self.target.len())).rev().find(|end| self.target.is_char_boundary(*end));
        AuditRecord {
            id: Uuid::now_v7(),
            at,
            principal: self.principal.clone(),
            peer: self.peer.clone(),
            act: self.act.clone(),
            target: self.target[..end.unwrap_or(0)].to_owned(),
            outcome,
            status,
            request_id: self.request_id.clone(),
            count,
        }
    }
}

/// What is written at once.
#[derive(Debug)]
enum Work {
    Lines(Vec<AuditRecord>),
    /// What was gathered until its turn comes.
    Gathered,
}

/// Something to write, and who waits for it.
#[derive(Debug)]
struct Job {
    work: Work,
    written: Option<oneshot::Sender<Result<(), StoreError>>>,
}

/// Refused acts of the running minute.
#[derive(Debug, Default)]
struct Gathered(HashMap<Option<String>, (Act, DateTime<Utc>, u16, u64)>);

/// Where acts are told. Cloning shares it.
#[derive(Debug, Clone)]
pub struct Audit {
    store: Arc<dyn AccessStore>,
    clock: Arc<dyn Clock>,
    queue: mpsc::Sender<Job>,
    gathered: Arc<Mutex<Gathered>>,
}

impl Audit {
    /// Starts the task that writes; it ends, with everything written, once `stop` is cancelled.
    pub(super) fn start(
        store: Arc<dyn AccessStore>,
        clock: Arc<dyn Clock>,
        tasks: &TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        let (queue, jobs) = mpsc::channel(QUEUE_MAX);
        let audit = Self { store, clock, queue, gathered: Arc::default() };
        tasks.spawn(audit.clone().write(jobs, stop));
        audit
    }

    fn now(&self) -> DateTime<Utc> {
        self.clock.now().trunc_subsecs(6)
    }

    fn lock(&self) -> MutexGuard<'_, Gathered> {
        self.gathered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records that an administrative act begins; durable on return. The outcome is told by what is answered.
    ///
    /// # Errors
    /// [`StoreError`]: nothing is recorded, so nothing may be done.
    pub async fn begin(&self, act: Act) -> Result<Begun, StoreError> {
        self.write_now(Work::Lines(vec![act.line(self.now(), Outcome::Begun, None, 1)])).await?;
        Ok(Begun { audit: self.clone(), act: Some(act) })
    }

    /// Counts a refused act; it never waits, and never fails.
    pub fn refused(&self, act: Act, status: u16) {
        let mut gathered = self.lock();
        let who = act.principal.clone().or_else(|| act.peer.clone());
        let is_full = gathered.0.len() >= REFUSED_CALLERS_MAX && !gathered.0.contains_key(&who);
        let (who, act) = if is_full { (None, others()) } else { (who, act) };
        let now = self.now();
        gathered.0.entry(who).or_insert((act, now, status, 0)).3 += 1;
    }

    /// Lines of the audit, newest first, before one; what was gathered is written first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn list(&self, before: Option<Uuid>, limit: NonZeroU32) -> Result<Vec<AuditRecord>, StoreError> {
        if before.is_none() && !self.lock().0.is_empty() {
            self.write_now(Work::Gathered).await?;
        }
        self.store.audit(before, limit).await
    }

    fn drained(&self) -> Vec<AuditRecord> {
        let gathered = std::mem::take(&mut *self.lock());
        let mut lines: Vec<_> = gathered
            .0
            .into_values()
            .map(|(act, at, status, count)| act.line(at, Outcome::Refused, Some(status), count))
            .collect();
        lines.sort_by_key(|line| line.at);
        lines
    }

    async fn write_now(&self, work: Work) -> Result<(), StoreError> {
        let gone = |_| StoreError::Unavailable { reason: "the audit takes nothing any more".to_owned() };
        let (written, answer) = oneshot::channel();
        let job = Job { work, written: Some(written) };
        self.queue.try_send(job).map_err(|_| StoreError::Unavailable { reason: "the audit is full".to_owned() })?;
        answer.await.unwrap_or_else(|error| Err(gone(error)))
    }

    /// Owns all writes, so that none of them is a future which a caller can drop.
    async fn write(self, mut jobs: mpsc::Receiver<Job>, stop: CancellationToken) {
        let mut due = tokio::time::interval(GATHER);
        due.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                job = jobs.recv() => match job {
                    Some(job) => self.store(job).await,
                    None => return,
                },
                _ = due.tick() => drop(self.store_gathered().await),
                () = stop.cancelled() => break,
            }
        }
        jobs.close();
        while let Some(job) = jobs.recv().await {
            self.store(job).await;
        }
        drop(self.store_gathered().await);
    }

    async fn store(&self, job: Job) {
        let result = match job.work {
            Work::Lines(lines) => self.store.record(lines).await,
            Work::Gathered => self.store_gathered().await,
        };
        if let (Err(error), None) = (&result, &job.written) {
            tracing::error!(%error, "the outcome of an administrative act could not be recorded");
        }
        if let Some(written) = job.written {
            // Whoever asked may have gone away.
            let _ = written.send(result);
        }
    }

    /// What fails is told here: mostly nobody waits for it.
    async fn store_gathered(&self) -> Result<(), StoreError> {
        let lines = self.drained();
        if lines.is_empty() {
            return Ok(());
        }
        let count: u64 = lines.iter().map(|line| line.count).sum();
        tracing::warn!(count, callers = lines.len(), "requests were refused; the audit says whose");
        let recorded = self.store.record(lines).await;
        if let Err(error) = &recorded {
            tracing::error!(%error, count, "refused acts could not be recorded");
        }
        recorded
    }
}

fn others() -> Act {
    let all = |text: &str| text.to_owned();
    Act { principal: None, peer: None, act: all("several"), target: all("several callers"), request_id: None }
}

/// An administrative act under way. Dropped without an outcome, it is recorded as one whose end is not known.
#[derive(Debug)]
#[must_use]
pub struct Begun {
    audit: Audit,
    act: Option<Act>,
}

impl Begun {
    /// Records how it ended, without waiting.
    pub fn end(mut self, outcome: Outcome, status: Option<u16>) {
        self.tell(outcome, status);
    }

    /// The same, durable on return.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn ended(mut self, outcome: Outcome, status: Option<u16>) -> Result<(), StoreError> {
        let Some(act) = self.act.take() else { return Ok(()) };
        self.audit.write_now(Work::Lines(vec![act.line(self.audit.now(), outcome, status, 1)])).await
    }

    fn tell(&mut self, outcome: Outcome, status: Option<u16>) {
        let Some(act) = self.act.take() else { return };
        let work = Work::Lines(vec![act.line(self.audit.now(), outcome, status, 1)]);
        let job = Job { work, written: None };
        if self.audit.queue.try_send(job).is_err() {
            tracing::error!(act = act.act, "the outcome of an administrative act could not be recorded");
        }
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        self.tell(Outcome::Unknown, None);
    }
}
