//! Parked events: which keys they hold back, and what operators want done with them.

use std::{collections::HashMap, num::NonZeroU32};

use serde_json::json;
use tokio::time::Instant;
use uuid::Uuid;

use crate::{
    envelope::RecordedEvent,
    ports::{Generation, Move, OperationStatus, OperationUpdate, ParkedEvent, ParkedFilter, ParkedRequest, StoreError},
    projection::split_changes,
    projection_actor::{Changes, Owner, ProjectionContext, Step, StepError},
    version::Position,
};

/// Parked events settled in one commit.
const SETTLE_EVENTS_MAX: NonZeroU32 = NonZeroU32::MIN.saturating_add(999);

/// Keys that are read from the store at most.
const KEYS_LOADED_MAX: u32 = 1_000_000;

/// The keys of one generation that wait behind a parked event, each with that event once it is known.
#[derive(Debug, Default)]
pub(crate) struct HeldKeys {
    keys: HashMap<String, Option<Position>>,
}

impl HeldKeys {
    /// Reads them from the store.
    pub async fn load(context: &ProjectionContext, generation: Generation, at: Position) -> Result<Self, StepError> {
        // More than the bound may be stored, if the bound was lowered.
        let limit = NonZeroU32::MIN.saturating_add(context.limits.parked_keys_max.max(KEYS_LOADED_MAX));
        let keys = context.ask(context.views.parked_keys(generation, limit)).await?;
        if keys.len() >= limit.get() as usize {
            return Err(too_many(context, at));
        }
        Ok(Self { keys: keys.into_iter().map(|key| (key, None)).collect() })
    }

    /// The event a key waits for, if it does.
    pub async fn first(
        &mut self,
        context: &ProjectionContext,
        generation: Generation,
        key: &str,
    ) -> Result<Option<Position>, StepError> {
        let Some(first) = self.keys.get_mut(key) else { return Ok(None) };
        if first.is_none() {
            let of_key = ParkedFilter::Key(key);
            let found = context.views.parked(generation, of_key, Position::ZERO, NonZeroU32::MIN);
            *first = context.ask(found).await?.first().map(|parked| parked.event.position);
        }
        match *first {
            // The list says nothing waits any more.
            None => {
                self.keys.remove(key);
                Ok(None)
            }
            some => Ok(some),
        }
    }

    /// From now on a key waits for this event.
    pub fn hold(&mut self, context: &ProjectionContext, key: &str, first: Position) -> Result<(), StepError> {
        if self.keys.len() >= context.limits.parked_keys_max as usize {
            return Err(too_many(context, first));
        }
        self.keys.insert(key.to_owned(), Some(first));
        Ok(())
    }

    /// What a key waits for is to be asked of the store.
    fn review(&mut self, key: &str) {
        if let Some(first) = self.keys.get_mut(key) {
            *first = None;
        }
    }
}

fn too_many(context: &ProjectionContext, position: Position) -> StepError {
    let reason = format!(
        "more than {} keys wait behind events that cannot be applied: mend the projection, then resume or rebuild it",
        context.limits.parked_keys_max
    );
    StepError::Halt { reason, position }
}

/// What an operator wants of one key; it may take several commits.
#[derive(Debug, Clone)]
pub(crate) struct Settling {
    key: String,
    position: Position,
    request: ParkedRequest,
    operation: Uuid,
    applied: u64,
    skipped: u64,
}

/// What one commit settles.
#[derive(Debug, Default)]
struct Settled {
    changes: Changes,
    step: Move,
    /// The event that stays, and why.
    stuck: Option<(Position, String)>,
    /// Time is up for one commit; there are more.
    is_cut: bool,
}

impl Owner {
    /// Does what operators want of parked events: one commit.
    pub async fn settle(&mut self) -> Result<(), StepError> {
        let generation = self.served.generation;
        let Some(mut settling) = self.next_request().await? else {
            // Somebody was faster, or the request was taken back.
            return self.renew().await;
        };
        let of_key = ParkedFilter::Key(&settling.key);
        let waiting = self.context.views.parked(generation, of_key, Position::ZERO, SETTLE_EVENTS_MAX);
        let waiting = self.context.ask(waiting).await?;
        let settled = self.try_again(&settling, &waiting).await?;
        settling.applied += settled.step.released.len() as u64;
        settling.skipped += settled.step.skipped.len() as u64;
        let is_last_page = waiting.len() < SETTLE_EVENTS_MAX.get() as usize;
        let is_whole = settled.stuck.is_some() || (is_last_page && !settled.is_cut);
        let update = settling.update(settled.stuck.as_ref(), is_whole);
        let others = others(&settling, &waiting, &settled, &update);
        let (puts, deletes) = split_changes(settled.changes);
        let served = Move { puts, deletes, ..settled.step };
        let step = Step { served: Some(served), operation: Some(update), ..Step::default() };
        match self.commit(step).await {
            Err(StepError::Refused(reason)) => return self.give_up(settling, &waiting, reason).await,
            other => other?,
        }
        self.served.held.review(&settling.key);
        // Their own requests were settled with it; the outcome is told when it is certain.
        for other in others {
            self.context.ask(self.context.views.update_operation(other)).await?;
        }
        self.settling = (!is_whole).then_some(settling);
        if is_whole { self.end_orphans(false).await } else { Ok(()) }
    }

    async fn next_request(&mut self) -> Result<Option<Settling>, StepError> {
        if let Some(settling) = self.settling.take() {
            return Ok(Some(settling));
        }
        let (generation, context) = (self.served.generation, &self.context);
        let requested = context.views.parked(generation, ParkedFilter::Requested, Position::ZERO, NonZeroU32::MIN);
        let first = context.ask(requested).await?.into_iter().next();
        Ok(first.and_then(|parked| {
            let (request, operation) = parked.request?;
            let (key, position) = (parked.event.key, parked.event.position);
            Some(Settling { key, position, request, operation, applied: 0, skipped: 0 })
        }))
    }

    /// Applies a key's events in order, as far as they go; those that others want skipped are. What is remembered counts
    /// only if it is stored.
    async fn try_again(&mut self, settling: &Settling, waiting: &[ParkedEvent]) -> Result<Settled, StepError> {
        let checkpoint = self.served.checkpoint;
        let mut settled = Settled {
            step: Move { from: checkpoint.position, to: checkpoint, ..Move::default() },
            ..Settled::default()
        };
        let is_skip = settling.request == ParkedRequest::Skip;
        let context = self.context.clone();
        let give_up = Instant::now() + context.limits.lease / 4;
        for (index, parked) in waiting.iter().enumerate() {
            let position = parked.event.position;
            if index > 0 && Instant::now() >= give_up {
                settled.is_cut = true;
                break;
            }
            if is_skip && position < settling.position {
                // The first of the key is another one, and nobody asked to try it again.
                settled.step.skipped.push(settling.position);
                settled.stuck = Some((position, parked.event.error.clone()));
                break;
            }
            let is_unwanted = matches!(parked.request, Some((ParkedRequest::Skip, _)));
            if is_unwanted || (is_skip && position == settling.position) {
                settled.step.skipped.push(position);
                continue;
            }
            let event = self.parked_event(position).await?;
            match self.served.apply(&context, &event, &[], &mut 0).await? {
                Ok(changes) => {
                    self.served.memory.take_over(&changes);
                    settled.changes.extend(changes);
                    settled.step.released.push(position);
                }
                Err(failed) => {
                    let mut again = parked.event.clone();
                    again.attempts = again.attempts.saturating_add(failed.attempts);
                    again.error.clone_from(&failed.error);
                    settled.stuck = Some((position, failed.error));
                    settled.step.retried.push(again);
                    // The request on a later event is answered too.
                    let asked = self.asked(settling, waiting).await?;
                    let later = asked.filter(|asked| asked.event.position > position);
                    settled.step.retried.extend(later.map(|asked| asked.event));
                    break;
                }
            }
        }
        Ok(settled)
    }

    /// The event that a request is about, however far behind the first of its key.
    async fn asked(&self, settling: &Settling, waiting: &[ParkedEvent]) -> Result<Option<ParkedEvent>, StepError> {
        let is_asked = |parked: &&ParkedEvent| parked.event.position == settling.position;
        if let Some(asked) = waiting.iter().find(is_asked) {
            return Ok(Some(asked.clone()));
        }
        let (generation, before) = (self.served.generation, Position(settling.position.0.saturating_sub(1)));
        let found = self.context.views.parked(generation, ParkedFilter::Requested, before, NonZeroU32::MIN);
        Ok(self.context.ask(found).await?.into_iter().next().filter(|parked| is_asked(&parked)))
    }

    /// Ends operations about parked events that no request stands for any more: somebody asked for what was being settled
    /// already, or an owner was interrupted before it could tell. Only the newest are looked at.
    pub async fn end_orphans(&self, was_interrupted: bool) -> Result<(), StepError> {
        let (context, generation) = (&self.context, self.served.generation);
        // Before the requests: who asks stores both at once.
        let operations = context.ask(context.views.operations(None, SETTLE_EVENTS_MAX)).await?;
        for operation in operations.iter().filter(|operation| operation.status == OperationStatus::Running) {
            let subject = operation.subject.rsplit_once('/').filter(|_| operation.kind.starts_with("parked-"));
            let Some((_, position)) = subject.filter(|(name, _)| *name == context.name) else { continue };
            let Ok(position) = position.parse().map(Position) else { continue };
            let before = Position(position.0.saturating_sub(1));
            let found = context.views.parked(generation, ParkedFilter::All, before, NonZeroU32::MIN);
            let found = context.ask(found).await?.into_iter().next();
            let error = match found.filter(|parked| parked.event.position == position) {
                Some(parked) if parked.request.is_some_and(|(_, id)| id == operation.id) => continue,
                Some(ParkedEvent { event, skipped: None, .. }) => {
                    Some(format!("event {position} still cannot be applied: {}", event.error))
                }
                None if was_interrupted => Some("it was interrupted: ask again for what is still parked".to_owned()),
                _ => None,
            };
            let status = if error.is_some() { OperationStatus::Failed } else { OperationStatus::Succeeded };
            let update = OperationUpdate { id: operation.id, status, done: 1, total: 1, result: None, error };
            context.ask(context.views.update_operation(update)).await?;
        }
        Ok(())
    }

    /// Answers what is still wanted of parked events of rows that are replaced: nobody comes back to them.
    pub async fn refuse_requests(&self, generation: Generation) -> Result<(), StepError> {
        let (context, mut after) = (&self.context, Position::ZERO);
        loop {
            let requested = context.views.parked(generation, ParkedFilter::Requested, after, SETTLE_EVENTS_MAX);
            let requested = context.ask(requested).await?;
            let Some(last) = requested.last() else { return Ok(()) };
            after = last.event.position;
            for (_, id) in requested.into_iter().filter_map(|parked| parked.request) {
                let error = Some("rebuilt rows have replaced those that this was about".to_owned());
                let status = OperationStatus::Failed;
                let update = OperationUpdate { id, status, done: 0, total: 1, result: None, error };
                context.ask(context.views.update_operation(update)).await?;
            }
        }
    }

    async fn parked_event(&self, position: Position) -> Result<RecordedEvent, StepError> {
        self.context.event_at(position).await?.ok_or_else(|| {
            let reason = format!("event {position} is parked, but the log does not hold it: rebuild the projection");
            StepError::Halt { reason, position }
        })
    }

    /// The store does not take the rows: the request is answered, and everything stays parked.
    async fn give_up(&mut self, settling: Settling, waiting: &[ParkedEvent], reason: String) -> Result<(), StepError> {
        self.forget().await?;
        let checkpoint = self.served.checkpoint;
        let asked = self.asked(&settling, waiting).await?;
        let retried = asked.map(|parked| parked.event).into_iter().collect();
        let served = Move { from: checkpoint.position, to: checkpoint, retried, ..Move::default() };
        let none = Settling { applied: 0, skipped: 0, ..settling };
        let update = none.update(Some(&(none.position, reason)), true);
        self.commit(Step { served: Some(served), operation: Some(update), ..Step::default() }).await
    }
}

impl Settling {
    fn update(&self, stuck: Option<&(Position, String)>, is_whole: bool) -> OperationUpdate {
        let is_done = stuck.is_none() || (self.request == ParkedRequest::Skip && self.skipped > 0);
        let status = match (is_whole, is_done) {
            (false, _) => OperationStatus::Running,
            (true, true) => OperationStatus::Succeeded,
            (true, false) => OperationStatus::Failed,
        };
        let mut result = json!({ "applied": self.applied, "skipped": self.skipped });
        if let Some((position, error)) = stuck {
            result["waiting_for"] = json!({ "position": position, "error": error });
        }
        let done = self.applied + self.skipped;
        OperationUpdate {
            id: self.operation,
            status,
            done,
            total: done.max(1),
            result: is_whole.then(|| result.to_string().into()),
            error: stuck
                .filter(|_| status == OperationStatus::Failed)
                .map(|(position, error)| format!("event {position} still cannot be applied: {error}")),
        }
    }
}

/// The outcome for other requests on events that were settled by the way, or tried in vain.
fn others(
    settling: &Settling,
    waiting: &[ParkedEvent],
    settled: &Settled,
    update: &OperationUpdate,
) -> Vec<OperationUpdate> {
    let told = |parked: &ParkedEvent| {
        let position = parked.event.position;
        let (_, id) = parked.request.filter(|(_, id)| *id != settling.operation)?;
        if settled.step.released.contains(&position) || settled.step.skipped.contains(&position) {
            return Some(OperationUpdate { id, status: OperationStatus::Succeeded, error: None, ..update.clone() });
        }
        settled.step.retried.iter().find(|again| again.position == position).map(|again| {
            let error = Some(format!("event {position} still cannot be applied: {}", again.error));
            OperationUpdate { id, status: OperationStatus::Failed, error, ..update.clone() }
        })
    };
    waiting.iter().filter_map(told).collect()
}

/// Tells a store's refusal from a failure of unknown outcome.
pub(crate) fn commit_error(error: StoreError) -> StepError {
    match error {
        StoreError::Refused { reason } => StepError::Refused(reason),
        error => StepError::Unknown(error),
    }
}
