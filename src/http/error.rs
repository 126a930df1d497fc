//! Problems (RFC 9457): every 4xx and 5xx, and what of the runtime's errors becomes which.

use std::time::Duration;

use event_sourcing_actors::{
    FieldError, RecoveryError, Sequence, codec::CodecError, error::CommandError, ports::StoreError,
};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};
use warp::{
    http::{HeaderValue, StatusCode, header},
    reply::Response,
};

pub(super) use super::codes::*;
use super::request::Ids;

/// Faults one answer lists at most; who looks for faults stops there.
pub(super) const ERRORS_MAX: usize = 20;

/// An operator does not decide within a second.
const READ_ONLY_RETRY: Duration = Duration::from_secs(60);

/// An answer that is not a success.
#[derive(Debug)]
pub(super) struct Problem {
    pub code: &'static Code,
    detail: String,
    errors: Vec<FieldError>,
    members: Map<String, Value>,
    headers: Vec<(header::HeaderName, HeaderValue)>,
}

/// A problem as it is written: what people look for first comes first.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Problem")]
pub(super) struct Document<'a> {
    /// Leads to a page about the code.
    #[serde(rename = "type")]
    kind: String,
    /// In few words.
    title: &'a str,
    status: u16,
    /// What happened, in a sentence.
    detail: &'a str,
    /// The path of the request.
    instance: &'a str,
    /// Stable name.
    code: &'a str,
    /// By which log lines are found.
    trace_id: &'a str,
    /// What is wrong with which member of the input, by JSON pointer.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    errors: &'a [FieldError],
    /// Further facts, such as `nearest` or `current_version`.
    #[serde(flatten)]
    members: &'a Map<String, Value>,
}

/// What every handler answers.
pub(super) type Answer = Result<Response, Box<Problem>>;

impl Problem {
    /// A problem with a sentence for people.
    pub fn new(code: &'static Code, detail: impl Into<String>) -> Box<Self> {
        let mut problem =
            Self { code, detail: detail.into(), errors: Vec::new(), members: Map::new(), headers: Vec::new() };
        if code.status == StatusCode::SERVICE_UNAVAILABLE {
            problem.headers.push((header::RETRY_AFTER, HeaderValue::from_static("1")));
        }
        Box::new(problem)
    }

    /// Wrong input, member by member.
    pub fn invalid(code: &'static Code, mut errors: Vec<FieldError>) -> Box<Self> {
        errors.truncate(ERRORS_MAX);
        let detail = match errors.as_slice() {
            [] => "the input is not valid".to_owned(),
            [error] => format!("{} {}", place(&error.pointer), error.detail),
            [first, rest @ ..] => format!("{} {}; and {} more", place(&first.pointer), first.detail, rest.len()),
        };
        Box::new(Self { errors, ..*Self::new(code, detail) })
    }

    /// Wrong input in one place.
    pub fn at(code: &'static Code, pointer: impl Into<String>, detail: impl Into<String>) -> Box<Self> {
        Self::invalid(code, vec![FieldError { pointer: pointer.into(), detail: detail.into() }])
    }

    /// Adds a member.
    #[must_use]
    pub fn with(mut self: Box<Self>, name: &str, value: impl Into<Value>) -> Box<Self> {
        self.members.insert(name.to_owned(), value.into());
        self
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self: Box<Self>, name: header::HeaderName, value: HeaderValue) -> Box<Self> {
        self.headers.retain(|(known, _)| *known != name);
        self.headers.push((name, value));
        self
    }

    fn retry_after(self: Box<Self>, time: Duration) -> Box<Self> {
        self.header(
            header::RETRY_AFTER,
            HeaderValue::from((time.as_secs() + u64::from(time.subsec_nanos() > 0)).max(1)),
        )
    }

    fn replayed(self: Box<Self>, is_replayed: bool) -> Box<Self> {
        if is_replayed {
            self.header(super::reply::IDEMPOTENCY_REPLAYED, HeaderValue::from_static("true"))
        } else {
            self
        }
    }

    /// As JSON.
    pub fn document(&self, instance: &str, ids: &Ids) -> Vec<u8> {
        let document = Document {
            kind: format!("/problems/{}", self.code.name),
            title: self.code.title,
            status: self.code.status.as_u16(),
            detail: &self.detail,
            instance,
            code: self.code.name,
            trace_id: ids.trace_id(),
            errors: &self.errors,
            members: &self.members,
        };
        // A tree with text keys is always written.
        serde_json::to_vec(&document).unwrap_or_default()
    }

    /// The response.
    pub fn into_response(self, instance: &str, ids: &Ids) -> Response {
        let mut response = super::reply::bytes(self.document(instance, ids), "application/problem+json");
        *response.status_mut() = self.code.status;
        let headers = response.headers_mut();
        headers.extend(self.headers);
        response
    }

    /// What became of a command; `pointer` turns the bus's pointers into those of the body.
    pub fn of_command(error: CommandError, pointer: impl Fn(&str) -> String) -> Box<Self> {
        let detail = error.to_string();
        match error {
            CommandError::Rejected { refusal, replayed } => {
                let problem = Self::new(DOMAIN_REJECTED, refusal.message).with("rejection", refusal.code);
                match refusal.details {
                    Some(details) => problem.with("details", details),
                    None => problem,
                }
                .replayed(replayed)
            }
            CommandError::Invalid { errors } => {
                let errors = errors.into_iter();
                let errors = errors.map(|error| FieldError { pointer: pointer(&error.pointer), ..error });
                Self::invalid(VALIDATION_FAILED, errors.collect())
            }
            CommandError::UnknownCommandType { nearest, .. } => {
                Self::new(UNKNOWN_COMMAND_TYPE, hinted(detail, &nearest))
                    .naming("/command_type".to_owned(), "is not a known command type")
                    .with("nearest", nearest)
            }
            CommandError::UnknownEventType { nearest, event_type, .. } => {
                Self::new(UNKNOWN_EVENT_TYPE, hinted(detail, &nearest))
                    .naming(pointer(&event_type), "is not an event type of this stream")
                    .with("nearest", nearest)
            }
            CommandError::PreconditionFailed { current_version, replayed } => {
                Self::precondition_failed(current_version.0).replayed(replayed)
            }
            CommandError::TypeMismatch { actual, requested, .. } => Self::new(AGGREGATE_TYPE_MISMATCH, detail)
                .with("actual", actual.as_str())
                .with("requested", requested.as_str()),
            CommandError::EventIdReused { event_id } => {
                Self::new(EVENT_ID_REUSED, detail).with("event_id", event_id.to_string())
            }
            CommandError::Overloaded { retry_after, .. } | CommandError::Parked { retry_after, .. } => {
                Self::new(OVERLOADED, detail).retry_after(retry_after)
            }
            CommandError::OutcomeUnknown { command_id } => {
                Self::new(OUTCOME_UNKNOWN, detail).with("command_id", command_id.to_string())
            }
            CommandError::StoreUnavailable { reason } => Self::of_store(&StoreError::Unavailable { reason }),
            CommandError::ReadOnly { .. } => Self::new(READ_ONLY, detail).retry_after(READ_ONLY_RETRY),
            CommandError::KeyInProgress => Self::new(IDEMPOTENCY_IN_PROGRESS, detail).retry_after(Duration::ZERO),
            CommandError::Unauthenticated => {
                Self::new(UNAUTHENTICATED, detail).header(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))
            }
            CommandError::Conflict { .. } => Self::new(CONCURRENCY_CONFLICT, detail),
            CommandError::ReservedStream { .. } => Self::new(RESERVED_STREAM, detail),
            CommandError::SubjectErased { .. } => Self::new(SUBJECT_ERASED, detail),
            CommandError::KeyReused => Self::new(IDEMPOTENCY_KEY_REUSED, detail),
            CommandError::Forbidden { .. } => Self::new(FORBIDDEN, detail),
            CommandError::Draining => Self::new(DRAINING, detail),
            CommandError::DeadlineExceeded => Self::new(OVERLOADED, detail),
            CommandError::Interrupted => Self::new(OUTCOME_UNKNOWN, detail),
            // The bus has logged it; its words may name what is not the caller's to know.
            CommandError::Internal { .. } => Self::internal(),
        }
    }

    /// A version that is not the demanded one.
    pub fn precondition_failed(current_version: u64) -> Box<Self> {
        let error = CommandError::PreconditionFailed { current_version: Sequence(current_version), replayed: false };
        Self::new(PRECONDITION_FAILED, error.to_string()).with("current_version", current_version)
    }

    /// A read that failed.
    pub fn of_store(error: &StoreError) -> Box<Self> {
        tracing::warn!(%error, "the event store failed a request");
        match error {
            StoreError::Unavailable { .. } => {
                Self::new(STORE_UNAVAILABLE, "the event store does not answer; nothing was done")
            }
            StoreError::ReadOnly { .. } => Self::new(READ_ONLY, error.to_string()).retry_after(READ_ONLY_RETRY),
            StoreError::Refused { .. } | StoreError::DurabilityLost { .. } => Self::internal(),
            StoreError::Corrupt { .. } => {
                Self::new(INTEGRITY_VIOLATION, "the event store holds something that cannot be read")
            }
        }
    }

    /// A stream that cannot be folded.
    pub fn of_recovery(error: RecoveryError) -> Box<Self> {
        let detail = error.to_string();
        match error {
            RecoveryError::Store(error) => return Self::of_store(&error),
            RecoveryError::Integrity { position, .. } => {
                tracing::error!(error = detail, "a stored event was altered");
                return Self::new(INTEGRITY_VIOLATION, detail).with("position", position.0);
            }
            RecoveryError::Codec { source: CodecError::FutureVersion { .. }, .. } => {
                tracing::error!(error = detail, "a stream is of a newer program");
                return Self::new(INTERNAL, detail);
            }
            RecoveryError::Codec { .. } | RecoveryError::Panic { .. } | RecoveryError::LoadPanic { .. } => {}
        }
        tracing::error!(error = detail, "a stream cannot be folded");
        Self::internal()
    }

    /// A fault whose particulars are in the log.
    pub fn internal() -> Box<Self> {
        Self::new(INTERNAL, "the server failed; its log tells more under the trace_id")
    }

    /// Points at the member of the body that the sentence is about.
    pub fn naming(mut self: Box<Self>, pointer: String, detail: &str) -> Box<Self> {
        self.errors.push(FieldError { pointer, detail: detail.to_owned() });
        self
    }
}

impl From<StoreError> for Box<Problem> {
    fn from(error: StoreError) -> Self {
        Problem::of_store(&error)
    }
}

impl From<RecoveryError> for Box<Problem> {
    fn from(error: RecoveryError) -> Self {
        Problem::of_recovery(error)
    }
}

fn place(pointer: &str) -> &str {
    if pointer.is_empty() { "the body" } else { pointer }
}

/// A sentence, with the nearest known names.
pub(super) fn hinted(sentence: String, nearest: &[String]) -> String {
    if nearest.is_empty() { sentence } else { format!("{sentence}; did you mean {}?", nearest.join(", ")) }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use event_sourcing_actors::{AggregateId, AggregateType, CommandId, EventId, Refusal};
    use uuid::Uuid;

    use super::*;

    fn told(error: CommandError) -> (u16, &'static str, bool) {
        let problem = Problem::of_command(error, str::to_owned);
        let retries = problem.headers.iter().any(|(name, _)| *name == header::RETRY_AFTER);
        (problem.code.status.as_u16(), problem.code.name, retries)
    }

    #[test]
    fn every_outcome_of_a_command_has_its_code() {
        let (aggregate_id, time) = (AggregateId::new("a").unwrap(), Duration::from_millis(1_500));
        let kind = AggregateType::new("t").unwrap();
        let refusal = Refusal { code: "c".to_owned(), message: "m".to_owned(), details: None };
        let text = String::new;
        let cases = [
            (CommandError::Rejected { refusal, replayed: false }, (422, "domain-rejected", false)),
            (CommandError::Invalid { errors: Vec::new() }, (422, "validation-failed", false)),
            (
                CommandError::UnknownCommandType { command_type: text(), nearest: Vec::new() },
                (422, "unknown-command-type", false),
            ),
            (
                CommandError::UnknownEventType {
                    event_type: text(),
                    aggregate_type: text(),
                    owner: None,
                    nearest: Vec::new(),
                },
                (422, "unknown-event-type", false),
            ),
            (
                CommandError::PreconditionFailed { current_version: Sequence(1), replayed: false },
                (412, "precondition-failed", false),
            ),
            (CommandError::Conflict { aggregate_id: aggregate_id.clone() }, (409, "concurrency-conflict", false)),
            (
                CommandError::TypeMismatch {
                    aggregate_id: aggregate_id.clone(),
                    actual: kind.clone(),
                    requested: kind,
                },
                (409, "aggregate-type-mismatch", false),
            ),
            (CommandError::ReservedStream { aggregate_id: aggregate_id.clone() }, (409, "reserved-stream", false)),
            (CommandError::SubjectErased { aggregate_id: aggregate_id.clone() }, (409, "subject-erased", false)),
            (CommandError::EventIdReused { event_id: EventId(Uuid::nil()) }, (409, "event-id-reused", false)),
            (CommandError::KeyReused, (422, "idempotency-key-reused", false)),
            (CommandError::KeyInProgress, (409, "idempotency-in-progress", true)),
            (CommandError::Unauthenticated, (401, "unauthenticated", false)),
            (CommandError::Forbidden { reason: text() }, (403, "forbidden", false)),
            (CommandError::Overloaded { scope: "process", retry_after: time }, (503, "overloaded", true)),
            (CommandError::Draining, (503, "draining", true)),
            (CommandError::StoreUnavailable { reason: text() }, (503, "store-unavailable", true)),
            (CommandError::ReadOnly { reason: text() }, (503, "read-only", true)),
            (CommandError::Parked { aggregate_id, reason: text(), retry_after: time }, (503, "overloaded", true)),
            (CommandError::DeadlineExceeded, (503, "overloaded", true)),
            (CommandError::OutcomeUnknown { command_id: CommandId(Uuid::nil()) }, (503, "outcome-unknown", true)),
            (CommandError::Interrupted, (503, "outcome-unknown", true)),
            (CommandError::Internal { reason: text() }, (500, "internal", false)),
        ];
        for (error, expected) in cases {
            assert_eq!(told(error.clone()), expected, "{error:?}");
        }
    }

    #[test]
    fn altered_events_are_told_from_faults() {
        let aggregate_id = AggregateId::new("a").unwrap();
        let integrity = RecoveryError::Integrity {
            aggregate_id: aggregate_id.clone(),
            sequence: Sequence(1),
            position: event_sourcing_actors::Position(1),
            reason: "it was altered",
        };
        assert_eq!(Problem::of_recovery(integrity).code, INTEGRITY_VIOLATION);
        let corrupt = StoreError::Corrupt { reason: String::new() };
        assert_eq!(Problem::of_recovery(corrupt.into()).code, INTEGRITY_VIOLATION);
        let panic = RecoveryError::Panic { aggregate_id, sequence: Sequence(1) };
        assert_eq!(Problem::of_recovery(panic).code, INTERNAL);
        assert_eq!(Problem::of_store(&StoreError::Unavailable { reason: String::new() }).code, STORE_UNAVAILABLE);
    }

    #[test]
    fn code_names_are_unique_and_statuses_ascend() {
        let names: HashSet<_> = CODES.iter().map(|code| code.name).collect();
        assert_eq!(names.len(), CODES.len());
        assert!(CODES.is_sorted_by_key(|code| code.status));
    }

    #[test]
    fn waits_are_rounded_up_to_whole_seconds() {
        for (millis, expected) in [(0, "1"), (1, "1"), (1_000, "1"), (1_001, "2")] {
            let problem = Problem::new(OVERLOADED, "").retry_after(Duration::from_millis(millis));
            let waits: Vec<_> = problem.headers.iter().map(|(_, value)| value.to_str().unwrap()).collect();
            assert_eq!(waits, [expected], "{millis}");
        }
    }
}
