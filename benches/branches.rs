//! What reading on a branch costs beside reading the same on main: states, pages of a stream, rows.
//!
//! One account of 600 events on each side, on a SQLite file: all of them on main, or 500 before the fork and 100 since; and
//! the branch of an account that it has not touched, beside main's. Both sides take turns, so that what else the machine
//! does meets both. Prints medians in microseconds, and their ratio: the bound is 2.

#![allow(clippy::unwrap_used, reason = "a benchmark that cannot go on should panic")]

use std::{
    future::Future,
    num::NonZeroU32,
    sync::Arc,
    time::{Duration, Instant},
};

use event_sourcing_actors::{
    AggregateId, Runtime, Sequence,
    branches::{ForkAt, NewFork},
    command_bus::{Action, CommandRequest},
    ports::{Direction, StreamRange},
    query_bus::QueryRequest,
};
use event_sourcing_cqrs::{app::App, settings::Settings};
use serde_json::{json, value::to_raw_value};

const ROUNDS: usize = 300;

async fn send(runtime: &Runtime, id: &str, command_type: &str, data: serde_json::Value) {
    let data = to_raw_value(&data).unwrap().into();
    let action = Action::Named { command_type: command_type.to_owned(), data };
    let request = CommandRequest::new(AggregateId::new(id).unwrap(), action, Duration::from_secs(30));
    runtime.bus().send(request).await.unwrap();
}

async fn deposits(runtime: &Runtime, id: &str, count: usize) {
    for _ in 0..count {
        send(runtime, id, "DepositMoney", json!({ "amount": 1 })).await;
    }
}

/// Median times of both, in microseconds.
async fn medians<A: Future, B: Future>(main: impl Fn() -> A, branch: impl Fn() -> B) -> (f64, f64) {
    let (mut on_main, mut on_branch) = (Vec::with_capacity(ROUNDS), Vec::with_capacity(ROUNDS));
    for _ in 0..ROUNDS {
        let started = Instant::now();
        main().await;
        on_main.push(started.elapsed());
        let started = Instant::now();
        branch().await;
        on_branch.push(started.elapsed());
    }
    let median = |times: &mut Vec<Duration>| {
        times.sort_unstable();
        times[times.len() / 2].as_secs_f64() * 1e6
    };
    (median(&mut on_main), median(&mut on_branch))
}

fn told(what: &str, (main, branch): (f64, f64)) {
    println!("{what:<44} {main:>9.1} µs  {branch:>9.1} µs   {:>5.2}x", branch / main);
}

async fn state(runtime: &Runtime, id: &AggregateId, use_snapshot: bool) {
    let state = runtime.history().state_at(id, Sequence(u64::MAX), use_snapshot).await.unwrap();
    assert!(state.is_some());
}

async fn page(runtime: &Runtime, id: &AggregateId, from: u64) {
    let limit = NonZeroU32::new(100).unwrap();
    let range = StreamRange { from: Sequence(from), to: Sequence(u64::MAX), direction: Direction::Forward, limit };
    assert_eq!(runtime.feed().stream(id, range).await.unwrap().len(), 100);
}

async fn row(runtime: &Runtime, id: &str) {
    let filters = json!({ "account_id": id }).to_string();
    runtime.queries().ask(QueryRequest::new("GetAccountBalance", &filters).unwrap()).await.unwrap();
}

#[tokio::main]
async fn main() {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = Settings::default();
    settings.integrity.enabled = false;
    let url = format!("sqlite://{}", folder.path().join("es.db").display());
    let app = App::builder().settings(settings).database_url(&url).unwrap().start().await.unwrap();
    let main: &Arc<Runtime> = app.runtime();
    for id in ["forked", "whole", "untouched"] {
        send(main, id, "CreateAccount", json!({ "owner": "o", "initial_balance": 1 })).await;
    }
    deposits(main, "forked", 499).await;
    deposits(main, "untouched", 599).await;
    let at = ForkAt::Position(main.feed().head().await.unwrap());
    let (branch, _) = main.branches().create(NewFork { name: "b".to_owned(), at, key: None }).await.unwrap();
    let there = main.branches().enter(branch.id).await.unwrap();
    deposits(&there, "forked", 100).await;
    deposits(main, "whole", 599).await;
    // Main goes on: the fork lies in the past of the stream that is forked.
    deposits(main, "forked", 100).await;

    let [forked, whole, untouched] = ["forked", "whole", "untouched"].map(|id| AggregateId::new(id).unwrap());
    println!("{:<44} {:>12}  {:>12}", "reading", "main", "branch");
    told(
        "state of 600 events, with snapshots",
        medians(|| state(main, &whole, true), || state(&there, &forked, true)).await,
    );
    told(
        "state of 600 events, from the first on",
        medians(|| state(main, &whole, false), || state(&there, &forked, false)).await,
    );
    told(
        "state of an untouched aggregate",
        medians(|| state(main, &untouched, true), || state(&there, &untouched, true)).await,
    );
    told("100 events before the fork", medians(|| page(main, &whole, 100), || page(&there, &forked, 100)).await);
    told("100 events across the fork", medians(|| page(main, &whole, 451), || page(&there, &forked, 451)).await);
    told("100 events since the fork", medians(|| page(main, &whole, 501), || page(&there, &forked, 501)).await);
    told("a row (main: its read model, cached)", medians(|| row(main, "whole"), || row(&there, "forked")).await);
    let entered = medians(|| main.feed().head(), || main.branches().enter(branch.id)).await;
    println!("{:<44} {:>9}     {:>9.1} µs", "finding the branch, per request", "-", entered.1);
    drop(there);
    app.shutdown().await;
}
