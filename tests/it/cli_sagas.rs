//! The words about sagas, on the store, beside a server, and on a server.

use std::path::Path;

use event_sourcing_cqrs::http::HttpOptions;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{
    sagas,
    server::{Ended, Process, Server, program, word},
};

const NO_SETTINGS: &[(&str, &str)] = &[];

/// Runs a word and expects an exit code.
#[track_caller]
fn expect(code: i32, folder: &Path, words: &[&str]) -> Ended {
    let ended = word(folder, NO_SETTINGS, words);
    assert_eq!(ended.code, code, "{words:?}: {ended:?}");
    assert!(!ended.stderr.contains("panicked"), "{ended:?}");
    ended
}

/// A store with two accounts.
fn with_store() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    expect(0, folder.path(), &["migrate"]);
    for (id, balance) in [("a", 100), ("b", 0)] {
        let data = json!({ "owner": "J", "initial_balance": balance }).to_string();
        expect(0, folder.path(), &["command", "send", "CreateAccount", id, "--data", &data]);
    }
    folder
}

fn transfer(amount: i64) -> String {
    json!({ "from_account": "a", "to_account": "b", "amount": amount }).to_string()
}

fn id_of(saga: &Value) -> String {
    saga["saga_id"].as_str().unwrap().to_owned()
}

/// An account's balance by its events, which need no read model.
fn balance(folder: &Path, account: &str) -> Value {
    expect(0, folder, &["replay", account, "--format", "json"]).json()["state"]["balance"].clone()
}

#[test]
fn a_start_under_a_key_happens_once_on_the_store_and_on_a_server() {
    let folder = with_store();
    let path = folder.path();
    let server = Server::start(path, NO_SETTINGS);
    let url = server.url();
    for with in [&[][..], &["--url", &url]] {
        let key = format!("key-{}", with.len());
        let start = |amount: i64| {
            let data = transfer(amount);
            let words =
                ["saga", "start", "TransferSaga", "--data", &data, "--idempotency-key", &key, "--format", "json"];
            word(path, NO_SETTINGS, &[&words[..], with].concat())
        };
        let (first, again) = (start(1), start(1));
        assert_eq!((first.code, again.code), (0, 0), "{first:?} {again:?}");
        assert_eq!(id_of(&first.json()), id_of(&again.json()));
        let other = start(2);
        assert!(other.code == 1 && other.stderr.contains("key"), "{other:?}");
        let wish =
            ["saga", "cancel", &id_of(&first.json()), "--idempotency-key", &format!("{key}-cancel")].map(str::to_owned);
        let wish: Vec<&str> = wish.iter().map(String::as_str).chain(with.iter().copied()).collect();
        // Cancelled, or ended before: the second answer is the first.
        let (first, again) = (word(path, NO_SETTINGS, &wish), word(path, NO_SETTINGS, &wish));
        assert_eq!((first.code, &first.stderr), (again.code, &again.stderr), "{first:?}");
    }
    let list = expect(0, path, &["saga", "list", "--format", "ndjson"]).stdout;
    assert_eq!(list.lines().count(), 2, "{list}");
    let note =
        ["events", "append", "n", "Noted", "--aggregate-type", "note", "--idempotency-key", "n", "--format", "json"];
    let (one, two) = (expect(0, path, &note).json(), expect(0, path, &note).json());
    assert_eq!((&one["version"], &two["version"]), (&json!(1), &json!(1)));
    assert_eq!(one["events"], two["events"]);
    for (key, with) in [("b1", &[][..]), ("b2", &["--url", &url])] {
        let branch = ["branch", "create", "b", "--at-position", "1", "--idempotency-key", key, "--format", "json"];
        let made = || expect(0, path, &[&branch[..], with].concat()).json()["branch_id"].clone();
        assert_eq!(made(), made(), "{with:?}");
    }
}

#[test]
fn a_word_that_waits_works_on_its_saga_itself() {
    let folder = with_store();
    let path = folder.path();
    let start = ["saga", "start", "TransferSaga", "--data", &transfer(40), "--wait", "30"];
    let done = expect(0, path, &start).stdout;
    for line in
        ["status          completed\n", "\nSTEP      STATUS     TRIES", "withdraw  completed", "deposit   completed"]
    {
        assert!(done.contains(line), "{line:?} in {done}");
    }
    assert!(done.contains("WithdrawMoney is to be sent to a\n") && done.contains("completed: everything is done"));
    assert_eq!((balance(path, "a"), balance(path, "b")), (json!(60), json!(40)));

    let start = ["saga", "start", "TransferSaga", "--data", &transfer(61), "--wait", "30", "--format", "json"];
    let refused = expect(1, path, &start);
    assert_eq!(refused.json()["status"], "compensated");
    assert!(refused.stderr.contains("the saga is compensated: "), "{refused:?}");
    assert!(refused.stderr.contains("(insufficient-funds)"), "{refused:?}");
    assert_eq!(balance(path, "a"), 60);

    let listed = expect(0, path, &["saga", "list"]).stdout;
    assert!(listed.starts_with("SAGA") && listed.lines().count() == 3, "{listed}");
    let listed = expect(0, path, &["saga", "list", "--status", "completed", "--format", "ndjson"]);
    assert_eq!((listed.stdout.lines().count(), &listed.json()["status"]), (1, &json!("completed")));
    assert!(expect(0, path, &["saga", "list", "--status", "failed"]).stderr.contains("no sagas"));
}

#[test]
fn a_saga_that_nobody_works_on_is_recorded_and_goes_on_with_the_next_server() {
    let folder = with_store();
    let path = folder.path();
    std::fs::write(path.join("data.json"), transfer(10)).unwrap();
    let start =
        ["saga", "start", "TransferSaga", "--data", "@data.json", "--timeout-ms", "3600000", "--format", "json"];
    let begun = expect(0, path, &start);
    assert!(begun.stderr.contains("no server works on this store"), "{begun:?}");
    assert_eq!((&begun.json()["status"], balance(path, "a")), (&json!("running"), json!(100)));
    let cancelled = id_of(&begun.json());
    let going_on = id_of(&expect(0, path, &start).json());
    let show = expect(0, path, &["saga", "show", &going_on]).stdout;
    assert!(show.contains("withdraw  running") && show.contains("deposit   pending"), "{show}");

    // Words that follow the log to tell how it stands do not work on sagas.
    let listed = expect(0, path, &["saga", "list", "--status", "running", "--format", "ndjson"]);
    assert_eq!(listed.stdout.lines().count(), 2, "{listed:?}");
    expect(0, path, &["projection", "list"]);
    assert_eq!(balance(path, "a"), json!(100));

    // It waits for the answer to its first command, which nobody has sent: that is sent, then undone.
    let undone = expect(0, path, &["saga", "cancel", &cancelled, "--wait", "30", "--format", "json"]).json();
    assert_eq!((&undone["status"], &undone["reason"]["code"]), (&json!("compensated"), &json!("cancelled")));

    let server = Server::start(path, NO_SETTINGS);
    let url = server.url();
    let done =
        expect(0, path, &["saga", "start", "TransferSaga", "--data", &transfer(1), "--wait", "30", "--url", &url]);
    assert!(done.stdout.contains("completed: everything is done"), "{done:?}");
    // A word on the store beside the server leaves the work to it.
    let beside = expect(0, path, &["saga", "start", "TransferSaga", "--data", &transfer(1)]);
    assert!(beside.stderr.contains("it goes on in the server on this store"), "{beside:?}");
    let beside = ["saga", "start", "TransferSaga", "--data", &transfer(1), "--wait", "30"];
    assert!(expect(0, path, &beside).stdout.contains("completed: everything is done"));
    let there = expect(0, path, &["saga", "start", "TransferSaga", "--data", &transfer(1), "--url", &url]);
    assert!(there.stderr.contains("it goes on in the server; `saga show "), "{there:?}");
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while expect(0, path, &["saga", "show", &going_on, "--format", "json"]).json()["status"] != "completed" {
        assert!(std::time::Instant::now() < deadline, "what was recorded without a server is done by the next one");
    }
    assert_eq!(server.terminate().code(), Some(0));
}

#[test]
fn words_say_the_same_with_and_without_a_server() {
    let folder = with_store();
    let path = folder.path();
    let start = ["saga", "start", "TransferSaga", "--data", &transfer(1), "--wait", "30", "--format", "json"];
    let id = id_of(&expect(0, path, &start).json());
    let server = Server::start(path, NO_SETTINGS);
    let url = server.url();
    let same = json!({ "from_account": "a", "to_account": "a", "amount": 0 }).to_string();
    for (code, words) in [
        (0, &["saga", "show", &id, "--format", "json"][..]),
        (0, &["saga", "show", &id]),
        (0, &["saga", "list"]),
        (0, &["saga", "list", "--type", "TransferSaga", "--format", "json"]),
        (3, &["saga", "show", "nobody"]),
        (3, &["saga", "show", "a"]),
        (3, &["saga", "retry", "nobody"]),
        (3, &["saga", "cancel", "a"]),
        (5, &["saga", "retry", &id]),
        (5, &["saga", "cancel", &id]),
        (1, &["saga", "start", "TransferSga"]),
        (1, &["saga", "start", "TransferSaga"]),
        (1, &["saga", "start", "TransferSaga", "--data", &same]),
        (1, &["saga", "list", "--type", "TransferSga"]),
    ] {
        let here = expect(code, path, words);
        let there = expect(code, path, &[words, &["--url", &url]].concat());
        assert_eq!((here.stdout, here.stderr), (there.stdout, there.stderr), "{words:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_saga_that_was_set_aside_fails_the_word_that_waits_and_can_be_retried() {
    let server = sagas::server(HttpOptions::default()).await;
    server.account("a", 1).await;
    let url = format!("http://{}", server.address);
    let run = |code: i32, words: &[&str]| {
        let words: Vec<String> =
            words.iter().map(|word| (*word).to_owned()).chain(["--url".to_owned(), url.clone()]).collect();
        tokio::task::spawn_blocking(move || {
            let folder = tempfile::tempdir().unwrap();
            expect(code, folder.path(), &words.iter().map(String::as_str).collect::<Vec<_>>())
        })
    };
    let data = r#"{"to":"a","undo_from":"later"}"#;
    let failed = run(1, &["saga", "start", "StubbornSaga", "--data", data, "--wait", "30", "--format", "json"]);
    let failed = failed.await.unwrap();
    assert_eq!(failed.json()["status"], "failed");
    assert!(failed.stderr.contains("error: the saga is failed: ") && failed.stderr.contains("(account-not-found)"));
    let id = id_of(&failed.json());
    let shown = run(0, &["saga", "show", &id]).await.unwrap().stdout;
    assert!(shown.contains("1 + 1 undo") && shown.contains("set aside until an operator acts"), "{shown}");
    let again = run(1, &["saga", "retry", &id, "--wait", "30"]).await.unwrap();
    assert!(again.stderr.contains("the saga is failed"), "{again:?}");
    server.account("later", 5).await;
    let retried = run(0, &["saga", "retry", &id, "--wait", "30"]).await.unwrap();
    assert!(retried.stdout.contains("compensated: no lasting effect remains"), "{retried:?}");

    let patient = ["saga", "start", "PatientSaga", "--data", r#"{"account":"a"}"#, "--wait", "1", "--format", "json"];
    let late = run(6, &patient).await.unwrap();
    assert_eq!(late.json()["status"], "running");
    assert!(late.stderr.contains("the saga is still running after 1 s"), "{late:?}");
    assert!(late.stderr.contains("it goes on in the server"), "{late:?}");
    let id = id_of(&late.json());
    let cancelled = run(0, &["saga", "cancel", &id]).await.unwrap();
    assert_eq!(cancelled.stdout, format!("PatientSaga {id} is compensated\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_stops_waiting_is_told_who_goes_on() {
    let server = sagas::server(HttpOptions::default()).await;
    server.account("a", 1).await;
    let url = format!("http://{}", server.address);
    let word = tokio::task::spawn_blocking(move || {
        let folder = tempfile::tempdir().unwrap();
        let mut command = program(folder.path(), NO_SETTINGS);
        let data = r#"{"account":"a"}"#;
        command.args(["saga", "start", "PatientSaga", "--data", data, "--wait", "60", "--url", &url]);
        let waiting = Process::start(command);
        let list = ["saga", "list", "--status", "running", "--format", "ndjson", "--url", &url];
        while expect(0, folder.path(), &list).stdout.trim().is_empty() {}
        (waiting, folder)
    });
    let (mut waiting, _folder) = word.await.unwrap();
    // It has asked once more, so it listens to signals.
    let asked = || async { server.get("/metrics").await.text().contains("route=\"/api/v1/sagas/{saga_id}\"") };
    crate::support::eventually("it waits", asked).await;
    waiting.signal("INT");
    let hint = waiting.line(|line| line.contains("`saga show ")).unwrap();
    assert!(hint.starts_with("it goes on in the server;"), "{hint}");
    assert_eq!(waiting.wait().code(), Some(6));
}

#[test]
fn wrong_words_exit_with_2() {
    let folder = tempfile::tempdir().unwrap();
    for words in [
        &["saga"][..],
        &["saga", "start"],
        &["saga", "start", "A", "--data", "[]"],
        &["saga", "start", "A", "--data", "{"],
        &["saga", "start", "A", "--data", "@not-there.json"],
        &["saga", "start", "A", "--timeout-ms", "0"],
        &["saga", "start", "A", "--timeout-ms", "31536000001"],
        &["saga", "start", "A", "--wait", "86401"],
        &["saga", "list", "--status", "done"],
        &["saga", "list", "--limit", "0"],
        &["saga", "show"],
        &["saga", "retry"],
    ] {
        expect(2, folder.path(), words);
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "nothing was made");
}
