//! Verifications: at once for whoever waits, or as an operation that goes on by itself.

use std::sync::{
    Arc, PoisonError,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use event_sourcing_actors::ports::{Operation, OperationStatus, OperationUpdate, StoreError};
use tokio::{task::JoinHandle, time::Duration};
use uuid::Uuid;

use super::{
    Integrity,
    note::{NoteError, SignedCheckpoint},
    report::Report,
    verify::{Progress, VerifyError, Wanted, verify},
};

/// The kind of an operation that verifies the log.
pub const KIND: &str = "integrity-verify";
/// What it is done to.
const SUBJECT: &str = "log";
/// How often its progress is told.
const TELL: Duration = Duration::from_millis(500);
/// A verification that has told nothing for so long has ended with its process.
const SILENCE: Duration = Duration::from_secs(30);
/// Between two looks for such.
const LOOK: Duration = Duration::from_secs(10);
/// Why it has failed then.
const CUT_OFF: &str = "the process that verified ended before it was done, and what it had found is not known; begin \
                       another verification: `verify`, or POST /api/v1/integrity/verify";

/// Why a verification does not begin.
#[derive(Debug, thiserror::Error)]
pub enum BeginError {
    /// The checkpoint is none of this store.
    #[error("{0}")]
    Checkpoint(String),
    /// The folder of the evidence cannot be read.
    #[error("the folder of the evidence cannot be read: {0}")]
    Folder(#[from] std::io::Error),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A verification under way in this process.
#[derive(Debug)]
pub(super) struct Running {
    id: Uuid,
    task: JoinHandle<()>,
}

impl Integrity {
    /// What this process knows to hold a log against: the checkpoints of the folder, of the targets, and of the history.
    ///
    /// # Errors
    /// [`BeginError::Folder`]; [`BeginError::Checkpoint`] when `from` is none that a known key has signed.
    pub async fn wanted(&self, from: Option<&str>) -> Result<Wanted, BeginError> {
        let known = self.vault.with(|vault| Ok((vault.outside()?, vault.history()?, vault.keys()?)));
        let (outside, history, keys) = known.await?;
        if let Some(altered) = outside.altered.into_iter().next() {
            return Err(BeginError::Checkpoint(format!("a checkpoint outside of the database was altered: {altered}")));
        }
        let from = from.map(|note| SignedCheckpoint::read(note, &keys)).transpose();
        let from = from.map_err(|error: NoteError| BeginError::Checkpoint(format!("the checkpoint: {error}")))?;
        if let Some(from) = &from {
            if from.checkpoint.origin.store_id != self.store.tree_id() {
                return Err(BeginError::Checkpoint("the checkpoint is of another store".to_owned()));
            }
            if !from.is_signed && !keys.is_empty() {
                let reason = "the checkpoint is signed by no key that is known here".to_owned();
                return Err(BeginError::Checkpoint(reason));
            }
        }
        let mut all = history;
        all.extend(outside.last.into_iter().map(|found| found.signed));
        Ok(Wanted { outside: all, from, ..Wanted::default() })
    }

    /// Verifies the log while the caller waits.
    ///
    /// # Errors
    /// [`VerifyError`].
    pub async fn verify(&self, wanted: Wanted, progress: Progress<'_>) -> Result<Report, VerifyError> {
        let report = verify(&*self.store, &*self.clock, wanted, progress).await?;
        if report.intact {
            self.verified.set(report.verified_position.cast_signed());
        }
        Ok(report)
    }

    /// Begins a verification that goes on by itself; the one under way in this process, if there is one.
    ///
    /// # Errors
    /// [`BeginError`].
    pub async fn begin_verification(self: &Arc<Self>, from: Option<&str>) -> Result<Operation, BeginError> {
        let wanted = self.wanted(from).await?;
        let under_way = {
            let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
            running.as_ref().filter(|running| !running.task.is_finished()).map(|running| running.id)
        };
        if let Some(id) = under_way
            && let Some(operation) = self.views.operation(id).await?
        {
            return Ok(operation);
        }
        let (id, now) = (Uuid::now_v7(), self.clock.now());
        let operation = Operation {
            id,
            kind: KIND.to_owned(),
            subject: SUBJECT.to_owned(),
            status: OperationStatus::Running,
            done: 0,
            total: self.store.tree().await?.head,
            result: None,
            error: None,
            created_at: now,
            updated_at: now,
        };
        self.views.begin_operation(operation.clone()).await?;
        let task = tokio::spawn(self.clone().carry_out(operation.clone(), wanted));
        *self.running.lock().unwrap_or_else(PoisonError::into_inner) = Some(Running { id, task });
        Ok(operation)
    }

    /// Gives a verification up, in whichever process it runs.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn cancel_verification(&self, operation: &Operation) -> Result<(), StoreError> {
        let update = OperationUpdate { status: OperationStatus::Cancelled, ..news(operation, operation.done) };
        self.views.update_operation(update).await
    }

    async fn carry_out(self: Arc<Self>, operation: Operation, wanted: Wanted) {
        let (done, given_up) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (told, asked) = (done.clone(), given_up.clone());
        let mut progress = move |so_far, _| {
            told.store(so_far, Ordering::Relaxed);
            !asked.load(Ordering::Relaxed)
        };
        let mut work = Box::pin(self.verify(wanted, &mut progress));
        let outcome = loop {
            tokio::select! {
                outcome = &mut work => break outcome,
                () = tokio::time::sleep(TELL) => {}
            }
            // News that do not arrive harm nothing; the next ones will.
            let _ = self.views.update_operation(news(&operation, done.load(Ordering::Relaxed))).await;
            let now = self.views.operation(operation.id).await;
            let is_over = now.is_ok_and(|now| now.is_some_and(|now| now.status != OperationStatus::Running));
            given_up.store(is_over || self.stop.is_cancelled(), Ordering::Relaxed);
        };
        drop(work);
        let update = match outcome {
            Ok(report) => ended(&operation, &report),
            Err(error) => OperationUpdate {
                status: OperationStatus::Failed,
                // Where an operator gave it up it is on record as cancelled, and stays so.
                error: Some(if self.stop.is_cancelled() { CUT_OFF.to_owned() } else { error.to_string() }),
                ..news(&operation, done.load(Ordering::Relaxed))
            },
        };
        if let Err(error) = self.views.update_operation(update).await {
            tracing::warn!(%error, "the end of a verification could not be recorded");
        }
    }

    /// Ends verifications on record whose process has ended, also those of other processes; until the end of this one.
    pub(super) async fn end_silent_verifications(self: Arc<Self>) {
        let look = async || match self.views.end_silent(KIND, SILENCE, CUT_OFF).await {
            Ok(ended) => {
                ended.iter().for_each(|operation| tracing::warn!(%operation, "a verification ended with its process"));
            }
            // The next look is soon.
            Err(error) => tracing::debug!(%error, "verifications that were cut off could not be looked for"),
        };
        let stop = self.stop.clone();
        let _ = stop
            .run_until_cancelled(async {
                loop {
                    look().await;
                    tokio::time::sleep(LOOK).await;
                }
            })
            .await;
    }

    /// Ends the verification under way in this process.
    pub(super) async fn end_verification(&self) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(mut running) = running
            && tokio::time::timeout(TELL * 4, &mut running.task).await.is_err()
        {
            running.task.abort();
        }
    }
}

fn news(operation: &Operation, done: u64) -> OperationUpdate {
    OperationUpdate {
        id: operation.id,
        status: OperationStatus::Running,
        done,
        total: operation.total,
        result: None,
        error: None,
    }
}

fn ended(operation: &Operation, report: &Report) -> OperationUpdate {
    if let Some(bad) = &report.first_bad {
        tracing::error!(position = bad.position, reason = bad.reason, "a verification found the log altered");
    }
    OperationUpdate {
        status: if report.intact { OperationStatus::Succeeded } else { OperationStatus::Failed },
        total: report.head_position,
        result: serde_json::to_vec(report).ok().map(Into::into),
        error: report.first_bad.as_ref().map(super::FirstBad::sentence),
        ..news(operation, report.verified_position)
    }
}
