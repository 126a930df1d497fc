//! Moving a log: how fast it is backed up, restored and imported, beside how fast it can only be read, and only be inserted.
//! `cargo bench --bench archive`; `BENCH_EVENTS=1000000` for a longer log, `BENCH_BACKEND=sqlite` for one store, `-- backup`
//! or `-- import` for a part.

#![allow(clippy::unwrap_used, clippy::cast_precision_loss, missing_docs, reason = "a benchmark may panic")]

mod common;

use std::{
    io::{BufReader, Cursor, Write},
    sync::Arc,
    time::Instant,
};

use common::{Raw, Streams, postgres};
use event_sourcing_actors::{
    Runtime, RuntimeBuilder,
    catalog::Catalog,
    ports::{AppendBatch, EventStore, SnapshotStore, SystemClock},
};
use event_sourcing_cqrs::{
    archive::{ImportOptions, RestoreStore, Source, back_up, import, restore},
    domain,
    integrity::{port::TreeStore, vault::Vault, verify},
    store::{PostgresOptions, PostgresStore, SqliteOptions, SqliteStore},
};

const STREAMS: usize = 10_000;
/// Rows of one transaction of the raw inserts.
const RAW_ROWS: usize = 1_000;

trait Whole: EventStore + RestoreStore + SnapshotStore {}
impl<S: EventStore + RestoreStore + SnapshotStore> Whole for S {}

/// Fresh stores of one kind.
struct Kind {
    name: &'static str,
    folder: tempfile::TempDir,
}

impl Kind {
    async fn store(&self, name: &str) -> Option<(Arc<dyn EventStore>, Arc<dyn RestoreStore>, Arc<dyn SnapshotStore>)> {
        fn faces<S: Whole>(store: S) -> (Arc<dyn EventStore>, Arc<dyn RestoreStore>, Arc<dyn SnapshotStore>) {
            let store = Arc::new(store);
            (store.clone(), store.clone(), store)
        }
        if self.name == "sqlite" {
            let options = SqliteOptions::new(self.folder.path().join(name));
            return Some(faces(SqliteStore::open(options).await.unwrap()));
        }
        let database = postgres::database().await?;
        Some(faces(PostgresStore::connect(PostgresOptions::new(&database.url)).await.unwrap()))
    }

    fn vault(&self, name: &str, id: uuid::Uuid) -> Vault {
        Vault::in_folder(self.folder.path().join(name), id, Vec::new())
    }
}

fn told(what: &str, events: u64, started: Instant, baseline: Option<f64>) -> f64 {
    let rate = events as f64 / started.elapsed().as_secs_f64();
    let ratio = baseline.map_or(String::new(), |baseline| format!("  {:5.2} x", rate / baseline));
    println!("{what:58} {rate:10.0}/s{ratio}");
    rate
}

async fn read_only(tree: &dyn TreeStore, events: u64) {
    let mut next = 1;
    while next <= events {
        let rows = tree.rows(next.cast_signed(), 1_024).await.unwrap();
        next += rows.len() as u64;
    }
}

async fn backups(kind: &Kind, raw: &Raw, count: u64) {
    let name = kind.name;
    let Some((events, tree, _)) = kind.store("source.db").await else { return };
    let (mut streams, mut made) = (Streams::new("acc", STREAMS), 0);
    let started = Instant::now();
    let mut inserting = 0.0;
    while made < count {
        let (batch, rows) = streams.batch(RAW_ROWS);
        made += rows.len() as u64;
        events.append(batch).await.unwrap();
        let began = Instant::now();
        raw.insert(&rows).await;
        inserting += began.elapsed().as_secs_f64();
    }
    println!("{name}: {made} events appended, and inserted, in {:.1} s", started.elapsed().as_secs_f64());
    let inserted = made as f64 / inserting;
    println!("{:58} {inserted:10.0}/s", format!("{name} raw inserts, {RAW_ROWS} rows a durable transaction"));

    let started = Instant::now();
    read_only(&*tree, made).await;
    let read = told(&format!("{name} only read"), made, started, None);

    let tree_port: Arc<dyn TreeStore> = tree.clone();
    let source = Source {
        store: tree_port.clone(),
        kind: name,
        schema: None,
        vault: kind.vault("source", tree.tree_id()),
        clock: Arc::new(SystemClock),
        with_signing_key: false,
    };
    let started = Instant::now();
    let (summary, backup) = back_up(source, Vec::new(), &mut |_, _| true).await.unwrap();
    told(&format!("{name} backed up (against only read)"), made, started, Some(read));
    println!("{:58} {:10.0} bytes each", "", summary.bytes as f64 / made as f64);

    let Some((_, into, _)) = kind.store("restored.db").await else { return };
    let verified: Arc<dyn TreeStore> = into.clone();
    let (started, mut stored) = (Instant::now(), None);
    let vault = |id| kind.vault("restored", id);
    let mut progress = |done: u64, total: u64| {
        if done >= total && stored.is_none() {
            stored = Some(started.elapsed());
        }
        true
    };
    let restored = restore(Cursor::new(backup), into, vault, &SystemClock, &mut progress).await.unwrap();
    assert_eq!(restored.tree_root, summary.tree_root);
    told(&format!("{name} restored and verified (against raw inserts)"), made, started, Some(inserted));
    let storing = made as f64 / stored.unwrap().as_secs_f64();
    println!("{:58} {storing:10.0}/s  {:5.2} x", format!("{name}   of which stored"), storing / inserted);
    let started = Instant::now();
    verify(&*verified, &SystemClock, Default::default(), &mut |_, _| true).await.unwrap();
    told(&format!("{name}   of which verified"), made, started, None);
}

async fn runtime(events: &Arc<dyn EventStore>, snapshots: &Arc<dyn SnapshotStore>) -> Runtime {
    let mut catalog = Catalog::default();
    domain::register(&mut catalog).unwrap();
    let builder = RuntimeBuilder::new(events.clone(), snapshots.clone()).catalog(catalog).throwaway_keys();
    builder.start().await.unwrap()
}

/// Lines of deposits to accounts that are opened first.
fn lines(count: u64) -> Vec<u8> {
    let mut text = Vec::with_capacity(usize::try_from(count).unwrap() * 250);
    for number in 0..count {
        let id = uuid::Uuid::now_v7();
        let account = number % STREAMS as u64;
        let (kind, data) = match number < STREAMS as u64 {
            true => ("AccountCreated", r#"{"account_id":"x","owner":"bench","initial_balance":0}"#),
            false => ("MoneyDeposited", r#"{"amount":1}"#),
        };
        let data = data.replace("\"x\"", &format!("\"imported-{account}\""));
        writeln!(
            text,
            r#"{{"specversion":"1.0","id":"{id}","source":"/bench","type":"{kind}","subject":"imported-{account}","aggregatetype":"account","schemaversion":1,"data":{data}}}"#
        )
        .unwrap();
    }
    text
}

async fn imports(kind: &Kind, inserted: f64, count: u64) {
    let name = kind.name;
    let Some((events, _, snapshots)) = kind.store("imported.db").await else { return };
    let runtime = runtime(&events, &snapshots).await;
    let text = lines(count);
    for (what, is_first) in [("imported", true), ("imported again: all are there", false)] {
        let from = BufReader::new(Cursor::new(text.clone()));
        let started = Instant::now();
        let options = ImportOptions::default();
        let done = import(from, events.clone(), &runtime, &SystemClock, options, &mut |_, _| true).await.unwrap();
        assert_eq!(if is_first { done.imported } else { done.already_there }, count);
        told(&format!("{name} {what} (against raw inserts)"), count, started, Some(inserted));
    }
    runtime.shutdown().await;
}

async fn raw_rate(raw: &Raw) -> f64 {
    let mut streams = Streams::new("raw", STREAMS);
    let (mut made, mut inserting) = (0_u64, 0.0);
    while made < 50_000 {
        let (AppendBatch { .. }, rows) = streams.batch(RAW_ROWS);
        let began = Instant::now();
        raw.insert(&rows).await;
        inserting += began.elapsed().as_secs_f64();
        made += rows.len() as u64;
    }
    made as f64 / inserting
}

#[tokio::main]
async fn main() {
    let count = std::env::var("BENCH_EVENTS").ok().and_then(|text| text.parse().ok()).unwrap_or(200_000);
    let only = std::env::args().nth(1).filter(|part| !part.starts_with('-'));
    let wants = |part: &str| only.as_ref().is_none_or(|only| only == part);
    for backend in common::backends().await {
        let kind = Kind { name: backend.name, folder: tempfile::tempdir().unwrap() };
        if wants("backup") {
            backups(&kind, &backend.raw, count).await;
        }
        if wants("import") {
            let inserted = raw_rate(&backend.raw).await;
            imports(&kind, inserted, count.min(200_000)).await;
        }
    }
}
