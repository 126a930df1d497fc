//! Claims that a review found untrue, each of which held only after a change.

use std::{sync::Arc, time::Duration};

use event_sourcing_actors::{
    Aggregate, AggregateId, CommandData, DecisionContext, Limits, Position, Rejection, RuntimeBuilder, Sequence,
    Snapshot,
    command_bus::{CommandAccepted, CommandRequest, Idempotency},
    commands,
    envelope::EventFilter,
    error::CommandError,
    events,
    memory::MemoryStore,
    ports::{
        AppendBatch, AppendUnit, CommandProbe, Direction, EventStore, KeyRecord, SnapshotStore, StoreError,
        StoredSnapshot, StreamRange,
    },
    testing::{
        clock::ManualClock,
        faults::{Fault, FaultStore},
    },
};
use futures_util::{
    FutureExt, StreamExt,
    future::{BoxFuture, join_all},
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::support::{Added, Nothing, Panic, Purse, Put, id, runtime, store, sum};

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Grow {
    pub by: i64,
}
/// Panics unless it comes first.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct First {}
/// Leads to many events.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Burst {
    pub events: usize,
}
impl CommandData for Grow {}
impl CommandData for First {}
impl CommandData for Burst {}
commands! { pub enum FragileCommand { Grow, First, Burst } }

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Grown {
    pub by: i64,
}
events! { pub enum FragileEvent { Grown = 1 } }

#[derive(Debug, thiserror::Error)]
pub enum Never {}
impl Rejection for Never {
    fn code(&self) -> &'static str {
        "never"
    }
}

/// Cannot be written when it is 13, nor read when it is 7.
#[derive(Debug, Default, Clone)]
pub struct Fragile {
    size: i64,
}

impl Serialize for Fragile {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        assert_ne!(self.size, 13, "as told");
        self.size.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Fragile {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let size = i64::deserialize(deserializer)?;
        assert_ne!(size, 7, "as told");
        Ok(Self { size })
    }
}

impl Aggregate for Fragile {
    const TYPE: &'static str = "fragile";
    type Command = FragileCommand;
    type Event = FragileEvent;
    type Rejection = Never;

    fn decide(&self, command: &FragileCommand, _: &DecisionContext<'_>) -> Result<Vec<FragileEvent>, Never> {
        Ok(match command {
            FragileCommand::Grow(Grow { by }) => vec![Grown { by: *by }.into()],
            FragileCommand::First(_) => {
                assert_eq!(self.size, 0, "as told");
                vec![Grown { by: 1 }.into()]
            }
            FragileCommand::Burst(Burst { events }) => vec![Grown { by: 1 }.into(); *events],
        })
    }

    fn apply(&mut self, event: &FragileEvent) {
        let FragileEvent::Grown(Grown { by }) = event;
        self.size += by;
    }
}

fn fragile(events: Arc<impl EventStore>, snapshots: Arc<impl SnapshotStore>) -> RuntimeBuilder {
    let limits =
        Limits { command_deadline: Duration::from_secs(1), journal_retry: Duration::ZERO, ..Limits::default() };
    RuntimeBuilder::new(events, snapshots).aggregate::<Fragile>().unwrap().limits(limits)
}

fn keyed(mut request: CommandRequest, key: &str) -> CommandRequest {
    request.idempotency = Some(Idempotency { key: key.into(), fingerprint: [1; 32] });
    request
}

#[tokio::test]
async fn a_malformed_command_costs_its_neighbours_nothing() {
    let runtime = runtime(&store(), Limits::default()).await;
    let requests = (0..10).map(|turn| {
        let key = if turn == 4 { "\0".to_owned() } else { format!("k{turn}") };
        runtime.bus().send(keyed(runtime.request::<Purse>("p", Put { amount: 1 }).unwrap(), &key))
    });
    let answers = join_all(requests).await;
    for (turn, answer) in answers.iter().enumerate() {
        assert_eq!(answer.is_ok(), turn != 4, "{turn}: {answer:?}");
    }
    assert_eq!(sum(&runtime, "p").await, 9);
}

#[tokio::test]
async fn commands_behind_refused_ones_lose_nothing_of_their_budget() {
    let store = FaultStore::new((*store()).clone());
    let runtime = runtime(&store, Limits::default()).await;
    store.always(Fault::RefusesWord("666"));
    let amounts = (0..80).map(|turn| if turn % 2 == 0 { 666 } else { 1 });
    let answers = join_all(amounts.map(|amount| runtime.execute::<Purse>("p", Put { amount }))).await;
    for (turn, answer) in answers.iter().enumerate() {
        assert_eq!(answer.is_ok(), turn % 2 == 1, "{turn}: {answer:?}");
    }
}

/// Snapshots that cannot be looked for: an error, or a panic.
#[derive(Debug)]
struct BadSnapshots {
    panics: bool,
}

impl SnapshotStore for BadSnapshots {
    fn save(&self, _: Snapshot) -> BoxFuture<'_, Result<(), StoreError>> {
        async { Ok(()) }.boxed()
    }
    fn latest<'a>(
        &'a self,
        _: &'a AggregateId,
        _: Sequence,
    ) -> BoxFuture<'a, Result<Option<StoredSnapshot>, StoreError>> {
        assert!(!self.panics, "as told");
        async { Err(StoreError::Unavailable { reason: "as told".to_owned() }) }.boxed()
    }
    fn remove<'a>(&'a self, _: &'a AggregateId, _: Sequence) -> BoxFuture<'a, Result<(), StoreError>> {
        async { Ok(()) }.boxed()
    }
    fn discard<'a>(&'a self, _: &'a AggregateId, _: Sequence) -> BoxFuture<'a, Result<(), StoreError>> {
        async { Ok(()) }.boxed()
    }
}

/// The load's task died without a word, and the actor waited for it for ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_panic_while_loading_is_a_failure_and_no_silence() {
    let runtime = fragile(store(), Arc::new(BadSnapshots { panics: true })).start().await.unwrap();
    let failed = runtime.execute::<Fragile>("f", Grow { by: 1 }).await;
    assert!(matches!(failed, Err(CommandError::Internal { .. })), "{failed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_whose_reading_panics_is_ignored() {
    let store = store();
    let first = fragile(store.clone(), store.clone()).snapshot_frequency(|_| 1).start().await.unwrap();
    first.execute::<Fragile>("f", Grow { by: 7 }).await.unwrap();
    assert!(first.shutdown().await);
    assert!(store.latest(&id("f"), Sequence(1)).await.unwrap().is_some());
    let second = fragile(store.clone(), store).start().await.unwrap();
    assert_eq!(second.execute::<Fragile>("f", Grow { by: 1 }).await.unwrap().version, Sequence(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_cannot_be_written_costs_nothing() {
    let store = store();
    let runtime = fragile(store.clone(), store).snapshot_frequency(|_| 1).start().await.unwrap();
    assert_eq!(runtime.execute::<Fragile>("f", Grow { by: 13 }).await.unwrap().version, Sequence(1));
    assert_eq!(runtime.execute::<Fragile>("f", Grow { by: 1 }).await.unwrap().version, Sequence(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_snapshots_a_stream_is_replayed() {
    let runtime = fragile(store(), Arc::new(BadSnapshots { panics: false })).start().await.unwrap();
    assert_eq!(runtime.execute::<Fragile>("f", Grow { by: 1 }).await.unwrap().version, Sequence(1));
}

/// Known is answered from the log, never from a new decision: also where the new decision fails.
#[tokio::test(flavor = "multi_thread")]
async fn a_stored_command_is_recognised_though_its_repetition_panics() {
    let store = FaultStore::new((*store()).clone());
    let runtime = fragile(store.clone(), store.clone()).start().await.unwrap();
    store.plan([Fault::LostAnswer]);
    let request = runtime.request::<Fragile>("f", First {}).unwrap();
    let unknown = runtime.bus().send(request.clone()).await;
    assert_eq!(unknown, Err(CommandError::OutcomeUnknown { command_id: request.command_id }));
    assert_eq!(runtime.bus().send(request).await.unwrap().version, Sequence(1));
    let another = runtime.execute::<Fragile>("f", First {}).await;
    assert!(matches!(another, Err(CommandError::Internal { .. })), "{another:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_recognised_though_the_repetition_panics_or_does_not_fit() {
    let store = store();
    let runtime = fragile(store.clone(), store).aggregate::<Purse>().unwrap().start().await.unwrap();
    let first = || keyed(runtime.request::<Fragile>("f", First {}).unwrap(), "k");
    let accepted = runtime.bus().send(first()).await.unwrap();
    let again = runtime.bus().send(first()).await.unwrap();
    assert_eq!((again.command_id, again.replayed), (accepted.command_id, true));
    // Accepted without events; then the stream becomes another type's.
    let nothing = || keyed(runtime.request::<Purse>("g", Nothing {}).unwrap(), "n");
    runtime.bus().send(nothing()).await.unwrap();
    runtime.execute::<Fragile>("g", Grow { by: 1 }).await.unwrap();
    assert!(runtime.bus().send(nothing()).await.unwrap().replayed);
    let mut reused = nothing();
    if let Some(idempotency) = &mut reused.idempotency {
        idempotency.fingerprint = [2; 32];
    }
    assert_eq!(runtime.bus().send(reused).await, Err(CommandError::KeyReused));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recorded_no_op_keeps_its_position() {
    let runtime = runtime(&store(), Limits::default()).await;
    let nothing = || keyed(runtime.request::<Purse>("p", Nothing {}).unwrap(), "k");
    let first = runtime.bus().send(nothing()).await.unwrap();
    runtime.execute::<Purse>("p", Put { amount: 1 }).await.unwrap();
    let again = runtime.bus().send(nothing()).await.unwrap();
    assert_eq!((again.version, again.position), (first.version, first.position));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_answer_of_a_command_with_many_events_is_repeated_whole() {
    let store = store();
    let runtime = fragile(store.clone(), store).start().await.unwrap();
    let request = runtime.request::<Fragile>("f", Burst { events: 2_500 }).unwrap();
    let first = runtime.bus().send(keyed(request.clone(), "k")).await.unwrap();
    assert_eq!(first.position, Position(2_500));
    runtime.execute::<Fragile>("f", Grow { by: 1 }).await.unwrap();
    for request in [keyed(request.clone(), "k"), request] {
        let again = runtime.bus().send(request).await.unwrap();
        assert_eq!((again.version, again.position), (first.version, first.position));
        assert_eq!(again.events, first.events);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_beyond_the_head_delays_nobody() {
    let runtime = runtime(&store(), Limits { feed_poll: Duration::from_secs(60), ..Limits::default() }).await;
    let beyond = runtime.feed().follow(Position(1_000_000), EventFilter::default());
    assert!(tokio::time::timeout(Duration::from_millis(50), Box::pin(beyond).next()).await.is_err());
    let mut events = Box::pin(runtime.feed().follow(Position::ZERO, EventFilter::default()));
    let put = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        runtime.execute::<Purse>("p", Put { amount: 1 }).await.unwrap();
    };
    let (seen, ()) = tokio::join!(tokio::time::timeout(Duration::from_secs(3), events.next()), put);
    assert_eq!(seen.unwrap().unwrap().unwrap().position, Position(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn after_shutdown_no_actor_starts() {
    let runtime = runtime(&store(), Limits::default()).await;
    runtime.execute::<Purse>("p", Put { amount: 1 }).await.unwrap();
    assert!(runtime.shutdown().await);
    assert_eq!(runtime.actor(&id("p")).map(|actor| actor.get_id()), Err(CommandError::Draining));
    assert_eq!(runtime.health().live_aggregates, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_actor_is_forgotten() {
    let runtime = runtime(&store(), Limits::default()).await;
    runtime.execute::<Purse>("p", Put { amount: 1 }).await.unwrap();
    runtime.actor(&id("p")).unwrap().kill();
    let started = tokio::time::Instant::now();
    assert!(runtime.shutdown().await);
    assert!(started.elapsed() < Duration::from_secs(1), "shutdown waited for an actor that is gone");
    assert_eq!(runtime.health().live_aggregates, 0);
}

#[tokio::test(start_paused = true)]
async fn old_keys_are_forgotten_faster_than_they_come() {
    let clock = Arc::new(ManualClock::at("2026-01-01T00:00:00Z".parse().unwrap()));
    let store = Arc::new(MemoryStore::new(clock.clone()));
    let name = |number: usize| -> Arc<str> { format!("k{number}").into() };
    let commands = (0..50_000).map(|number| CommandProbe {
        event_ids: Vec::new(),
        key: Some(KeyRecord { principal: "p".into(), key: name(number), fingerprint: [0; 32], outcome: "{}".into() }),
        record: None,
    });
    let unit = AppendUnit { streams: Vec::new(), commands: commands.collect(), events: Vec::new() };
    store.append(AppendBatch { units: vec![unit] }).await.unwrap();
    clock.advance(chrono::Duration::hours(25));
    let runtime = RuntimeBuilder::new(store.clone(), store.clone()).clock(clock).start().await.unwrap();
    tokio::time::sleep(Duration::from_secs(120)).await;
    let mut left = 0;
    for number in 0..50_000 {
        left += usize::from(store.find_key("p", &name(number)).await.unwrap().is_some());
    }
    assert_eq!(left, 0);
    assert!(runtime.shutdown().await);
}

/// A turn lasts 50 ms; who waits for its end must not keep the log's lock busy meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_anothers_turn_asks_now_and_then() {
    let store = FaultStore::new((*store()).clone());
    let runtime = runtime(&store, Limits::default()).await;
    store.plan([Fault::AnothersTurn; 40]);
    let started = tokio::time::Instant::now();
    runtime.execute::<Purse>("p", Put { amount: 1 }).await.unwrap();
    assert!(started.elapsed() > Duration::from_millis(50), "{:?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_a_key_does_not_inherit_anothers_deadline() {
    let store = FaultStore::new((*store()).clone());
    let runtime = runtime(&store, Limits::default()).await;
    store.darken(true);
    let mut hasty = keyed(runtime.request::<Purse>("p", Put { amount: 1 }).unwrap(), "k");
    hasty.deadline = tokio::time::Instant::now() + Duration::from_millis(60);
    let patient = keyed(runtime.request::<Purse>("p", Put { amount: 1 }).unwrap(), "k");
    let light = async {
        tokio::time::sleep(Duration::from_millis(120)).await;
        store.darken(false);
    };
    let (first, second, ()) = tokio::join!(runtime.bus().send(hasty), runtime.bus().send(patient), light);
    assert_eq!(first, Err(CommandError::DeadlineExceeded));
    assert_eq!(second.unwrap().version, Sequence(1));
    assert_eq!(sum(&runtime, "p").await, 1);
}

/// What one caller was told of one command.
fn may_be_stored(answer: &Result<CommandAccepted, CommandError>) -> std::ops::RangeInclusive<usize> {
    match answer {
        Ok(_) => 1..=1,
        Err(CommandError::OutcomeUnknown { .. }) => 0..=1,
        Err(_) => 0..=0,
    }
}

/// Two processes on one store; lost requests, lost and late answers, dark reads, other's turns, panics, killed actors,
/// passivation, impatient callers, keys: whatever a caller is told is true.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whatever_happens_every_answer_is_true() {
    let store = FaultStore::new((*store()).clone());
    let limits = Limits {
        aggregate_idle: Duration::from_millis(3),
        journal_retry: Duration::from_millis(30),
        command_deadline: Duration::from_secs(2),
        commands_per_aggregate_max: 64,
        ..Limits::default()
    };
    let start = || async { Arc::new(runtime(&store, limits.clone()).await) };
    let runtimes = [start().await, start().await];
    let workers = (0..24_i64).map(|worker| {
        let (runtime, store) = (runtimes[usize::try_from(worker % 2).unwrap()].clone(), store.clone());
        tokio::spawn(async move {
            let mut told = Vec::new();
            for turn in 0..60_i64 {
                let chance = (worker * 7_919 + turn * 104_729) % 97;
                let purse = format!("p{}", (worker / 2 + turn) % 3);
                match chance {
                    0..=3 => store.plan([Fault::LostAnswer]),
                    4..=6 => store.plan([Fault::LostRequest]),
                    7..=9 => store.plan([Fault::AnothersTurn]),
                    10..=15 => store.plan([Fault::LateAnswer(Duration::from_millis(4))]),
                    16 => store.darken(true),
                    17..=30 => store.darken(false),
                    31 => runtime.actor(&id(&purse)).unwrap().kill(),
                    32..=34 => drop(runtime.execute::<Purse>(purse.as_str(), Panic {}).await.is_ok()),
                    35 => store.plan([Fault::LostAnswer; 4]),
                    _ => {}
                }
                let amount = worker * 1_000 + turn + 1;
                let mut request = runtime.request::<Purse>(purse.as_str(), Put { amount }).unwrap();
                if chance % 3 == 0 {
                    request.deadline = tokio::time::Instant::now() + Duration::from_millis(5);
                }
                if chance % 2 == 0 {
                    request = keyed(request, &format!("k{amount}"));
                }
                told.push((amount, runtime.bus().send(request).await));
            }
            told
        })
    });
    let told = join_all(workers).await.into_iter().flat_map(Result::unwrap).collect::<Vec<_>>();
    store.darken(false);
    for runtime in &runtimes {
        runtime.shutdown().await;
    }
    let mut stored = std::collections::HashMap::<i64, usize>::new();
    for purse in ["p0", "p1", "p2"] {
        let range = StreamRange {
            from: Sequence(1),
            to: Sequence(u64::MAX),
            direction: Direction::Forward,
            limit: std::num::NonZeroU32::MAX,
        };
        for event in store.read_stream(&id(purse), range).await.unwrap() {
            let Added { amount } = serde_json::from_slice(&event.data).unwrap();
            *stored.entry(amount).or_default() += 1;
        }
    }
    for (amount, answer) in &told {
        let times = stored.get(amount).copied().unwrap_or(0);
        assert!(may_be_stored(answer).contains(&times), "{amount} is stored {times} times, told {answer:?}");
    }
    let count = |is: fn(&Result<CommandAccepted, CommandError>) -> bool| told.iter().filter(|it| is(&it.1)).count();
    let (accepted, unknown) =
        (count(Result::is_ok), count(|it| matches!(it, Err(CommandError::OutcomeUnknown { .. }))));
    println!("{accepted} accepted, {unknown} unknown of {}", told.len());
    assert!(accepted > told.len() / 20, "{accepted} of {} accepted", told.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn more_live_aggregates_than_allowed_end_at_once() {
    let runtime = runtime(&store(), Limits { live_aggregates_max: 10, ..Limits::default() }).await;
    for purse in 0..300 {
        runtime.execute::<Purse>(format!("p{purse}"), Put { amount: 1 }).await.unwrap();
    }
    let give_up = tokio::time::Instant::now() + Duration::from_secs(2);
    while runtime.health().live_aggregates > 10 {
        assert!(tokio::time::Instant::now() < give_up, "{:?}", runtime.health());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
