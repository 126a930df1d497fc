//! The view store contract, on every store.

use std::{future::Future, sync::Arc, time::Duration};

use event_sourcing_actors::{ports::ViewStore, testing::view_contract::cases};
use event_sourcing_cqrs::store::{PostgresOptions, PostgresStore, SqliteOptions, SqliteStore};

use crate::support::postgres;

/// Runs every case on a fresh store, and names those that fail.
async fn assert_meets_contract<F: Future<Output = Arc<dyn ViewStore>>>(kind: &str, fresh: impl Fn() -> F) {
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
async fn sqlite_meets_the_view_contract() {
    let folder = tempfile::tempdir().unwrap();
    let number = std::sync::atomic::AtomicU32::new(0);
    assert_meets_contract("sqlite", || async {
        let number = number.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let options = SqliteOptions::new(folder.path().join(format!("{number}.db")));
        Arc::new(SqliteStore::open(options).await.unwrap()) as Arc<dyn ViewStore>
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_meets_the_view_contract() {
    if postgres::database().await.is_none() {
        return;
    }
    assert_meets_contract("postgres", || async {
        let database = postgres::database().await.unwrap();
        let options = PostgresOptions { pool_connections_max: 4, ..PostgresOptions::new(&database.url) };
        Arc::new(PostgresStore::connect(options).await.unwrap()) as Arc<dyn ViewStore>
    })
    .await;
}
