//! `keys backup` and `keys restore` as an operator meets them.

use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{postgres, server::Server, words::expect};

/// Erasures are quick, and keys and list lie where both kinds of store find them.
const MASTER_KEY_FILE: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/erasure-of-keys.key");
const LIST: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/erasure-of-tests.erased");
const SHARED: [(&str, &str); 3] = [
    ("ES__ERASURE__KEY_LIFE_MS", "200"),
    ("ES__ERASURE__MASTER_KEY_FILE", MASTER_KEY_FILE),
    ("ES__ERASURE__TOMBSTONE_FILE", LIST),
];

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn register(folder: &Path, environment: &[(&str, &str)], name: &str) {
    let data = json!({ "email": format!("{name}@example.org"), "name": format!("Name of {name}") }).to_string();
    expect(0, folder, environment, &["command", "send", "RegisterUser", name, "--data", &data]);
}

fn name(folder: &Path, environment: &[(&str, &str)], id: &str) -> Value {
    let replayed = expect(0, folder, environment, &["replay", id, "--format", "json"]).json();
    replayed["state"]["name"].clone()
}

/// Waits until a person's row shows this.
fn shows(server: &Server, id: &str, word: &str) {
    let give_up = std::time::Instant::now() + std::time::Duration::from_secs(120);
    let body = json!({ "query_type": "GetUser", "filters": { "user_id": id } }).to_string();
    loop {
        let (_, answer) = server.request("POST", "/api/v1/queries", &body);
        if answer.contains(word) {
            return;
        }
        assert!(std::time::Instant::now() < give_up, "{id} never reads {word}: {answer}");
        std::thread::park_timeout(std::time::Duration::from_millis(100));
    }
}

/// Ann lives on, bo was erased before log and keys were backed up, cy after; then all of it is restored elsewhere.
fn moved(from: &str, into: &str) {
    let (source, target) = (folder(), folder());
    let here: Vec<_> = SHARED.into_iter().chain([("DATABASE_URL", from)]).collect();
    let there: Vec<_> = SHARED.into_iter().chain([("DATABASE_URL", into)]).collect();
    expect(0, source.path(), &here, &["migrate"]);
    for id in ["ann", "bo", "cy"] {
        register(source.path(), &here, id);
    }
    expect(0, source.path(), &here, &["erase", "bo"]);
    let (log, keys) = (target.path().join("log"), target.path().join("keys"));
    let (log, keys) = (log.to_str().unwrap(), keys.to_str().unwrap());
    expect(0, source.path(), &here, &["backup", log]);
    let made = expect(0, source.path(), &here, &["keys", "backup", keys, "--format", "json"]);
    assert_eq!((&made.json()["keys"], &made.json()["destroyed"]), (&json!(2), &json!(1)), "{made:?}");
    assert!(made.stderr.contains("keep the master key file apart"), "{made:?}");
    let erased = expect(0, source.path(), &here, &["erase", "cy", "--format", "json"]).json();
    assert!(erased["result"]["elsewhere"].as_str().unwrap().contains("keys backup"), "{erased}");

    let restored = expect(0, target.path(), &there, &["restore", log]);
    assert!(restored.stderr.contains("keys restore"), "{restored:?}");
    assert_eq!(name(target.path(), &there, "ann"), "[sealed]");
    assert_eq!(name(target.path(), &there, "bo"), "[erased]", "the log itself says so");
    let put_back = || expect(0, target.path(), &there, &["keys", "restore", keys, "--format", "json"]).json();
    let first = put_back();
    assert_eq!((&first["restored"], &first["erased"]), (&json!(1), &json!(1)), "{first}");
    for (id, expected) in [("ann", "Name of ann"), ("bo", "[erased]"), ("cy", "[erased]")] {
        assert_eq!(name(target.path(), &there, id), expected, "{id}");
    }
    let again = put_back();
    assert_eq!((&again["restored"], &again["already_there"]), (&json!(0), &json!(1)), "{again}");
    let server = Server::start(target.path(), &there);
    for (id, expected) in [("ann", "Name of ann"), ("bo", "[erased]"), ("cy", "[erased]")] {
        shows(&server, id, expected);
    }
    assert!(server.terminate().success());
    let audited = expect(0, target.path(), &there, &["audit", "--format", "json"]).stdout;
    assert!(audited.contains("keys restore"), "{audited}");
}

#[tokio::test(flavor = "multi_thread")]
async fn people_are_read_again_in_the_other_kind_of_store_and_the_erased_are_not() {
    let (Some(first), Some(second)) = (postgres::database().await, postgres::database().await) else { return };
    moved("sqlite://data/eventstore.db", &first.url);
    moved(&second.url, "sqlite://data/eventstore.db");
}

/// A store with one person, its backup and its key file.
fn backed_up() -> TempDir {
    let source = folder();
    expect(0, source.path(), &[], &["migrate"]);
    register(source.path(), &[], "ann");
    expect(0, source.path(), &[], &["backup", "log"]);
    expect(0, source.path(), &[], &["keys", "backup", "keys"]);
    source
}

/// The name of the file that ends so.
fn named(folder: &Path, ending: &str) -> std::path::PathBuf {
    let mut all = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let is_it = |path: &std::path::PathBuf| path.file_name().unwrap().to_string_lossy().ends_with(ending);
    all.find(|path| is_it(path) && path.file_name().unwrap().to_string_lossy().starts_with("erasure-")).unwrap()
}

#[test]
fn wrong_files_are_refused_by_what_they_are() {
    let (source, other) = (backed_up(), backed_up());
    let path = source.path();
    let target = [("DATABASE_URL", "sqlite://restored/x.db")];
    expect(0, path, &target, &["restore", "log"]);
    let missing = expect(2, path, &target, &["keys", "restore", "keys"]);
    assert!(missing.stderr.contains("is missing") && missing.stderr.contains("master_key_file"), "{missing:?}");
    let master = named(&path.join("data"), ".key");
    let beside = path.join("restored").join(master.file_name().unwrap());
    std::fs::copy(named(&other.path().join("data"), ".key"), &beside).unwrap();
    let foreign = expect(2, path, &target, &["keys", "restore", "keys"]);
    assert!(foreign.stderr.contains("were wrapped by master key") && foreign.stderr.contains("holds"), "{foreign:?}");
    std::fs::copy(&master, &beside).unwrap();
    let others = other.path().join("keys");
    let of_another = expect(5, path, &target, &["keys", "restore", others.to_str().unwrap()]);
    assert!(of_another.stderr.contains("are of store"), "{of_another:?}");
    let confused = expect(2, path, &target, &["keys", "restore", "log"]);
    assert!(confused.stderr.contains("`event-sourcing-cqrs restore` takes"), "{confused:?}");
    let confused = expect(2, path, &[("DATABASE_URL", "sqlite://new/x.db")], &["restore", "keys"]);
    assert!(confused.stderr.contains("`event-sourcing-cqrs keys restore` takes"), "{confused:?}");
    let mut damaged = std::fs::read(path.join("keys")).unwrap();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    std::fs::write(path.join("damaged"), &damaged).unwrap();
    let refused = expect(4, path, &target, &["keys", "restore", "damaged"]);
    assert!(refused.stderr.contains("the key file is damaged at byte"), "{refused:?}");
    expect(3, path, &target, &["keys", "restore", "nowhere"]);
    let there = expect(5, path, &[], &["keys", "backup", "keys"]);
    assert!(there.stderr.contains("is not replaced"), "{there:?}");
    expect(2, path, &target, &["keys", "restore", "keys", "--url", "http://127.0.0.1:1"]);
    let dry = expect(0, path, &target, &["keys", "restore", "keys", "--dry-run", "--format", "json"]).json();
    assert_eq!((&dry["restored"], &dry["dry_run"]), (&json!(1), &json!(true)), "{dry}");
    assert_eq!(name(path, &target, "ann"), "[sealed]", "nothing was changed by any of these");
    // The control: the right one, by standard streams.
    let program = crate::support::server::PROGRAM;
    let script = format!("{program} keys backup - | {program} --database-url sqlite://restored/x.db keys restore -");
    let piped = std::process::Command::new("sh").current_dir(path).args(["-c", &script]).output().unwrap();
    assert!(piped.status.success(), "{piped:?}");
    assert_eq!(name(path, &target, "ann"), "Name of ann");
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        assert_eq!(std::fs::metadata(path.join("keys")).unwrap().mode() & 0o777, 0o600);
    }
}

#[test]
fn read_models_that_a_server_made_without_the_keys_are_made_again() {
    let source = backed_up();
    let path = source.path();
    let target = path.join("target");
    std::fs::create_dir(&target).unwrap();
    expect(0, &target, &[], &["restore", "../log"]);
    let master = named(&path.join("data"), ".key");
    std::fs::copy(&master, target.join("data").join(master.file_name().unwrap())).unwrap();
    let server = Server::start(&target, &[]);
    shows(&server, "ann", "[sealed]");
    let refused = expect(5, &target, &[], &["keys", "restore", "../keys"]);
    assert!(refused.stderr.contains("a server is running on this store"), "{refused:?}");
    let doctor = expect(0, &target, &[("BIND_ADDRESS", "127.0.0.1:0")], &["doctor"]);
    assert!(doctor.stdout.contains("keys restore"), "{doctor:?}");
    assert!(server.terminate().success());
    let restored = expect(0, &target, &[], &["keys", "restore", "../keys", "--format", "json"]).json();
    assert!(restored["rebuilt"].as_array().unwrap().contains(&json!("user_activity")), "{restored}");
    let server = Server::start(&target, &[]);
    shows(&server, "ann", "Name of ann");
    assert!(server.terminate().success());
    let doctor = expect(0, &target, &[("BIND_ADDRESS", "127.0.0.1:0")], &["doctor"]);
    assert!(!doctor.stdout.contains("keys restore"), "{doctor:?}");
}
