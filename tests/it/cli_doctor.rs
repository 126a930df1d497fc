//! `doctor` as an operator meets it: what is wrong, and what to do.

use std::{net::TcpListener, os::unix::fs::PermissionsExt, path::Path};

use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection, SqliteConnection, sqlite::SqliteConnectOptions};
use tempfile::TempDir;

use crate::support::{
    postgres,
    server::Server,
    words::{create, expect, files},
};

/// A port that nobody has, so that tests do not meet at 8000.
fn free() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

/// What doctor finds; `code` is its exit code.
#[track_caller]
fn doctor(code: i32, folder: &Path, environment: &[(&str, &str)]) -> Value {
    let address = free();
    let mut all = vec![("BIND_ADDRESS", address.as_str())];
    all.extend(environment.iter().copied());
    let before = files(folder);
    let ended = expect(code, folder, &all, &["doctor", "--format", "json", "--timeout", "2"]);
    let known = |files: std::collections::BTreeMap<String, u64>| {
        // SQLite makes these for a reader, too, and takes them away with the last one.
        files.into_iter().filter(|(name, _)| !name.ends_with("-wal") && !name.ends_with("-shm")).collect::<Vec<_>>()
    };
    assert_eq!(known(before), known(files(folder)), "doctor changes nothing");
    ended.json()
}

#[track_caller]
fn finds(findings: &Value, name: &str, status: &str, said: &str) {
    let checks = findings["checks"].as_array().unwrap();
    let found = checks.iter().find(|check| check["name"] == name && check["status"] == status);
    let found = found.unwrap_or_else(|| panic!("no {status} of {name}: {findings:#}"));
    assert!(found.to_string().contains(said), "{said:?} is not in {found}");
    assert_eq!(found["next"].is_string(), status != "pass", "{found}");
}

fn with_store() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &[("ES__INTEGRITY__INTERVAL_MS", "50")]);
    assert_eq!(create(&server, "acc-1"), 200);
    // Nothing is behind when it ends.
    let give_up = std::time::Instant::now() + std::time::Duration::from_secs(60);
    let list = ["projection", "list", "--format", "json", "--url", &server.url()];
    while expect(0, folder.path(), &[], &list).json()["items"]
        .as_array()
        .unwrap()
        .iter()
        .any(|one| one["checkpoint"] != 1)
    {
        assert!(std::time::Instant::now() < give_up, "read models do not get on");
        std::thread::park_timeout(std::time::Duration::from_millis(50));
    }
    assert!(server.terminate().success());
    folder
}

async fn sql(folder: &Path, statement: &str) {
    let options = SqliteConnectOptions::new().filename(folder.join("data/eventstore.db"));
    let mut session = SqliteConnection::connect_with(&options).await.unwrap();
    sqlx::query(AssertSqlSafe(statement.to_owned())).execute(&mut session).await.unwrap();
    session.close().await.unwrap();
}

#[test]
fn bare_folder_has_no_store_yet_and_a_sound_one_passes() {
    let folder = tempfile::tempdir().unwrap();
    let bare = doctor(0, folder.path(), &[]);
    assert_eq!(bare["status"], "warn");
    finds(&bare, "database", "warn", "migrate");
    finds(&bare, "database folder", "pass", "can be made");
    finds(&bare, "port", "pass", "is free");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);

    let folder = with_store();
    let sound = doctor(0, folder.path(), &[]);
    assert_eq!(sound["status"], "pass", "{sound:#}");
    for name in
        ["settings", "database", "log", "clock", "sealing", "checkpoints", "signing key", "projections", "sagas"]
    {
        finds(&sound, name, "pass", "");
    }
    let shown = expect(0, folder.path(), &[("BIND_ADDRESS", free().as_str())], &["doctor"]).stdout;
    assert!(shown.lines().all(|line| line.starts_with("pass  ")), "{shown}");
}

#[test]
fn server_beside_is_recognised_and_another_program_on_its_port_is_not() {
    let folder = with_store();
    let server = Server::start(folder.path(), &[]);
    let own = format!("127.0.0.1:{}", server.port);
    let beside = doctor(0, folder.path(), &[("BIND_ADDRESS", own.as_str())]);
    finds(&beside, "port", "pass", "a server of this kind answers");
    finds(&beside, "servers", "pass", "others work on this store");
    // One that asks for a key is recognised by its refusal.
    let guarded = tempfile::tempdir().unwrap();
    let guarded = Server::start(guarded.path(), &[("ES__AUTH__MODE", "api_key")]);
    let its = format!("127.0.0.1:{}", guarded.port);
    finds(
        &doctor(0, folder.path(), &[("BIND_ADDRESS", its.as_str())]),
        "port",
        "pass",
        "a server of this kind answers",
    );
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let foreign = doctor(1, folder.path(), &[("BIND_ADDRESS", address.as_str())]);
    finds(&foreign, "port", "fail", "another program listens");
    let open = format!("0.0.0.0:{}", free().rsplit_once(':').unwrap().1);
    finds(&doctor(0, folder.path(), &[("BIND_ADDRESS", open.as_str())]), "auth", "warn", "auth.mode");
    expect(0, folder.path(), &[], &["projection", "pause", "inventory", "--url", &server.url()]);
    finds(&doctor(0, folder.path(), &[]), "projections", "warn", "projection resume inventory");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_the_store_is_told_with_the_next_step() {
    let folder = with_store();
    let path = folder.path();
    let store_id =
        expect(0, path, &[], &["status", "--format", "json"]).json()["store_id"].as_str().unwrap().to_owned();
    let key = path.join(format!("data/{store_id}.key"));
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    finds(&doctor(1, path, &[]), "signing key", "fail", "chmod 600");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();

    finds(&doctor(1, path, &[("ES__INTEGRITY__TARGETS", "nowhere/c")]), "checkpoint target", "fail", "is not there");
    finds(&doctor(1, path, &[("ES__COMMANDS__DEADLIN_MS", "1")]), "settings", "fail", "DEADLINE_MS");
    let wrong = [("DATABASE_URL", "postgres://user:hunter2@127.0.0.1:1/db")];
    let unreachable = doctor(1, path, &wrong);
    finds(&unreachable, "database", "fail", "start the database");
    assert!(!unreachable.to_string().contains("hunter2"));
    finds(&doctor(0, path, &[("REDIS_URL", "redis://127.0.0.1:1")]), "redis", "warn", "REDIS_URL");

    sql(path, "UPDATE log_head SET read_only = 1").await;
    finds(&doctor(1, path, &[]), "log", "fail", "read-only");
    sql(path, "UPDATE log_head SET read_only = 0").await;
    expect(0, path, &[], &["events", "append", "n/1", "Noted", "--aggregate-type", "note"]);
    sql(path, "DROP TRIGGER events_no_update").await;
    sql(path, "UPDATE events SET recorded_at = recorded_at + 3600000000 WHERE position = 2").await;
    let future = doctor(0, path, &[]);
    finds(&future, "clock", "warn", "in this machine's future");
    sql(path, "UPDATE events SET recorded_at = recorded_at - 3700000000 WHERE position = 2").await;
    let late = doctor(0, path, &[]);
    finds(&late, "sealing", "warn", "start a server");
    finds(&late, "projections", "warn", "start a server");
    let checkpoint = path.join(format!("data/{store_id}.checkpoint"));
    let note = std::fs::read_to_string(&checkpoint).unwrap();
    std::fs::write(&checkpoint, note.replace("\n1\n", "\n2\n")).unwrap();
    finds(&doctor(1, path, &[]), "checkpoints", "fail", "was altered");
    std::fs::write(&checkpoint, note).unwrap();

    sql(path, "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) VALUES (9999, 'x', 1, x'00', 0)").await;
    finds(&doctor(1, path, &[]), "database", "fail", "newer program");
    sql(path, "DELETE FROM _sqlx_migrations WHERE version >= 5").await;
    finds(&doctor(0, path, &[]), "database", "warn", "migrate");
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_is_asked_for_what_matters() {
    let Some(database) = postgres::database().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let environment = [("DATABASE_URL", database.url.as_str())];
    expect(0, folder.path(), &environment, &["migrate"]);
    let findings = doctor(0, folder.path(), &environment);
    for name in ["version", "primary", "durability", "sessions", "encoding"] {
        finds(&findings, &format!("postgres {name}"), "pass", "");
    }
    finds(&findings, "database clock", "pass", "agree");
    let many = [environment[0], ("ES__EVENT_STORE__POOL_CONNECTIONS_MAX", "900")];
    finds(&doctor(0, folder.path(), &many), "postgres connections", "warn", "max_connections");
}
