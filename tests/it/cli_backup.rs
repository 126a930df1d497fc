//! `backup`, `restore` and `verify --backup` as an operator meets them.

use std::{
    path::Path,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use event_sourcing_actors::digest::{Checksum, LeafHash};
use event_sourcing_cqrs::integrity::tiles::Frontier;
use serde_json::{Value, json};
use sqlx::{Connection, SqliteConnection, sqlite::SqliteConnectOptions};
use tempfile::TempDir;

use crate::support::{
    postgres,
    server::Server,
    words::{create, create_at, events, expect, notes},
};

const SEALING: (&str, &str) = ("ES__INTEGRITY__INTERVAL_MS", "50");

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// The root of the tree over events as they are listed: computed here, from positions, instants and checksums alone.
fn root(events: &[Value]) -> String {
    let mut frontier = Frontier::default();
    for event in events {
        let instant = event["recorded_at"].as_str().unwrap().parse::<chrono::DateTime<chrono::Utc>>().unwrap();
        let checksum = Checksum::from_slice(&hex::decode(event["checksum"].as_str().unwrap()).unwrap()).unwrap();
        frontier.push(LeafHash::of_parts(event["position"].as_u64().unwrap(), instant.timestamp_micros(), checksum).0);
    }
    hex::encode(frontier.root())
}

/// Backs a server's store up while two clients write to it; the summary.
fn backed_up_while_writing(server: &Server, folder: &Path, environment: &[(&str, &str)], name: &str) -> Value {
    let (ends, written, port) = (AtomicBool::new(false), AtomicUsize::new(0), server.port);
    std::thread::scope(|scope| {
        for client in 0..2 {
            let (ends, written) = (&ends, &written);
            scope.spawn(move || {
                let mut number = 0;
                while !ends.load(Ordering::Relaxed) {
                    assert_eq!(create_at(port, &format!("{name}-{client}-{number}")), 200);
                    written.fetch_add(1, Ordering::Relaxed);
                    number += 1;
                }
            });
        }
        let give_up = Instant::now() + Duration::from_secs(60);
        while written.load(Ordering::Relaxed) < 100 {
            assert!(Instant::now() < give_up, "the clients do not get on");
            std::thread::park_timeout(Duration::from_millis(10));
        }
        let summary = expect(0, folder, environment, &["backup", name, "--format", "json"]).json();
        let at_its_end = written.load(Ordering::Relaxed);
        while written.load(Ordering::Relaxed) < at_its_end + 20 {
            assert!(Instant::now() < give_up, "the clients do not get on");
            std::thread::park_timeout(Duration::from_millis(10));
        }
        ends.store(true, Ordering::Relaxed);
        summary
    })
}

/// Restores a backup elsewhere and holds everything against its source.
#[track_caller]
fn restored(backup: &Path, summary: &Value, source: &[Value], folder: &Path, environment: &[(&str, &str)]) {
    let backup = backup.to_str().unwrap();
    let restored = expect(0, folder, environment, &["restore", backup, "--format", "json"]).json();
    let head = usize::try_from(summary["head_position"].as_u64().unwrap()).unwrap();
    assert!(head >= 100 && source.len() >= head + 20, "{head} of {} events", source.len());
    for member in ["backup_id", "store_id", "head_position", "tree_root"] {
        assert_eq!(restored[member], summary[member], "{member}");
    }
    assert_eq!(restored["tree_root"], root(&source[..head]));
    assert_eq!(events(folder, environment), source[..head], "positions, instants and checksums are kept");
    let verified = expect(0, folder, environment, &["verify", "--format", "json"]).json();
    assert_eq!((&verified["intact"], &verified["verified_position"]), (&json!(true), &summary["head_position"]));
    assert_eq!(verified["sealed_position"], summary["head_position"]);
    assert_eq!(verified["checkpoint_position"], summary["checkpoint_position"]);
    let status = expect(0, folder, environment, &["status", "--format", "json"]).json();
    assert_eq!(status["store_id"], summary["store_id"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn backup_while_writing_restored_into_the_other_kind_of_store_has_the_equal_tree_head() {
    let Some(database) = postgres::database().await else { return };
    let (sqlite, back) = (folder(), folder());
    let server = Server::start(sqlite.path(), &[SEALING]);
    let summary = backed_up_while_writing(&server, sqlite.path(), &[], "first");
    assert!(server.terminate().success());
    let source = events(sqlite.path(), &[]);
    let file = sqlite.path().join("first");
    expect(0, sqlite.path(), &[], &["verify", "--backup", "first"]);

    // Into PostgreSQL, where it goes on under the same evidence.
    let elsewhere = folder();
    let environment = [SEALING, ("DATABASE_URL", database.url.as_str())];
    restored(&file, &summary, &source, elsewhere.path(), &environment);
    let server = Server::start(elsewhere.path(), &environment);
    let second = backed_up_while_writing(&server, elsewhere.path(), &environment, "second");
    let balance = json!({ "query_type": "GetAccountBalance", "filters": { "account_id": "first-0-0" } });
    let answer = server.request("POST", "/api/v1/queries", &balance.to_string());
    assert!(answer.0 == 200 && answer.1.contains("\"balance\":1"), "read models are made again: {answer:?}");
    assert!(server.terminate().success());
    expect(0, elsewhere.path(), &environment, &["verify"]);

    // And back.
    let source = events(elsewhere.path(), &environment);
    assert_eq!(second["store_id"], summary["store_id"]);
    restored(&elsewhere.path().join("second"), &second, &source, back.path(), &[SEALING]);
}

/// A backup of several frames of events, with where each frame begins, and the end.
fn large() -> (TempDir, Vec<u8>, Vec<usize>) {
    let folder = folder();
    std::fs::write(folder.path().join("notes"), notes(600, 7, 10_000)).unwrap();
    expect(0, folder.path(), &[], &["import", "notes"]);
    expect(0, folder.path(), &[], &["backup", "good"]);
    let file = std::fs::read(folder.path().join("good")).unwrap();
    let mut frames = vec![file.iter().position(|byte| *byte == b'\n').unwrap() + 1];
    while let Some(head) = file.get(*frames.last().unwrap()..).filter(|rest| !rest.is_empty()) {
        let stored = u32::from_be_bytes(head[2..6].try_into().unwrap()) as usize;
        frames.push(frames.last().unwrap() + 10 + stored + 32);
    }
    assert!(frames.len() >= 8, "{} frames", frames.len());
    (folder, file, frames)
}

#[test]
fn damaged_backups_are_refused_and_leave_a_store_that_says_so() {
    let (folder, good, frames) = large();
    let path = folder.path();
    let (second, third, fourth) = (frames[2], frames[3], frames[4]);
    let mut flipped = good.clone();
    flipped[third + 99] ^= 0x10;
    let swapped = [&good[..second], &good[third..fourth], &good[second..third], &good[fourth..]].concat();
    let missing = [&good[..third], &good[fourth..]].concat();
    let without_end = good[..frames[frames.len() - 2]].to_vec();
    let target = [("DATABASE_URL", "sqlite://target/new.db")];
    for (what, bytes) in [
        ("flipped", flipped),
        ("cut", good[..third + 1_000].to_vec()),
        ("swapped", swapped),
        ("missing", missing),
        ("without its end", without_end),
        ("longer", [&good[..], b"more"].concat()),
    ] {
        std::fs::write(path.join(what), bytes).unwrap();
        let verified = expect(4, path, &[], &["verify", "--backup", what, "--format", "json"]);
        assert!(verified.json()["first_bad"]["reason"].as_str().unwrap().contains("damaged"), "{what}: {verified:?}");
        let refused = expect(4, path, &target, &["restore", what]);
        assert!(
            refused.stderr.contains("damaged at byte") && refused.stderr.contains("--discard"),
            "{what}: {refused:?}"
        );
        let unfinished = expect(5, path, &target, &["events", "list"]);
        assert!(unfinished.stderr.contains("unfinished restoration"), "{what}: {unfinished:?}");
        expect(0, path, &target, &["restore", "--discard"]);
        assert_eq!(events(path, &target).len(), 0);
    }
    let other = expect(2, path, &[], &["verify", "--backup", "notes"]);
    assert!(other.stderr.contains("no backup"), "{other:?}");
    // The control: the same steps with the good one.
    expect(0, path, &[], &["verify", "--backup", "good"]);
    expect(0, path, &target, &["restore", "good"]);
    assert_eq!(events(path, &target).len(), 600);
}

#[tokio::test(flavor = "multi_thread")]
async fn restoration_that_broke_off_says_so_and_is_gone_on_with() {
    let Some(database) = postgres::database().await else { return };
    let (folder, good, frames) = large();
    let path = folder.path();
    std::fs::write(path.join("half"), &good[..frames[5] + 5]).unwrap();
    std::fs::write(path.join("other-notes"), notes(3, 1, 10)).unwrap();
    let other = [("DATABASE_URL", "sqlite://others/o.db")];
    expect(0, path, &other, &["import", "other-notes"]);
    expect(0, path, &other, &["backup", "other"]);
    for url in ["sqlite://target/new.db", database.url.as_str()] {
        let target = [("DATABASE_URL", url), ("BIND_ADDRESS", "127.0.0.1:0")];
        expect(4, path, &target, &["restore", "half"]);
        for word in ["serve", "status", "backup"] {
            let words = if word == "backup" { vec![word, "none"] } else { vec![word] };
            let refused = expect(5, path, &target, &words);
            assert!(refused.stderr.contains("unfinished restoration of the backup"), "{refused:?}");
        }
        let foreign = expect(5, path, &target, &["restore", "other"]);
        assert!(foreign.stderr.contains("of another backup"), "{foreign:?}");
        let whole = expect(0, path, &target, &["restore", "good", "--format", "json"]).json();
        assert!(whole["resumed_after"].as_u64().unwrap() > 0, "{whole}");
        assert_eq!((&whole["head_position"], events(path, &target).len()), (&json!(600), 600));
        expect(0, path, &target, &["verify"]);
        let again = expect(5, path, &target, &["restore", "good"]);
        assert!(again.stderr.contains("has events already (600 positions)"), "{again:?}");
        expect(3, path, &target, &["restore", "--discard"]);
        assert_eq!(events(path, &target).len(), 600, "only what is unfinished is discarded");
    }
}

#[test]
fn restoration_never_begins_under_a_server() {
    let (folder, ..) = large();
    let target = folder.path().join("target");
    std::fs::create_dir(&target).unwrap();
    let server = Server::start(&target, &[SEALING]);
    // What tells of a server are its leases, which it takes right after its start.
    let give_up = Instant::now() + Duration::from_secs(60);
    while !expect(0, &target, &[("BIND_ADDRESS", "127.0.0.1:0")], &["doctor"])
        .stdout
        .contains("others work on this store")
    {
        assert!(Instant::now() < give_up, "the server takes no leases");
        std::thread::park_timeout(Duration::from_millis(50));
    }
    let refused = expect(5, &target, &[], &["restore", "../good"]);
    assert!(refused.stderr.contains("a server is running on this store"), "{refused:?}");
    assert_eq!(create(&server, "goes-on"), 200, "nothing was changed");
    assert!(server.terminate().success());
}

#[test]
fn secret_key_goes_along_only_when_it_is_asked_for() {
    let folder = folder();
    let path = folder.path();
    let server = Server::start(path, &[SEALING]);
    assert_eq!(create(&server, "a"), 200);
    assert!(server.terminate().success());
    let key = |at: &str| {
        let mut entries = std::fs::read_dir(path.join(at)).unwrap().map(|entry| entry.unwrap().path());
        // The master key of personal data lies there too.
        entries.find(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.ends_with(".key") && !name.starts_with("erasure-")
        })
    };
    let secret = std::fs::read_to_string(key("data").unwrap()).unwrap();
    expect(0, path, &[], &["backup", "without"]);
    let warned = expect(0, path, &[], &["backup", "with", "--with-signing-key"]);
    assert!(warned.stderr.contains("holds the secret key"), "{warned:?}");
    for (backup, has_key) in [("without", false), ("with", true)] {
        let url = format!("sqlite://{backup}-restored/x.db");
        expect(0, path, &[("DATABASE_URL", url.as_str())], &["restore", backup]);
        let found = key(&format!("{backup}-restored"));
        assert_eq!(found.is_some(), has_key, "{backup}");
        if let Some(found) = found {
            assert_eq!(std::fs::read_to_string(found).unwrap(), secret);
        }
        // Checkpoints signed by the old key verify either way: the public keys go along.
        let verified = expect(0, path, &[("DATABASE_URL", url.as_str())], &["verify", "--format", "json"]).json();
        assert_eq!(verified["checkpoint_position"], 1, "{verified}");
    }
}

/// The keys of personal data are not in a backup, so what they sealed cannot be read; the streams must go on all the same.
#[test]
fn restored_people_read_as_sealed_and_their_streams_go_on() {
    let folder = folder();
    let path = folder.path();
    expect(0, path, &[], &["migrate"]);
    let ann = json!({ "email": "ann@example.org", "name": "Ann" }).to_string();
    expect(0, path, &[], &["command", "send", "RegisterUser", "ann", "--data", &ann]);
    expect(0, path, &[], &["backup", "people"]);
    let url = [("DATABASE_URL", "sqlite://restored/x.db")];
    let restored = expect(0, path, &url, &["restore", "people"]);
    assert!(restored.stderr.contains("keys of personal data are not in a backup"), "{restored:?}");
    let state = || expect(0, path, &url, &["replay", "ann", "--format", "json"]).json()["state"].clone();
    let read = state();
    assert_eq!((&read["email"], &read["name"]), (&json!("[sealed]"), &json!("[sealed]")), "{read}");
    let session = json!({ "session_id": "s" }).to_string();
    expect(0, path, &url, &["command", "send", "LogInUser", "ann", "--data", &session]);
    assert_eq!(state()["sessions"].as_array().map(Vec::len), Some(1));
    let bob = json!({ "email": "bob@example.org", "name": "Bob" }).to_string();
    expect(0, path, &url, &["command", "send", "RegisterUser", "bob", "--data", &bob]);
    let bob = expect(0, path, &url, &["replay", "bob", "--format", "json"]).json();
    assert_eq!(bob["state"]["name"], "Bob", "who comes later gets a key here");
    expect(0, path, &url, &["verify"]);
}

#[test]
fn older_backup_beside_newer_checkpoints_is_told_and_must_be_accepted() {
    let folder = folder();
    let path = folder.path();
    let server = Server::start(path, &[SEALING]);
    assert_eq!(create(&server, "a"), 200);
    expect(0, path, &[], &["backup", "old"]);
    assert_eq!(create(&server, "b"), 200);
    assert!(server.terminate().success());
    for ending in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(path.join(format!("data/eventstore.db{ending}")));
    }
    let restored = expect(0, path, &[], &["restore", "old", "--format", "json"]);
    assert_eq!(restored.json()["newer_checkpoint"], 2);
    assert!(restored.stderr.contains("verify --accept-rollback"), "{restored:?}");
    expect(4, path, &[], &["verify"]);
    expect(0, path, &[], &["verify", "--accept-rollback"]);
    expect(0, path, &[], &["verify"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn altered_log_gives_no_backup() {
    let folder = folder();
    let path = folder.path();
    std::fs::write(path.join("notes"), notes(20, 2, 20)).unwrap();
    expect(0, path, &[], &["import", "notes"]);
    let options = SqliteConnectOptions::new().filename(path.join("data/eventstore.db"));
    let mut session = SqliteConnection::connect_with(&options).await.unwrap();
    for statement in [
        "DROP TRIGGER events_no_update",
        "UPDATE events SET recorded_at = recorded_at + 1, data = x'7b7d' WHERE position = 7",
    ] {
        sqlx::query(statement).execute(&mut session).await.unwrap();
    }
    session.close().await.unwrap();
    let refused = expect(4, path, &[], &["backup", "bad"]);
    assert!(refused.stderr.contains("position 7"), "{refused:?}");
    assert!(!path.join("bad").exists() && !path.join("bad.partial").exists());
}

#[test]
fn file_that_is_there_is_not_replaced_and_standard_streams_do() {
    let (folder, good, _) = large();
    let path = folder.path();
    let refused = expect(5, path, &[], &["backup", "good"]);
    assert!(refused.stderr.contains("is not replaced"), "{refused:?}");
    assert_eq!(std::fs::read(path.join("good")).unwrap(), good);
    let program = crate::support::server::PROGRAM;
    let script = format!("{program} backup - | {program} --database-url sqlite://piped/p.db restore -");
    let status = std::process::Command::new("sh").current_dir(path).args(["-c", &script]).output().unwrap();
    assert!(status.status.success(), "{status:?}");
    assert_eq!(events(path, &[("DATABASE_URL", "sqlite://piped/p.db")]).len(), 600);
    expect(3, path, &[("DATABASE_URL", "sqlite://never/n.db")], &["restore", "nowhere"]);
    assert!(!path.join("never").exists(), "a file that is not there makes no store");
}
