//! The word `erase`, on the store and on a server.

use serde_json::json;

use super::canaries::{found_below, people};
use crate::support::server::{Process, Server, program, word};

#[test]
fn word_erases_on_the_store_and_on_a_server() {
    let folder = tempfile::tempdir().unwrap();
    let environment = [("ES__ERASURE__KEY_LIFE_MS", "200")];
    let everyone = people("p", 3);
    let server = Server::start(folder.path(), &environment);
    for person in &everyone {
        let data = json!({ "email": person.email, "name": person.name });
        let body = json!({ "command_type": "RegisterUser", "aggregate_id": person.id, "data": data });
        assert_eq!(server.request("POST", "/api/v1/commands", &body.to_string()).0, 200);
    }
    let run = |words: &[&str]| word(folder.path(), &environment, words);
    let ended = run(&["erase", "p-000", "--url", &server.url(), "--format", "json"]);
    assert_eq!((ended.code, &ended.json()["status"]), (0, &json!("succeeded")), "{ended:?}");
    let ended = run(&["erase", "p-001", "--format", "json"]);
    assert_eq!((ended.code, &ended.json()["status"]), (0, &json!("succeeded")), "beside a server: {ended:?}");
    let begun = run(&["erase", "p-001", "--no-wait", "--url", &server.url(), "--format", "json"]);
    assert_eq!((begun.code, &begun.json()["kind"]), (0, &json!("subject-erase")), "{begun:?}");
    for words in [&["erase", "nobody"][..], &["erase", "nobody", "--url", &server.url()]] {
        let ended = run(words);
        assert_eq!((ended.code, ended.stderr.contains("unknown-subject")), (3, true), "{ended:?}");
    }
    assert!(server.terminate().success());
    let ended = run(&["erase", "p-002"]);
    assert_eq!(ended.code, 0, "without a server: {ended:?}");
    assert_eq!(found_below(&everyone, folder.path()), []);
}

#[test]
fn word_says_what_an_erasure_waits_for() {
    let folder = tempfile::tempdir().unwrap();
    let environment = [("ES__ERASURE__KEY_LIFE_MS", "200")];
    let everyone = people("p", 1);
    let server = Server::start(folder.path(), &environment);
    let data = json!({ "email": everyone[0].email, "name": everyone[0].name });
    let body = json!({ "command_type": "RegisterUser", "aggregate_id": "p-000", "data": data });
    assert_eq!(server.request("POST", "/api/v1/commands", &body.to_string()).0, 200);
    assert_eq!(server.request("POST", "/api/v1/projections/user_activity/pause", "{}").0, 200);
    let url = server.url();
    let mut erasing = Process::start({
        let mut command = program(folder.path(), &environment);
        command.args(["erase", "p-000", "--url", &url]);
        command
    });
    let waits = erasing.line(|line| line.contains(" waits: user_activity: "));
    assert!(waits.as_ref().is_some_and(|line| line.ends_with("and it stands still")), "{waits:?}");
    assert_eq!(server.request("POST", "/api/v1/projections/user_activity/resume", "{}").0, 200);
    assert!(erasing.wait().success(), "{:?}", erasing.said());
    assert!(erasing.said().iter().any(|line| line.contains("of 6 steps")), "{:?}", erasing.said());
    assert!(server.terminate().success());
    assert_eq!(found_below(&everyone, folder.path()), []);
}
