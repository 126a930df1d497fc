//! The console: how its files are handed out, and in a real browser over the real program.
//!
//! The browser's part lies in `tests/console` and is run here by node, against a server of its own. Without node,
//! Chromium or the two packages it is skipped, loudly; with `CONSOLE_REQUIRED` set that is a failure.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use sqlx::{ConnectOptions, Connection, sqlite::SqliteConnectOptions};

use crate::support::{
    http::TestServer,
    server::{Server, word},
};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/console")
}

/// The address of a file, as the page names it.
fn asset(page: &str, ending: &str) -> String {
    let address =
        page.split('"').find(|text| text.ends_with(ending)).unwrap_or_else(|| panic!("no {ending} in {page}"));
    format!("/{address}")
}

#[tokio::test]
async fn page_is_fresh_and_its_policy_lets_nothing_foreign_in() {
    let server = TestServer::start().await;
    let page = server.get("/console").await;
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    assert_eq!(page.header("cache-control"), Some("no-cache"), "a new release must show at once");
    let policy = page.header("content-security-policy").unwrap();
    for directive in [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "img-src 'self' data:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
    ] {
        assert!(policy.split("; ").any(|part| part == directive), "{directive} is not in {policy}");
    }
    for loose in ["unsafe", "*", "http:", "https:", "blob:"] {
        assert!(!policy.contains(loose), "{policy} holds {loose}");
    }
    assert_eq!(page.header("referrer-policy"), Some("no-referrer"));
    assert_eq!(page.header("x-content-type-options"), Some("nosniff"));

    let tag = page.header("etag").unwrap();
    let again = server.send("GET", "/console", &[("if-none-match", tag)], b"").await;
    assert_eq!((again.status, again.body.len()), (304, 0));
    let slash = server.get("/console/").await;
    assert_eq!((slash.status, slash.header("location")), (308, Some("../console")));
}

#[tokio::test]
async fn files_are_kept_for_ever_under_the_name_of_their_release() {
    let server = TestServer::start().await;
    let page = server.get("/console").await;
    for (ending, media_type) in [
        ("base/main.js", "text/javascript; charset=utf-8"),
        ("styles/base.css", "text/css; charset=utf-8"),
        ("styles/icon.svg", "image/svg+xml"),
    ] {
        let path = asset(page.text(), ending);
        let file = server.get(&path).await;
        assert_eq!((file.status, file.header("content-type")), (200, Some(media_type)), "{path}");
        assert_eq!(file.header("cache-control"), Some("public, max-age=31536000, immutable"));
        assert!(file.header("content-encoding").is_none());
        assert!(file.header("content-security-policy").is_some(), "a file that is opened by itself is guarded too");
        let small = server.send("GET", &path, &[("accept-encoding", "br, gzip")], b"").await;
        assert_eq!((small.status, small.header("content-encoding")), (200, Some("gzip")));
        assert_eq!(small.header("vary"), Some("accept-encoding"));
        assert!(small.body.len() < file.body.len(), "{path}");
        let tag = file.header("etag").unwrap();
        assert_eq!(server.send("GET", &path, &[("if-none-match", tag)], b"").await.status, 304);
    }
    let main = asset(page.text(), "base/main.js");
    let release = main.split('/').nth(3).unwrap();
    for wrong in [
        main.replace(release, "0000000000000000"),
        main.replace("main.js", "none.js"),
        format!("/console/assets/{release}/base/..%2f..%2findex.html"),
    ] {
        let absent = server.get(&wrong).await;
        assert_eq!((absent.status, absent.header("content-type")), (404, Some("application/problem+json")), "{wrong}");
    }
}

/// What the browser tests need and this machine lacks.
fn lacking() -> Option<String> {
    let has = |program: &str| {
        let asked = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        asked.is_ok_and(|status| status.success())
    };
    let chromium = std::env::var("CHROMIUM").unwrap_or_else(|_| "/usr/bin/chromium".to_owned());
    if !has("node") {
        return Some("node".to_owned());
    }
    if !has(&chromium) {
        return Some(format!("Chromium at {chromium} (CHROMIUM names another place)"));
    }
    if !folder().join("node_modules/playwright-core").is_dir() || !folder().join("node_modules/axe-core").is_dir() {
        let installed = Command::new("npm").args(["ci", "--no-audit", "--no-fund"]).current_dir(folder()).output();
        if !installed.as_ref().is_ok_and(|output| output.status.success()) {
            return Some(format!("the packages of tests/console, which npm ci did not get: {installed:?}"));
        }
    }
    None
}

/// Runs a file of browser tests against a server of its own.
fn run(file: &str) {
    run_prepared(file, &[], |_, _| Vec::new());
}

/// The same on a store that was prepared, for which more is set; what `prepare` answers the tests find in their
/// environment.
fn run_prepared(
    file: &str,
    more: &[(&str, &str)],
    prepare: impl FnOnce(&Path, &Server) -> Vec<(&'static str, String)>,
) {
    if let Some(lacking) = lacking() {
        assert!(std::env::var_os("CONSOLE_REQUIRED").is_none(), "the browser tests must run here, and lack {lacking}");
        eprintln!("SKIPPED: {file} of the console needs a browser, and this machine lacks {lacking}");
        return;
    }
    let data = tempfile::tempdir().unwrap();
    let config = folder().join("config");
    let mut settings =
        vec![("CONFIG_DIR", config.to_str().unwrap()), ("ES__INTEGRITY__INTERVAL_MS", "100"), ("LOG_LEVEL", "info")];
    settings.extend_from_slice(more);
    let server = Server::start(data.path(), &settings);
    let prepared = prepare(data.path(), &server);
    let output = Command::new("node")
        .args(["--test", "--test-reporter=spec", file])
        .current_dir(folder())
        .env("CONSOLE_URL", server.url())
        .envs(prepared)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    // A file without tests would pass too.
    let passed =
        text.lines().find_map(|line| line.split_once("pass ")).and_then(|(_, count)| count.trim().parse().ok());
    assert!(passed.is_some_and(|count: u32| count >= 2), "{text}");
    for line in text.lines().filter(|line| line.contains("# heap")) {
        eprintln!("{line}");
    }
}

#[test]
fn every_page_is_sound_and_accessible_in_a_browser() {
    run("pages.test.js");
}

#[test]
fn hostile_texts_stay_texts_in_a_browser() {
    run("hostile.test.js");
}

#[test]
fn time_travel_shows_the_right_state_in_a_browser() {
    run("travel.test.js");
}

#[test]
fn live_tail_receives_and_stays_small_in_a_browser() {
    run("live.test.js");
}

#[test]
fn operators_find_their_ways_in_a_browser() {
    run("operations.test.js");
}

#[test]
fn commands_are_tried_and_sent_in_a_browser() {
    run("commands.test.js");
}

#[test]
fn keys_languages_and_themes_work_in_a_browser() {
    run("keyboard.test.js");
}

/// Two events of one account in three accounts; the second of the middle one is changed in the file.
fn alter(folder: &Path, server: &Server) -> Vec<(&'static str, String)> {
    const ALTERED: u64 = 4;
    let send = |kind: &str, account: &str, data: &str| {
        let body = format!(r#"{{"command_type":"{kind}","aggregate_id":"{account}","data":{data}}}"#);
        let (status, answer) = server.request("POST", "/api/v1/commands", &body);
        assert_eq!(status, 200, "{answer}");
    };
    for account in ["altered-1", "altered-2", "altered-3"] {
        send("CreateAccount", account, r#"{"owner":"Ada","initial_balance":5}"#);
        send("DepositMoney", account, r#"{"amount":1}"#);
    }
    let give_up = Instant::now() + Duration::from_secs(60);
    while server.get("/api/v1/integrity/checkpoint").1.lines().nth(1) != Some("6") {
        assert!(Instant::now() < give_up, "the events were never sealed");
        std::thread::park_timeout(Duration::from_millis(50));
    }
    let file = folder.join("data/eventstore.db");
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let mut database = SqliteConnectOptions::new().filename(file).connect().await.unwrap();
        sqlx::query("DROP TRIGGER events_no_update").execute(&mut database).await.unwrap();
        let change = "UPDATE events SET data = CAST(replace(CAST(data AS TEXT), '1', '9') AS BLOB) WHERE position = ?1";
        let changed = sqlx::query(change).bind(i64::try_from(ALTERED).unwrap()).execute(&mut database).await.unwrap();
        assert_eq!(changed.rows_affected(), 1);
        database.close().await.unwrap();
    });
    vec![("CONSOLE_ALTERED", ALTERED.to_string())]
}

#[test]
fn an_altered_log_is_told_in_a_browser() {
    run_prepared("altered.test.js", &[], alter);
}

/// A key for some roles, on the store of a running server.
fn key(folder: &Path, role: &str) -> String {
    let made = word(folder, &[], &["token", "create", "--role", role, "--name", role, "--format", "json"]);
    assert_eq!(made.code, 0, "{made:?}");
    made.json()["key"].as_str().unwrap().to_owned()
}

#[test]
fn who_asks_is_asked_who_they_are_in_a_browser() {
    run_prepared("access.test.js", &[("ES__AUTH__MODE", "api_key")], |folder, _| {
        vec![("CONSOLE_READER", key(folder, "reader")), ("CONSOLE_OPERATOR", key(folder, "operator"))]
    });
}
