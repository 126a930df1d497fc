//! A query over HTTP, by key: from the cache, and from SQLite without a cache, against a bare warp route that reads and
//! writes JSON of the same size. One kept connection, one request in flight; p50 is what counts.
//! `cargo bench --bench query_path`; `BENCH_SECONDS=1` for a quick look, `-- cached` or `-- uncached` for a part.

#![allow(clippy::unwrap_used, clippy::cast_precision_loss, missing_docs, reason = "a benchmark may panic")]

mod common;

use std::{net::SocketAddr, sync::Arc};

use bytes::Bytes;
use common::{Measured, closed_loop};
use event_sourcing_cqrs::{
    app::App,
    domain::account::{Account, CreateAccount},
    http::{HttpContext, HttpOptions, serve},
    settings::Settings,
};
use http_body_util::{BodyExt, Full};
use hyper::{Request, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Mutex,
};
use tokio_util::sync::CancellationToken;
use warp::Filter;

const ACCOUNTS: u64 = 1_000;

/// One kept connection.
type Sender = Arc<Mutex<http1::SendRequest<Full<Bytes>>>>;

async fn connect(address: SocketAddr) -> Sender {
    let stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    Arc::new(Mutex::new(sender))
}

async fn ask(sender: &Sender, account: u64) -> Bytes {
    let body = json!({
        "query_type": "GetAccountBalance", "projection": "account_balance",
        "filters": { "account_id": format!("acc-{account}") },
    });
    let request = Request::post("/api/v1/queries")
        .header("host", "localhost")
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(body.to_string())))
        .unwrap();
    let mut sender = sender.lock().await;
    sender.ready().await.unwrap();
    let answer = sender.send_request(request).await.unwrap();
    assert_eq!(answer.status(), 200);
    answer.into_body().collect().await.unwrap().to_bytes()
}

/// Asks for accounts in turn; a small number of them fits any cache.
async fn measure(address: SocketAddr, accounts: u64) -> Measured {
    let sender = connect(address).await;
    for account in 0..accounts {
        ask(&sender, account).await;
    }
    closed_loop(1, move |_, turn| {
        let sender = sender.clone();
        async move {
            ask(&sender, turn * 7_919 % accounts).await;
        }
    })
    .await
}

/// A bare warp route: reads the body, answers a document like ours.
async fn bare() -> SocketAddr {
    let route = warp::post().and(warp::path!("api" / "v1" / "queries")).and(warp::body::json()).map(|asked: Value| {
        let data = json!({
            "account_id": asked["filters"]["account_id"], "owner": "bench", "balance": 0, "status": "active",
            "version": 1, "updated_at": "2026-11-23T12:00:00.000000Z",
        });
        warp::reply::json(&json!({
            "query_type": asked["query_type"], "projection": asked["projection"], "data": data, "position": 1_000,
            "head_position": 1_000, "stale": false, "cached": true,
        }))
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(warp::serve(route).incoming(listener).run());
    address
}

/// Ours on a fresh SQLite file with accounts.
async fn ours(has_cache: bool) -> (SocketAddr, App, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = Settings::default();
    settings.cache.enabled = has_cache;
    let url = format!("sqlite://{}", folder.path().join("store.db").display());
    let app = App::builder().settings(settings).seal(false).database_url(&url).unwrap().start().await.unwrap();
    for account in 0..ACCOUNTS {
        let create = CreateAccount { account_id: None, owner: "bench".to_owned(), initial_balance: 0 };
        app.execute::<Account>(format!("acc-{account}"), create).await.unwrap();
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let context = Arc::new(HttpContext::new(app.runtime().clone()));
    tokio::spawn(serve(listener, context, HttpOptions::default(), CancellationToken::new()));
    (address, app, folder)
}

#[tokio::main]
async fn main() {
    println!("query_path: one query at a time over one kept connection; baseline = a bare warp JSON route");
    let wanted: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let route = bare().await;
    for round in 1..=3 {
        let baseline = measure(route, ACCOUNTS).await;
        baseline.print(&format!("bare warp JSON route, round {round}"), None);
        for (name, has_cache, bound) in [("cached", true, 2.0), ("uncached, by key on SQLite", false, 4.0)] {
            if !wanted.is_empty() && !wanted.iter().any(|word| name.starts_with(word.as_str())) {
                continue;
            }
            let (address, app, _folder) = ours(has_cache).await;
            let measured = measure(address, ACCOUNTS).await;
            measured.print(name, Some(&baseline));
            let ratio = measured.p50_ms / baseline.p50_ms;
            println!("{name}: p50 is {ratio:.2} x the bare route's (bound: {bound} x)");
            app.shutdown().await;
        }
    }
}
