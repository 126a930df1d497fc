//! `bench` as a load tester meets it.

use std::time::Duration;

use serde_json::json;

use crate::support::{
    server::{Process, Server, program},
    words::expect,
};

#[test]
fn load_is_counted_compared_and_judged() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let server = Server::start(path, &[]);
    let url = server.url();
    let load = [
        "--timeout",
        "60",
        "--duration",
        "4",
        "--warm-up",
        "0.3",
        "--concurrency",
        "4",
        "--aggregates",
        "10",
        "--url",
        &url,
    ];
    let closed = [&["bench", "--queries", "50", "--format", "json"][..], &load].concat();
    let ended = expect(0, path, &[], &closed);
    let results = ended.json();
    assert!(ended.stderr.contains("requests/s"), "progress each second: {ended:?}");
    let count = |kind: &str| results[kind]["requests"].as_u64().unwrap();
    assert_eq!(count("all"), count("commands") + count("queries"));
    assert!(count("commands") > 0 && count("queries") > 0, "{results}");
    assert!(count("commands").abs_diff(count("queries")) <= 8, "half and half on each connection: {results}");
    assert_eq!((&results["all"]["errors"], &results["load"]), (&json!(0), &json!("closed")), "{results}");
    let latency = &results["all"]["latency_ms"];
    let ranks = ["min", "p50", "p90", "p99", "p99_9", "max"].map(|name| latency[name].as_f64().unwrap());
    assert!(ranks.is_sorted() && ranks[0] > 0.0, "{latency}");
    // What was measured was really done: each counted command is an event of the accounts of this run.
    let head = expect(0, path, &[], &["status", "--format", "json"]).json()["head_position"].as_u64().unwrap();
    assert!(head >= 10 + count("commands"), "{head}: {results}");

    std::fs::write(path.join("before"), &ended.stdout).unwrap();
    let open = [&["bench", "--rate", "50", "--compare", "before"][..], &load].concat();
    let compared = expect(0, path, &[], &open);
    assert!(compared.stdout.contains("against the run before: rate "), "{compared:?}");
    assert!(compared.stdout.contains("differ in load, queries_percent"), "{compared:?}");
    let open = [&["bench", "--rate", "50", "--format", "json"][..], &load].concat();
    let rate = expect(0, path, &[], &open).json();
    assert_eq!(
        (&rate["all"]["requests"], &rate["latency_from_due"]),
        (&json!(200), &json!(true)),
        "200 were due: {rate}"
    );
    let judged = expect(1, path, &[], &[&closed[..], &["--fail-above-p99-ms", "0.0001"]].concat());
    assert!(judged.stderr.contains("the 99th percentile is"), "{judged:?}");
    expect(0, path, &[], &[&closed[..], &["--fail-above-p99-ms", "600000"]].concat());
}

#[test]
fn stall_of_the_server_is_in_the_latency_of_every_request_that_was_due_meanwhile() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let server = Server::start(path, &[]);
    let mut command = program(path, &[]);
    let words =
        ["bench", "--rate", "100", "--concurrency", "1", "--duration", "4", "--warm-up", "0.1", "--aggregates", "5"];
    command.args(words).args(["--timeout", "30", "--format", "json", "--url", &server.url()]);
    let mut bench = Process::start(command);
    assert!(bench.line(|line| line.contains("requests/s")).is_some(), "{:?}", bench.said());
    server.sigstop();
    std::thread::park_timeout(Duration::from_millis(1_500));
    server.sigcont();
    let mut text = String::new();
    let results = loop {
        text.push_str(&bench.data_line());
        if let Ok(results) = serde_json::from_str::<serde_json::Value>(&text) {
            break results;
        }
    };
    assert_eq!(bench.wait().code(), Some(0));
    // One connection: but for the waiting, a single request would have been slow.
    let latency = &results["all"]["latency_ms"];
    assert!(latency["max"].as_f64().unwrap() >= 1_400.0, "{results}");
    assert!(
        latency["p90"].as_f64().unwrap() >= 500.0,
        "a tenth of 400 was due in the stall and waited long: {results}"
    );
    assert_eq!(results["all"]["requests"], 400, "{results}");
}

#[test]
fn requests_that_could_not_be_sent_in_time_are_counted_and_the_run_ends() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let server = Server::start(path, &[]);
    let words = ["bench", "--rate", "20000", "--concurrency", "1", "--duration", "1", "--warm-up", "0.1"];
    let rest = ["--aggregates", "2", "--timeout", "10", "--format", "json", "--url", &server.url()];
    let results = expect(0, path, &[], &[&words[..], &rest].concat()).json();
    assert_eq!(results["all"]["requests"], 20_000, "{results}");
    let unsent = results["all"]["errors_by_code"]["not-sent"].as_u64().unwrap();
    assert!(unsent > 0 && results["all"]["latency_ms"]["max"].as_f64().unwrap() >= 1_000.0, "{results}");
}

#[test]
fn errors_are_counted_by_code_and_a_server_that_is_away_ends_with_6() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let away = expect(6, path, &[], &["bench", "--url", "http://127.0.0.1:1", "--duration", "1"]);
    assert!(away.stderr.contains("cannot be reached"), "{away:?}");
    expect(2, path, &[], &["bench", "--url", "https://127.0.0.1:1"]);
    expect(2, path, &[], &["bench", "--queries", "101"]);
    expect(3, path, &[], &["bench", "--compare", "nowhere"]);

    let mut server = Server::start(path, &[("ES__HTTP__SHUTDOWN_GRACE_MS", "0")]);
    let mut command = program(path, &[]);
    let words =
        ["bench", "--concurrency", "2", "--duration", "3", "--warm-up", "0.1", "--aggregates", "5", "--format", "json"];
    command.args(words).args(["--url", &server.url()]);
    let mut bench = Process::start(command);
    assert!(bench.line(|line| line.contains("requests/s")).is_some(), "{:?}", bench.said());
    server.process().signal("KILL");
    let mut text = String::new();
    let results = loop {
        text.push_str(&bench.data_line());
        if let Ok(results) = serde_json::from_str::<serde_json::Value>(&text) {
            break results;
        }
    };
    assert_eq!(bench.wait().code(), Some(0));
    assert!(results["all"]["errors_by_code"]["cannot-connect"].as_u64().unwrap() > 0, "{results}");
}
