//! What a review of the read side found: each test failed once.

use std::{
    num::NonZeroU32,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use event_sourcing_actors::{
    EventFilter, Position,
    ports::{Control, OperationStatus, ParkedRequest, ViewStore},
    projection::{ApplyError, ProjectedEvent, Projection, Rows},
    projections::{ProjectionStatus, ProjectionsError},
    testing::view_faults::{FaultViews, ViewFault},
};

use crate::{
    projected::{
        SUMS, Sums, Writer, assert_exact, caught_up, dump, ended, quick, small_pages, start, state, status, until,
    },
    support::{Added, store},
};

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_reaches_is_removed_under_load_too() {
    let store = store();
    let mut writer = Writer::new(&store);
    let mut limits = small_pages(1);
    limits.projection.prune_pause = Duration::from_millis(5);
    writer.fill(20, 400).await;
    let runtime = start(&store, store.clone(), Sums::default(), limits).await;
    until("it moves", || async {
        state(&*store, SUMS).await.is_some_and(|state| state.checkpoint.position > Position(100))
    })
    .await;
    let operation = runtime.projections().rebuild(SUMS, false).await.unwrap();
    let shadow = state(&*store, SUMS).await.unwrap().shadow.unwrap().generation;
    let rows = || async { store.dump(shadow, None, NonZeroU32::MIN).await.unwrap().len() };
    until("the rebuild has rows", || async { rows().await > 0 }).await;
    runtime.projections().cancel(operation.id).await.unwrap();
    until("they are removed", || async { rows().await == 0 }).await;
    let behind = state(&*store, SUMS).await.unwrap().checkpoint.position;
    assert!(behind.0 < 8_000, "they were removed only when nothing else was to do");
    runtime.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_on_events_of_one_key_are_all_answered() {
    let (store, sums) = (store(), Sums { is_nervous: true, ..Sums::default() });
    let mut writer = Writer::new(&store);
    for purse in ["a", "b"] {
        for amount in [13, 99, 1] {
            writer.add(&[(purse, amount)]).await;
        }
    }
    let runtime = start(&store, store.clone(), sums.clone(), quick()).await;
    caught_up(&*store, &store).await;
    sums.is_superstitious.store(false, Ordering::SeqCst);
    let projections = runtime.projections();
    projections.pause(SUMS).await.unwrap();
    let ask = |position, request| projections.settle(SUMS, Position(position), request, "me");
    // The second fails as it did before.
    let skipped = ask(1, ParkedRequest::Skip).await.unwrap();
    let in_vain = ask(2, ParkedRequest::Retry).await.unwrap();
    // The second is to be left out.
    let mended = ask(4, ParkedRequest::Retry).await.unwrap();
    let left_out = ask(5, ParkedRequest::Skip).await.unwrap();
    projections.resume(SUMS).await.unwrap();
    assert_eq!(ended(&runtime, &skipped).await.status, OperationStatus::Succeeded);
    let in_vain = ended(&runtime, &in_vain).await;
    assert_eq!(in_vain.status, OperationStatus::Failed);
    assert!(in_vain.error.unwrap().contains("ninety-nine"));
    assert_eq!(ended(&runtime, &mended).await.status, OperationStatus::Succeeded);
    assert_eq!(ended(&runtime, &left_out).await.status, OperationStatus::Succeeded);
    let parked = projections.parked(SUMS, Position::ZERO, NonZeroU32::new(100).unwrap()).await.unwrap();
    let waiting: Vec<_> = parked.iter().filter(|it| it.skipped.is_none()).map(|it| it.event.position.0).collect();
    assert_eq!(waiting, [2, 3]);
    runtime.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_far_behind_what_its_key_waits_for_is_answered_once() {
    let store = store();
    let mut writer = Writer::new(&store);
    writer.add(&[("a", 13)]).await;
    for _ in 0..1_200 {
        writer.add(&[("a", 1)]).await;
    }
    let runtime = start(&store, store.clone(), Sums::default(), quick()).await;
    caught_up(&*store, &store).await;
    let operation = runtime.projections().settle(SUMS, Position(1_201), ParkedRequest::Retry, "me").await.unwrap();
    assert_eq!(ended(&runtime, &operation).await.status, OperationStatus::Failed);
    writer.add(&[("b", 1)]).await;
    caught_up(&*store, &store).await;
    assert!(!state(&*store, SUMS).await.unwrap().has_requests);
    runtime.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_another_version_are_left_alone_by_requests() {
    let store = store();
    let mut writer = Writer::new(&store);
    writer.add(&[("a", 1), ("b", 1)]).await;
    writer.add(&[("a", 13)]).await;
    let runtime = start(&store, store.clone(), Sums::default(), quick()).await;
    caught_up(&*store, &store).await;
    runtime.shutdown().await;
    let (before, generation) = (dump(&*store).await, state(&*store, SUMS).await.unwrap().generation);
    let operation = uuid::Uuid::now_v7();
    let (position, request, principal) = (Position(3), ParkedRequest::Retry, "me".to_owned());
    store.control(SUMS, Control::Settle { position, request, operation, principal }).await.unwrap();
    let newer = Sums { version: 2, bonus: 1_000, ..Sums::default() };
    newer.is_superstitious.store(false, Ordering::SeqCst);
    let runtime = start(&store, store.clone(), newer.clone(), small_pages(1)).await;
    until("the new version is served", || async { state(&*store, SUMS).await.unwrap().version == 2 }).await;
    caught_up(&*store, &store).await;
    assert_exact(&*store, &store, &newer).await;
    let after = store.dump(generation, None, NonZeroU32::new(500).unwrap()).await.unwrap();
    assert_eq!(after, before, "a rollback would serve rows of two versions");
    let operation = runtime.projections().operation(operation).await.unwrap();
    assert_eq!(ended(&runtime, &operation).await.status, OperationStatus::Failed);
    runtime.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_replaced_during_a_rebuild_stops_the_projection() {
    let (store, other) = (store(), store());
    Writer::new(&store).fill(10, 100).await;
    let runtime = start(&store, store.clone(), Sums::default(), small_pages(5)).await;
    caught_up(&*store, &store).await;
    let operation = runtime.projections().rebuild(SUMS, false).await.unwrap();
    until("it has begun", || async {
        let shadow = state(&*store, SUMS).await.unwrap().shadow;
        shadow.is_some_and(|shadow| shadow.checkpoint.position > Position::ZERO)
    })
    .await;
    runtime.shutdown().await;
    let before = state(&*store, SUMS).await.unwrap();
    assert!(before.shadow.is_some(), "the rebuild was over too soon");
    // Another history, which reaches further.
    Writer::new(&other).fill(10, 200).await;
    let views: Arc<dyn ViewStore> = store.clone();
    let runtime = start(&other, views, Sums::default(), small_pages(5)).await;
    assert_eq!(ended(&runtime, &operation).await.status, OperationStatus::Failed);
    until("it stops", || async { status(&runtime).await == ProjectionStatus::Stopped }).await;
    assert_eq!(state(&*store, SUMS).await.unwrap().checkpoint, before.checkpoint);
    runtime.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_takes_longer_than_a_lease_does_not_go_from_hand_to_hand_for_ever() {
    let store = store();
    let mut writer = Writer::new(&store);
    let names: Vec<String> = (0..100).map(|number| format!("p{number}")).collect();
    let amounts: Vec<_> = names.iter().map(|name| (name.as_str(), 13)).collect();
    writer.add(&amounts).await;
    let mut limits = quick();
    limits.projection.lease = Duration::from_millis(400);
    limits.projection.apply_pause = Duration::from_millis(20);
    let first = start(&store, store.clone(), Sums::default(), limits.clone()).await;
    let second = start(&store, store.clone(), Sums::default(), limits).await;
    caught_up(&*store, &store).await;
    assert_eq!(state(&*store, SUMS).await.unwrap().parked, 100);
    first.shutdown().await;
    second.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_the_store_refuses_do_not_hold_up_a_rebuild_under_load() {
    let store = store();
    let views = FaultViews::new(store.clone());
    views.refuse("7777777");
    let mut writer = Writer::new(&store);
    writer.add(&[("bad", 7_777_777)]).await;
    let runtime = start(&store, views.clone(), Sums::default(), small_pages(1)).await;
    caught_up(&*views, &store).await;
    writer.fill(20, 400).await;
    let operation = runtime.projections().rebuild(SUMS, false).await.unwrap();
    until("the rebuild is past it", || async {
        let shadow = state(&*views, SUMS).await.unwrap().shadow;
        shadow.is_none_or(|shadow| shadow.checkpoint.position > Position(1))
    })
    .await;
    let served = state(&*views, SUMS).await.unwrap().checkpoint.position;
    assert!(served.0 < 8_001, "only when nothing else was to do");
    // On a fast machine it may be over by now.
    match runtime.projections().cancel(operation.id).await {
        Ok(_) | Err(ProjectionsError::Refused { .. }) => {}
        Err(error) => panic!("{error}"),
    }
    runtime.shutdown().await;
}

/// Removes the row an event names, whatever that is; amounts stand for lengths.
#[derive(Debug)]
struct Remover;

impl Projection for Remover {
    fn name(&self) -> &str {
        SUMS
    }
    fn version(&self) -> u64 {
        1
    }
    fn interest(&self) -> EventFilter {
        EventFilter::default()
    }
    fn apply(&self, event: &ProjectedEvent<'_>, rows: &mut Rows<'_>) -> Result<(), ApplyError> {
        let Added { amount } = event.read()?;
        rows.delete("purses", "", &"x".repeat(usize::try_from(amount).unwrap()));
        rows.delete("purses", "", "\0");
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn removing_a_row_that_no_store_could_keep_is_no_fault() {
    let store = store();
    Writer::new(&store).add(&[("a", 2_000)]).await;
    let runtime = start(&store, store.clone(), Remover, quick()).await;
    caught_up(&*store, &store).await;
    assert_eq!(state(&*store, SUMS).await.unwrap().parked, 0);
    runtime.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_on_what_is_being_settled_is_answered() {
    let (store, sums) = (store(), Sums { is_nervous: true, ..Sums::default() });
    let mut writer = Writer::new(&store);
    for amount in [13, 1, 99] {
        writer.add(&[("a", amount)]).await;
    }
    let mut limits = quick();
    limits.projection.apply_pause = Duration::from_millis(150);
    let runtime = start(&store, store.clone(), sums.clone(), limits).await;
    caught_up(&*store, &store).await;
    sums.is_superstitious.store(false, Ordering::SeqCst);
    let ask = |position| runtime.projections().settle(SUMS, Position(position), ParkedRequest::Retry, "me");
    let first = ask(1).await.unwrap();
    // The third takes its time.
    tokio::time::sleep(Duration::from_millis(100)).await;
    let (second, third) = (ask(2).await.unwrap(), ask(3).await.unwrap());
    assert_eq!(ended(&runtime, &first).await.status, OperationStatus::Failed);
    assert_eq!(ended(&runtime, &second).await.status, OperationStatus::Succeeded);
    assert_eq!(ended(&runtime, &third).await.status, OperationStatus::Failed);
    runtime.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_whose_owner_was_interrupted_is_answered() {
    let (store, sums) = (store(), Sums::default());
    let views = FaultViews::new(store.clone());
    let mut writer = Writer::new(&store);
    writer.add(&[("a", 13)]).await;
    for _ in 0..1_100 {
        writer.add(&[("a", 1)]).await;
    }
    let runtime = start(&store, views.clone(), sums.clone(), quick()).await;
    caught_up(&*views, &store).await;
    sums.is_superstitious.store(false, Ordering::SeqCst);
    views.plan([ViewFault::LostAnswer]);
    let operation = runtime.projections().settle(SUMS, Position(1), ParkedRequest::Retry, "me").await.unwrap();
    assert_eq!(ended(&runtime, &operation).await.status, OperationStatus::Failed);
    let left = runtime.projections().parked(SUMS, Position::ZERO, NonZeroU32::MIN).await.unwrap();
    let again = runtime.projections().settle(SUMS, left[0].event.position, ParkedRequest::Retry, "me").await.unwrap();
    assert_eq!(ended(&runtime, &again).await.status, OperationStatus::Succeeded);
    assert_exact(&*views, &store, &sums).await;
    runtime.shutdown().await;
}
