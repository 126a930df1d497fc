//! Projections on a real store: a rebuild of a long log while queries go on, against raw paged reading and batched upserts
//! of as many rows; the lag under full write load; and how soon a commit is visible at 1,000 commands a second.
//! `cargo bench --bench projection`; `BENCH_EVENTS=100000` for a shorter log, `BENCH_BACKEND=sqlite` for one store,
//! `-- rebuild`, `-- live` or `-- visible` for a part.

#![allow(
    clippy::unwrap_used,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    missing_docs,
    reason = "a benchmark may panic"
)]

mod common;

use std::{
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use common::{Measured, Streams, closed_loop, postgres, seconds};
use event_sourcing_actors::{
    EventFilter, Position,
    ports::{AppendBatch, OperationStatus},
    query_bus::QueryRequest,
};
use event_sourcing_cqrs::{
    app::App,
    domain::account::{Account, CreateAccount, DepositMoney},
    settings::Settings,
};
use hdrhistogram::Histogram;
use sqlx::{AssertSqlSafe, Connection, PgConnection, SqliteConnection};

const ACCOUNTS: u64 = 10_000;
const PAGE: u32 = 1_000;

/// A fresh database with an app over it.
struct Bench {
    name: &'static str,
    url: String,
    app: Arc<App>,
    _folder: Option<tempfile::TempDir>,
}

async fn benches() -> Vec<Bench> {
    let only = std::env::var("BENCH_BACKEND").ok();
    let is_wanted = |name: &str| only.as_ref().is_none_or(|only| only == name);
    let mut all = Vec::new();
    if is_wanted("sqlite") {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("store.db").display());
        all.push(Bench { name: "sqlite", app: app(&url).await, url, _folder: Some(folder) });
    }
    if is_wanted("postgres")
        && let Some(database) = postgres::database().await
    {
        all.push(Bench { name: "postgres", app: app(&database.url).await, url: database.url, _folder: None });
    }
    all
}

/// Queries are answered by the store: a cache would hide what is measured.
async fn app(url: &str) -> Arc<App> {
    let mut settings = Settings::default();
    settings.cache.enabled = false;
    if url.starts_with("postgres") {
        settings.erasure.tombstone_file = Some(std::env::temp_dir().join("erasure-of-benches.erased"));
    }
    Arc::new(App::builder().settings(settings).seal(false).database_url(url).unwrap().start().await.unwrap())
}

fn balance_of(account: u64) -> QueryRequest {
    QueryRequest::new("GetAccountBalance", &format!(r#"{{"account_id":"acc-{account:06}"}}"#)).unwrap()
}

/// Waits until a projection has applied the whole log; how long that took.
async fn caught_up(app: &App, projection: &str) -> Duration {
    let started = Instant::now();
    while app.runtime().projections().show(projection).await.unwrap().lag_events > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    started.elapsed()
}

/// Appends a long log of accounts and deposits, straight to the store.
async fn fill(bench: &Bench, events: u64) {
    let store = bench.app.storage().events();
    let mut streams = Streams::new("acc", ACCOUNTS as usize);
    let mut written = 0;
    while written < events {
        let units = (0..1_000).map(|n| {
            let event = if written + n < ACCOUNTS { Streams::created } else { Streams::plain_deposit };
            streams.unit(event)
        });
        store.append(AppendBatch { units: units.collect() }).await.unwrap();
        written += 1_000;
    }
}

/// Pages of the log, and for each event two rows upserted: no projection, no checkpoint, no test.
async fn raw_rebuild(bench: &Bench) -> f64 {
    let store = bench.app.storage().events();
    let mut target = RawTarget::open(&bench.url).await;
    let (mut after, mut count, started) = (Position::ZERO, 0_u64, Instant::now());
    loop {
        let page = store.read_all(after, &EventFilter::default(), NonZeroU32::new(PAGE).unwrap()).await.unwrap();
        if page.events.is_empty() {
            break;
        }
        after = page.examined;
        count += page.events.len() as u64;
        let mut rows = Vec::with_capacity(page.events.len() * 2);
        for event in &page.events {
            let id = event.aggregate_id.as_str();
            rows.push((
                "accounts",
                String::new(),
                id.to_owned(),
                format!(r#"{{"account_id":"{id}","owner":"bench","balance":{0},"status":"active","version":{0},"updated_at":"2026-11-23T12:00:00.000000Z"}}"#, event.sequence),
            ));
            rows.push((
                "transactions",
                id.to_owned(),
                format!("{:020}", event.sequence.0),
                format!(r#"{{"account_id":"{id}","sequence":{},"position":{},"kind":"deposited","amount":1,"balance_after":1,"transfer_id":null,"at":"2026-11-23T12:00:00.000000Z"}}"#, event.sequence, event.position),
            ));
        }
        // The same row twice in one statement is refused by both databases; the last one counts.
        rows.sort_by(|a, b| (&a.0, &a.1, &a.2).cmp(&(&b.0, &b.1, &b.2)));
        rows.reverse();
        rows.dedup_by(|a, b| (&a.0, &a.1, &a.2) == (&b.0, &b.1, &b.2));
        target.upsert(&rows).await;
    }
    count as f64 / started.elapsed().as_secs_f64()
}

type RawRow = (&'static str, String, String, String);

enum RawTarget {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

impl RawTarget {
    async fn open(url: &str) -> Self {
        const TABLE: &str = "CREATE TABLE raw_rows (collection text, grp text, sort text, data text, PRIMARY KEY (collection, grp, sort))";
        if url.starts_with("sqlite") {
            let options = sqlx::sqlite::SqliteConnectOptions::new()
                .filename(url.trim_start_matches("sqlite://"))
                .synchronous(sqlx::sqlite::SqliteSynchronous::Normal);
            let mut connection = SqliteConnection::connect_with(&options).await.unwrap();
            sqlx::query(AssertSqlSafe(format!("{TABLE} WITHOUT ROWID"))).execute(&mut connection).await.unwrap();
            return Self::Sqlite(connection);
        }
        let mut connection = PgConnection::connect(url).await.unwrap();
        sqlx::query(TABLE).execute(&mut connection).await.unwrap();
        sqlx::query("SET synchronous_commit = off").execute(&mut connection).await.unwrap();
        Self::Postgres(connection)
    }

    async fn upsert(&mut self, rows: &[RawRow]) {
        match self {
            Self::Postgres(connection) => {
                let of = |f: fn(&RawRow) -> &str| rows.iter().map(|row| f(row).to_owned()).collect::<Vec<_>>();
                sqlx::query(
                    "INSERT INTO raw_rows SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) \
                     ON CONFLICT (collection, grp, sort) DO UPDATE SET data = excluded.data",
                )
                .bind(of(|row| row.0))
                .bind(of(|row| &row.1))
                .bind(of(|row| &row.2))
                .bind(of(|row| &row.3))
                .execute(connection)
                .await
                .unwrap();
            }
            Self::Sqlite(connection) => {
                sqlx::query("BEGIN IMMEDIATE").execute(&mut *connection).await.unwrap();
                for chunk in rows.chunks(64) {
                    let values = vec!["(?, ?, ?, ?)"; chunk.len()].join(", ");
                    let mut query = sqlx::query(AssertSqlSafe(format!(
                        "INSERT INTO raw_rows VALUES {values} \
                         ON CONFLICT (collection, grp, sort) DO UPDATE SET data = excluded.data"
                    )));
                    for row in chunk {
                        query = query.bind(row.0).bind(row.1.clone()).bind(row.2.clone()).bind(row.3.clone());
                    }
                    query.execute(&mut *connection).await.unwrap();
                }
                sqlx::query("COMMIT").execute(&mut *connection).await.unwrap();
            }
        }
    }
}

/// Queries one after the other until told to stop.
async fn queries(app: Arc<App>, stop: Arc<AtomicBool>) -> Measured {
    let mut histogram = Histogram::<u64>::new(3).unwrap();
    let (started, mut turn) = (Instant::now(), 0_u64);
    while !stop.load(Ordering::Relaxed) {
        let asked = Instant::now();
        app.runtime().queries().ask(balance_of(turn * 7_919 % ACCOUNTS)).await.unwrap();
        histogram.record(asked.elapsed().as_micros() as u64).unwrap();
        turn += 1;
        // A user, not a load test: the question is how long one waits while a rebuild runs.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Measured::of(turn, started.elapsed(), &histogram)
}

async fn rebuild(bench: &Bench) {
    let events = std::env::var("BENCH_EVENTS").ok().and_then(|events| events.parse().ok()).unwrap_or(1_000_000);
    fill(bench, events).await;
    let first = caught_up(&bench.app, "account_balance").await;
    for name in ["order_summary", "inventory", "user_activity"] {
        caught_up(&bench.app, name).await;
    }
    println!(
        "{} {events} events: all projections were up {:.1} s after the log was written",
        bench.name,
        first.as_secs_f64()
    );
    let quiet_stop = Arc::new(AtomicBool::new(false));
    let quiet = tokio::spawn(queries(bench.app.clone(), quiet_stop.clone()));
    tokio::time::sleep(seconds()).await;
    quiet_stop.store(true, Ordering::Relaxed);
    let quiet = quiet.await.unwrap();
    quiet.print(&format!("{} queries by key, no rebuild", bench.name), None);

    let raw = raw_rebuild(bench).await;
    println!("{:58} {raw:10.0}/s", format!("{} raw paged reading and batched upsert", bench.name));

    let stop = Arc::new(AtomicBool::new(false));
    let during = tokio::spawn(queries(bench.app.clone(), stop.clone()));
    let projections = bench.app.runtime().projections();
    let started = Instant::now();
    let operation = projections.rebuild("account_balance", false).await.unwrap();
    let ended = loop {
        let now = projections.operation(operation.id).await.unwrap();
        if now.status != OperationStatus::Running {
            break now;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let rate = events as f64 / started.elapsed().as_secs_f64();
    stop.store(true, Ordering::Relaxed);
    assert_eq!(ended.status, OperationStatus::Succeeded, "{ended:?}");
    println!(
        "{:58} {rate:10.0}/s  {:5.2} x raw (bound: 0.5)",
        format!("{} rebuild, with verification and swap", bench.name),
        rate / raw
    );
    let during = during.await.unwrap();
    during.print(&format!("{} queries by key, during the rebuild", bench.name), Some(&quiet));
    println!("{} p99 of queries during the rebuild: {:.2} x (bound: 2)", bench.name, during.p99_ms / quiet.p99_ms);
}

async fn create(app: &App, prefix: &str, count: u64) {
    for n in 0..count {
        let create = CreateAccount { account_id: None, owner: "bench".to_owned(), initial_balance: 0 };
        app.execute::<Account>(format!("{prefix}-{n}"), create).await.unwrap();
    }
}

/// Full write load, and how far the projection is behind meanwhile and after.
async fn live(bench: &Bench) {
    create(&bench.app, "live", 1_000).await;
    let stop = Arc::new(AtomicBool::new(false));
    let lag = tokio::spawn({
        let (app, stop) = (bench.app.clone(), stop.clone());
        async move {
            let mut worst = (0, 0.0_f64);
            while !stop.load(Ordering::Relaxed) {
                let report = app.runtime().projections().show("account_balance").await.unwrap();
                worst = (worst.0.max(report.lag_events), worst.1.max(report.lag_seconds));
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            worst
        }
    });
    let app = bench.app.clone();
    let load = closed_loop(64, move |task, turn| {
        let app = app.clone();
        async move {
            let n = (task as u64).wrapping_mul(7_919).wrapping_add(turn.wrapping_mul(104_729)) % 1_000;
            app.execute::<Account>(format!("live-{n}"), DepositMoney { amount: 1, ..Default::default() })
                .await
                .unwrap();
        }
    })
    .await;
    let rest = caught_up(&bench.app, "account_balance").await;
    stop.store(true, Ordering::Relaxed);
    let (events, age) = lag.await.unwrap();
    load.print(&format!("{} commands, 64 in flight, projections following", bench.name), None);
    println!(
        "{} greatest lag {events} events, {age:.2} s; caught up {:.0} ms after the load's end (bound: 1,000)",
        bench.name,
        rest.as_secs_f64() * 1e3
    );
}

/// From a command's answer to the query that shows it, at a steady rate.
async fn visible(bench: &Bench) {
    create(&bench.app, "seen", 1_000).await;
    let mut histogram = Histogram::<u64>::new(3).unwrap();
    let mut ticks = tokio::time::interval(Duration::from_millis(1));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Burst);
    let (started, mut turn, mut running) = (Instant::now(), 0_u64, tokio::task::JoinSet::new());
    while started.elapsed() < seconds() {
        ticks.tick().await;
        let (app, n) = (bench.app.clone(), turn * 104_729 % 1_000);
        turn += 1;
        running.spawn(async move {
            let deposit = DepositMoney { amount: 1, ..Default::default() };
            let accepted = app.execute::<Account>(format!("seen-{n}"), deposit).await.unwrap();
            let committed = Instant::now();
            let mut query = QueryRequest::new("GetAccountBalance", &format!(r#"{{"account_id":"seen-{n}"}}"#)).unwrap();
            query.min_position = Some(accepted.position);
            query.wait = Some(Duration::from_secs(5));
            app.runtime().queries().ask(query).await.unwrap();
            committed.elapsed()
        });
    }
    while let Some(waited) = running.join_next().await {
        histogram.record(waited.unwrap().as_micros() as u64).unwrap();
    }
    let measured = Measured::of(turn, started.elapsed(), &histogram);
    measured.print(&format!("{} visible after the commit", bench.name), None);
    println!("{} p99 from a commit to its visibility: {:.1} ms (bound: 50)", bench.name, measured.p99_ms);
}

#[tokio::main]
async fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let is_wanted = |part: &str| wanted.is_empty() || wanted.iter().any(|word| word == part);
    println!("projection: rebuild, lag under load, visibility");
    for bench in benches().await {
        if is_wanted("visible") {
            visible(&bench).await;
        }
        if is_wanted("live") {
            live(&bench).await;
        }
        if is_wanted("rebuild") {
            rebuild(&bench).await;
        }
        bench.app.shutdown().await;
    }
}
