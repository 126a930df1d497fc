//! Rebuilding beside writers, killed, cancelled, compared, and rolled back.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use event_sourcing_actors::{
    memory::MemoryStore,
    ports::{LeaseClaim, Move, OperationStatus, ViewCommit, ViewOutcome, ViewStore},
    projections::{ProjectionStatus, ProjectionsError},
    view::{Row, RowKey, Touched},
};
use serde_json::Value;

use crate::{
    projected::{SUMS, Sums, Writer, assert_exact, caught_up, dump, ended, small_pages, start, state, status, until},
    support::store,
};

/// Changes a served row behind the projection's back.
async fn tamper(views: &MemoryStore, key: RowKey, data: &'static str) {
    let owner = uuid::Uuid::now_v7();
    let claim = LeaseClaim { projection: SUMS.to_owned(), owner, lease: Duration::from_secs(5) };
    let state = views.acquire(claim).await.unwrap().expect("nobody owns it");
    let row = Row { key, data: data.into() };
    let step = Move { from: state.checkpoint.position, to: state.checkpoint, puts: vec![row], ..Move::default() };
    let commit = ViewCommit {
        projection: SUMS.to_owned(),
        owner,
        epoch: state.epoch,
        lease: Duration::from_secs(5),
        served: Some((state.generation, step)),
        shadow: None,
        touched: Touched::Everything,
        transition: None,
        operation: None,
    };
    assert!(matches!(views.commit(commit).await.unwrap(), ViewOutcome::Committed(_)));
    views.release(SUMS, owner).await.unwrap();
}

fn result(operation: &event_sourcing_actors::ports::Operation) -> Value {
    serde_json::from_slice(operation.result.as_ref().unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_beside_writers_equals_the_fold_and_can_be_rolled_back() {
    let (store, sums) = (store(), Sums::default());
    let mut writer = Writer::new(&store);
    writer.fill(20, 100).await;
    let runtime = start(&store, store.clone(), sums.clone(), small_pages(50)).await;
    caught_up(&*store, &store).await;
    let old = state(&*store, SUMS).await.unwrap().generation;
    let operation = runtime.projections().rebuild(SUMS, false).await.unwrap();
    let twice = runtime.projections().rebuild(SUMS, false).await;
    assert!(matches!(twice, Err(ProjectionsError::Refused { operation: Some(_), .. })), "{twice:?}");
    for _ in 0..40 {
        writer.fill(20, 2).await;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let done = ended(&runtime, &operation).await;
    assert_eq!((done.status, &done.error), (OperationStatus::Succeeded, &None));
    let result = result(&done);
    assert_eq!(result["digest"], result["served_digest"]);
    assert_eq!(result["rows"], result["served_rows"]);
    caught_up(&*store, &store).await;
    assert_exact(&*store, &store, &sums).await;
    let after = state(&*store, SUMS).await.unwrap();
    assert!(after.generation != old && after.shadow.is_none());
    let rolled = runtime.projections().rollback(SUMS).await.unwrap();
    assert_eq!(rolled.status, ProjectionStatus::RolledBack);
    let at = state(&*store, SUMS).await.unwrap();
    assert_eq!(at.generation, old);
    writer.fill(20, 2).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(state(&*store, SUMS).await.unwrap().checkpoint, at.checkpoint, "rolled back rows stand still");
    let again = runtime.projections().rebuild(SUMS, false).await.unwrap();
    assert_eq!(ended(&runtime, &again).await.status, OperationStatus::Succeeded);
    caught_up(&*store, &store).await;
    assert_exact(&*store, &store, &sums).await;
    runtime.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_differ_are_not_swapped_in_unless_that_is_accepted() {
    let (store, sums) = (store(), Sums::default());
    let mut writer = Writer::new(&store);
    writer.fill(10, 10).await;
    let runtime = start(&store, store.clone(), sums.clone(), small_pages(50)).await;
    caught_up(&*store, &store).await;
    runtime.shutdown().await;
    tamper(&store, RowKey::new("purses", "", "p3"), r#"{"sum":1000000,"count":10}"#).await;
    let runtime = start(&store, store.clone(), sums.clone(), small_pages(50)).await;
    let operation = runtime.projections().rebuild(SUMS, false).await.unwrap();
    let failed = ended(&runtime, &operation).await;
    assert_eq!(failed.status, OperationStatus::Failed);
    assert!(failed.error.as_ref().unwrap().contains("differ"), "{failed:?}");
    let tallies = result(&failed);
    assert_eq!(tallies["rows"], tallies["served_rows"]);
    assert_ne!(tallies["digest"], tallies["served_digest"]);
    let kept = state(&*store, SUMS).await.unwrap();
    assert!(kept.shadow.is_none() && kept.previous.is_none());
    let operation = runtime.projections().rebuild(SUMS, true).await.unwrap();
    assert_eq!(ended(&runtime, &operation).await.status, OperationStatus::Succeeded);
    assert_exact(&*store, &store, &sums).await;
    runtime.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_rebuild_goes_on_where_it_was() {
    let (store, sums) = (store(), Sums::default());
    let mut writer = Writer::new(&store);
    writer.fill(20, 200).await;
    let runtime = start(&store, store.clone(), sums.clone(), small_pages(20)).await;
    caught_up(&*store, &store).await;
    let operation = runtime.projections().rebuild(SUMS, false).await.unwrap();
    let mut reached = 0;
    for _ in 0..8 {
        let shadow = || async { state(&*store, SUMS).await.unwrap().shadow };
        until("it moves", || async { shadow().await.is_none_or(|at| at.checkpoint.position.0 > reached) }).await;
        let Some(at) = shadow().await else { break };
        assert!(at.checkpoint.position.0 >= reached, "it began anew");
        reached = at.checkpoint.position.0;
        runtime.kill_projections();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    writer.fill(20, 2).await;
    let done = ended(&runtime, &operation).await;
    assert_eq!((done.status, done.error), (OperationStatus::Succeeded, None));
    caught_up(&*store, &store).await;
    assert_exact(&*store, &store, &sums).await;
    runtime.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_rebuild_leaves_the_served_rows_and_its_own_are_removed() {
    let (store, sums) = (store(), Sums::default());
    let mut writer = Writer::new(&store);
    writer.fill(20, 200).await;
    let mut limits = small_pages(20);
    limits.projection.prune_pause = Duration::from_millis(100);
    let runtime = start(&store, store.clone(), sums.clone(), limits).await;
    caught_up(&*store, &store).await;
    let operation = runtime.projections().rebuild(SUMS, false).await.unwrap();
    let shadow = state(&*store, SUMS).await.unwrap().shadow.unwrap();
    until("it has begun", || async {
        let moved = |shadow: event_sourcing_actors::ports::Shadow| shadow.checkpoint.position.0 > 100;
        state(&*store, SUMS).await.unwrap().shadow.is_some_and(moved)
    })
    .await;
    let cancelled = runtime.projections().cancel(operation.id).await.unwrap();
    assert_eq!(cancelled.status, OperationStatus::Cancelled);
    let over = runtime.projections().cancel(operation.id).await;
    assert!(matches!(over, Err(ProjectionsError::Refused { .. })), "{over:?}");
    writer.fill(20, 2).await;
    caught_up(&*store, &store).await;
    assert_exact(&*store, &store, &sums).await;
    assert_eq!(ended(&runtime, &operation).await.status, OperationStatus::Cancelled);
    until("its rows are removed", || async {
        store.dump(shadow.generation, None, NonZeroU32::MIN).await.unwrap().is_empty()
    })
    .await;
    until("it is live", || async { status(&runtime).await == ProjectionStatus::Live }).await;
    runtime.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn parked_events_do_not_hinder_a_rebuild_and_mended_code_loses_them() {
    let (store, sums) = (store(), Sums::default());
    let mut writer = Writer::new(&store);
    writer.fill(5, 5).await;
    writer.add(&[("p1", 13)]).await;
    writer.fill(5, 5).await;
    let runtime = start(&store, store.clone(), sums.clone(), small_pages(7)).await;
    caught_up(&*store, &store).await;
    assert_eq!(state(&*store, SUMS).await.unwrap().parked, 6);
    sums.is_superstitious.store(false, std::sync::atomic::Ordering::SeqCst);
    let operation = runtime.projections().rebuild(SUMS, false).await.unwrap();
    let done = ended(&runtime, &operation).await;
    assert_eq!((done.status, &done.error), (OperationStatus::Succeeded, &None));
    assert_eq!(result(&done)["served_parked"], 6);
    assert_eq!(state(&*store, SUMS).await.unwrap().parked, 0);
    assert_exact(&*store, &store, &sums).await;
    assert!(!dump(&*store).await.is_empty());
    let _: Arc<dyn ViewStore> = store.clone();
    runtime.shutdown().await;
}
