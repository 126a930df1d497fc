//! Evidence: how fast a log is verified per core, what sealing costs the write path, and how long a proof takes in a tree of
//! ten million leaves. `cargo bench --bench integrity`; `BENCH_EVENTS=1000000` for a longer log, `BENCH_BACKEND=sqlite` for
//! one store, `-- verify`, `-- cost` or `-- proof` for a part.

#![allow(
    clippy::unwrap_used,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    missing_docs,
    reason = "a benchmark may panic"
)]

mod common;

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use common::{Streams, closed_loop, postgres};
use event_sourcing_actors::ports::{AppendBatch, EventStore, SystemClock, ViewStore};
use event_sourcing_cqrs::{
    app::App,
    domain::account::{Account, CreateAccount, DepositMoney},
    integrity::{
        Integrity, Parts, RecentTiles, Wanted,
        port::{Growth, TreeStore},
        tiles::Frontier,
        tree::{TreeHead, leaf_hash},
        vault::Vault,
        verify,
    },
    settings::Settings,
    store::{PostgresOptions, PostgresStore, SqliteOptions, SqliteStore},
};
use hdrhistogram::Histogram;
use uuid::Uuid;

const ACCOUNTS: usize = 10_000;
const LEAVES: u64 = 10_000_000;
const PROOFS: u64 = 2_000;
/// Runs with and without sealing, one after the other.
const ROUNDS: usize = 5;

struct Bench {
    name: &'static str,
    url: String,
    events: Arc<dyn EventStore>,
    tree: Arc<dyn TreeStore>,
    views: Arc<dyn ViewStore>,
    folder: tempfile::TempDir,
}

async fn benches() -> Vec<Bench> {
    let only = std::env::var("BENCH_BACKEND").ok();
    let is_wanted = |name: &str| only.as_ref().is_none_or(|only| only == name);
    let mut all = Vec::new();
    if is_wanted("sqlite") {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.db");
        let store = Arc::new(SqliteStore::open(SqliteOptions::new(&path)).await.unwrap());
        let url = format!("sqlite://{}", path.display());
        let (events, tree, views) = (store.clone(), store.clone(), store);
        all.push(Bench { name: "sqlite", url, events, tree, views, folder });
    }
    if is_wanted("postgres")
        && let Some(database) = postgres::database().await
    {
        let store = Arc::new(PostgresStore::connect(PostgresOptions::new(&database.url)).await.unwrap());
        let folder = tempfile::tempdir().unwrap();
        let (events, tree, views) = (store.clone(), store.clone(), store);
        all.push(Bench { name: "postgres", url: database.url, events, tree, views, folder });
    }
    all
}

/// Processor time of this process, in seconds: to the hundredth, which is fine for whole seconds.
fn processor_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / 100.0
}

async fn fill(bench: &Bench, events: u64) {
    let mut streams = Streams::new("acc", ACCOUNTS);
    for _ in 0..events / 1_000 {
        let units = (0..1_000).map(|_| streams.unit(Streams::deposit)).collect();
        bench.events.append(AppendBatch { units }).await.unwrap();
    }
}

async fn verification(bench: &Bench, events: u64) {
    fill(bench, events).await;
    let parts = Parts {
        store: bench.tree.clone(),
        vault: Vault::in_folder(bench.folder.path().to_owned(), bench.tree.tree_id(), Vec::new()),
        views: bench.views.clone(),
        clock: Arc::new(SystemClock),
        registry: prometheus::Registry::new(),
        interval: Duration::from_millis(100),
        lease: Duration::from_secs(60),
    };
    let (started, before) = (Instant::now(), processor_seconds());
    let integrity = Integrity::start(parts).await.unwrap();
    while integrity.checkpoint().is_none_or(|signed| signed.checkpoint.head.size < events) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    rate(bench, "sealing a log that was never sealed", events, started.elapsed(), processor_seconds() - before);
    let wanted = integrity.wanted(None).await.unwrap();
    integrity.close().await;
    for (name, wanted) in [
        ("verification of the whole log", wanted),
        ("the same by checksums and chains alone", Wanted { is_chain_only: true, ..Wanted::default() }),
    ] {
        let (started, before) = (Instant::now(), processor_seconds());
        let report = verify(&*bench.tree, &SystemClock, wanted, &mut |_, _| true).await.unwrap();
        assert!(report.intact && report.verified_position == events, "a false alarm: {report:?}");
        rate(bench, name, events, started.elapsed(), processor_seconds() - before);
    }
}

fn rate(bench: &Bench, what: &str, events: u64, elapsed: Duration, processor: f64) {
    let (by_clock, by_core) = (events as f64 / elapsed.as_secs_f64(), events as f64 / processor);
    println!("{} {what:45} {events} events  {by_clock:9.0}/s  {by_core:9.0}/s per core of this process", bench.name);
}

/// Deposits, 64 in flight over 1,000 accounts, with the settings given; events a second.
async fn deposits(url: &str, folder: &Path, is_sealed: bool) -> f64 {
    let mut settings = Settings::default();
    (settings.integrity.enabled, settings.integrity.directory) = (is_sealed, Some(folder.to_owned()));
    let builder = App::builder().settings(settings).follow(false);
    let app = Arc::new(builder.database_url(url).unwrap().start().await.unwrap());
    for number in 0..1_000 {
        let create = CreateAccount { account_id: None, owner: "o".into(), initial_balance: 0 };
        // There already in later rounds.
        let _ = app.execute::<Account>(format!("hot-{number}").as_str(), create).await;
    }
    let actor = app.clone();
    let measured = closed_loop(64, move |task, turn| {
        let app = actor.clone();
        async move {
            let deposit = DepositMoney { account_id: None, amount: 1, transfer_id: None };
            let account = (task as u64 * 31 + turn * 7) % 1_000;
            app.execute::<Account>(format!("hot-{account}").as_str(), deposit).await.unwrap();
        }
    })
    .await;
    app.shutdown().await;
    measured.per_second
}

async fn cost(bench: &Bench) {
    let mut ratios = Vec::new();
    for round in 0..ROUNDS {
        // Each goes first in turn, so that a disk that gets slower harms both alike.
        let first = deposits(&bench.url, bench.folder.path(), round % 2 == 0).await;
        let second = deposits(&bench.url, bench.folder.path(), round % 2 == 1).await;
        let (with, without) = if round % 2 == 0 { (first, second) } else { (second, first) };
        println!("{} commands, 64 in flight: sealed {with:8.0}/s  not sealed {without:8.0}/s", bench.name);
        ratios.push(with / without);
    }
    ratios.sort_by(f64::total_cmp);
    let median = ratios[ROUNDS / 2];
    println!("{} rate with sealing / without: {ratios:.3?}, median {median:.3}", bench.name);
}

async fn proofs(bench: &Bench) {
    let lease = bench.tree.acquire_tree(Uuid::now_v7(), Duration::from_secs(3_600)).await.unwrap().unwrap();
    let (mut frontier, mut stored) = (Frontier::default(), 0);
    for leaf in 0..LEAVES {
        frontier.push(leaf_hash(&leaf.to_be_bytes()));
        if frontier.size() % 262_144 == 0 || frontier.size() == LEAVES {
            let mut tiles = frontier.take_full();
            tiles.extend(frontier.open_tiles());
            let growth = Growth { lease, from: stored, to: frontier.size(), tiles };
            assert!(bench.tree.grow_tree(growth).await.unwrap());
            stored = frontier.size();
        }
    }
    let head = TreeHead { size: LEAVES, root: frontier.root() };
    // As a server does it, which remembers tiles; and with nothing in memory each time.
    let kept = RecentTiles::default();
    for remembers in [true, false] {
        let mut histogram = Histogram::<u64>::new(3).unwrap();
        for number in 0..PROOFS {
            let index = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) % LEAVES;
            let anew = RecentTiles::default();
            let recent = if remembers { &kept } else { &anew };
            let started = Instant::now();
            let proof = recent.inclusion(&*bench.tree, index, &head).await.unwrap();
            histogram.record(started.elapsed().as_micros() as u64).unwrap();
            assert!(proof.is_some_and(|(leaf, _)| leaf == leaf_hash(&index.to_be_bytes())));
        }
        let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1e3;
        println!(
            "{} a proof of one of {LEAVES} leaves, checked, tiles {}: p50 {:.2} ms  p99 {:.2} ms  longest {:.2} ms",
            bench.name,
            if remembers { "remembered" } else { "read anew" },
            at(0.5),
            at(0.99),
            histogram.max() as f64 / 1e3
        );
    }
}

#[tokio::main]
async fn main() {
    let parts: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    let is_wanted = |part: &str| parts.is_empty() || parts.iter().any(|wanted| wanted == part);
    let events = std::env::var("BENCH_EVENTS").ok().and_then(|events| events.parse().ok()).unwrap_or(300_000);
    if is_wanted("verify") {
        for bench in benches().await {
            verification(&bench, events).await;
        }
    }
    if is_wanted("cost") {
        for bench in benches().await {
            cost(&bench).await;
        }
    }
    if is_wanted("proof") {
        for bench in benches().await {
            proofs(&bench).await;
        }
    }
}
