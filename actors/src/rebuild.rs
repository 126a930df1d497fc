//! Rebuilding: a shadow is filled beside the served rows, compared with them, and served in one commit.
//!
//! The owner of the served rows fills the shadow too, page by page between two live steps. As soon as both stand at
//! one position they move together, so they can be compared at any instant and swapped at any commit.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use crate::{
    ports::{OperationStatus, OperationUpdate, Shadow, StoreError, Tally, Transition},
    projection_actor::{Owner, Step, StepError},
};

/// Between two news of a rebuild's progress.
const PROGRESS: Duration = Duration::from_secs(1);

/// Measuring reads all rows of two generations: it may take so many times longer than any other call.
const TALLY_CALLS: u32 = 20;

impl Owner {
    /// The shadow's next step; whether there is more to do at once.
    pub async fn rebuild(&mut self) -> Result<bool, StepError> {
        let Some(shadow) = self.state.shadow else { return Ok(false) };
        if self.is_lockstep() {
            return self.compare(shadow).await;
        }
        let has_moved = self.advance(shadow).await?;
        let Some(shadow) = self.state.shadow.filter(|_| self.stands_still()) else { return Ok(has_moved) };
        // The served rows stand still: the shadow has to reach the log's head alone.
        let head = self.context.ask(self.context.events.head()).await?;
        self.context.publisher.raise(head);
        let rest = head.0.saturating_sub(shadow.checkpoint.position.0);
        if rest > u64::from(self.context.limits.batch_events_max) || (rest > 0 && self.tally.is_none()) {
            return Ok(true);
        }
        Ok(self.compare(shadow).await? || has_moved)
    }

    /// One page of the shadow, not beyond the served rows.
    async fn advance(&mut self, shadow: Shadow) -> Result<bool, StepError> {
        let context = self.context.clone();
        let from = shadow.checkpoint.position;
        let limit = self.limit(context.limits.rebuild_batch_events_max);
        let mut page = context.ask(context.events.read_all(from, &context.interest, limit)).await?;
        let bound = (!self.stands_still()).then_some(self.served.checkpoint);
        let to = match bound.filter(|bound| page.examined >= bound.position) {
            Some(bound) => {
                page.events.retain(|event| event.position <= bound.position);
                bound
            }
            None if page.examined <= from => return Ok(false),
            None => context.checkpoint_at(page.examined, &page.events).await?,
        };
        let refused = self.refused.clone();
        let Some(track) = &mut self.shadow else { return Ok(false) };
        let folded = track.fold(&context, &page.events, refused.as_ref()).await?;
        let step = Step {
            shadow: Some(folded.into_move(from, to)),
            operation: self.progress(shadow, to.position.0),
            ..Step::default()
        };
        match self.commit(step).await {
            Err(StepError::Refused(reason)) => self.narrow(&page.events, reason).await?,
            other => {
                other?;
                self.halvings = self.halvings.saturating_sub(1);
            }
        }
        Ok(true)
    }

    /// About once a second.
    fn progress(&mut self, shadow: Shadow, done: u64) -> Option<OperationUpdate> {
        if self.told_at.elapsed() < PROGRESS {
            return None;
        }
        self.told_at = Instant::now();
        Some(self.update(shadow, OperationStatus::Running, done, None, None))
    }

    fn update(
        &self,
        shadow: Shadow,
        status: OperationStatus,
        done: u64,
        result: Option<Value>,
        error: Option<String>,
    ) -> OperationUpdate {
        let total = self.context.publisher.head().0.max(self.state.checkpoint.position.0).max(done);
        let result = result.map(|result| result.to_string().into());
        OperationUpdate { id: shadow.operation, status, done, total, result, error }
    }

    /// Measures both generations beside the work, then swaps or gives up; whether it did.
    async fn compare(&mut self, shadow: Shadow) -> Result<bool, StepError> {
        let Some(tally) = self.tally.take_if(|tally| tally.is_finished()) else {
            if self.tally.is_none() {
                let context = self.context.clone();
                self.tally = Some(AbortOnDropHandle::new(tokio::spawn(async move {
                    let bound = context.limits.store_call * TALLY_CALLS;
                    let tallied = tokio::time::timeout(bound, context.views.tally(&context.name)).await;
                    context.nudge.notify_one();
                    let reason = format!("the generations could not be measured within {bound:?}");
                    tallied.unwrap_or(Err(StoreError::Unavailable { reason }))
                })));
            }
            return Ok(false);
        };
        let tally = tally.await.map_err(|_| StepError::Lost)??;
        // Without a shadow, or measured before both stood together: once more.
        let Some((served, built)) = tally.filter(|(_, built)| built.generation == shadow.generation) else {
            return Ok(true);
        };
        let is_gated = !self.stands_still() && served.parked == 0 && built.parked == 0;
        if is_gated && served.position != built.position {
            return Ok(true);
        }
        let result = self.result(shadow, served, built).await?;
        let is_equal = served.rows == built.rows && served.digest == built.digest;
        if is_gated && !is_equal && !shadow.accepts_difference {
            let reason = format!(
                "the rebuilt rows differ from the served ones at position {}: {} rows with digest {:016x}, served {} \
                 rows with digest {:016x}; rebuild with accepts_difference if the rebuilt ones are right",
                built.position, built.rows, built.digest, served.rows, served.digest
            );
            self.drop_shadow(shadow, reason, Some(result)).await?;
            return Ok(true);
        }
        let done = shadow.checkpoint.position.0;
        let operation = Some(self.update(shadow, OperationStatus::Succeeded, done, Some(result), None));
        let transition = Some(Transition::Swap { force: self.stands_still() });
        let replaced = self.served.generation;
        self.refuse_requests(replaced).await?;
        self.commit(Step { transition, operation, ..Step::default() }).await?;
        // Some may have come in between; from now on none can.
        self.refuse_requests(replaced).await?;
        let (projection, position) = (&self.context.name, built.position);
        tracing::info!(projection, operation = %shadow.operation, %position, rows = built.rows, "rebuilt rows are served");
        self.prune_soon();
        Ok(true)
    }

    async fn result(&self, shadow: Shadow, served: Tally, built: Tally) -> Result<Value, StepError> {
        let operation = self.context.ask(self.context.views.operation(shadow.operation)).await?;
        let began = operation.map_or_else(|| self.context.clock.now(), |operation| operation.created_at);
        let seconds = (self.context.clock.now() - began).num_milliseconds().max(0);
        Ok(json!({
            "rows": built.rows,
            "digest": format!("{:016x}", built.digest),
            "served_rows": served.rows,
            "served_digest": format!("{:016x}", served.digest),
            "position": built.position,
            "served_position": served.position,
            "parked": built.parked,
            "served_parked": served.parked,
            "version": shadow.version,
            "served_version": self.state.version,
            "seconds": std::time::Duration::from_millis(u64::try_from(seconds).unwrap_or(0)).as_secs_f64(),
            "events": shadow.checkpoint.position,
        }))
    }

    /// Gives the shadow up; its operation failed.
    pub async fn drop_shadow(
        &mut self,
        shadow: Shadow,
        reason: String,
        result: Option<Value>,
    ) -> Result<(), StepError> {
        let projection = &self.context.name;
        tracing::warn!(projection, operation = %shadow.operation, reason, "a rebuild is given up");
        let done = shadow.checkpoint.position.0;
        let operation = Some(self.update(shadow, OperationStatus::Failed, done, result, Some(reason)));
        self.commit(Step { transition: Some(Transition::DropShadow), operation, ..Step::default() }).await?;
        self.prune_soon();
        Ok(())
    }
}
