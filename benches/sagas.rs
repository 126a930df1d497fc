//! Complete transfers in process, durable, with the index of the sagas kept: 64 and 256 in flight over 1,000 accounts,
//! against plain commands of the same run and in flight (a transfer needs five commits: its start, two commands, two
//! answers); and how soon 2,000 timers fire that fell due while nobody was there. `cargo bench --bench sagas`; `BENCH_SECONDS=1`, `BENCH_IN_FLIGHT=64`, `BENCH_BACKEND=postgres` as elsewhere.

#![allow(
    clippy::unwrap_used,
    clippy::cast_precision_loss,
    clippy::disallowed_methods,
    missing_docs,
    reason = "a benchmark may panic, and reads the clock"
)]

mod common;

use chrono::Utc;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use common::{Backend, Measured, backends, closed_loop};
use event_sourcing_actors::{
    Limits, Runtime, RuntimeBuilder,
    catalog::Catalog,
    limits::SagaLimits,
    ports::{Clock, SystemClock},
    saga::{Call, SagaStatus, Step, StepPolicy, StepSaga},
    sagas::{SagaCaller, SagaFilter, StartSaga},
    testing::clock::ManualClock,
};
use event_sourcing_cqrs::domain::{
    self,
    account::{Account, CreateAccount, DepositMoney},
};
use futures_util::{StreamExt, stream};
use serde_json::{Value, json};

/// Commits that a transfer waits for.
const COMMITS: f64 = 5.0;
const ACCOUNTS: u64 = 1_000;
const TIMERS: usize = 2_000;

#[derive(serde::Deserialize)]
struct Transfer {
    from_account: String,
    to_account: String,
    amount: i64,
}

fn transfers() -> StepSaga<Transfer> {
    StepSaga::<Transfer>::new("TransferSaga")
        .step(|transfer, saga| {
            let data = json!({ "amount": transfer.amount, "transfer_id": saga.saga_id });
            let withdraw = Call::new(&transfer.from_account, "WithdrawMoney", data.clone())?;
            Ok(Step::command("withdraw", withdraw).undo(Call::new(&transfer.from_account, "DepositMoney", data)?))
        })
        .step(|transfer, saga| {
            let data = json!({ "amount": transfer.amount, "transfer_id": saga.saga_id });
            Ok(Step::command("deposit", Call::new(&transfer.to_account, "DepositMoney", data)?).pivot())
        })
        .timeout(Duration::from_secs(60))
}

/// Waits for what never comes, until its time is over.
fn waiting() -> StepSaga<Value> {
    let policy = StepPolicy { attempts: 1_000, pause: Duration::from_secs(86_400), ..StepPolicy::default() };
    StepSaga::<Value>::new("Waiting")
        .step(|_, _| Ok(Step::command("withdraw", Call::new("nobody", "WithdrawMoney", json!({ "amount": 1 }))?)))
        .policy(policy)
        .timeout(Duration::from_secs(3_600))
}

async fn runtime(backend: &Backend, clock: Arc<dyn Clock>) -> Arc<Runtime> {
    let mut catalog = Catalog::default();
    domain::register(&mut catalog).unwrap();
    let limits = Limits {
        commands_per_aggregate_max: 1_024,
        live_aggregates_max: 100_000,
        sagas: SagaLimits { in_flight_max: 1_024, ..SagaLimits::default() },
        ..Limits::default()
    };
    let builder = RuntimeBuilder::new(backend.store.clone(), backend.snapshots.clone())
        .throwaway_keys()
        .views(backend.views.clone())
        .catalog(catalog)
        .clock(clock)
        .limits(limits);
    let builder = builder.throwaway_keys().saga(transfers()).unwrap().saga(waiting()).unwrap();
    let runtime = Arc::new(builder.start().await.unwrap());
    while !runtime.sagas().health().is_working_here {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    runtime
}

/// A number that looks drawn at random.
fn scattered(task: usize, turn: u64, salt: u64) -> u64 {
    let mut n = (task as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ turn.wrapping_mul(0xD1B5_4A32_D192_ED03) ^ salt;
    n ^= n >> 29;
    n = n.wrapping_mul(0xBF58_476D_1CE4_E5B9);
    (n ^ (n >> 32)) % ACCOUNTS
}

async fn commands(runtime: &Arc<Runtime>, in_flight: usize) -> Measured {
    let runtime = runtime.clone();
    closed_loop(in_flight, move |task, turn| {
        let runtime = runtime.clone();
        async move {
            let account = format!("acc-{}", scattered(task, turn, 1));
            runtime.execute::<Account>(account, DepositMoney { amount: 1, ..Default::default() }).await.unwrap();
        }
    })
    .await
}

async fn sagas(runtime: &Arc<Runtime>, in_flight: usize) -> Measured {
    let runtime = runtime.clone();
    closed_loop(in_flight, move |task, turn| {
        let runtime = runtime.clone();
        async move {
            let from = scattered(task, turn, 2);
            let to = (from + 1 + scattered(task, turn, 3) % (ACCOUNTS - 1)) % ACCOUNTS;
            let data = json!({
                "from_account": format!("acc-{from}"), "to_account": format!("acc-{to}"), "amount": 1,
            });
            let start =
                StartSaga { saga_type: "TransferSaga".into(), data, timeout: None, caller: SagaCaller::system() };
            let until = tokio::time::Instant::now() + Duration::from_secs(60);
            let report = runtime.sagas().run(start, until).await.unwrap();
            assert_eq!(report.record.status, SagaStatus::Completed);
        }
    })
    .await
}

async fn measure(backend: &Backend) {
    let runtime = runtime(backend, Arc::new(SystemClock)).await;
    stream::iter(0..ACCOUNTS)
        .map(|n| {
            let runtime = runtime.clone();
            async move {
                let command =
                    CreateAccount { account_id: None, owner: "bench".to_owned(), initial_balance: 1_000_000_000 };
                runtime.execute::<Account>(format!("acc-{n}"), command).await.unwrap();
            }
        })
        .buffer_unordered(256)
        .for_each(|()| async {})
        .await;
    let only: Option<usize> = std::env::var("BENCH_IN_FLIGHT").ok().and_then(|only| only.parse().ok());
    for in_flight in [64, 256].into_iter().filter(|n| only.is_none_or(|only| only == *n)) {
        let plain = commands(&runtime, in_flight).await;
        plain.print(&format!("{} commands, {in_flight} in flight", backend.name), None);
        let complete = sagas(&runtime, in_flight).await;
        complete.print(&format!("{} complete transfers, {in_flight} in flight", backend.name), Some(&plain));
        println!(
            "{:58} {:10.2} of commands/s divided by {COMMITS} commits (demanded: 0.40)",
            format!("{} transfers", backend.name),
            complete.per_second * COMMITS / plain.per_second
        );
        let (since, head) = (Instant::now(), runtime.feed().head().await.unwrap());
        while runtime.projections().show("sagas").await.unwrap().checkpoint < head {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        println!("{:58} {:10.2} s behind at the end", format!("{} index", backend.name), since.elapsed().as_secs_f64());
    }
    println!("{:58} {:10}", "live actors at the end", runtime.health().live_aggregates);
    runtime.shutdown().await;
}

/// Timers that fall due between two lives of a process: how soon the second has fired them all.
async fn overdue(backend: &Backend) {
    let clock = Arc::new(ManualClock::at(Utc::now()));
    let first = runtime(backend, clock.clone()).await;
    stream::iter(0..TIMERS)
        .map(|_| async {
            let caller = SagaCaller::system();
            let start = StartSaga { saga_type: "Waiting".into(), data: json!({}), timeout: None, caller };
            first.sagas().start(start).await.unwrap();
        })
        .buffer_unordered(256)
        .for_each(|()| async {})
        .await;
    // Each has been refused once, and waits for its next try, which is later than the end of its time.
    let head = first.feed().head().await.unwrap();
    while first.projections().show("sagas").await.unwrap().checkpoint < head || first.health().live_aggregates > 1_001 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    first.shutdown().await;
    clock.advance(chrono::Duration::hours(2));
    let returned = Instant::now();
    let second = runtime(backend, clock).await;
    let filter = SagaFilter { saga_type: Some("Waiting".into()), status: Some(SagaStatus::Running) };
    while !second.sagas().list(&filter, None, 1.try_into().unwrap()).await.unwrap().items.is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    println!(
        "{:58} {:10.2} s after the return, seen in the index (demanded: 2)",
        format!("{} {TIMERS} overdue timers fired", backend.name),
        returned.elapsed().as_secs_f64()
    );
    second.shutdown().await;
}

#[tokio::main]
async fn main() {
    println!("sagas: complete transfers/s; baseline = plain commands/s of the same run");
    for backend in backends().await {
        measure(&backend).await;
        overdue(&backend).await;
    }
}
