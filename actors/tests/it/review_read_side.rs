//! What a review of the read side found: each test failed once.

use std::{
    num::NonZeroU32,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use event_sourcing_actors::{
    Position,
    ports::{Control, OperationStatus, ParkedRequest, ViewStore},
    projections::ProjectionStatus,
    testing::view_faults::FaultViews,
};

use crate::{
    projected::{
        SUMS, Sums, Writer, assert_exact, caught_up, dump, ended, quick, small_pages, start, state, status, until,
    },
    support::store,
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
