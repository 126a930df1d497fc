//! Sagas on a runtime: steps and undo, timers on a clock that is moved, events of the log, faults, changes of owner.

use std::{sync::Arc, time::Duration};

use chrono::DateTime;
use event_sourcing_actors::{
    EventType, Limits, Runtime, RuntimeBuilder,
    error::CommandError,
    limits::SagaLimits,
    memory::MemoryStore,
    saga::{Call, Route, SagaError, SagaStatus, Step, StepPolicy, StepSaga, StepStatus},
    sagas::{SagaCallError, SagaCaller, SagaFilter, SagaReport, StartSaga},
    testing::clock::ManualClock,
};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::support::{Purse, Put, Take, id};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Move {
    from: String,
    to: String,
    amount: i64,
    #[serde(default)]
    command: Option<String>,
}

fn policy() -> StepPolicy {
    StepPolicy {
        timeout: Some(Duration::from_secs(30)),
        attempts: 1,
        undo_attempts: 2,
        pause: Duration::from_millis(10),
    }
}

/// Moves a sum from one purse to another.
fn moving() -> StepSaga<Move> {
    StepSaga::<Move>::new("Move")
        .step(|data, _| {
            let amount = json!({ "amount": data.amount });
            Ok(Step::command("take", Call::new(&data.from, "Take", amount.clone())?)
                .undo(Call::new(&data.from, "Put", amount)?))
        })
        .step(|data, _| {
            let command = data.command.clone().unwrap_or_else(|| "Put".to_owned());
            let data_of = if command == "Panic" { json!({}) } else { json!({ "amount": data.amount }) };
            Ok(Step::command("put", Call::new(&data.to, command, data_of)?))
        })
        .policy(policy())
        .timeout(Duration::from_secs(300))
}

/// Gives one to the purse `tithe` for every purse that is added to, once for each.
fn tithing() -> StepSaga<Value> {
    StepSaga::<Value>::new("Tithe")
        .step(|_, _| Ok(Step::command("give", Call::new("tithe", "Put", json!({ "amount": 1 }))?)))
        .on(vec![EventType::new("Added").unwrap()], |event| {
            let id = event.aggregate_id.as_str();
            if !id.starts_with("giver") {
                return Ok(Vec::new());
            }
            if id == "giver-wrong" {
                return Err(SagaError::new("no route for it"));
            }
            Ok(vec![Route::Start { key: id.to_owned(), data: json!({ "of": id }) }])
        })
}

fn limits() -> Limits {
    Limits {
        sagas: SagaLimits {
            attempts_max: 3,
            retry_pause_max: Duration::from_millis(50),
            look: Duration::from_millis(10),
            ..SagaLimits::default()
        },
        ..Limits::default()
    }
}

fn builder(store: &Arc<MemoryStore>) -> RuntimeBuilder {
    RuntimeBuilder::new(store.clone(), store.clone())
        .views(store.clone())
        .aggregate::<Purse>()
        .unwrap()
        .limits(limits())
}

async fn start(store: &Arc<MemoryStore>) -> Runtime {
    builder(store).saga(moving()).unwrap().saga(tithing()).unwrap().start().await.unwrap()
}

fn order(data: Value) -> StartSaga {
    StartSaga { saga_type: "Move".to_owned(), data, timeout: None, caller: SagaCaller::system() }
}

async fn run(runtime: &Runtime, data: Value) -> SagaReport {
    runtime.sagas().run(order(data), Instant::now() + Duration::from_secs(20)).await.unwrap()
}

async fn ended(runtime: &Runtime, report: SagaReport) -> SagaReport {
    runtime.sagas().wait(&report.record.saga_id, Instant::now() + Duration::from_secs(20)).await.unwrap()
}

/// The sum of a purse; 0 if there is none.
async fn sum(runtime: &Runtime, purse: &str) -> i64 {
    match runtime.feed().summary(&id(purse)).await.unwrap() {
        Some(_) => crate::support::sum(runtime, purse).await,
        None => 0,
    }
}

async fn until<F: Future<Output = bool>>(what: &str, mut is_so: impl FnMut() -> F) {
    let give_up = Instant::now() + Duration::from_secs(20);
    while !is_so().await {
        assert!(Instant::now() < give_up, "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn steps_are_done_in_order_and_the_instance_ends() {
    let store = crate::support::store();
    let runtime = start(&store).await;
    runtime.execute::<Purse>("a", Put { amount: 10 }).await.unwrap();
    let report = run(&runtime, json!({ "from": "a", "to": "b", "amount": 4 })).await;
    assert_eq!(report.record.status, SagaStatus::Completed, "{report:?}");
    assert_eq!(report.steps, ["take", "put"]);
    assert_eq!((sum(&runtime, "a").await, sum(&runtime, "b").await), (6, 4));
    let page = runtime.sagas().list(&SagaFilter::default(), None, 10.try_into().unwrap()).await.unwrap();
    assert_eq!(page.items.len(), 1);
    assert_eq!((page.items[0].status, page.next_cursor), (SagaStatus::Completed, None));
    until("no actor is left of it", || async { runtime.health().live_aggregates == 2 }).await;
    runtime.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_steps_turn_the_instance_round() {
    let store = crate::support::store();
    let runtime = start(&store).await;
    let report = run(&runtime, json!({ "from": "a", "to": "b", "amount": 4 })).await;
    assert_eq!(report.record.status, SagaStatus::Compensated);
    assert_eq!(report.record.reason.as_ref().unwrap().code, "insufficient");
    runtime.execute::<Purse>("a", Put { amount: 10 }).await.unwrap();
    let report = run(&runtime, json!({ "from": "a", "to": "b", "amount": 4, "command": "Take" })).await;
    assert_eq!(report.record.status, SagaStatus::Compensated, "{report:?}");
    assert_eq!(report.record.step("take").unwrap().status, StepStatus::Compensated);
    assert_eq!((sum(&runtime, "a").await, sum(&runtime, "b").await), (10, 0));
    runtime.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_starts_are_told_and_leave_nothing() {
    let store = crate::support::store();
    let runtime = start(&store).await;
    until("the saga that sees the log is adopted", || async { runtime.feed().head().await.unwrap().0 == 1 }).await;
    let unknown = StartSaga { saga_type: "Mov".to_owned(), ..order(json!({})) };
    match runtime.sagas().start(unknown).await {
        Err(SagaCallError::UnknownType { nearest, .. }) => assert_eq!(nearest, ["Move"]),
        other => panic!("{other:?}"),
    }
    match runtime.sagas().start(order(json!({ "from": "a", "amount": 1 }))).await {
        Err(SagaCallError::Invalid { errors }) => assert_eq!(errors[0].pointer, "/to"),
        other => panic!("{other:?}"),
    }
    assert_eq!(runtime.feed().head().await.unwrap().0, 1);
    runtime.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_of_the_log_start_instances_once_for_each_key() {
    let store = crate::support::store();
    let runtime = start(&store).await;
    until("the saga is adopted", || async { runtime.feed().head().await.unwrap().0 >= 1 }).await;
    until("it works", || async { runtime.sagas().health().is_working_here }).await;
    for turn in 0..30 {
        runtime.execute::<Purse>(format!("giver-{}", turn % 10), Put { amount: 1 }).await.unwrap();
    }
    until("ten have given", || async { sum(&runtime, "tithe").await == 10 }).await;
    let filter = SagaFilter { saga_type: Some("Tithe".to_owned()), status: Some(SagaStatus::Completed) };
    until("they ended", || async {
        runtime.sagas().list(&filter, None, 100.try_into().unwrap()).await.unwrap().items.len() == 10
    })
    .await;
    // What cannot be routed is parked, as events that cannot be applied are.
    runtime.execute::<Purse>("giver-wrong", Put { amount: 1 }).await.unwrap();
    until("it is parked", || async { runtime.projections().show("sagas").await.unwrap().parked == 1 }).await;
    runtime.execute::<Purse>("giver-late", Put { amount: 1 }).await.unwrap();
    until("others are not held up", || async { sum(&runtime, "tithe").await == 11 }).await;
    runtime.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn instances_that_always_fail_are_set_aside_alone_and_go_on_when_asked() {
    let store = crate::support::store();
    let runtime = start(&store).await;
    runtime.execute::<Purse>("a", Put { amount: 10 }).await.unwrap();
    let broken = run(&runtime, json!({ "from": "a", "to": "b", "amount": 1, "command": "Panic" })).await;
    assert_eq!(broken.record.status, SagaStatus::Failed, "{broken:?}");
    assert!(broken.record.reason.as_ref().unwrap().message.contains("panicked"), "{broken:?}");
    let fine = run(&runtime, json!({ "from": "a", "to": "c", "amount": 1 })).await;
    assert_eq!(fine.record.status, SagaStatus::Completed);
    // It undoes what it did when it is cancelled, once the command that panics has an answer.
    let again = runtime.sagas().retry(&broken.record.saga_id, SagaCaller::system()).await.unwrap();
    assert_eq!(again.record.status, SagaStatus::Running);
    let again = ended(&runtime, again).await;
    assert_eq!(again.record.status, SagaStatus::Failed);
    match runtime.sagas().retry(&fine.record.saga_id, SagaCaller::system()).await {
        Err(SagaCallError::Command(CommandError::Rejected { refusal, .. })) => assert_eq!(refusal.code, "saga-ended"),
        other => panic!("{other:?}"),
    }
    runtime.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whole_timeouts_fire_on_the_clock_that_is_moved_also_after_a_restart() {
    let store = crate::support::store();
    let clock = Arc::new(ManualClock::at(DateTime::from_timestamp(1_704_067_200, 0).unwrap()));
    let waiting = || {
        StepSaga::<Value>::new("Wait")
            .step(|_, _| Ok(Step::command("take", Call::new("empty", "Take", json!({ "amount": 1 }))?)))
            .policy(StepPolicy { attempts: 1_000, pause: Duration::from_secs(3_600), ..policy() })
            .timeout(Duration::from_secs(300))
    };
    let begin = || async { builder(&store).clock(clock.clone()).saga(waiting()).unwrap().start().await.unwrap() };
    let runtime = begin().await;
    let wish = || StartSaga { saga_type: "Wait".to_owned(), ..order(json!({})) };
    let mut started = Vec::new();
    for _ in 0..50 {
        started.push(runtime.sagas().start(wish()).await.unwrap());
    }
    until("all wait", || async {
        let report = runtime.sagas().show(&started[49].record.saga_id).await.unwrap();
        report.record.timers.len() == 3 && runtime.health().live_aggregates <= 1
    })
    .await;
    runtime.shutdown().await;
    clock.advance(chrono::Duration::seconds(301));
    let runtime = begin().await;
    for report in started {
        let report = ended(&runtime, report).await;
        assert_eq!(report.record.status, SagaStatus::Compensated);
        assert_eq!(report.record.reason.as_ref().unwrap().code, "timeout");
    }
    runtime.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_was_open_is_finished_by_the_next_owner() {
    let store = crate::support::store();
    let first = start(&store).await;
    first.execute::<Purse>("a", Put { amount: 1_000 }).await.unwrap();
    let mut started = Vec::new();
    for turn in 0..200 {
        let data = json!({ "from": "a", "to": format!("b{}", turn % 7), "amount": 1 });
        started.push(first.sagas().start(order(data)).await.unwrap());
    }
    first.shutdown().await;
    let second = start(&store).await;
    for report in started {
        let report = ended(&second, report).await;
        assert_eq!(report.record.status, SagaStatus::Completed);
    }
    assert_eq!(sum(&second, "a").await, 800);
    let _ = second.execute::<Purse>("a", Take { amount: 1 }).await.unwrap();
    second.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuilt_index_equals_the_one_that_followed() {
    let store = crate::support::store();
    let runtime = start(&store).await;
    until("the saga is adopted", || async { runtime.feed().head().await.unwrap().0 >= 1 }).await;
    runtime.execute::<Purse>("a", Put { amount: 10 }).await.unwrap();
    for turn in 0..20 {
        let (amount, command) = (1 + turn, if turn % 4 == 3 { "Take" } else { "Put" });
        run(&runtime, json!({ "from": "a", "to": "b", "amount": amount, "command": command })).await;
        runtime.execute::<Purse>(format!("giver-{turn}"), Put { amount: 1 }).await.unwrap();
    }
    run(&runtime, json!({ "from": "a", "to": "c", "amount": 1, "command": "Panic" })).await;
    until("all have given", || async { sum(&runtime, "tithe").await == 20 }).await;
    let before = runtime.sagas().list(&SagaFilter::default(), None, 100.try_into().unwrap()).await.unwrap();
    let operation = runtime.projections().rebuild("sagas", false).await.unwrap();
    until("it is rebuilt", || async {
        let operation = runtime.projections().operation(operation.id).await.unwrap();
        assert!(operation.status != event_sourcing_actors::ports::OperationStatus::Failed, "{operation:?}");
        operation.status == event_sourcing_actors::ports::OperationStatus::Succeeded
    })
    .await;
    let after = runtime.sagas().list(&SagaFilter::default(), None, 100.try_into().unwrap()).await.unwrap();
    assert_eq!(before, after);
    let report = run(&runtime, json!({ "from": "b", "to": "a", "amount": 1 })).await;
    assert_eq!(report.record.status, SagaStatus::Completed, "work goes on over the new rows");
    runtime.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_the_list_hold_each_instance_once_newest_first() {
    let store = crate::support::store();
    let runtime = start(&store).await;
    runtime.execute::<Purse>("a", Put { amount: 100 }).await.unwrap();
    for turn in 0..23 {
        let amount = if turn % 5 == 0 { 1_000 } else { 1 };
        run(&runtime, json!({ "from": "a", "to": "b", "amount": amount })).await;
    }
    let (mut cursor, mut all) = (None, Vec::new());
    loop {
        let page =
            runtime.sagas().list(&SagaFilter::default(), cursor.as_deref(), 5.try_into().unwrap()).await.unwrap();
        assert!(page.items.len() <= 5);
        all.extend(page.items);
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(all.len(), 23);
    assert!(all.windows(2).all(|pair| pair[0].started_at >= pair[1].started_at && pair[0].saga_id != pair[1].saga_id));
    let compensated = SagaFilter { saga_type: None, status: Some(SagaStatus::Compensated) };
    let page = runtime.sagas().list(&compensated, None, 100.try_into().unwrap()).await.unwrap();
    assert_eq!((page.items.len(), page.next_cursor), (5, None));
    runtime.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_work_on_one_instance_and_it_has_one_end() {
    let store = crate::support::store();
    let (one, other) = (start(&store).await, start(&store).await);
    until("one works", || async { one.sagas().health().is_working_here || other.sagas().health().is_working_here })
        .await;
    one.execute::<Purse>("a", Put { amount: 1_000 }).await.unwrap();
    // Whichever owns the index: starts of both are worked on, and both hear how they end.
    let runs = (0..40).map(|turn| {
        let runtime = if turn % 2 == 0 { &one } else { &other };
        run(runtime, json!({ "from": "a", "to": format!("b{}", turn % 3), "amount": 1 }))
    });
    for report in futures_util::future::join_all(runs).await {
        assert_eq!(report.record.status, SagaStatus::Completed);
    }
    let owner = if one.sagas().health().is_working_here { &one } else { &other };
    assert_eq!(sum(owner, "a").await, 960);
    one.shutdown().await;
    let report = run(&other, json!({ "from": "a", "to": "b", "amount": 1 })).await;
    assert_eq!(report.record.status, SagaStatus::Completed);
    other.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn instances_for_which_there_was_no_place_are_found_again() {
    let store = crate::support::store();
    let few = Limits { sagas: SagaLimits { in_flight_max: 2, ..limits().sagas }, ..Limits::default() };
    let runtime = builder(&store).limits(few).saga(moving()).unwrap().start().await.unwrap();
    until("it works", || async { runtime.sagas().health().is_working_here }).await;
    runtime.execute::<Purse>("a", Put { amount: 1_000 }).await.unwrap();
    let starts = (0..100).map(|_| runtime.sagas().start(order(json!({ "from": "a", "to": "b", "amount": 1 }))));
    for started in futures_util::future::join_all(starts).await {
        started.unwrap();
    }
    let running = SagaFilter { saga_type: None, status: Some(SagaStatus::Running) };
    // Sooner than it is forgotten what this process has seen.
    let all_ended = until("all end", || async {
        runtime.sagas().list(&running, None, 1.try_into().unwrap()).await.unwrap().items.is_empty()
    });
    tokio::time::timeout(Duration::from_secs(8), all_ended).await.unwrap();
    assert_eq!(sum(&runtime, "b").await, 100);
    runtime.shutdown().await;
}
