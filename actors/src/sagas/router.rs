//! The one task that hands out work while this process owns the index: what commits told of, due timers, what is tried
//! again, and, after a change of owner, everything the index knows.
//!
//! A start after a crash is no thundering herd: at most [`SagaLimits::in_flight_max`](crate::limits::SagaLimits) instances
//! are worked on at once, the others wait in the index.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use chrono::DateTime;
use tokio::time::Instant;

use super::{
    desk::{Desk, Telling},
    index::{ADOPTED, COUNTS, INDEX, WORK, WorkRow},
    timers::Timers,
};
use crate::{
    command_bus::RequestContext,
    error::CommandError,
    freshness::Freshness,
    id::AggregateId,
    ports::{Direction, StoreError},
    saga::{SagaOrder, derived_command_id},
    view::{ListRange, RowKey, Selection},
};

/// Between two looks through the index, at least.
const SCAN_PAUSE: Duration = Duration::from_millis(20);

/// The task's memory.
#[derive(Debug)]
pub(super) struct Router {
    desk: Arc<Desk>,
    freshness: Freshness,
    /// For which time of ownership it is set up.
    tenure: Option<u64>,
    timers: Timers,
    scan_at: Instant,
}

impl Router {
    pub fn new(desk: Arc<Desk>, freshness: Freshness) -> Self {
        Self { desk, freshness, tenure: None, timers: Timers::default(), scan_at: Instant::now() }
    }

    /// Runs until it is told to stop.
    pub async fn run(mut self) {
        let desk = self.desk.clone();
        let mut next = Instant::now();
        loop {
            tokio::select! {
                () = desk.stop.cancelled() => return,
                () = desk.news.wake.notified() => {}
                () = tokio::time::sleep_until(next) => {}
            }
            if desk.news.tenure().is_none() {
                if self.tenure.take().is_some() {
                    desk.forget();
                }
                next = Instant::now() + desk.limits.look;
                continue;
            }
            next = match self.round().await {
                Ok(next) => next,
                Err(error) => {
                    tracing::warn!(%error, "the index of the sagas cannot be read; it is tried again");
                    Instant::now() + desk.limits.look.max(Duration::from_millis(100))
                }
            };
        }
    }

    /// Hands out what there is; when to look again.
    async fn round(&mut self) -> Result<Instant, StoreError> {
        let desk = self.desk.clone();
        let tenure = desk.news.tenure();
        if self.tenure != tenure {
            self.settle_in().await?;
            self.tenure = tenure;
        }
        for (id, told) in desk.news.take_work() {
            desk.work_on_if_new(&id, told);
        }
        let now = desk.bus.write_side.clock.now();
        if desk.news.next_due().is_some_and(|due| due <= now) {
            self.timers.fire_due(&desk, now).await?;
        }
        let (due, later) = desk.take_later();
        for id in due {
            desk.work_on(&id, None);
        }
        if Instant::now() >= self.scan_at && desk.has_places() && desk.news.take_rest() {
            let began = Instant::now();
            if let Err(error) = self.scan().await {
                desk.news.leave_rest();
                return Err(error);
            }
            self.scan_at = Instant::now() + SCAN_PAUSE.max(began.elapsed() * 5);
        }
        let mut next = Instant::now() + desk.limits.look;
        next = later.map_or(next, |later| next.min(later));
        if desk.news.has_rest() && desk.has_places() {
            next = next.min(self.scan_at);
        }
        let until_due = desk.news.next_due().and_then(|due| (due - now).to_std().ok());
        Ok(until_due.map_or(next, |wait| next.min(Instant::now() + wait)))
    }

    /// At the beginning of a time of ownership: whatever was remembered is void, and the index must have come as far as
    /// the log was when it began, so that little is done in vain.
    async fn settle_in(&mut self) -> Result<(), StoreError> {
        let desk = self.desk.clone();
        desk.forget();
        self.timers = Timers::default();
        // Also when a router follows one that panicked within one time of ownership.
        desk.news.leave_rest();
        desk.news.note_due(DateTime::UNIX_EPOCH);
        let head = desk.events.head().await?;
        let mut index = self.freshness.subscribe(INDEX);
        let caught_up = index.wait_for(|progress| progress.position >= head);
        tokio::select! {
            _ = caught_up => {}
            () = desk.stop.cancelled() => return Ok(()),
            // An index that cannot follow is told of by its own health; timers and open instances must not wait for it.
            () = tokio::time::sleep(SETTLE_MAX) => tracing::warn!("the index of the sagas lags; work begins all the same"),
        }
        self.adopt().await?;
        let counts = Selection::List(ListRange { limit: PAGE, ..ListRange::new(COUNTS, "") });
        let rows = desk.views.read(INDEX, &counts).await?.map(|page| page.rows).unwrap_or_default();
        for (saga, data) in rows {
            if let Ok(counts) = serde_json::from_slice(&data) {
                desk.news.show(&saga, &counts);
            }
        }
        tracing::info!("this process works on the sagas");
        Ok(())
    }

    /// Says of each saga that wants events since when it sees them: from now on.
    async fn adopt(&self) -> Result<(), StoreError> {
        let desk = &self.desk;
        if desk.bus.write_side.is_branch {
            // There it is from the fork on, and nobody need say so.
            return Ok(());
        }
        for saga in desk.definitions.all_newest().filter(|saga| !saga.interest().is_empty()) {
            let name = saga.name();
            let row = Selection::Row(RowKey::new(ADOPTED, "", name));
            if desk.views.read(INDEX, &row).await?.is_some_and(|page| !page.rows.is_empty()) {
                continue;
            }
            let Ok(id) = AggregateId::new(format!("saga-definition/{name}")) else { continue };
            let command = derived_command_id(&id, DateTime::UNIX_EPOCH, "adopt");
            let order = SagaOrder::Adopt { saga_type: name.to_owned() };
            let told = desk.tell(&id, order, Telling::internal(command, RequestContext::new())).await;
            desk.bus.write_side.registry.let_go(&id);
            match told {
                Ok(_) => {}
                // Somebody else's stream has the name, say: that concerns this saga alone.
                Err(
                    error @ (CommandError::TypeMismatch { .. }
                    | CommandError::Internal { .. }
                    | CommandError::Invalid { .. }
                    | CommandError::Forbidden { .. }),
                ) => tracing::error!(saga = name, stream = %id, %error, "a saga cannot be adopted: it sees no events"),
                Err(error) => return Err(StoreError::Unavailable { reason: error.to_string() }),
            }
        }
        Ok(())
    }

    /// Looks through everything that waits for an answer or has inputs, as long as there are places.
    async fn scan(&self) -> Result<(), StoreError> {
        let desk = &self.desk;
        let limit = NonZeroU32::new(desk.limits.page_rows).unwrap_or(NonZeroU32::MIN);
        let mut list = ListRange { limit, direction: Direction::Forward, ..ListRange::new(WORK, "") };
        loop {
            let page = desk.views.read(INDEX, &Selection::List(list.clone())).await?;
            let rows = page.map(|page| page.rows).unwrap_or_default();
            for (sort, data) in &rows {
                if !desk.has_places() {
                    desk.news.leave_rest();
                    return Ok(());
                }
                if let (Ok(id), Ok(row)) = (AggregateId::new(&**sort), serde_json::from_slice::<WorkRow>(data)) {
                    desk.work_on_if_new(&id, row);
                }
            }
            match rows.last() {
                Some((sort, _)) if rows.len() >= limit.get() as usize => list.after = Some(sort.clone()),
                _ => return Ok(()),
            }
        }
    }
}

/// How long the index may take to catch up at a change of owner.
const SETTLE_MAX: Duration = Duration::from_secs(30);
const PAGE: NonZeroU32 = NonZeroU32::MIN.saturating_add(999);
