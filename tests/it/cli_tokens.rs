//! The words about keys, a server that asks for them, and that no key is anywhere but where it was shown.

use std::{
    io::{Read, Write},
    net::TcpStream,
    path::Path,
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::support::server::{Ended, Process, Server, program, word};

const GUARDED: &[(&str, &str)] = &[("ES__AUTH__MODE", "api_key"), ("LOG_LEVEL", "trace")];

#[track_caller]
fn expect(code: i32, folder: &Path, environment: &[(&str, &str)], words: &[&str]) -> Ended {
    let ended = word(folder, environment, words);
    assert_eq!(ended.code, code, "{words:?}: {ended:?}");
    assert!(!ended.stderr.contains("panicked"), "{ended:?}");
    ended
}

fn with_store() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    expect(0, folder.path(), &[], &["migrate"]);
    folder
}

fn key(folder: &Path, role: &str, name: &str) -> (String, String) {
    let made = expect(0, folder, &[], &["token", "create", "--role", role, "--name", name, "--format", "json"]).json();
    (made["key"].as_str().unwrap().to_owned(), made["token_id"].as_str().unwrap().to_owned())
}

/// The status of an answer.
fn ask(port: u16, path: &str, key: &str) -> u16 {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    write!(stream, "GET {path} HTTP/1.0\r\nHost: x\r\nAuthorization: Bearer {key}\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

fn becomes(what: &str, condition: impl Fn() -> bool) {
    let give_up = Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(Instant::now() < give_up, "waited 30 s for this: {what}");
        std::thread::park_timeout(Duration::from_millis(50));
    }
}

#[test]
fn keys_are_made_listed_and_revoked_on_the_store() {
    let folder = with_store();
    let path = folder.path();
    let made = expect(0, path, &[], &["token", "create", "--role", "writer", "--role", "auditor", "--expires", "90d"]);
    let shown = made.stdout.trim();
    assert!(shown.starts_with("escqrs_") && shown.lines().count() == 1, "a script takes it from there: {made:?}");
    assert!(made.stderr.contains("only time the key is shown") && !made.stderr.contains(shown));
    let (_, id) = key(path, "admin", "root");
    let list = expect(0, path, &[], &["token", "list"]).stdout;
    assert!(list.contains("root") && list.contains("writer,auditor") && list.contains("for ever"), "{list}");
    assert!(!list.contains(shown));
    let revoked = expect(0, path, &[], &["token", "revoke", &id]);
    assert!(revoked.stdout.contains("revoked at") && revoked.stderr.contains("within 5 s"));
    assert!(expect(0, path, &[], &["token", "list"]).stdout.contains("revoked "));
    let nobody = "01890000-0000-7000-8000-000000000000";
    assert!(expect(3, path, &[], &["token", "revoke", nobody]).stderr.contains("unknown-token"));
    let wrong = expect(2, path, &[], &["token", "revoke", shown]);
    assert!(wrong.stderr.contains("token list"), "{wrong:?}");
    for words in [
        vec!["token", "create"],
        vec!["token", "create", "--role", "boss"],
        vec!["token", "create", "--role", "reader", "--expires", "soon"],
        vec!["token", "create", "--role", "reader", "--for-settings"],
    ] {
        expect(2, path, &[], &words);
    }
    let past = ["token", "create", "--role", "reader", "--expires", "2001-01-01T00:00:00Z"];
    assert!(expect(1, path, &[], &past).stderr.contains("must be in the future"));
    // What was done on the store is in its audit.
    let audit = expect(0, path, &[], &["audit"]).stdout;
    for part in ["local", "token create", "token revoke", "begun", "succeeded", "refused"] {
        assert!(audit.contains(part), "{part} in {audit}");
    }
}

#[test]
fn server_without_a_key_says_how_to_make_one_and_takes_it_while_it_runs() {
    let folder = with_store();
    let path = folder.path();
    let mut server = Server::start(path, GUARDED);
    let said = server.process().said().join("\n");
    assert!(said.contains("there is no key") && said.contains("token create --role admin"), "{said}");
    assert_eq!(server.get("/api/v1/events").0, 401);
    let (admin, id) = key(path, "admin", "root");
    becomes("the key opens", || ask(server.port, "/api/v1/tokens", &admin) == 200);
    expect(0, path, &[], &["token", "revoke", &id]);
    becomes("the key opens nothing", || ask(server.port, "/api/v1/tokens", &admin) == 401);
    assert!(server.terminate().success());
}

#[test]
fn words_on_a_server_bring_their_key() {
    let folder = with_store();
    let path = folder.path();
    let (admin, _) = key(path, "admin", "root");
    let (reader, _) = key(path, "reader", "eyes");
    let server = Server::start(path, GUARDED);
    let url = server.url();
    let listed = ["events", "list", "--url", &url];
    assert!(expect(7, path, &[], &listed).stderr.contains("(unauthenticated)"));
    expect(0, path, &[("ES_TOKEN", &reader)], &listed);
    // Health answers everybody, and is told; the rest is refused.
    let status = ["status", "--url", &url];
    let refused = expect(7, path, &[], &status);
    assert!(refused.stdout.contains("event_store") && refused.stderr.contains("(unauthenticated)"), "{refused:?}");
    assert!(expect(0, path, &[("ES_TOKEN", &reader)], &status).stdout.contains(env!("CARGO_PKG_VERSION")));
    std::fs::write(path.join("key"), format!("{reader}\n")).unwrap();
    expect(0, path, &[], &["events", "list", "--url", &url, "--token", "@key"]);
    let data = r#"{"owner":"o","initial_balance":1}"#;
    let send = ["command", "send", "CreateAccount", "a", "--data", data, "--url", &url];
    let refused = expect(7, path, &[("ES_TOKEN", &reader)], &send);
    assert!(refused.stderr.contains("needs the role writer") && refused.stderr.contains("(forbidden)"), "{refused:?}");
    expect(0, path, &[("ES_TOKEN", &admin)], &send);
    // Load brings its key along, too.
    let bench =
        ["bench", "--duration", "0.3", "--warm-up", "0.1", "--concurrency", "2", "--aggregates", "2", "--url", &url];
    expect(7, path, &[], &bench);
    expect(0, path, &[("ES_TOKEN", &admin)], &bench);
    // Without an address the store is meant, and nobody is asked.
    expect(0, path, &[("ES_TOKEN", &reader)], &["events", "list"]);
    let made = expect(0, path, &[("ES_TOKEN", &admin)], &["token", "create", "--role", "reader", "--url", &url]).stdout;
    expect(0, path, &[("ES_TOKEN", made.trim())], &listed);
    let list = expect(0, path, &[("ES_TOKEN", &admin)], &["token", "list", "--url", &url, "--format", "json"]).json();
    let id = list["items"][0]["token_id"].as_str().unwrap();
    expect(0, path, &[("ES_TOKEN", &admin)], &["token", "revoke", id, "--url", &url]);
    expect(7, path, &[("ES_TOKEN", made.trim())], &listed);
    let audit = expect(0, path, &[("ES_TOKEN", &admin)], &["audit", "--url", &url, "--format", "ndjson"]).stdout;
    let acts: Vec<Value> = audit.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(acts.iter().any(|act| act["act"] == "POST /api/v1/tokens" && act["principal"] == "root"), "{audit}");
    assert!(acts.iter().any(|act| act["outcome"] == "refused" && act["principal"] == "eyes"), "{audit}");
    let secret = expect(2, path, &[("ES_TOKEN", "sécrèt hunter2")], &listed);
    assert!(secret.stderr.contains("ES_TOKEN") && !secret.stderr.contains("hunter2"), "{secret:?}");
    assert!(server.terminate().success());
}

#[test]
fn no_key_is_anywhere_but_where_it_was_shown() {
    let folder = with_store();
    let path = folder.path();
    let (admin, _) = key(path, "admin", "root");
    let offline = ["token", "create", "--role", "writer", "--name", "ci", "--for-settings", "--format", "json"];
    let offline = expect(0, path, &[], &offline).json();
    let (configured, line) =
        (offline["key"].as_str().unwrap().to_owned(), offline["line"].as_str().unwrap().to_owned());
    let environment: Vec<_> = GUARDED.iter().copied().chain([("ES__AUTH__KEYS", line.as_str())]).collect();
    let mut server = Server::start(path, &environment);
    let guess = "escqrs_CanaryCanaryCanaryCanaryCanaryCanaryCanary";
    assert_eq!(
        (ask(server.port, "/api/v1/events", &admin), ask(server.port, "/api/v1/events", &configured)),
        (200, 200)
    );
    assert_eq!(ask(server.port, "/api/v1/events", guess), 401);
    assert_eq!(ask(server.port, "/api/v1/audit", &admin), 200);
    let url = server.url();
    let pid = server.pid;
    let mut follower = Process::start({
        let mut follow = program(path, &[("ES_TOKEN", admin.as_str())]);
        follow.args(["events", "tail", "--url", &url]);
        follow
    });
    let command_line = |pid: u32| std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let command_lines = [command_line(pid), command_line(follower.pid())].concat();
    follower.signal("KILL");
    let _ = follower.wait();
    server.process().signal("TERM");
    assert!(server.process().wait().success());
    let mut heaps: Vec<(String, Vec<u8>)> =
        vec![("the log".to_owned(), server.process().said().join("\n").into_bytes())];
    heaps.push(("command lines".to_owned(), command_lines));
    for words in [&["config", "show"][..], &["config", "show", "--format", "json"], &["token", "list"], &["audit"]] {
        let ended = expect(0, path, &environment, words);
        heaps.push((format!("{words:?}"), format!("{}{}", ended.stdout, ended.stderr).into_bytes()));
    }
    for entry in std::fs::read_dir(path.join("data")).unwrap() {
        let file = entry.unwrap().path();
        if file.is_file() {
            heaps.push((file.display().to_string(), std::fs::read(&file).unwrap()));
        }
    }
    assert!(heaps.len() > 6 && heaps[0].1.len() > 500, "there is something to look through");
    let digest = line.rsplit_once(':').unwrap().1;
    for (place, heap) in heaps {
        for secret in [&admin, &configured, guess, digest] {
            let is_there = heap.windows(secret.len() - 8).any(|window| window == &secret.as_bytes()[8..]);
            assert!(!is_there, "a secret is in {place}");
        }
    }
}

#[test]
fn door_that_is_open_to_all_is_warned_of_loudly() {
    let folder = with_store();
    let warned = |environment: &[(&str, &str)]| {
        let mut server = Server::start(folder.path(), environment);
        let said = server.process().said().join("\n");
        assert!(server.terminate().success());
        said.contains("can be reached from other machines and auth.mode is none")
    };
    assert!(warned(&[("BIND_ADDRESS", "0.0.0.0:0")]));
    assert!(!warned(&[("BIND_ADDRESS", "0.0.0.0:0"), ("ES__AUTH__MODE", "api_key")]));
    assert!(!warned(&[]));
}
