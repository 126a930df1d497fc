//! The command line as its users meet it: the real program, its exit codes, and what it prints where.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::{net::TcpListener, path::Path, process::Command};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{
    SCHEMA,
    server::{Ended, PROGRAM, Process, Server, program, word},
};

const NO_SETTINGS: &[(&str, &str)] = &[];

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// Runs a word and expects an exit code.
#[track_caller]
fn expect(code: i32, folder: &Path, words: &[&str]) -> Ended {
    let ended = word(folder, NO_SETTINGS, words);
    assert_eq!(ended.code, code, "{words:?}: {ended:?}");
    assert!(!ended.stderr.contains("panicked"), "{ended:?}");
    ended
}

/// A store with one account of two events and a stream of notes.
fn with_store() -> TempDir {
    let folder = folder();
    expect(0, folder.path(), &["migrate"]);
    let create = r#"{"owner":"J","initial_balance":10}"#;
    expect(0, folder.path(), &["command", "send", "CreateAccount", "acc-1", "--data", create]);
    expect(0, folder.path(), &["command", "send", "DepositMoney", "acc-1", "--data", r#"{"amount":5}"#]);
    let note = ["events", "append", "note/1", "Noted", "--aggregate-type", "note", "--data", r#"{"a":1.50}"#];
    expect(0, folder.path(), &note);
    folder
}

#[test]
fn every_word_prints_for_people() {
    let folder = with_store();
    let shown = |words: &[&str]| expect(0, folder.path(), words).stdout;
    assert_eq!(shown(&["migrate"]), format!("sqlite://data/eventstore.db: schema {SCHEMA}, already up to date\n"));
    let list = shown(&["events", "list"]);
    assert_eq!(list.lines().count(), 4, "{list}");
    assert!(list.contains("account acc-1#2") && list.contains(r#"{"a":1.50}"#), "{list}");
    let backward = shown(&["events", "get", "acc-1", "--direction", "backward", "--limit", "1"]);
    assert!(backward.contains("acc-1#2") && !backward.contains("acc-1#1"), "{backward}");
    let replay = shown(&["replay", "acc-1", "--no-snapshot"]);
    assert!(replay.starts_with("account acc-1 at version 2 (2 events folded in "), "{replay}");
    assert!(replay.ends_with("{\"account_id\":\"acc-1\",\"owner\":\"J\",\"balance\":15,\"status\":\"open\"}\n"));
    let before = shown(&["replay", "acc-1", "--at-position", "1"]);
    assert!(before.starts_with("account acc-1 at version 1 (position 1, recorded at 2"), "{before}");
    assert!(before.contains(" as of position 1\n") && before.contains("\"balance\":10"), "{before}");
    let later = shown(&["replay", "acc-1", "--at-time", "2999-01-01T00:00:00Z"]);
    assert!(later.contains(" as of position 3, not settled: "), "{later}");
    let changed = shown(&["diff", "acc-1", "--from-sequence", "1"]);
    assert_eq!(changed, "account acc-1 from version 1 to 2: 1 change\n/balance: 10 -> 15\n");
    let status = shown(&["status"]);
    let schema = format!("schema         {SCHEMA}");
    for row in ["store          sqlite", &schema, "head position  3", "streams        2"] {
        assert!(status.contains(row), "{status}");
    }
    assert!(shown(&["config", "show"]).contains("commands.deadline_ms"));
    assert_eq!(shown(&["config", "check"]), "the settings are valid\n");
    let dry = ["command", "send", "DepositMoney", "acc-1", "--data", r#"{"amount":1}"#, "--dry-run"];
    assert_eq!(shown(&dry), "account acc-1 would be at version 3: 1 event\n       3  MoneyDeposited\n");
    assert!(shown(&["events", "list", "--all"]).lines().count() == 4, "a dry run stores nothing");
}

#[test]
fn every_word_prints_json_and_lines() {
    let folder = with_store();
    let run = |words: &[&str]| expect(0, folder.path(), &[&["--format", "json"], words].concat()).json();
    assert_eq!(run(&["migrate"])["schema"], SCHEMA);
    let list = run(&["events", "list", "--event-type", "MoneyDeposited"]);
    assert_eq!((&list["events"][0]["sequence"], &list["next_cursor"]), (&json!(2), &json!(3)));
    assert_eq!(run(&["events", "list", "--aggregate-type", "note"])["events"].as_array().unwrap().len(), 1);
    assert_eq!(run(&["events", "list", "--all"])["events"].as_array().unwrap().len(), 3);
    assert_eq!(run(&["events", "list", "--all", "--after", "3"]), json!({"events": [], "next_cursor": 3}));
    assert_eq!(run(&["events", "get", "note/1"])["aggregate_type"], "note");
    assert_eq!(run(&["replay", "acc-1", "--to-sequence", "1"])["state"]["balance"], 10);
    assert_eq!(run(&["status"])["head_position"], 3);
    assert_eq!(run(&["config", "check"]), json!({"valid": true, "warnings": []}));
    assert!(run(&["config", "show"])["items"].as_array().unwrap().len() > 20);
    let lines = expect(0, folder.path(), &["events", "list", "--format", "ndjson"]).stdout;
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 3);
    assert!(expect(0, folder.path(), &["config", "show", "--format", "ndjson"]).stdout.lines().count() > 20);
}

/// As in a clone of this repository, whose settings tell the server to log what it does.
#[test]
fn words_say_what_concerns_their_user_and_no_more() {
    let folder = with_store();
    std::fs::create_dir(folder.path().join("config")).unwrap();
    let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/config/cqrs.yaml");
    assert!(std::fs::read_to_string(shipped).unwrap().contains("level: info"));
    std::fs::copy(shipped, folder.path().join("config/cqrs.yaml")).unwrap();
    let query = ["query", "send", "GetAccountBalance", "--filter", "account_id=acc-1"];
    let quiet = expect(0, folder.path(), &query);
    assert!(!quiet.stderr.contains(" INFO "), "{quiet:?}");
    let asked_for = expect(0, folder.path(), &[&["--log-level", "info"], &query[..]].concat());
    assert!(asked_for.stderr.contains(" INFO "), "{asked_for:?}");
}

#[test]
fn data_comes_from_standard_input_too() {
    let folder = with_store();
    let script = format!("printf '{{\"b\":[1,\\n2]}}' | {PROGRAM} events append note/1 Noted --data -");
    let status = Command::new("sh").current_dir(folder.path()).args(["-c", &script]).output().unwrap();
    assert!(status.status.success(), "{status:?}");
    let lines = expect(0, folder.path(), &["events", "get", "note/1", "--format", "ndjson"]).stdout;
    assert_eq!(lines.lines().count(), 2, "white space of a payload ends no line: {lines}");
}

#[test]
fn store_and_server_answer_the_same() {
    let folder = with_store();
    let server = Server::start(folder.path(), NO_SETTINGS);
    let url = server.url();
    let both = |code: i32, words: &[&str]| {
        let here = expect(code, folder.path(), &[words, &["--format", "json"]].concat());
        let there = expect(code, folder.path(), &[words, &["--format", "json", "--url", &url]].concat());
        (here, there)
    };
    for words in [
        &["events", "list", "--limit", "2"][..],
        &["events", "list", "--all"],
        &["events", "list", "--correlation-id", "nobody's"],
        &["events", "get", "note/1"],
        &["events", "get", "acc-1", "--direction", "backward", "--limit", "1"],
        &["replay", "acc-1", "--at-sequence", "1"],
        &["replay", "acc-1", "--at-position", "0"],
        &["replay", "note/1", "--at-position", "99"],
        &["replay", "acc-1", "--at-time", "2999-01-01T00:00:00+02:00"],
        &["diff", "acc-1"],
        &["diff", "acc-1", "--from-sequence", "2", "--to-sequence", "1"],
    ] {
        let (here, there) = both(0, words);
        assert_eq!(here.stdout, there.stdout, "{words:?}");
    }
    let (here, there) = both(0, &["replay", "acc-1", "--from-sequence", "2"]);
    let timeless = |ended: Ended| {
        let mut answer = ended.json();
        answer["duration_ms"] = Value::Null;
        answer
    };
    assert_eq!(timeless(here), timeless(there));
    let members = |ended: &Ended| ended.json().as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    for words in [
        &["command", "send", "DepositMoney", "acc-1", "--data", r#"{"amount":1}"#][..],
        &["command", "send", "DepositMoney", "acc-1", "--data", r#"{"amount":1}"#, "--dry-run"],
        &["events", "append", "note/1", "Noted"],
    ] {
        let (here, there) = both(0, words);
        assert_eq!(members(&here), members(&there), "{words:?}");
    }
    both(3, &["events", "get", "nobody"]);
    both(3, &["replay", "nobody"]);
    both(3, &["replay", "nobody", "--at-sequence", "1"]);
    both(3, &["diff", "nobody"]);
    both(5, &["command", "send", "DepositMoney", "acc-1", "--data", r#"{"amount":1}"#, "--expected-version", "1"]);
    both(5, &["events", "append", "acc-1", "Noted", "--aggregate-type", "note"]);
    both(1, &["command", "send", "WithdrawMoney", "acc-1", "--data", r#"{"amount":1000}"#]);
    let (here, there) = both(1, &["command", "send", "DepositMoney", "acc-1", "--data", r#"{"amount":0}"#]);
    assert_eq!(here.stderr, there.stderr);
    assert_eq!(here.stderr, "error: /data/amount must be at least 1, not 0 (validation-failed)\n");
    both(1, &["command", "send", "DepositMony", "acc-1"]);
    assert_eq!(server.terminate().code(), Some(0));
}

#[test]
fn word_beside_a_server_on_one_file_is_seen_by_it_and_sees_it() {
    let folder = with_store();
    let server = Server::start(folder.path(), NO_SETTINGS);
    let deposit = ["command", "send", "DepositMoney", "acc-1", "--data", r#"{"amount":1}"#, "--format", "json"];
    for version in [3, 5, 7] {
        assert_eq!(expect(0, folder.path(), &deposit).json()["version"], version);
        let there = expect(0, folder.path(), &[&deposit[..], &["--url", &server.url()]].concat());
        assert_eq!(there.json()["version"], version + 1);
    }
    assert_eq!(expect(0, folder.path(), &["status", "--format", "json"]).json()["head_position"], 9);
}

#[test]
fn repeated_command_with_a_key_has_its_effect_once() {
    let folder = with_store();
    let deposit = |amount: &str| {
        let words = ["command", "send", "DepositMoney", "acc-1", "--idempotency-key", "k-1", "--format", "json"];
        word(folder.path(), NO_SETTINGS, &[&words[..], &["--data", amount]].concat())
    };
    let first = deposit(r#"{"amount":1}"#);
    assert_eq!((first.code, deposit(r#"{"amount":1}"#).stdout), (0, first.stdout));
    assert_eq!(deposit(r#"{"amount":2}"#).code, 1, "another request under the same key");
}

#[test]
fn wrong_usage_and_settings_exit_with_2() {
    let folder = folder();
    for words in [
        &["--frmat", "json"][..],
        &["doktor"],
        &["events", "list", "--limit", "0"],
        &["events", "list", "--limit", "1", "--all"],
        &["events", "get", ""],
        &["command", "send", "A", "b", "--data", "{"],
        &["status", "--timeout", "never"],
        &["status", "--database-url", "mysql://host/db"],
        &["status", "--database-url", "memory:"],
        &["status", "--url", "https://host"],
        &["config", "check", "--database-url", "postgres://host:99999/db"],
        &["config", "check", "--log-level", "loud"],
        &["serve", "--redis-url", "http://host"],
        &["serve", "--config-dir", "nowhere"],
        &["healthcheck", "--bind-address", "127.0.0.1:0"],
    ] {
        expect(2, folder.path(), words);
    }
    let unknown = word(folder.path(), &[("ES__COMMANDS__DEADLIN_MS", "1")], &["serve"]);
    assert_eq!(unknown.code, 2, "{unknown:?}");
    assert!(unknown.stderr.contains("ES__COMMANDS__DEADLINE_MS"), "{unknown:?}");
    let stranger = word(folder.path(), &[], &["config", "check", "--config-dir", "."]);
    assert_eq!(stranger.code, 0, "{stranger:?}");
    std::fs::write(
        folder.path().join("event_store.yaml"),
        "event_store: {aggregates: {acount: {snapshot_frequency: 5}}}",
    )
    .unwrap();
    let ended = expect(2, folder.path(), &["config", "check", "--config-dir", "."]);
    assert!(ended.stderr.contains("did you mean \"account\""), "{ended:?}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing was made");
}

#[test]
fn store_that_is_not_there_is_not_made_by_looking_at_it() {
    let folder = folder();
    for words in [&["events", "list"][..], &["status"], &["replay", "a"], &["command", "send", "CloseAccount", "a"]] {
        let ended = expect(3, folder.path(), words);
        assert!(ended.stderr.contains("sqlite://data/eventstore.db was not found"), "{ended:?}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn older_schema_is_left_alone_until_migrate() {
    let folder = folder();
    std::fs::create_dir(folder.path().join("data")).unwrap();
    std::fs::write(folder.path().join("data/eventstore.db"), "").unwrap();
    let ended = expect(2, folder.path(), &["events", "list"]);
    assert!(ended.stderr.contains("event-sourcing-cqrs migrate"), "{ended:?}");
    let migrated = expect(0, folder.path(), &["migrate", "--format", "json"]).json();
    assert_eq!((&migrated["schema_before"], &migrated["schema"]), (&json!(0), &json!(SCHEMA)));
    expect(0, folder.path(), &["events", "list"]);
}

#[test]
fn taken_port_is_told_and_nothing_is_made() {
    let folder = folder();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let ended = expect(1, folder.path(), &["--bind-address", &address]);
    assert!(ended.stderr.contains("another program listens there"), "{ended:?}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[cfg(feature = "postgres")]
#[test]
fn database_that_refuses_exits_with_6_in_time() {
    let folder = folder();
    let refused = ["--database-url", "postgres://user:hunter2@127.0.0.1:1/db"];
    let words = [&refused[..], &["events", "list", "--timeout", "1"]].concat();
    let ended = expect(6, folder.path(), &words);
    assert!(!ended.stderr.contains("hunter2"), "{ended:?}");
    let environment = [("ES__EVENT_STORE__CONNECT_RETRY_S", "1"), ("BIND_ADDRESS", "127.0.0.1:0")];
    assert_eq!(word(folder.path(), &environment, &refused).code, 6);
    // While it waits it can be told to stop.
    let environment = [("BIND_ADDRESS", "127.0.0.1:0")];
    let mut command = program(folder.path(), &environment);
    command.args(refused);
    let mut waiting = Process::start(command);
    assert!(waiting.line(|line| line.contains("trying again")).is_some());
    waiting.signal("TERM");
    assert_eq!(waiting.wait().code(), Some(0));
}

#[test]
fn server_that_is_not_there_exits_with_6() {
    let folder = folder();
    for words in [&["events", "list"][..], &["status"], &["events", "tail"]] {
        expect(6, folder.path(), &[words, &["--url", "http://127.0.0.1:1"]].concat());
    }
}

#[test]
fn silent_server_exits_with_6_in_time() {
    let folder = with_store();
    let server = Server::start(folder.path(), NO_SETTINGS);
    server.sigstop();
    expect(6, folder.path(), &["events", "list", "--url", &server.url(), "--timeout", "0.3"]);
    server.sigcont();
    expect(0, folder.path(), &["events", "list", "--url", &server.url()]);
}

#[test]
fn passwords_are_masked() {
    let folder = folder();
    let environment = [("DATABASE_URL", "postgres://user:hunter2@host/db"), ("REDIS_URL", "redis://:hunter2@host")];
    for format in ["human", "json", "ndjson"] {
        let shown = word(folder.path(), &environment, &["config", "show", "--format", format]);
        assert_eq!(shown.code, 0, "{shown:?}");
        assert!(shown.stdout.contains("environment DATABASE_URL"), "{shown:?}");
        assert!(!format!("{shown:?}").contains("hunter2"), "{shown:?}");
    }
}

#[test]
fn readers_that_have_seen_enough_end_a_listing_quietly() {
    let folder = with_store();
    let event = json!({"event_type": "Noted", "data": {"text": "x".repeat(2_000)}});
    let body = json!({"aggregate_id": "long", "aggregate_type": "note", "events": vec![event; 500]});
    let server = Server::start(folder.path(), NO_SETTINGS);
    assert_eq!(server.request("POST", "/api/v1/events", &body.to_string()).0, 201);
    let listing = format!("set -o pipefail; {PROGRAM} events list --all | head -n 2");
    let ended = Command::new("bash").current_dir(folder.path()).args(["-c", &listing]).output().unwrap();
    assert!(ended.status.success() && ended.stderr.is_empty(), "{ended:?}");
}

#[test]
fn tail_tells_what_comes_and_ends_with_a_signal() {
    let folder = with_store();
    let server = Server::start(folder.path(), NO_SETTINGS);
    let url = server.url();
    for source in [&[][..], &["--url", &url]] {
        let mut command = program(folder.path(), NO_SETTINGS);
        command.args(["events", "tail", "--format", "ndjson", "--event-type", "Noted"]).args(source);
        let mut tail = Process::start(command);
        assert!(tail.line(|line| line.starts_with("following the log")).is_some(), "{:?}", tail.said());
        expect(0, folder.path(), &["events", "append", "note/1", "Noted", "--data", r#"{"from":"tail"}"#]);
        let event: Value = serde_json::from_str(&tail.data_line()).unwrap();
        assert_eq!(event["data"]["from"], "tail");
        tail.signal("INT");
        assert_eq!(tail.wait().code(), Some(0));
    }
}

#[test]
fn server_told_to_stop_ends_in_order_with_an_open_tail() {
    let folder = with_store();
    let mut server = Server::start(folder.path(), NO_SETTINGS);
    let mut command = program(folder.path(), NO_SETTINGS);
    command.args(["events", "tail", "--from-start", "--format", "ndjson", "--url", &server.url()]);
    let mut tail = Process::start(command);
    assert!(tail.data_line().contains("AccountCreated"));
    server.process().signal("TERM");
    assert_eq!(server.process().wait().code(), Some(0));
    let said = server.process().said().join("\n");
    assert!(said.contains("told to stop") && said.contains("\"stopped\""), "{said}");
    assert_eq!(tail.wait().code(), Some(6), "the end of a server is not the end of the log");
}

#[test]
fn stopping_server_is_not_ready_and_a_second_signal_ends_it_at_once() {
    let folder = folder();
    let mut server = Server::start(folder.path(), &[("ES__HTTP__SHUTDOWN_GRACE_MS", "600000")]);
    let healthcheck = ["healthcheck", "--url", &server.url()];
    expect(0, folder.path(), &healthcheck);
    server.process().signal("INT");
    server.process().line(|line| line.contains("told to stop")).unwrap();
    let (mut is_ready, mut tries) = (true, 0);
    while is_ready && tries < 100 {
        is_ready = word(folder.path(), NO_SETTINGS, &healthcheck).code == 0;
        tries += 1;
    }
    let ended = expect(1, folder.path(), &healthcheck);
    assert!(ended.stderr.contains("the server is shutting down"), "{ended:?}");
    assert_eq!(server.get("/version").0, 200, "requests are still served");
    server.process().signal("TERM");
    assert_eq!(server.process().wait().code(), Some(1));
}

#[test]
fn healthcheck_asks_the_server_of_the_same_settings() {
    let folder = folder();
    let server = Server::start(folder.path(), &[("BIND_ADDRESS", "0.0.0.0:0")]);
    let address = format!("0.0.0.0:{}", server.port);
    assert_eq!(word(folder.path(), &[("BIND_ADDRESS", &address)], &["healthcheck"]).code, 0);
    server.kill9();
    assert_eq!(word(folder.path(), &[("BIND_ADDRESS", &address)], &["healthcheck"]).code, 1);
}

#[test]
fn killed_server_leaves_everything_that_was_answered() {
    let folder = with_store();
    let server = Server::start(folder.path(), NO_SETTINGS);
    let deposit = ["command", "send", "DepositMoney", "acc-1", "--data", r#"{"amount":7}"#, "--url", &server.url()];
    expect(0, folder.path(), &deposit);
    server.kill9();
    assert_eq!(expect(0, folder.path(), &["replay", "acc-1", "--format", "json"]).json()["state"]["balance"], 22);
}

#[tokio::test]
async fn altered_event_exits_with_4() {
    use sqlx::Connection;

    let folder = with_store();
    let file = folder.path().join("data/eventstore.db");
    let mut connection = sqlx::SqliteConnection::connect(&format!("sqlite://{}", file.display())).await.unwrap();
    let triggers: Vec<String> =
        sqlx::query_scalar("SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'events'")
            .fetch_all(&mut connection)
            .await
            .unwrap();
    for trigger in triggers {
        sqlx::query(sqlx::AssertSqlSafe(format!("DROP TRIGGER \"{trigger}\""))).execute(&mut connection).await.unwrap();
    }
    sqlx::query("UPDATE events SET data = CAST('{\"amount\":500}' AS BLOB) WHERE position = 2")
        .execute(&mut connection)
        .await
        .unwrap();
    connection.close().await.unwrap();
    let server = Server::start(folder.path(), NO_SETTINGS);
    let ended = expect(4, folder.path(), &["replay", "acc-1"]);
    assert!(ended.stderr.contains("event 2 of acc-1 at position 2 was altered"), "{ended:?}");
    expect(4, folder.path(), &["replay", "acc-1", "--url", &server.url()]);
}

#[test]
fn openapi_prints_the_document_without_a_store_and_a_servers_own_with_a_url() {
    let folder = tempfile::tempdir().unwrap();
    let nowhere = [("DATABASE_URL", "postgresql://nobody@127.0.0.1:1/nothing")];
    let printed = word(folder.path(), &nowhere, &["openapi"]);
    assert_eq!(printed.code, 0, "{printed:?}");
    let document = printed.json();
    assert_eq!(document["openapi"], "3.1.0");
    assert!(document["components"]["schemas"]["SagaStartedEvent"].is_object());
    let server = Server::start(folder.path(), &[]);
    let asked = word(folder.path(), &[], &["openapi", "--url", &server.url(), "--format", "ndjson"]);
    assert_eq!((asked.code, asked.json() == document), (0, true), "{}", asked.stderr);
}
