//! The aggregate's machine: order, speculation, passivation, panics, keys, admission, shutdown.

use std::{sync::Arc, time::Duration};

use event_sourcing_actors::{
    Expected, Limits, Position, Sequence,
    command_bus::{Action, CommandRequest, Idempotency, RawAppend, RawEvent},
    envelope::EventFilter,
    error::CommandError,
};
use futures_util::{StreamExt, future::join_all};
use serde_json::value::RawValue;

use crate::support::{Nothing, Panic, Purse, Put, Take, id, runtime, store, sum};

fn raw(json: &str) -> Arc<RawValue> {
    RawValue::from_string(json.to_owned()).unwrap().into()
}

fn append(stream: &str, aggregate_type: Option<&str>, events: &[(&str, &str)]) -> CommandRequest {
    let events = events
        .iter()
        .map(|(kind, data)| RawEvent { event_id: None, event_type: (*kind).try_into().unwrap(), data: raw(data) })
        .collect();
    let aggregate_type = aggregate_type.map(|kind| kind.try_into().unwrap());
    CommandRequest::new(id(stream), Action::Append(RawAppend { aggregate_type, events }), Duration::from_secs(5))
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_to_one_aggregate_are_decided_one_after_the_other() {
    let store = store();
    let runtime = runtime(&store, Limits { commands_per_aggregate_max: 4_096, ..Limits::default() }).await;
    let accepted = join_all((0..1_000).map(|_| runtime.execute::<Purse>("p", Put { amount: 1 }))).await;
    let mut versions: Vec<u64> = accepted.into_iter().map(|result| result.unwrap().version.0).collect();
    versions.sort_unstable();
    assert_eq!(versions, (1..=1_000).collect::<Vec<_>>());
    assert_eq!(sum(&runtime, "p").await, 1_000);
    assert!(runtime.shutdown().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_and_no_ops_are_answered_with_the_version_they_rest_on() {
    let runtime = runtime(&store(), Limits::default()).await;
    runtime.execute::<Purse>("p", Put { amount: 5 }).await.unwrap();
    let refused = runtime.execute::<Purse>("p", Take { amount: 6 }).await.unwrap_err();
    assert!(matches!(&refused, CommandError::Rejected { refusal, replayed: false } if refusal.code == "insufficient"));
    let nothing = runtime.execute::<Purse>("p", Nothing {}).await.unwrap();
    assert_eq!((nothing.version, nothing.position, nothing.events.len()), (Sequence(1), Position(1), 0));
    let unknown = runtime.execute::<Purse>("q", Nothing {}).await.unwrap();
    assert_eq!((unknown.version, unknown.position), (Sequence(0), Position(0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn passivation_loses_and_doubles_nothing() {
    let limits = Limits { aggregate_idle: Duration::from_millis(1), ..Limits::default() };
    let runtime = Arc::new(runtime(&store(), limits).await);
    let workers = (0..20_u64).map(|worker| {
        let runtime = runtime.clone();
        tokio::spawn(async move {
            for turn in 0..2_500_u64 {
                let purse = format!("p{}", (worker + turn) % 20);
                runtime.execute::<Purse>(purse, Put { amount: 1 }).await.unwrap();
                if turn % 50 == 0 {
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
            }
        })
    });
    join_all(workers).await.into_iter().for_each(|worker| worker.unwrap());
    let mut total = 0;
    for purse in 0..20 {
        total += sum(&runtime, &format!("p{purse}")).await;
    }
    assert_eq!(total, 50_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn above_the_maximum_the_longest_idle_aggregates_are_passivated() {
    let limits = Limits { live_aggregates_max: 10, aggregate_idle: Duration::from_millis(400), ..Limits::default() };
    let runtime = runtime(&store(), limits).await;
    for purse in 0..50 {
        runtime.execute::<Purse>(format!("p{purse}"), Put { amount: 1 }).await.unwrap();
    }
    let deadline = tokio::time::Instant::now() + Duration::from_secs(5);
    while runtime.health().live_aggregates > 10 {
        assert!(tokio::time::Instant::now() < deadline, "{:?}", runtime.health());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(runtime.execute::<Purse>("p0", Put { amount: 1 }).await.unwrap().version, Sequence(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_costs_its_command_only() {
    let runtime = Arc::new(runtime(&store(), Limits::default()).await);
    let commands = (0..200).map(|turn| {
        let runtime = runtime.clone();
        tokio::spawn(async move {
            if turn % 20 == 7 {
                runtime.execute::<Purse>("p", Panic {}).await.map(|_| false)
            } else {
                runtime.execute::<Purse>("p", Put { amount: 1 }).await.map(|_| true)
            }
        })
    });
    let results: Vec<_> = join_all(commands).await.into_iter().map(|result| result.unwrap()).collect();
    let accepted = results.iter().filter(|result| matches!(result, Ok(true))).count();
    let faults = results.iter().filter(|result| matches!(result, Err(CommandError::Internal { .. }))).count();
    assert_eq!((accepted, faults), (190, 10));
    assert_eq!(sum(&runtime, "p").await, 190);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_folded_is_parked_alone_and_reported() {
    let limits = Limits { restarts_max: 2, ..Limits::default() };
    let runtime = runtime(&store(), limits).await;
    // Admitted by nobody's rule, so it is folded at once, panics, and nothing is stored.
    let refused = runtime.bus().send(append("p", None, &[("Cursed", "{}")])).await;
    assert!(matches!(refused, Err(CommandError::Internal { .. })), "{refused:?}");
    assert_eq!(runtime.execute::<Purse>("p", Put { amount: 1 }).await.unwrap().version, Sequence(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_gives_the_recorded_answer_again() {
    let store = store();
    let runtime = runtime(&store, Limits::default()).await;
    let keyed = |amount: i64, fingerprint: u8| {
        let mut request = runtime.request::<Purse>("p", Put { amount }).unwrap();
        request.idempotency = Some(Idempotency { key: "k".into(), fingerprint: [fingerprint; 32] });
        request
    };
    let first = runtime.bus().send(keyed(5, 1)).await.unwrap();
    runtime.execute::<Purse>("p", Put { amount: 1 }).await.unwrap();
    let again = runtime.bus().send(keyed(5, 1)).await.unwrap();
    assert!(again.replayed && !first.replayed);
    assert_eq!((again.command_id, again.position, &again.events), (first.command_id, first.position, &first.events));
    assert_eq!(runtime.bus().send(keyed(6, 2)).await, Err(CommandError::KeyReused));
    assert_eq!(sum(&runtime, "p").await, 6);
    // A refusal under a key stays one, though the state has moved on.
    let take = |amount| {
        let mut request = runtime.request::<Purse>("p", Take { amount }).unwrap();
        request.idempotency = Some(Idempotency { key: "t".into(), fingerprint: [3; 32] });
        request
    };
    assert!(matches!(runtime.bus().send(take(7)).await, Err(CommandError::Rejected { replayed: false, .. })));
    runtime.execute::<Purse>("p", Put { amount: 10 }).await.unwrap();
    assert!(matches!(runtime.bus().send(take(7)).await, Err(CommandError::Rejected { replayed: true, .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_duplicates_have_one_effect_and_one_answer() {
    let store = store();
    let runtimes = [runtime(&store, Limits::default()).await, runtime(&store, Limits::default()).await];
    for key in 0..50_u8 {
        let requests = (0..8).map(|copy| {
            let runtime = &runtimes[copy % 2];
            let mut request = runtime.request::<Purse>("p", Put { amount: 1 }).unwrap();
            request.idempotency = Some(Idempotency { key: format!("k{key}").into(), fingerprint: [key; 32] });
            runtime.bus().send(request)
        });
        let answers: Vec<_> = join_all(requests).await.into_iter().map(|answer| answer.unwrap()).collect();
        assert!(answers.iter().all(|answer| answer.events == answers[0].events), "{answers:?}");
        assert_eq!(answers.iter().filter(|answer| !answer.replayed).count(), 1);
    }
    assert_eq!(sum(&runtimes[0], "p").await, 50);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_command_id_has_one_effect() {
    let runtime = runtime(&store(), Limits::default()).await;
    let request = runtime.request::<Purse>("p", Put { amount: 5 }).unwrap();
    let answers = join_all((0..4).map(|_| runtime.bus().send(request.clone()))).await;
    for answer in &answers {
        assert_eq!(answer.as_ref().unwrap().events, answers[0].as_ref().unwrap().events);
    }
    assert_eq!(sum(&runtime, "p").await, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_runtimes_on_one_store_lose_no_update_and_refuse_nothing_wrongly() {
    let store = store();
    let runtimes = Arc::new([runtime(&store, Limits::default()).await, runtime(&store, Limits::default()).await]);
    runtimes[0].execute::<Purse>("p", Put { amount: 100 }).await.unwrap();
    let workers = (0..8_usize).map(|worker| {
        let runtimes = runtimes.clone();
        tokio::spawn(async move {
            let runtime = &runtimes[worker % 2];
            let mut net = 0;
            for _ in 0..100 {
                // Each takes only what it has put: with true refusals none of these can be refused.
                runtime.execute::<Purse>("p", Put { amount: 3 }).await.unwrap();
                runtime.execute::<Purse>("p", Take { amount: 2 }).await.unwrap();
                net += 1;
            }
            net
        })
    });
    let net: i64 = join_all(workers).await.into_iter().map(|worker| worker.unwrap()).sum();
    assert_eq!(sum(&runtimes[0], "p").await, 100 + net);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_demanded_version_is_tested_and_never_retried() {
    let runtime = runtime(&store(), Limits::default()).await;
    let at = |expected| {
        let mut request = runtime.request::<Purse>("p", Put { amount: 1 }).unwrap();
        request.expected = expected;
        runtime.bus().send(request)
    };
    at(Expected::NoStream).await.unwrap();
    let taken = Err(CommandError::PreconditionFailed { current_version: Sequence(1), replayed: false });
    assert_eq!(at(Expected::NoStream).await, taken);
    assert_eq!(at(Expected::Exactly(Sequence(2))).await, taken);
    at(Expected::Exactly(Sequence(1))).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn raw_appends_are_admitted_whole_or_not_at_all() {
    let runtime = runtime(&store(), Limits::default()).await;
    let bus = runtime.bus();
    let refused = bus.send(append("p", None, &[("Added", r#"{"amount":1}"#), ("Added", r#"{"amount":"x"}"#)])).await;
    let Err(CommandError::Invalid { errors }) = refused else { panic!("{refused:?}") };
    assert_eq!(errors[0].pointer, "/1/data/amount");
    let accepted = bus.send(append("p", None, &[("Added", r#"{"amount":1,"note":"kept"}"#)])).await.unwrap();
    assert_eq!(accepted.version, Sequence(1));
    assert_eq!(runtime.execute::<Purse>("p", Put { amount: 1 }).await.unwrap().version, Sequence(2));
    let untyped = bus.send(append("g", None, &[("Whatever", "[1.0]")])).await;
    assert!(matches!(untyped, Err(CommandError::Invalid { .. })), "{untyped:?}");
    bus.send(append("g", Some("notes"), &[("Whatever", "[1.0]")])).await.unwrap();
    bus.send(append("g", None, &[("Whatever", "[9007199254740993]")])).await.unwrap();
    let foreign = bus.send(append("g", None, &[("Added", r#"{"amount":1}"#)])).await;
    let Err(CommandError::UnknownEventType { owner, nearest, .. }) = foreign else { panic!("{foreign:?}") };
    assert_eq!((owner.as_deref(), nearest.len()), (Some("purse"), 0), "a generic stream has no near names");
    let misspelt = bus.send(append("p", None, &[("Aded", "{}")])).await;
    let Err(CommandError::UnknownEventType { owner, nearest, .. }) = misspelt else { panic!("{misspelt:?}") };
    assert_eq!((owner, nearest), (None, vec!["Added".to_owned()]));
    let reserved = bus.send(append("s", Some("saga"), &[("X", "{}")])).await;
    assert!(matches!(reserved, Err(CommandError::ReservedStream { .. })), "{reserved:?}");
    let mismatch = runtime.execute::<Purse>("g", Put { amount: 1 }).await;
    assert!(matches!(mismatch, Err(CommandError::TypeMismatch { .. })), "{mismatch:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chosen_event_id_repeats_or_is_refused() {
    let runtime = runtime(&store(), Limits::default()).await;
    let event_id = event_sourcing_actors::EventId(uuid::Uuid::now_v7());
    let send = |data: &'static str| {
        let mut request = append("p", None, &[("Added", data)]);
        let Action::Append(append) = &mut request.action else { unreachable!() };
        append.events[0].event_id = Some(event_id);
        runtime.bus().send(request)
    };
    let first = send(r#"{"amount":1}"#).await.unwrap();
    let again = send(r#"{"amount": 1}"#).await.unwrap();
    assert_eq!(again.events, first.events);
    assert_eq!(send(r#"{"amount":2}"#).await, Err(CommandError::EventIdReused { event_id }));
    assert_eq!(sum(&runtime, "p").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_decides_and_stores_nothing() {
    let runtime = runtime(&store(), Limits::default()).await;
    let mut request = runtime.request::<Purse>("p", Put { amount: 1 }).unwrap();
    request.dry_run = true;
    let tried = runtime.bus().send(request).await.unwrap();
    assert_eq!((tried.version, tried.events.len(), tried.events[0].position), (Sequence(1), 1, Position(0)));
    assert_eq!(runtime.feed().head().await.unwrap(), Position(0));
    assert_eq!(runtime.execute::<Purse>("p", Put { amount: 1 }).await.unwrap().version, Sequence(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn snapshots_shorten_the_load_and_never_change_the_state() {
    let store = store();
    let runtime = runtime(&store, Limits::default()).await;
    for _ in 0..250 {
        runtime.execute::<Purse>("p", Put { amount: 1 }).await.unwrap();
    }
    let deadline = tokio::time::Instant::now() + Duration::from_secs(5);
    loop {
        let with = runtime.history().state_at(&id("p"), Sequence(u64::MAX), true).await.unwrap().unwrap();
        let without = runtime.history().state_at(&id("p"), Sequence(u64::MAX), false).await.unwrap().unwrap();
        assert_eq!(with.state, without.state);
        assert_eq!((without.events_replayed, without.snapshot_sequence), (250, None));
        if with.snapshot_sequence == Some(Sequence(200)) {
            assert_eq!(with.events_replayed, 50);
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "{with:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn too_much_is_refused_with_a_time_to_come_back() {
    let limits = Limits { commands_in_flight_max: 10, ..Limits::default() };
    let runtime = runtime(&store(), limits).await;
    let answers =
        join_all((0..500).map(|purse| runtime.execute::<Purse>(format!("p{purse}"), Put { amount: 1 }))).await;
    let refused = answers
        .iter()
        .filter(|answer| matches!(answer, Err(CommandError::Overloaded { scope: "process", .. })))
        .count();
    let accepted = answers.iter().filter(|answer| answer.is_ok()).count();
    assert!(refused > 0 && accepted >= 10 && refused + accepted == 500, "{refused} refused, {accepted} accepted");
    assert_eq!(runtime.health().commands_in_flight, 0);
    runtime.execute::<Purse>("p", Put { amount: 1 }).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn followers_see_each_event_once_and_in_order() {
    let runtime = Arc::new(runtime(&store(), Limits::default()).await);
    let follower = runtime.clone();
    let reader = tokio::spawn(async move {
        let seen = follower.feed().follow(Position::ZERO, EventFilter::default()).take(500);
        seen.map(|event| event.unwrap().position.0).collect::<Vec<_>>().await
    });
    join_all((0..500).map(|purse| runtime.execute::<Purse>(format!("p{}", purse % 7), Put { amount: 1 }))).await;
    assert_eq!(reader.await.unwrap(), (1..=500).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn embedders_message_an_actor_themselves() {
    let runtime = runtime(&store(), Limits::default()).await;
    let actor = runtime.actor(&id("p")).unwrap();
    let request = runtime.request::<Purse>("p", Put { amount: 3 }).unwrap();
    let (message, answer) = runtime.prepare(request).unwrap();
    actor.send_message(message).unwrap();
    assert_eq!(answer.await.unwrap().unwrap().version, Sequence(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_answers_what_is_in_flight_and_refuses_the_rest() {
    let runtime = Arc::new(runtime(&store(), Limits::default()).await);
    let commands: Vec<_> = (0..200)
        .map(|purse| {
            let runtime = runtime.clone();
            tokio::spawn(async move { runtime.execute::<Purse>(format!("p{purse}"), Put { amount: 1 }).await })
        })
        .collect();
    assert!(runtime.shutdown().await);
    for command in commands {
        let answer = command.await.unwrap();
        assert!(matches!(answer, Ok(_) | Err(CommandError::Draining)), "{answer:?}");
    }
    assert_eq!(runtime.execute::<Purse>("p", Put { amount: 1 }).await, Err(CommandError::Draining));
    assert_eq!(runtime.health().live_aggregates, 0);
}

/// The runtime holds a sender of its own journal, so the journal's queue never closed by itself and the task was cut.
#[tokio::test(start_paused = true)]
async fn journal_ends_when_it_is_told_to() {
    let runtime = runtime(&store(), Limits::default()).await;
    runtime.execute::<Purse>("p", Put { amount: 1 }).await.unwrap();
    let started = tokio::time::Instant::now();
    assert!(runtime.shutdown().await);
    assert!(started.elapsed() < Duration::from_millis(500), "a task was waited for until its bound");
}
