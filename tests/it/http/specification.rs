//! The specification's own calls, word for word.

use serde_json::json;

use crate::support::http::TestServer;

const CREATE_ACCOUNT: &str = r#"{
    "command_type": "CreateAccount",
    "aggregate_id": "acc-123",
    "data": {
      "account_id": "acc-123",
      "owner": "John Doe",
      "initial_balance": 1000
    }
  }"#;

const DEPOSIT_MONEY: &str = r#"{
    "command_type": "DepositMoney",
    "aggregate_id": "acc-123",
    "data": {
      "account_id": "acc-123",
      "amount": 500
    }
  }"#;

const REPLAY: &str = r#"{
    "aggregate_id": "acc-123",
    "from_sequence": 0,
    "use_snapshot": true
  }"#;

#[tokio::test]
async fn the_specifications_calls_work_verbatim() {
    let server = TestServer::start().await;

    let created = server.post("/api/v1/commands", CREATE_ACCOUNT).await;
    assert_eq!(created.status, 200, "{}", created.text());
    let body = created.json();
    assert_eq!(body["command_type"], "CreateAccount");
    assert_eq!(body["aggregate_type"], "account");
    assert_eq!(body["aggregate_id"], "acc-123");
    assert_eq!((&body["version"], &body["position"]), (&json!(1), &json!(1)));
    assert_eq!(body["events"][0]["event_type"], "AccountCreated");
    assert_eq!(created.header("etag"), Some("\"1\""));
    assert_eq!(created.header("location"), Some("/api/v1/aggregates/acc-123"));

    let deposited = server.post("/api/v1/commands", DEPOSIT_MONEY).await;
    assert_eq!(deposited.status, 200, "{}", deposited.text());
    assert_eq!(deposited.json()["version"], 2);

    let events = server.get("/api/v1/events/acc-123").await;
    assert_eq!((events.status, events.header("etag")), (200, Some("\"2\"")));
    let body = events.json();
    assert_eq!((&body["version"], &body["next_cursor"]), (&json!(2), &json!(null)));
    assert_eq!(body["events"][1]["data"], json!({ "amount": 500 }));
    assert_eq!(body["events"][1]["metadata"]["command_id"], deposited.json()["command_id"]);
    assert_eq!(body["events"][1]["checksum"].as_str().unwrap().len(), 64);
    assert!(body["events"][1]["recorded_at"].as_str().unwrap().ends_with('Z'));

    let replayed = server.post("/api/v1/replay", REPLAY).await;
    assert_eq!(replayed.status, 200, "{}", replayed.text());
    let body = replayed.json();
    assert_eq!(body["state"]["balance"], 1500);
    assert_eq!((&body["events_replayed"], &body["snapshot_sequence"]), (&json!(2), &json!(null)));
    assert_eq!(body["events"].as_array().unwrap().len(), 2);

    let health = server.get("/health").await;
    assert_eq!((health.status, health.header("content-type")), (200, Some("application/health+json")));
    assert_eq!(health.json()["status"], "pass");
    assert_eq!(health.json()["checks"]["event_store"][0]["observedValue"], 2);
}
