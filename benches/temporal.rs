//! The state of one aggregate of 1,000,000 events at any sequence, position and instant, against folding all of them.
//! SQLite. `cargo bench --bench temporal`; `BENCH_EVENTS=100000 BENCH_SECONDS=1` for a quick look.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, missing_docs, reason = "a benchmark may panic")]

mod common;

use std::{
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use common::{Backend, Measured, Streams, closed_loop, sqlite};
use event_sourcing_actors::{
    AggregateId, EventFilter, Position, Runtime, RuntimeBuilder, Sequence,
    catalog::Catalog,
    history::{At, TimeRange},
    ports::{AppendBatch, AppendUnit, CommandProbe, SnapshotStore, StreamClaim},
};
use event_sourcing_cqrs::domain;
use hdrhistogram::Histogram;

const BATCH: u64 = 1_000;

/// One stream with so many events, and a few of another between its batches.
async fn fill(backend: &Backend, count: u64) -> AggregateId {
    let (mut streams, mut others) = (Streams::new("long", 1), Streams::new("other", 1));
    let mut id = None;
    for batch in 0..count / BATCH {
        let (mut head, mut events) = (None, Vec::new());
        for number in 0..BATCH {
            let (before, event) = if batch + number == 0 { streams.created() } else { streams.plain_deposit() };
            head.get_or_insert(before);
            events.push(event);
        }
        id = Some(events[0].aggregate_id.clone());
        let unit = AppendUnit {
            streams: vec![StreamClaim { aggregate_id: events[0].aggregate_id.clone(), head: head.unwrap(), losses: 0 }],
            commands: vec![CommandProbe { event_ids: vec![events[0].event_id], key: None }],
            events,
        };
        let units = vec![unit, others.unit(Streams::plain_deposit)];
        backend.store.append(AppendBatch { units }).await.unwrap();
    }
    id.unwrap()
}

async fn runtime(backend: &Backend) -> Arc<Runtime> {
    let mut catalog = Catalog::default();
    domain::register(&mut catalog).unwrap();
    let builder =
        RuntimeBuilder::new(backend.store.clone(), backend.snapshots.clone()).catalog(catalog).throwaway_keys();
    Arc::new(builder.start().await.unwrap())
}

/// A whole fold without any snapshot, three times.
async fn full_fold(runtime: &Runtime, id: &AggregateId) -> Measured {
    let mut histogram = Histogram::<u64>::new(3).unwrap();
    let started = Instant::now();
    for _ in 0..3 {
        let one = Instant::now();
        runtime.history().state_at(id, Sequence(u64::MAX), false).await.unwrap().unwrap();
        histogram.record(one.elapsed().as_micros() as u64).unwrap();
    }
    Measured::of(3, started.elapsed(), &histogram)
}

async fn kept(snapshots: &dyn SnapshotStore, id: &AggregateId) -> usize {
    let (mut count, mut at_most) = (0, Sequence(u64::MAX));
    while let Some(found) = snapshots.latest(id, at_most).await.unwrap() {
        count += 1;
        at_most = Sequence(found.sequence().0 - 1);
    }
    count
}

/// Numbers spread over a range, the same in each run.
fn spread(range: u64) -> impl Fn() -> u64 + Clone {
    let next = Arc::new(AtomicU64::new(0));
    move || next.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9e37_79b9_7f4a_7c15) % range
}

/// Points anywhere, or near the head.
async fn points(backend: &Backend, runtime: &Arc<Runtime>, id: &AggregateId, count: u64, full: &Measured) {
    let ask = |name: &'static str, point: Arc<dyn Fn() -> At + Send + Sync>| {
        let (runtime, id) = (runtime.clone(), id.clone());
        async move {
            let measured = closed_loop(1, move |_, _| {
                let (runtime, id, at) = (runtime.clone(), id.clone(), point());
                async move {
                    runtime.history().as_of(&id, at).await.unwrap().unwrap();
                }
            })
            .await;
            measured.print(name, Some(full));
        }
    };
    let head = backend.store.head().await.unwrap().0;
    let (any, last) = (spread(count), spread(100));
    ask("state at a sequence anywhere", Arc::new(move || At::Sequence(Sequence(1 + any())))).await;
    ask("state at one of the last 100", Arc::new(move || At::Sequence(Sequence(count - last())))).await;
    let any = spread(head);
    ask("state at a position anywhere", Arc::new(move || At::Position(Position(1 + any())))).await;
    let instant = instants(backend).await;
    ask("state at an instant anywhere", Arc::new(move || At::Time(instant()))).await;
}

/// Instants spread from the log's first to its last event.
async fn instants(backend: &Backend) -> Arc<dyn Fn() -> DateTime<Utc> + Send + Sync> {
    let mut ends = Vec::new();
    for position in [Position(1), backend.store.head().await.unwrap()] {
        let before = Position(position.0 - 1);
        let page = backend.store.read_all(before, &EventFilter::default(), NonZeroU32::MIN).await.unwrap();
        ends.push(page.events[0].recorded_at);
    }
    let (first, any) = (ends[0], spread((ends[1] - ends[0]).num_microseconds().unwrap().unsigned_abs()));
    Arc::new(move || first + chrono::Duration::microseconds(i64::try_from(any()).unwrap()))
}

/// What lies between two points anywhere.
async fn stretches(backend: &Backend, runtime: &Arc<Runtime>, id: &AggregateId, count: u64, full: &Measured) {
    let (asked, stream) = (runtime.clone(), id.clone());
    let any = spread(count);
    let measured = closed_loop(1, move |_, _| {
        let (runtime, id, from, to) = (asked.clone(), stream.clone(), Sequence(any()), Sequence(any()));
        async move {
            runtime.history().difference(&id, from, to).await.unwrap().unwrap();
        }
    })
    .await;
    measured.print("difference of two sequences anywhere", Some(full));
    let (asked, stream, instant) = (runtime.clone(), id.clone(), instants(backend).await);
    let measured = closed_loop(1, move |_, _| {
        let (runtime, id, from) = (asked.clone(), stream.clone(), instant());
        let (to, limit) = (from + chrono::Duration::milliseconds(10), NonZeroU32::new(100).unwrap());
        async move {
            runtime.history().between(&id, TimeRange { from, to, cursor: None, limit }).await.unwrap().unwrap();
        }
    })
    .await;
    measured.print("10 ms of events anywhere, with both states", Some(full));
}

#[tokio::main]
async fn main() {
    let count: u64 = std::env::var("BENCH_EVENTS").ok().and_then(|text| text.parse().ok()).unwrap_or(1_000_000);
    println!("temporal: one aggregate of {count} events in SQLite; baseline = folding all of them");
    let backend = sqlite().await;
    let started = Instant::now();
    let id = fill(&backend, count).await;
    println!("stored in {:.1} s", started.elapsed().as_secs_f64());
    let runtime = runtime(&backend).await;
    let full = full_fold(&runtime, &id).await;
    full.print("full fold, without any snapshot", None);

    // The first look leaves snapshots behind, as many as an old store without any would get.
    let first = Instant::now();
    runtime.history().state_at(&id, Sequence(u64::MAX), true).await.unwrap();
    let took = first.elapsed().as_millis();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let left = kept(&*backend.snapshots, &id).await;
    println!("the first look takes {took} ms and leaves {left} snapshots");
    points(&backend, &runtime, &id, count, &full).await;
    stretches(&backend, &runtime, &id, count, &full).await;
    runtime.shutdown().await;
}
