//! Everything that goes wrong is `application/problem+json` with a documented code.

use serde_json::{Value, json};

use crate::support::http::{Reply, TestServer};

fn assert_problem(reply: &Reply, status: u16, code: &str) {
    assert_eq!(reply.status, status, "{code}: {}", reply.text());
    assert_eq!(reply.header("content-type"), Some("application/problem+json"));
    assert_eq!(reply.header("x-content-type-options"), Some("nosniff"));
    assert!(reply.header("x-request-id").is_some());
    let body = reply.json();
    assert_eq!(body["type"], format!("/problems/{code}"));
    assert_eq!((&body["code"], &body["status"]), (&json!(code), &json!(status)));
    for member in ["title", "detail", "instance", "trace_id"] {
        assert!(body[member].as_str().is_some_and(|text| !text.is_empty()), "{member} of {body}");
    }
    assert_eq!(reply.header("retry-after").is_some(), status == 503 || code == "idempotency-in-progress");
}

#[tokio::test]
async fn each_mistake_has_its_code() {
    let server = TestServer::start().await;
    server.account("a", 10).await;
    let command = |kind: &str, data: Value| json!({ "command_type": kind, "aggregate_id": "a", "data": data });
    let cases = [
        (command("DepositMoney", json!({ "amount": -1 })), 422, "validation-failed", Some("/data/amount")),
        (command("DepositMoney", json!({ "amount": 1.5 })), 422, "validation-failed", Some("/data/amount")),
        (command("DepositMoney", json!({})), 422, "validation-failed", Some("/data/amount")),
        (command("DepositMoney", json!({ "amount": 1, "x": 1 })), 422, "validation-failed", Some("/data/x")),
        (
            command("DepositMoney", json!({ "amount": 1, "account_id": "b" })),
            422,
            "validation-failed",
            Some("/data/account_id"),
        ),
        (command("DepositMony", json!({})), 422, "unknown-command-type", Some("/command_type")),
        (command("WithdrawMoney", json!({ "amount": 11 })), 422, "domain-rejected", None),
        (command("CreateAccount", json!({ "owner": "o", "initial_balance": 0 })), 422, "domain-rejected", None),
        (command("ConfirmOrder", json!({})), 409, "aggregate-type-mismatch", None),
        (command("DepositMoney", json!([])), 400, "malformed-body", Some("/data")),
        (json!({ "command_type": 1, "aggregate_id": "a" }), 400, "malformed-body", Some("/command_type")),
        (json!({ "command_type": "CloseAccount" }), 400, "malformed-body", Some("/aggregate_id")),
        (
            json!({ "command_type": "CloseAccount", "aggregate_id": "a", "dta": {} }),
            400,
            "malformed-body",
            Some("/dta"),
        ),
        (json!([]), 400, "malformed-body", Some("")),
    ];
    for (body, status, code, pointer) in cases {
        let reply = server.post("/api/v1/commands", &body.to_string()).await;
        assert_problem(&reply, status, code);
        assert_eq!(reply.json()["errors"][0]["pointer"].as_str(), pointer, "{body}");
    }
    let near = server.post("/api/v1/commands", &command("DepositMony", json!({})).to_string()).await.json();
    assert_eq!(near["nearest"][0], "DepositMoney");
    let refused = server.post("/api/v1/commands", &command("WithdrawMoney", json!({ "amount": 11 })).to_string()).await;
    assert_eq!(refused.json()["rejection"], "insufficient-funds");
    let saga = r#"{"aggregate_id":"s","aggregate_type":"saga","event_type":"X"}"#;
    assert_problem(&server.post("/api/v1/events", saga).await, 409, "reserved-stream");
    assert_problem(&server.get("/api/v1/events/unknown").await, 404, "unknown-aggregate");
    assert_problem(&server.get("/api/v1/aggregates/unknown").await, 404, "unknown-aggregate");
    assert_problem(&server.get("/api/v1/sagas/unknown").await, 404, "unknown-saga");
    let no_saga = r#"{"saga_type":"TransferSaga"}"#;
    assert_problem(&server.post("/api/v1/sagas", no_saga).await, 422, "unknown-saga-type");
    let reply = server.send("GET", "/api/v1/sagas", &[("accept", "image/png")], b"").await;
    assert_problem(&reply, 406, "not-acceptable");
    assert_problem(&server.post("/api/v1/replay", r#"{"aggregate_id":"unknown"}"#).await, 404, "unknown-aggregate");
    assert_problem(&server.get("/api/v1/nothing").await, 404, "not-found");
    assert_problem(&server.get("/api/v1/commands/").await, 404, "not-found");
    assert_problem(&server.get("/problems/nothing").await, 404, "not-found");
    assert_problem(&server.get("/api/v1/events?from_time=2024-01-01T00:00:00").await, 400, "invalid-time");
    let reply = server.send("GET", "/api/v1/events", &[("accept", "image/png")], b"").await;
    assert_problem(&reply, 406, "not-acceptable");
    let key = "k".repeat(256);
    let close = command("CloseAccount", json!({})).to_string();
    for key in [key.as_str(), "a b", ""] {
        let reply = server.post_with("/api/v1/commands", &[("idempotency-key", key)], &close).await;
        assert_problem(&reply, 400, "malformed-header");
    }
}

#[tokio::test]
async fn every_code_has_a_page() {
    let server = TestServer::start().await;
    for code in ["malformed-body", "insufficient", "domain-rejected", "outcome-unknown", "integrity-violation"] {
        let page = server.get(&format!("/problems/{code}")).await;
        assert_eq!(page.status, if code == "insufficient" { 404 } else { 200 }, "{code}");
    }
}

#[tokio::test]
async fn a_problem_begins_with_what_people_look_for() {
    let server = TestServer::start().await;
    let reply = server.get("/api/v1/aggregates?limit=0").await;
    let text = reply.text();
    let members = ["type", "title", "status", "detail", "instance", "code", "trace_id", "errors", "pointer"];
    let places: Vec<_> = members.iter().map(|name| text.find(&format!("\"{name}\":")).unwrap()).collect();
    assert!(places.is_sorted(), "{text}");
}

#[tokio::test]
async fn wrong_parameters_are_named() {
    let server = TestServer::start().await;
    server.account("a", 10).await;
    for (path, pointer) in [
        ("/api/v1/events?limt=5", "/query/limt"),
        ("/api/v1/events?limit=1001", "/query/limit"),
        ("/api/v1/events?limit=0", "/query/limit"),
        ("/api/v1/events?limit=-1", "/query/limit"),
        ("/api/v1/events?after=x", "/query/after"),
        ("/api/v1/events?after=1&after=2", "/query/after"),
        ("/api/v1/events/a?direction=up", "/query/direction"),
        ("/api/v1/events/a?%zz=1", "/query"),
        ("/api/v1/aggregates?cursor=", "/query/cursor"),
        ("/api/v1/events?direction=backward", "/query/direction"),
        ("/api/v1/aggregates/a?at_sequence=1&at_position=1", "/query/at_sequence"),
    ] {
        let reply = server.get(path).await;
        assert_problem(&reply, 422, "validation-failed");
        assert_eq!(reply.json()["errors"][0]["pointer"], pointer, "{path}");
    }
    assert_eq!(server.get("/api/v1/events?limt=5").await.json()["nearest"], json!(["limit"]));
    let strange = server.get("/api/v1/aggregates?colour=1").await.json();
    assert_eq!(
        strange["errors"][0]["detail"],
        "is not a parameter here; known are branch, aggregate_type, cursor, limit"
    );
    // The unknown stream is told before the wrong parameter.
    assert_problem(&server.get("/api/v1/events/unknown?limt=5").await, 404, "unknown-aggregate");
}

#[tokio::test]
async fn no_method_and_no_body_of_any_route_gets_anything_but_json_problems() {
    let server = TestServer::start().await;
    let deep = "[".repeat(100_000);
    let bodies: [&[u8]; 11] = [
        b"",
        b"{",
        b"nul",
        b"[]",
        b"\"x\"",
        b"{}",
        b"\xff\xfe",
        b"{\"a\":1,\"a\":2}",
        b"{\"aggregate_id\":7}",
        b" ",
        deep.as_bytes(),
    ];
    for (path, _) in event_sourcing_cqrs::http::route_table() {
        let path =
            path.split('/').map(|part| if part.starts_with('{') { "none" } else { part }).collect::<Vec<_>>().join("/");
        for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"] {
            for body in bodies {
                for media in ["application/json", "text/plain"] {
                    let reply = server.send(method, &path, &[("content-type", media)], body).await;
                    assert!(reply.status < 500, "{method} {path} {body:?}: {}", reply.text());
                    if reply.status < 400 {
                        continue;
                    }
                    assert_eq!(reply.header("content-type"), Some("application/problem+json"), "{method} {path}");
                    assert_eq!(reply.status == 405, reply.header("allow").is_some(), "{method} {path}");
                    if method != "HEAD" {
                        assert_eq!(reply.json()["status"], reply.status);
                    }
                }
            }
        }
    }
}

#[tokio::test]
async fn methods_are_told_by_allow() {
    let server = TestServer::start().await;
    let wrong = server.send("DELETE", "/api/v1/events", &[], b"").await;
    assert_problem(&wrong, 405, "method-not-allowed");
    assert_eq!(wrong.header("allow"), Some("GET, POST, HEAD, OPTIONS"));
    let detail = "DELETE is not a method of this path; it takes GET, POST, HEAD, OPTIONS";
    assert_eq!(wrong.json()["detail"], detail);
    let options = server.send("OPTIONS", "/api/v1/commands", &[], b"").await;
    assert_eq!((options.status, options.header("allow")), (204, Some("POST, OPTIONS")));
    let head = server.send("HEAD", "/version", &[], b"").await;
    let get = server.get("/version").await;
    assert_eq!((head.status, head.header("content-type"), head.body.len()), (200, get.header("content-type"), 0));
    assert_eq!(head.header("content-length"), Some(get.body.len().to_string().as_str()));
    let live = server.send("HEAD", "/api/v1/events", &[("accept", "text/event-stream")], b"").await;
    assert_eq!(live.status, 200);
}

#[tokio::test]
async fn a_runtime_that_drains_answers_503() {
    let server = TestServer::start().await;
    server.account("a", 10).await;
    server.runtime.shutdown().await;
    let reply = server.command("CloseAccount", "a", json!({})).await;
    assert_problem(&reply, 503, "draining");
    assert_eq!(server.get("/health/ready").await.status, 503);
    assert_eq!(server.get("/health/live").await.status, 503);
}

/// One raw request; the answer's status, head and body.
async fn raw(server: &TestServer, request: &[u8]) -> (u16, String, serde_json::Value) {
    let answer = String::from_utf8(server.raw(request).await).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{answer:?}"));
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, head.to_owned(), serde_json::from_str(body).unwrap_or_else(|error| panic!("{error} in {answer:?}")))
}

#[tokio::test]
async fn heads_that_are_no_http_get_problems_too() {
    let server = TestServer::start().await;
    let long_header = format!("GET /version HTTP/1.1\r\nhost: t\r\nx-long: {}\r\n\r\n", "x".repeat(200_000));
    let many_headers = format!("GET /version HTTP/1.1\r\nhost: t\r\n{}\r\n", "a: b\r\n".repeat(200));
    let long_path = format!("GET /{} HTTP/1.1\r\nhost: t\r\n\r\n", "x".repeat(66_000));
    let after_another = b"GET /version HTTP/1.1\r\nhost: t\r\n\r\nGARBAGE\r\n\r\n";
    for (request, status, code) in [
        (&b"GARBAGE\r\n\r\n"[..], 400, "malformed-header"),
        (b"GET /version HTTP/1.1\r\nno colon\r\n\r\n", 400, "malformed-header"),
        (b"GET /version HTTP/9.9\r\n\r\n", 400, "malformed-header"),
        (b"POST /api/v1/commands HTTP/1.1\r\nhost: t\r\ncontent-length: x\r\n\r\n", 400, "malformed-header"),
        (long_header.as_bytes(), 431, "head-too-large"),
        (many_headers.as_bytes(), 431, "head-too-large"),
        (long_path.as_bytes(), 414, "uri-too-long"),
    ] {
        let (given, head, problem) = raw(&server, request).await;
        let what = String::from_utf8_lossy(&request[..request.len().min(60)]).into_owned();
        assert_eq!(
            (given, &problem["code"], &problem["status"]),
            (status, &json!(code), &json!(status)),
            "{what}: {head}"
        );
        assert!(head.contains("content-type: application/problem+json") && head.contains("x-request-id: "), "{head}");
    }
    let both = String::from_utf8(server.raw(after_another).await).unwrap();
    assert!(both.starts_with("HTTP/1.1 200 OK") && both.contains("HTTP/1.1 400 Bad Request"), "{both}");
    assert!(both.contains("malformed-header"), "{both}");
}
