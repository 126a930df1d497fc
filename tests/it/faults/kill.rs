//! `kill -9` under load: nothing acknowledged is lost, nothing applied twice, no hole, ready again in time; and read
//! models equal the fold of the log.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU16, AtomicUsize, Ordering},
    },
    time::Duration,
};

use event_sourcing_actors::ports::EventStore;
use event_sourcing_cqrs::store::{PostgresOptions, PostgresStore, SqliteOptions, SqliteStore};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::support::{
    eventually,
    load::{Client, each_has_one_effect, sound_log},
    postgres,
    read_models::equal_the_fold_of,
    server::Server,
};

const KILLS: u32 = 40;
const WORKERS: usize = 8;
const ACCOUNTS: usize = 10;
/// From the start of the program to its readiness.
const READY: Duration = Duration::from_secs(5);

/// Deposits until told to stop, each under a key of its own, repeated until it is answered.
async fn work(worker: usize, port: Arc<AtomicU16>, stop: Arc<AtomicBool>, done: Arc<AtomicUsize>) -> Vec<Value> {
    let mut client = Client::new(port.load(Ordering::Acquire));
    let mut answers = Vec::new();
    while !stop.load(Ordering::Acquire) {
        let turn = answers.len();
        let key = format!("{worker}-{turn}");
        let account = format!("acc-{}", (worker + turn) % ACCOUNTS);
        let give_up = Instant::now() + Duration::from_secs(60);
        loop {
            let now = port.load(Ordering::Acquire);
            client.turn_to_if_moved(now);
            let answer = client.command(Some(&key), "DepositMoney", &account, json!({ "amount": 1 })).await;
            match answer {
                Ok(answer) if answer.status == 200 => {
                    answers.push(answer.body);
                    done.fetch_add(1, Ordering::AcqRel);
                    break;
                }
                Ok(answer) if answer.status != 503 => panic!("{key}: {answer:?}"),
                _ => tokio::time::sleep(Duration::from_millis(5)).await,
            }
            assert!(Instant::now() < give_up, "{key} was not answered in a minute");
        }
    }
    answers
}

/// Kills the server again and again under load, and returns every answer given.
async fn kill_again_and_again(environment: &[(&str, &str)]) -> Vec<Value> {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Server::start(folder.path(), environment);
    let mut client = Client::new(server.port);
    for account in 0..ACCOUNTS {
        let data = json!({ "owner": "o", "initial_balance": 0 });
        let answer = client.command(None, "CreateAccount", &format!("acc-{account}"), data).await.unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    let (port, stop) = (Arc::new(AtomicU16::new(server.port)), Arc::new(AtomicBool::new(false)));
    let done = Arc::new(AtomicUsize::new(0));
    let workers: Vec<_> =
        (0..WORKERS).map(|worker| tokio::spawn(work(worker, port.clone(), stop.clone(), done.clone()))).collect();
    for kill in 0..KILLS {
        // Each life serves some commands, however busy this machine is.
        let before = done.load(Ordering::Acquire);
        eventually("commands are answered", || async { done.load(Ordering::Acquire) >= before + 4 }).await;
        // Spread over the life of a commit; a prime keeps the kills from falling into step with anything.
        tokio::time::sleep(Duration::from_micros(u64::from(kill) * 7_919 % 60_000)).await;
        server.kill9();
        let started = Instant::now();
        server = Server::start(folder.path(), environment);
        assert!(started.elapsed() < READY, "ready after {:?}", started.elapsed());
        port.store(server.port, Ordering::Release);
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    stop.store(true, Ordering::Release);
    let mut answers = Vec::new();
    for worker in workers {
        answers.extend(worker.await.unwrap());
    }
    assert!(server.terminate().success());
    answers
}

async fn verify(backend: &str, store: &dyn EventStore, answers: &[Value]) {
    let log = sound_log(store).await;
    each_has_one_effect(&log, "MoneyDeposited", answers);
    // No failure in N trials bounds the probability of one by 1 - 0.05^(1/N), with 95 % confidence.
    let bound = 100.0 * (1.0 - 0.05_f64.powf(1.0 / f64::from(KILLS)));
    println!(
        "{backend}: {KILLS} kills under load, {} commands, 0 lost, 0 doubled; a kill does harm in less than {bound:.1} % (95 %)",
        answers.len()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_on_sqlite_loses_and_doubles_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let url = format!("sqlite://{}", path.display());
    let answers = kill_again_and_again(&[("DATABASE_URL", &url)]).await;
    equal_the_fold_of(&url).await;
    let store = SqliteStore::open(SqliteOptions::new(path)).await.unwrap();
    verify("sqlite", &store, &answers).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_on_postgres_loses_and_doubles_nothing() {
    let Some(database) = postgres::database().await else { return };
    let answers = kill_again_and_again(&[("DATABASE_URL", &database.url)]).await;
    equal_the_fold_of(&database.url).await;
    let store = PostgresStore::connect(PostgresOptions::new(&database.url)).await.unwrap();
    verify("postgres", &store, &answers).await;
}
