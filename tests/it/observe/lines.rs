//! Lines of the log of the real program.

use std::time::Duration;

use serde_json::{Value, json};
use sqlx::{Connection, SqliteConnection};
use tempfile::TempDir;

use crate::support::server::Server;

fn account(server: &Server, id: &str) -> (u16, String) {
    let data = json!({ "owner": "canary-of-a-payload", "initial_balance": 1 });
    let command = json!({ "command_type": "CreateAccount", "aggregate_id": id, "data": data });
    server.request("POST", "/api/v1/commands", &command.to_string())
}

/// The fields of all spans of a line.
fn fields(line: &str) -> Value {
    let line: Value = serde_json::from_str(line).unwrap();
    let spans = line["spans"].as_array().cloned().unwrap_or_default();
    let all = spans.into_iter().filter_map(|span| span.as_object().cloned()).flatten();
    all.collect::<serde_json::Map<_, _>>().into()
}

#[test]
fn every_line_of_a_request_carries_its_ids_and_no_payload() {
    let folder = TempDir::new().unwrap();
    let mut server = Server::start(folder.path(), &[("LOG_LEVEL", "debug")]);
    assert_eq!(account(&server, "logged").0, 200);
    let line = server.process().line(|line| line.contains("\"message\":\"accepted\"")).unwrap();
    let fields = fields(&line);
    for id in ["request.id", "correlation.id", "trace.id", "command.id"] {
        assert!(fields[id].as_str().is_some_and(|id| id.len() >= 32), "{id} in {line}");
    }
    assert_eq!((&fields["aggregate.id"], &fields["command.name"]), (&json!("logged"), &json!("CreateAccount")));
    assert_eq!(fields["http.route"], "/api/v1/commands");
    server.process().signal("TERM");
    server.process().wait();
    let said = server.process().said().join("\n");
    assert!(!said.contains("canary"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_command_is_told_with_its_ids_at_the_usual_level() {
    let folder = TempDir::new().unwrap();
    let mut server = Server::start(folder.path(), &[("ES__COMMANDS__SLOW_MS", "100")]);
    let file = folder.path().join("data/eventstore.db");
    let mut lock = SqliteConnection::connect(&format!("sqlite://{}", file.display())).await.unwrap();
    sqlx::query("BEGIN IMMEDIATE").execute(&mut lock).await.unwrap();
    let release = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(400)).await;
        sqlx::query("ROLLBACK").execute(&mut lock).await.unwrap();
    });
    let (server, status) = tokio::task::spawn_blocking(move || {
        let status = account(&server, "slow").0;
        let line = server.process().line(|line| line.contains("a command took long")).unwrap();
        let told: Value = serde_json::from_str(&line).unwrap();
        assert_eq!((&told["command.name"], &told["outcome"]), (&json!("CreateAccount"), &json!("accepted")));
        assert!(told["duration_ms"].as_u64().is_some_and(|took| took >= 100), "{line}");
        assert_eq!(fields(&line)["aggregate.id"], "slow");
        (server, status)
    })
    .await
    .unwrap();
    release.await.unwrap();
    assert_eq!(status, 200);
    drop(server);
}

#[test]
fn a_slow_query_is_told_with_its_name_at_the_usual_level() {
    let folder = TempDir::new().unwrap();
    let environment = [("ES__QUERIES__SLOW_MS", "100"), ("ES__QUERIES__LATEST_WAIT_MS", "0")];
    let mut server = Server::start(folder.path(), &environment);
    let url = server.url();
    // It waits a second for a position that does not come.
    let waits = ["query", "send", "GetAccountBalance", "--min-position", "99", "--wait", "1"];
    let words = [&waits[..], &["--filter", "account_id=canary-of-a-filter", "--url", &url]].concat();
    let ended = crate::support::server::word(folder.path(), &[], &words);
    assert_eq!(ended.code, 6, "{ended:?}");
    let line = server.process().line(|line| line.contains("a query took long")).unwrap();
    let told: Value = serde_json::from_str(&line).unwrap();
    assert!(told["duration_ms"].as_u64().is_some_and(|took| took >= 100), "{line}");
    assert!(line.contains("GetAccountBalance") && !line.contains("canary"), "{line}");
}
