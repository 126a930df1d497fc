//! The event store alone: 1, 10, 100 and 1,000 events per batch, one batch in flight, against a raw insert of the
//! same rows into the same table. `cargo bench --bench append`; `BENCH_SECONDS=1` for a quick look.

#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark may panic")]

mod common;

use std::{sync::Arc, time::Instant};

use common::{Measured, Streams, backends, seconds};
use hdrhistogram::Histogram;

/// Runs one writer for a while; the rate counts events.
macro_rules! measure {
    ($size:expr, |$streams:ident| $step:expr) => {{
        let mut $streams =
            Streams::new(&format!("s{}", event_sourcing_actors::CommandId::generate()), $size.max(1_000));
        let mut histogram = Histogram::<u64>::new(3).unwrap();
        let (started, mut count) = (Instant::now(), 0_u64);
        while started.elapsed() < seconds() {
            let turn = $step;
            histogram.record(u64::try_from(turn.as_micros()).unwrap()).unwrap();
            count += $size as u64;
        }
        Measured::of(count, started.elapsed(), &histogram)
    }};
}

#[tokio::main]
async fn main() {
    println!("append: events/s of one writer; baseline = a bare insert of the same rows, one transaction per batch");
    for backend in backends().await {
        for size in [1_usize, 10, 100, 1_000] {
            let raw = measure!(size, |streams| {
                let (_, events) = streams.batch(size);
                let turn = Instant::now();
                backend.raw.insert(&events).await;
                turn.elapsed()
            });
            let store = Arc::clone(&backend.store);
            let ours = measure!(size, |streams| {
                let (batch, _) = streams.batch(size);
                let turn = Instant::now();
                store.append(batch).await.unwrap();
                turn.elapsed()
            });
            raw.print(&format!("{} raw insert, {size} per batch", backend.name), None);
            ours.print(&format!("{} append, {size} per batch", backend.name), Some(&raw));
        }
    }
}
