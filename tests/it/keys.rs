//! The contract of subjects' keys, on every store.

use std::{future::Future, sync::Arc, time::Duration};

use event_sourcing_actors::{
    memory::MemoryStore,
    ports::SystemClock,
    testing::key_contract::{Store, cases},
};
#[cfg(feature = "postgres")]
use event_sourcing_cqrs::store::{PostgresOptions, PostgresStore};
#[cfg(feature = "sqlite")]
use event_sourcing_cqrs::store::{SqliteOptions, SqliteStore};

/// Runs every case on a fresh store, and names those that fail.
async fn assert_meets_contract<F: Future<Output = Arc<dyn Store>>>(kind: &str, fresh: impl Fn() -> F) {
    let mut failed = Vec::new();
    for case in cases() {
        let run = tokio::spawn(tokio::time::timeout(Duration::from_secs(60), (case.run)(fresh().await)));
        if !matches!(run.await, Ok(Ok(()))) {
            eprintln!("FAILED on {kind}: {}", case.name);
            failed.push(case.name);
        }
    }
    assert!(failed.is_empty(), "{kind} fails {} of {} cases: {failed:?}", failed.len(), cases().len());
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_meets_the_key_contract() {
    assert_meets_contract("memory", || async { Arc::new(MemoryStore::new(Arc::new(SystemClock))) as Arc<dyn Store> })
        .await;
}

#[cfg(feature = "sqlite")]
#[tokio::test(flavor = "multi_thread")]
async fn sqlite_meets_the_key_contract() {
    let folder = tempfile::tempdir().unwrap();
    assert_meets_contract("sqlite", || async {
        let options = SqliteOptions::new(folder.path().join(format!("{}.db", uuid::Uuid::now_v7())));
        Arc::new(SqliteStore::open(options).await.unwrap()) as Arc<dyn Store>
    })
    .await;
}

#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread")]
async fn postgres_meets_the_key_contract() {
    use crate::support::postgres;
    if postgres::database().await.is_none() {
        return;
    }
    assert_meets_contract("postgres", || async {
        let database = postgres::database().await.unwrap();
        let options = PostgresOptions { pool_connections_max: 4, ..PostgresOptions::new(&database.url) };
        Arc::new(PostgresStore::connect(options).await.unwrap()) as Arc<dyn Store>
    })
    .await;
}
