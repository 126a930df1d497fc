//! Dashboard, alerts and runbooks: whatever they name is there, and `promtool` accepts them.

use std::{collections::BTreeSet, path::Path, process::Command};

use serde_json::Value;
use tempfile::TempDir;

use super::exposition::scrape;
use crate::support::server::Server;

const DASHBOARD: &str = include_str!("../../../deploy/grafana/dashboard.json");
const ALERTS: &str = include_str!("../../../deploy/prometheus/alerts.yml");
const ALERTS_TEST: &str = include_str!("../../../deploy/prometheus/alerts_test.yml");
const RUNBOOKS: &str = include_str!("../../../docs/runbooks/README.md");

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every metric that an expression names.
fn metrics(expression: &str) -> BTreeSet<String> {
    let words = expression.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words.filter(|word| word.starts_with("es_") || word.starts_with("process_")).map(ToOwned::to_owned).collect()
}

/// Every value under this name, however deep.
fn values<'a>(document: &'a Value, name: &str, found: &mut Vec<&'a str>) {
    match document {
        Value::Object(members) => {
            for (key, value) in members {
                match value.as_str() {
                    Some(text) if key == name => found.push(text),
                    _ => values(value, name, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| values(item, name, found)),
        _ => {}
    }
}

/// The texts after `key:` in the rules, each up to the next key.
fn after<'a>(yaml: &'a str, key: &str) -> Vec<&'a str> {
    yaml.lines().filter_map(|line| line.trim().trim_start_matches("- ").strip_prefix(key)).map(str::trim).collect()
}

#[test]
fn every_metric_that_dashboard_and_alerts_name_is_on_a_live_server() {
    let folder = TempDir::new().unwrap();
    let families = scrape(&Server::start(folder.path(), &[]));
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    let mut expressions = Vec::new();
    values(&dashboard, "expr", &mut expressions);
    assert!(expressions.len() > 40, "the dashboard has {} expressions", expressions.len());
    let rules: Vec<&str> = ALERTS.lines().filter(|line| line.contains("es_") || line.contains("process_")).collect();
    let named: BTreeSet<String> = expressions.into_iter().chain(rules).flat_map(metrics).collect();
    assert!(named.len() > 30, "{named:?}");
    for name in named {
        let family = ["_bucket", "_count", "_sum"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(&name);
        let is_histogram = families.get(family).is_some_and(|family| family.kind == "histogram");
        assert_eq!(is_histogram, family != name, "{name} names a series of its kind");
        assert!(families.contains_key(family), "no server has {name}");
    }
}

#[test]
fn every_alert_has_a_runbook_and_a_test_in_which_it_fires() {
    let alerts: Vec<&str> = after(ALERTS, "alert:");
    assert!(alerts.len() >= 10, "{alerts:?}");
    let runbooks = after(ALERTS, "runbook_url:");
    assert_eq!(alerts.len(), runbooks.len());
    for (alert, url) in alerts.iter().zip(runbooks) {
        let file = url.rsplit('/').next().unwrap();
        let page = std::fs::read_to_string(root().join("docs/runbooks").join(file));
        let page = page.unwrap_or_else(|error| panic!("the runbook of {alert}: {error}"));
        assert!(page.starts_with(&format!("# {alert}\n")), "{file} is about {alert}");
        for part in ["## Symptom", "## Meaning", "## What to look at", "## What to do"] {
            assert!(page.contains(part), "{file} lacks {part}");
        }
        assert!(RUNBOOKS.contains(&format!("[{alert}]({file})")), "the list of runbooks lacks {alert}");
        let tests: Vec<&str> = ALERTS_TEST.split(&format!("alertname: {alert}\n")).skip(1).collect();
        let fires = |test: &&str| test.lines().nth(2).is_some_and(|line| line.contains("exp_labels"));
        assert!(tests.iter().any(fires), "no test in which {alert} fires");
        assert!(tests.iter().any(|test| !fires(test)), "no test in which {alert} is silent");
    }
}

#[test]
fn promtool_accepts_configuration_rules_and_their_tests() {
    let folder = root().join("deploy/prometheus");
    let run = |words: &[&str]| Command::new("promtool").args(words).current_dir(&folder).output();
    if run(&["--version"]).is_err() {
        eprintln!("SKIPPED: no promtool (install prometheus)");
        return;
    }
    for words in [
        &["check", "config", "prometheus.yml"][..],
        &["check", "rules", "alerts.yml"],
        &["test", "rules", "alerts_test.yml"],
    ] {
        let output = run(words).unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "promtool {words:?}: {said}");
    }
}

#[test]
fn the_dashboard_has_a_row_for_each_side_and_no_panel_without_a_word_about_it() {
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let rows: Vec<&str> =
        panels.iter().filter(|panel| panel["type"] == "row").filter_map(|row| row["title"].as_str()).collect();
    for row in ["Write side", "Read side", "Sagas", "HTTP", "Integrity", "Process"] {
        assert!(rows.contains(&row), "{rows:?}");
    }
    let mut ids = BTreeSet::new();
    for panel in panels {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "ids are unique");
        let is_row = panel["type"] == "row";
        assert!(is_row || panel["description"].as_str().is_some_and(|text| text.ends_with('.')), "{}", panel["title"]);
    }
}
