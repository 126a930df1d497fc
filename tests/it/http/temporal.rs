//! The past over HTTP: the specification's own calls, states by sequence, position and instant, and what lies between.

use std::sync::Arc;

use chrono::{DateTime, Duration, SecondsFormat, Utc};
use event_sourcing_actors::{RuntimeBuilder, catalog::Catalog, memory::MemoryStore, testing::clock::ManualClock};
use event_sourcing_cqrs::{domain, http::HttpOptions};
use serde_json::{Value, json};

use crate::support::http::{Reply, TestServer};

/// From the specification, word for word.
const TEMPORAL_QUERY: &str = r#"{
    "aggregate_id": "acc-123",
    "from_time": "2024-01-01T00:00:00Z",
    "to_time": "2024-01-31T23:59:59Z"
  }"#;

fn start() -> DateTime<Utc> {
    "2024-01-10T00:00:00Z".parse().unwrap()
}

fn at(seconds: i64) -> String {
    (start() + Duration::seconds(seconds)).to_rfc3339_opts(SecondsFormat::Micros, true)
}

/// A server whose clock a test moves.
async fn server() -> (TestServer, Arc<ManualClock>) {
    let mut catalog = Catalog::default();
    domain::register(&mut catalog).unwrap();
    let clock = Arc::new(ManualClock::at(start()));
    let store = Arc::new(MemoryStore::new(clock.clone()));
    let builder = RuntimeBuilder::new(store.clone(), store).catalog(catalog).throwaway_keys().clock(clock.clone());
    (TestServer::over(builder.snapshot_frequency(|_| 2), HttpOptions::default(), |context| context).await, clock)
}

/// `acc-123`: opened with 1000 at second 0 (position 1), +500 at second 10 (3), −200 and +1 both at second 20 (4 and 5).
/// `other`: opened at second 5 (2), and +1 at second 30 (6), after which the log has gone past everything of `acc-123`.
async fn with_history() -> TestServer {
    let (server, clock) = server().await;
    let steps = [
        (0, "CreateAccount", "acc-123", json!({ "owner": "John Doe", "initial_balance": 1000 })),
        (5, "CreateAccount", "other", json!({ "owner": "Jane Doe", "initial_balance": 0 })),
        (10, "DepositMoney", "acc-123", json!({ "amount": 500 })),
        (20, "WithdrawMoney", "acc-123", json!({ "amount": 200 })),
        (20, "DepositMoney", "acc-123", json!({ "amount": 1 })),
        (30, "DepositMoney", "other", json!({ "amount": 1 })),
    ];
    let mut passed = 0;
    for (second, command, id, data) in steps {
        clock.advance(Duration::seconds(second - passed));
        passed = second;
        let reply = server.command(command, id, data).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
    }
    server
}

async fn temporal(server: &TestServer, body: &Value) -> Reply {
    server.post("/api/v1/temporal-query", &body.to_string()).await
}

fn sequences(page: &Value) -> Vec<u64> {
    page["events"].as_array().unwrap().iter().map(|event| event["sequence"].as_u64().unwrap()).collect()
}

#[tokio::test]
async fn the_specifications_temporal_query_works_verbatim() {
    let server = with_history().await;
    let reply = server.post("/api/v1/temporal-query", TEMPORAL_QUERY).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    let body = reply.json();
    assert_eq!(sequences(&body), [1, 2, 3, 4]);
    assert_eq!((&body["state_at_from"], &body["next_cursor"]), (&json!(null), &json!(null)));
    let state = json!({ "account_id": "acc-123", "owner": "John Doe", "balance": 1301, "status": "open" });
    assert_eq!(body["state_at_to"], state);
    // The log has not gone past January: what is recorded next may still belong to it.
    assert_eq!((&body["from_position"], &body["to_position"], &body["settled"]), (&json!(0), &json!(6), &json!(false)));
    // As sent today it finds nothing, and says so in the same shape.
    let today = TestServer::start().await;
    today.account("acc-123", 1000).await;
    let body = today.post("/api/v1/temporal-query", TEMPORAL_QUERY).await.json();
    let expected = json!({
        "aggregate_id": "acc-123", "aggregate_type": "account", "events": [], "next_cursor": null,
        "state_at_from": null, "state_at_to": null, "from_position": 0, "to_position": 0, "settled": true,
    });
    assert_eq!(body, expected);
}

#[tokio::test]
async fn a_state_is_the_same_by_sequence_position_and_instant() {
    let server = with_history().await;
    // (parameter, version, position of the event, position resolved, settled)
    let cases = [
        ("at_sequence=0".to_owned(), 0, None, 0, true),
        ("at_sequence=1".to_owned(), 1, Some(1), 1, true),
        ("at_sequence=3".to_owned(), 3, Some(4), 4, true),
        ("at_sequence=4".to_owned(), 4, Some(5), 5, true),
        ("at_sequence=5".to_owned(), 4, Some(5), 5, false),
        ("at_position=0".to_owned(), 0, None, 0, true),
        ("at_position=1".to_owned(), 1, Some(1), 1, true),
        ("at_position=2".to_owned(), 1, Some(1), 2, true),
        ("at_position=3".to_owned(), 2, Some(3), 3, true),
        ("at_position=4".to_owned(), 3, Some(4), 4, true),
        ("at_position=6".to_owned(), 4, Some(5), 6, true),
        ("at_position=99".to_owned(), 4, Some(5), 6, false),
        (format!("at_time={}", at(-1)), 0, None, 0, true),
        (format!("at_time={}", at(0)), 1, Some(1), 1, true),
        (format!("at_time={}", at(9)), 1, Some(1), 2, true),
        (format!("at_time={}", at(10)), 2, Some(3), 3, true),
        (format!("at_time={}", at(20)), 4, Some(5), 5, true),
        (format!("at_time={}", at(29)), 4, Some(5), 5, true),
        (format!("at_time={}", at(30)), 4, Some(5), 6, false),
        ("at_time=9999-12-31T23:59:59Z".to_owned(), 4, Some(5), 6, false),
        // An offset: 10 s after the start, two hours ahead of UTC; the + need not be encoded.
        ("at_time=2024-01-10T02:00:10+02:00".to_owned(), 2, Some(3), 3, true),
    ];
    let balances = [json!(null), json!(1000), json!(1500), json!(1300), json!(1301)];
    for (parameter, version, position, as_of, settled) in cases {
        let reply = server.get(&format!("/api/v1/aggregates/acc-123?{parameter}")).await;
        assert_eq!(reply.status, 200, "{parameter}: {}", reply.text());
        let body = reply.json();
        assert_eq!((&body["version"], &body["position"]), (&json!(version), &json!(position)), "{parameter}");
        assert_eq!((&body["as_of_position"], &body["settled"]), (&json!(as_of), &json!(settled)), "{parameter}");
        assert_eq!(body["state"]["balance"], balances[version], "{parameter}");
        assert_eq!(reply.header("etag"), Some(format!("\"{version}\"").as_str()));
        // What an answer names can be asked for again.
        let again = server.get(&format!("/api/v1/aggregates/acc-123?at_position={as_of}")).await.json();
        assert_eq!((&again["state"], &again["version"]), (&body["state"], &body["version"]), "{parameter}");
        if let Some(time) = parameter.strip_prefix("at_time=") {
            let asked = temporal(&server, &json!({ "aggregate_id": "acc-123", "at": time })).await;
            assert_eq!(asked.json(), body, "{time}");
        }
    }
    let now = server.get("/api/v1/aggregates/acc-123").await.json();
    assert!(now.get("settled").is_none() && now.get("as_of_position").is_none(), "{now}");
}

#[tokio::test]
async fn both_ends_of_a_range_are_inclusive() {
    let server = with_history().await;
    let cases = [
        (0, 30, vec![1, 2, 3, 4], json!(1000), json!(1301)),
        (1, 9, vec![], json!(1000), json!(1000)),
        (10, 10, vec![2], json!(1500), json!(1500)),
        (10, 20, vec![2, 3, 4], json!(1500), json!(1301)),
        (11, 19, vec![], json!(1500), json!(1500)),
        (20, 25, vec![3, 4], json!(1301), json!(1301)),
        (-9, -1, vec![], json!(null), json!(null)),
        (40, 50, vec![], json!(1301), json!(1301)),
    ];
    for (from, to, expected, at_from, at_to) in cases {
        let range = json!({ "aggregate_id": "acc-123", "from_time": at(from), "to_time": at(to) });
        let body = temporal(&server, &range).await.json();
        assert_eq!(sequences(&body), expected, "{from} to {to}");
        assert_eq!((&body["state_at_from"]["balance"], &body["state_at_to"]["balance"]), (&at_from, &at_to));
        assert_eq!(body["settled"], json!(to < 30), "{from} to {to}");
        for (end, time) in [("state_at_from", from), ("state_at_to", to)] {
            let alone = temporal(&server, &json!({ "aggregate_id": "acc-123", "at": at(time) })).await.json();
            assert_eq!(body[end], alone["state"], "{end} of {from} to {to}");
        }
    }
}

#[tokio::test]
async fn a_range_is_read_in_pages() {
    let server = with_history().await;
    let range = json!({ "aggregate_id": "acc-123", "from_time": at(0), "to_time": at(20) }).to_string();
    let mut cursor = String::new();
    for (expected, next) in [(vec![1, 2], json!(3)), (vec![3, 4], json!(null))] {
        let page = server.post(&format!("/api/v1/temporal-query?limit=2{cursor}"), &range).await.json();
        assert_eq!((sequences(&page), &page["next_cursor"]), (expected, &next));
        assert_eq!(page["state_at_to"]["balance"], 1301, "of the range, not of the page");
        cursor = format!("&cursor={next}");
    }
    let past = server.post("/api/v1/temporal-query?cursor=5", &range).await.json();
    assert_eq!((sequences(&past), &past["next_cursor"]), (vec![], &json!(null)));
}

#[tokio::test]
async fn differences_are_paths() {
    let server = with_history().await;
    let diff = async |query: &str| server.get(&format!("/api/v1/aggregates/acc-123/diff{query}")).await.json();
    let balance = |from: u64, to: u64| json!([{ "path": "/balance", "from": from, "to": to }]);
    assert_eq!(diff("?from_sequence=1&to_sequence=2").await["changes"], balance(1000, 1500));
    assert_eq!(diff("?from_sequence=2&to_sequence=1").await["changes"], balance(1500, 1000));
    let whole = diff("").await;
    let opened = json!({ "account_id": "acc-123", "owner": "John Doe", "balance": 1301, "status": "open" });
    assert_eq!(whole["changes"], json!([{ "path": "", "from": null, "to": opened }]));
    assert_eq!((&whole["from_sequence"], &whole["to_sequence"]), (&json!(0), &json!(4)));
    let beyond = diff("?from_sequence=4&to_sequence=99").await;
    assert_eq!((&beyond["changes"], &beyond["to_sequence"]), (&json!([]), &json!(4)));
    assert_eq!(server.get("/api/v1/aggregates/nobody/diff").await.status, 404);
    assert_eq!(server.get("/api/v1/aggregates/acc-123/diff?from_sequence=x").await.status, 422);
}

#[tokio::test]
async fn what_is_wrong_with_a_question_about_the_past_is_told() {
    let server = with_history().await;
    let wrong_bodies = [
        (json!({ "aggregate_id": "acc-123", "at": "2024-01-01T00:00:00" }), 400, "invalid-time", "/at"),
        (json!({ "aggregate_id": "acc-123", "at": "2024-01-01" }), 400, "invalid-time", "/at"),
        (json!({ "aggregate_id": "acc-123", "at": "yesterday" }), 400, "invalid-time", "/at"),
        (
            json!({ "aggregate_id": "acc-123", "from_time": at(0), "to_time": "2024-01-01T00:00:00" }),
            400,
            "invalid-time",
            "/to_time",
        ),
        (json!({ "aggregate_id": "acc-123", "at": 7 }), 400, "malformed-body", "/at"),
        (json!({ "aggregate_id": "acc-123", "at": at(0), "to_time": at(1) }), 400, "malformed-body", "/at"),
        (json!({ "aggregate_id": "acc-123", "from_time": at(0) }), 400, "malformed-body", "/to_time"),
        (json!({ "aggregate_id": "acc-123" }), 400, "malformed-body", "/from_time"),
        (json!({ "at": at(0) }), 400, "malformed-body", "/aggregate_id"),
        (json!({ "aggregate_id": "", "at": at(0) }), 400, "invalid-id", "/aggregate_id"),
        (
            json!({ "aggregate_id": "acc-123", "from_time": at(1), "to_time": at(0) }),
            422,
            "validation-failed",
            "/to_time",
        ),
    ];
    for (body, status, code, pointer) in wrong_bodies {
        let reply = temporal(&server, &body).await;
        let problem = reply.json();
        assert_eq!((reply.status, &problem["code"]), (status, &json!(code)), "{body}: {problem}");
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{body}: {problem}");
    }
    for body in [
        json!({ "aggregate_id": "nobody", "at": at(0) }),
        json!({ "aggregate_id": "nobody", "from_time": at(0), "to_time": at(1) }),
        json!({ "aggregate_id": "nobody", "from_time": at(1), "to_time": at(0) }),
    ] {
        assert_eq!(temporal(&server, &body).await.json()["code"], "unknown-aggregate", "{body}");
    }
    let shown = async |query: &str| server.get(&format!("/api/v1/aggregates/acc-123?{query}")).await;
    for (query, status, code) in [
        ("at_time=2024-01-01T00:00:00", 400, "invalid-time"),
        ("at_time=", 400, "invalid-time"),
        ("at_sequence=-1", 422, "validation-failed"),
        ("at_position=1.5", 422, "validation-failed"),
        ("at_sequence=1&at_position=1", 422, "validation-failed"),
        ("at_sequence=1&at_time=2024-01-01T00:00:00Z", 422, "validation-failed"),
    ] {
        let reply = shown(query).await;
        assert_eq!((reply.status, &reply.json()["code"]), (status, &json!(code)), "{query}");
    }
    assert_eq!(server.get("/api/v1/aggregates/nobody?at_position=1").await.status, 404);
}

#[tokio::test]
async fn generic_streams_have_a_past_without_a_state() {
    let (server, clock) = server().await;
    let append = async |value: u64| {
        let body =
            json!({ "aggregate_id": "s", "aggregate_type": "sensor", "event_type": "Read", "data": { "v": value } });
        assert_eq!(server.post("/api/v1/events", &body.to_string()).await.status, 201);
    };
    append(1).await;
    clock.advance(Duration::seconds(1));
    append(2).await;
    let range = json!({ "aggregate_id": "s", "from_time": at(1), "to_time": at(1) });
    let body = temporal(&server, &range).await.json();
    assert_eq!((sequences(&body), &body["state_at_to"]), (vec![2], &json!(null)));
    assert_eq!(server.get("/api/v1/aggregates/s?at_position=1").await.json()["version"], 1);
    assert_eq!(server.get("/api/v1/aggregates/s/diff").await.json()["changes"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_as_of_a_position_is_what_was_answered_there() {
    let server = TestServer::with_views().await;
    let steps = [
        ("CreateAccount", "a", json!({ "owner": "A", "initial_balance": 100 })),
        ("CreateAccount", "b", json!({ "owner": "B", "initial_balance": 0 })),
        ("WithdrawMoney", "a", json!({ "amount": 10, "transfer_id": "t" })),
        ("DepositMoney", "b", json!({ "amount": 10, "transfer_id": "t" })),
        ("CreateInventoryItem", "p", json!({ "name": "P", "initial_quantity": 9, "low_stock_threshold": 3 })),
        (
            "CreateOrder",
            "o",
            json!({ "customer_id": "c", "items": [{ "product_id": "p", "quantity": 2, "unit_price": 5 }] }),
        ),
        ("ReserveStock", "p", json!({ "order_id": "o", "quantity": 2 })),
        ("ConfirmOrder", "o", json!({})),
        ("RegisterUser", "u", json!({ "email": "u@example.org", "name": "U" })),
        ("LogInUser", "u", json!({ "session_id": "s" })),
        ("ShipStock", "p", json!({ "order_id": "o" })),
        ("CancelOrder", "o", json!({ "reason": "r" })),
        ("LogOutUser", "u", json!({ "session_id": "s" })),
    ];
    let queries = [
        json!({ "query_type": "GetAccountBalance", "filters": { "account_id": "a" } }),
        json!({ "query_type": "GetAccountBalance", "filters": { "account_id": "b" } }),
        json!({ "query_type": "GetStock", "filters": { "product_id": "p" } }),
        json!({ "query_type": "GetOrder", "filters": { "order_id": "o" } }),
        json!({ "query_type": "GetUser", "filters": { "user_id": "u" } }),
    ];
    let ask = async |query: &Value, header: (&str, &str)| {
        server.post_with("/api/v1/queries", &[header], &query.to_string()).await
    };
    let mut answered = Vec::new();
    for (command, id, data) in steps {
        let reply = server.command(command, id, data).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        let position = reply.json()["position"].to_string();
        for query in &queries {
            answered.push((query, position.clone(), ask(query, ("es-min-position", &position)).await));
        }
    }
    for (query, position, then) in &answered {
        let now = ask(query, ("es-as-of-position", position)).await;
        assert_eq!(now.status, then.status, "{query} at {position}: {}", now.text());
        let (now, then) = (now.json(), then.json());
        assert_eq!(now["data"], then["data"], "{query} at {position}");
        assert_eq!((&now["position"].to_string(), &now["stale"]), (position, &json!(false)), "{now}");
    }
    for status in [200, 404] {
        assert!(answered.iter().any(|(_, _, then)| then.status == status));
    }
    let beyond = ask(&queries[0], ("es-as-of-position", "99")).await.json();
    assert_eq!((&beyond["position"], &beyond["stale"]), (&json!(13), &json!(true)), "what comes next may belong to it");
    for (query, headers, status) in [
        (json!({ "query_type": "ListAccounts" }), vec![("es-as-of-position", "1")], 422),
        (
            json!({ "query_type": "GetTransfers", "filters": { "account_id": "a" } }),
            vec![("es-as-of-position", "1")],
            422,
        ),
        (queries[0].clone(), vec![("es-as-of-position", "one")], 400),
        (queries[0].clone(), vec![("es-as-of-position", "1"), ("es-min-position", "1")], 400),
    ] {
        let reply = server.post_with("/api/v1/queries", &headers, &query.to_string()).await;
        assert_eq!(reply.status, status, "{query} {headers:?}: {}", reply.text());
        if status == 422 {
            let said = reply.json()["errors"][0].clone();
            assert_eq!(said["pointer"], "/query_type", "{said}");
            let next = "ask for single rows, or for the states of aggregates at that position";
            assert!(said["detail"].as_str().unwrap().ends_with(next), "{said}");
        }
    }
}
