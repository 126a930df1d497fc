//! The table of operations: one entry per route and method of `http::routes`, and nothing else.
//!
//! A new route gets an entry in the file of its resource. What follows from the path (parameters, `invalid-id`) and from
//! the body (`malformed-body`, `body-too-large` …) is added by `write`.

mod access;
mod branching;
mod log;
mod operating;
mod reading;
mod writing;

use super::operation::{Operation, Parameter, Shape, Success};

/// Media types.
const JSON: &str = "application/json";
const LINES: &str = "application/x-ndjson";
const STREAM: &str = "text/event-stream";
const PLAIN: &str = "text/plain";
const HTML: &str = "text/html";
const HEALTH: &str = "application/health+json";

/// All of them, in the order of the document.
pub(super) fn all() -> impl Iterator<Item = &'static Operation> {
    let first = writing::ALL.iter().chain(log::ALL).chain(reading::ALL).chain(branching::ALL);
    first.chain(access::ALL).chain(operating::ALL)
}

/// What entries leave out.
const BASE: Operation = Operation {
    method: "GET",
    path: "/",
    id: "",
    tag: "",
    summary: "",
    description: "",
    parameters: &[],
    body: None,
    successes: &[],
    codes: &[],
};

const LIMIT: Parameter = Parameter::query(
    "limit",
    r#"{"type":"integer","minimum":1,"maximum":1000,"default":100}"#,
    "Entries of the page at most.",
);
/// A place in a stream or in the log.
const PLACE: &str = r#"{"type":"integer","minimum":0,"maximum":18446744073709551615}"#;
const ID: &str = r##"{"$ref":"#/components/schemas/AggregateId"}"##;
const TEXT: &str = r#"{"type":"string"}"#;
const TIME: &str = r#"{"type":"string","format":"date-time"}"#;
const UNCHANGED: Parameter =
    Parameter::header("If-None-Match", TEXT, "The `ETag` the client holds; 304 if it is still that.");
const IDEMPOTENCY_KEY: Parameter = Parameter::header(
    "Idempotency-Key",
    r#"{"type":"string","pattern":"^[!-~]{1,255}$"}"#,
    "Recognises a repeated request for 24 h, that of a branch as long as it is there: the same key and the same request get the same answer again, with \
     `Idempotency-Replayed: true`.",
);
const CORRELATION_ID: Parameter = Parameter::header(
    "X-Correlation-Id",
    r#"{"type":"string","pattern":"^[!-~]{1,255}$"}"#,
    "Shared by everything this request sets off; recorded in each event. Made if absent.",
);
const CAUSATION_ID: Parameter = Parameter::header(
    "X-Causation-Id",
    r#"{"type":"string","pattern":"^[!-~]{1,255}$"}"#,
    "What caused this request; recorded in each event. The request's id if absent.",
);
const TRACEPARENT: Parameter =
    Parameter::header("traceparent", TEXT, "W3C trace context; recorded in each event. Made if absent or not valid.");
const PREFER: Parameter = Parameter::header(
    "Prefer",
    TEXT,
    "`wait=5`: how many seconds to wait. `handling=lenient`: older rows will do (queries only).",
);

/// The answer of a read.
const fn found(contents: &'static [(&'static str, Shape)]) -> Success {
    Success::new(200, "Found.", contents, &[])
}

/// The answer of a read with an entity tag.
const fn tagged(contents: &'static [(&'static str, Shape)]) -> Success {
    Success::new(200, "Found.", contents, &["ETag"])
}

/// What the client holds is still so.
const NOT_MODIFIED: Success = Success::new(304, "The client holds this version already.", &[], &["ETag"]);
