//! The words about branches, on the store and on a server.

use std::path::Path;

use serde_json::{Value, json};

use crate::support::server::{Ended, Server, word};

const NO_SETTINGS: &[(&str, &str)] = &[];

/// Runs a word and expects an exit code.
#[track_caller]
fn expect(code: i32, folder: &Path, words: &[&str]) -> Ended {
    let ended = word(folder, NO_SETTINGS, words);
    assert_eq!(ended.code, code, "{words:?}: {ended:?}");
    assert!(!ended.stderr.contains("panicked"), "{ended:?}");
    ended
}

/// The same words on the store and on a server, as `with` says whom they talk to.
fn walk(folder: &Path, with: &[&str]) {
    let run = |code: i32, words: &[&str]| expect(code, folder, &[words, with].concat());
    let amount = |amount: i64| json!({ "amount": amount }).to_string();
    let balance = |words: &[&str]| -> Value {
        let words = [&["replay", "a", "--format", "json"], words].concat();
        run(0, &words).json()["state"]["balance"].clone()
    };
    run(
        0,
        &[
            "command",
            "send",
            "CreateAccount",
            "a",
            "--data",
            &json!({ "owner": "J", "initial_balance": 100 }).to_string(),
        ],
    );
    let made =
        run(0, &["branch", "create", "what if", "--aggregate-id", "a", "--from-sequence", "1", "--format", "json"])
            .json();
    assert_eq!((&made["name"], &made["status"]), (&json!("what if"), &json!("open")));
    let id = made["branch_id"].as_str().unwrap();
    let on = ["--branch", id];

    run(0, &["command", "send", "WithdrawMoney", "a", "--data", &amount(60), "--branch", id]);
    assert_eq!((balance(&on), balance(&[])), (json!(40), json!(100)));
    assert_eq!(run(1, &["command", "send", "WithdrawMoney", "a", "--data", &amount(41), "--branch", id]).stdout, "");
    let events = run(0, &["events", "get", "a", "--branch", id, "--format", "ndjson"]).stdout;
    assert_eq!(events.lines().count(), 2, "{events}");
    let query =
        ["query", "send", "GetAccountBalance", "--data", r#"{"account_id":"a"}"#, "--format", "json", "--branch", id];
    assert_eq!(run(0, &query).json()["data"]["balance"], 40);
    let diff = run(0, &["branch", "diff", id]).stdout;
    assert!(
        diff.contains("account a: version 1 on main, 2 on the branch") && diff.contains("/balance: 100 -> 40"),
        "{diff}"
    );
    assert!(run(0, &["branch", "list"]).stdout.contains("what if"));

    run(0, &["command", "send", "WithdrawMoney", "a", "--data", &amount(50)]);
    for words in [&["branch", "merge", id, "--dry-run"][..], &["branch", "merge", id]] {
        let refused = run(5, words);
        assert!(refused.stdout.contains("not merged: 1 command") && refused.stdout.contains("(insufficient-funds)"));
        assert!(refused.stderr.contains("(merge-conflict)"), "{refused:?}");
    }
    run(0, &["command", "send", "DepositMoney", "a", "--data", &amount(50)]);
    let tried = run(0, &["branch", "merge", id, "--dry-run"]).stdout;
    assert!(tried.starts_with("would merge: 1 command\n"), "{tried}");
    for _ in 0..2 {
        assert_eq!(run(0, &["branch", "merge", id, "--format", "json"]).json()["merged"], true);
    }
    assert_eq!(balance(&[]), json!(40));
    assert_eq!(run(0, &["branch", "show", id, "--format", "json"]).json()["status"], "merged");
    run(5, &["command", "send", "DepositMoney", "a", "--data", &amount(1), "--branch", id]);
    run(0, &["branch", "delete", id]);
    for words in [&["branch", "show", id][..], &["branch", "merge", id], &["replay", "a", "--branch", id]] {
        assert!(run(3, words).stderr.contains("unknown-branch"), "{words:?}");
    }
}

#[test]
fn words_on_the_store_work_on_branches() {
    let folder = tempfile::tempdir().unwrap();
    expect(0, folder.path(), &["migrate"]);
    walk(folder.path(), &[]);
    let audit = expect(0, folder.path(), &["audit"]).stdout;
    assert!(audit.contains("branch merge") && audit.contains("branch delete"), "{audit}");
}

#[test]
fn words_on_a_server_work_on_branches() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), NO_SETTINGS);
    walk(folder.path(), &["--url", &server.url()]);
    assert!(server.terminate().success());
}

#[test]
fn words_that_know_no_branches_say_so() {
    let folder = tempfile::tempdir().unwrap();
    let id = uuid::Uuid::now_v7().to_string();
    for words in [&["status"][..], &["projection", "list"], &["verify"], &["branch", "list"]] {
        let refused = expect(2, folder.path(), &[words, &["--branch", &id]].concat());
        assert!(refused.stderr.contains("--branch goes with"), "{refused:?}");
    }
    expect(2, folder.path(), &["branch", "create", "n"]);
    expect(2, folder.path(), &["branch", "create", "n", "--at-position", "1", "--at-time", "2999-01-01T00:00:00Z"]);
    expect(2, folder.path(), &["branch", "create", "n", "--aggregate-id", "a"]);
    expect(2, folder.path(), &["branch", "show", "no id"]);
}
