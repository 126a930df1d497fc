//! The view store contract on the memory store.

use std::{sync::Arc, time::Duration};

use chrono::TimeDelta;
use event_sourcing_actors::{
    memory::MemoryStore,
    ports::{Clock, LeaseClaim, SystemClock, ViewStore},
    testing::{clock::ManualClock, view_contract},
};
use uuid::Uuid;

#[tokio::test(flavor = "multi_thread")]
async fn memory_meets_the_view_contract() {
    let mut failed = Vec::new();
    for case in view_contract::cases() {
        let store = Arc::new(MemoryStore::new(Arc::new(SystemClock)));
        let run = tokio::spawn(tokio::time::timeout(Duration::from_secs(60), (case.run)(store)));
        if !matches!(run.await, Ok(Ok(()))) {
            failed.push(case.name);
        }
    }
    assert!(failed.is_empty(), "memory fails {failed:?}");
}

#[tokio::test]
async fn leases_end_by_the_clock_that_was_given() {
    let clock = Arc::new(ManualClock::at(SystemClock.now()));
    let store = MemoryStore::new(clock.clone());
    store.declare("p", 1).await.unwrap();
    let claim = |owner: u128| {
        let lease = Duration::from_secs(10);
        store.acquire(LeaseClaim { projection: "p".to_owned(), owner: Uuid::from_u128(owner), lease })
    };
    assert!(claim(1).await.unwrap().is_some());
    clock.advance(TimeDelta::seconds(9));
    assert!(claim(2).await.unwrap().is_none());
    clock.advance(TimeDelta::seconds(1));
    assert!(claim(2).await.unwrap().is_some());
}
