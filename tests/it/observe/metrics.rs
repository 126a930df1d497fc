//! Every metric there is: named, described and labelled as the documentation says, and there from the first scrape.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;
use tempfile::TempDir;

use super::{
    exposition::{Family, scrape, value},
    until,
};
use crate::support::server::Server;

const PAGE: &str = include_str!("../../../docs/metrics.md");

/// What the product promises, whatever else there is.
const PROMISED: &[(&str, &[&str])] = &[
    ("es_events_appended_total", &["aggregate_type"]),
    ("es_command_duration_seconds", &["command_type", "outcome"]),
    ("es_query_duration_seconds", &["outcome", "projection"]),
    ("es_projection_lag_events", &["projection"]),
    ("es_projection_last_event_timestamp_seconds", &["projection"]),
    ("es_projection_rebuild_progress_ratio", &["projection"]),
    ("es_sagas_started_total", &["saga"]),
    ("es_sagas_finished_total", &["outcome", "saga"]),
    ("es_saga_duration_seconds", &["outcome", "saga"]),
    ("es_sagas_in_flight", &["saga"]),
    ("es_http_request_duration_seconds", &["method", "route", "status"]),
    ("es_store_operation_duration_seconds", &["operation", "outcome"]),
    ("es_store_conflicts_total", &[]),
    ("es_aggregate_replayed_events", &[]),
    ("es_active_aggregates", &[]),
    ("es_actor_restarts_total", &[]),
    ("es_cache_requests_total", &["result"]),
    ("es_integrity_verified_position", &[]),
    ("es_build_info", &["features", "version"]),
];

/// The documented metrics: name, type, labels.
fn documented() -> BTreeMap<String, (String, BTreeSet<String>)> {
    let rows = PAGE.lines().filter(|line| line.starts_with("| `"));
    let rows = rows.map(|row| {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [name, kind, labels, meaning] = cells[..] else { panic!("four columns: {row}") };
        assert!(!meaning.is_empty(), "{row}");
        let labels = labels.split(',').map(|label| label.trim().trim_matches('`').to_owned());
        (name.trim_matches('`').to_owned(), (kind.to_owned(), labels.filter(|label| !label.is_empty()).collect()))
    });
    rows.collect()
}

fn shapes(families: &BTreeMap<String, Family>) -> BTreeMap<String, (String, BTreeSet<String>)> {
    families.iter().map(|(name, family)| (name.clone(), (family.kind.clone(), family.labels.clone()))).collect()
}

#[test]
fn the_first_scrape_has_every_metric_as_the_documentation_tells() {
    let folder = TempDir::new().unwrap();
    let server = Server::start(folder.path(), &[]);
    let families = scrape(&server);
    let (found, mut told) = (shapes(&families), documented());
    // What the process takes can be read on Linux only.
    told.retain(|name, _| cfg!(target_os = "linux") || !name.starts_with("process_"));
    for (name, shape) in &found {
        assert_eq!(told.get(name), Some(shape), "docs/metrics.md about {name}");
    }
    for name in told.keys() {
        assert!(found.contains_key(name), "docs/metrics.md names {name}, which the server does not have");
    }
    for (name, labels) in PROMISED {
        let labels: BTreeSet<String> = labels.iter().map(|&label| label.to_owned()).collect();
        assert_eq!(found.get(*name).map(|(_, labels)| labels), Some(&labels), "{name}");
    }
    assert_eq!(
        value(&families, "es_command_duration_seconds_count{command_type=\"DepositMoney\",outcome=\"internal\"}"),
        Some(0.0)
    );
}

#[test]
fn names_say_unit_and_kind_and_labels_hold_no_ids() {
    let folder = TempDir::new().unwrap();
    let server = Server::start(folder.path(), &[]);
    work(&server);
    let unusual = ["id", "path", "url", "key", "user", "aggregate_id", "command_id", "correlation_id"];
    for (name, family) in scrape(&server) {
        let is_own = name.starts_with("es_");
        assert!(is_own || name.starts_with("process_"), "{name} has a prefix");
        assert!(family.help.ends_with('.') || !is_own, "{name} is described by a sentence: {}", family.help);
        assert_eq!(family.kind == "counter", name.ends_with("_total"), "{name} is a {}", family.kind);
        assert!(
            !["_ms", "_millis", "_milliseconds", "_percent", "_kb"].iter().any(|unit| name.ends_with(unit)),
            "{name}"
        );
        assert!(family.labels.iter().all(|label| !unusual.contains(&label.as_str())), "{name}: {:?}", family.labels);
        if family.kind == "histogram" && name.ends_with("_duration_seconds") && name != "es_saga_duration_seconds" {
            let is_fine = |(series, _): &(String, f64)| series.contains("le=\"0.0005\"");
            assert!(family.series.iter().any(is_fine), "{name} has buckets below a millisecond");
        }
        for (series, _) in &family.series {
            assert!(!series.contains("metrics-test"), "an id became a label: {series}");
        }
    }
}

/// One of everything.
fn work(server: &Server) {
    for (id, balance) in [("metrics-test-1", 100), ("metrics-test-2", 0)] {
        let create = json!({
            "command_type": "CreateAccount", "aggregate_id": id, "data": { "owner": "o", "initial_balance": balance },
        });
        assert_eq!(server.request("POST", "/api/v1/commands", &create.to_string()).0, 200);
    }
    let transfer = json!({
        "saga_type": "TransferSaga",
        "data": { "from_account": "metrics-test-1", "to_account": "metrics-test-2", "amount": 5 },
    });
    assert_eq!(server.request("POST", "/api/v1/sagas", &transfer.to_string()).0, 202);
    let query = json!({
        "query_type": "GetAccountBalance", "projection": "account_balance",
        "filters": { "account_id": "metrics-test-1" },
    });
    // On a busy machine the row may not be there yet.
    until("the row is there", || server.request("POST", "/api/v1/queries", &query.to_string()).0 == 200);
    assert_eq!(server.get("/api/v1/events/metrics-test-1").0, 200);
    assert_eq!(server.get("/nowhere/metrics-test-1").0, 404);
    assert_eq!(
        server.request("POST", "/api/v1/commands", r#"{"command_type":"metrics-test-3","aggregate_id":"a"}"#).0,
        422
    );
}

#[test]
fn what_happens_is_counted() {
    let folder = TempDir::new().unwrap();
    let server = Server::start(folder.path(), &[]);
    work(&server);
    let ended = "es_sagas_finished_total{outcome=\"completed\",saga=\"TransferSaga\"}";
    until("the transfer ends", || value(&scrape(&server), ended) == Some(1.0));
    let families = scrape(&server);
    let at = |series: &str| value(&families, series).unwrap_or_else(|| panic!("{series} is there"));
    assert_eq!(at("es_command_duration_seconds_count{command_type=\"CreateAccount\",outcome=\"accepted\"}"), 2.0);
    assert_eq!(at("es_command_duration_seconds_count{command_type=\"unknown\",outcome=\"invalid\"}"), 1.0);
    assert_eq!(at("es_events_appended_total{aggregate_type=\"account\"}"), 4.0);
    assert_eq!(at("es_query_duration_seconds_count{outcome=\"answered\",projection=\"account_balance\"}"), 1.0);
    assert_eq!(at("es_sagas_started_total{saga=\"TransferSaga\"}"), 1.0);
    assert_eq!(at("es_saga_duration_seconds_count{outcome=\"completed\",saga=\"TransferSaga\"}"), 1.0);
    assert_eq!(at("es_http_request_duration_seconds_count{method=\"GET\",route=\"unmatched\",status=\"404\"}"), 1.0);
    assert_eq!(at("es_active_aggregates"), 2.0);
    assert!(at("es_store_operation_duration_seconds_count{operation=\"append\",outcome=\"ok\"}") >= 3.0);
    #[cfg(target_os = "linux")]
    assert!(at("process_resident_memory_bytes") > 1e6 && at("process_open_fds") > 3.0);
}
