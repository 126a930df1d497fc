//! Commands and raw appends: idempotency, preconditions, ids, dry runs, and the bytes of numbers.

use std::sync::Arc;

use serde_json::json;

use crate::support::http::TestServer;

const DEPOSIT: &str = r#"{"command_type":"DepositMoney","aggregate_id":"a","data":{"amount":5}}"#;

#[tokio::test]
async fn a_repeated_key_gets_the_recorded_answer_and_another_request_does_not() {
    let server = TestServer::start().await;
    server.account("a", 10).await;
    let key = [("idempotency-key", "k-1")];
    let first = server.post_with("/api/v1/commands", &key, DEPOSIT).await;
    assert_eq!((first.status, first.header("idempotency-replayed")), (200, None));
    let second = server.post_with("/api/v1/commands", &key, DEPOSIT).await;
    assert_eq!((second.status, second.header("idempotency-replayed")), (200, Some("true")));
    assert_eq!(first.json(), second.json());

    for (path, headers, body) in [
        ("/api/v1/commands", vec![key[0]], DEPOSIT.replace('5', "6")),
        ("/api/v1/commands", vec![key[0], ("if-match", "\"2\"")], DEPOSIT.to_owned()),
        ("/api/v1/commands?dry_run=false", vec![key[0]], DEPOSIT.to_owned()),
    ] {
        let other = server.post_with(path, &headers, &body).await;
        assert_eq!((other.status, &other.json()["code"]), (422, &json!("idempotency-key-reused")), "{path}");
    }
    assert_eq!(server.get("/api/v1/aggregates/a").await.json()["state"]["balance"], 15);
}

#[tokio::test]
async fn refusals_and_failed_preconditions_are_replayed_too() {
    let server = TestServer::start().await;
    server.account("a", 1).await;
    let withdraw = r#"{"command_type":"WithdrawMoney","aggregate_id":"a","data":{"amount":5}}"#;
    for (headers, body, status, code) in [
        (vec![("idempotency-key", "r")], withdraw, 422, "domain-rejected"),
        (vec![("idempotency-key", "p"), ("if-match", "\"7\"")], DEPOSIT, 412, "precondition-failed"),
    ] {
        let first = server.post_with("/api/v1/commands", &headers, body).await;
        assert_eq!((first.status, first.header("idempotency-replayed")), (status, None), "{}", first.text());
        assert_eq!(first.json()["code"], code);
        server.account(code, 1).await;
        let second = server.post_with("/api/v1/commands", &headers, body).await;
        assert_eq!((second.status, second.header("idempotency-replayed")), (status, Some("true")), "{code}");
        assert_eq!(second.json()["code"], code);
    }
}

#[tokio::test]
async fn concurrent_duplicates_have_one_effect_and_one_answer() {
    let server = Arc::new(TestServer::start().await);
    server.account("a", 0).await;
    let sends = (0..20).map(|_| {
        let server = server.clone();
        tokio::spawn(async move { server.post_with("/api/v1/commands", &[("idempotency-key", "k")], DEPOSIT).await })
    });
    let replies = futures_util::future::join_all(sends).await;
    let replies: Vec<_> = replies.into_iter().map(Result::unwrap).collect();
    assert!(replies.iter().all(|reply| reply.status == 200 && reply.json() == replies[0].json()));
    assert_eq!(replies.iter().filter(|reply| reply.header("idempotency-replayed").is_none()).count(), 1);
    assert_eq!(server.get("/api/v1/aggregates/a").await.json()["version"], 2);
}

#[tokio::test]
async fn a_demanded_version_is_held_against_the_streams() {
    let server = TestServer::start().await;
    server.account("a", 10).await;
    let try_with = async |name: &str, value: &str| {
        let reply = server.post_with("/api/v1/commands", &[(name, value)], DEPOSIT).await;
        (reply.status, reply.json())
    };
    let (status, problem) = try_with("if-match", "\"0\"").await;
    assert_eq!(
        (status, &problem["code"], &problem["current_version"]),
        (412, &json!("precondition-failed"), &json!(1))
    );
    let (status, problem) = try_with("if-none-match", "*").await;
    assert_eq!((status, &problem["current_version"]), (412, &json!(1)));
    assert_eq!(try_with("if-match", "\"1\"").await.0, 200);
    assert_eq!(try_with("if-match", "\"1\"").await.0, 412);
    for wrong in ["1", "*", "W/\"1\"", "\"1\", \"2\"", "\"x\"", "\"\"", "\"-1\""] {
        let (status, problem) = try_with("if-match", wrong).await;
        assert_eq!((status, &problem["code"]), (400, &json!("malformed-header")), "{wrong}");
    }
    assert_eq!(try_with("if-none-match", "\"1\"").await.0, 400);
    // Wrong input is told after a wrong version.
    let invalid = DEPOSIT.replace('5', "-5");
    let reply = server.post_with("/api/v1/commands", &[("if-match", "\"9\"")], &invalid).await;
    assert_eq!(reply.status, 412);
    let reply = server.post_with("/api/v1/commands?dryrun=1", &[("if-match", "\"9\"")], DEPOSIT).await;
    assert_eq!(reply.status, 412);
}

#[tokio::test]
async fn a_dry_run_decides_and_appends_nothing() {
    let server = TestServer::start().await;
    server.account("a", 10).await;
    let reply = server.post("/api/v1/commands?dry_run=true", DEPOSIT).await;
    let body = reply.json();
    assert_eq!((reply.status, &body["dry_run"], &body["version"]), (200, &json!(true), &json!(2)));
    assert_eq!((&body["position"], &body["events"][0]["position"]), (&json!(null), &json!(null)));
    assert_eq!(reply.header("etag"), None);
    assert_eq!(server.get("/api/v1/events/a").await.json()["version"], 1);
    let refused = r#"{"command_type":"WithdrawMoney","aggregate_id":"a","data":{"amount":50}}"#;
    let reply = server.post("/api/v1/commands?dry_run=true", refused).await;
    assert_eq!((reply.status, &reply.json()["rejection"]), (422, &json!("insufficient-funds")));
}

#[tokio::test]
async fn any_id_of_255_bytes_without_control_characters_works_everywhere() {
    let server = TestServer::start().await;
    let long = "x".repeat(255);
    for id in ["a/b", "日本 ü", "100%", "a?b#c", "..", "+&=;", "\u{1F600}", long.as_str()] {
        server.account(id, 7).await;
        let encoded = percent_encoding::utf8_percent_encode(id, percent_encoding::NON_ALPHANUMERIC).to_string();
        for path in [format!("/api/v1/events/{encoded}"), format!("/api/v1/aggregates/{encoded}")] {
            let reply = server.get(&path).await;
            assert_eq!((reply.status, &reply.json()["aggregate_id"]), (200, &json!(id)), "{path}");
        }
        let created = server.command("DepositMoney", id, json!({ "amount": 1 })).await;
        let shown = server.get(created.header("location").unwrap()).await;
        assert_eq!(shown.json()["state"]["balance"], 8, "{id}");
    }
    for path in ["%00", "a%0Ab", "%", "%4", "%zz", "%ff", &"x".repeat(256), "%C2%85", ""] {
        let reply = server.get(&format!("/api/v1/events/{path}")).await;
        assert_eq!((reply.status, &reply.json()["code"]), (400, &json!("invalid-id")), "{path:?}");
    }
    for id in ["", "a\u{0}", "a\nb", &"é".repeat(128)] {
        let reply = server.command("CloseAccount", id, json!({})).await;
        assert_eq!((reply.status, &reply.json()["code"]), (400, &json!("invalid-id")), "{id:?}");
        assert_eq!(reply.json()["errors"][0]["pointer"], "/aggregate_id");
    }
}

#[tokio::test]
async fn appended_events_keep_the_bytes_of_their_numbers() {
    let server = TestServer::start().await;
    let data =
        r#"{"big":9007199254740993,"long":0.1000000000000000055511151231257827,"e":1E400,"z":-0.0,"dup":[1, 2 ,3]}"#;
    let body = format!(r#"{{"aggregate_id":"g","aggregate_type":"note","event_type":"Noted","data":{data}}}"#);
    let reply = server.post("/api/v1/events", &body).await;
    assert_eq!((reply.status, reply.header("etag")), (201, Some("\"1\"")), "{}", reply.text());
    assert_eq!(reply.json()["events"][0]["event_type"], "Noted");
    for path in ["/api/v1/events/g", "/api/v1/events"] {
        assert!(server.get(path).await.text().contains(data), "{path}");
    }
    let replay = server.post("/api/v1/replay", r#"{"aggregate_id":"g"}"#).await;
    assert!(replay.text().contains(data));
    assert!(replay.text().contains(r#""state":null"#));
}

#[tokio::test]
async fn raw_appends_go_all_or_nothing_through_the_aggregate() {
    let server = TestServer::start().await;
    server.account("a", 10).await;
    let batch = |second: &str| {
        format!(
            r#"{{"aggregate_id":"a","events":[{{"event_type":"MoneyDeposited","data":{{"amount":1,"note":"kept"}}}},{second}]}}"#
        )
    };
    for (second, status, code, pointer) in [
        (r#"{"event_type":"MoneyDeposited","data":{"amount":"x"}}"#, 422, "validation-failed", "/events/1/data/amount"),
        (r#"{"event_type":"MoneyDeposited","date":{}}"#, 422, "validation-failed", "/events/1/date"),
        (r#"{"data":{}}"#, 422, "validation-failed", "/events/1/event_type"),
        (r#"{"event_type":"MoneyDeposited","event_id":"no"}"#, 422, "validation-failed", "/events/1/event_id"),
        (r#"{"event_type":"OrderPaid","data":{}}"#, 422, "unknown-event-type", "/events/1/event_type"),
        (
            r#"{"event_type":"MoneyDeposited","data":{"amount":1,"account_id":"b"}}"#,
            422,
            "validation-failed",
            "/events/1/data/account_id",
        ),
        (r#"{"event_type":"MoneyDeposited","data":{"amount":0}}"#, 422, "validation-failed", "/events/1/data/amount"),
        (r#"7"#, 422, "validation-failed", "/events/1"),
    ] {
        let reply = server.post("/api/v1/events", &batch(second)).await;
        assert_eq!((reply.status, &reply.json()["code"]), (status, &json!(code)), "{second}: {}", reply.text());
        assert_eq!(reply.json()["errors"][0]["pointer"], pointer, "{second}");
    }
    let overdrawn = r#"{"event_type":"MoneyWithdrawn","data":{"amount":100}}"#;
    let reply = server.post("/api/v1/events", &batch(overdrawn)).await;
    assert_eq!((reply.status, &reply.json()["rejection"]), (422, &json!("insufficient-funds")));
    assert_eq!(server.get("/api/v1/events/a").await.json()["version"], 1);
    let own = r#"{"aggregate_id":"own","event_type":"AccountCreated","data":{"account_id":"own","owner":"o","initial_balance":1}}"#;
    assert_eq!(server.post("/api/v1/events", own).await.status, 201);

    let id = "0192d3a0-0000-7000-8000-000000000001";
    let with_id = format!(r#"{{"event_type":"MoneyDeposited","data":{{"amount":2}},"event_id":"{id}"}}"#);
    let first = server.post("/api/v1/events", &batch(&with_id)).await;
    assert_eq!(first.status, 201, "{}", first.text());
    assert_eq!(first.json()["events"][1]["event_id"], id);
    assert_eq!(server.get("/api/v1/aggregates/a").await.json()["state"]["balance"], 13);
    let single = format!(r#"{{"aggregate_id":"a","events":[{}]}}"#, with_id.replace("2}", "3}"));
    let reused = server.post("/api/v1/events", &single).await;
    assert_eq!((reused.status, &reused.json()["code"]), (409, &json!("event-id-reused")), "{}", reused.text());

    let many = vec![r#"{"event_type":"MoneyDeposited","data":{"amount":1}}"#; 1001].join(",");
    let reply = server.post("/api/v1/events", &format!(r#"{{"aggregate_id":"a","events":[{many}]}}"#)).await;
    assert_eq!((reply.status, &reply.json()["errors"][0]["pointer"]), (422, &json!("/events")));
    let untyped = server.post("/api/v1/events", r#"{"aggregate_id":"new","event_type":"Free"}"#).await;
    assert_eq!((untyped.status, &untyped.json()["errors"][0]["pointer"]), (422, &json!("/aggregate_type")));
}

#[tokio::test]
async fn the_envelope_of_a_request_is_recorded_and_answered_back() {
    let server = TestServer::start().await;
    server.account("a", 1).await;
    let traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let headers = [
        ("x-correlation-id", "corr-1"),
        ("x-causation-id", "cause-1"),
        ("traceparent", traceparent),
        ("x-request-id", "req-1"),
    ];
    let reply = server.post_with("/api/v1/commands", &headers, DEPOSIT).await;
    for (name, value) in headers {
        assert_eq!(reply.header(name), Some(value));
    }
    let metadata = &server.get("/api/v1/events/a?from_sequence=2").await.json()["events"][0]["metadata"];
    assert_eq!(metadata["correlation_id"], "corr-1");
    assert_eq!(metadata["causation_id"], "cause-1");
    assert_eq!(metadata["traceparent"], traceparent);

    let reply = server.post_with("/api/v1/commands", &[("traceparent", "nonsense")], DEPOSIT).await;
    assert_eq!(reply.status, 200);
    assert_ne!(reply.header("traceparent"), Some("nonsense"));
    for name in ["x-request-id", "x-correlation-id", "x-causation-id", "traceparent"] {
        assert!(reply.header(name).is_some(), "{name} is made when absent");
    }
    let problem = server.send("GET", "/nowhere", &[("traceparent", traceparent)], b"").await;
    assert_eq!(problem.json()["trace_id"], "4bf92f3577b34da6a3ce929d0e0e4736");
    let spaced = server.post_with("/api/v1/commands", &[("x-correlation-id", "a b")], DEPOSIT).await;
    assert_eq!(spaced.status, 400);
}
