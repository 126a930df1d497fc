//! Traces of the real program: one tree from the request to the store, on to projections and sagas; and collectors that
//! do not answer.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    time::Duration,
};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::otlp::{Collector, Told};
use crate::support::server::Server;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";
/// As OTLP numbers kinds.
const SERVER: i32 = 2;

fn start(folder: &TempDir, endpoint: &str) -> Server {
    let environment = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint),
        ("OTEL_BSP_SCHEDULE_DELAY", "50"),
        // What bounds the end is to be this program's own patience, not the exporter's.
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "600000"),
    ];
    Server::start(folder.path(), &environment)
}

/// Status, the answered `traceparent`, and the body.
fn post(server: &Server, path: &str, traceparent: Option<&str>, body: &Value) -> (u16, String, Value) {
    let mut stream = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let body = body.to_string();
    let sent = traceparent.map(|sent| format!("traceparent: {sent}\r\n")).unwrap_or_default();
    let head = format!("POST {path} HTTP/1.0\r\nhost: t\r\ncontent-type: application/json\r\n{sent}");
    write!(stream, "{head}content-length: {}\r\n\r\n{body}", body.len()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let answered = head.lines().find_map(|line| line.strip_prefix("traceparent: ")).unwrap_or_default();
    (status, answered.to_owned(), serde_json::from_str(body).unwrap_or_default())
}

fn account(id: &str, balance: u64) -> Value {
    let data = json!({ "owner": "canary-of-a-payload", "initial_balance": balance });
    json!({ "command_type": "CreateAccount", "aggregate_id": id, "data": data })
}

fn named<'a>(name: &'a str, trace: &'a str) -> impl Fn(&Told) -> bool + 'a {
    move |span| span.name == name && span.trace == trace
}

#[test]
fn one_command_is_one_tree_from_the_caller_to_the_store_and_linked_to_the_projection() {
    let (folder, collector) = (TempDir::new().unwrap(), Collector::start());
    let server = start(&folder, &collector.endpoint);
    let sent = format!("00-{TRACE}-{CALLER}-01");
    let (status, answered, accepted) = post(&server, "/api/v1/commands", Some(&sent), &account("traced", 7));
    assert_eq!((status, answered), (200, sent));

    let request = collector.find("the request", named("POST /api/v1/commands", TRACE));
    assert_eq!(
        (request.parent.as_str(), request.kind, request.service.as_str()),
        (CALLER, SERVER, "event-sourcing-cqrs")
    );
    assert_eq!(request.attribute("http.route"), Some("/api/v1/commands"));
    assert_eq!(request.attribute("http.response.status_code"), Some("200"));
    let command = collector.find("the command", named("command", TRACE));
    assert_eq!(command.parent, request.id);
    for (field, value) in [
        ("command.name", "CreateAccount"),
        ("command.id", accepted["command_id"].as_str().unwrap()),
        ("aggregate.type", "account"),
        ("aggregate.id", "traced"),
        ("event.position", "1"),
    ] {
        assert_eq!(command.attribute(field), Some(value), "{field}");
    }
    let journal = collector.find("the journal", named("journal", TRACE));
    assert_eq!((&journal.parent, journal.attribute("aggregate.id")), (&command.id, Some("traced")));
    let stored = |span: &Told| span.name == "store" && span.parent == journal.id;
    assert_eq!(collector.find("the store", stored).attribute("operation"), Some("append"));
    // A projection's commit has many causes, so it is linked to them.
    let is_linked = |span: &Told| {
        span.attribute("projection") == Some("account_balance") && span.links.iter().any(|(trace, _)| trace == TRACE)
    };
    let projection = collector.find("the projection", is_linked);
    assert_eq!(projection.attribute("event.position"), Some("1"));
    assert!(server.terminate().success());
    let all = collector.spans();
    assert!(all.iter().all(|span| span.events == 0), "lines of the log are no part of traces");
    assert!(!format!("{all:?}").contains("canary"), "payloads leave the process");
}

#[test]
fn commands_of_a_saga_belong_to_the_trace_of_the_call_that_started_it() {
    let (folder, collector) = (TempDir::new().unwrap(), Collector::start());
    let server = start(&folder, &collector.endpoint);
    for (id, balance) in [("ann", 100), ("bob", 0)] {
        assert_eq!(post(&server, "/api/v1/commands", None, &account(id, balance)).0, 200);
    }
    let transfer = json!({
        "saga_type": "TransferSaga", "data": { "from_account": "ann", "to_account": "bob", "amount": 5 },
    });
    let (status, _, started) = post(&server, "/api/v1/sagas", Some(&format!("00-{TRACE}-{CALLER}-01")), &transfer);
    assert_eq!(status, 202, "{started}");
    for name in ["WithdrawMoney", "DepositMoney"] {
        let command = collector.find(name, |span| span.attribute("command.name") == Some(name));
        assert_eq!(command.trace, TRACE, "{name}");
        let saga = collector.find("the saga", |span| span.id == command.parent);
        assert_eq!((saga.name.as_str(), saga.trace.as_str()), ("saga", TRACE));
        assert_eq!(saga.attribute("saga.id"), started["saga_id"].as_str());
    }
    // The log keeps the trace, so that whoever reads the events finds it too.
    let (_, body) = server.get("/api/v1/events/bob");
    let events: Value = serde_json::from_str(&body).unwrap();
    let recorded = events["events"].as_array().unwrap().last().unwrap()["metadata"]["traceparent"].clone();
    assert_eq!(recorded, format!("00-{TRACE}-{CALLER}-01"));
}

#[test]
fn a_caller_without_a_trace_hears_of_the_one_that_was_begun() {
    let (folder, collector) = (TempDir::new().unwrap(), Collector::start());
    let server = start(&folder, &collector.endpoint);
    let (status, answered, _) = post(&server, "/api/v1/commands", None, &account("untold", 0));
    let parts: Vec<&str> = answered.split('-').collect();
    assert_eq!((status, parts.len(), parts[3]), (200, 4, "01"), "{answered}");
    let request = collector.find("the request", named("POST /api/v1/commands", parts[1]));
    assert_eq!((request.id.as_str(), request.parent.as_str()), (parts[2], ""));
    // A caller who does not want its trace kept is heard.
    let quiet = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";
    assert_eq!(post(&server, "/api/v1/commands", Some(quiet), &account("quiet", 0)).1, quiet);
    assert!(server.get("/health").0 == 200 && server.terminate().success());
    let all = collector.spans();
    assert!(!all.iter().any(|span| span.trace == "0af7651916cd43dd8448eb211c80319c"), "{all:#?}");
    assert!(!all.iter().any(|span| span.attribute("http.route") == Some("/health")), "probes are no traces");
}

#[test]
fn a_collector_that_is_dead_or_hangs_disturbs_nobody() {
    let dead = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    // Takes connections, by its backlog, and never says a word.
    let deaf = TcpListener::bind("127.0.0.1:0").unwrap();
    for endpoint in [format!("http://{dead}"), format!("http://{}", deaf.local_addr().unwrap())] {
        let folder = TempDir::new().unwrap();
        let mut server = start(&folder, &endpoint);
        for index in 0..50 {
            assert_eq!(post(&server, "/api/v1/commands", None, &account(&format!("a-{index}"), 1)).0, 200);
        }
        if endpoint.ends_with(&dead.to_string()) {
            let line = server.process().line(|line| line.contains("the collector of traces takes no spans"));
            assert!(line.is_some_and(|line| line.contains("\"WARN\"")));
        }
        // Whoever waits for the end gives up long before the exporter would.
        assert!(server.terminate().success(), "{endpoint}");
    }
}

#[test]
fn what_cannot_be_sent_is_said_at_the_start() {
    let folder = TempDir::new().unwrap();
    let environment = [("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1"), ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")];
    let mut server = Server::start(folder.path(), &environment);
    let said = server.process().said().join("\n");
    assert!(said.contains("no traces are sent") && said.contains("http/protobuf"), "{said}");
}
