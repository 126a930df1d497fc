//! What the benchmarks share: fresh stores, raw inserts into the same tables as the ceiling, closed loops.

#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    missing_docs,
    reason = "a benchmark may panic"
)]

#[path = "../../tests/it/support/postgres.rs"]
pub mod postgres;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use event_sourcing_actors::{
    AggregateId, CommandId, EventId, NewEvent, StreamHead,
    envelope::EventBody,
    ports::{AppendBatch, AppendUnit, CommandProbe, EventStore, SnapshotStore, StreamClaim, ViewStore},
};
use event_sourcing_cqrs::store::{PostgresOptions, PostgresStore, SqliteOptions, SqliteStore};
use hdrhistogram::Histogram;
use sqlx::{Connection, PgConnection, SqliteConnection};
use tokio::sync::{Mutex, mpsc, oneshot};

/// As in the program; the baselines run on it too.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A store with a fresh database, and a second fresh database of the same schema for raw inserts.
pub struct Backend {
    pub name: &'static str,
    pub store: Arc<dyn EventStore>,
    pub snapshots: Arc<dyn SnapshotStore>,
    pub views: Arc<dyn ViewStore>,
    pub raw: Arc<Raw>,
    _folder: Option<tempfile::TempDir>,
}

/// Inserts rows into the events table: no checks, no function, no actors.
pub struct Raw {
    connection: Mutex<RawConnection>,
    position: AtomicU64,
}

enum RawConnection {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

/// Both backends, or the one that `BENCH_BACKEND` names; PostgreSQL only where it is installed.
pub async fn backends() -> Vec<Backend> {
    let only = std::env::var("BENCH_BACKEND").ok();
    let is_wanted = |name: &str| only.as_ref().is_none_or(|only| only == name);
    let mut all = Vec::new();
    if is_wanted("sqlite") {
        all.push(sqlite().await);
    }
    if is_wanted("postgres") {
        all.extend(postgres_backend().await);
    }
    all
}

pub async fn sqlite() -> Backend {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(SqliteOptions::new(folder.path().join("store.db"))).await.unwrap();
    let raw_path = folder.path().join("raw.db");
    SqliteStore::open(SqliteOptions::new(&raw_path)).await.unwrap().close().await;
    let options = sqlx::sqlite::SqliteConnectOptions::new()
        .filename(&raw_path)
        .journal_mode(sqlx::sqlite::SqliteJournalMode::Wal)
        .synchronous(sqlx::sqlite::SqliteSynchronous::Full);
    let raw = RawConnection::Sqlite(SqliteConnection::connect_with(&options).await.unwrap());
    let store = Arc::new(store);
    Backend {
        name: "sqlite",
        store: store.clone(),
        snapshots: store.clone(),
        views: store,
        raw: Raw::new(raw),
        _folder: Some(folder),
    }
}

pub async fn postgres_backend() -> Option<Backend> {
    let (database, raw_database) = (postgres::database().await?, postgres::database().await?);
    let store = Arc::new(PostgresStore::connect(PostgresOptions::new(&database.url)).await.unwrap());
    PostgresStore::connect(PostgresOptions::new(&raw_database.url)).await.unwrap().close().await;
    let raw = RawConnection::Postgres(raw_database.session().await);
    Some(Backend {
        name: "postgres",
        store: store.clone(),
        snapshots: store.clone(),
        views: store,
        raw: Raw::new(raw),
        _folder: None,
    })
}

const PG_INSERT: &str = "INSERT INTO events (partition, position, aggregate_id, aggregate_type, sequence, event_id, \
    event_type, schema_version, data, metadata, recorded_at, checksum, chain) \
    SELECT 0, $1 + n.o, n.a, n.b, n.c, n.d, n.e, 1, n.f, n.g, now(), n.h, n.i FROM unnest($2::text[], $3::text[], \
    $4::bigint[], $5::uuid[], $6::text[], $7::bytea[], $8::bytea[], $9::bytea[], $10::bytea[]) \
    WITH ORDINALITY n(a, b, c, d, e, f, g, h, i, o)";

impl Raw {
    fn new(connection: RawConnection) -> Arc<Self> {
        Arc::new(Self { connection: Mutex::new(connection), position: AtomicU64::new(0) })
    }

    /// One durable transaction with these rows.
    pub async fn insert(&self, events: &[NewEvent]) {
        let mut connection = self.connection.lock().await;
        let first = self.position.fetch_add(events.len() as u64, Ordering::Relaxed) as i64;
        match &mut *connection {
            RawConnection::Postgres(session) => {
                let of = |f: fn(&NewEvent) -> Vec<u8>| events.iter().map(f).collect::<Vec<_>>();
                let text = |f: fn(&NewEvent) -> &str| events.iter().map(|e| f(e).to_owned()).collect::<Vec<_>>();
                sqlx::query(PG_INSERT)
                    .bind(first)
                    .bind(text(|e| e.aggregate_id.as_str()))
                    .bind(text(|e| e.aggregate_type.as_str()))
                    .bind(events.iter().map(|e| e.sequence.as_i64()).collect::<Vec<_>>())
                    .bind(events.iter().map(|e| e.event_id.0).collect::<Vec<_>>())
                    .bind(text(|e| e.event_type.as_str()))
                    .bind(of(|e| e.data.to_vec()))
                    .bind(of(|e| e.metadata.to_vec()))
                    .bind(of(|e| e.checksum.0.to_vec()))
                    .bind(of(|e| e.chain.0.to_vec()))
                    .execute(session)
                    .await
                    .unwrap();
            }
            RawConnection::Sqlite(connection) => {
                sqlx::query("BEGIN IMMEDIATE").execute(&mut *connection).await.unwrap();
                for (chunk_index, chunk) in events.chunks(64).enumerate() {
                    let rows = vec!["(0, ?, ?, ?, ?, ?, ?, 1, ?, ?, ?, ?, ?)"; chunk.len()].join(", ");
                    let mut query = sqlx::query(sqlx::AssertSqlSafe(format!(
                        "INSERT INTO events (partition, position, aggregate_id, aggregate_type, sequence, event_id, \
                         event_type, schema_version, data, metadata, recorded_at, checksum, chain) VALUES {rows}"
                    )));
                    for (index, event) in chunk.iter().enumerate() {
                        query = query
                            .bind(first + 1 + (chunk_index * 64 + index) as i64)
                            .bind(event.aggregate_id.as_str().to_owned())
                            .bind(event.aggregate_type.as_str().to_owned())
                            .bind(event.sequence.as_i64())
                            .bind(event.event_id.0)
                            .bind(event.event_type.as_str().to_owned())
                            .bind(event.data.to_vec())
                            .bind(event.metadata.to_vec())
                            .bind(0_i64)
                            .bind(event.checksum.0.to_vec())
                            .bind(event.chain.0.to_vec());
                    }
                    query.execute(&mut *connection).await.unwrap();
                }
                sqlx::query("COMMIT").execute(&mut *connection).await.unwrap();
            }
        }
    }
}

/// Heads of streams, to make events that follow.
pub struct Streams {
    heads: Vec<(AggregateId, StreamHead)>,
    next: usize,
}

impl Streams {
    pub fn new(prefix: &str, count: usize) -> Self {
        let heads =
            (0..count).map(|n| (AggregateId::new(format!("{prefix}-{n:06}")).unwrap(), StreamHead::EMPTY)).collect();
        Self { heads, next: 0 }
    }

    /// One deposit on the next stream: what it was decided on, and the event.
    pub fn deposit(&mut self) -> (StreamHead, NewEvent) {
        self.event("MoneyDeposited", r#"{"amount":1,"transfer_id":"01980000-0000-7000-8000-000000000000"}"#)
    }

    /// One deposit that belongs to no transfer, on the next stream.
    pub fn plain_deposit(&mut self) -> (StreamHead, NewEvent) {
        self.event("MoneyDeposited", r#"{"amount":1}"#)
    }

    /// The first event of an account.
    pub fn created(&mut self) -> (StreamHead, NewEvent) {
        self.event("AccountCreated", r#"{"account_id":"bench","owner":"bench","initial_balance":0}"#)
    }

    fn event(&mut self, event_type: &str, data: &'static str) -> (StreamHead, NewEvent) {
        let index = self.next % self.heads.len();
        self.next += 1;
        let (id, head) = &mut self.heads[index];
        let before = *head;
        let command = CommandId::generate();
        let body = EventBody {
            event_id: EventId::derived(command, 0),
            event_type: event_type.try_into().unwrap(),
            schema_version: 1,
            data: data.into(),
            metadata: format!(r#"{{"command_id":"{command}","correlation_id":"{command}"}}"#).into(),
        };
        (before, NewEvent::following(head, id, &"account".try_into().unwrap(), body))
    }

    /// A batch of single deposits, each on another stream.
    pub fn batch(&mut self, count: usize) -> (AppendBatch, Vec<NewEvent>) {
        let units: Vec<_> = (0..count).map(|_| self.unit(Self::deposit)).collect();
        let events = units.iter().flat_map(|unit| unit.events.iter().cloned()).collect();
        (AppendBatch { units }, events)
    }

    /// One event as a unit of its own.
    pub fn unit(&mut self, event: fn(&mut Self) -> (StreamHead, NewEvent)) -> AppendUnit {
        let (head, event) = event(self);
        AppendUnit {
            streams: vec![StreamClaim { aggregate_id: event.aggregate_id.clone(), head, losses: 0 }],
            commands: vec![CommandProbe { event_ids: vec![event.event_id], key: None, record: None }],
            events: vec![event],
        }
    }
}

/// A rate with its latencies.
pub struct Measured {
    pub per_second: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
}

impl Measured {
    pub fn of(count: u64, elapsed: Duration, histogram: &Histogram<u64>) -> Self {
        Self {
            per_second: count as f64 / elapsed.as_secs_f64(),
            p50_ms: histogram.value_at_quantile(0.5) as f64 / 1e3,
            p99_ms: histogram.value_at_quantile(0.99) as f64 / 1e3,
        }
    }

    pub fn print(&self, name: &str, baseline: Option<&Self>) {
        let ratio =
            baseline.map(|b| format!("  {:5.2} x baseline", self.per_second / b.per_second)).unwrap_or_default();
        println!("{name:58} {:10.0}/s  p50 {:7.2} ms  p99 {:7.2} ms{ratio}", self.per_second, self.p50_ms, self.p99_ms);
    }
}

/// How long each point is measured.
pub fn seconds() -> Duration {
    Duration::from_secs_f64(std::env::var("BENCH_SECONDS").ok().and_then(|s| s.parse().ok()).unwrap_or(3.0))
}

/// `tasks` callers, each with one call in flight; the first fifth of the time warms up.
pub async fn closed_loop<F, Fut>(tasks: usize, call: F) -> Measured
where
    F: Fn(usize, u64) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = ()> + Send,
{
    let (warm, stop) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicBool::new(false)));
    let workers: Vec<_> = (0..tasks)
        .map(|task| {
            let (warm, stop, call) = (warm.clone(), stop.clone(), call.clone());
            tokio::spawn(async move {
                let mut histogram = Histogram::<u64>::new(3).unwrap();
                let mut turn = 0;
                while !stop.load(Ordering::Relaxed) {
                    let started = Instant::now();
                    call(task, turn).await;
                    turn += 1;
                    if !warm.load(Ordering::Relaxed) {
                        histogram.record(started.elapsed().as_micros() as u64).unwrap();
                    }
                }
                histogram
            })
        })
        .collect();
    tokio::time::sleep(seconds() / 5).await;
    warm.store(false, Ordering::Relaxed);
    let started = Instant::now();
    tokio::time::sleep(seconds()).await;
    let elapsed = started.elapsed();
    stop.store(true, Ordering::Relaxed);
    let mut all = Histogram::<u64>::new(3).unwrap();
    for worker in workers {
        all.add(worker.await.unwrap()).unwrap();
    }
    Measured::of(all.len(), elapsed, &all)
}

/// The group-commit ceiling: callers hand over one event each, one committer inserts what has queued up, raw.
pub async fn group_commit(raw: Arc<Raw>, callers: usize) -> Measured {
    let (queue, mut events) = mpsc::channel::<(NewEvent, oneshot::Sender<()>)>(4_096);
    let committer = tokio::spawn(async move {
        let mut jobs = Vec::with_capacity(1_024);
        while events.recv_many(&mut jobs, 1_024).await > 0 {
            let (batch, answers): (Vec<_>, Vec<_>) = jobs.drain(..).unzip();
            raw.insert(&batch).await;
            for answer in answers {
                let _ = answer.send(());
            }
        }
    });
    let run = CommandId::generate();
    let streams: Arc<Vec<_>> = Arc::new(
        (0..callers).map(|caller| std::sync::Mutex::new(Streams::new(&format!("raw-{run}-{caller}"), 16))).collect(),
    );
    let measured = closed_loop(callers, move |caller, _| {
        let (queue, streams) = (queue.clone(), streams.clone());
        async move {
            let (_, event) = streams[caller].lock().unwrap().deposit();
            let (answer, done) = oneshot::channel();
            queue.send((event, answer)).await.unwrap();
            done.await.unwrap();
        }
    })
    .await;
    committer.await.unwrap();
    measured
}

/// What group commit could reach if every batch were full at once: raw batches of that size, one after the other.
pub async fn full_batches(raw: &Raw, size: usize) -> Measured {
    let mut streams = Streams::new(&format!("full-{}", CommandId::generate()), size);
    let mut histogram = Histogram::<u64>::new(3).unwrap();
    let (started, mut count) = (Instant::now(), 0_u64);
    while started.elapsed() < seconds() {
        let (_, events) = streams.batch(size);
        let turn = Instant::now();
        raw.insert(&events).await;
        histogram.record(turn.elapsed().as_micros() as u64).unwrap();
        count += size as u64;
    }
    Measured::of(count, started.elapsed(), &histogram)
}
