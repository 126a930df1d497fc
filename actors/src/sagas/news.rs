//! What the owner of the index tells the workers: whether this process owns it, what there is to do, when timers are due.

use std::{
    collections::HashMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
};

use chrono::{DateTime, Utc};
use tokio::sync::Notify;

use super::index::{COUNTS, Counts, DUE, DueRow, WORK, WorkRow};
use crate::{
    id::AggregateId, observe::SagaMetrics, projection_actor::Audience, saga::SagaStatus, version::Position, view::Row,
};

/// Instances remembered from commits; when there are more, all are looked for in the index.
const WORK_MAX: usize = 10_000;

/// The board between the two.
#[derive(Debug)]
pub(crate) struct News {
    /// Raised each time this process begins to own the index; 0 = it does not.
    tenure: AtomicU64,
    tenures: AtomicU64,
    /// Instances with something to do, with the event that told so.
    work: Mutex<HashMap<AggregateId, Position>>,
    /// More than that is in the index.
    is_incomplete: AtomicBool,
    /// The first timer, in microseconds since 1970; `i64::MAX` = none is known.
    next_due: AtomicI64,
    pub wake: Notify,
    metrics: SagaMetrics,
    /// The sagas of this process.
    sagas: Vec<String>,
}

impl News {
    pub fn new(metrics: SagaMetrics, sagas: Vec<String>) -> Self {
        Self {
            tenure: AtomicU64::new(0),
            tenures: AtomicU64::new(0),
            work: Mutex::default(),
            is_incomplete: AtomicBool::new(false),
            next_due: AtomicI64::new(i64::MAX),
            wake: Notify::new(),
            metrics,
            sagas,
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<AggregateId, Position>> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Which time of ownership this is; none: another process works on the sagas.
    pub fn tenure(&self) -> Option<u64> {
        Some(self.tenure.load(Ordering::Acquire)).filter(|tenure| *tenure > 0)
    }

    /// What there is to do, as far as it was told since the last call.
    pub fn take_work(&self) -> HashMap<AggregateId, Position> {
        std::mem::take(&mut *self.lock())
    }

    /// Something is left in the index for which there was no place.
    pub fn leave_rest(&self) {
        self.is_incomplete.store(true, Ordering::Release);
    }

    /// Whether the index has to be looked through.
    pub fn take_rest(&self) -> bool {
        self.is_incomplete.swap(false, Ordering::AcqRel)
    }

    /// Whether the index is to be looked through.
    pub fn has_rest(&self) -> bool {
        self.is_incomplete.load(Ordering::Acquire)
    }

    /// A timer is due then: it is looked for in time.
    pub fn note_due(&self, at: DateTime<Utc>) {
        self.next_due.fetch_min(at.timestamp_micros(), Ordering::AcqRel);
    }

    /// When the first timer is due, as far as it was told; forgotten by being asked.
    pub fn take_due(&self) {
        self.next_due.store(i64::MAX, Ordering::Release);
    }

    /// When the first timer is due, as far as it was told.
    pub fn next_due(&self) -> Option<DateTime<Utc>> {
        DateTime::from_timestamp_micros(self.next_due.load(Ordering::Acquire))
    }

    /// Shows how many instances of a saga there are.
    pub fn show(&self, saga_type: &str, counts: &Counts) {
        let count = |status| i64::try_from(counts.0.get(&status).copied().unwrap_or(0)).unwrap_or(i64::MAX);
        let in_flight = count(SagaStatus::Running).saturating_add(count(SagaStatus::Compensating));
        self.metrics.in_flight.with_label_values(&[saga_type]).set(in_flight);
        self.metrics.failed.with_label_values(&[saga_type]).set(count(SagaStatus::Failed));
    }
}

impl Audience for News {
    fn opened(&self) {
        let tenure = self.tenures.fetch_add(1, Ordering::AcqRel) + 1;
        self.tenure.store(tenure, Ordering::Release);
        self.leave_rest();
        self.next_due.store(0, Ordering::Release);
        self.wake.notify_one();
    }

    fn closed(&self) {
        if self.tenure.swap(0, Ordering::AcqRel) > 0 {
            self.lock().clear();
            // What this process knew is another's to tell now; the series stay.
            for saga in &self.sagas {
                self.show(saga, &Counts::default());
            }
        }
    }

    fn moved(&self, rows: &[Row]) {
        let mut work = self.lock();
        for row in rows {
            match &*row.key.collection {
                WORK if work.len() >= WORK_MAX => self.leave_rest(),
                WORK => {
                    let told: Result<WorkRow, _> = serde_json::from_slice(&row.data);
                    if let (Ok(id), Ok(told)) = (AggregateId::new(&*row.key.sort), told) {
                        work.insert(id, told.position);
                    }
                }
                DUE => {
                    if let Ok(row) = serde_json::from_slice::<DueRow>(&row.data) {
                        self.note_due(row.timer.due_at);
                    }
                }
                COUNTS => {
                    if let Ok(counts) = serde_json::from_slice(&row.data) {
                        self.show(&row.key.sort, &counts);
                    }
                }
                _ => {}
            }
        }
        drop(work);
        self.wake.notify_one();
    }

    fn concerns(&self, row: &Row) -> bool {
        matches!(&*row.key.collection, WORK | DUE | COUNTS)
    }
}
