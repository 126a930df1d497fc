//! Health of the real program on bad days: no Redis, no database, a read model that stands still, a start that waits.

use std::{net::TcpListener, time::Duration};

use serde_json::{Value, json};
use sqlx::Executor;
use tempfile::TempDir;

use super::until;
use crate::support::{
    postgres, redis,
    server::{Process, Server, program},
};

const PATIENCE: Duration = Duration::from_secs(60);

fn health(server: &Server) -> (u16, Value) {
    let (status, body) = server.get("/health");
    (status, serde_json::from_str(&body).unwrap())
}

fn check(server: &Server, name: &str) -> Value {
    health(server).1["checks"][name][0]["status"].clone()
}

fn deposit(server: &Server, id: &str) -> u16 {
    let command = json!({ "command_type": "CreateAccount", "aggregate_id": id,
        "data": { "owner": "o", "initial_balance": 1 } });
    server.request("POST", "/api/v1/commands", &command.to_string()).0
}

#[tokio::test(flavor = "multi_thread")]
async fn without_redis_the_server_serves_and_says_so() {
    let Some(mut redis) = redis::Redis::start().await else { return };
    let folder = TempDir::new().unwrap();
    let server = Server::start(folder.path(), &[("REDIS_URL", &redis.url())]);
    until("Redis is well", || check(&server, "cache") == "pass");
    redis.kill();
    until("its end is noticed", || check(&server, "cache") == "warn");
    let (status, document) = health(&server);
    assert_eq!((status, &document["status"]), (200, &json!("warn")), "{document}");
    assert_eq!((server.get("/health/ready").0, deposit(&server, "a")), (200, 200));
    let query = json!({ "query_type": "GetAccountBalance", "projection": "account_balance",
        "filters": { "account_id": "a" } });
    assert_eq!(server.request("POST", "/api/v1/queries", &query.to_string()).0, 200);
    assert!(redis.run().await);
    until("Redis is back", || check(&server, "cache") == "pass");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_database_the_server_lives_is_not_ready_and_comes_back_by_itself() {
    let Some(postgres) = postgres::restartable().await else { return };
    let folder = TempDir::new().unwrap();
    let server = Server::start(folder.path(), &[("DATABASE_URL", &postgres.url)]);
    assert_eq!(deposit(&server, "a"), 200);
    postgres.stop();
    until("readiness is withdrawn", || server.get("/health/ready").0 == 503);
    assert_eq!((server.get("/health/live").0, server.get("/health/startup").0), (200, 200));
    let (status, document) = health(&server);
    assert_eq!((status, &document["status"]), (503, &json!("fail")), "{document}");
    assert_eq!(document["checks"]["database"][0]["status"], "fail", "{document}");
    assert!(!document.to_string().contains("127.0.0.1"), "no host is named: {document}");
    postgres.start().await;
    until("it is ready again", || server.get("/health/ready").0 == 200);
    until("commands are taken again", || deposit(&server, "b") == 200);
    until("all is well", || health(&server).1["status"] == "pass");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_model_that_stands_still_is_a_warning_once_it_is_late() {
    let Some(database) = postgres::database().await else { return };
    let folder = TempDir::new().unwrap();
    let server = Server::start(folder.path(), &[("DATABASE_URL", &database.url)]);
    assert_eq!(deposit(&server, "a"), 200);
    until("all is well", || health(&server).1["status"] == "pass");
    let mut session = database.session().await;
    session.execute("BEGIN").await.unwrap();
    // Rows can be read and not written.
    session.execute("LOCK TABLE view_rows IN SHARE MODE").await.unwrap();
    assert_eq!(deposit(&server, "b"), 200);
    assert_eq!(check(&server, "projection:account_balance"), "pass", "it is not late yet");
    until("it is late", || check(&server, "projection:account_balance") == "warn");
    let (status, document) = health(&server);
    assert_eq!((status, &document["status"]), (200, &json!("warn")), "{document}");
    assert_eq!(server.get("/health/ready").0, 200, "reads are served");
    session.execute("ROLLBACK").await.unwrap();
    until("it has caught up", || check(&server, "projection:account_balance") == "pass");
}

/// Status of a request to a port where perhaps nobody listens.
fn asked(port: u16, method: &str, path: &str) -> Option<(u16, String)> {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "{method} {path} HTTP/1.1\r\nhost: t\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{{}}").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some((answer.split(' ').nth(1)?.parse().ok()?, answer))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_waits_for_its_database_is_told_and_then_served() {
    let Some(postgres) = postgres::restartable().await else { return };
    postgres.stop();
    let folder = TempDir::new().unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let address = format!("127.0.0.1:{port}");
    let environment = [
        ("BIND_ADDRESS", address.as_str()),
        ("DATABASE_URL", &postgres.url),
        ("ES__HTTP__SHUTDOWN_GRACE_MS", "0"),
        ("ES__EVENT_STORE__CONNECT_RETRY_S", "600"),
    ];
    let mut process = Process::start(program(folder.path(), &environment));
    until("it lives", || asked(port, "GET", "/health/live").is_some_and(|(status, _)| status == 200));
    for path in ["/health", "/health/ready", "/health/startup"] {
        let (status, answer) = asked(port, "GET", path).unwrap();
        assert_eq!(status, 503, "{answer}");
        assert!(answer.contains("it waits for its database"), "{answer}");
    }
    let (status, answer) = asked(port, "POST", "/api/v1/commands").unwrap();
    assert!(status == 503 && answer.contains("store-unavailable"), "{answer}");
    assert!(answer.to_ascii_lowercase().contains("retry-after: "), "{answer}");
    let answer = asked(port, "POST", "/nowhere").unwrap();
    assert_eq!(answer.0, 503, "{}", answer.1);
    postgres.start().await;
    process.line(|line| line.contains("\"message\":\"serving ")).expect("it serves");
    let answer = asked(port, "GET", "/health/startup").unwrap().1;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    process.signal("TERM");
    assert!(process.wait().success());
}

#[test]
fn a_start_that_waits_ends_when_it_is_told_to() {
    let folder = TempDir::new().unwrap();
    let dead = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("postgresql://user:hunter2@{dead}/nothing");
    let environment = [("BIND_ADDRESS", "127.0.0.1:0"), ("DATABASE_URL", url.as_str()), ("LOG_LEVEL", "debug")];
    let mut process = Process::start(program(folder.path(), &environment));
    process.line(|line| line.contains("{")).expect("it waits");
    process.signal("TERM");
    assert!(process.wait().success());
    assert!(!process.said().join("\n").contains("hunter2"));
}
