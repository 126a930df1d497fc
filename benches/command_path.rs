//! The whole command path in process, durable: 1, 16, 64 and 256 in flight over 1,000 and 10,000 aggregates and on one
//! hot aggregate, against the group-commit ceiling (the same rows inserted raw, no actors) of the same run; and the
//! memory of an idle live aggregate. `cargo bench --bench command_path`; `BENCH_SECONDS=1` for a quick look, `-- single`
//! for a part, `BENCH_IN_FLIGHT=64` for one number of callers, `BENCH_BACKEND=postgres` for one store.

#![allow(clippy::unwrap_used, clippy::cast_precision_loss, missing_docs, reason = "a benchmark may panic")]

mod common;

use std::sync::Arc;

use common::{Backend, Measured, Streams, backends, closed_loop, full_batches, group_commit};
use event_sourcing_actors::{
    Limits, Runtime, RuntimeBuilder,
    catalog::Catalog,
    memory::MemoryStore,
    ports::{AppendBatch, EventStore, SystemClock},
};
use event_sourcing_cqrs::domain::{
    self,
    account::{Account, CreateAccount, DepositMoney, WithdrawMoney},
};
use futures_util::{StreamExt, stream};

async fn runtime(builder: RuntimeBuilder) -> Arc<Runtime> {
    let mut catalog = Catalog::default();
    domain::register(&mut catalog).unwrap();
    let limits = Limits { commands_per_aggregate_max: 1_024, live_aggregates_max: 100_000, ..Limits::default() };
    Arc::new(builder.catalog(catalog).throwaway_keys().limits(limits).start().await.unwrap())
}

/// Creates the accounts, and with them their actors.
async fn create(runtime: &Runtime, prefix: &str, count: usize) {
    stream::iter(0..count)
        .map(|n| async move {
            let command = CreateAccount { account_id: None, owner: "bench".to_owned(), initial_balance: 0 };
            runtime.execute::<Account>(format!("{prefix}-{n}"), command).await.unwrap();
        })
        .buffer_unordered(256)
        .for_each(|()| async {})
        .await;
}

async fn deposits(runtime: &Arc<Runtime>, prefix: &'static str, aggregates: u64, in_flight: usize) -> Measured {
    let runtime = runtime.clone();
    closed_loop(in_flight, move |task, turn| {
        let runtime = runtime.clone();
        async move {
            // Scattered, so that callers seldom meet on one aggregate.
            let n = (task as u64).wrapping_mul(7_919).wrapping_add(turn.wrapping_mul(104_729)) % aggregates;
            let command = DepositMoney { amount: 1, ..Default::default() };
            runtime.execute::<Account>(format!("{prefix}-{n}"), command).await.unwrap();
        }
    })
    .await
}

async fn path(backend: &Backend) {
    let runtime = runtime(RuntimeBuilder::new(backend.store.clone(), backend.snapshots.clone())).await;
    create(&runtime, "k", 1_000).await;
    create(&runtime, "w", 10_000).await;
    create(&runtime, "h", 1).await;
    let only: Option<usize> = std::env::var("BENCH_IN_FLIGHT").ok().and_then(|only| only.parse().ok());
    for in_flight in [1, 16, 64, 256].into_iter().filter(|n| only.is_none_or(|only| only == *n)) {
        let full = full_batches(&backend.raw, in_flight).await;
        full.print(&format!("{} raw batches of {in_flight}, back to back", backend.name), None);
        let ceiling = group_commit(backend.raw.clone(), in_flight).await;
        ceiling.print(&format!("{} group-commit ceiling, {in_flight} in flight", backend.name), Some(&full));
        for (prefix, aggregates) in [("k", 1_000), ("w", 10_000), ("h", 1)] {
            let ours = deposits(&runtime, prefix, aggregates, in_flight).await;
            ours.print(&format!("{} {aggregates} aggregates, {in_flight} in flight", backend.name), Some(&ceiling));
        }
    }
    runtime.shutdown().await;
}

/// One caller on an idle system, against one-row appends: raw, and through the store with its checks.
async fn single(backend: &Backend) {
    let raw = backend.raw.clone();
    let streams = Arc::new(tokio::sync::Mutex::new(Streams::new("single", 1_000)));
    let bare = closed_loop(1, move |_, _| {
        let (raw, streams) = (raw.clone(), streams.clone());
        async move {
            let (_, event) = streams.lock().await.deposit();
            raw.insert(&[event]).await;
        }
    })
    .await;
    let store = backend.store.clone();
    let streams = Arc::new(tokio::sync::Mutex::new(Streams::new("single", 1_000)));
    let appended = closed_loop(1, move |_, _| {
        let (store, streams) = (store.clone(), streams.clone());
        async move {
            let (batch, _) = streams.lock().await.batch(1);
            store.append(batch).await.unwrap();
        }
    })
    .await;
    let runtime = runtime(RuntimeBuilder::new(backend.store.clone(), backend.snapshots.clone())).await;
    create(&runtime, "i", 1_000).await;
    let command = deposits(&runtime, "i", 1_000, 1).await;
    bare.print(&format!("{} bare one-row append", backend.name), None);
    appended.print(&format!("{} store append of one event", backend.name), Some(&bare));
    command.print(&format!("{} one command on an idle system", backend.name), Some(&bare));
    println!(
        "{:58} {:10.2} x the bare append's p50",
        format!("{} one command costs", backend.name),
        command.p50_ms / bare.p50_ms
    );
    runtime.shutdown().await;
}

/// Resident memory of this process, in bytes; 0 where /proc is not.
fn resident() -> f64 {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    pages.split(' ').nth(1).and_then(|pages| pages.parse::<f64>().ok()).unwrap_or(0.0) * 4_096.0
}

async fn memory() {
    const COUNT: usize = 50_000;
    let store = Arc::new(MemoryStore::new(Arc::new(SystemClock)));
    // Straight into the store: actors that came and went would leave room for the measured ones.
    let mut streams = Streams::new("m", COUNT);
    for _ in 0..COUNT / 1_000 {
        let batch = AppendBatch { units: (0..1_000).map(|_| streams.unit(Streams::created)).collect() };
        store.append(batch).await.unwrap();
    }
    let second = runtime(RuntimeBuilder::new(store.clone(), store.clone())).await;
    let before = resident();
    stream::iter(0..COUNT)
        .map(|n| {
            let second = second.clone();
            // Refused, so that only the actor is new.
            async move {
                let command = WithdrawMoney { amount: 1, ..Default::default() };
                second.execute::<Account>(format!("m-{n:06}"), command).await.unwrap_err();
            }
        })
        .buffer_unordered(64)
        .for_each(|()| async {})
        .await;
    let each = (resident() - before) / COUNT as f64;
    println!(
        "{:58} {each:10.0} bytes (bound: 10240)",
        format!("an idle live aggregate, of {}", second.health().live_aggregates)
    );
    second.shutdown().await;
}

/// Whether a part was asked for: `-- memory single path` names some, nothing means all.
fn is_wanted(part: &str) -> bool {
    let mut asked = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).peekable();
    asked.peek().is_none() || asked.any(|argument| argument == part)
}

#[tokio::main]
async fn main() {
    println!("command_path: durable commands/s; baseline = the ceiling above it");
    if is_wanted("memory") {
        memory().await;
    }
    for backend in backends().await {
        if is_wanted("single") {
            single(&backend).await;
        }
        if is_wanted("path") {
            path(&backend).await;
        }
    }
}
