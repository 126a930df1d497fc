//! Troubles as an operator meets them: each ends with its exit code and a sentence that says what to do.

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection, PgConnection, SqliteConnection};
use tempfile::TempDir;

use crate::support::{
    postgres,
    server::{PROGRAM, Process, Server, program},
    words::{create, events, expect, notes},
};

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

#[test]
fn wrong_addresses_say_how_to_write_them() {
    let folder = folder();
    let path = folder.path();
    for (url, said) in [
        ("mysql://u:hunter2@host/db", "there is no store for mysql://"),
        ("postgres://u:hunter2@host:99999/db", "write it as postgres://user:password@host:port/database"),
        ("sqlite://folder/", "must be followed by the path of a file"),
        ("nonsense-hunter2", "this is no database URL"),
    ] {
        for word in ["serve", "status"] {
            let ended = expect(2, path, &[("DATABASE_URL", url), ("BIND_ADDRESS", "127.0.0.1:0")], &[word]);
            assert!(ended.stderr.contains(said) && !ended.stderr.contains("hunter2"), "{ended:?}");
        }
    }
    let unknown = [("DATABASE_URL", "postgres://u:hunter2@host.invalid/db")];
    let ended = expect(6, path, &unknown, &["status", "--timeout", "1"]);
    assert!(ended.stderr.contains("does not answer") && !ended.stderr.contains("hunter2"), "{ended:?}");
    let ended = expect(2, path, &[], &["status", "--url", "localhost:8000"]);
    assert!(ended.stderr.contains("--url must be http://host:port"), "{ended:?}");
    assert_eq!(std::fs::read_dir(path).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_password_database_and_rights_say_what_to_check() {
    let Some(server) = postgres::restartable().await else { return };
    let mut admin = PgConnection::connect(&server.url).await.unwrap();
    let file: String = sqlx::query_scalar("SHOW hba_file").fetch_one(&mut admin).await.unwrap();
    for statement in [
        "CREATE ROLE app LOGIN PASSWORD 'right'".to_owned(),
        "REVOKE CREATE ON SCHEMA public FROM PUBLIC".to_owned(),
        format!("COPY (SELECT 'host all app all scram-sha-256' UNION ALL SELECT 'host all all all trust') TO '{file}'"),
        "SELECT pg_reload_conf()".to_owned(),
    ] {
        sqlx::query(AssertSqlSafe(statement)).execute(&mut admin).await.unwrap();
    }
    let folder = folder();
    let (before, after) = server.url.rsplit_once("/postgres").unwrap();
    let url = |user: &str, database: &str| format!("{}{database}{after}", before.replace("postgres@", user));
    let cases = [
        (url("app:wr0ng@", "/postgres"), "check user and password in the URL"),
        (url("postgres@", "/missing"), "create the database, or name another"),
        (url("app:right@", "/postgres"), "grant the user CREATE on the schema"),
    ];
    for (url, said) in cases {
        let give_up = std::time::Instant::now() + std::time::Duration::from_secs(30);
        loop {
            // The new rules hold for sessions a moment after the reload.
            let environment = [("DATABASE_URL", url.as_str()), ("BIND_ADDRESS", "127.0.0.1:0")];
            let ended = crate::support::server::word(folder.path(), &environment, &["migrate"]);
            if ended.code == 2 {
                assert!(ended.stderr.contains(said) && !ended.stderr.contains("wr0ng"), "{ended:?}");
                break;
            }
            assert!(std::time::Instant::now() < give_up, "{ended:?}");
            std::thread::park_timeout(std::time::Duration::from_millis(100));
        }
    }
}

#[tokio::test]
async fn newer_schema_says_to_run_the_newer_program() {
    let folder = folder();
    let path = folder.path();
    expect(0, path, &[], &["migrate"]);
    let url = format!("sqlite://{}", path.join("data/eventstore.db").display());
    let mut session = SqliteConnection::connect(&url).await.unwrap();
    sqlx::query("INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) VALUES (9999, 'x', 1, x'00', 0)")
        .execute(&mut session)
        .await
        .unwrap();
    session.close().await.unwrap();
    for words in [&["serve"][..], &["status"], &["migrate"], &["backup", "b"], &["events", "list"]] {
        let ended = expect(2, path, &[("BIND_ADDRESS", "127.0.0.1:0")], words);
        assert!(ended.stderr.contains("start the newer program, or restore a backup"), "{ended:?}");
    }
}

#[test]
fn taken_port_says_who_has_it_and_how_to_choose_another() {
    let folder = folder();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let ended = expect(1, folder.path(), &[("BIND_ADDRESS", address.as_str())], &["serve"]);
    assert!(ended.stderr.contains("another program listens there; stop it, or choose another address"), "{ended:?}");
}

#[test]
fn name_of_an_address_is_looked_up_and_one_that_is_unknown_says_what_to_set() {
    let folder = folder();
    let server = Server::start(folder.path(), &[("BIND_ADDRESS", "localhost:0")]);
    assert_eq!(create(&server, "a"), 200);
    assert_eq!(server.terminate().code(), Some(0));
    for (address, code, said) in [
        ("name.invalid:8000", 2, "does not know that name"),
        ("localhost", 2, "localhost:8000, 0.0.0.0:8000"),
        ("127.0.0:80", 2, "must be an IP address or a host name"),
    ] {
        let ended = expect(code, folder.path(), &[("BIND_ADDRESS", address)], &["serve"]);
        assert!(ended.stderr.contains(said) && ended.stderr.contains("BIND_ADDRESS"), "{ended:?}");
    }
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("localhost:{}", taken.local_addr().unwrap().port());
    let ended = expect(1, folder.path(), &[("BIND_ADDRESS", address.as_str())], &["serve"]);
    assert!(ended.stderr.contains(&format!("{address} (127.0.0.1:")), "{ended:?}");
    let ended = expect(1, folder.path(), &[("BIND_ADDRESS", address.as_str())], &["doctor"]);
    assert!(ended.stdout.contains(&format!("another program listens at {address}")), "{ended:?}");
}

#[test]
fn second_server_on_one_file_says_so_and_the_first_after_a_kill_does_not() {
    let folder = folder();
    let path = folder.path();
    let told = |mut server: Server| {
        server.process().signal("TERM");
        server.process().wait();
        server.process().said().iter().any(|line| line.contains("another server works on the same SQLite file"))
    };
    let first = Server::start(path, &[]);
    let second = Server::start(path, &[]);
    // Both serve, and each finds what the other wrote.
    assert_eq!((create(&first, "a"), create(&second, "b"), create(&second, "a")), (200, 200, 422));
    assert!(told(second), "the second says it");
    first.kill9();
    assert!(!told(Server::start(path, &[])), "whoever was killed is not there any more");
}

#[tokio::test]
async fn verification_whose_server_died_has_failed_and_says_what_to_do() {
    let folder = folder();
    let path = folder.path();
    expect(0, path, &[], &["migrate"]);
    let url = format!("sqlite://{}", path.join("data/eventstore.db").display());
    let mut session = SqliteConnection::connect(&url).await.unwrap();
    let [dead, lives] = [uuid::Uuid::now_v7(), uuid::Uuid::now_v7()];
    // One was last told of a minute ago, the other is told of all the time by a process somewhere else.
    for (id, told) in [(dead, "-60 seconds"), (lives, "+1 day")] {
        sqlx::query(
            "INSERT INTO operations (partition, id, kind, subject, status, done, total, created_at, updated_at) \
             VALUES (0, ?1, 'integrity-verify', 'log', 'running', 1, 9, 0, unixepoch('now', ?2) * 1000000)",
        )
        .bind(id)
        .bind(told)
        .execute(&mut session)
        .await
        .unwrap();
    }
    session.close().await.unwrap();
    let server = Server::start(path, &[]);
    let shown =
        |id: uuid::Uuid| -> Value { serde_json::from_str(&server.get(&format!("/api/v1/operations/{id}")).1).unwrap() };
    let give_up = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while shown(dead)["status"] == "running" {
        assert!(std::time::Instant::now() < give_up, "{}", shown(dead));
        std::thread::park_timeout(std::time::Duration::from_millis(100));
    }
    let ended = shown(dead);
    assert_eq!(ended["status"], "failed");
    assert!(ended["error"].as_str().unwrap().contains("begin another verification: `verify`"), "{ended}");
    assert_eq!(shown(lives)["status"], "running");
}

#[test]
fn word_without_a_known_type_gets_a_line_that_can_be_pasted() {
    let folder = folder();
    let path = folder.path();
    expect(0, path, &[], &["migrate"]);
    let words = |line: &str| -> Vec<String> {
        let line = line.split_once("for example: event-sourcing-cqrs ").unwrap().1.lines().next().unwrap();
        line.split(' ').map(|word| word.trim_matches('\'').to_owned()).collect()
    };
    let missing = expect(2, path, &[], &["command", "send"]);
    assert!(missing.stderr.contains("all of them: event-sourcing-cqrs command list"), "{missing:?}");
    let wrong = expect(1, path, &[], &["command", "send", "CreateAcount", "a"]);
    assert!(wrong.stderr.contains("did you mean CreateAccount"), "{wrong:?}");
    assert!(wrong.stderr.contains("for example: event-sourcing-cqrs command send CreateAccount"), "{wrong:?}");
    let data = expect(1, path, &[], &["command", "send", "ReserveStock", "p"]);
    assert!(
        data.stderr.contains(r#"send ReserveStock product-1 --data '{"order_id":"order-1","quantity":1}'"#),
        "{data:?}"
    );
    // What the domain refuses is no matter of how it was written.
    let refused = expect(1, path, &[], &["command", "send", "CloseAccount", "nobody"]);
    assert!(!refused.stderr.contains("for example"), "{refused:?}");
    let query = expect(2, path, &[], &["query", "send"]);
    let pasted = words(&query.stderr);
    assert_eq!(pasted, ["query", "send", "GetAccountBalance", "--filter", "account_id=acc-123"]);
    for wrong in [&["query", "send", "GetAcountBalance"][..], &["query", "send", "GetAccountBalance"]] {
        assert_eq!(words(&expect(1, path, &[], wrong).stderr), pasted);
    }
    let list = expect(0, path, &[], &["command", "list"]);
    assert!(
        list.stdout.contains("CreateAccount") && list.stdout.contains("initial_balance owner [account_id]"),
        "{list:?}"
    );
    assert!(list.stderr.starts_with("for example: event-sourcing-cqrs command send"), "{list:?}");
    let json = expect(0, path, &[], &["query", "list", "--format", "json"]);
    assert_eq!(json.stderr, "");
    let items = json.json()["items"].as_array().unwrap().clone();
    assert!(items.iter().any(|item| item["query_type"] == "GetAccountBalance"), "{items:?}");
    // Every example is one: what it asks is understood.
    let commands = expect(0, path, &[], &["command", "list", "--format", "ndjson"]).stdout;
    assert!(commands.lines().count() >= 20);
    for line in commands.lines() {
        let item: Value = serde_json::from_str(line).unwrap();
        let script = item["example"].as_str().unwrap().replacen(env!("CARGO_PKG_NAME"), PROGRAM, 1);
        let ended = Command::new("bash").args(["-c", &script]).current_dir(path).env_clear().output().unwrap();
        let said = String::from_utf8(ended.stderr).unwrap();
        assert!(matches!(ended.status.code(), Some(0 | 1)) && !said.contains("validation-failed"), "{script}: {said}");
    }
    // The same from a server, with its address in what is to be pasted.
    let server = Server::start(path, &[]);
    let url = server.url();
    let remote = expect(0, path, &[], &["command", "list", "--url", &url]);
    assert_eq!(remote.stdout, list.stdout);
    assert!(remote.stderr.trim_end().ends_with(&format!("--url {url}")), "{remote:?}");
}

/// A file system of its own, small.
struct Small(PathBuf);

impl Small {
    /// `None` (loudly) where this user may not mount.
    fn mount(at: &Path, size: &str) -> Option<Self> {
        std::fs::create_dir(at).unwrap();
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={size}"), "none"]).arg(at).status();
        if mounted.is_ok_and(|status| status.success()) {
            return Some(Self(at.to_owned()));
        }
        eprintln!("SKIPPED: a full disk (this user may not mount a small file system)");
        None
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn full_disk_loses_nothing_that_was_confirmed_and_says_what_to_do() {
    let folder = folder();
    let path = folder.path();
    let Some(_small) = Small::mount(&path.join("small"), "3m") else { return };
    let store = [("DATABASE_URL", "sqlite://small/s.db")];
    expect(0, path, &store, &["migrate"]);
    // Pages of an import commit one after the other until there is no room.
    std::fs::write(path.join("notes"), notes(4_000, 3, 2_000)).unwrap();
    let full = expect(6, path, &store, &["import", "notes"]);
    assert!(full.stderr.contains("full") && full.stderr.contains("free some space"), "{full:?}");
    let words = ["events", "append", "n/1", "Noted", "--aggregate-type", "note", "--data"];
    let data = format!("{{\"text\":\"{}\"}}", "x".repeat(100_000));
    let mut refused = None;
    for _ in 0..60 {
        let ended = crate::support::server::word(path, &store, &[&words[..], &[&data]].concat());
        if ended.code != 0 {
            refused = Some(ended);
            break;
        }
    }
    let refused = refused.expect("the disk is full");
    assert_eq!(refused.code, 6, "{refused:?}");
    assert!(refused.stderr.contains("full") || refused.stderr.contains("disk"), "{refused:?}");
    let backup = expect(1, path, &store, &["backup", "small/backup"]);
    assert!(backup.stderr.contains("free some space there"), "{backup:?}");
    assert!(!path.join("small/backup").exists() && !path.join("small/backup.partial").exists());
    // Reads go on, and everything that was confirmed is there and intact.
    let there = events(path, &store).len();
    expect(0, path, &store, &["verify"]);
    assert!(there > 0);
}

#[test]
fn export_onto_a_full_disk_can_be_gone_on_with() {
    let folder = folder();
    let path = folder.path();
    let Some(small) = Small::mount(&path.join("small"), "512k") else { return };
    std::fs::write(path.join("notes"), notes(500, 3, 2_000)).unwrap();
    expect(0, path, &[], &["import", "notes"]);
    let full = expect(1, path, &[], &["export", "small/log"]);
    assert!(full.stderr.contains("free some space there") && full.stderr.contains("--resume goes on"), "{full:?}");
    std::fs::copy(path.join("small/log"), path.join("log")).unwrap();
    drop(small);
    expect(0, path, &[], &["export", "log", "--resume"]);
    expect(0, path, &[], &["export", "whole"]);
    assert_eq!(std::fs::read(path.join("log")).unwrap(), std::fs::read(path.join("whole")).unwrap());
}

#[test]
fn killed_words_leave_what_can_be_gone_on_with() {
    let folder = folder();
    let path = folder.path();
    std::fs::write(path.join("notes"), notes(20_000, 50, 200)).unwrap();
    let mut command = program(path, &[]);
    command.args(["import", "notes"]);
    let mut import = Process::start(command);
    let database = path.join("data/eventstore.db-wal");
    let give_up = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while !database.metadata().is_ok_and(|metadata| metadata.len() > 1 << 20) {
        assert!(std::time::Instant::now() < give_up, "the import does not get on: {:?}", import.said());
        std::thread::park_timeout(std::time::Duration::from_millis(5));
    }
    import.signal("KILL");
    import.wait();
    let there = events(path, &[]).len();
    let again = expect(0, path, &[], &["import", "notes", "--format", "json"]).json();
    assert_eq!(again["already_there"], serde_json::json!(there));
    assert_eq!(events(path, &[]).len(), 20_000);
    expect(0, path, &[], &["verify"]);
}

#[test]
fn server_ends_with_0_when_told_to_and_a_killed_one_starts_again() {
    let folder = folder();
    let server = Server::start(folder.path(), &[]);
    assert_eq!(create(&server, "a"), 200);
    server.kill9();
    let server = Server::start(folder.path(), &[]);
    assert_eq!(create(&server, "b"), 200);
    assert_eq!(server.terminate().code(), Some(0));
    assert_eq!(events(folder.path(), &[]).len(), 2);
}

#[test]
fn completions_and_manual_pages_come_for_every_shell_and_word() {
    let folder = folder();
    let path = folder.path();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = expect(0, path, &[], &["completions", shell]).stdout;
        assert!(script.contains("event-sourcing-cqrs") && script.contains("restore"), "{shell}");
    }
    expect(2, path, &[], &["completions", "tcsh"]);
    let bash = expect(0, path, &[], &["completions", "bash"]).stdout;
    std::fs::write(path.join("script"), bash).unwrap();
    let checked = Command::new("bash").args(["-n", "script"]).current_dir(path).status().unwrap();
    assert!(checked.success(), "bash reads its script");
    std::fs::create_dir(path.join("man")).unwrap();
    expect(0, path, &[], &["manual", "man"]);
    for page in ["event-sourcing-cqrs.1", "event-sourcing-cqrs-backup.1", "event-sourcing-cqrs-events-list.1"] {
        let text =
            std::fs::read_to_string(path.join("man").join(page)).unwrap_or_else(|error| panic!("{page}: {error}"));
        assert!(text.contains(".TH"), "{page}");
    }
    expect(3, path, &[], &["manual", "nowhere"]);
}
