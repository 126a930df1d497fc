//! Bad days: a store that fails, a server that is full, a caller who may not, a client that does not read.

use std::{sync::Arc, time::Duration};

use event_sourcing_actors::{
    Limits, RuntimeBuilder,
    catalog::Catalog,
    command_bus::{Authorizer, CommandRequest},
    error::CommandError,
    memory::MemoryStore,
    ports::SystemClock,
    testing::faults::{Fault, FaultStore},
};
use event_sourcing_cqrs::{domain, http::HttpOptions};
use serde_json::json;
use tokio::{io::AsyncWriteExt, net::TcpStream};

use crate::support::{eventually, http::TestServer};

async fn faulty(limits: Limits) -> (TestServer, Arc<FaultStore<MemoryStore>>) {
    let mut catalog = Catalog::default();
    domain::register(&mut catalog).unwrap();
    let store = FaultStore::new(MemoryStore::new(Arc::new(SystemClock)));
    let builder = RuntimeBuilder::new(store.clone(), store.clone()).catalog(catalog).throwaway_keys().limits(limits);
    (TestServer::over(builder, HttpOptions::default(), |context| context).await, store)
}

#[tokio::test]
async fn reads_of_a_dark_store_answer_503_and_life_goes_on() {
    let (server, store) = faulty(Limits::default()).await;
    server.account("a", 1).await;
    store.darken(true);
    for path in ["/api/v1/events/a", "/api/v1/events", "/api/v1/aggregates", "/api/v1/aggregates/a"] {
        let reply = server.get(path).await;
        assert_eq!((reply.status, &reply.json()["code"]), (503, &json!("store-unavailable")), "{path}");
        assert_eq!(reply.header("retry-after"), Some("1"));
        assert!(!reply.text().contains("planned"), "the store's own words stay in the log");
    }
    let health = server.get("/health").await;
    assert_eq!((health.status, &health.json()["checks"]["event_store"][0]["status"]), (503, &json!("fail")));
    assert_eq!((server.get("/health/ready").await.status, server.get("/health/live").await.status), (503, 200));
    store.darken(false);
    assert_eq!(server.get("/health").await.status, 200);
}

#[tokio::test]
async fn a_command_of_unknown_outcome_says_so_and_can_be_repeated_under_its_key() {
    let brief = Duration::from_millis(200);
    let (server, store) = faulty(Limits { command_deadline: brief, journal_retry: brief, ..Limits::default() }).await;
    server.account("a", 1).await;
    store.always(Fault::LostAnswer);
    store.darken(true);
    let deposit = r#"{"command_type":"DepositMoney","aggregate_id":"a","data":{"amount":5}}"#;
    let key = [("idempotency-key", "k")];
    let lost = server.post_with("/api/v1/commands", &key, deposit).await;
    assert_eq!((lost.status, &lost.json()["code"]), (503, &json!("outcome-unknown")), "{}", lost.text());
    assert!(lost.header("retry-after").is_some());
    store.always(Fault::None);
    store.darken(false);
    eventually("the repeated command is answered", || async {
        server.post_with("/api/v1/commands", &key, deposit).await.status == 200
    })
    .await;
    assert_eq!(server.get("/api/v1/aggregates/a").await.json()["state"]["balance"], 6);
}

#[tokio::test]
async fn a_full_server_answers_503_at_once() {
    let (server, _) = faulty(Limits { commands_in_flight_max: 0, ..Limits::default() }).await;
    let reply = server.command("CloseAccount", "a", json!({})).await;
    assert_eq!(
        (reply.status, &reply.json()["code"], reply.header("retry-after")),
        (503, &json!("overloaded"), Some("1"))
    );
}

#[derive(Debug)]
struct Strict;

impl Authorizer for Strict {
    fn authorize(&self, request: &CommandRequest) -> Result<(), CommandError> {
        match request.aggregate_id.as_str() {
            "secret" => Err(CommandError::Forbidden { reason: "the role writer is missing".to_owned() }),
            _ => Err(CommandError::Unauthenticated),
        }
    }
}

#[tokio::test]
async fn callers_who_may_not_are_told_so() {
    let store = Arc::new(MemoryStore::new(Arc::new(SystemClock)));
    let builder = RuntimeBuilder::new(store.clone(), store).authorizer(Arc::new(Strict));
    let server = TestServer::over(builder, HttpOptions::default(), |context| context).await;
    let unknown = server.command("CloseAccount", "a", json!({})).await;
    assert_eq!((unknown.status, unknown.header("www-authenticate")), (401, Some("Bearer")));
    let forbidden = server.command("CloseAccount", "secret", json!({})).await;
    assert_eq!((forbidden.status, &forbidden.json()["detail"]), (403, &json!("the role writer is missing")));
}

#[tokio::test]
async fn a_client_that_does_not_read_is_cut() {
    let options = HttpOptions { write_stall: Duration::from_millis(200), ..HttpOptions::default() };
    let server = TestServer::start_with(options, |context| context).await;
    let body =
        format!(r#"{{"aggregate_id":"g","aggregate_type":"t","event_type":"T","data":"{}"}}"#, "x".repeat(3 << 20));
    for _ in 0..4 {
        assert_eq!(server.post("/api/v1/events", &body).await.status, 201);
    }
    let open = async || {
        let scrape = server.get("/metrics").await;
        let line = scrape.text().lines().find(|line| line.starts_with("es_http_connections ")).unwrap().to_owned();
        // The scrape's own connection is one of them.
        line.ends_with(" 1")
    };
    let mut deaf = TcpStream::connect(server.address).await.unwrap();
    deaf.write_all(b"GET /api/v1/events HTTP/1.1\r\nhost: t\r\naccept: application/x-ndjson\r\n\r\n").await.unwrap();
    eventually("the deaf client is connected", || async { !open().await }).await;
    eventually("the deaf client is cut", open).await;
    drop(deaf);
}
