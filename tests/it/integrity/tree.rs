//! The stored tree: one owner at a time, and growth by compare-and-set.

use std::{sync::Arc, time::Duration};

use event_sourcing_actors::{
    memory::MemoryStore,
    ports::{EventStore, SystemClock},
};
use event_sourcing_cqrs::{
    integrity::{
        memory::MemoryTree,
        port::{Growth, SealLease, TreeStore},
        tiles::{Tile, TileId},
    },
    store::{PostgresOptions, PostgresStore, SqliteOptions, SqliteStore},
};
use uuid::Uuid;

use crate::support::{
    batches::{batch, committed},
    postgres,
};

fn tile(index: u64, byte: u8) -> Tile {
    Tile { id: TileId { level: 0, index }, hashes: vec![[byte; 32]; 3] }
}

fn growth(lease: SealLease, from: u64, to: u64, byte: u8) -> Growth {
    Growth { lease, from, to, tiles: vec![tile(0, byte)] }
}

/// What every store must do.
async fn contract(events: Arc<dyn EventStore>, store: Arc<dyn TreeStore>, has_leases: bool) {
    let (first, second) = (Uuid::now_v7(), Uuid::now_v7());
    let state = store.tree().await.unwrap();
    assert_eq!((state.size, state.head, state.checkpoint, state.is_read_only), (0, 0, None, false));
    let lease = store.acquire_tree(first, Duration::from_secs(60)).await.unwrap().expect("nobody has it");
    assert_eq!(store.acquire_tree(first, Duration::from_secs(60)).await.unwrap(), Some(lease), "renewed");
    if has_leases {
        assert_eq!(store.acquire_tree(second, Duration::from_secs(60)).await.unwrap(), None, "somebody has it");
    }
    assert!(store.grow_tree(growth(lease, 0, 3, 1)).await.unwrap());
    assert!(!store.grow_tree(growth(lease, 0, 3, 2)).await.unwrap(), "it does not stand there any more");
    assert_eq!(
        store.tiles(&[TileId { level: 0, index: 0 }, TileId { level: 1, index: 9 }]).await.unwrap(),
        [tile(0, 1)]
    );
    store.publish_checkpoint(lease, "note".to_owned()).await.unwrap();
    if has_leases {
        store.release_tree(first).await.unwrap();
        let other = store.acquire_tree(second, Duration::from_millis(1)).await.unwrap().expect("it was given back");
        assert!(other.epoch > lease.epoch);
        assert!(!store.grow_tree(growth(lease, 3, 4, 3)).await.unwrap(), "the old owner is fenced off");
        store.publish_checkpoint(lease, "late".to_owned()).await.unwrap();
        // Both believe to own it: one of them wins.
        let taken = store.acquire_tree(first, Duration::from_secs(60));
        tokio::time::sleep(Duration::from_millis(20)).await;
        let taken = taken.await.unwrap().expect("the lease has run out");
        let (a, b) = (store.grow_tree(growth(other, 3, 4, 4)), store.grow_tree(growth(taken, 3, 4, 5)));
        let (a, b) = futures_util::future::join(a, b).await;
        assert_eq!((a.unwrap(), b.unwrap()), (false, true));
    }
    let state = store.tree().await.unwrap();
    assert_eq!(state.checkpoint.as_deref(), Some("note"));

    committed(events.append(batch(&["a", "b"])).await);
    let rows = store.rows(i64::MIN, 10).await.unwrap();
    assert_eq!(rows.iter().map(|row| row.position).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(rows.iter().map(|row| row.aggregate_id.to_vec()).collect::<Vec<_>>(), [b"a", b"b"]);
    assert_eq!(store.stream_rows(b"b", i64::MIN, 10).await.unwrap().len(), 1);
    assert_eq!(store.predecessor(b"b", 1).await.unwrap().map(|before| before.position), Some(2));
    assert_eq!(store.predecessor(b"b", 2).await.unwrap(), None);
    assert_eq!(store.tree().await.unwrap().head, 2);
}

/// A log that was made read-only refuses appends until an acceptance, and an old look refuses nothing.
async fn read_only(events: Arc<dyn EventStore>, store: Arc<dyn TreeStore>) {
    use event_sourcing_actors::ports::{StoreError, UnitOutcome};
    store.refuse_appends(7).await.unwrap();
    assert!(!store.tree().await.unwrap().is_read_only, "an acceptance came in between");
    store.refuse_appends(0).await.unwrap();
    let refused = events.append(batch(&["c"])).await.unwrap();
    assert!(matches!(refused[..], [UnitOutcome::Failed(StoreError::ReadOnly { .. })]), "{refused:?}");
    store.accept(1, "anew".to_owned()).await.unwrap();
    let state = store.tree().await.unwrap();
    assert_eq!((state.acceptances, state.checkpoint.as_deref(), state.is_read_only), (1, Some("anew"), false));
    committed(events.append(batch(&["c"])).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn tree_in_memory_keeps_its_contract() {
    let log = MemoryStore::new(Arc::new(SystemClock));
    contract(Arc::new(log.clone()), Arc::new(MemoryTree::new(log)), false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tree_in_sqlite_keeps_its_contract() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(SqliteStore::open(SqliteOptions::new(folder.path().join("store.db"))).await.unwrap());
    contract(store.clone(), store.clone(), true).await;
    read_only(store.clone(), store).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tree_in_postgres_keeps_its_contract() {
    let Some(database) = postgres::database().await else { return };
    let store = Arc::new(PostgresStore::connect(PostgresOptions::new(&database.url)).await.unwrap());
    contract(store.clone(), store.clone(), true).await;
    read_only(store.clone(), store).await;
}
