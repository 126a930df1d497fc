//! `/api/v1/sagas`: started, waited for, shown, listed, retried, cancelled; health and metrics of it.

use std::time::Duration;

use event_sourcing_cqrs::http::HttpOptions;
use serde_json::{Value, json};

use crate::support::{
    eventually,
    http::{Reply, TestServer},
    sagas,
};

const SAGAS: &str = "/api/v1/sagas";
const WAIT: (&str, &str) = ("prefer", "wait=10");

async fn server() -> TestServer {
    let server = sagas::server(HttpOptions::default()).await;
    server.account("a", 100).await;
    server.account("b", 0).await;
    server
}

fn transfer(amount: i64) -> String {
    let data = json!({ "from_account": "a", "to_account": "b", "amount": amount });
    json!({ "saga_type": "TransferSaga", "data": data }).to_string()
}

fn of(id: &Value, rest: &str) -> String {
    format!("{SAGAS}/{}{rest}", id.as_str().unwrap())
}

fn assert_problem(reply: &Reply, status: u16, code: &str) {
    assert_eq!((reply.status, &reply.json()["code"]), (status, &json!(code)), "{}", reply.text());
    assert_eq!(reply.header("content-type"), Some("application/problem+json"));
}

async fn balance(server: &TestServer, account: &str) -> Value {
    server.get(&format!("/api/v1/aggregates/{account}")).await.json()["state"]["balance"].clone()
}

/// An instance that waits until it is cancelled.
async fn patient(server: &TestServer) -> Value {
    let body = json!({ "saga_type": "PatientSaga", "data": { "account": "a" } }).to_string();
    let started = server.post(SAGAS, &body).await;
    assert_eq!(started.status, 202, "{}", started.text());
    let id = started.json()["saga_id"].clone();
    let waits = || async { server.get(&of(&id, "")).await.text().contains("pay/retry") };
    eventually("the first try was refused", waits).await;
    id
}

/// An instance that was set aside: its undo takes money from an account that is not there.
async fn failed(server: &TestServer) -> Value {
    let data = json!({ "to": "b", "undo_from": "later" });
    let body = json!({ "saga_type": "StubbornSaga", "data": data }).to_string();
    let ended = server.post_with(SAGAS, &[WAIT], &body).await;
    assert_eq!((ended.status, &ended.json()["status"]), (200, &json!("failed")), "{}", ended.text());
    ended.json()["saga_id"].clone()
}

#[tokio::test]
async fn a_start_is_recorded_at_once_and_goes_on_by_itself() {
    let server = server().await;
    let headers = [("x-correlation-id", "c-1"), ("x-causation-id", "cause-1")];
    let started = server.post_with(SAGAS, &headers, &transfer(40)).await;
    assert_eq!(started.status, 202, "{}", started.text());
    let body = started.json();
    let id = body["saga_id"].clone();
    assert_eq!(body, json!({ "saga_id": id, "saga_type": "TransferSaga", "status": "running" }));
    assert_eq!(started.header("location"), Some(of(&id, "").as_str()));
    assert_eq!((started.header("preference-applied"), started.header("idempotency-replayed")), (None, None));
    let show = || async { server.get(&of(&id, "")).await };
    eventually("it is completed", || async { show().await.json()["status"] == "completed" }).await;
    assert_eq!((balance(&server, "a").await, balance(&server, "b").await), (json!(60), json!(40)));

    let log = server.get("/api/v1/events?correlation_id=c-1").await.json();
    let types: Vec<_> = log["events"].as_array().unwrap().iter().map(|event| &event["event_type"]).collect();
    assert!(types.contains(&&json!("MoneyWithdrawn")) && types.contains(&&json!("SagaEnded")), "{types:?}");
    assert_eq!(log["events"][0]["metadata"]["causation_id"], "cause-1");

    let shown = show().await;
    assert_eq!(shown.header("etag"), Some(format!("\"{}\"", shown.json()["version"]).as_str()));
    let etag = shown.header("etag").unwrap();
    let again = server.send("GET", &of(&id, ""), &[("if-none-match", etag)], b"").await;
    assert_eq!((again.status, again.header("etag"), again.body.len()), (304, Some(etag), 0));
}

#[tokio::test]
async fn an_instance_is_shown_with_its_steps_timers_and_timeline() {
    let server = server().await;
    let started = server.post_with(SAGAS, &[WAIT, ("x-correlation-id", "c-2")], &transfer(1)).await;
    assert_eq!((started.status, started.header("preference-applied")), (200, Some("wait=10")), "{}", started.text());
    let saga = started.json();
    assert_eq!(server.get(&of(&saga["saga_id"], "")).await.json(), saga, "a wait answers what a GET answers");
    for (member, expected) in [
        ("saga_type", json!("TransferSaga")),
        ("status", json!("completed")),
        ("data", json!({ "from_account": "a", "to_account": "b", "amount": 1 })),
        ("reason", Value::Null),
        ("definition_version", json!(1)),
        ("correlation_id", json!("c-2")),
    ] {
        assert_eq!(saga[member], expected, "{member}");
    }
    let steps = saga["steps"].as_array().unwrap();
    assert_eq!((&steps[0]["name"], &steps[1]["name"], steps.len()), (&json!("withdraw"), &json!("deposit"), 2));
    for step in steps {
        let (status, attempts, error) = (&step["status"], &step["attempts"], &step["error"]);
        assert_eq!((status, attempts, error), (&json!("completed"), &json!(1), &Value::Null), "{step}");
        assert!(step["started_at"].as_str() <= step["ended_at"].as_str() && step["ended_at"].is_string(), "{step}");
    }
    assert_eq!(saga["timers"][0]["name"], "timeout");
    assert_eq!((&saga["timers"][0]["step"], &saga["timers"][0]["status"]), (&Value::Null, &json!("cancelled")));
    for instant in ["started_at", "updated_at", "ended_at"] {
        assert!(saga[instant].as_str().unwrap().ends_with('Z'), "{instant}");
    }
    let timeline = saga["timeline"].as_array().unwrap();
    let told: Vec<_> = timeline.iter().map(|event| event["event"].as_str().unwrap()).collect();
    assert_eq!(
        told,
        [
            "SagaStarted",
            "SagaCommandIssued",
            "SagaCommandAnswered",
            "SagaCommandIssued",
            "SagaCommandAnswered",
            "SagaEnded"
        ]
    );
    assert_eq!((&timeline[5]["sequence"], &saga["version"]), (&json!(6), &json!(6)));
    assert!(timeline.is_sorted_by_key(|event| event["position"].as_u64()), "{timeline:?}");
    assert_eq!(timeline[0]["detail"], "TransferSaga version 1 is started by anonymous");
    assert_eq!(timeline[0].get("step"), None);
    assert_eq!((&timeline[1]["step"], &timeline[3]["step"]), (&json!("withdraw"), &json!("deposit")));
    assert_eq!(timeline[1]["detail"], "WithdrawMoney is to be sent to a");
    assert_eq!(timeline[5]["detail"], "completed: everything is done");
}

#[tokio::test]
async fn steps_that_have_not_begun_are_pending() {
    let server = server().await;
    let ended = server.post_with(SAGAS, &[WAIT], &transfer(101)).await;
    let saga = ended.json();
    assert_eq!((ended.status, &saga["status"]), (200, &json!("compensated")), "{saga}");
    assert_eq!(saga["reason"]["code"], "insufficient-funds");
    assert_eq!((&saga["steps"][0]["status"], &saga["steps"][0]["attempts"]), (&json!("refused"), &json!(1)));
    assert_eq!(saga["steps"][0]["error"]["code"], "insufficient-funds");
    let pending = json!({
        "name": "deposit", "status": "pending", "attempts": 0, "undo_attempts": 0,
        "started_at": null, "ended_at": null, "error": null,
    });
    assert_eq!(saga["steps"][1], pending);
    assert_eq!(balance(&server, "a").await, 100);
}

#[tokio::test]
async fn a_wait_that_is_too_short_is_answered_202() {
    let options = HttpOptions { wait_max: Duration::from_millis(50), ..HttpOptions::default() };
    let server = sagas::server(options).await;
    server.account("a", 1).await;
    let body = json!({ "saga_type": "PatientSaga", "data": { "account": "a" } }).to_string();
    for wait in ["wait=0", "wait=3600"] {
        let started = server.post_with(SAGAS, &[("prefer", wait)], &body).await;
        assert_eq!((started.status, started.header("preference-applied")), (202, Some(wait)), "{}", started.text());
        assert_eq!(started.json()["status"], "running");
        assert_eq!(started.header("location"), Some(of(&started.json()["saga_id"], "").as_str()));
    }
    // Preferences that mean nothing here are not said to be heeded.
    let started = server.post_with(SAGAS, &[("prefer", "handling=lenient")], &body).await;
    assert_eq!((started.status, started.header("preference-applied")), (202, None));
}

#[tokio::test]
async fn a_wait_ends_with_the_server() {
    let server = server().await;
    let body = json!({ "saga_type": "PatientSaga", "data": { "account": "a" } }).to_string();
    let waiting = server.post_with(SAGAS, &[("prefer", "wait=30")], &body);
    let stop = async {
        let begun = || async { server.get(SAGAS).await.json()["items"].as_array().is_some_and(|all| all.len() == 1) };
        eventually("it has begun", begun).await;
        server.shutdown.cancel();
    };
    let (answer, ()) = tokio::join!(waiting, stop);
    assert_eq!((answer.status, &answer.json()["status"]), (202, &json!("running")), "{}", answer.text());
}

#[tokio::test]
async fn a_repeated_key_starts_one_instance() {
    let server = server().await;
    let key = ("idempotency-key", "k-1");
    let first = server.post_with(SAGAS, &[key], &transfer(10)).await;
    let id = first.json()["saga_id"].clone();
    let second = server.post_with(SAGAS, &[key], &transfer(10)).await;
    assert_eq!((second.status, second.header("idempotency-replayed")), (202, Some("true")), "{}", second.text());
    assert_eq!(second.json()["saga_id"], id);
    let waited = server.post_with(SAGAS, &[key, WAIT], &transfer(10)).await;
    assert_eq!((waited.status, waited.header("idempotency-replayed")), (200, Some("true")), "{}", waited.text());
    assert_eq!((&waited.json()["saga_id"], &waited.json()["status"]), (&id, &json!("completed")));
    assert_problem(&server.post_with(SAGAS, &[key], &transfer(11)).await, 422, "idempotency-key-reused");
    assert_eq!((balance(&server, "a").await, balance(&server, "b").await), (json!(90), json!(10)));
    assert_eq!(server.get(SAGAS).await.json()["items"].as_array().unwrap().len(), 1);

    let id = patient(&server).await;
    for replayed in [None, Some("true")] {
        let cancelled = server.post_with(&of(&id, "/cancel"), &[("idempotency-key", "k-2")], "").await;
        assert_eq!((cancelled.status, cancelled.header("idempotency-replayed")), (202, replayed));
    }
    for _ in 0..2 {
        let refused = server.post_with(&of(&id, "/retry"), &[("idempotency-key", "k-3")], "").await;
        assert_problem(&refused, 409, "saga-ended");
    }
}

#[tokio::test]
async fn a_cancelled_instance_undoes_and_is_over() {
    let server = server().await;
    let id = patient(&server).await;
    assert_problem(&server.post(&of(&id, "/retry"), "").await, 409, "saga-not-failed");
    // As a client without a body sends it: no content type either.
    let cancelled = server.send("POST", &of(&id, "/cancel"), &[], b"").await;
    assert_eq!(cancelled.status, 202, "{}", cancelled.text());
    assert_eq!(cancelled.json(), json!({ "saga_id": id, "saga_type": "PatientSaga", "status": "compensated" }));
    assert_eq!(cancelled.header("location"), Some(of(&id, "").as_str()));
    let saga = server.get(&of(&id, "")).await.json();
    assert_eq!((&saga["status"], &saga["reason"]["code"]), (&json!("compensated"), &json!("cancelled")));
    assert!(saga.to_string().contains("anonymous cancelled it"), "{saga}");
    for action in ["/cancel", "/retry"] {
        let late = server.post(&of(&id, action), "{}").await;
        assert_problem(&late, 409, "saga-ended");
        assert!(late.json()["detail"].as_str().unwrap().contains("it is compensated"), "{}", late.text());
    }
}

#[tokio::test]
async fn a_failed_instance_is_a_warning_until_it_is_retried() {
    let server = server().await;
    let checks = || async { server.get("/health").await.json()["checks"]["sagas"][0].clone() };
    assert_eq!(checks().await["status"], "pass");
    let id = failed(&server).await;
    let saga = server.get(&of(&id, "")).await.json();
    assert_eq!((&saga["steps"][0]["status"], &saga["steps"][0]["undo_attempts"]), (&json!("failed"), &json!(1)));
    assert_eq!(saga["reason"]["code"], "account-not-found");
    eventually("health warns", || async { checks().await["status"] == "warn" }).await;
    let check = checks().await;
    assert_eq!((&check["observedValue"], &check["observedUnit"]), (&json!(1), &json!("failed")));
    assert!(check["output"].as_str().unwrap().contains("GET /api/v1/sagas?status=failed"), "{check}");
    let listed = server.get("/api/v1/sagas?status=failed").await.json();
    assert_eq!((&listed["items"][0]["saga_id"], &listed["items"][0]["reason"]["code"]), (&id, &saga["reason"]["code"]));

    // The cause is mended.
    server.account("later", 5).await;
    let retried = server.post(&of(&id, "/retry"), "").await;
    assert_eq!((retried.status, &retried.json()["status"]), (202, &json!("compensating")), "{}", retried.text());
    let show = || async { server.get(&of(&id, "")).await.json() };
    eventually("it is compensated", || async { show().await["status"] == "compensated" }).await;
    assert_eq!(balance(&server, "later").await, 0);
    eventually("health is well again", || async { checks().await["status"] == "pass" }).await;
}

#[tokio::test]
async fn instances_are_listed_newest_first_by_status_and_type() {
    let server = server().await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.insert(0, server.post_with(SAGAS, &[WAIT], &transfer(1)).await.json()["saga_id"].clone());
    }
    let running = patient(&server).await;
    let list = |query: &'static str| {
        let server = &server;
        async move { server.get(&format!("{SAGAS}{query}")).await }
    };
    let ids_of = |page: &Value| -> Vec<Value> {
        page["items"].as_array().unwrap().iter().map(|item| item["saga_id"].clone()).collect()
    };
    let all = list("").await.json();
    assert_eq!(ids_of(&all), [std::slice::from_ref(&running), &ids[..]].concat());
    assert_eq!(all["next_cursor"], Value::Null);
    let item = &all["items"][0];
    assert_eq!((&item["saga_type"], &item["status"]), (&json!("PatientSaga"), &json!("running")));
    assert_eq!((&item["ended_at"], &item["reason"]), (&Value::Null, &Value::Null));
    assert!(item["started_at"].is_string() && item["updated_at"].is_string(), "{item}");
    assert_eq!(ids_of(&list("?status=running").await.json()), std::slice::from_ref(&running));
    assert_eq!(ids_of(&list("?saga_type=TransferSaga&status=completed").await.json()), ids);
    assert_eq!(ids_of(&list("?saga_type=StubbornSaga").await.json()), Vec::<Value>::new());

    let (mut found, mut path) = (Vec::new(), format!("{SAGAS}?limit=3"));
    loop {
        let page = server.get(&path).await.json();
        found.extend(ids_of(&page));
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        path = format!("{SAGAS}?limit=3&cursor={cursor}");
    }
    assert_eq!(found, [std::slice::from_ref(&running), &ids[..]].concat());

    let wrong = list("?status=done").await;
    assert_problem(&wrong, 422, "validation-failed");
    let detail = "must be one of running, compensating, completed, compensated, failed, not \"done\"";
    assert_eq!(wrong.json()["errors"][0], json!({ "pointer": "/query/status", "detail": detail }));
    let unknown = list("?saga_type=TransferSga").await;
    assert_problem(&unknown, 422, "unknown-saga-type");
    assert_eq!(unknown.json()["nearest"], json!(["TransferSaga"]));
    for (query, pointer) in
        [("?limit=0", "/query/limit"), ("?limit=1001", "/query/limit"), ("?state=x", "/query/state")]
    {
        let reply = list(query).await;
        assert_problem(&reply, 422, "validation-failed");
        assert_eq!(reply.json()["errors"][0]["pointer"], pointer);
    }
}

#[tokio::test]
async fn mistakes_in_a_start_are_named() {
    let server = server().await;
    let data = json!({ "from_account": "a", "to_account": "b", "amount": 1 });
    let with = |member: &str, value: Value| {
        let mut body = json!({ "saga_type": "TransferSaga", "data": data });
        body[member] = value;
        body.to_string()
    };
    let (missing, extra) = (json!({ "from_account": "a", "to_account": "b" }), json!({ "x": 1 }));
    let same = json!({ "from_account": "a", "to_account": "a", "amount": 1 });
    let nothing = json!({ "from_account": "a", "to_account": "b", "amount": 0 });
    let half = json!({ "from_account": "a", "to_account": "b", "amount": 1.5 });
    let cases = [
        (with("data", missing), 422, "validation-failed", "/data/amount"),
        (with("data", extra), 422, "validation-failed", "/data/x"),
        (with("data", same), 422, "validation-failed", "/data/to_account"),
        (with("data", nothing), 422, "validation-failed", "/data/amount"),
        (with("data", half), 422, "validation-failed", "/data/amount"),
        (transfer(1).replace("\"amount\":1", "\"amount\":1,\"amount\":2"), 422, "validation-failed", "/data/amount"),
        (transfer(1).replace("\"amount\":1", "\"amount\":1e999"), 422, "validation-failed", "/data"),
        (with("saga_type", json!("TransferSga")), 422, "unknown-saga-type", "/saga_type"),
        (with("timeout_ms", json!(0)), 422, "validation-failed", "/timeout_ms"),
        (with("timeout_ms", json!(-1)), 422, "validation-failed", "/timeout_ms"),
        (with("timeout_ms", json!(31_536_000_001_u64)), 422, "validation-failed", "/timeout_ms"),
        (with("timeout_ms", json!("5")), 400, "malformed-body", "/timeout_ms"),
        (with("timeout_ms", json!(1.5)), 400, "malformed-body", "/timeout_ms"),
        (with("data", json!([])), 400, "malformed-body", "/data"),
        (with("saga_type", json!(7)), 400, "malformed-body", "/saga_type"),
        (with("timeout", json!(5)), 400, "malformed-body", "/timeout"),
        (json!({ "data": data }).to_string(), 400, "malformed-body", "/saga_type"),
    ];
    for (body, status, code, pointer) in cases {
        let reply = server.post(SAGAS, &body).await;
        assert_problem(&reply, status, code);
        assert_eq!(reply.json()["errors"][0]["pointer"], pointer, "{body}");
    }
    let near = server.post(SAGAS, &with("saga_type", json!("TransferSga"))).await.json();
    assert_eq!(near["nearest"], json!(["TransferSaga"]));
    for header in [("idempotency-key", "a b"), ("x-correlation-id", "a b")] {
        assert_problem(&server.post_with(SAGAS, &[header], &transfer(1)).await, 400, "malformed-header");
    }
    assert_problem(&server.post(&format!("{SAGAS}?x=1"), &transfer(1)).await, 422, "validation-failed");
    assert_eq!(server.get(SAGAS).await.json()["items"], json!([]), "nothing was started");
    assert_eq!(balance(&server, "a").await, 100);

    let longest = server.post_with(SAGAS, &[WAIT], &with("timeout_ms", json!(31_536_000_000_u64))).await;
    assert_eq!((longest.status, &longest.json()["status"]), (200, &json!("completed")), "{}", longest.text());
}

#[tokio::test]
async fn a_stream_that_is_no_saga_is_an_unknown_saga() {
    let server = server().await;
    for id in ["nothing", "a"] {
        let path = format!("{SAGAS}/{id}");
        for (method, path, body) in [
            ("GET", path.clone(), ""),
            ("GET", format!("{path}?x=1"), ""),
            ("POST", format!("{path}/retry"), ""),
            ("POST", format!("{path}/cancel"), "{}"),
            ("POST", format!("{path}/cancel?x=1"), ""),
        ] {
            let reply = server.send(method, &path, &[("content-type", "application/json")], body.as_bytes()).await;
            assert_problem(&reply, 404, "unknown-saga");
        }
    }
    assert_eq!(server.get("/api/v1/aggregates/a").await.json()["version"], 1);
    assert_problem(&server.get(&format!("{SAGAS}/%ff")).await, 400, "invalid-id");
    let id = patient(&server).await;
    for path in [of(&id, "?x=1"), of(&id, "/cancel?x=1"), of(&id, "/retry?x=1")] {
        let method =
            if path.contains('/') && path.contains("cancel") || path.contains("retry") { "POST" } else { "GET" };
        assert_problem(&server.send(method, &path, &[], b"").await, 422, "validation-failed");
    }
    assert_problem(&server.post(&of(&id, "/cancel"), r#"{"x":1}"#).await, 400, "malformed-body");
    let append = json!({ "aggregate_id": id, "event_type": "X", "data": {} }).to_string();
    assert_problem(&server.post("/api/v1/events", &append).await, 409, "reserved-stream");
}

#[tokio::test]
async fn metrics_of_every_saga_are_there_from_the_first_scrape() {
    let server = server().await;
    let first = server.get("/metrics").await.text().to_owned();
    for series in [
        "es_sagas_started_total{saga=\"TransferSaga\"} 0",
        "es_sagas_finished_total{outcome=\"completed\",saga=\"TransferSaga\"} 0",
        "es_sagas_finished_total{outcome=\"compensated\",saga=\"TransferSaga\"} 0",
        "es_sagas_finished_total{outcome=\"failed\",saga=\"TransferSaga\"} 0",
        "es_saga_duration_seconds_count{outcome=\"completed\",saga=\"TransferSaga\"} 0",
        "es_saga_timers_fired_total{saga=\"TransferSaga\"} 0",
        "es_sagas_in_flight{saga=\"TransferSaga\"} 0",
        "es_sagas_failed{saga=\"TransferSaga\"} 0",
    ] {
        assert!(first.contains(series), "{series}");
    }
    server.post_with(SAGAS, &[WAIT], &transfer(1)).await;
    let then = server.get("/metrics").await.text().to_owned();
    for series in [
        "es_sagas_started_total{saga=\"TransferSaga\"} 1",
        "es_sagas_finished_total{outcome=\"completed\",saga=\"TransferSaga\"} 1",
    ] {
        assert!(then.contains(series), "{series}");
    }
}

#[tokio::test]
async fn every_code_of_sagas_has_a_page() {
    let server = server().await;
    for code in ["unknown-saga", "unknown-saga-type", "saga-ended", "saga-not-failed", "saga-definition-unknown"] {
        assert_eq!(server.get(&format!("/problems/{code}")).await.status, 200, "{code}");
    }
}
