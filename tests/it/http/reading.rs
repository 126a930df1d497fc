//! Reading: pages, cursors, entity tags, states, health and what else is there.

use std::time::Duration;

use event_sourcing_cqrs::http::{Health, HealthCheck, HttpOptions};
use futures_util::future::BoxFuture;
use serde_json::{Value, json};

use crate::support::http::TestServer;

fn sequences(page: &Value) -> Vec<u64> {
    page["events"].as_array().unwrap().iter().map(|event| event["sequence"].as_u64().unwrap()).collect()
}

async fn with_events(count: i64) -> TestServer {
    let server = TestServer::start().await;
    server.account("a", 10).await;
    for amount in 1..count {
        assert_eq!(server.command("DepositMoney", "a", json!({ "amount": amount })).await.status, 200);
    }
    server
}

#[tokio::test]
async fn a_stream_is_read_in_pages_in_both_directions() {
    let server = with_events(7).await;
    for (query, expected) in [
        ("limit=3", vec![vec![1, 2, 3], vec![4, 5, 6], vec![7]]),
        ("limit=3&direction=backward", vec![vec![7, 6, 5], vec![4, 3, 2], vec![1]]),
        ("limit=2&from_sequence=3&to_sequence=5", vec![vec![3, 4], vec![5]]),
        ("limit=2&from_sequence=3&to_sequence=5&direction=backward", vec![vec![5, 4], vec![3]]),
        ("from_sequence=0", vec![vec![1, 2, 3, 4, 5, 6, 7]]),
        ("from_sequence=8", vec![vec![]]),
        ("from_sequence=5&to_sequence=3", vec![vec![]]),
        ("from_sequence=18446744073709551615&to_sequence=18446744073709551615", vec![vec![]]),
    ] {
        let mut cursor = String::new();
        for (index, page) in expected.iter().enumerate() {
            let body = server.get(&format!("/api/v1/events/a?{query}{cursor}")).await.json();
            assert_eq!(sequences(&body), *page, "{query}{cursor}");
            assert_eq!(body["next_cursor"].is_null(), index + 1 == expected.len(), "{query}{cursor}");
            cursor = format!("&cursor={}", body["next_cursor"]);
        }
    }
}

#[tokio::test]
async fn a_known_version_is_answered_304() {
    let server = with_events(2).await;
    for path in ["/api/v1/events/a", "/api/v1/aggregates/a"] {
        for (tag, status) in [("\"2\"", 304), ("W/\"2\"", 304), ("\"1\", \"2\"", 304), ("*", 304), ("\"1\"", 200)] {
            let reply = server.send("GET", path, &[("if-none-match", tag)], b"").await;
            assert_eq!((reply.status, reply.header("etag")), (status, Some("\"2\"")), "{path} {tag}");
        }
    }
}

#[tokio::test]
async fn the_log_is_filtered_and_always_says_where_to_go_on() {
    let server = with_events(3).await;
    server.account("b", 1).await;
    let page = async |query: &str| server.get(&format!("/api/v1/events{query}")).await.json();
    assert_eq!(page("").await["events"].as_array().unwrap().len(), 4);
    assert_eq!(page("").await["next_cursor"], 4);
    assert_eq!(page("?after=4").await, json!({ "events": [], "next_cursor": 4 }));
    assert_eq!(page("?limit=2").await["next_cursor"], 2);
    assert_eq!(page("?event_type=AccountCreated&after=1").await["events"][0]["aggregate_id"], "b");
    assert_eq!(
        page("?event_type=AccountCreated&event_type=MoneyDeposited").await["events"].as_array().unwrap().len(),
        4
    );
    assert_eq!(page("?aggregate_type=order").await, json!({ "events": [], "next_cursor": 4 }));
    let correlation = page("?after=3").await["events"][0]["metadata"]["correlation_id"].as_str().unwrap().to_owned();
    assert_eq!(page(&format!("?correlation_id={correlation}")).await["events"].as_array().unwrap().len(), 1);
    for (time, count) in
        [("2999-01-01T00:00:00Z", 0), ("2000-01-01T00:00:00+02:00", 4), ("2000-01-01T00:00:00%2B02:00", 4)]
    {
        assert_eq!(page(&format!("?from_time={time}")).await["events"].as_array().unwrap().len(), count, "{time}");
    }
}

#[tokio::test]
async fn streams_are_listed_with_a_cursor() {
    let server = TestServer::start().await;
    for id in ["c", "a", "b/ü"] {
        server.account(id, 1).await;
    }
    let first = server.get("/api/v1/aggregates?limit=2").await.json();
    let ids: Vec<_> = first["items"].as_array().unwrap().iter().map(|item| item["aggregate_id"].clone()).collect();
    assert_eq!((ids, &first["next_cursor"]), (vec![json!("a"), json!("b/ü")], &json!("b/ü")));
    let second = server.get("/api/v1/aggregates?limit=2&cursor=b%2F%C3%BC").await.json();
    assert_eq!((&second["items"][0]["aggregate_id"], &second["next_cursor"]), (&json!("c"), &json!(null)));
    let none = server.get("/api/v1/aggregates?aggregate_type=order").await.json();
    assert_eq!(none, json!({ "items": [], "next_cursor": null }));
}

#[tokio::test]
async fn states_and_replays_agree_at_every_sequence() {
    let server = with_events(4).await;
    for (at, balance) in [(0, json!(null)), (1, json!(10)), (2, json!(11)), (3, json!(13)), (4, json!(16))] {
        let shown = server.get(&format!("/api/v1/aggregates/a?at_sequence={at}")).await.json();
        let replayed =
            server.post("/api/v1/replay", &json!({ "aggregate_id": "a", "to_sequence": at }).to_string()).await;
        let replayed = replayed.json();
        assert_eq!((&shown["state"]["balance"], &shown["version"]), (&balance, &json!(at)));
        assert_eq!((&replayed["state"], &replayed["events_replayed"]), (&shown["state"], &json!(at)));
        assert_eq!(replayed["events"].as_array().unwrap().len(), at);
    }
    let from =
        server.post("/api/v1/replay", r#"{"aggregate_id":"a","from_sequence":3,"use_snapshot":false}"#).await.json();
    assert_eq!((sequences(&from), &from["state"]["balance"]), (vec![3, 4], &json!(16)));
    for wrong in [r#""from_sequence":-1"#, r#""from_sequence":1.5"#, r#""use_snapshot":1"#, r#""to_sequence":"2""#] {
        let reply = server.post("/api/v1/replay", &format!(r#"{{"aggregate_id":"a",{wrong}}}"#)).await;
        assert_eq!(reply.status, 400, "{wrong}");
    }
}

#[derive(Debug)]
struct Fixed(&'static str, Option<Health>);

impl HealthCheck for Fixed {
    fn name(&self) -> &str {
        self.0
    }
    fn check(&self) -> BoxFuture<'_, Health> {
        match &self.1 {
            Some(health) => Box::pin(std::future::ready(health.clone())),
            None => Box::pin(std::future::pending()),
        }
    }
}

#[tokio::test]
async fn the_worst_check_is_the_healths() {
    for (check, status, word) in [
        (Some(Health::pass().observed(3, "ms")), 200, "pass"),
        (Some(Health::warn("slow")), 200, "warn"),
        (Some(Health::fail("gone")), 503, "fail"),
        (None, 503, "fail"),
    ] {
        let options = HttpOptions { health_check_deadline: Duration::from_millis(50), ..HttpOptions::default() };
        let with = |context: event_sourcing_cqrs::http::HttpContext| {
            context.health_check(std::sync::Arc::new(Fixed("cache", check.clone())))
        };
        let server = TestServer::start_with(options, with).await;
        let reply = server.get("/health").await;
        assert_eq!((reply.status, &reply.json()["status"]), (status, &json!(word)), "{}", reply.text());
        assert_eq!(reply.json()["checks"]["cache"][0]["status"], word);
        assert_eq!(server.get("/health/live").await.status, 200);
    }
}

#[tokio::test]
async fn readiness_ends_before_service() {
    let server = TestServer::start().await;
    server.context.set_starting(true);
    assert_eq!(server.get("/health/startup").await.status, 503);
    server.context.set_starting(false);
    assert_eq!((server.get("/health/startup").await.status, server.get("/health/ready").await.status), (200, 200));
    server.context.start_draining();
    assert_eq!((server.get("/health/ready").await.status, server.get("/health/live").await.status), (503, 200));
    let served = server.get("/api/v1/aggregates").await;
    assert_eq!((served.status, served.header("connection")), (200, Some("close")));
}

#[tokio::test]
async fn series_of_known_routes_are_there_from_the_first_scrape() {
    let server = TestServer::start().await;
    let scrape = server.get("/metrics").await;
    assert!(scrape.header("content-type").unwrap().starts_with("text/plain; version=0.0.4"));
    let known = r#"es_http_request_duration_seconds_count{method="POST",route="/api/v1/commands",status="200"} 0"#;
    assert!(scrape.text().contains(known), "{}", scrape.text());
    server.get("/some/nonsense").await;
    server.send("BREW", "/version", &[], b"").await;
    let scrape = server.get("/metrics").await;
    assert!(scrape.text().contains(r#"{method="GET",route="unmatched",status="404"} 1"#));
    assert!(scrape.text().contains(r#"{method="other",route="/version",status="405"} 1"#));
    assert_eq!(server.get("/version").await.json()["version"], env!("CARGO_PKG_VERSION"));
    assert!(server.get("/").await.json()["routes"].as_array().unwrap().len() > 10);
}
