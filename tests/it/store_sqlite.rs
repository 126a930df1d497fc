//! What only the SQLite store must do.

use std::{path::Path, sync::Arc};

use chrono::{DateTime, Duration, Utc};
use event_sourcing_actors::{
    AggregateId, EventFilter, Position, Sequence, Snapshot, StreamHead,
    digest::ChainDigest,
    ports::{AppendBatch, Clock, EventStore, SnapshotStore, StoreError, StoredSnapshot, SystemClock, UnitOutcome},
    testing::clock::ManualClock,
};
use event_sourcing_cqrs::store::{OpenError, SqliteOptions, SqliteStore};
use sqlx::{ConnectOptions, Connection, SqliteConnection, sqlite::SqliteConnectOptions};

use crate::support::{
    SCHEMA,
    batches::{at_most, batch, committed},
};

async fn open(path: &Path) -> SqliteStore {
    SqliteStore::open(SqliteOptions::new(path)).await.unwrap()
}

async fn session(path: &Path) -> SqliteConnection {
    SqliteConnectOptions::new().filename(path).connect().await.unwrap()
}

/// Read models hold in the clear what people said of themselves.
#[cfg(unix)]
#[tokio::test]
async fn new_file_and_the_files_beside_it_are_their_owners_alone() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.db");
    let store = open(&path).await;
    let files: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap()).collect();
    assert!(files.len() >= 2, "the write-ahead log lies there too: {files:?}");
    for file in files {
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o077, 0, "{file:?}");
    }
    store.close().await;
}

#[tokio::test]
async fn triggers_refuse_to_change_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.db");
    let store = open(&path).await;
    committed(store.append(batch(&["a"])).await);
    let mut session = session(&path).await;
    for statement in [
        "UPDATE events SET data = x'00'",
        "DELETE FROM events",
        "UPDATE streams SET aggregate_type = 'other'",
        "DELETE FROM streams",
        "DELETE FROM log_head",
    ] {
        let error = sqlx::query(statement).execute(&mut session).await.unwrap_err().to_string();
        assert!(error.contains("append-only"), "{statement}: {error}");
    }
    assert_eq!(store.head().await.unwrap(), Position(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn three_processes_open_one_new_file_at_once() {
    let folder = tempfile::tempdir().unwrap();
    for round in 0..5 {
        let path = folder.path().join(format!("new/{round}.db"));
        let opens = (0..3).map(|_| tokio::spawn(SqliteStore::open(SqliteOptions::new(&path))));
        let stores: Vec<_> =
            futures_util::future::join_all(opens).await.into_iter().map(|it| it.unwrap().unwrap()).collect();
        assert!(stores.iter().all(|store| store.store_id() == stores[0].store_id()));
        assert_eq!(stores[2].schema_version().await.unwrap(), SCHEMA);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_share_one_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.db");
    let stores = [open(&path).await, open(&path).await];
    let writers = (0..8).map(|writer| {
        let store = stores[writer % 2].clone();
        tokio::spawn(async move {
            for round in 0..10 {
                committed(store.append(batch(&[&format!("{writer}-{round}")])).await);
            }
        })
    });
    for writer in futures_util::future::join_all(writers).await {
        writer.unwrap();
    }
    let page = stores[0].read_all(Position(0), &EventFilter::default(), at_most(1_000)).await.unwrap();
    assert_eq!(page.events.iter().map(|event| event.position.0).collect::<Vec<_>>(), (1..=80).collect::<Vec<_>>());
}

#[tokio::test]
async fn opening_a_current_file_needs_no_write_lock() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.db");
    let first = open(&path).await;
    let mut other = session(&path).await;
    let writing = Connection::begin_with(&mut other, "BEGIN IMMEDIATE").await.unwrap();
    let second = tokio::time::timeout(std::time::Duration::from_secs(2), open(&path)).await.unwrap();
    assert_eq!(first.store_id(), second.store_id());
    writing.rollback().await.unwrap();
}

#[tokio::test]
async fn newer_and_edited_and_foreign_databases_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.db");
    open(&path).await.close().await;
    let mut session = session(&path).await;
    sqlx::query("INSERT INTO _sqlx_migrations VALUES (99, 'future', '', true, x'00', 0)")
        .execute(&mut session)
        .await
        .unwrap();
    let newer = SqliteStore::open(SqliteOptions::new(&path)).await.unwrap_err();
    assert!(matches!(newer, OpenError::NewerSchema { found: 99, known: SCHEMA, .. }), "{newer}");
    assert!(!newer.is_retryable());

    sqlx::query("DELETE FROM _sqlx_migrations WHERE version = 99").execute(&mut session).await.unwrap();
    sqlx::query("UPDATE _sqlx_migrations SET checksum = x'00' WHERE version = 1").execute(&mut session).await.unwrap();
    let edited = SqliteStore::open(SqliteOptions::new(&path)).await.unwrap_err();
    assert!(matches!(edited, OpenError::EditedMigration { version: 1, .. }), "{edited}");

    let text = folder.path().join("notes.txt");
    std::fs::write(&text, "these are notes, not a database; they are long enough to have a header".repeat(10)).unwrap();
    let foreign = SqliteStore::open(SqliteOptions::new(&text)).await.unwrap_err();
    assert!(matches!(foreign, OpenError::Configuration { .. }), "{foreign}");
    let below_a_file = SqliteStore::open(SqliteOptions::new(text.join("log.db"))).await.unwrap_err();
    assert!(matches!(below_a_file, OpenError::Configuration { .. }), "{below_a_file}");
    let missing = SqliteOptions { create: false, ..SqliteOptions::new(folder.path().join("missing.db")) };
    let missing = SqliteStore::open(missing).await.unwrap_err();
    assert!(matches!(missing, OpenError::Configuration { .. }), "{missing}");
}

#[tokio::test]
async fn older_schema_is_refused_where_migrating_is_off() {
    let folder = tempfile::tempdir().unwrap();
    let options = SqliteOptions { migrate: false, ..SqliteOptions::new(folder.path().join("log.db")) };
    let older = SqliteStore::open(options.clone()).await.unwrap_err();
    assert!(matches!(older, OpenError::OlderSchema { found: 0, needed: SCHEMA, .. }), "{older}");
    assert_eq!(SqliteStore::migrate(&options).await.unwrap(), SCHEMA);
    SqliteStore::open(options).await.unwrap().ping().await.unwrap();
}

#[tokio::test]
async fn recorded_at_stands_still_while_the_clock_goes_back() {
    let start = SystemClock.now();
    let clock = Arc::new(ManualClock::at(start));
    let folder = tempfile::tempdir().unwrap();
    let options = SqliteOptions { clock: clock.clone(), ..SqliteOptions::new(folder.path().join("log.db")) };
    let store = SqliteStore::open(options).await.unwrap();
    let mut instants: Vec<DateTime<Utc>> = Vec::new();
    for (name, moved) in [("a", 0), ("b", -3_600), ("c", 3_599), ("d", 2)] {
        clock.advance(Duration::seconds(moved));
        instants.push(committed(store.append(batch(&[name])).await)[0].recorded_at);
    }
    assert_eq!(instants, [start, start, start, start + Duration::seconds(1)]);
}

#[tokio::test]
async fn busy_file_is_unavailable_and_the_same_batch_commits_later() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.db");
    let options = SqliteOptions { busy_timeout: std::time::Duration::from_millis(50), ..SqliteOptions::new(&path) };
    let store = SqliteStore::open(options).await.unwrap();
    let mut other = session(&path).await;
    let writing = Connection::begin_with(&mut other, "BEGIN IMMEDIATE").await.unwrap();
    let batch = batch(&["a"]);
    let busy = store.append(batch.clone()).await.unwrap_err();
    assert!(matches!(busy, StoreError::Unavailable { .. }), "{busy}");
    writing.rollback().await.unwrap();
    committed(store.append(batch).await);
}

#[tokio::test]
async fn dropped_append_leaves_no_transaction_behind() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder.path().join("log.db")).await;
    for round in 0..50 {
        let (kept, name) = (batch(&["kept"]), format!("dropped-{round}"));
        let wait = std::time::Duration::from_micros(round * 20);
        let _ = tokio::time::timeout(wait, store.append(batch(&[&name]))).await;
        if round == 0 {
            committed(store.append(kept).await);
        }
    }
    committed(store.append(batch(&["last"])).await);
    let mut session = session(&folder.path().join("log.db")).await;
    Connection::begin_with(&mut session, "BEGIN IMMEDIATE").await.unwrap().rollback().await.unwrap();
}

#[tokio::test]
async fn confirmations_write_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.db");
    let store = open(&path).await;
    committed(store.append(batch(&["a"])).await);
    let log_bytes = || std::fs::metadata(folder.path().join("log.db-wal")).unwrap().len();
    let before = log_bytes();
    for _ in 0..10 {
        let mut confirmation = batch(&["b"]);
        confirmation.units[0].events.clear();
        committed(store.append(confirmation).await);
    }
    assert_eq!(log_bytes(), before);
}

#[tokio::test]
async fn read_only_log_refuses_appends_and_still_confirms() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder.path().join("log.db")).await;
    store.set_read_only(true).await.unwrap();
    assert!(store.is_read_only().await.unwrap());
    let mut two = batch(&["a", "b"]);
    two.units[1].events.clear();
    let outcomes = store.append(two).await.unwrap();
    assert!(matches!(outcomes[0], UnitOutcome::Failed(StoreError::ReadOnly { .. })), "{outcomes:?}");
    assert!(matches!(outcomes[1], UnitOutcome::Committed(_)), "{outcomes:?}");
    store.set_read_only(false).await.unwrap();
    committed(store.append(batch(&["a"])).await);
    assert_eq!(store.head().await.unwrap(), Position(1));
}

#[tokio::test]
async fn damaged_snapshot_is_ignored() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.db");
    let store = open(&path).await;
    let id = AggregateId::new("a").unwrap();
    let head = StreamHead { sequence: Sequence(7), chain: ChainDigest([1; 32]) };
    let snapshot = Snapshot {
        aggregate_id: id.clone(),
        aggregate_type: "test".try_into().unwrap(),
        head,
        state_version: 1,
        state: "{}".into(),
    };
    let mut session = session(&path).await;
    for damage in [
        "UPDATE snapshots SET state = x'00'",
        "UPDATE snapshots SET chain = zeroblob(32)",
        "UPDATE snapshots SET chain = x'00'",
        "UPDATE snapshots SET state_version = -1",
        "UPDATE snapshots SET aggregate_type = ''",
    ] {
        store.save(snapshot.clone()).await.unwrap();
        assert_eq!(store.latest(&id, Sequence(9)).await.unwrap(), Some(StoredSnapshot::Readable(snapshot.clone())));
        sqlx::query(damage).execute(&mut session).await.unwrap();
        let found = store.latest(&id, Sequence(9)).await.unwrap();
        assert_eq!(found, Some(StoredSnapshot::Unreadable(Sequence(7))), "{damage}");
    }
}

#[tokio::test]
async fn changed_row_is_reported_as_corrupt() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.db");
    let store = open(&path).await;
    committed(store.append(batch(&["a"])).await);
    let mut session = session(&path).await;
    sqlx::raw_sql("DROP TRIGGER events_no_update; UPDATE events SET chain = x'00'")
        .execute(&mut session)
        .await
        .unwrap();
    let error = store.read_all(Position(0), &EventFilter::default(), at_most(1)).await.unwrap_err();
    assert!(matches!(&error, StoreError::Corrupt { reason } if reason.contains("position 1")), "{error}");
}

#[tokio::test]
async fn closed_store_is_unavailable() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder.path().join("log.db")).await;
    committed(store.append(batch(&["a"])).await);
    store.close().await;
    assert!(!folder.path().join("log.db-wal").exists(), "the write-ahead log was folded into the file");
    assert!(matches!(store.append(batch(&["b"])).await, Err(StoreError::Unavailable { .. })));
    assert!(matches!(store.head().await, Err(StoreError::Unavailable { .. })));
    assert!(matches!(store.append(AppendBatch::default()).await, Err(StoreError::Unavailable { .. })));
}

#[tokio::test]
async fn analysts_see_text() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.db");
    let store = open(&path).await;
    let done = committed(store.append(batch(&["a"])).await)[0];
    let query = sqlx::query_as("SELECT data, recorded_at FROM events_text");
    let (data, recorded_at): (String, String) = query.fetch_one(&mut session(&path).await).await.unwrap();
    assert_eq!(data, r#"{"number":1}"#);
    assert_eq!(recorded_at.parse::<DateTime<Utc>>().unwrap(), done.recorded_at);
}
