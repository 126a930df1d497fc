//! The watcher: looks at the states of all projections now and then, for metrics, health, and what other processes asked.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use super::Projections;
use crate::{
    envelope::EventFilter,
    ports::{ProjectionState, StoreError},
    projection_actor::ProjectionContext,
    version::Position,
};

/// Age of the oldest event after a checkpoint, in seconds; 0 when there is none, or none near that matters.
pub(super) async fn lag_seconds(
    context: &ProjectionContext,
    checkpoint: Position,
    head: Position,
) -> Result<f64, StoreError> {
    if checkpoint >= head {
        return Ok(0.0);
    }
    let mut next = context.ask(context.events.read_all(checkpoint, &context.interest, NonZeroU32::MIN)).await?;
    if next.events.is_empty() && next.examined < head {
        // Nothing that matters within a window of the store: how old the first one after is tells enough.
        let everything = EventFilter::default();
        next = context.ask(context.events.read_all(next.examined, &everything, NonZeroU32::MIN)).await?;
    }
    let age = next.events.first().map(|event| context.clock.now() - event.recorded_at);
    Ok(age.and_then(|age| age.to_std().ok()).map_or(0.0, |age| age.as_secs_f64()))
}

impl Projections {
    /// Looks until the runtime ends.
    pub(super) async fn watch(self, pause: Duration) {
        let Some(first) = self.contexts.first() else { return };
        let (stop, mut moved) = (first.stop.clone(), first.publisher.subscribe_views());
        // What the last event at each checkpoint was, so that it is read once.
        let mut shown = vec![Position::ZERO; self.contexts.len()];
        loop {
            // Before the look: news that come during it must not be slept over.
            moved.borrow_and_update();
            if let Err(error) = self.look(&mut shown).await {
                tracing::debug!(%error, "the states of the projections could not be read");
            }
            let news = async {
                // Read models may move many times a second.
                tokio::time::sleep(pause / 5).await;
                let _ = tokio::time::timeout(pause - pause / 5, moved.changed()).await;
            };
            if stop.run_until_cancelled(news).await.is_none() {
                return;
            }
        }
    }

    async fn look(&self, shown: &mut [Position]) -> Result<(), StoreError> {
        let Some(first) = self.contexts.first() else { return Ok(()) };
        let states = first.ask(self.views.states()).await?;
        // The log's watcher keeps it up to date.
        let head = first.publisher.head();
        for (context, shown) in self.contexts.iter().zip(shown) {
            if let Some(state) = states.iter().find(|state| state.name == context.name) {
                let head = head.max(state.checkpoint.position);
                // The others are shown all the same.
                if let Err(error) = show(context, state, head, shown).await {
                    tracing::debug!(%error, projection = context.name, "a projection could not be shown");
                }
            }
        }
        Ok(())
    }
}

/// Shows one state as metrics, and wakes the actor if it should look at it.
async fn show(
    context: &Arc<ProjectionContext>,
    state: &ProjectionState,
    head: Position,
    shown: &mut Position,
) -> Result<(), StoreError> {
    context.freshness.note(state);
    if context.board.saw(state.clone()) {
        context.nudge.notify_one();
    }
    let checkpoint = state.checkpoint.position;
    let lag_events = head.0.saturating_sub(checkpoint.0);
    let lag_seconds = lag_seconds(context, checkpoint, head).await?;
    {
        let mut news = context.board.lock();
        (news.lag_events, news.lag_seconds) = (lag_events, lag_seconds);
    }
    let metrics = &context.metrics;
    metrics.lag_events.set(Position(lag_events).as_i64());
    metrics.lag_seconds.set(lag_seconds);
    metrics.parked.set(Position(state.parked).as_i64());
    let ratio = |done: u64, total: u64| if total == 0 { 1.0 } else { done as f64 / total as f64 };
    metrics
        .rebuild_progress
        .set(state.shadow.map_or(0.0, |shadow| ratio(shadow.checkpoint.position.0.min(head.0), head.0)));
    if *shown != checkpoint
        && let Some(event) = context.event_at(checkpoint).await?
    {
        let seconds = Duration::from_micros(u64::try_from(event.recorded_at.timestamp_micros()).unwrap_or(0));
        metrics.last_event_timestamp.set(seconds.as_secs_f64());
        *shown = checkpoint;
    }
    Ok(())
}
