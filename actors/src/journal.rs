//! The journal: group commit. One task in front of the store takes whatever is queued, appends it in one call,
//! answers each caller itself, and tells an aggregate only when an append did not go as decided.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    ops::ControlFlow,
    panic::AssertUnwindSafe,
    sync::Arc,
    time::Duration,
};

use futures_util::FutureExt;
use ractor::ActorRef;
use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, Span};

use crate::{
    aggregate_actor::AggregateMessage,
    answer::Answer,
    envelope::{NewEvent, Snapshot, StreamHead},
    error::CommandError,
    id::{AggregateId, EventId},
    limits::Limits,
    observe::Metrics,
    ports::{AppendBatch, AppendUnit, CommandProbe, Committed, EventStore, StoreError, StreamClaim, UnitOutcome},
    progress::Progress,
    pubsub::Publisher,
    version::Position,
    work::Work,
};

/// One decided command on its way to the store.
#[derive(Debug)]
pub(crate) struct Member {
    pub work: Arc<Work>,
    pub owner: ActorRef<AggregateMessage>,
    pub progress: Arc<Progress>,
    /// The aggregate's generation; counts from 1.
    pub generation: u64,
    /// Number of this member in its aggregate's life.
    pub ticket: u64,
    pub aggregate_id: AggregateId,
    /// What it was decided on.
    pub predecessor: StreamHead,
    pub probe: CommandProbe,
    pub events: Vec<NewEvent>,
    pub answer: Answer,
    pub snapshot: Option<Snapshot>,
}

impl Member {
    fn is_dead(&self) -> bool {
        self.progress.is_dead(self.generation)
    }

    fn bytes(&self) -> usize {
        self.events.iter().map(|event| event.data.len() + event.metadata.len()).sum()
    }
}

/// The consecutive members of one stream in one batch.
type Unit = Vec<Member>;

/// The journal task's state.
pub(crate) struct Journal {
    pub store: Arc<dyn EventStore>,
    pub queue: mpsc::Receiver<Box<Member>>,
    pub publisher: Publisher,
    pub snapshots: mpsc::Sender<Snapshot>,
    pub limits: Limits,
    pub metrics: Metrics,
    /// Ends it, once nobody sends any more: whoever holds the runtime holds a sender too.
    pub closing: CancellationToken,
}

impl Journal {
    /// Runs until it is told to end, or every sender is gone, and the queue is empty.
    pub async fn run(mut self) {
        let closing = self.closing.clone();
        let mut waiting: VecDeque<Member> = VecDeque::new();
        let mut was_busy = false;
        loop {
            if waiting.is_empty() {
                let first = match closing.run_until_cancelled(self.queue.recv()).await {
                    Some(first) => first,
                    None => {
                        self.queue.close();
                        self.queue.recv().await
                    }
                };
                let Some(first) = first else { return };
                waiting.push_back(*first);
            }
            self.gather(&mut waiting, was_busy).await;
            let units = self.next_batch(&mut waiting);
            was_busy = units.len() > 1;
            if !units.is_empty() && self.append(units).await.is_break() {
                // Whoever owns the runtime sees in its health that the journal has ended.
                return;
            }
        }
    }

    /// Takes what is queued. After a shared commit its callers are just sending their next commands: let them run as long
    /// as more arrives; an idle journal waits for nothing.
    async fn gather(&mut self, waiting: &mut VecDeque<Member>, was_busy: bool) {
        loop {
            let before = waiting.len();
            while waiting.len() < self.limits.batch_events_max
                && let Ok(member) = self.queue.try_recv()
            {
                waiting.push_back(*member);
            }
            let is_more = waiting.len() > before && waiting.len() < self.limits.batch_events_max;
            if !was_busy || !is_more {
                return;
            }
            tokio::task::yield_now().await;
        }
    }

    /// Cuts the next batch from the front: within the bounds, no id or key twice, each stream's members in order.
    fn next_batch(&self, waiting: &mut VecDeque<Member>) -> Vec<Unit> {
        let mut units: Vec<Unit> = Vec::new();
        let mut unit_of: HashMap<AggregateId, usize> = HashMap::new();
        let mut ids: HashSet<EventId> = HashSet::new();
        let mut keys: HashSet<(Arc<str>, Arc<str>)> = HashSet::new();
        let mut deferred: VecDeque<Member> = VecDeque::new();
        let mut deferred_streams: HashSet<AggregateId> = HashSet::new();
        let (mut events, mut bytes) = (0, 0);
        while let Some(member) = waiting.pop_front() {
            if member.is_dead() {
                continue;
            }
            let (more_events, more_bytes) = (member.events.len().max(1), member.bytes());
            let is_full = events > 0
                && (events + more_events > self.limits.batch_events_max
                    || bytes + more_bytes > self.limits.batch_bytes_max);
            if is_full {
                waiting.push_front(member);
                break;
            }
            let key = member.probe.key.as_ref().map(|key| (key.principal.clone(), key.key.clone()));
            let is_twice = member.probe.event_ids.iter().any(|id| ids.contains(id))
                || key.as_ref().is_some_and(|key| keys.contains(key));
            // A new incarnation may follow the old one's members: another owner means another unit, hence later.
            let is_foreign = unit_of.get(&member.aggregate_id).is_some_and(|unit| {
                units[*unit].first().is_some_and(|first| {
                    first.owner.get_id() != member.owner.get_id() || first.generation != member.generation
                })
            });
            if is_twice || is_foreign || deferred_streams.contains(&member.aggregate_id) {
                deferred_streams.insert(member.aggregate_id.clone());
                deferred.push_back(member);
                continue;
            }
            events += more_events;
            bytes += more_bytes;
            ids.extend(&member.probe.event_ids);
            keys.extend(key);
            match unit_of.get(&member.aggregate_id) {
                Some(unit) => units[*unit].push(member),
                None => {
                    unit_of.insert(member.aggregate_id.clone(), units.len());
                    units.push(vec![member]);
                }
            }
        }
        deferred.append(waiting);
        *waiting = deferred;
        units
    }

    /// Appends a batch and settles it; a batch that the store refuses is halved until only the guilty member is left.
    /// Breaks when nothing more may be acknowledged.
    async fn append(&self, units: Vec<Unit>) -> ControlFlow<()> {
        let mut batches = vec![units];
        while let Some(mut units) = batches.pop() {
            // What follows a refused command of its stream is decided again; to try it would count as a loss of its own.
            units.retain(|unit| !unit.first().is_some_and(Member::is_dead));
            if units.is_empty() {
                continue;
            }
            match self.try_append(&units).await {
                Ok(outcomes) => self.settle(units, outcomes),
                Err(StoreError::Unavailable { reason }) => leave_open(units, &reason),
                Err(StoreError::DurabilityLost { reason }) => {
                    leave_open(units, &reason);
                    tracing::error!(reason, "the journal ends: what is stored may not be durable");
                    return ControlFlow::Break(());
                }
                Err(error) if units.len() > 1 => {
                    tracing::warn!(%error, units = units.len(), "a batch was refused; looking for the guilty command");
                    let rest = units.split_off(units.len() / 2);
                    batches.extend([rest, units]); // the first half is taken next
                }
                Err(error) => {
                    let Some(mut unit) = units.pop() else { continue };
                    if unit.len() > 1 {
                        let rest = unit.split_off(unit.len() / 2);
                        batches.extend([vec![rest], vec![unit]]);
                        continue;
                    }
                    refuse_unit(unit, &error);
                }
            }
        }
        ControlFlow::Continue(())
    }

    /// One append, repeated with the same batch while its outcome is unknown, until the bound.
    async fn try_append(&self, units: &[Unit]) -> Result<Vec<UnitOutcome>, StoreError> {
        let give_up = Instant::now() + self.limits.journal_retry;
        let mut pause = Duration::from_millis(20);
        let (span, events) = (span(units), units.iter().flatten().map(|member| member.events.len()).sum::<usize>());
        self.metrics.batch_events.observe(events as f64);
        loop {
            // Nobody drops this task half-way: shutdown lets go of it.
            let append = self.store.append(batch(units)).instrument(span.clone());
            let result = AssertUnwindSafe(append).catch_unwind().await;
            let error = match result {
                Ok(Ok(outcomes)) => return Ok(outcomes),
                Ok(Err(StoreError::Unavailable { reason })) => StoreError::Unavailable { reason },
                Ok(Err(error)) => return Err(error),
                // Nobody knows what state the store is in.
                Err(_) => return Err(StoreError::DurabilityLost { reason: "the append panicked".to_owned() }),
            };
            if Instant::now() + pause >= give_up {
                return Err(error);
            }
            tracing::warn!(%error, "append of unknown outcome; the same batch goes again");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(500));
        }
    }

    fn settle(&self, units: Vec<Unit>, outcomes: Vec<UnitOutcome>) {
        // Before the answers leave: who has heard one finds the head at least there.
        let heads = units.iter().zip(&outcomes).map(|(unit, outcome)| head_after(unit, outcome));
        if let Some(head) = heads.max().filter(|head| *head > Position::ZERO) {
            self.publisher.raise(head);
        }
        for (unit, outcome) in units.into_iter().zip(outcomes) {
            match outcome {
                UnitOutcome::Committed(committed) => self.commit(unit, committed),
                UnitOutcome::Known { commands } => fail_unit(unit, &commands, |_| {}),
                UnitOutcome::Stale => {
                    self.metrics.conflicts.inc();
                    for member in &unit {
                        member.work.lose();
                    }
                    fail_unit(unit, &[], |_| {});
                }
                // To wait for another's turn is not to lose: the turn is short, and the budget is for races.
                UnitOutcome::Wait => fail_unit(unit, &[], |member| member.work.wait()),
                UnitOutcome::Failed(error) => refuse_unit(unit, &error),
            }
        }
    }

    /// Answers a committed unit.
    fn commit(&self, unit: Unit, committed: Committed) {
        let mut next = committed.first_position;
        if let Some(first) = unit.iter().find_map(|member| member.events.first()) {
            let count: usize = unit.iter().map(|member| member.events.len()).sum();
            self.metrics.events_appended.with_label_values(&[first.aggregate_type.as_str()]).inc_by(count as u64);
        }
        for member in unit {
            let count = member.events.len() as u64;
            if count > 0 {
                member.progress.raise_position(Position(next.0 + count - 1));
            }
            member.progress.settle(member.ticket);
            member.work.answer(member.answer.settled(next, member.progress.position()));
            next = next.plus(count);
            if let Some(snapshot) = member.snapshot {
                // A full queue costs a longer replay some day, no more.
                let _ = self.snapshots.try_send(snapshot);
            }
        }
    }
}

/// The position of the last event that a unit brought; 0 if it brought none.
fn head_after(unit: &Unit, outcome: &UnitOutcome) -> Position {
    let count: usize = unit.iter().map(|member| member.events.len()).sum();
    match outcome {
        UnitOutcome::Committed(committed) if count > 0 => Position(committed.first_position.0 + count as u64 - 1),
        _ => Position::ZERO,
    }
}

/// Nobody knows what became of these: their callers are told so.
fn leave_open(units: Vec<Unit>, reason: &str) {
    tracing::error!(reason, "the outcome of a batch stays unknown");
    for unit in units {
        fail_unit(unit, &[], |member| {
            let command_id = member.work.request.command_id;
            member.work.answer(Err(CommandError::OutcomeUnknown { command_id }));
        });
    }
}

/// The span of one commit: a child of the first command's, and told to follow from the others'.
fn span(units: &[Unit]) -> Span {
    let mut members = units.iter().flatten();
    let Some(first) = members.next() else { return Span::none() };
    let commands = units.iter().map(Vec::len).sum::<usize>();
    let span = tracing::debug_span!(
        parent: &first.work.span,
        "journal",
        aggregate.id = %first.aggregate_id,
        command.id = %first.work.request.command_id,
        batch.commands = commands,
    );
    if !span.is_disabled() {
        for member in members.take(LINKS_MAX) {
            span.follows_from(&member.work.span);
        }
    }
    span
}

/// Causes that one span is linked to.
const LINKS_MAX: usize = 64;

/// What the store is asked for a batch of units.
fn batch(units: &[Unit]) -> AppendBatch {
    AppendBatch { units: units.iter().map(|unit| append_unit(unit)).collect() }
}

fn append_unit(members: &[Member]) -> AppendUnit {
    let claim = members.first().map(|first| StreamClaim {
        aggregate_id: first.aggregate_id.clone(),
        head: first.predecessor,
        losses: members.iter().map(|member| member.work.losses()).max().unwrap_or(0),
    });
    AppendUnit {
        streams: claim.into_iter().collect(),
        commands: members.iter().map(|member| member.probe.clone()).collect(),
        events: members.iter().flat_map(|member| member.events.iter().cloned()).collect(),
    }
}

/// Answers what the store refused. A malformed command answers for itself alone: its neighbours in the unit are decided
/// again. If no command is, what is refused is the stream or the whole log, and it is refused to all.
fn refuse_unit(unit: Unit, error: &StoreError) {
    match error {
        // Nothing is wrong: somebody was late.
        StoreError::Closed { .. } => tracing::debug!(%error, "a branch takes no more commands"),
        error => tracing::error!(%error, "the store refused a command"),
    }
    let is_malformed = |member: &Member| {
        let alone = AppendBatch { units: vec![append_unit(std::slice::from_ref(member))] };
        alone.malformed().iter().any(Option::is_some)
    };
    let is_theirs = unit.len() > 1 && unit.iter().any(is_malformed);
    fail_unit(unit, &[], |member| {
        if !is_theirs || is_malformed(member) {
            member.work.answer(Err(match error {
                StoreError::ReadOnly { reason } => CommandError::ReadOnly { reason: reason.clone() },
                StoreError::Closed { reason } => CommandError::BranchClosed { reason: reason.clone() },
                error => CommandError::Internal { reason: error.to_string() },
            }));
        }
    });
}

/// Tells the aggregate that nothing of a unit was stored as decided. If its actor is gone, the callers send again.
fn fail_unit(unit: Unit, known: &[usize], mut answer: impl FnMut(&Member)) {
    let Some(first) = unit.first() else { return };
    first.progress.kill(first.generation);
    let message = AggregateMessage::Failed {
        generation: first.generation,
        known: known.iter().filter_map(|index| unit.get(*index)).map(|member| member.ticket).collect(),
    };
    let owner = first.owner.clone();
    for member in &unit {
        answer(member);
    }
    if owner.send_message(message).is_err() {
        for member in &unit {
            member.work.answer(Err(CommandError::Interrupted));
        }
    }
}
