//! `/api/v1/projections` and `/api/v1/operations`: what an operator sees and can do.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use event_sourcing_actors::{
    EventFilter,
    projection::{ApplyError, ProjectedEvent, Projection, Rows},
};
use serde_json::{Value, json};

use crate::support::{
    eventually,
    http::{Reply, TestServer},
};

/// Counts notes, and cannot bear those that say so until it is mended.
#[derive(Debug, Default)]
struct Notes {
    is_mended: Arc<AtomicBool>,
}

impl Projection for Notes {
    fn name(&self) -> &str {
        "notes"
    }

    fn version(&self) -> u64 {
        1
    }

    fn interest(&self) -> EventFilter {
        EventFilter { event_types: vec!["Noted".parse().unwrap()], ..EventFilter::default() }
    }

    fn apply(&self, event: &ProjectedEvent<'_>, rows: &mut Rows<'_>) -> Result<(), ApplyError> {
        let note: Value = event.read()?;
        if note["bad"] == true && !self.is_mended.load(Ordering::Acquire) {
            return Err(ApplyError::failed("this note is too much"));
        }
        let count: u64 = rows.get("notes", "", "count")?.unwrap_or(0);
        rows.put("notes", "", "count", &(count + 1))
    }
}

async fn note(server: &TestServer, stream: &str, data: Value) {
    let body = json!({ "aggregate_id": stream, "aggregate_type": "note", "event_type": "Noted", "data": data });
    assert_eq!(server.post("/api/v1/events", &body.to_string()).await.status, 201);
}

async fn projection(server: &TestServer, name: &str) -> Value {
    server.get(&format!("/api/v1/projections/{name}")).await.json()
}

async fn caught_up(server: &TestServer, name: &str) {
    eventually("the projection has caught up", || async {
        let report = projection(server, name).await;
        report["status"] == "live" && report["checkpoint"] == report["head"]
    })
    .await;
}

/// The end of the operation an answer began.
async fn ended(server: &TestServer, begun: &Reply) -> Value {
    assert_eq!(begun.status, 202, "{}", begun.text());
    let id = begun.json()["operation_id"].as_str().unwrap().to_owned();
    let location = format!("/api/v1/operations/{id}");
    assert_eq!(begun.header("location"), Some(location.as_str()));
    let look = || async { server.get(&location).await.json() };
    eventually("the operation has ended", || async { look().await["status"] != "running" }).await;
    look().await
}

#[tokio::test]
async fn each_projection_tells_how_it_stands() {
    let server = TestServer::with_views().await;
    server.account("acc-1", 10).await;
    caught_up(&server, "account_balance").await;
    let list = server.get("/api/v1/projections").await.json();
    let names: Vec<_> = list["items"].as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["account_balance", "inventory", "order_summary", "user_activity"]);
    assert_eq!(list["next_cursor"], Value::Null);
    let one = projection(&server, "account_balance").await;
    for (member, expected) in [
        ("name", json!("account_balance")),
        ("checkpoint", json!(1)),
        ("head", json!(1)),
        ("lag_events", json!(0)),
        ("lag_seconds", json!(0.0)),
        ("last_error", Value::Null),
        ("parked", json!(0)),
        ("rebuild", Value::Null),
        ("paused", json!(false)),
        ("owned_here", json!(true)),
        ("can_roll_back", json!(false)),
    ] {
        assert_eq!(one[member], expected, "{member} of {one}");
    }
    assert!(one["version"].is_u64() && one["owner"].is_string(), "{one}");
    for path in ["/api/v1/projections/acount_balance", "/api/v1/projections/acount_balance/parked?limit=0"] {
        let unknown = server.get(path).await;
        assert_eq!((unknown.status, &unknown.json()["code"]), (404, &json!("unknown-projection")));
        assert_eq!(unknown.json()["nearest"][0], "account_balance");
    }
    for path in ["/api/v1/projections?x=1", "/api/v1/projections/inventory?x=1"] {
        assert_eq!(server.get(path).await.json()["errors"][0]["pointer"], "/query/x");
    }
}

#[tokio::test]
async fn a_rebuild_is_an_operation_and_can_be_rolled_back() {
    let server = TestServer::with_views().await;
    server.account("acc-1", 10).await;
    caught_up(&server, "account_balance").await;
    let early = server.post("/api/v1/projections/account_balance/rollback", "").await;
    assert_eq!((early.status, &early.json()["code"]), (409, &json!("nothing-to-roll-back")), "{}", early.text());

    // The specification's own call: no body, no content type.
    let begun = server.send("POST", "/api/v1/projections/account_balance/rebuild", &[], b"").await;
    let operation = ended(&server, &begun).await;
    assert_eq!((&operation["status"], &operation["subject"]), (&json!("succeeded"), &json!("account_balance")));
    assert!(operation["kind"].is_string() && operation["progress"]["done"].is_u64(), "{operation}");
    assert_eq!(operation["error"], Value::Null);
    caught_up(&server, "account_balance").await;

    let listed = server.get("/api/v1/operations?limit=1").await.json();
    assert_eq!(listed["items"][0]["operation_id"], operation["operation_id"]);
    let path = format!("/api/v1/operations?cursor={}", operation["operation_id"].as_str().unwrap());
    assert!(server.get(&path).await.json()["items"].as_array().is_some());

    let path = format!("/api/v1/operations/{}", operation["operation_id"].as_str().unwrap());
    let late = server.send("DELETE", &path, &[], b"").await;
    assert_eq!((late.status, &late.json()["code"]), (409, &json!("operation-ended")));
    assert_eq!((&late.json()["operation_status"], &late.json()["status"]), (&json!("succeeded"), &json!(409)));

    assert_eq!(projection(&server, "account_balance").await["can_roll_back"], true);
    let back = server.post("/api/v1/projections/account_balance/rollback", "{}").await;
    assert_eq!((back.status, &back.json()["status"]), (200, &json!("rolled_back")), "{}", back.text());
    let health = server.get("/health").await.json();
    assert_eq!(health["checks"]["projection:account_balance"][0]["status"], "warn");
    let begun = server.post("/api/v1/projections/account_balance/rebuild", r#"{"accept_difference":true}"#).await;
    assert_eq!(ended(&server, &begun).await["status"], "succeeded");
    caught_up(&server, "account_balance").await;
}

#[tokio::test]
async fn a_paused_projection_stands_still_and_its_rebuild_can_be_cancelled() {
    let server = TestServer::with_views().await;
    server.account("acc-1", 10).await;
    caught_up(&server, "account_balance").await;
    let path = |rest: &str| format!("/api/v1/projections/account_balance/{rest}");
    for _ in 0..2 {
        let paused = server.post(&path("pause"), "").await;
        assert_eq!((paused.status, &paused.json()["paused"]), (200, &json!(true)), "{}", paused.text());
    }
    server.account("acc-2", 10).await;
    let health = server.get("/health").await;
    assert_eq!((health.status, &health.json()["status"]), (200, &json!("warn")));
    assert_eq!(health.json()["checks"]["projection:account_balance"][0]["status"], "warn");
    assert_eq!(health.json()["checks"]["projection:inventory"][0]["status"], "pass");

    // Paused, it stays under way.
    let begun = server.post(&path("rebuild"), "{}").await;
    assert_eq!(begun.status, 202, "{}", begun.text());
    let id = begun.json()["operation_id"].clone();
    let key = [("idempotency-key", "k-1")];
    let second = server.post_with(&path("rebuild"), &key, "{}").await;
    assert_eq!((second.status, &second.json()["code"]), (409, &json!("rebuild-in-progress")), "{}", second.text());
    assert_eq!((&second.json()["operation_id"], second.header("location")), (&id, begun.header("location")));
    assert_eq!(projection(&server, "account_balance").await["rebuild"]["operation_id"], id);

    let operation = format!("/api/v1/operations/{}", id.as_str().unwrap());
    for _ in 0..2 {
        let cancelled = server.send("DELETE", &operation, &[], b"").await;
        assert_eq!((cancelled.status, &cancelled.json()["status"]), (200, &json!("cancelled")), "{}", cancelled.text());
    }
    assert_eq!(projection(&server, "account_balance").await["rebuild"], Value::Null);
    assert_eq!(projection(&server, "account_balance").await["checkpoint"], 1);
    assert_eq!(server.post(&path("resume"), "").await.json()["paused"], false);
    caught_up(&server, "account_balance").await;
}

#[tokio::test]
async fn parked_events_are_retried_and_skipped() {
    let notes = Notes::default();
    let is_mended = notes.is_mended.clone();
    let server = TestServer::with_projections(vec![Arc::new(notes)]).await;
    for (stream, data) in
        [("a", json!({})), ("b", json!({ "bad": true })), ("b", json!({})), ("c", json!({ "bad": true }))]
    {
        note(&server, stream, data).await;
    }
    let path = "/api/v1/projections/notes/parked";
    let parked = || async { server.get(path).await.json()["items"].as_array().unwrap().clone() };
    eventually("three events are parked", || async { parked().await.len() == 3 }).await;
    let all = parked().await;
    assert_eq!(
        (&all[0]["position"], &all[0]["aggregate_id"], &all[0]["event_type"]),
        (&json!(2), &json!("b"), &json!("Noted"))
    );
    assert_eq!((&all[0]["error"], &all[0]["waiting_for"]), (&json!("this note is too much"), &Value::Null));
    assert!(all[0]["attempts"].as_u64() >= Some(1) && all[0]["parked_at"].as_str().unwrap().ends_with('Z'));
    assert_eq!((&all[1]["error"], &all[1]["attempts"]), (&Value::Null, &json!(0)), "{}", all[1]);
    assert!(all[1]["waiting_for"].is_string());
    assert_eq!((&all[0]["request"], &all[0]["skipped"]), (&Value::Null, &Value::Null));
    let page = server.get(&format!("{path}?limit=1")).await.json();
    assert_eq!((page["items"].as_array().unwrap().len(), &page["next_cursor"]), (1, &json!(2)));
    for name in ["after", "cursor"] {
        assert_eq!(server.get(&format!("{path}?{name}=2&limit=1")).await.json()["items"][0]["position"], 3);
    }
    let report = projection(&server, "notes").await;
    assert_eq!((&report["parked"], &report["last_error"]["position"]), (&json!(3), &json!(2)), "{report}");
    assert_eq!(
        (&report["last_error"]["event_type"], &report["last_error"]["aggregate_id"]),
        (&json!("Noted"), &json!("b"))
    );
    assert_eq!(server.get("/health").await.json()["checks"]["projection:notes"][0]["status"], "warn");

    let skipped = server.post(&format!("{path}/4/skip"), "").await;
    assert_eq!(ended(&server, &skipped).await["status"], "succeeded");
    let all = parked().await;
    let last = all.iter().find(|event| event["position"] == 4).unwrap();
    assert_eq!(last["skipped"]["by"], "anonymous", "{last}");

    is_mended.store(true, Ordering::Release);
    let retried = server.post(&format!("{path}/2/retry"), "").await;
    assert_eq!(ended(&server, &retried).await["status"], "succeeded");
    eventually("nothing waits any more", || async { projection(&server, "notes").await["parked"] == 0 }).await;

    for (rest, status, code) in [
        ("99/retry", 404, "not-found"),
        ("1/skip", 404, "not-found"),
        ("x/skip", 400, "invalid-id"),
        ("-1/retry", 400, "invalid-id"),
        ("4/skip", 409, "projection-conflict"),
    ] {
        let reply = server.post(&format!("{path}/{rest}"), "").await;
        assert_eq!((reply.status, &reply.json()["code"]), (status, &json!(code)), "{rest}: {}", reply.text());
    }
}

#[tokio::test]
async fn mistakes_of_operators_are_told() {
    let server = TestServer::with_views().await;
    let nil = "00000000-0000-0000-0000-000000000000";
    for (method, path, status, code) in [
        ("GET", format!("/api/v1/operations/{nil}"), 404, "unknown-operation"),
        ("DELETE", format!("/api/v1/operations/{nil}"), 404, "unknown-operation"),
        ("GET", "/api/v1/operations/7".to_owned(), 400, "invalid-id"),
        ("GET", "/api/v1/operations?cursor=7".to_owned(), 422, "validation-failed"),
        ("POST", "/api/v1/projections/nothing/rebuild".to_owned(), 404, "unknown-projection"),
        ("POST", "/api/v1/projections/nothing/pause?x=1".to_owned(), 404, "unknown-projection"),
        ("POST", "/api/v1/projections/inventory/pause?x=1".to_owned(), 422, "validation-failed"),
        ("GET", "/api/v1/projections/inventory/pause".to_owned(), 405, "method-not-allowed"),
        ("GET", "/api/v1/projections/%ff".to_owned(), 400, "invalid-id"),
    ] {
        let reply = server.send(method, &path, &[], b"").await;
        assert_eq!((reply.status, &reply.json()["code"]), (status, &json!(code)), "{method} {path}: {}", reply.text());
    }
    for (path, body, pointer) in [
        ("rebuild", r#"{"accept_difference":1}"#, "/accept_difference"),
        ("rebuild", r#"{"accept":true}"#, "/accept"),
        ("pause", r#"{"x":1}"#, "/x"),
    ] {
        let reply = server.post(&format!("/api/v1/projections/inventory/{path}"), body).await;
        assert_eq!((reply.status, &reply.json()["code"]), (400, &json!("malformed-body")));
        assert_eq!(reply.json()["errors"][0]["pointer"], pointer);
    }
    let key = [("idempotency-key", "a b")];
    let reply = server.post_with("/api/v1/projections/inventory/pause", &key, "").await;
    assert_eq!((reply.status, &reply.json()["code"]), (400, &json!("malformed-header")));
}
