//! Poison: one event in ten thousand waits with what comes after it in its stream, and the rest flows.

use std::{num::NonZeroU32, sync::atomic::Ordering};

use event_sourcing_actors::{
    Position, Runtime,
    ports::{OperationStatus, ParkedEvent, ParkedRequest},
    projections::{ProjectionStatus, ProjectionsError},
    testing::view_faults::{FaultViews, ViewFault},
};
use serde_json::{Value, json};

use crate::{
    projected::{SUMS, Sums, Writer, assert_exact, caught_up, dump, ended, quick, start, state, status, until},
    support::store,
};

async fn parked(runtime: &Runtime) -> Vec<ParkedEvent> {
    runtime.projections().parked(SUMS, Position::ZERO, NonZeroU32::new(100).unwrap()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_bad_event_in_ten_thousand_is_parked_and_retried_when_the_code_is_mended() {
    let (store, sums) = (store(), Sums::default());
    let mut writer = Writer::new(&store);
    writer.fill(100, 50).await;
    writer.add(&[("p7", 13)]).await;
    writer.fill(100, 50).await;
    let runtime = start(&store, store.clone(), sums.clone(), quick()).await;
    caught_up(&*store, &store).await;
    let waiting = parked(&runtime).await;
    assert_eq!(waiting.len(), 51);
    assert_eq!((waiting[0].event.position, waiting[0].event.attempts), (Position(5_001), 3));
    assert!(waiting.iter().skip(1).all(|parked| parked.event.attempts == 0 && parked.event.error.contains("5001")));
    assert!(waiting.iter().all(|parked| parked.event.aggregate_id.as_str() == "p7"));
    // Rows of the streams that flow are as they have to be.
    assert_exact(&*store, &store, &sums).await;
    // Retried in vain, by way of an event that only waits.
    let projections = runtime.projections();
    let operation = projections.settle(SUMS, waiting[20].event.position, ParkedRequest::Retry, "me").await.unwrap();
    let failed = ended(&runtime, &operation).await;
    assert_eq!(failed.status, OperationStatus::Failed);
    assert!(failed.error.unwrap().contains("thirteen"));
    assert_eq!(parked(&runtime).await[0].event.attempts, 6);
    assert!(parked(&runtime).await.iter().all(|parked| parked.request.is_none()));
    // Mended.
    sums.is_superstitious.store(false, Ordering::SeqCst);
    let operation = projections.settle(SUMS, Position(5_001), ParkedRequest::Retry, "me").await.unwrap();
    let done = ended(&runtime, &operation).await;
    assert_eq!((done.status, done.error), (OperationStatus::Succeeded, None));
    let result: Value = serde_json::from_slice(&done.result.unwrap()).unwrap();
    assert_eq!(result, json!({ "applied": 51, "skipped": 0 }));
    assert!(parked(&runtime).await.is_empty());
    writer.fill(100, 1).await;
    caught_up(&*store, &store).await;
    assert_exact(&*store, &store, &sums).await;
    runtime.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn retries_count_once_under_lost_and_late_commits() {
    let (store, sums) = (store(), Sums::default());
    let views = FaultViews::new(store.clone());
    let mut writer = Writer::new(&store);
    writer.fill(5, 5).await;
    writer.add(&[("p1", 13)]).await;
    writer.fill(5, 5).await;
    let runtime = start(&store, views.clone(), sums.clone(), quick()).await;
    caught_up(&*views, &store).await;
    sums.is_superstitious.store(false, Ordering::SeqCst);
    let late = std::time::Duration::from_millis(60);
    views.plan([ViewFault::LateRequest(late), ViewFault::LostRequest, ViewFault::LostAnswer]);
    let operation = runtime.projections().settle(SUMS, Position(26), ParkedRequest::Retry, "me").await.unwrap();
    assert_eq!(ended(&runtime, &operation).await.status, OperationStatus::Succeeded);
    tokio::time::sleep(late * 2).await;
    assert_exact(&*views, &store, &sums).await;
    runtime.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_one_commit_holds_are_settled_by_one_request() {
    let (store, sums) = (store(), Sums::default());
    let mut writer = Writer::new(&store);
    writer.add(&[("p1", 13)]).await;
    for _ in 0..2_300 {
        writer.add(&[("p1", 1)]).await;
    }
    let runtime = start(&store, store.clone(), sums.clone(), quick()).await;
    caught_up(&*store, &store).await;
    assert_eq!(state(&*store, SUMS).await.unwrap().parked, 2_301);
    sums.is_superstitious.store(false, Ordering::SeqCst);
    let operation = runtime.projections().settle(SUMS, Position(1), ParkedRequest::Retry, "me").await.unwrap();
    writer.fill(5, 5).await;
    let done = ended(&runtime, &operation).await;
    let result: Value = serde_json::from_slice(&done.result.unwrap()).unwrap();
    assert!(result["applied"].as_u64().unwrap() >= 2_301, "{result}");
    caught_up(&*store, &store).await;
    assert_exact(&*store, &store, &sums).await;
    runtime.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_skipped_event_stays_on_record_and_lets_the_others_through() {
    let (store, sums) = (store(), Sums::default());
    let mut writer = Writer::new(&store);
    writer.fill(5, 5).await;
    writer.add(&[("p1", 13)]).await;
    writer.fill(5, 5).await;
    let runtime = start(&store, store.clone(), sums.clone(), quick()).await;
    caught_up(&*store, &store).await;
    let unknown = runtime.projections().settle(SUMS, Position(3), ParkedRequest::Skip, "me").await;
    assert!(matches!(unknown, Err(ProjectionsError::UnknownParked { position: Position(3) })), "{unknown:?}");
    let operation = runtime.projections().settle(SUMS, Position(26), ParkedRequest::Skip, "boss").await.unwrap();
    let done = ended(&runtime, &operation).await;
    let result: Value = serde_json::from_slice(&done.result.unwrap()).unwrap();
    assert_eq!(result, json!({ "applied": 5, "skipped": 1 }));
    let left = parked(&runtime).await;
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].skipped.as_ref().unwrap().1, "boss");
    assert_eq!(state(&*store, SUMS).await.unwrap().parked, 0);
    // A rebuild that cannot apply it either leaves it out again.
    let operation = runtime.projections().rebuild(SUMS, false).await.unwrap();
    assert_eq!(ended(&runtime, &operation).await.status, OperationStatus::Succeeded);
    assert_eq!((parked(&runtime).await.len(), state(&*store, SUMS).await.unwrap().parked), (1, 0));
    // As if the skipped one had never been.
    writer.fill(5, 1).await;
    caught_up(&*store, &store).await;
    sums.is_superstitious.store(false, Ordering::SeqCst);
    let mut log = crate::projected::log(&store).await;
    log.retain(|event| event.position != Position(26));
    let expected = event_sourcing_actors::testing::given_events::fold_of_log(&sums, runtime.catalog(), &log);
    assert_eq!(dump(&*store).await, expected);
    runtime.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_keys_that_wait_stop_the_projection() {
    let store = store();
    let mut writer = Writer::new(&store);
    let mut limits = quick();
    limits.projection.parked_keys_max = 3;
    for purse in ["a", "b", "c"] {
        writer.add(&[(purse, 13)]).await;
    }
    let runtime = start(&store, store.clone(), Sums::default(), limits).await;
    caught_up(&*store, &store).await;
    writer.add(&[("d", 13)]).await;
    until("it stops", || async { status(&runtime).await == ProjectionStatus::Stopped }).await;
    let report = runtime.projections().show(SUMS).await.unwrap();
    assert!(report.last_error.unwrap().reason.contains("more than 3 keys"));
    runtime.shutdown().await;
}
