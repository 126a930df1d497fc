//! Commands, raw events, sagas and queries: what goes through the buses.

use super::{
    BASE, CAUSATION_ID, CORRELATION_ID, IDEMPOTENCY_KEY, JSON, LIMIT, NOT_MODIFIED, PREFER, TEXT, TRACEPARENT,
    UNCHANGED, found, tagged,
};
use crate::{
    http::{
        error::{
            AGGREGATE_TYPE_MISMATCH, CONCURRENCY_CONFLICT, Code, DOMAIN_REJECTED, DRAINING, EVENT_ID_REUSED, FORBIDDEN,
            IDEMPOTENCY_IN_PROGRESS, IDEMPOTENCY_KEY_REUSED, INVALID_ID, MALFORMED_HEADER, NOT_FOUND, OUTCOME_UNKNOWN,
            OVERLOADED, PERSONAL_DATA_ON_BRANCH, PRECONDITION_FAILED, PROJECTION_BEHIND, READ_ONLY, RESERVED_STREAM,
            SAGA_DEFINITION_UNKNOWN, SAGA_ENDED, SAGA_NOT_FAILED, SUBJECT_ERASED, UNAUTHENTICATED, UNKNOWN_AGGREGATE,
            UNKNOWN_COMMAND_TYPE, UNKNOWN_EVENT_TYPE, UNKNOWN_PROJECTION, UNKNOWN_QUERY_TYPE, UNKNOWN_SAGA,
            UNKNOWN_SAGA_TYPE,
        },
        openapi::operation::{Body, Operation, Parameter, Shape, Success, shape},
    },
    wire,
};

const DRY_RUN: Parameter = Parameter::query("dry_run", r#"{"type":"boolean"}"#, "Decides, and stores nothing.");
const IF_MATCH: Parameter = Parameter::header(
    "If-Match",
    r#"{"type":"string","pattern":"^\"[0-9]{1,19}\"$"}"#,
    "The version the aggregate must have, as its `ETag` says it; `\"0\"`: none yet.",
);
const IF_NONE: Parameter = Parameter::header(
    "If-None-Match",
    r#"{"type":"string","const":"*"}"#,
    "The aggregate must not exist yet. Not beside `If-Match`.",
);
/// A header is a text.
const POSITION: &str = r#"{"type":"string","pattern":"^[0-9]{1,19}$"}"#;

const CHANGE: &[Parameter] = &[DRY_RUN, IDEMPOTENCY_KEY, IF_MATCH, IF_NONE, CORRELATION_ID, CAUSATION_ID, TRACEPARENT];

/// What anything that goes through the command bus may meet.
macro_rules! bus_codes {
    ($($more:expr),* $(,)?) => {
        &[
            MALFORMED_HEADER, INVALID_ID, UNAUTHENTICATED, FORBIDDEN, CONCURRENCY_CONFLICT, IDEMPOTENCY_IN_PROGRESS,
            IDEMPOTENCY_KEY_REUSED, DOMAIN_REJECTED, DRAINING, OVERLOADED, READ_ONLY, OUTCOME_UNKNOWN, $($more),*
        ]
    };
}

const SEND: &[&Code] = bus_codes![
    UNKNOWN_COMMAND_TYPE,
    AGGREGATE_TYPE_MISMATCH,
    PRECONDITION_FAILED,
    RESERVED_STREAM,
    SUBJECT_ERASED,
    PERSONAL_DATA_ON_BRANCH,
];
const APPEND: &[&Code] = bus_codes![
    UNKNOWN_EVENT_TYPE,
    AGGREGATE_TYPE_MISMATCH,
    PRECONDITION_FAILED,
    RESERVED_STREAM,
    EVENT_ID_REUSED,
    SUBJECT_ERASED,
    PERSONAL_DATA_ON_BRANCH,
];
const SAGA: &[&Code] = bus_codes![UNKNOWN_SAGA_TYPE];
const SAGA_CHANGE: &[&Code] = bus_codes![UNKNOWN_SAGA, SAGA_ENDED, SAGA_NOT_FAILED, SAGA_DEFINITION_UNKNOWN];
const SAGA_ACCEPTED: Success = Success::new(
    202,
    "Recorded; the saga goes on by itself.",
    &[(JSON, shape::<wire::SagaAccepted>())],
    &["Location", "Idempotency-Replayed"],
);
const SAGA_HEADERS: &[Parameter] = &[IDEMPOTENCY_KEY, CORRELATION_ID, CAUSATION_ID, TRACEPARENT];

pub(super) const ALL: &[Operation] = &[
    Operation {
        method: "POST",
        path: "/api/v1/commands",
        id: "sendCommand",
        tag: "Commands",
        summary: "Send a command",
        description: "Answers once its events are durable. A command that changes nothing answers 200 without events.",
        parameters: CHANGE,
        body: Body::of(Shape::Named("Command")),
        successes: &[Success::new(
            200,
            "Decided and, unless it is a dry run, durable.",
            &[(JSON, shape::<wire::Accepted>())],
            &["ETag", "Location", "Idempotency-Replayed"],
        )],
        codes: SEND,
    },
    Operation {
        method: "POST",
        path: "/api/v1/events",
        id: "appendEvents",
        tag: "Events",
        summary: "Append events that nobody decided",
        description: "Goes through the aggregate's actor: an event of an aggregate must decode and be admitted by it.",
        parameters: CHANGE,
        body: Body::of(Shape::Named("Append")),
        successes: &[
            Success::new(200, "What would be appended (`dry_run`).", &[(JSON, shape::<wire::Accepted>())], &[]),
            Success::new(
                201,
                "Durable.",
                &[(JSON, shape::<wire::Accepted>())],
                &["ETag", "Location", "Idempotency-Replayed"],
            ),
        ],
        codes: APPEND,
    },
    Operation {
        method: "POST",
        path: "/api/v1/queries",
        id: "ask",
        tag: "Queries",
        summary: "Ask a read model",
        description: "Without `Es-Min-Position` the answer waits up to 1 s for the head of the log seen on arrival.",
        parameters: &[
            Parameter::header("Es-Min-Position", POSITION, "The answer must rest on every event up to this position."),
            Parameter::header(
                "Es-As-Of-Position",
                POSITION,
                "The row as it was at this position. Not beside `Es-Min-Position`; only for rows of one stream.",
            ),
            PREFER,
        ],
        body: Body::of(Shape::Named("Query")),
        successes: &[Success::new(200, "Answered.", &[(JSON, Shape::Named("Answered"))], &["Preference-Applied"])],
        codes: &[
            MALFORMED_HEADER,
            UNAUTHENTICATED,
            FORBIDDEN,
            NOT_FOUND,
            UNKNOWN_AGGREGATE,
            UNKNOWN_PROJECTION,
            UNKNOWN_QUERY_TYPE,
            OVERLOADED,
            PROJECTION_BEHIND,
        ],
    },
    Operation {
        method: "POST",
        path: "/api/v1/sagas",
        id: "startSaga",
        tag: "Sagas",
        summary: "Start a long-running transaction",
        description: "202 at once; with `Prefer: wait=5` 200 and all of it if it ends in time.",
        parameters: &[PREFER, IDEMPOTENCY_KEY, CORRELATION_ID, CAUSATION_ID, TRACEPARENT],
        body: Body::of(Shape::Named("StartSaga")),
        successes: &[
            Success::new(
                200,
                "Ended while the client waited.",
                &[(JSON, Shape::Named("Saga"))],
                &["ETag", "Idempotency-Replayed", "Preference-Applied"],
            ),
            SAGA_ACCEPTED,
        ],
        codes: SAGA,
    },
    Operation {
        path: "/api/v1/sagas",
        id: "listSagas",
        tag: "Sagas",
        summary: "List sagas, newest first",
        parameters: &[
            Parameter::query(
                "status",
                r#"{"type":"string","enum":["running","compensating","completed","compensated","failed"]}"#,
                "Only these.",
            ),
            Parameter::query("saga_type", TEXT, "Only these."),
            Parameter::query("cursor", TEXT, "`next_cursor` of the page before."),
            LIMIT,
        ],
        successes: &[found(&[(JSON, shape::<wire::Page<wire::ListedSaga, String>>())])],
        codes: &[UNKNOWN_SAGA_TYPE],
        ..BASE
    },
    Operation {
        path: "/api/v1/sagas/{saga_id}",
        id: "showSaga",
        tag: "Sagas",
        summary: "One saga with its steps, timers and timeline",
        parameters: &[UNCHANGED],
        successes: &[tagged(&[(JSON, Shape::Named("Saga"))]), NOT_MODIFIED],
        codes: &[UNKNOWN_SAGA],
        ..BASE
    },
    Operation {
        method: "POST",
        path: "/api/v1/sagas/{saga_id}/retry",
        id: "retrySaga",
        tag: "Sagas",
        summary: "Let a saga go on that was set aside",
        parameters: SAGA_HEADERS,
        body: Body::optional(Shape::Named("Nothing")),
        successes: &[SAGA_ACCEPTED],
        codes: SAGA_CHANGE,
        ..BASE
    },
    Operation {
        method: "POST",
        path: "/api/v1/sagas/{saga_id}/cancel",
        id: "cancelSaga",
        tag: "Sagas",
        summary: "Have a saga undo what it did",
        parameters: SAGA_HEADERS,
        body: Body::optional(Shape::Named("Nothing")),
        successes: &[SAGA_ACCEPTED],
        codes: SAGA_CHANGE,
        ..BASE
    },
];
