//! What a review of the sagas found: each of these went wrong once, or could have.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use chrono::{DateTime, Utc};
use event_sourcing_actors::{
    EventType,
    command_bus::{Action, CommandRequest, CommandResult, Middleware, Next},
    error::CommandError,
    limits::SagaLimits,
    projection::ProjectedEvent,
    saga::{
        Call, Reaction, Route, Saga, SagaError, SagaInput, SagaRecord, SagaStatus, Step, StepCommand, StepDirection,
        StepPolicy, StepSaga,
    },
    sagas::{SagaCaller, StartSaga},
};
use futures_util::future::{BoxFuture, join_all};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{
    sagas::{builder, limits, moving, order, start, sum, until},
    support::{Purse, Put, store},
};

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(8)
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_waits_for_an_instance_does_not_hide_it_from_the_workers() {
    let store = store();
    let few = event_sourcing_actors::Limits { sagas: SagaLimits { in_flight_max: 2, ..limits().sagas }, ..limits() };
    let runtime = builder(&store).limits(few).saga(moving()).unwrap().start().await.unwrap();
    runtime.execute::<Purse>("a", Put { amount: 1_000 }).await.unwrap();
    let runs = (0..60).map(|turn| {
        let start = order(json!({ "from": "a", "to": "b", "amount": 1 }));
        let runtime = &runtime;
        async move {
            if turn % 2 == 0 {
                return runtime.sagas().run(start, soon()).await.unwrap();
            }
            let started = runtime.sagas().start(start).await.unwrap();
            runtime.sagas().wait(&started.record.saga_id, soon()).await.unwrap()
        }
    });
    for report in join_all(runs).await {
        assert_eq!(report.record.status, SagaStatus::Completed, "{report:?}");
    }
    runtime.shutdown().await;
}

/// Puts into a purse again and again; each time it waits until it has seen the event of it, too.
#[derive(Debug)]
struct Listening;

const TURNS: u32 = 5;

impl Saga for Listening {
    type State = u32;

    fn name(&self) -> &str {
        "Listening"
    }

    fn interest(&self) -> Vec<EventType> {
        vec![EventType::new("Added").unwrap()]
    }

    fn route(&self, event: &ProjectedEvent<'_>) -> Result<Vec<Route>, SagaError> {
        Ok(vec![Route::Continue { key: event.aggregate_id.to_string() }])
    }

    fn react(
        &self,
        heard: &mut u32,
        input: &SagaInput,
        saga: &SagaRecord,
        _: DateTime<Utc>,
    ) -> Result<Vec<Reaction>, SagaError> {
        let key = saga.data["key"].as_str().unwrap_or_default().to_owned();
        let put = |amount: u32| {
            Reaction::Command(StepCommand {
                step: "put".to_owned(),
                direction: StepDirection::Forward,
                aggregate_id: key.as_str().try_into().unwrap(),
                command_type: "Put".to_owned(),
                data: json!({ "amount": amount }),
                expected: None,
                timeout: None,
            })
        };
        if *input == SagaInput::Started {
            return Ok(vec![Reaction::Correlate { key: key.clone() }, put(1)]);
        }
        *heard += u32::from(matches!(input, SagaInput::Event(_)));
        let sent = saga.step("put").map_or(0, |step| step.attempts);
        Ok(match saga.is_quiet() && *heard >= sent {
            true if sent == TURNS => vec![Reaction::Complete],
            true => vec![put(1)],
            false => Vec::new(),
        })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn open_instances_hear_every_event_of_their_key_once() {
    let store = store();
    let runtime = builder(&store).saga(Listening).unwrap().start().await.unwrap();
    until("the saga is adopted", || async { runtime.feed().head().await.unwrap().0 == 1 }).await;
    // Two instances for each key: one event concerns both.
    let runs = (0..20).map(|turn| {
        let data = json!({ "key": format!("key-{}", turn / 2) });
        let start = StartSaga { saga_type: "Listening".to_owned(), ..order(data) };
        runtime.sagas().run(start, Instant::now() + Duration::from_secs(15))
    });
    for report in join_all(runs).await {
        let report = report.unwrap();
        assert_eq!(report.record.status, SagaStatus::Completed, "{report:?}");
    }
    assert_eq!(sum(&runtime, "key-0").await, i64::from(2 * TURNS));
    runtime.shutdown().await;
}

/// Spoils commands of one name, as often as it is told, in a way of its own.
#[derive(Debug)]
struct Spoiler {
    name: &'static str,
    times: AtomicU32,
    how: How,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    /// It does not reach the aggregate.
    Overloaded,
    /// It does, but nobody hears the answer; and then the sender is not allowed to send it any more.
    LostThenForbidden,
}

impl Middleware for Spoiler {
    fn handle<'a>(&'a self, request: CommandRequest, next: Next<'a>) -> BoxFuture<'a, CommandResult> {
        let is_meant = matches!(&request.action, Action::Command(command) if command.name == self.name);
        if !is_meant || self.times.load(Ordering::SeqCst) == 0 {
            return next.run(request);
        }
        let left = self.times.fetch_sub(1, Ordering::SeqCst);
        let command_id = request.command_id;
        Box::pin(async move {
            match (self.how, left) {
                (How::Overloaded, _) => {
                    Err(CommandError::Overloaded { scope: "process", retry_after: Duration::from_secs(1) })
                }
                (How::LostThenForbidden, 1) => Err(CommandError::Forbidden { reason: "not any more".to_owned() }),
                (How::LostThenForbidden, _) => {
                    let _ = next.run(request).await;
                    Err(CommandError::OutcomeUnknown { command_id })
                }
            }
        })
    }
}

fn spoiler(name: &'static str, times: u32, how: How) -> Arc<dyn Middleware> {
    Arc::new(Spoiler { name, times: AtomicU32::new(times), how })
}

#[tokio::test(flavor = "multi_thread")]
async fn timers_that_did_not_fire_at_once_fire_later() {
    let store = store();
    let policy = StepPolicy { attempts: 2, pause: Duration::from_millis(20), ..StepPolicy::default() };
    let saga = StepSaga::<Value>::new("Trying")
        .step(|_, _| Ok(Step::command("take", Call::new("nobody", "Take", json!({ "amount": 1 }))?)))
        .policy(policy);
    let spoiler = spoiler("FireSagaTimer", 1, How::Overloaded);
    let runtime = builder(&store).middleware(spoiler).saga(saga).unwrap().start().await.unwrap();
    let start = StartSaga { saga_type: "Trying".to_owned(), ..order(json!({})) };
    let report = runtime.sagas().run(start, soon()).await.unwrap();
    assert_eq!(report.record.status, SagaStatus::Compensated, "{report:?}");
    assert_eq!(report.record.step("take").unwrap().attempts, 2);
    runtime.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_that_asked_nobody_is_no_answer_to_a_command_that_was_taken() {
    let store = store();
    let spoiler = spoiler("Take", 2, How::LostThenForbidden);
    let runtime = builder(&store).middleware(spoiler).saga(moving()).unwrap().start().await.unwrap();
    runtime.execute::<Purse>("a", Put { amount: 10 }).await.unwrap();
    let start = order(json!({ "from": "a", "to": "b", "amount": 4 }));
    let report = runtime.sagas().run(start, soon()).await.unwrap();
    assert_eq!(report.record.status, SagaStatus::Completed, "{report:?}");
    assert_eq!((sum(&runtime, "a").await, sum(&runtime, "b").await), (6, 4));
    runtime.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_has_the_name_of_an_adoption_stops_nothing_else() {
    let store = store();
    let before = crate::support::builder(&store).start().await.unwrap();
    before.execute::<Purse>("saga-definition/Tithe", Put { amount: 1 }).await.unwrap();
    before.execute::<Purse>("a", Put { amount: 10 }).await.unwrap();
    before.shutdown().await;
    let runtime = start(&store).await;
    let report = runtime.sagas().run(order(json!({ "from": "a", "to": "b", "amount": 1 })), soon()).await.unwrap();
    assert_eq!(report.record.status, SagaStatus::Completed);
    runtime.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_start_is_worked_on_by_whoever_hears_it() {
    let store = store();
    let runtime = start(&store).await;
    runtime.execute::<Purse>("a", Put { amount: 10 }).await.unwrap();
    let idempotency = event_sourcing_actors::command_bus::Idempotency { key: "k".into(), fingerprint: [1; 32] };
    let caller = || SagaCaller { idempotency: Some(idempotency.clone()), ..SagaCaller::system() };
    let wish = || StartSaga { caller: caller(), ..order(json!({ "from": "a", "to": "b", "amount": 1 })) };
    let first = runtime.sagas().start(wish()).await.unwrap();
    let again = runtime.sagas().run(wish(), soon()).await.unwrap();
    assert_eq!(
        (again.record.saga_id.clone(), again.record.status),
        (first.record.saga_id.clone(), SagaStatus::Completed)
    );
    assert_eq!(sum(&runtime, "b").await, 1);
    runtime.shutdown().await;
}
