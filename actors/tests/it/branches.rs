//! The runtimes of branches: begun at first use, ended when idle, bounded; and how a merge is decided.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use event_sourcing_actors::{
    BranchId, EventFilter, EventId, EventType, Limits, NewEvent, Position, Runtime,
    branches::{BranchError, ForkAt, NewFork},
    command_bus::{Action, Authorizer, CommandRequest},
    envelope::EventBody,
    error::CommandError,
    limits::BranchLimits,
    memory::MemoryStore,
    ports::{AppendBatch, AppendUnit, BranchStatus, BranchStore, EventStore, StoreError, StreamClaim},
};
use futures_util::{FutureExt, StreamExt};
use serde_json::{json, value::to_raw_value};
use uuid::Uuid;

use crate::support::{Purse, Put, builder, id, store, sum};

fn named(purse: &str, command_type: &str, amount: i64) -> CommandRequest {
    let data = to_raw_value(&json!({ "amount": amount })).unwrap().into();
    let action = Action::Named { command_type: command_type.to_owned(), data };
    CommandRequest::new(id(purse), action, Duration::from_secs(30))
}

async fn runtime(store: &Arc<MemoryStore>, branches: BranchLimits) -> Runtime {
    let limits = Limits { branches, ..Limits::default() };
    builder(store).branches(store.clone()).limits(limits).start().await.unwrap()
}

async fn fork(runtime: &Runtime, position: u64) -> BranchId {
    let fork = NewFork { name: "b".to_owned(), at: ForkAt::Position(Position(position)), key: None };
    runtime.branches().create(fork).await.unwrap().0.id
}

async fn until_live(runtime: &Runtime, count: usize) {
    for _ in 0..3_000 {
        if runtime.branches().live().await == count {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{} branches are live, not {count}", runtime.branches().live().await);
}

#[tokio::test]
async fn a_branch_that_nobody_uses_is_ended_and_begun_again() {
    let store = store();
    let idle = Duration::from_millis(20);
    let runtime = runtime(&store, BranchLimits { idle, ..BranchLimits::default() }).await;
    runtime.bus().send(named("p", "Put", 5)).await.unwrap();
    let branch = fork(&runtime, 1).await;
    assert_eq!(runtime.branches().live().await, 0, "nothing runs before the first use");
    let held = runtime.branches().enter(branch).await.unwrap();
    held.bus().send(named("p", "Put", 7)).await.unwrap();
    tokio::time::sleep(idle * 4).await;
    assert_eq!(runtime.branches().live().await, 1, "who holds it keeps it");
    drop(held);
    until_live(&runtime, 0).await;
    let again = runtime.branches().enter(branch).await.unwrap();
    assert_eq!((sum(&again, "p").await, sum(&runtime, "p").await), (12, 5));
    again.bus().send(named("p", "Take", 12)).await.unwrap();
    drop(again);
    runtime.shutdown().await;
    assert!(matches!(runtime.branches().enter(branch).await, Err(BranchError::Draining)));
}

#[tokio::test]
async fn one_more_than_may_be_live_ends_the_longest_idle_one() {
    let store = store();
    let runtime = runtime(&store, BranchLimits { live_max: 2, ..BranchLimits::default() }).await;
    let [one, two, three] = [fork(&runtime, 0).await, fork(&runtime, 0).await, fork(&runtime, 0).await];
    let first = runtime.branches().enter(one).await.unwrap();
    first.bus().send(named("p", "Put", 1)).await.unwrap();
    let second = runtime.branches().enter(two).await.unwrap();
    assert!(matches!(runtime.branches().enter(three).await, Err(BranchError::Crowded)), "both are in use");
    drop(first);
    let third = runtime.branches().enter(three).await.unwrap();
    assert_eq!(runtime.branches().live().await, 2);
    drop((second, third));
    assert_eq!(sum(&runtime.branches().enter(one).await.unwrap(), "p").await, 1, "it comes back whole");
    runtime.shutdown().await;
}

#[tokio::test]
async fn one_that_takes_long_to_end_holds_up_no_other() {
    let store = store();
    let branches = BranchLimits { live_max: 2, ..BranchLimits::default() };
    let limits = Limits { branches, drain: Duration::from_secs(300), ..Limits::default() };
    let runtime = Arc::new(builder(&store).branches(store.clone()).limits(limits).start().await.unwrap());
    let [one, two, three] = [fork(&runtime, 0).await, fork(&runtime, 0).await, fork(&runtime, 0).await];
    let first = runtime.branches().enter(one).await.unwrap();
    let (bus, mut log) = (first.bus().clone(), Box::pin(first.feed().follow(Position(0), EventFilter::default())));
    // A command in flight, which its end waits for.
    let (in_flight, _) = first.prepare(named("p", "Put", 1)).unwrap();
    drop(first);
    let second = runtime.branches().enter(two).await.unwrap();
    let third = tokio::spawn({
        let runtime = runtime.clone();
        async move { runtime.branches().enter(three).await.map(drop) }
    });
    let mut before_the_end = 0;
    while !matches!(bus.send(named("p", "Put", 1)).await, Err(CommandError::Draining)) {
        before_the_end += 1;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    for _ in 0..before_the_end {
        assert!(matches!(log.next().await, Some(Ok(_))), "what was written is followed");
    }
    let entered = tokio::time::timeout(Duration::from_secs(60), runtime.branches().enter(two)).await;
    assert!(Arc::ptr_eq(&entered.expect("the one that ends is in nobody's way").unwrap(), &second));
    // Nor is it left half ended by a caller that goes away: to end followers is the last thing that is done.
    third.abort();
    assert!(third.await.unwrap_err().is_cancelled());
    assert!(log.next().now_or_never().is_none(), "it has not ended yet");
    drop(in_flight);
    let ended = tokio::time::timeout(Duration::from_secs(60), log.next()).await;
    assert!(matches!(ended.expect("it ends to its end"), Some(Err(StoreError::Unavailable { .. }))));
    drop(second);
    runtime.shutdown().await;
}

#[tokio::test]
async fn there_is_no_branch_of_a_branch_and_no_typed_command_on_one() {
    let store = store();
    let runtime = runtime(&store, BranchLimits::default()).await;
    let branch = runtime.branches().enter(fork(&runtime, 0).await).await.unwrap();
    let fork = NewFork { name: "b".to_owned(), at: ForkAt::Position(Position(0)), key: None };
    assert!(matches!(branch.branches().create(fork).await, Err(BranchError::Unsupported)));
    let typed = branch.execute::<Purse>("p", Put { amount: 1 }).await;
    assert!(matches!(typed, Err(CommandError::Invalid { .. })), "it could not be run again: {typed:?}");
    drop(branch);
    runtime.shutdown().await;
}

#[tokio::test]
async fn a_deleted_branch_takes_nothing_more() {
    let store = store();
    let runtime = runtime(&store, BranchLimits::default()).await;
    let branch = fork(&runtime, 0).await;
    let held = runtime.branches().enter(branch).await.unwrap();
    held.bus().send(named("p", "Put", 1)).await.unwrap();
    runtime.branches().delete(branch).await.unwrap();
    let late = held.bus().send(named("p", "Put", 1)).await;
    assert!(matches!(late, Err(CommandError::Draining | CommandError::BranchClosed { .. })), "{late:?}");
    assert!(matches!(runtime.branches().enter(branch).await, Err(BranchError::Unknown { .. })));
    assert!(matches!(runtime.branches().merge(branch, false).await, Err(BranchError::Unknown { .. })));
    runtime.shutdown().await;
}

/// Lets another writer be faster, so many times: just after a merge has looked at a purse, and before it decides on it.
#[derive(Debug)]
struct Racer {
    store: Arc<MemoryStore>,
    left: AtomicU32,
}

impl Authorizer for Racer {
    fn authorize(&self, request: &CommandRequest) -> Result<(), CommandError> {
        let is_second = matches!(&request.action, Action::Command(command) if command.name == "Take");
        let takes = |left: u32| left.checked_sub(1);
        if is_second && self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, takes).is_ok() {
            let append = async {
                let stream = self.store.stream(&request.aggregate_id).await.unwrap().unwrap();
                let body = EventBody {
                    event_id: EventId(Uuid::now_v7()),
                    event_type: EventType::new("Added").unwrap(),
                    schema_version: 1,
                    data: Bytes::from_static(b"{\"amount\":100}"),
                    metadata: Bytes::from_static(b"{}"),
                };
                let claim = StreamClaim { aggregate_id: stream.aggregate_id.clone(), head: stream.head, losses: 0 };
                let event =
                    NewEvent::following(&mut stream.head.clone(), &stream.aggregate_id, &stream.aggregate_type, body);
                let unit = AppendUnit { streams: vec![claim], commands: Vec::new(), events: vec![event] };
                self.store.append(AppendBatch { units: vec![unit] }).await.unwrap();
            };
            append.now_or_never().expect("a store in memory answers at once");
        }
        Ok(())
    }
}

#[tokio::test]
async fn a_merge_is_decided_again_when_main_moves_and_given_up_after_five_times() {
    for (races, is_merged) in [(0, true), (4, true), (5, false)] {
        let store = store();
        let racer = Arc::new(Racer { store: store.clone(), left: AtomicU32::new(0) });
        let runtime = builder(&store).branches(store.clone()).authorizer(racer.clone()).start().await.unwrap();
        runtime.bus().send(named("p", "Put", 10)).await.unwrap();
        let branch = fork(&runtime, 1).await;
        let there = runtime.branches().enter(branch).await.unwrap();
        there.bus().send(named("p", "Put", 1)).await.unwrap();
        there.bus().send(named("p", "Take", 2)).await.unwrap();
        racer.left.store(races, Ordering::SeqCst);
        let merged = runtime.branches().merge(branch, false).await;
        let raced = i64::from(races) * 100;
        match is_merged {
            true => assert!(merged.unwrap().report.merged, "{races}"),
            false => assert!(matches!(merged, Err(BranchError::Contended)), "{races}: {merged:?}"),
        }
        let expected = if is_merged { 9 + raced } else { 10 + raced };
        assert_eq!(sum(&runtime, "p").await, expected, "{races}");
        drop(there);
        runtime.shutdown().await;
    }
}

/// Once it is shut, holds up whoever decides on a command, until it is let go.
#[derive(Debug)]
struct Gate {
    is_shut: AtomicBool,
    came: tokio::sync::Semaphore,
    open: Mutex<std::sync::mpsc::Receiver<()>>,
}

impl Authorizer for Gate {
    fn authorize(&self, _: &CommandRequest) -> Result<(), CommandError> {
        if self.is_shut.swap(false, Ordering::SeqCst) {
            self.came.add_permits(1);
            let _ = self.open.lock().unwrap().recv();
        }
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_waits_for_a_merge_that_is_under_way() {
    let store = store();
    let (open, gate) = std::sync::mpsc::sync_channel(1);
    let gate = Arc::new(Gate {
        is_shut: AtomicBool::new(false),
        came: tokio::sync::Semaphore::new(0),
        open: Mutex::new(gate),
    });
    let runtime = Arc::new(builder(&store).branches(store.clone()).authorizer(gate.clone()).start().await.unwrap());
    let branch = fork(&runtime, 0).await;
    let there = runtime.branches().enter(branch).await.unwrap();
    there.bus().send(named("p", "Put", 1)).await.unwrap();
    drop(there);
    gate.is_shut.store(true, Ordering::SeqCst);
    let merge = tokio::spawn({
        let runtime = runtime.clone();
        async move { runtime.branches().merge(branch, false).await }
    });
    gate.came.acquire().await.unwrap().forget();
    let shutdown = tokio::spawn({
        let (runtime, store) = (runtime.clone(), store.clone());
        async move {
            runtime.shutdown().await;
            BranchStore::branch(&*store, branch).await.unwrap().unwrap().status
        }
    });
    while !matches!(runtime.branches().enter(branch).await, Err(BranchError::Draining)) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // Time in which one that does not wait ends.
    tokio::time::sleep(Duration::from_millis(300)).await;
    open.send(()).unwrap();
    assert!(merge.await.unwrap().unwrap().report.merged);
    assert_eq!(shutdown.await.unwrap(), BranchStatus::Merged);
}

#[tokio::test]
async fn a_merge_is_one_unit_of_a_thousand_events_at_most() {
    let store = store();
    let runtime = runtime(&store, BranchLimits::default()).await;
    let branch = fork(&runtime, 0).await;
    let there = runtime.branches().enter(branch).await.unwrap();
    for _ in 0..1_000 {
        there.bus().send(named("p", "Put", 1)).await.unwrap();
    }
    assert!(!runtime.branches().merge(branch, true).await.unwrap().report.merged);
    there.bus().send(named("p", "Put", 1)).await.unwrap();
    let merged = runtime.branches().merge(branch, false).await;
    assert!(matches!(merged, Err(BranchError::TooLarge { .. })), "{merged:?}");
    assert_eq!(store.head().await.unwrap(), Position(0));
    drop(there);
    runtime.shutdown().await;
}
