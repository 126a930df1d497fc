//! Three replicas, the one that owns the projections is killed again and again under load: another takes over within
//! seconds, and every read model equals the fold of the log byte for byte.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::support::{load::Client, postgres, read_models::equal_the_fold_of, server::Server};

const KILLS: usize = 6;
/// From the death of an owner to rows that hold what came after it: the lease, and some slack for a busy machine.
const TAKEN_OVER: Duration = Duration::from_secs(15);

/// Deposits until told to stop; how many.
async fn deposit_until(stop: Arc<AtomicBool>, port: u16) -> u64 {
    let (mut client, mut count) = (Client::new(port), 0);
    while !stop.load(Ordering::Acquire) {
        client.deposit(&format!("takeover-{count}"), &format!("acc-{}", count % 7)).await;
        count += 1;
    }
    count
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_owner_is_replaced_and_nothing_counts_twice() {
    let Some(database) = postgres::database().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let environment = [("DATABASE_URL", database.url.as_str()), ("ES__PROJECTIONS__LEASE_MS", "2000")];
    let start = || Server::start(folder.path(), &environment);
    // One takes commands and lives on, but owns no projection; of the others the older one owns them all.
    let only_commands = [environment[0], environment[1], ("ES__PROJECTIONS__FOLLOW", "false")];
    let steady = Server::start(folder.path(), &only_commands);
    let mut owners = vec![start(), start()];
    let mut client = Client::new(steady.port);
    for account in 0..7 {
        let data = json!({ "owner": "o", "initial_balance": 0 });
        let answer = client.command(None, "CreateAccount", &format!("acc-{account}"), data).await.unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    let stop = Arc::new(AtomicBool::new(false));
    let writer = tokio::spawn(deposit_until(stop.clone(), steady.port));
    let mut slowest = Duration::ZERO;
    for _ in 0..KILLS {
        tokio::time::sleep(Duration::from_millis(400)).await;
        let killed = Instant::now();
        owners.remove(0).kill9();
        let head = client.command(None, "DepositMoney", "acc-0", json!({ "amount": 1 })).await.unwrap();
        let wanted = head.body["position"].as_u64().unwrap();
        loop {
            let (_, body) = steady.get("/api/v1/projections/account_balance");
            let report: Value = serde_json::from_str(&body).unwrap();
            if report["checkpoint"].as_u64().is_some_and(|checkpoint| checkpoint >= wanted) {
                break;
            }
            assert!(killed.elapsed() < TAKEN_OVER, "not taken over: {report}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        slowest = slowest.max(killed.elapsed());
        owners.push(start());
    }
    stop.store(true, Ordering::Release);
    let count = writer.await.unwrap();
    for server in owners {
        server.kill9();
    }
    assert!(steady.terminate().success());
    equal_the_fold_of(&database.url).await;
    println!("{KILLS} owners killed under load, {count} deposits: rows equal the fold; slowest takeover {slowest:?}");
}
