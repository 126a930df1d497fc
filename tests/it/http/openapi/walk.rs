//! A walk over all operations, every answer held against the document.

mod others;

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{Judged, Whole};
use crate::support::{eventually, http::Reply};

/// Sends requests, checks the answers, and remembers which operations were met with which status.
struct Walk {
    whole: Whole,
    judged: Judged,
    met: BTreeSet<String>,
}

impl Walk {
    async fn send(&mut self, method: &str, path: &str, at: &str, headers: &[(&str, &str)], body: &str) -> Reply {
        let mut all = vec![];
        if !body.is_empty() {
            all.push(("content-type", "application/json"));
        }
        all.extend(headers);
        let reply = self.whole.server.send(method, at, &all, body.as_bytes()).await;
        self.judged.check(method, path, &reply);
        self.met.insert(format!("{method} {path}"));
        reply
    }

    async fn get(&mut self, path: &str, at: &str) -> Reply {
        let reply = self.send("GET", path, at, &[], "").await;
        assert!(reply.status < 400, "GET {at}: {}", reply.text());
        reply
    }

    async fn post(&mut self, path: &str, body: Value) -> Reply {
        let reply = self.send("POST", path, path, &[], &body.to_string()).await;
        assert!(reply.status < 400, "POST {path} {body}: {}", reply.text());
        reply
    }
}

#[tokio::test]
async fn what_the_server_answers_is_what_the_document_says() {
    let whole = Whole::start().await;
    let judged = Judged::new(whole.document().await);
    let mut walk = Walk { whole, judged, met: BTreeSet::new() };
    commands_and_events(&mut walk).await;
    queries(&mut walk).await;
    time(&mut walk).await;
    sagas(&mut walk).await;
    projections(&mut walk).await;
    evidence(&mut walk).await;
    others::branches(&mut walk).await;
    others::access(&mut walk).await;
    #[cfg(feature = "console")]
    others::console(&mut walk).await;
    operating(&mut walk).await;
    problems(&mut walk).await;
    let all = event_sourcing_cqrs::http::documented_operations();
    let unmet: Vec<_> = all.iter().filter(|(method, path)| !walk.met.contains(&format!("{method} {path}"))).collect();
    assert!(unmet.is_empty(), "no call of this walk meets {unmet:?}: add one to tests/it/http/openapi/walk.rs");
}

async fn commands_and_events(walk: &mut Walk) {
    let (commands, events) = ("/api/v1/commands", "/api/v1/events");
    let command = |kind: &str, id: &str, data: Value| json!({ "command_type": kind, "aggregate_id": id, "data": data });
    for (id, balance) in [("acc-123", 1000), ("acc-456", 0)] {
        let data = json!({ "account_id": id, "owner": "John Doe", "initial_balance": balance });
        walk.post(commands, command("CreateAccount", id, data)).await;
    }
    let deposit = command("DepositMoney", "acc-123", json!({ "account_id": "acc-123", "amount": 500 }));
    let key = [("idempotency-key", "k-1"), ("if-match", "\"1\""), ("x-correlation-id", "c-1")];
    for _ in 0..2 {
        let reply = walk.send("POST", commands, commands, &key, &deposit.to_string()).await;
        assert_eq!(reply.status, 200);
    }
    let dry = walk.send("POST", commands, "/api/v1/commands?dry_run=true", &[], &deposit.to_string()).await;
    assert_eq!(dry.json()["dry_run"], true);
    let item = json!({ "product_id": "p-1", "name": "Lamp", "initial_quantity": 5, "low_stock_threshold": 5 });
    walk.post(commands, command("CreateInventoryItem", "p-1", item)).await;
    let lines = json!([{ "product_id": "p-1", "quantity": 1, "unit_price": 100 }]);
    walk.post(commands, command("CreateOrder", "o-1", json!({ "customer_id": "u-1", "items": lines }))).await;
    walk.post(commands, command("RegisterUser", "u-1", json!({ "email": "u@example.org", "name": "U" }))).await;
    walk.post(commands, command("LogInUser", "u-1", json!({ "session_id": "s-1" }))).await;
    walk.post(commands, command("RecordUserAction", "u-1", json!({ "action": "seen", "details": { "page": 1 } })))
        .await;
    walk.post(
        events,
        json!({ "aggregate_id": "g-1", "aggregate_type": "sensor", "event_type": "Measured", "data": 21.5 }),
    )
    .await;
    let several = json!([{ "event_type": "Measured", "data": [1] }, { "event_type": "BatteryLow" }]);
    walk.post(events, json!({ "aggregate_id": "g-1", "events": several })).await;
    let kept = json!({ "amount": 7, "transfer_id": null, "unknown": { "member": "kept" } });
    walk.post(events, json!({ "aggregate_id": "acc-123", "event_type": "MoneyDeposited", "data": kept })).await;
    walk.get(events, "/api/v1/events?limit=1000").await;
    walk.get(events, "/api/v1/events?event_type=Measured&event_type=BatteryLow&correlation_id=c-1&after=1").await;
    let stream = "/api/v1/events/{aggregate_id}";
    let etag =
        walk.get(stream, "/api/v1/events/acc-123?direction=backward&limit=1").await.header("etag").unwrap().to_owned();
    let unchanged = walk.send("GET", stream, "/api/v1/events/acc-123", &[("if-none-match", &etag)], "").await;
    assert_eq!(unchanged.status, 304);
    for media in ["application/x-ndjson", "text/event-stream"] {
        for (path, at) in [(events, "/api/v1/events?follow=false"), (stream, "/api/v1/events/acc-123?follow=false")] {
            let reply = walk.send("GET", path, at, &[("accept", media)], "").await;
            assert_eq!((reply.status, reply.header("content-type")), (200, Some(media)));
        }
    }
}

async fn queries(walk: &mut Walk) {
    let path = "/api/v1/queries";
    let all = [
        ("GetAccountBalance", json!({ "account_id": "acc-123" })),
        ("GetTransactionHistory", json!({ "account_id": "acc-123", "limit": 2 })),
        ("GetTransfers", json!({ "account_id": "acc-123" })),
        ("ListAccounts", json!({})),
        ("GetOrder", json!({ "order_id": "o-1" })),
        ("GetCustomerOrders", json!({ "customer_id": "u-1" })),
        ("GetProductOrders", json!({ "product_id": "p-1" })),
        ("GetDailyStatistics", json!({})),
        ("GetStock", json!({ "product_id": "p-1" })),
        ("GetStockMovements", json!({ "product_id": "p-1" })),
        ("GetLowStock", json!({})),
        ("GetUser", json!({ "user_id": "u-1" })),
        ("GetUserSessions", json!({ "user_id": "u-1" })),
        ("GetUserActivity", json!({ "user_id": "u-1" })),
    ];
    let head = walk.get("/api/v1/events", "/api/v1/events").await.json()["next_cursor"].to_string();
    let wanted = [("es-min-position", head.as_str()), ("prefer", "wait=30")];
    for (query_type, filters) in all {
        let body = json!({ "query_type": query_type, "filters": filters }).to_string();
        let reply = walk.send("POST", path, path, &wanted, &body).await;
        assert_eq!(reply.status, 200, "{query_type}: {}", reply.text());
    }
    for (query_type, projection, filters) in
        [("GetView", "owners", json!({ "key": "acc-123" })), ("ListView", "deposits", json!({}))]
    {
        let body = json!({ "query_type": query_type, "projection": projection, "filters": filters }).to_string();
        let reply = walk.send("POST", path, path, &wanted, &body).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
    }
    let unknown = json!({ "query_type": "GetOrder", "filters": { "order_id": "nobody" } });
    assert_eq!(walk.send("POST", path, path, &[], &unknown.to_string()).await.status, 404);
}

async fn time(walk: &mut Walk) {
    walk.post("/api/v1/replay", json!({ "aggregate_id": "acc-123", "from_sequence": 0, "use_snapshot": true })).await;
    let span =
        json!({ "aggregate_id": "acc-123", "from_time": "2024-01-01T00:00:00Z", "to_time": "2124-01-01T00:00:00Z" });
    walk.post("/api/v1/temporal-query", span).await;
    walk.post("/api/v1/temporal-query", json!({ "aggregate_id": "o-1", "at": "2124-01-01T00:00:00Z" })).await;
    walk.get("/api/v1/aggregates", "/api/v1/aggregates?limit=2").await;
    for id in ["acc-123", "o-1", "p-1", "u-1", "g-1"] {
        walk.get("/api/v1/aggregates/{aggregate_id}", &format!("/api/v1/aggregates/{id}")).await;
    }
    walk.get("/api/v1/aggregates/{aggregate_id}", "/api/v1/aggregates/acc-123?at_sequence=1").await;
    walk.get("/api/v1/aggregates/{aggregate_id}", "/api/v1/aggregates/acc-123?at_time=2020-01-01T00:00:00Z").await;
    walk.get("/api/v1/aggregates/{aggregate_id}/diff", "/api/v1/aggregates/acc-123/diff").await;
}

async fn sagas(walk: &mut Walk) {
    let path = "/api/v1/sagas";
    let start = |amount: i64| {
        let data = json!({ "from_account": "acc-123", "to_account": "acc-456", "amount": amount });
        json!({ "saga_type": "TransferSaga", "data": data, "timeout_ms": 60_000 }).to_string()
    };
    let done = walk.send("POST", path, path, &[("prefer", "wait=30")], &start(200)).await;
    assert_eq!((done.status, &done.json()["status"]), (200, &json!("completed")), "{}", done.text());
    let refused = walk.send("POST", path, path, &[("prefer", "wait=30")], &start(1_000_000)).await;
    assert_eq!((refused.status, &refused.json()["status"]), (200, &json!("compensated")), "{}", refused.text());
    assert_eq!(walk.send("POST", path, path, &[], &start(1)).await.status, 202);
    let id = done.json()["saga_id"].as_str().unwrap().to_owned();
    walk.get("/api/v1/sagas/{saga_id}", &format!("/api/v1/sagas/{id}")).await;
    walk.get("/api/v1/aggregates/{aggregate_id}", &format!("/api/v1/aggregates/{id}")).await;
    walk.get("/api/v1/events/{aggregate_id}", &format!("/api/v1/events/{id}")).await;
    walk.get("/api/v1/events", "/api/v1/events?limit=1000").await;
    walk.get(path, "/api/v1/sagas?saga_type=TransferSaga&limit=1").await;
    for (what, code) in [("retry", "saga-ended"), ("cancel", "saga-ended")] {
        let at = format!("/api/v1/sagas/{id}/{what}");
        let reply = walk.send("POST", &format!("/api/v1/sagas/{{saga_id}}/{what}"), &at, &[], "").await;
        assert_eq!((reply.status, &reply.json()["code"]), (409, &json!(code)), "{}", reply.text());
    }
}

async fn projections(walk: &mut Walk) {
    walk.get("/api/v1/projections", "/api/v1/projections").await;
    walk.get("/api/v1/projections/{name}", "/api/v1/projections/inventory").await;
    walk.get("/api/v1/projections/{name}/parked", "/api/v1/projections/inventory/parked").await;
    for what in ["pause", "resume", "rollback", "rebuild"] {
        let (path, at) =
            (format!("/api/v1/projections/{{name}}/{what}"), format!("/api/v1/projections/inventory/{what}"));
        let reply = walk.send("POST", &path, &at, &[], "").await;
        assert!([200, 202, 409].contains(&reply.status), "{what}: {}", reply.text());
    }
    for what in ["retry", "skip"] {
        let path = format!("/api/v1/projections/{{name}}/parked/{{position}}/{what}");
        let at = format!("/api/v1/projections/inventory/parked/1/{what}");
        assert_eq!(walk.send("POST", &path, &at, &[], "{}").await.status, 404);
    }
    let operation = walk.get("/api/v1/operations", "/api/v1/operations").await.json()["items"][0].clone();
    let at = format!("/api/v1/operations/{}", operation["operation_id"].as_str().unwrap());
    walk.get("/api/v1/operations/{operation_id}", &at).await;
    let cancelled = walk.send("DELETE", "/api/v1/operations/{operation_id}", &at, &[], "").await;
    assert!([200, 409].contains(&cancelled.status), "{}", cancelled.text());
}

async fn evidence(walk: &mut Walk) {
    let sealed = || async { walk.whole.server.get("/api/v1/integrity/proof?position=2").await.status == 200 };
    eventually("the log is sealed", sealed).await;
    walk.get("/api/v1/integrity/checkpoint", "/api/v1/integrity/checkpoint").await;
    walk.get("/api/v1/integrity/key", "/api/v1/integrity/key").await;
    walk.get("/api/v1/integrity/proof", "/api/v1/integrity/proof?position=2").await;
    walk.get("/api/v1/integrity/consistency", "/api/v1/integrity/consistency?from=1").await;
    walk.get("/api/v1/aggregates/{aggregate_id}/verify", "/api/v1/aggregates/acc-123/verify").await;
    walk.post("/api/v1/integrity/verify", json!({})).await;
    assert_eq!(walk.send("GET", "/api/v1/integrity/proof", "/api/v1/integrity/proof", &[], "").await.status, 422);
}

async fn operating(walk: &mut Walk) {
    for path in ["/", "/health", "/health/live", "/health/ready", "/health/startup", "/metrics", "/version", "/docs"] {
        walk.get(path, path).await;
    }
    walk.get("/api/v1/openapi.json", "/api/v1/openapi.json").await;
    let settings = walk.get("/api/v1/config", "/api/v1/config").await.json();
    let of = |key: &str| settings["items"].as_array().unwrap().iter().find(|item| item["key"] == key).cloned().unwrap();
    assert_eq!(
        of("commands.deadline_ms"),
        json!({ "key": "commands.deadline_ms", "value": 5_000, "source": "default" })
    );
    let path = "/api/v1/log-level";
    for (level, before, now) in [("DEBUG", "info", "debug"), ("warning", "debug", "warn"), ("info", "warn", "info")] {
        let reply = walk.send("PUT", path, path, &[], &json!({ "level": level }).to_string()).await;
        assert_eq!(reply.json(), json!({ "level": now, "previous_level": before }), "{}", reply.text());
    }
    let wrong = walk.send("PUT", path, path, &[], r#"{"level":"loud"}"#).await;
    assert_eq!((wrong.status, &wrong.json()["errors"][0]["pointer"]), (422, &json!("/level")), "{}", wrong.text());
    for file in ["docs.js", "docs.css"] {
        walk.get("/docs/{file}", &format!("/docs/{file}")).await;
    }
    assert_eq!(walk.send("GET", "/docs/{file}", "/docs/secret", &[], "").await.status, 404);
}

async fn problems(walk: &mut Walk) {
    let path = "/problems/{code}";
    let codes = walk.judged.document.pointer("/paths/~1api~1v1~1commands/post/responses/409").unwrap().to_string();
    assert!(codes.contains("concurrency-conflict"));
    for accept in ["application/json", "text/html,application/xhtml+xml,*/*;q=0.8", "*/*"] {
        let reply = walk.send("GET", path, "/problems/domain-rejected", &[("accept", accept)], "").await;
        let expected = if accept.starts_with("text/html") { "text/html; charset=utf-8" } else { "application/json" };
        assert_eq!((reply.status, reply.header("content-type")), (200, Some(expected)), "{accept}");
        assert_eq!(reply.header("vary"), Some("accept"));
    }
    let unknown = walk.send("GET", path, "/problems/domain-rejekted", &[], "").await;
    assert_eq!((unknown.status, &unknown.json()["nearest"][0]), (404, &json!("domain-rejected")));
    let (commands, body) = ("/api/v1/commands", r#"{"command_type":"CloseAccount","aggregate_id":"acc-123"}"#);
    for (headers, body, status) in [
        (&[("accept", "image/png")][..], body, 406),
        (&[("if-match", "\"99\"")], body, 412),
        (&[("if-match", "99")], body, 400),
        (&[], "{", 400),
        (&[], body, 422),
        (&[], r#"{"command_type":"CloseAccount","aggregate_id":"g-1"}"#, 409),
    ] {
        let reply = walk.send("POST", commands, commands, headers, body).await;
        assert_eq!(reply.status, status, "{headers:?} {body}: {}", reply.text());
    }
}
