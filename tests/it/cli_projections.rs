//! The words about read models and long work: `query`, `projection`, `operation`, on the store and on a server.

use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::server::{Ended, Process, Server, program, word};

const NO_SETTINGS: &[(&str, &str)] = &[];

/// Runs a word and expects an exit code.
#[track_caller]
fn expect(code: i32, folder: &Path, words: &[&str]) -> Ended {
    let ended = word(folder, NO_SETTINGS, words);
    assert_eq!(ended.code, code, "{words:?}: {ended:?}");
    assert!(!ended.stderr.contains("panicked"), "{ended:?}");
    ended
}

/// A store with three accounts.
fn with_store() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    expect(0, folder.path(), &["migrate"]);
    for (id, balance) in [("acc-1", 10), ("acc-2", 20), ("acc-3", 30)] {
        let data = json!({ "owner": "J", "initial_balance": balance }).to_string();
        expect(0, folder.path(), &["command", "send", "CreateAccount", id, "--data", &data]);
    }
    folder
}

/// Asks until the read model has come to this position.
const FRESH: [&str; 4] = ["--min-position", "3", "--wait", "20"];

#[test]
fn queries_are_answered_with_and_without_a_server() {
    let folder = with_store();
    let path = folder.path();
    let balance = [&["query", "send", "GetAccountBalance", "--filter", "account_id=acc-1"][..], &FRESH].concat();
    let accounts = [&["query", "send", "ListAccounts"][..], &FRESH].concat();

    // Nobody keeps the read models but the word itself.
    let shown = expect(0, path, &balance);
    assert!(shown.stdout.contains("account_id  acc-1\n") && shown.stdout.contains("balance     10\n"), "{shown:?}");
    assert!(shown.stderr.contains("account_balance at position 3"), "{shown:?}");
    let table = expect(0, path, &[&accounts[..], &["--limit", "2"]].concat());
    let lines: Vec<&str> = table.stdout.lines().collect();
    assert!(lines[0].starts_with("ACCOUNT ID") && lines[1].contains("acc-1") && lines.len() == 3, "{table:?}");
    assert!(table.stderr.contains("there are more: --cursor acc-2"), "{table:?}");
    let rest = expect(0, path, &[&accounts[..], &["--cursor", "acc-2", "--format", "ndjson"]].concat());
    assert_eq!(rest.json()["account_id"], "acc-3");
    let data = expect(0, path, &[&accounts[..], &["--data", r#"{"limit":1}"#, "--format", "json"]].concat()).json();
    assert_eq!((&data["query_type"], &data["projection"]), (&json!("ListAccounts"), &json!("account_balance")));
    assert_eq!(data["data"]["items"].as_array().unwrap().len(), 1);
    let none = ["query", "send", "GetTransfers", "--filter", "account_id=acc-1"];
    let none = expect(0, path, &[&none[..], &FRESH].concat());
    assert_eq!((none.stdout.as_str(), none.stderr.contains("no rows")), ("", true));

    let server = Server::start(path, NO_SETTINGS);
    let url = server.url();
    let timeless = |ended: Ended| {
        let mut answer = ended.json();
        answer["cached"] = Value::Null;
        answer
    };
    let both = |code: i32, words: &[&str]| {
        let here = expect(code, path, &[words, &["--format", "json"]].concat());
        let there = expect(code, path, &[words, &["--format", "json", "--url", &url]].concat());
        (here, there)
    };
    for words in [balance, accounts] {
        let (here, there) = both(0, &words);
        assert_eq!(timeless(here), timeless(there), "{words:?}");
    }
    for (code, words) in [
        (3, &["GetAccountBalance", "--filter", "account_id=nobody"][..]),
        (1, &["GetAcountBalance"]),
        (1, &["GetAccountBalance"]),
        (1, &["ListAccounts", "--filter", "limit:=0"]),
        (1, &["ListAccounts", "--projection", "inventory"]),
        (3, &["ListAccounts", "--projection", "inventories"]),
        (6, &["ListAccounts", "--min-position", "1000", "--wait", "0"]),
    ] {
        let (here, there) = both(code, &[&["query", "send"], words].concat());
        if code != 6 {
            assert_eq!(here.stderr, there.stderr, "{words:?}");
        }
    }
    let stale = ["query", "send", "ListAccounts", "--min-position", "1000", "--wait", "0", "--lenient"];
    let (here, there) = both(0, &stale);
    assert_eq!((&here.json()["stale"], &there.json()["stale"]), (&json!(true), &json!(true)));
}

#[test]
fn projections_are_looked_after_with_and_without_a_server() {
    let folder = with_store();
    let path = folder.path();
    let balance = [&["query", "send", "GetAccountBalance", "--filter", "account_id=acc-1"][..], &FRESH].concat();
    expect(0, path, &balance);
    let mut server = None;
    for is_served in [false, true] {
        if is_served {
            server = Some(Server::start(path, NO_SETTINGS));
        }
        let url = server.as_ref().map(Server::url);
        let with = |words: &[&'static str]| -> Vec<String> {
            let url = url.iter().flat_map(|url| ["--url", url]);
            words.iter().copied().chain(url).map(str::to_owned).collect()
        };
        let run = |code: i32, words: &[&'static str]| {
            expect(code, path, &with(words).iter().map(String::as_str).collect::<Vec<_>>())
        };
        expect(0, path, &balance);
        let list = run(0, &["projection", "list"]).stdout;
        assert!(list.starts_with("PROJECTION") && list.lines().count() == 6, "{list}");
        let show = run(0, &["projection", "show", "account_balance"]).stdout;
        assert!(show.contains("checkpoint      3\n") && show.contains("parked          0\n"), "{show}");
        assert_eq!(run(0, &["projection", "list", "--format", "ndjson"]).stdout.lines().count(), 5);
        run(3, &["projection", "show", "nothing"]);
        run(3, &["projection", "rebuild", "nothing"]);

        let rebuilt = run(0, &["projection", "rebuild", "account_balance", "--format", "json"]);
        assert_eq!(rebuilt.json()["status"], "succeeded", "{rebuilt:?}");
        assert!(rebuilt.stderr.contains("of account_balance"), "plain lines tell the progress: {rebuilt:?}");
        let back = run(0, &["projection", "rollback", "account_balance", "--format", "json"]).json();
        assert_eq!(back["status"], "rolled_back");
        assert!(run(0, &["projection", "rebuild", "account_balance"]).stdout.contains("succeeded"));

        assert_eq!(run(0, &["projection", "pause", "account_balance", "--format", "json"]).json()["paused"], true);
        let begun = run(0, &["projection", "rebuild", "account_balance", "--no-wait", "--format", "json"]).json();
        assert_eq!(begun["status"], "running");
        let refused = run(5, &["projection", "rebuild", "account_balance"]);
        assert!(refused.stderr.contains("rebuild-in-progress"), "{refused:?}");
        let operations = run(0, &["operation", "list", "--limit", "1", "--format", "json"]).json();
        assert_eq!(operations["items"][0]["operation_id"], begun["operation_id"]);
        assert!(run(0, &["operation", "list"]).stdout.starts_with("OPERATION"));
        let id: &'static str = begun["operation_id"].as_str().unwrap().to_owned().leak();
        assert!(run(0, &["operation", "show", id]).stdout.contains("running"));
        assert_eq!(run(0, &["operation", "cancel", id, "--format", "json"]).json()["status"], "cancelled");
        run(3, &["operation", "show", "00000000-0000-0000-0000-000000000000"]);
        assert_eq!(run(0, &["projection", "resume", "account_balance", "--format", "json"]).json()["paused"], false);

        assert!(run(0, &["projection", "parked", "list", "account_balance"]).stderr.contains("no parked events"));
        run(3, &["projection", "parked", "retry", "account_balance", "1"]);
        run(3, &["projection", "parked", "skip", "account_balance", "1"]);
    }
}

#[test]
fn who_stops_waiting_is_told_how_to_go_on() {
    let folder = with_store();
    let server = Server::start(folder.path(), NO_SETTINGS);
    let url = server.url();
    expect(0, folder.path(), &["projection", "pause", "inventory", "--url", &url]);
    let mut command = program(folder.path(), NO_SETTINGS);
    command.args(["projection", "rebuild", "inventory", "--url", &url]);
    let mut waiting = Process::start(command);
    assert!(waiting.line(|line| line.contains("of inventory: ")).is_some(), "{:?}", waiting.said());
    waiting.signal("INT");
    let hint = waiting.line(|line| line.starts_with("it goes on in the server")).unwrap();
    assert_eq!(waiting.wait().code(), Some(6));
    let id = hint.split("operation cancel ").nth(1).unwrap().split('`').next().unwrap();
    expect(0, folder.path(), &["operation", "cancel", id, "--url", &url]);
}

#[test]
fn wrong_words_exit_with_2() {
    let folder = tempfile::tempdir().unwrap();
    for words in [
        &["query"][..],
        &["query", "send"],
        &["query", "send", "A", "--filter", "x"],
        &["query", "send", "A", "--filter", "x=1", "--filter", "x=2"],
        &["query", "send", "A", "--filter", "x=1", "--data", "{}"],
        &["query", "send", "A", "--data", "[]"],
        &["query", "send", "A", "--limit", "0"],
        &["query", "send", "A", "--wait", "3601"],
        &["projection", "show"],
        &["projection", "parked", "skip", "inventory", "x"],
        &["operation", "show", "7"],
    ] {
        expect(2, folder.path(), words);
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "nothing was made");
}
