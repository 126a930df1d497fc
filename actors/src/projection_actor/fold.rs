//! Folding a page of events into one generation's rows: loads what is missing in few calls, parks what fails.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    num::NonZeroU32,
};

use bytes::Bytes;
use tokio::time::Instant;

use super::context::{ProjectionContext, StepError};
use crate::{
    envelope::RecordedEvent,
    id::AggregateId,
    parked::HeldKeys,
    ports::{Checkpoint, Generation, Move, NewParked, ParkedFilter, Shadow},
    projection::{Applied, RowMemory, split_changes},
    version::{Position, Sequence},
    view::RowKey,
};

/// Rows asked of the store in one call.
const LOAD_ROWS_MAX: usize = 5_000;

/// Calls for one event; a projection that then asks for still more rows never ends.
const LOAD_ROUNDS_MAX: u32 = 64;

/// How often the rest of a page is looked through for missing rows; after that each event loads its own.
const SCANS_PER_PAGE_MAX: u32 = 4;

/// Changed rows; `None` removes.
pub(crate) type Changes = BTreeMap<RowKey, Option<Bytes>>;

/// One generation as its owner moves it.
#[derive(Debug)]
pub(crate) struct Track {
    pub generation: Generation,
    pub checkpoint: Checkpoint,
    pub memory: RowMemory,
    pub held: HeldKeys,
    /// Events that an operator left out of the rows served before: if they fail here too, they are left out again.
    pub skipped: HashSet<Position>,
}

/// What a page came to; remembered in the track, to be forgotten if it is not stored.
#[derive(Debug, Default)]
pub(crate) struct Folded {
    pub changes: Changes,
    pub parked: Vec<NewParked>,
    /// Those of them that are left out.
    pub skipped: Vec<Position>,
    /// Events applied.
    pub applied: u64,
}

/// An event that could not be applied.
#[derive(Debug)]
pub(crate) struct NotApplied {
    pub error: String,
    pub attempts: u32,
}

impl Folded {
    /// As a step of the generation.
    pub fn into_move(self, from: Position, to: Checkpoint) -> Move {
        let (puts, deletes) = split_changes(self.changes);
        Move { from, to, puts, deletes, parked: self.parked, skipped: self.skipped, ..Move::default() }
    }
}

impl Track {
    /// A generation nothing is remembered of.
    pub async fn open(
        context: &ProjectionContext,
        generation: Generation,
        checkpoint: Checkpoint,
    ) -> Result<Self, StepError> {
        let held = HeldKeys::load(context, generation, checkpoint.position).await?;
        Ok(Self { generation, checkpoint, memory: RowMemory::default(), held, skipped: HashSet::new() })
    }

    /// The same for a rebuild's rows: what operators skipped in the rows of `served` stays skipped.
    pub async fn open_shadow(
        context: &ProjectionContext,
        shadow: &Shadow,
        served: Generation,
    ) -> Result<Self, StepError> {
        let mut track = Self::open(context, shadow.generation, shadow.checkpoint).await?;
        let (page, mut after) = (NonZeroU32::MIN.saturating_add(999), Position::ZERO);
        loop {
            let parked = context.ask(context.views.parked(served, ParkedFilter::All, after, page)).await?;
            let Some(last) = parked.last() else { return Ok(track) };
            after = last.event.position;
            let skipped = parked.iter().filter(|parked| parked.skipped.is_some());
            track.skipped.extend(skipped.map(|parked| parked.event.position));
        }
    }

    /// Folds a page; one that takes a good part of a lease is given up ([`StepError::Slow`]), since with two owners that
    /// lose the lease in turn nobody would ever store it. `refused`: an event whose rows the store does not take, and why.
    pub async fn fold(
        &mut self,
        context: &ProjectionContext,
        page: &[RecordedEvent],
        refused: Option<&(Position, String)>,
    ) -> Result<Folded, StepError> {
        check_order(self.checkpoint.position, page)?;
        let mut folded = Folded::default();
        let mut scans = SCANS_PER_PAGE_MAX;
        let give_up = Instant::now() + context.limits.lease / 4;
        for (index, event) in page.iter().enumerate() {
            tokio::task::consume_budget().await;
            if index > 0 && Instant::now() >= give_up {
                return Err(StepError::Slow);
            }
            let key = context.projection.parking_key(event);
            if let Some(first) = self.held.first(context, self.generation, &key).await? {
                folded.parked.push(parked(event, &key, format!("waits for event {first} of {key}"), 0));
                continue;
            }
            let applied = match refused.filter(|(position, _)| *position == event.position) {
                Some((_, reason)) => Err(NotApplied { error: reason.clone(), attempts: 1 }),
                None => self.apply(context, event, &page[index + 1..], &mut scans).await?,
            };
            match applied {
                Ok(changes) => {
                    self.memory.take_over(&changes);
                    folded.changes.extend(changes);
                    folded.applied += 1;
                }
                Err(NotApplied { error, attempts }) if self.skipped.contains(&event.position) => {
                    folded.parked.push(parked(event, &key, error, attempts));
                    folded.skipped.push(event.position);
                }
                Err(NotApplied { error, attempts }) => {
                    let (projection, position) = (&context.name, event.position);
                    tracing::warn!(projection, %position, error, "an event cannot be applied; it is parked");
                    self.held.hold(context, &key, event.position)?;
                    folded.parked.push(parked(event, &key, error, attempts));
                }
            }
        }
        Ok(folded)
    }

    /// Applies one event, loading what it asks for; `rest` may need other rows soon. Nothing is taken over yet.
    pub async fn apply(
        &mut self,
        context: &ProjectionContext,
        event: &RecordedEvent,
        rest: &[RecordedEvent],
        scans: &mut u32,
    ) -> Result<Result<Changes, NotApplied>, StepError> {
        let (mut attempts, mut rounds) = (0, 0);
        loop {
            let error = match self.memory.apply(&*context.projection, event, &context.catalog) {
                Applied::Changes(changes) => return Ok(Ok(changes)),
                Applied::NotLoaded(mut missing) if rounds < LOAD_ROUNDS_MAX => {
                    rounds += 1;
                    if *scans > 0 {
                        *scans -= 1;
                        self.look_ahead(context, rest, &mut missing).await;
                    }
                    self.load(context, missing).await?;
                    continue;
                }
                Applied::NotLoaded(_) => format!("the projection asked for rows {rounds} times and wants still more"),
                Applied::Failed(reason) => reason,
            };
            attempts += 1;
            if attempts >= context.limits.apply_attempts {
                return Ok(Err(NotApplied { error, attempts }));
            }
            tokio::time::sleep(context.limits.apply_pause).await;
        }
    }

    /// Collects what later events of the page will ask for, as far as it can be known now.
    async fn look_ahead(&self, context: &ProjectionContext, rest: &[RecordedEvent], missing: &mut Vec<RowKey>) {
        for event in rest {
            tokio::task::consume_budget().await;
            if missing.len() >= LOAD_ROWS_MAX {
                break;
            }
            // What cannot be applied now is not asked: its turn comes.
            if let Applied::NotLoaded(more) = self.memory.apply(&*context.projection, event, &context.catalog) {
                missing.extend(more);
            }
        }
    }

    /// Remembers rows as the store has them.
    pub async fn load(&mut self, context: &ProjectionContext, mut keys: Vec<RowKey>) -> Result<(), StepError> {
        keys.sort_unstable();
        keys.dedup();
        // What is known may be newer than what is stored.
        keys.retain(|key| self.memory.known(key).is_none());
        for key in keys.extract_if(.., |key| key.problem().is_some()) {
            // No store could hold such a row.
            self.memory.remember(key, None);
        }
        for keys in keys.chunks(LOAD_ROWS_MAX) {
            let rows = context.ask(context.views.rows(self.generation, keys)).await?;
            for (key, data) in keys.iter().zip(rows) {
                self.memory.remember(key.clone(), data);
            }
        }
        Ok(())
    }

    /// After a commit: forgets rows if there are too many.
    pub fn trim(&mut self, context: &ProjectionContext) {
        if self.memory.len() > context.limits.rows_remembered_max {
            self.memory.clear();
        }
    }
}

/// An event for the list of parked ones.
pub(crate) fn parked(event: &RecordedEvent, key: &str, error: String, attempts: u32) -> NewParked {
    NewParked {
        position: event.position,
        key: key.to_owned(),
        aggregate_id: event.aggregate_id.clone(),
        event_type: event.event_type.clone(),
        error,
        attempts,
    }
}

/// Makes any mistake of order loud: positions rise, and so do the sequences of each stream.
fn check_order(after: Position, page: &[RecordedEvent]) -> Result<(), StepError> {
    let mut last = after;
    let mut streams: HashMap<&AggregateId, Sequence> = HashMap::new();
    for event in page {
        let before = streams.insert(&event.aggregate_id, event.sequence);
        if event.position <= last || before.is_some_and(|before| event.sequence <= before) {
            let (position, id, sequence) = (event.position, &event.aggregate_id, event.sequence);
            let reason = format!("the log came out of order: event {sequence} of {id} at position {position}");
            return Err(StepError::Halt { reason, position });
        }
        last = event.position;
    }
    Ok(())
}
