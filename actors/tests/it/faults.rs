//! Stores with bad days: every ambiguous command ends with exactly one effect, and the guilty one alone pays.

use std::{sync::Arc, time::Duration};

use event_sourcing_actors::{
    Limits, Sequence,
    command_bus::Action,
    error::CommandError,
    ports::{
        AppendBatch, AppendUnit, CommandProbe, Direction, EventStore, SnapshotStore, StoredSnapshot, StreamClaim,
        StreamRange, UnitOutcome,
    },
    testing::faults::{Fault, FaultStore},
};
use futures_util::future::join_all;

use crate::{
    projected::until,
    support::{Purse, Put, Take, builder, id, runtime, store, sum},
};

/// A small deterministic sequence, so that a failure repeats.
fn pseudo_random(seed: u64) -> impl Iterator<Item = u64> {
    let mut state = seed;
    std::iter::repeat_with(move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state >> 33
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_requests_and_lost_answers_end_with_one_effect_each() {
    let store = FaultStore::new((*store()).clone());
    let runtime = Arc::new(runtime(&store, Limits::default()).await);
    store.plan(pseudo_random(7).take(60).map(|number| match number % 4 {
        0 => Fault::LostRequest,
        1 => Fault::LostAnswer,
        _ => Fault::None,
    }));
    let workers = (0..8).map(|worker| {
        let runtime = runtime.clone();
        tokio::spawn(async move {
            for turn in 0..50 {
                runtime.execute::<Purse>(format!("p{}", (worker + turn) % 5), Put { amount: 1 }).await.unwrap();
            }
        })
    });
    join_all(workers).await.into_iter().for_each(|worker| worker.unwrap());
    let mut total = 0;
    for purse in 0..5 {
        total += sum(&runtime, &format!("p{purse}")).await;
    }
    assert_eq!(total, 400);
}

/// The control: whoever appends again under new ids after a lost answer doubles the effect.
#[tokio::test]
async fn without_ids_a_lost_answer_doubles() {
    let store = FaultStore::new((*store()).clone());
    let runtime = runtime(&store, Limits { journal_retry: Duration::ZERO, ..Limits::default() }).await;
    store.plan([Fault::LostAnswer]);
    let unknown = runtime.execute::<Purse>("p", Put { amount: 1 }).await;
    assert!(matches!(unknown, Err(CommandError::OutcomeUnknown { .. })), "{unknown:?}");
    runtime.execute::<Purse>("p", Put { amount: 1 }).await.unwrap();
    assert_eq!(sum(&runtime, "p").await, 2);
}

#[tokio::test]
async fn an_unknown_outcome_is_settled_by_the_same_command() {
    let store = FaultStore::new((*store()).clone());
    let runtime = runtime(&store, Limits { journal_retry: Duration::ZERO, ..Limits::default() }).await;
    store.plan([Fault::LostAnswer]);
    let request = runtime.request::<Purse>("p", Put { amount: 1 }).unwrap();
    let unknown = runtime.bus().send(request.clone()).await;
    assert_eq!(unknown, Err(CommandError::OutcomeUnknown { command_id: request.command_id }));
    assert_eq!(runtime.bus().send(request).await.unwrap().version, Sequence(1));
    assert_eq!(sum(&runtime, "p").await, 1);
}

/// What was stored must not be reported as not done, though it cannot be looked up at the moment.
#[tokio::test(flavor = "multi_thread")]
async fn a_known_command_that_cannot_be_read_is_asked_for_again() {
    let store = FaultStore::new((*store()).clone());
    let runtime = Arc::new(runtime(&store, Limits::default()).await);
    runtime.execute::<Purse>("p", Put { amount: 1 }).await.unwrap();
    store.plan([Fault::LostAnswer]);
    store.darken(true);
    let (light, other) = (store.clone(), runtime.clone());
    let command = tokio::spawn(async move { other.execute::<Purse>("p", Put { amount: 1 }).await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    light.darken(false);
    assert_eq!(command.await.unwrap().unwrap().version, Sequence(2));
    assert_eq!(sum(&runtime, "p").await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_batch_costs_the_guilty_command_only() {
    let store = FaultStore::new((*store()).clone());
    let runtime = Arc::new(runtime(&store, Limits::default()).await);
    store.always(Fault::RefusesWord("666"));
    let commands = (0..100_i64).map(|turn| {
        let runtime = runtime.clone();
        tokio::spawn(async move {
            let amount = if turn % 25 == 13 { 666 } else { 1 };
            runtime.execute::<Purse>(format!("p{}", turn % 3), Put { amount }).await
        })
    });
    let answers: Vec<_> = join_all(commands).await.into_iter().map(|answer| answer.unwrap()).collect();
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 96);
    assert_eq!(answers.iter().filter(|answer| matches!(answer, Err(CommandError::Internal { .. }))).count(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_cannot_be_read_is_reported_and_comes_back() {
    let store = FaultStore::new((*store()).clone());
    let runtime = runtime(&store, Limits::default()).await;
    store.darken(true);
    let refused = runtime.execute::<Purse>("p", Put { amount: 1 }).await;
    assert!(matches!(refused, Err(CommandError::StoreUnavailable { .. })), "{refused:?}");
    store.darken(false);
    runtime.execute::<Purse>("p", Put { amount: 1 }).await.unwrap();
}

/// Stores a purse's events behind the runtime's back, with the given payload.
async fn forge(store: &impl EventStore, purse: &str, kind: &str, payload: &'static str) {
    use event_sourcing_actors::{EventId, NewEvent, StreamHead, envelope::EventBody};
    let mut head = StreamHead::EMPTY;
    let body = EventBody {
        event_id: EventId(uuid::Uuid::now_v7()),
        event_type: kind.try_into().unwrap(),
        schema_version: 1,
        data: payload.into(),
        metadata: "{}".into(),
    };
    let event = NewEvent::following(&mut head, &id(purse), &"purse".try_into().unwrap(), body);
    let unit = AppendUnit {
        streams: vec![StreamClaim { aggregate_id: id(purse), head: StreamHead::EMPTY, losses: 0 }],
        commands: vec![CommandProbe { event_ids: vec![event.event_id], key: None, record: None }],
        events: vec![event],
    };
    let outcomes = store.append(AppendBatch { units: vec![unit] }).await.unwrap();
    assert!(matches!(outcomes[0], UnitOutcome::Committed(_)));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_aggregate_that_cannot_be_folded_is_parked_alone() {
    let store = store();
    forge(&*store, "cursed", "Cursed", "{}").await;
    forge(&*store, "torn", "Added", r#"{"amount":"#).await;
    let limits = Limits { restarts_max: 2, parked: Duration::from_secs(60), ..Limits::default() };
    let runtime = runtime(&store, limits).await;
    for purse in ["cursed", "torn"] {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(5);
        while !runtime.health().parked.iter().any(|parked| parked.aggregate_id.as_str() == purse) {
            let failed = runtime.execute::<Purse>(purse, Put { amount: 1 }).await;
            assert!(matches!(failed, Err(CommandError::Internal { .. } | CommandError::Parked { .. })), "{failed:?}");
            assert!(tokio::time::Instant::now() < deadline);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let refused = runtime.execute::<Purse>(purse, Put { amount: 1 }).await;
        assert!(
            matches!(&refused, Err(CommandError::Parked { retry_after, .. }) if !retry_after.is_zero()),
            "{refused:?}"
        );
    }
    runtime.execute::<Purse>("healthy", Put { amount: 1 }).await.unwrap();
    assert!(runtime.health().is_alive);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_does_not_fit_is_ignored_and_replaced() {
    use event_sourcing_actors::{Snapshot, StreamHead, digest::ChainDigest};
    let store = store();
    let runtime = builder(&store).snapshot_frequency(|_| 10).start().await.unwrap();
    for _ in 0..9 {
        runtime.execute::<Purse>("p", Put { amount: 1 }).await.unwrap();
    }
    let last = StreamRange {
        from: Sequence(9),
        to: Sequence(9),
        direction: Direction::Forward,
        limit: std::num::NonZeroU32::MIN,
    };
    let true_head = store.read_stream(&id("p"), last).await.unwrap()[0].head();
    let wrong = |head, state_version, state: &'static str| Snapshot {
        aggregate_id: id("p"),
        aggregate_type: "purse".try_into().unwrap(),
        head,
        state_version,
        state: state.into(),
    };
    let right = wrong(true_head, 1, r#"{"sum":9}"#);
    let foreign_chain = StreamHead { chain: ChainDigest([7; 32]), ..true_head };
    for snapshot in [
        wrong(foreign_chain, 1, r#"{"sum":1000}"#),
        wrong(true_head, 2, r#"{"sum":1000}"#),
        wrong(true_head, 0, r#"{"sum":1000}"#),
        wrong(true_head, 1, r#"{"sum":"many"}"#),
        wrong(StreamHead { sequence: Sequence(99), ..true_head }, 1, r#"{"sum":1000}"#),
    ] {
        store.save(snapshot.clone()).await.unwrap();
        let state = runtime.history().state_at(&id("p"), Sequence(u64::MAX), true).await.unwrap().unwrap();
        assert_eq!(&state.state[..], br#"{"sum":9}"#, "{snapshot:?}");
        // Replaced where it stood, or gone where no event is.
        let (store, right) = (&store, &right);
        until("the right snapshot is there", || async move {
            let found = store.latest(&id("p"), Sequence(u64::MAX)).await.unwrap();
            found.and_then(StoredSnapshot::readable).is_some_and(|found| found == *right)
        })
        .await;
    }
    // The control: a snapshot that fits is believed, even if it lies.
    store.save(wrong(true_head, 1, r#"{"sum":1000}"#)).await.unwrap();
    let state = runtime.history().state_at(&id("p"), Sequence(u64::MAX), true).await.unwrap().unwrap();
    assert_eq!(&state.state[..], br#"{"sum":1000}"#);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_actor_that_ends_with_work_in_flight_leaves_one_effect() {
    let store = FaultStore::new((*store()).clone());
    let runtime = Arc::new(runtime(&store, Limits::default()).await);
    store.plan([Fault::None, Fault::LostAnswer, Fault::LostAnswer, Fault::LostAnswer]);
    runtime.execute::<Purse>("p", Put { amount: 10 }).await.unwrap();
    let commands: Vec<_> = (0..20)
        .map(|_| {
            let runtime = runtime.clone();
            tokio::spawn(async move { runtime.execute::<Purse>("p", Take { amount: 1 }).await })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(10)).await;
    runtime.actor(&id("p")).unwrap().kill();
    let answers: Vec<_> = join_all(commands).await.into_iter().map(|answer| answer.unwrap()).collect();
    let accepted = answers.iter().filter(|answer| answer.is_ok()).count();
    let refused = answers.iter().filter(|answer| matches!(answer, Err(CommandError::Rejected { .. }))).count();
    assert_eq!((accepted, refused), (10, 10), "{answers:?}");
    assert_eq!(sum(&runtime, "p").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_command_has_no_effect() {
    let runtime = runtime(&store(), Limits::default()).await;
    let mut request = runtime.request::<Purse>("p", Put { amount: 1 }).unwrap();
    assert!(matches!(request.action, Action::Command(_)));
    request.deadline = tokio::time::Instant::now();
    assert_eq!(runtime.bus().send(request).await, Err(CommandError::DeadlineExceeded));
    assert_eq!(runtime.feed().head().await.unwrap().0, 0);
}

/// soundness.md, H8: after a failed flush nothing is acknowledged any more, and the owner is told to end the process.
#[tokio::test(flavor = "multi_thread")]
async fn a_failed_flush_ends_the_journal_and_acknowledges_nothing() {
    let store = FaultStore::new((*store()).clone());
    let limits = Limits { command_deadline: Duration::from_millis(500), ..Limits::default() };
    let runtime = runtime(&store, limits).await;
    store.plan([Fault::FlushFails]);
    let open = runtime.execute::<Purse>("p", Put { amount: 1 }).await;
    assert!(matches!(open, Err(CommandError::OutcomeUnknown { .. })), "{open:?}");
    let later = runtime.execute::<Purse>("q", Put { amount: 1 }).await;
    assert!(matches!(later, Err(CommandError::OutcomeUnknown { .. })), "{later:?}");
    assert!(!runtime.health().is_alive);
}

/// A silent store is not overload.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_silent_is_named_as_the_reason() {
    let store = FaultStore::new((*store()).clone());
    let limits =
        Limits { command_deadline: Duration::from_millis(2_500), load: Duration::from_secs(3), ..Limits::default() };
    let runtime = runtime(&store, limits).await;
    store.silence(true);
    let refused = runtime.execute::<Purse>("p", Put { amount: 1 }).await;
    assert!(matches!(refused, Err(CommandError::StoreUnavailable { .. })), "{refused:?}");
    store.silence(false);
    // The load that hangs is given up after its bound.
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while runtime.execute::<Purse>("p", Put { amount: 1 }).await.is_err() {
        assert!(tokio::time::Instant::now() < deadline);
    }
}
