//! The program as an operator and an auditor meet it.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, SqliteConnection, sqlite::SqliteConnectOptions};
use tempfile::TempDir;

use super::forger::Victim;
use crate::support::server::{Ended, Server, word};

const ENVIRONMENT: &[(&str, &str)] = &[("ES__INTEGRITY__INTERVAL_MS", "50")];

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

pub fn create(server: &Server, id: &str) -> (u16, String) {
    let data = json!({ "owner": "o", "initial_balance": 1 });
    let body = json!({ "command_type": "CreateAccount", "aggregate_id": id, "data": data });
    server.request("POST", "/api/v1/commands", &body.to_string())
}

/// Waits until the server's checkpoint covers so many events; returns it.
pub fn sealed(server: &Server, size: u64) -> String {
    let give_up = Instant::now() + Duration::from_secs(20);
    loop {
        let (status, note) = server.get("/api/v1/integrity/checkpoint");
        if status == 200 && note.lines().nth(1).is_some_and(|line| line.parse::<u64>().is_ok_and(|at| at >= size)) {
            return note;
        }
        assert!(Instant::now() < give_up, "{status} {note}: not sealed to {size}");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

#[track_caller]
fn expect(code: i32, folder: &Path, words: &[&str]) -> Ended {
    let ended = word(folder, ENVIRONMENT, words);
    assert_eq!(ended.code, code, "{words:?}: {ended:?}");
    assert!(!ended.stderr.contains("panicked"), "{ended:?}");
    ended
}

fn health(server: &Server) -> Value {
    let (_, body) = server.get("/health");
    let health: Value = serde_json::from_str(&body).unwrap();
    health["checks"]["integrity"][0].clone()
}

/// A store with so many accounts, sealed.
fn with_store(accounts: usize) -> TempDir {
    let folder = folder();
    let server = Server::start(folder.path(), ENVIRONMENT);
    for number in 0..accounts {
        assert_eq!(create(&server, &format!("acc-{number}")).0, 200);
    }
    // Shutting down seals the rest.
    assert!(server.terminate().success());
    folder
}

async fn attack(folder: &Path, statements: &[&str]) {
    let options = SqliteConnectOptions::new().filename(folder.join("data/eventstore.db"));
    let mut session = SqliteConnection::connect_with(&options).await.unwrap();
    for statement in statements {
        sqlx::query(AssertSqlSafe((*statement).to_owned())).execute(&mut session).await.unwrap();
    }
    session.close().await.unwrap();
}

fn evidence(folder: &Path, ending: &str) -> PathBuf {
    let files = std::fs::read_dir(folder.join("data")).unwrap().map(|entry| entry.unwrap().path());
    files.into_iter().find(|path| path.to_string_lossy().ends_with(ending)).unwrap_or_else(|| panic!("no {ending}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_tells_intact_from_altered_by_its_exit_code() {
    let folder = with_store(30);
    let intact = expect(0, folder.path(), &["verify", "--format", "json"]).json();
    assert_eq!(
        (&intact["intact"], &intact["sealed_position"], &intact["unsealed_events"]),
        (&json!(true), &json!(30), &json!(0))
    );
    assert_eq!(intact["checkpoint_position"], 30, "shutting down has signed the last event");
    let shown = expect(0, folder.path(), &["verify"]).stdout;
    assert!(shown.contains("sealed to   30") && shown.contains("unsealed    0"), "{shown}");
    expect(0, folder.path(), &["verify", "--stream", "acc-3"]);
    expect(3, folder.path(), &["verify", "--stream", "nobody"]);

    let checkpoint = expect(0, folder.path(), &["integrity", "checkpoint"]).stdout;
    let file = folder.path().join("kept");
    std::fs::write(&file, &checkpoint).unwrap();
    expect(0, folder.path(), &["verify", "--from-checkpoint", "kept"]);
    std::fs::write(&file, checkpoint.replace("\n30\n", "\n29\n")).unwrap();
    expect(4, folder.path(), &["verify", "--from-checkpoint", "kept"]);

    attack(
        folder.path(),
        &["DROP TRIGGER events_no_update", "UPDATE events SET recorded_at = recorded_at + 1 WHERE position = 17"],
    )
    .await;
    let altered = expect(4, folder.path(), &["verify", "--format", "json"]);
    assert_eq!(altered.json()["first_bad"]["position"], 17);
    assert!(altered.stderr.contains("position 17"), "{altered:?}");
    let stream = expect(4, folder.path(), &["verify", "--stream", "acc-16", "--format", "json"]);
    assert_eq!(stream.json()["first_bad"]["position"], 17);
}

/// The in-process suite makes thousands; this holds the program's own answer against some of each kind.
#[tokio::test(flavor = "multi_thread")]
async fn program_ends_with_code_4_on_each_kind_of_attack() {
    let mut victim = Victim::sqlite().await;
    let (url, at) = (victim.url.clone(), victim.folder.path().to_owned());
    let run = |code: i32| expect(code, &at, &["--database-url", &url, "verify", "--format", "json"]).json();
    assert_eq!(run(0)["intact"], true);
    let good = victim.good.clone();
    let mut flipped = good.clone();
    flipped[41].checksum[3] ^= 1;
    let mut swapped = good.clone();
    swapped.swap(100, 101);
    (swapped[100].position, swapped[101].position) = (101, 102);
    let mut deleted = good.clone();
    deleted.remove(6);
    let mut forged = good.clone();
    forged[9].data = b"{}".to_vec();
    super::forger::rehash(&mut forged);
    let cut = good[..123].to_vec();
    for (rows, position) in [(flipped, 42), (swapped, 101), (deleted, 7), (forged, 10), (cut, 124)] {
        assert!(victim.write(&rows).await);
        assert_eq!(run(4)["first_bad"]["position"], position);
        victim.restore().await;
    }
    assert_eq!(run(0)["intact"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn restored_backup_makes_the_server_read_only_until_an_operator_accepts_it() {
    let folder = with_store(10);
    let database = folder.path().join("data/eventstore.db");
    std::fs::copy(&database, folder.path().join("backup.db")).unwrap();
    let server = Server::start(folder.path(), ENVIRONMENT);
    for number in 10..15 {
        create(&server, &format!("acc-{number}"));
    }
    sealed(&server, 15);
    assert!(server.terminate().success());

    // The backup by itself is sound, and without a checkpoint beside it nobody can say where it should end.
    let backup = ["--database-url", "sqlite://backup.db", "verify", "--format", "json"];
    let alone = expect(0, folder.path(), &backup).json();
    assert_eq!((&alone["head_position"], &alone["checkpoint_position"]), (&json!(10), &Value::Null));
    let directory = [("ES__INTEGRITY__DIRECTORY", "data")];
    let held = word(folder.path(), &directory, &backup);
    assert_eq!((held.code, &held.json()["first_bad"]["position"]), (4, &json!(11)));
    let as_backup = word(folder.path(), &directory, &[&backup[..], &["--backup"]].concat());
    assert_eq!((as_backup.code, &as_backup.json()["checkpoint_position"]), (0, &json!(10)), "{as_backup:?}");

    for ending in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(folder.path().join(format!("data/eventstore.db{ending}")));
    }
    std::fs::copy(folder.path().join("backup.db"), &database).unwrap();
    let server = Server::start(folder.path(), ENVIRONMENT);
    let give_up = Instant::now() + Duration::from_secs(20);
    while health(&server)["status"] != "fail" {
        assert!(Instant::now() < give_up, "{}", health(&server));
        std::thread::park_timeout(Duration::from_millis(20));
    }
    let said = health(&server)["output"].as_str().unwrap().to_owned();
    assert!(said.contains("covers 15: it went back") && said.contains("verify --accept-rollback"), "{said}");
    let (status, body) = create(&server, "refused");
    let problem: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &problem["code"]), (503, &json!("read-only")), "{problem}");
    assert_eq!(server.get("/api/v1/events?limit=1").0, 200, "reads go on");
    expect(4, folder.path(), &["verify"]);
    expect(4, folder.path(), &["command", "send", "DepositMoney", "acc-1", "--data", r#"{"amount":1}"#]);

    // Accepted beside the running server, which goes on by itself.
    let accepted = expect(0, folder.path(), &["verify", "--accept-rollback"]);
    assert!(accepted.stderr.contains("signed up to 15 and goes on from 10"), "{accepted:?}");
    let give_up = Instant::now() + Duration::from_secs(20);
    while create(&server, "taken").0 != 200 {
        assert!(Instant::now() < give_up, "{}", health(&server));
        std::thread::park_timeout(Duration::from_millis(20));
    }
    while !sealed(&server, 11).lines().next().unwrap().ends_with("/1") {
        assert!(Instant::now() < give_up, "no new origin: {}", sealed(&server, 11));
        std::thread::park_timeout(Duration::from_millis(20));
    }
    assert_eq!(health(&server)["status"], "pass");
    assert!(server.terminate().success());
    expect(0, folder.path(), &["verify"]);
    let before = std::fs::read_to_string(evidence(folder.path(), "before-acceptance-1")).unwrap();
    assert_eq!(before.lines().nth(1), Some("15"), "what was signed before is kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn rotated_key_signs_and_the_old_one_still_verifies() {
    let folder = with_store(3);
    let old = expect(0, folder.path(), &["integrity", "checkpoint"]).stdout;
    std::fs::write(folder.path().join("old"), &old).unwrap();
    let server = Server::start(folder.path(), ENVIRONMENT);
    let key = expect(0, folder.path(), &["integrity", "key", "rotate"]).stdout;
    let (_, keys) = server.get("/api/v1/integrity/key");
    assert_eq!((keys.lines().count(), keys.lines().last()), (2, Some(key.trim())));
    create(&server, "acc-after");
    let note = sealed(&server, 4);
    let sign = |note: &str| note.lines().last().unwrap()[..70].to_owned();
    assert_ne!(sign(&note), sign(&old));
    let verify = |extra: &[&str]| expect(0, folder.path(), &[&["verify"], extra].concat());
    verify(&[]);
    verify(&["--from-checkpoint", "old"]);
    verify(&["--from-checkpoint", "old", "--url", &server.url()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_target_gets_the_checkpoint_and_a_missing_one_is_a_warning() {
    let folder = folder();
    let elsewhere = folder.path().join("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    let targets = "elsewhere/one, missing/two";
    let environment = [ENVIRONMENT[0], ("ES__INTEGRITY__TARGETS", targets)];
    let server = Server::start(folder.path(), &environment);
    create(&server, "acc-1");
    let note = sealed(&server, 1);
    assert_eq!(std::fs::read_to_string(elsewhere.join("one")).unwrap(), note);
    let health = health(&server);
    assert_eq!(health["status"], "warn", "{health}");
    assert!(health["output"].as_str().unwrap().contains("missing/two"), "{health}");
}

#[tokio::test(flavor = "multi_thread")]
async fn operation_verifies_in_the_server_and_metrics_tell_how_far() {
    let folder = folder();
    let server = Server::start(folder.path(), ENVIRONMENT);
    for number in 0..20 {
        create(&server, &format!("acc-{number}"));
    }
    let note = sealed(&server, 20);
    for (body, from) in [(json!({}), 1), (json!({ "checkpoint": note }), 21)] {
        let (status, begun) = server.request("POST", "/api/v1/integrity/verify", &body.to_string());
        assert_eq!(status, 202, "{begun}");
        let begun: Value = serde_json::from_str(&begun).unwrap();
        let path = format!("/api/v1/operations/{}", begun["operation_id"].as_str().unwrap());
        let give_up = Instant::now() + Duration::from_secs(20);
        let ended = loop {
            let operation: Value = serde_json::from_str(&server.get(&path).1).unwrap();
            if operation["status"] != "running" {
                break operation;
            }
            assert!(Instant::now() < give_up, "{operation}");
            std::thread::park_timeout(Duration::from_millis(50));
        };
        assert_eq!(
            (&ended["status"], &ended["result"]["from_position"]),
            (&json!("succeeded"), &json!(from)),
            "{ended}"
        );
    }
    let wrong = json!({ "checkpoint": note.replace("\n20\n", "\n19\n") });
    assert_eq!(server.request("POST", "/api/v1/integrity/verify", &wrong.to_string()).0, 422);
    let (_, metrics) = server.get("/metrics");
    for name in ["es_integrity_verified_position 20", "es_integrity_sealed_position 20"] {
        assert!(metrics.contains(name), "{name}");
    }
    let problems = [
        ("/api/v1/integrity/proof", 422),
        ("/api/v1/integrity/proof?position=0", 404),
        ("/api/v1/integrity/proof?position=21", 404),
        ("/api/v1/integrity/consistency?from=0", 422),
        ("/api/v1/integrity/consistency?from=5&to=21", 422),
        ("/api/v1/aggregates/nobody/verify", 404),
    ];
    for (path, status) in problems {
        assert_eq!(server.get(path).0, status, "{path}");
    }
    assert_eq!(server.get("/api/v1/integrity/consistency?from=5&to=17").0, 200);
    let (_, stream) = server.get("/api/v1/aggregates/acc-7/verify");
    let stream: Value = serde_json::from_str(&stream).unwrap();
    assert_eq!((&stream["intact"], &stream["proven_events"]), (&json!(true), &json!(1)));
}
