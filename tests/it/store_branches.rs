//! The contract of branches on every store; and that of the log, on a branch.

use std::{future::Future, sync::Arc, time::Duration};

use event_sourcing_actors::{
    memory::MemoryStore,
    ports::SystemClock,
    testing::{
        branch_contract::{self, Branched},
        store_contract::{self, Store},
    },
};
use event_sourcing_cqrs::store::{PostgresOptions, PostgresStore, SqliteOptions, SqliteStore};
use futures_util::future::BoxFuture;

use crate::support::postgres;

const PATIENCE: Duration = Duration::from_secs(60);

/// Runs every case of both suites on a fresh store, and names those that fail.
async fn assert_meets_contracts<S: Branched, F: Future<Output = S>>(kind: &str, fresh: impl Fn() -> F) {
    let mut failed = Vec::new();
    let mut runs: Vec<(String, BoxFuture<'static, ()>)> = Vec::new();
    for case in branch_contract::cases() {
        let store: Arc<dyn Branched> = Arc::new(fresh().await);
        runs.push((case.name.to_owned(), (case.run)(store)));
        failed.extend(failures(kind, &mut runs).await);
    }
    for case in store_contract::cases() {
        let log: Arc<dyn Store> = branch_contract::as_log(Arc::new(fresh().await)).await;
        runs.push((format!("as a log: {}", case.name), (case.run)(log)));
        failed.extend(failures(kind, &mut runs).await);
    }
    assert!(failed.is_empty(), "{kind} fails {} cases: {failed:?}", failed.len());
}

async fn failures(kind: &str, runs: &mut Vec<(String, BoxFuture<'static, ()>)>) -> Vec<String> {
    let mut failed = Vec::new();
    for (name, run) in runs.drain(..) {
        if !matches!(tokio::spawn(tokio::time::timeout(PATIENCE, run)).await, Ok(Ok(()))) {
            eprintln!("FAILED on {kind}: {name}");
            failed.push(name);
        }
    }
    failed
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_meets_the_contracts() {
    assert_meets_contracts("memory", || async { MemoryStore::new(Arc::new(SystemClock)) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_meets_the_contracts() {
    let folder = tempfile::tempdir().unwrap();
    let number = std::sync::atomic::AtomicU32::new(0);
    assert_meets_contracts("sqlite", || async {
        let number = number.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        SqliteStore::open(SqliteOptions::new(folder.path().join(format!("{number}.db")))).await.unwrap()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_meets_the_contracts() {
    if postgres::database().await.is_none() {
        return;
    }
    assert_meets_contracts("postgres", || async {
        let database = postgres::database().await.unwrap();
        let options = PostgresOptions { pool_connections_max: 4, ..PostgresOptions::new(&database.url) };
        PostgresStore::connect(options).await.unwrap()
    })
    .await;
}
