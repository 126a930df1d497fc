//! Live events: caught up, then followed, each once and in order.

use std::{sync::Arc, time::Duration};

use event_sourcing_cqrs::http::HttpOptions;
use serde_json::{Value, json};

use crate::support::http::{Live, TestServer};

const LINES: [(&str, &str); 1] = [("accept", "application/x-ndjson")];
const STREAM: [(&str, &str); 1] = [("accept", "text/event-stream")];

async fn deposit(server: &TestServer, id: &str) {
    assert_eq!(server.command("DepositMoney", id, json!({ "amount": 1 })).await.status, 200);
}

/// Position of the next server-sent event.
async fn next_event(live: &mut Live) -> Value {
    loop {
        let line = live.line().await.expect("one more event");
        if let Some(id) = line.strip_prefix("id: ") {
            let data = live.line().await.unwrap();
            let event: Value = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
            assert_eq!(event["position"].to_string(), id);
            assert_eq!(live.line().await.as_deref(), Some(""));
            return event;
        }
        assert!(line.is_empty() || line.starts_with(':'), "unexpected {line:?}");
    }
}

#[tokio::test]
async fn followers_see_every_event_once_while_writers_write() {
    let server = Arc::new(TestServer::start().await);
    server.account("a", 0).await;
    let writer = tokio::spawn({
        let server = server.clone();
        async move {
            for _ in 0..60 {
                deposit(&server, "a").await;
            }
        }
    });
    let mut lines = Live::new(server.open("GET", "/api/v1/events", &LINES, b"").await);
    let mut stream = Live::new(server.open("GET", "/api/v1/events/a", &STREAM, b"").await);
    for position in 1..=61 {
        let event: Value = serde_json::from_str(&lines.line().await.unwrap()).unwrap();
        assert_eq!(event["position"], position);
        assert_eq!(next_event(&mut stream).await["sequence"], position);
    }
    writer.await.unwrap();
}

#[tokio::test]
async fn a_stream_goes_on_after_the_last_event_id() {
    let server = TestServer::start().await;
    server.account("a", 0).await;
    server.account("b", 0).await;
    deposit(&server, "a").await;
    let after = [STREAM[0], ("last-event-id", "1")];
    let mut log = Live::new(server.open("GET", "/api/v1/events?after=0", &after, b"").await);
    assert_eq!(next_event(&mut log).await["position"], 2);
    let mut own = Live::new(server.open("GET", "/api/v1/events/a?after=1", &STREAM, b"").await);
    assert_eq!(next_event(&mut own).await["position"], 3);
    let filtered = "/api/v1/events?event_type=AccountCreated&after=1";
    let mut filtered = Live::new(server.open("GET", filtered, &STREAM, b"").await);
    assert_eq!(next_event(&mut filtered).await["position"], 2);
    let wrong = server.send("GET", "/api/v1/events", &[STREAM[0], ("last-event-id", "x")], b"").await;
    assert_eq!(wrong.status, 400);
    assert_eq!(server.send("GET", "/api/v1/events/unknown", &STREAM, b"").await.status, 404);
}

#[tokio::test]
async fn lines_without_following_end_at_the_head() {
    let server = TestServer::start().await;
    server.account("a", 0).await;
    deposit(&server, "a").await;
    server.account("b", 0).await;
    let spread = "{\"aggregate_id\":\"g\",\"aggregate_type\":\"t\",\"event_type\":\"T\",\"data\":{\n\"x\":\r\n1}}";
    assert_eq!(server.post("/api/v1/events", spread).await.status, 201);
    for (path, count) in [
        ("/api/v1/events?follow=false", 4),
        ("/api/v1/events?follow=false&after=3", 1),
        ("/api/v1/events?follow=false&after=9", 0),
        ("/api/v1/events?follow=false&event_type=MoneyDeposited", 1),
        ("/api/v1/events/a?follow=false", 2),
        ("/api/v1/events/a?follow=false&after=1", 1),
        ("/api/v1/events/a?follow=false&after=2", 0),
        ("/api/v1/events/a?follow=false&from_sequence=3", 0),
    ] {
        let reply = server.send("GET", path, &LINES, b"").await;
        let lines: Vec<Value> = reply.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!((reply.header("content-type"), lines.len()), (Some("application/x-ndjson"), count), "{path}");
    }
}

#[tokio::test]
async fn a_silent_stream_has_comments() {
    let options = HttpOptions { stream_comment: Duration::from_millis(20), ..HttpOptions::default() };
    let server = TestServer::start_with(options, |context| context).await;
    let mut live = Live::new(server.open("GET", "/api/v1/events", &STREAM, b"").await);
    assert_eq!(live.line().await.as_deref(), Some(":"));
    server.account("a", 0).await;
    assert_eq!(next_event(&mut live).await["position"], 1);
}

#[tokio::test]
async fn open_streams_do_not_hold_up_the_end() {
    let server = TestServer::start().await;
    server.account("a", 0).await;
    let mut stream = Live::new(server.open("GET", "/api/v1/events", &STREAM, b"").await);
    let mut lines = Live::new(server.open("GET", "/api/v1/events/a", &LINES, b"").await);
    next_event(&mut stream).await;
    lines.line().await.unwrap();
    server.shutdown.cancel();
    let drained =
        tokio::time::timeout(Duration::from_secs(3), server.serving).await.expect("an end within 3 s").unwrap();
    assert_eq!(drained.connections_cut, 0);
    assert_eq!(stream.line().await, None);
    assert_eq!(lines.line().await, None);
}
