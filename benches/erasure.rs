//! What personal members cost: commands that have none, with and without domains that have some; and commands that have
//! some. `cargo bench --bench erasure`; `BENCH_SECONDS=1` for a quick look.
//!
//! The memory store shows the price of the code, SQLite what of it is left beside a durable append. Rounds alternate, so that
//! a box that grows slower does it to both.

#![allow(clippy::unwrap_used, clippy::cast_precision_loss, missing_docs, reason = "a benchmark may panic")]

mod common;

use std::sync::Arc;

use common::{Measured, closed_loop};
use event_sourcing_actors::{
    Limits, Runtime, RuntimeBuilder,
    catalog::Catalog,
    master_keys::MasterKeys,
    memory::MemoryStore,
    ports::{EventStore, SnapshotStore, SubjectKeys, SystemClock},
};
use event_sourcing_cqrs::{
    domain::{
        self,
        account::{Account, CreateAccount, DepositMoney},
        user::{RegisterUser, User},
    },
    store::{SqliteOptions, SqliteStore},
};

const ROUNDS: usize = 5;
const IN_FLIGHT: usize = 64;
const AGGREGATES: u64 = 1_000;

async fn start<S: EventStore + SnapshotStore + SubjectKeys>(store: &Arc<S>, has_personal: bool) -> Arc<Runtime> {
    let limits = Limits { commands_per_aggregate_max: 1_024, live_aggregates_max: 1_000_000, ..Limits::default() };
    let builder = RuntimeBuilder::new(store.clone(), store.clone()).limits(limits);
    let builder = if has_personal {
        let mut catalog = Catalog::default();
        domain::register(&mut catalog).unwrap();
        builder.catalog(catalog).subject_keys(store.clone(), MasterKeys::random())
    } else {
        builder.aggregate::<Account>().unwrap().upcaster("AccountCreated", 1, 2, Ok)
    };
    Arc::new(builder.start().await.unwrap())
}

async fn deposits(runtime: &Arc<Runtime>) -> Measured {
    let runtime = runtime.clone();
    closed_loop(IN_FLIGHT, move |task, turn| {
        let runtime = runtime.clone();
        async move {
            let n = (task as u64).wrapping_mul(7_919).wrapping_add(turn.wrapping_mul(104_729)) % AGGREGATES;
            let command = DepositMoney { amount: 1, ..Default::default() };
            runtime.execute::<Account>(format!("a-{n}"), command).await.unwrap();
        }
    })
    .await
}

async fn creations(runtime: &Arc<Runtime>, round: usize) -> Measured {
    let runtime = runtime.clone();
    closed_loop(IN_FLIGHT, move |task, turn| {
        let runtime = runtime.clone();
        async move {
            let command = CreateAccount { account_id: None, owner: "bench".to_owned(), initial_balance: 0 };
            runtime.execute::<Account>(format!("c-{round}-{task}-{turn}"), command).await.unwrap();
        }
    })
    .await
}

async fn registrations(runtime: &Arc<Runtime>, round: usize) -> Measured {
    let runtime = runtime.clone();
    closed_loop(IN_FLIGHT, move |task, turn| {
        let runtime = runtime.clone();
        async move {
            let (email, name) = ("ann@example.org".to_owned(), "Ann".to_owned());
            let command = RegisterUser { user_id: None, email, name };
            runtime.execute::<User>(format!("u-{round}-{task}-{turn}"), command).await.unwrap();
        }
    })
    .await
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

async fn compare<S: EventStore + SnapshotStore + SubjectKeys>(name: &str, without: &Arc<S>, with: &Arc<S>) {
    let (bare, full) = (start(without, false).await, start(with, true).await);
    for runtime in [&bare, &full] {
        for n in 0..AGGREGATES {
            let command = CreateAccount { account_id: None, owner: "bench".to_owned(), initial_balance: 0 };
            runtime.execute::<Account>(format!("a-{n}"), command).await.unwrap();
        }
    }
    let mut rates: [Vec<f64>; 4] = Default::default();
    for round in 0..ROUNDS {
        rates[0].push(deposits(&bare).await.per_second);
        rates[1].push(deposits(&full).await.per_second);
        rates[2].push(creations(&full, round).await.per_second);
        rates[3].push(registrations(&full, round).await.per_second);
    }
    let [bare_rate, full_rate, created, registered] = rates.map(median);
    let told = |what: &str, rate: f64, baseline: f64| {
        println!("{:58} {rate:10.0}/s  {:6.3} x", format!("{name} {what}"), rate / baseline);
    };
    told("deposits, no domain is about people", bare_rate, bare_rate);
    told("deposits, beside domains that are", full_rate, bare_rate);
    told("accounts created", created, created);
    told("users registered: a key made, two members sealed", registered, created);
    for runtime in [bare, full] {
        runtime.shutdown().await;
    }
}

#[tokio::main]
async fn main() {
    println!("erasure: commands/s, median of {ROUNDS} rounds, {IN_FLIGHT} in flight");
    let memory = || Arc::new(MemoryStore::new(Arc::new(SystemClock)));
    compare("memory", &memory(), &memory()).await;
    let folder = tempfile::tempdir().unwrap();
    let open = |name: &str| SqliteStore::open(SqliteOptions::new(folder.path().join(name)));
    let (without, with) = (Arc::new(open("without.db").await.unwrap()), Arc::new(open("with.db").await.unwrap()));
    compare("sqlite", &without, &with).await;
}
