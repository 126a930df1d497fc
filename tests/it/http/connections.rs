//! Connections: slow ones, many of them, and the end of the server.

use std::{sync::Arc, time::Duration};

use event_sourcing_actors::{
    RuntimeBuilder,
    catalog::Catalog,
    command_bus::{CommandRequest, CommandResult, Middleware, Next},
    memory::MemoryStore,
    ports::SystemClock,
};
use event_sourcing_cqrs::{domain, http::HttpOptions};
use futures_util::future::BoxFuture;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Semaphore,
};

use crate::support::http::TestServer;

#[tokio::test]
async fn half_sent_heads_are_cut_and_idle_connections_kept_longer() {
    let options = HttpOptions {
        head_deadline: Duration::from_millis(200),
        keep_alive_idle: Duration::from_millis(1_500),
        ..HttpOptions::default()
    };
    let server = TestServer::start_with(options, |context| context).await;
    assert_eq!(server.raw(b"").await, b"");
    assert_eq!(server.raw(b"GET /version HT").await, b"");

    // One byte now and then is slow as well.
    let mut drip = TcpStream::connect(server.address).await.unwrap();
    let dripping = async {
        for byte in b"GET /version HTTP/1.1\r\nhost: t\r\nx-long: 0123456789".iter().cycle() {
            if drip.write_all(&[*byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), dripping).await.expect("a dripping client is cut");

    let mut kept = TcpStream::connect(server.address).await.unwrap();
    let request = b"GET /version HTTP/1.1\r\nhost: t\r\n\r\n";
    let mut answer = vec![0; 4096];
    for _ in 0..2 {
        kept.write_all(request).await.unwrap();
        assert!(kept.read(&mut answer).await.unwrap() > 0);
        // Longer than a head may take, shorter than a connection may idle.
        tokio::time::sleep(Duration::from_millis(400)).await;
    }
    let end = tokio::time::timeout(Duration::from_secs(10), kept.read(&mut answer)).await;
    assert_eq!(end.expect("idle connections are closed").unwrap_or(0), 0);
}

#[tokio::test]
async fn a_thousand_slow_connections_do_not_stop_honest_requests() {
    let server = TestServer::start().await;
    let mut slow = Vec::new();
    for index in 0..1_000 {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        let half: &[u8] = match index % 3 {
            0 => b"",
            1 => b"POST /api/v1/commands HTTP/1.1\r\nhost",
            _ => b"POST /api/v1/commands HTTP/1.1\r\nhost: t\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{",
        };
        stream.write_all(half).await.unwrap();
        slow.push(stream);
    }
    server.account("a", 0).await;
    for _ in 0..50 {
        assert_eq!(server.command("DepositMoney", "a", json!({ "amount": 1 })).await.status, 200);
    }
    assert_eq!(server.get("/api/v1/aggregates/a").await.json()["state"]["balance"], 50);
    drop(slow);
}

#[tokio::test]
async fn a_full_server_takes_the_next_connection_when_one_ends() {
    let options =
        HttpOptions { connections_max: 4, head_deadline: Duration::from_millis(300), ..HttpOptions::default() };
    let server = TestServer::start_with(options, |context| context).await;
    let mut slow = Vec::new();
    for _ in 0..8 {
        slow.push(TcpStream::connect(server.address).await.unwrap());
    }
    assert_eq!(server.get("/version").await.status, 200);
}

/// Holds commands back until it is told.
#[derive(Debug)]
struct Gate {
    arrived: Semaphore,
    open: Semaphore,
}

impl Middleware for Gate {
    fn handle<'a>(&'a self, request: CommandRequest, next: Next<'a>) -> BoxFuture<'a, CommandResult> {
        Box::pin(async move {
            self.arrived.add_permits(1);
            let _open = self.open.acquire().await;
            assert!(request.aggregate_id.as_str() != "panic", "a handler's fault");
            next.run(request).await
        })
    }
}

async fn gated(options: HttpOptions) -> (Arc<TestServer>, Arc<Gate>) {
    let gate = Arc::new(Gate { arrived: Semaphore::new(0), open: Semaphore::new(0) });
    let mut catalog = Catalog::default();
    domain::register(&mut catalog).unwrap();
    let store = Arc::new(MemoryStore::new(Arc::new(SystemClock)));
    let builder = RuntimeBuilder::new(store.clone(), store).catalog(catalog).throwaway_keys().middleware(gate.clone());
    (Arc::new(TestServer::over(builder, options, |context| context).await), gate)
}

#[tokio::test]
async fn requests_in_flight_are_finished_before_the_end() {
    let (server, gate) = gated(HttpOptions::default()).await;
    let request = tokio::spawn({
        let server = server.clone();
        async move { server.command("CreateAccount", "a", json!({ "owner": "o", "initial_balance": 1 })).await }
    });
    let _ = gate.arrived.acquire().await.unwrap();
    server.shutdown.cancel();
    while TcpStream::connect(server.address).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(!server.serving.is_finished());
    gate.open.add_permits(10);
    let reply = request.await.unwrap();
    assert_eq!((reply.status, reply.header("connection")), (200, Some("close")));
    let serving = Arc::into_inner(server).unwrap().serving;
    assert_eq!(serving.await.unwrap().connections_cut, 0);
}

#[tokio::test]
async fn requests_that_outlast_the_drain_are_cut() {
    let options = HttpOptions { drain: Duration::from_millis(50), ..HttpOptions::default() };
    let (server, gate) = gated(options).await;
    let body = r#"{"command_type":"CloseAccount","aggregate_id":"a"}"#;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let head = format!(
        "POST /api/v1/commands HTTP/1.1\r\nhost: t\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all((head + body).as_bytes()).await.unwrap();
    let _ = gate.arrived.acquire().await.unwrap();
    server.shutdown.cancel();
    let serving = Arc::into_inner(server).unwrap().serving;
    assert_eq!(serving.await.unwrap().connections_cut, 1);
}

#[tokio::test]
async fn a_panic_is_answered_and_costs_one_request() {
    let (server, gate) = gated(HttpOptions::default()).await;
    gate.open.add_permits(10);
    let reply = server.command("CloseAccount", "panic", json!({})).await;
    assert_eq!((reply.status, &reply.json()["code"]), (500, &json!("internal")));
    assert_eq!(server.command("CreateAccount", "a", json!({ "owner": "o", "initial_balance": 1 })).await.status, 200);
}
