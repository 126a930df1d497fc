//! Fires due timers: each once, late rather than never. They stand in the index by their instants; whether one still counts
//! is decided by the instance's stream.

use std::{collections::HashMap, num::NonZeroU32, sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use tokio::time::Instant;

use super::{
    desk::{Desk, Telling},
    index::{DUE, DueRow, INDEX},
    worker::{self, Setback},
};
use crate::{
    command_bus::RequestContext,
    failpoint,
    ports::StoreError,
    saga::{SagaOrder, derived_command_id},
    view::{ListRange, Selection, instant_prefix},
};

/// A timer that was fired and still stands in the index is fired again after so long: the first may have failed.
const AGAIN: Duration = Duration::from_secs(2);

/// The timers fired lately, by their sorts; as long as the index has them.
#[derive(Debug, Default)]
pub(super) struct Timers {
    fired: HashMap<Box<str>, Instant>,
}

impl Timers {
    /// Fires what is due, and notes when the next timer is.
    pub async fn fire_due(&mut self, desk: &Arc<Desk>, now: DateTime<Utc>) -> Result<(), StoreError> {
        desk.news.take_due();
        let limit = NonZeroU32::new(desk.limits.page_rows).unwrap_or(NonZeroU32::MIN);
        let mut list = ListRange { limit, ..ListRange::new(DUE, "") };
        let bound = format!("{}~", instant_prefix(now));
        self.fired.retain(|_, at| at.elapsed() < AGAIN);
        loop {
            let page = desk.views.read(INDEX, &Selection::List(list.clone())).await;
            let rows = match page {
                Ok(page) => page.map(|page| page.rows).unwrap_or_default(),
                Err(error) => {
                    desk.news.note_due(now);
                    return Err(error);
                }
            };
            for (sort, data) in &rows {
                let Ok(row) = serde_json::from_slice::<DueRow>(data) else { continue };
                if **sort > *bound {
                    desk.news.note_due(row.timer.due_at);
                    return Ok(());
                }
                if self.fired.contains_key(sort) {
                    // Looked at again until the index has seen it.
                    desk.news.note_due(now + chrono::Duration::milliseconds(100));
                    continue;
                }
                let Some(place) = desk.place().await else { return Ok(()) };
                if !desk.may_work() {
                    return Ok(());
                }
                self.fired.insert(sort.clone(), Instant::now());
                // It may fail; then it still stands here when that time has passed.
                desk.news.note_due(now + chrono::Duration::from_std(AGAIN).unwrap_or_default());
                let desk_of_it = desk.clone();
                desk.tasks.spawn(async move {
                    fire(&desk_of_it, row).await;
                    drop(place);
                });
            }
            match rows.last() {
                Some((sort, _)) if rows.len() >= limit.get() as usize => list.after = Some(sort.clone()),
                _ => return Ok(()),
            }
        }
    }
}

async fn fire(desk: &Arc<Desk>, DueRow { saga_id, timer }: DueRow) {
    failpoint::pass("saga-timer-firing");
    let label = format!("fire/{}/{}", timer.name, timer.due_at.timestamp_micros());
    let command = derived_command_id(&saga_id, timer.due_at, &label);
    let fired = async {
        let known = desk.load(&saga_id).await?;
        let Some(known) = known.filter(|known| known.record.status.is_open()) else { return Ok(None) };
        let context = RequestContext {
            correlation_id: known.record.correlation_id.clone(),
            causation_id: Some(Arc::from(saga_id.as_str())),
            traceparent: known.record.traceparent.clone(),
        };
        let order = SagaOrder::Fire { timer: timer.name.clone(), due_at: timer.due_at };
        let told = desk.tell(&saga_id, order, Telling::internal(command, context)).await?;
        Ok::<_, Setback>(Some(told))
    };
    match fired.await {
        Ok(Some(told)) => {
            failpoint::pass("saga-timer-fired");
            desk.is_well(&saga_id);
            desk.work_on(&saga_id, told.known());
        }
        Ok(None) => {}
        Err(Setback::Fault(reason)) => drop(worker::failed(desk, &saga_id, reason).await),
        // The index keeps it, so it comes again.
        Err(setback) => tracing::debug!(saga.id = %saga_id, timer = timer.name, ?setback, "a timer did not fire yet"),
    }
}
