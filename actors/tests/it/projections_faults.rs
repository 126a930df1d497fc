//! Exactly once, whatever the view store, the actors and other processes do; and the control, which must fail.

use std::{sync::Arc, time::Duration};

use event_sourcing_actors::{
    Position,
    memory::MemoryStore,
    ports::{Checkpoint, LeaseClaim, Move, ViewCommit, ViewOutcome, ViewStore},
    testing::view_faults::{FaultViews, ViewFault},
    view::Touched,
};

use crate::{
    projected::{SUMS, Sums, Writer, assert_exact, caught_up, dump, expected, quick, small_pages, start, state, until},
    support::store,
};

fn harmless() -> Sums {
    let sums = Sums::default();
    sums.is_superstitious.store(false, std::sync::atomic::Ordering::SeqCst);
    sums
}

#[tokio::test(flavor = "multi_thread")]
async fn every_event_counts_once_whatever_becomes_of_commits_and_actors() {
    let store = store();
    let views = FaultViews::new(store.clone());
    let faults = (0..120).map(|number| match number % 6 {
        0 => ViewFault::LostRequest,
        2 => ViewFault::LostAnswer,
        4 => ViewFault::LateRequest(Duration::from_millis(number % 40)),
        _ => ViewFault::None,
    });
    views.plan(faults);
    let runtime = start(&store, views.clone(), harmless(), small_pages(20)).await;
    let mut writer = Writer::new(&store);
    for _ in 0..30 {
        writer.fill(20, 4).await;
        runtime.kill_projections();
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    until("the faults are used up", || async {
        if views.planned() > 0 {
            writer_tick(&store).await;
        }
        views.planned() == 0
    })
    .await;
    caught_up(&*views, &store).await;
    // What comes late still must not count.
    tokio::time::sleep(Duration::from_millis(60)).await;
    assert_exact(&*views, &store, &harmless()).await;
    assert!(runtime.projections().health()[0].restarts > 0);
    runtime.shutdown().await;
}

/// One more event, so that there is something to commit.
async fn writer_tick(store: &Arc<MemoryStore>) {
    let name = format!("tick-{}", uuid::Uuid::now_v7());
    Writer::new(store).add(&[(&name, 1)]).await;
}

/// The control: rows and checkpoint in two transactions, and the same test tells.
#[tokio::test(flavor = "multi_thread")]
async fn without_one_transaction_events_count_twice() {
    let store = store();
    let views = FaultViews::new(store.clone());
    views.plan([ViewFault::None, ViewFault::Torn, ViewFault::None, ViewFault::Torn]);
    let runtime = start(&store, views.clone(), harmless(), small_pages(20)).await;
    Writer::new(&store).fill(20, 10).await;
    caught_up(&*views, &store).await;
    assert_ne!(dump(&*views).await, expected(&store, &harmless()).await);
    runtime.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_process_is_replaced_within_its_lease_and_nothing_counts_twice() {
    let store = store();
    let mut writer = Writer::new(&store);
    writer.fill(20, 20).await;
    let process = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let first = {
        let store = store.clone();
        process.spawn(async move { start(&store, store.clone(), harmless(), small_pages(10)).await })
    };
    let first = first.await.unwrap();
    caught_up(&*store, &store).await;
    let second = start(&store, store.clone(), harmless(), small_pages(10)).await;
    writer.fill(20, 20).await;
    let owner = state(&*store, SUMS).await.unwrap().lease.unwrap().owner;
    process.shutdown_background();
    let killed = tokio::time::Instant::now();
    until("the other takes over", || async {
        state(&*store, SUMS).await.unwrap().lease.is_some_and(|lease| lease.owner != owner)
    })
    .await;
    let took = killed.elapsed();
    assert!(took < quick().projection.lease + Duration::from_secs(1), "{took:?}");
    writer.fill(20, 5).await;
    caught_up(&*store, &store).await;
    assert_exact(&*store, &store, &harmless()).await;
    assert!(second.projections().show(SUMS).await.unwrap().is_owned_here);
    second.shutdown().await;
    drop(first);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_owner_loses_its_lease_and_then_every_commit() {
    let store = store();
    let frozen = FaultViews::new(store.clone());
    let mut writer = Writer::new(&store);
    writer.fill(10, 10).await;
    let first = start(&store, frozen.clone(), harmless(), quick()).await;
    caught_up(&*store, &store).await;
    let before = state(&*store, SUMS).await.unwrap();
    let second = start(&store, store.clone(), harmless(), quick()).await;
    frozen.silence(true);
    until("the other takes over", || async { state(&*store, SUMS).await.unwrap().epoch > before.epoch }).await;
    writer.fill(10, 10).await;
    caught_up(&*store, &store).await;
    // What the frozen owner still had to say.
    let position = before.checkpoint.position;
    let step =
        Move { from: position, to: Checkpoint { position: Position(position.0 + 1), leaf: None }, ..Move::default() };
    let late = ViewCommit {
        projection: SUMS.to_owned(),
        owner: before.lease.unwrap().owner,
        epoch: before.epoch,
        lease: Duration::from_secs(1),
        served: Some((before.generation, step)),
        shadow: None,
        touched: Touched::Tags(Vec::new()),
        transition: None,
        operation: None,
    };
    assert_eq!(store.commit(late).await.unwrap(), ViewOutcome::Lost);
    frozen.silence(false);
    writer.fill(10, 10).await;
    caught_up(&*store, &store).await;
    assert_exact(&*store, &store, &harmless()).await;
    assert!(second.projections().show(SUMS).await.unwrap().is_owned_here);
    first.shutdown().await;
    second.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_the_store_refuses_park_their_event_alone() {
    let store = store();
    let views = FaultViews::new(store.clone());
    views.refuse("7777777");
    let mut writer = Writer::new(&store);
    writer.fill(10, 10).await;
    writer.add(&[("bad", 7_777_777)]).await;
    writer.fill(10, 10).await;
    let runtime = start(&store, views.clone(), harmless(), quick()).await;
    caught_up(&*views, &store).await;
    let parked = runtime.projections().parked(SUMS, Position::ZERO, std::num::NonZeroU32::MIN).await.unwrap();
    assert_eq!(parked[0].event.position, Position(101));
    assert!(parked[0].event.error.contains("not welcome"), "{parked:?}");
    assert_eq!(state(&*views, SUMS).await.unwrap().parked, 1);
    runtime.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_share_the_work_without_counting_twice() {
    let store = store();
    let mut runtimes = Vec::new();
    for _ in 0..3 {
        runtimes.push(start(&store, store.clone(), harmless(), small_pages(5)).await);
    }
    let mut writer = Writer::new(&store);
    for runtime in &runtimes {
        writer.fill(10, 10).await;
        until("somebody owns it", || async { state(&*store, SUMS).await.is_some_and(|state| state.lease.is_some()) })
            .await;
        runtime.shutdown().await;
        writer.fill(10, 3).await;
    }
    let last = start(&store, store.clone(), harmless(), quick()).await;
    caught_up(&*store, &store).await;
    assert_exact(&*store, &store, &harmless()).await;
    let claim = LeaseClaim { projection: SUMS.to_owned(), owner: uuid::Uuid::now_v7(), lease: Duration::from_secs(1) };
    assert_eq!(store.acquire(claim).await.unwrap(), None, "the lease is held");
    last.shutdown().await;
}
