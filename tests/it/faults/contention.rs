//! Two processes and one aggregate: no lost update, no wrong refusal; a frozen process does not stop the other.

use std::time::Duration;

use event_sourcing_cqrs::store::{PostgresOptions, PostgresStore};
use serde_json::json;

use crate::support::{
    load::{Client, sound_log},
    postgres,
    read_models::equal_the_fold_of,
    server::Server,
};

const TURNS: usize = 60;

/// Takes only what it has put: with true refusals none of these can be refused.
async fn put_and_take(worker: usize, port: u16) {
    let mut client = Client::new(port);
    for turn in 0..TURNS {
        for (command, amount) in [("DepositMoney", 3), ("WithdrawMoney", 2)] {
            let key = format!("{worker}-{turn}-{command}");
            loop {
                let answer = client.command(Some(&key), command, "hot", json!({ "amount": amount })).await;
                match answer {
                    Ok(answer) if answer.status == 200 => break,
                    Ok(answer) if answer.status == 503 => tokio::time::sleep(Duration::from_millis(20)).await,
                    Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                    other => panic!("{key}: {other:?}"),
                }
            }
        }
    }
}

async fn balance(port: u16) -> i64 {
    let body = json!({ "aggregate_id": "hot", "use_snapshot": false });
    let answer = Client::new(port).post("/api/v1/replay", None, &body).await.unwrap();
    answer.body["state"]["balance"].as_i64().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_on_one_aggregate_lose_no_update_though_one_is_frozen() {
    let Some(database) = postgres::database().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let environment = [("DATABASE_URL", database.url.as_str())];
    let servers = [Server::start(folder.path(), &environment), Server::start(folder.path(), &environment)];
    let opened = Client::new(servers[0].port)
        .command(None, "CreateAccount", "hot", json!({ "owner": "o", "initial_balance": 0 }))
        .await
        .unwrap();
    assert_eq!(opened.status, 200, "{opened:?}");
    let workers: Vec<_> = (0..8).map(|worker| tokio::spawn(put_and_take(worker, servers[worker % 2].port))).collect();

    tokio::time::sleep(Duration::from_millis(150)).await;
    servers[0].sigstop();
    // The other goes on: whole turns of a new worker are answered while the first is frozen.
    tokio::time::timeout(Duration::from_secs(30), put_and_take(8, servers[1].port)).await.unwrap();
    servers[0].sigcont();
    for worker in workers {
        worker.await.unwrap();
    }
    let expected = i64::try_from(9 * TURNS).unwrap();
    assert_eq!((balance(servers[0].port).await, balance(servers[1].port).await), (expected, expected));
    let store = PostgresStore::connect(PostgresOptions::new(&database.url)).await.unwrap();
    assert_eq!(sound_log(&store).await.len(), 1 + 2 * 9 * TURNS);
    // The frozen one owned projections, or did not: either way nothing was counted twice.
    drop(servers);
    equal_the_fold_of(&database.url).await;
}
