//! Problems (RFC 9457): every 4xx and 5xx, from one table of codes.

use std::time::Duration;

use event_sourcing_actors::{FieldError, RecoveryError, codec::CodecError, error::CommandError, ports::StoreError};
use serde_json::{Map, Value, json};
use warp::{
    http::{HeaderValue, StatusCode, header},
    reply::Response,
};

use super::request::Ids;

/// One kind of problem.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Code {
    pub name: &'static str,
    pub status: StatusCode,
    pub title: &'static str,
    /// For the page `/problems/{code}`.
    pub help: &'static str,
}

macro_rules! codes {
    ($($constant:ident $name:literal $status:ident $title:literal $help:literal;)+) => {
        $(pub(super) const $constant: &Code =
            &Code { name: $name, status: StatusCode::$status, title: $title, help: $help };)+
        /// Every code, in the order of their statuses.
        pub(super) const CODES: &[&Code] = &[$($constant),+];
    };
}

codes! {
    MALFORMED_BODY "malformed-body" BAD_REQUEST "The body is not what this route takes"
        "The body is no JSON, nests deeper than 64, or its top-level members are missing, unknown, repeated or of a wrong type. `errors` says which.";
    MALFORMED_HEADER "malformed-header" BAD_REQUEST "A header is not what this route takes"
        "An Idempotency-Key is 1 to 255 visible ASCII characters; If-Match names one version, as in \"17\"; If-None-Match of a command is *.";
    INVALID_TIME "invalid-time" BAD_REQUEST "A time is not valid"
        "Times are RFC 3339 with an offset, as in 2024-01-01T00:00:00Z.";
    INVALID_ID "invalid-id" BAD_REQUEST "An id is not valid"
        "Ids are 1 to 255 bytes of UTF-8 without control characters; in a path they are percent-encoded.";
    UNAUTHENTICATED "unauthenticated" UNAUTHORIZED "Authentication is required"
        "Send Authorization: Bearer with an API key or a JWT.";
    FORBIDDEN "forbidden" FORBIDDEN "This is not allowed"
        "The principal lacks the role that `detail` names.";
    NOT_FOUND "not-found" NOT_FOUND "There is nothing here"
        "No such path or row.";
    UNKNOWN_AGGREGATE "unknown-aggregate" NOT_FOUND "The aggregate does not exist"
        "No event was ever recorded under this id.";
    METHOD_NOT_ALLOWED "method-not-allowed" METHOD_NOT_ALLOWED "The method is not allowed here"
        "The header Allow lists the methods of this path.";
    NOT_ACCEPTABLE "not-acceptable" NOT_ACCEPTABLE "None of the accepted media types is available"
        "The route answers application/json; event lists also application/x-ndjson and text/event-stream.";
    REQUEST_TIMEOUT "request-timeout" REQUEST_TIMEOUT "The body did not arrive in time"
        "A body has 30 s to arrive. Nothing was done; send the request again.";
    CONCURRENCY_CONFLICT "concurrency-conflict" CONFLICT "Other writers were faster each time"
        "Nothing was done. Send the request again.";
    AGGREGATE_TYPE_MISMATCH "aggregate-type-mismatch" CONFLICT "The aggregate is of another type"
        "An id belongs to the type of its first event, for ever.";
    EVENT_ID_REUSED "event-id-reused" CONFLICT "The event id belongs to another event"
        "Event ids are unique in the whole store. Repeating one is fine only with equal content.";
    IDEMPOTENCY_IN_PROGRESS "idempotency-in-progress" CONFLICT "A request with this key is still running"
        "Send the same request with the same key again in a moment; it gets the answer of the first.";
    RESERVED_STREAM "reserved-stream" CONFLICT "The stream is written by the system only"
        "Streams of sagas take no events from outside.";
    PRECONDITION_FAILED "precondition-failed" PRECONDITION_FAILED "The aggregate is not at the expected version"
        "`current_version` says where it is. Read it again, decide anew, and send that version in If-Match.";
    BODY_TOO_LARGE "body-too-large" PAYLOAD_TOO_LARGE "The body is too large"
        "Bodies are at most 1 MiB, those of POST /api/v1/events 4 MiB.";
    UNSUPPORTED_MEDIA_TYPE "unsupported-media-type" UNSUPPORTED_MEDIA_TYPE "The body's media type is not supported"
        "Send Content-Type: application/json, in UTF-8 and without a content encoding.";
    VALIDATION_FAILED "validation-failed" UNPROCESSABLE_ENTITY "The input is not valid"
        "`errors` names each wrong member by a JSON pointer; /query/… is a parameter of the URL.";
    UNKNOWN_COMMAND_TYPE "unknown-command-type" UNPROCESSABLE_ENTITY "No aggregate has this command type"
        "`nearest` lists the known names closest to it.";
    UNKNOWN_EVENT_TYPE "unknown-event-type" UNPROCESSABLE_ENTITY "The stream does not take this event type"
        "A stream of an aggregate takes that aggregate's event types only, a generic one any that no aggregate owns.";
    IDEMPOTENCY_KEY_REUSED "idempotency-key-reused" UNPROCESSABLE_ENTITY "The idempotency key stands for another request"
        "Keys are remembered for 24 h. Use a new key for each new request.";
    DOMAIN_REJECTED "domain-rejected" UNPROCESSABLE_ENTITY "The domain refuses the command"
        "`rejection` is the domain's own code, such as insufficient-funds; `details` holds its facts.";
    INTERNAL "internal" INTERNAL_SERVER_ERROR "The server failed"
        "A fault of this program or of its configuration. The server's log tells more under the `trace_id`.";
    INTEGRITY_VIOLATION "integrity-violation" INTERNAL_SERVER_ERROR "What is stored is not what was recorded"
        "A stored event does not match its checksum or its predecessor. An operator must look at the store.";
    OVERLOADED "overloaded" SERVICE_UNAVAILABLE "Too much work is in flight"
        "Nothing was done. Wait as long as Retry-After says, then send the request again.";
    DRAINING "draining" SERVICE_UNAVAILABLE "The server is shutting down"
        "Nothing was done. Send the request again; another replica takes it.";
    STORE_UNAVAILABLE "store-unavailable" SERVICE_UNAVAILABLE "The event store does not answer"
        "Nothing was done. Wait as long as Retry-After says, then send the request again.";
    OUTCOME_UNKNOWN "outcome-unknown" SERVICE_UNAVAILABLE "The outcome is not known yet"
        "The command may or may not have been recorded. Repeat it with the same Idempotency-Key: it has one effect at most.";
}

/// The code of a name.
pub(super) fn code(name: &str) -> Option<&'static Code> {
    CODES.iter().copied().find(|code| code.name == name)
}

/// An answer that is not a success.
#[derive(Debug)]
pub(super) struct Problem {
    pub code: &'static Code,
    detail: String,
    errors: Vec<FieldError>,
    members: Map<String, Value>,
    headers: Vec<(header::HeaderName, HeaderValue)>,
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
    pub fn invalid(code: &'static Code, errors: Vec<FieldError>) -> Box<Self> {
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

    /// The response.
    pub fn into_response(self, instance: &str, ids: &Ids) -> Response {
        let mut document = Map::new();
        document.insert("type".to_owned(), json!(format!("/problems/{}", self.code.name)));
        document.insert("title".to_owned(), json!(self.code.title));
        document.insert("status".to_owned(), json!(self.code.status.as_u16()));
        document.insert("detail".to_owned(), json!(self.detail));
        document.insert("instance".to_owned(), json!(instance));
        document.insert("code".to_owned(), json!(self.code.name));
        document.insert("trace_id".to_owned(), json!(ids.trace_id()));
        if !self.errors.is_empty() {
            document.insert("errors".to_owned(), json!(self.errors));
        }
        document.extend(self.members);
        let mut response = Response::new(Value::Object(document).to_string().into());
        *response.status_mut() = self.code.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
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
            CommandError::KeyInProgress => Self::new(IDEMPOTENCY_IN_PROGRESS, detail).retry_after(Duration::ZERO),
            CommandError::Unauthenticated => {
                Self::new(UNAUTHENTICATED, detail).header(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))
            }
            CommandError::Conflict { .. } => Self::new(CONCURRENCY_CONFLICT, detail),
            CommandError::ReservedStream { .. } => Self::new(RESERVED_STREAM, detail),
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
        let detail = format!("the aggregate is at version {current_version}");
        Self::new(PRECONDITION_FAILED, detail).with("current_version", current_version)
    }

    /// A read that failed.
    pub fn of_store(error: &StoreError) -> Box<Self> {
        tracing::warn!(%error, "the event store failed a request");
        match error {
            StoreError::Unavailable { .. } => {
                Self::new(STORE_UNAVAILABLE, "the event store does not answer; nothing was done")
            }
            StoreError::Refused { .. } => Self::internal(),
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
            RecoveryError::Codec { .. } | RecoveryError::Panic { .. } => {}
        }
        tracing::error!(error = detail, "a stream cannot be folded");
        Self::internal()
    }

    /// A fault whose particulars are in the log.
    pub fn internal() -> Box<Self> {
        Self::new(INTERNAL, "the server failed; its log tells more under the trace_id")
    }

    fn naming(mut self: Box<Self>, pointer: String, detail: &str) -> Box<Self> {
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
