//! A rebuild on the real program: killed in its middle, and cancelled in its middle, the old rows serve on; the next start
//! goes on where it was, and in the end the rows equal the fold of the log.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::support::{load::Client, read_models::equal_the_fold_of, server::Server};

const EVENTS: usize = 24_000;
const PER_REQUEST: usize = 800;

/// A long history of a few accounts, by raw appends.
async fn write(port: u16) {
    let mut client = Client::new(port);
    for account in 0..8 {
        let id = format!("acc-{account}");
        let created = client.command(None, "CreateAccount", &id, json!({ "owner": "o", "initial_balance": 0 })).await;
        assert_eq!(created.unwrap().status, 200);
    }
    for turn in 0..EVENTS / PER_REQUEST {
        let deposit = json!({ "event_type": "MoneyDeposited", "data": { "amount": 1 } });
        let body = json!({ "aggregate_id": format!("acc-{}", turn % 8), "events": vec![deposit; PER_REQUEST] });
        let answer = client.post("/api/v1/events", None, &body).await.unwrap();
        assert_eq!(answer.status, 201, "{answer:?}");
    }
}

fn get(server: &Server, path: &str) -> Value {
    let (status, body) = server.get(path);
    assert_eq!(status, 200, "{path}: {body}");
    serde_json::from_str(&body).unwrap()
}

/// Waits until a member of a document says so.
async fn until(what: &str, is_so: impl Fn() -> bool) {
    let give_up = Instant::now() + Duration::from_secs(40);
    while !is_so() {
        assert!(Instant::now() < give_up, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn balance(server: &Server, account: &str) -> Value {
    let body = json!({ "query_type": "GetAccountBalance", "filters": { "account_id": account } });
    let answer = Client::new(server.port).post("/api/v1/queries", None, &body).await.unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.body["data"]["balance"].clone()
}

/// Begins a rebuild and waits until it is in its middle; its operation.
async fn begin(server: &Server) -> String {
    let (status, body) = server.request("POST", "/api/v1/projections/account_balance/rebuild", "{}");
    assert_eq!(status, 202, "{body}");
    let begun: Value = serde_json::from_str(&body).unwrap();
    until("the rebuild has begun", || {
        let done = &get(server, "/api/v1/projections/account_balance")["rebuild"]["done"];
        done.as_u64().is_some_and(|done| done > 0)
    })
    .await;
    begun["operation_id"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_that_is_killed_or_cancelled_leaves_the_old_rows_and_is_resumed() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("store.db").display());
    // Small batches, so that its middle lasts.
    let environment = [
        ("DATABASE_URL", url.as_str()),
        ("ES__PROJECTIONS__LEASE_MS", "1000"),
        ("ES__PROJECTIONS__BATCH_EVENTS_MAX", "100"),
    ];
    let server = Server::start(folder.path(), &environment);
    write(server.port).await;
    let lag = |server: &Server| get(server, "/api/v1/projections/account_balance")["lag_events"].clone();
    until("the read model is up", || lag(&server) == 0).await;
    let expected = balance(&server, "acc-3").await;

    let cancelled = begin(&server).await;
    let (status, body) = server.request("DELETE", &format!("/api/v1/operations/{cancelled}"), "");
    assert_eq!(status, 200, "{body}");
    assert_eq!(get(&server, &format!("/api/v1/operations/{cancelled}"))["status"], "cancelled");
    assert_eq!(balance(&server, "acc-3").await, expected);

    let resumed = begin(&server).await;
    server.kill9();
    let server = Server::start(folder.path(), &environment);
    assert_eq!(balance(&server, "acc-3").await, expected, "the old rows serve on");
    let operation = format!("/api/v1/operations/{resumed}");
    until("the rebuild is resumed and ends", || get(&server, &operation)["status"] != "running").await;
    let ended = get(&server, &operation);
    assert_eq!(ended["status"], "succeeded", "{ended}");
    assert_eq!(balance(&server, "acc-3").await, expected, "the new rows say the same");
    assert!(server.terminate().success());
    equal_the_fold_of(&url).await;
}
