//! Loading one aggregate of 1,000 and 10,000 events, with and without a snapshot, against a bare paged read of the
//! same events. `cargo bench --bench recovery`; `BENCH_SECONDS=1` for a quick look.

#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark may panic")]

mod common;

use std::{num::NonZeroU32, sync::Arc};

use common::{Backend, Streams, backends, closed_loop};
use event_sourcing_actors::{
    Aggregate, AggregateId, RuntimeBuilder, Sequence, Snapshot,
    catalog::Catalog,
    ports::{AppendBatch, AppendUnit, CommandProbe, Direction, StreamClaim, StreamRange},
};
use event_sourcing_cqrs::domain::{self, account::Account};

/// Fills one stream with an account's events.
async fn fill(backend: &Backend, prefix: &str, count: usize) -> AggregateId {
    let mut streams = Streams::new(prefix, 1);
    let mut last = None;
    for chunk in 0..count / 500 {
        let (mut head, mut events) = (None, Vec::new());
        for n in 0..500 {
            let (before, event) = if chunk == 0 && n == 0 { streams.created() } else { streams.deposit() };
            head.get_or_insert(before);
            events.push(event);
        }
        let id = events[0].aggregate_id.clone();
        let unit = AppendUnit {
            streams: vec![StreamClaim { aggregate_id: id.clone(), head: head.unwrap(), losses: 0 }],
            commands: vec![CommandProbe { event_ids: vec![events[0].event_id], key: None }],
            events,
        };
        let outcomes = backend.store.append(AppendBatch { units: vec![unit] }).await.unwrap();
        assert!(matches!(outcomes[0], event_sourcing_actors::ports::UnitOutcome::Committed(_)), "{outcomes:?}");
        last = Some(id);
    }
    last.unwrap()
}

async fn measure(backend: &Backend, count: usize) {
    let id = fill(backend, &format!("r{count}"), count).await;
    let mut catalog = Catalog::default();
    domain::register(&mut catalog).unwrap();
    let builder =
        RuntimeBuilder::new(backend.store.clone(), backend.snapshots.clone()).catalog(catalog).throwaway_keys();
    let runtime = Arc::new(builder.start().await.unwrap());

    let (store, stream) = (backend.store.clone(), id.clone());
    let bare = closed_loop(1, move |_, _| {
        let (store, stream) = (store.clone(), stream.clone());
        async move {
            let mut from = Sequence(1);
            loop {
                let limit = NonZeroU32::new(1_000).unwrap();
                let range = StreamRange { from, to: Sequence(u64::MAX), direction: Direction::Forward, limit };
                let events = store.read_stream(&stream, range).await.unwrap();
                let Some(last) = events.last().filter(|_| events.len() == 1_000) else { break };
                from = last.sequence.next();
            }
        }
    })
    .await;
    bare.print(&format!("{} bare read of {count} events", backend.name), None);

    for use_snapshot in [false, true] {
        if use_snapshot {
            // Half a frequency behind the head: what a load meets on average.
            let at = runtime.history().state_at(&id, Sequence(count as u64 - 50), false).await.unwrap().unwrap();
            let limit = NonZeroU32::MIN;
            let range = StreamRange { from: at.version, to: at.version, direction: Direction::Forward, limit };
            let head = backend.store.read_stream(&id, range).await.unwrap()[0].head();
            let snapshot = Snapshot {
                aggregate_id: id.clone(),
                aggregate_type: at.aggregate_type,
                head,
                state_version: Account::STATE_VERSION,
                state: at.state,
            };
            backend.snapshots.save(snapshot).await.unwrap();
        }
        let (runtime, id) = (runtime.clone(), id.clone());
        let loaded = closed_loop(1, move |_, _| {
            let (runtime, id) = (runtime.clone(), id.clone());
            async move {
                let state = runtime.history().state_at(&id, Sequence(u64::MAX), use_snapshot).await.unwrap().unwrap();
                assert_eq!(state.snapshot_sequence.is_some(), use_snapshot);
            }
        })
        .await;
        let how = if use_snapshot { "with a snapshot 50 events back" } else { "without a snapshot" };
        loaded.print(&format!("{} load of {count} events {how}", backend.name), Some(&bare));
    }
    runtime.shutdown().await;
}

#[tokio::main]
async fn main() {
    println!("recovery: loads/s of one aggregate; baseline = a bare paged read of its events");
    for backend in backends().await {
        for count in [1_000, 10_000] {
            measure(&backend, count).await;
        }
    }
}
