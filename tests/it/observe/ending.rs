//! The end of the real program on bad days: it comes, whatever hangs.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use serde_json::json;
use sqlx::{Connection, SqliteConnection};
use tempfile::TempDir;

use crate::support::server::Server;

/// The helpers of tests wait half a minute for an end; deadlines that were not held would take an hour.
const HANGING: [(&str, &str); 2] = [("ES__HTTP__DRAIN_MS", "300"), ("ES__COMMANDS__DEADLINE_MS", "600000")];

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_hangs_does_not_hold_up_the_end() {
    let folder = TempDir::new().unwrap();
    let mut server = Server::start(folder.path(), &HANGING);
    let file = folder.path().join("data/eventstore.db");
    let mut lock = SqliteConnection::connect(&format!("sqlite://{}", file.display())).await.unwrap();
    sqlx::query("BEGIN IMMEDIATE").execute(&mut lock).await.unwrap();
    let mut stream = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let body = json!({ "command_type": "CreateAccount", "aggregate_id": "a",
        "data": { "owner": "o", "initial_balance": 1 } })
    .to_string();
    let head = "POST /api/v1/commands HTTP/1.1\r\nhost: t\r\ncontent-type: application/json\r\ncontent-length";
    write!(stream, "{head}: {}\r\n\r\n{body}", body.len()).unwrap();
    // Its aggregate is live, and what it decided waits for the database.
    let metrics = || server.get("/metrics").1;
    super::until("the command is in flight", || metrics().lines().any(|line| line == "es_active_aggregates 1"));
    let ended = tokio::task::spawn_blocking(move || {
        server.process().signal("TERM");
        let status = server.process().wait();
        (status, server.process().said().join("\n"))
    });
    let (status, said) = ended.await.unwrap();
    assert_eq!(status.code(), Some(1), "what was cut off is no clean end: {said}");
    assert!(said.contains("had not ended in time"), "{said}");
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    assert!(!answer.starts_with("HTTP/1.1 200"), "nothing is confirmed that is not stored: {answer}");
    sqlx::query("ROLLBACK").execute(&mut lock).await.unwrap();
}
