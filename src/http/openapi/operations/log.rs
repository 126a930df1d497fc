//! The log, its streams, and what they were at points of the past.

use super::{BASE, ID, JSON, LIMIT, LINES, NOT_MODIFIED, PLACE, STREAM, TEXT, TIME, UNCHANGED, found, tagged};
use crate::{
    http::{
        aggregates,
        error::{INVALID_ID, INVALID_TIME, MALFORMED_HEADER, UNKNOWN_AGGREGATE},
        openapi::operation::{Body, Operation, Parameter, Shape, shape},
    },
    wire,
};

const AFTER: Parameter = Parameter::query("after", PLACE, "Only events after this position.");
const FOLLOW: Parameter = Parameter::query(
    "follow",
    r#"{"type":"boolean"}"#,
    "Streams only: `false` ends at the head instead of going on with what is recorded later.",
);
const LAST_EVENT_ID: Parameter = Parameter::header(
    "Last-Event-ID",
    r#"{"type":"string","pattern":"^[0-9]{0,19}$"}"#,
    "Streams only: where a reader has stopped; weighs more than `after`.",
);
const LIVE: &str = "Also as `application/x-ndjson` (a line per event) and `text/event-stream` (`id` is the position), \
                    which go on with what is recorded later, without a gap or a duplicate. Parameters of pages and of \
                    streams do not mix.";

pub(super) const ALL: &[Operation] = &[
    Operation {
        path: "/api/v1/events",
        id: "readLog",
        tag: "Events",
        summary: "Read the whole log, filtered",
        description: LIVE,
        parameters: &[
            AFTER,
            Parameter::query(
                "event_type",
                r##"{"type":"array","items":{"$ref":"#/components/schemas/EventType"}}"##,
                "Only these.",
            ),
            Parameter::query(
                "aggregate_type",
                r##"{"type":"array","items":{"$ref":"#/components/schemas/AggregateType"}}"##,
                "Only these.",
            ),
            Parameter::query("correlation_id", TEXT, "Only what one request set off."),
            Parameter::query("from_time", TIME, "Not before."),
            Parameter::query("to_time", TIME, "Not after."),
            LIMIT,
            FOLLOW,
            LAST_EVENT_ID,
        ],
        successes: &[found(&[(JSON, shape::<wire::LogPage>()), (LINES, Shape::Text), (STREAM, Shape::Text)])],
        codes: &[MALFORMED_HEADER, INVALID_TIME],
        ..BASE
    },
    Operation {
        path: "/api/v1/events/{aggregate_id}",
        id: "readStream",
        tag: "Events",
        summary: "Read one stream",
        description: LIVE,
        parameters: &[
            Parameter::query("from_sequence", PLACE, "The first."),
            Parameter::query("to_sequence", PLACE, "The last."),
            Parameter::query(
                "direction",
                r#"{"type":"string","enum":["forward","backward"],"default":"forward"}"#,
                "Which end first.",
            ),
            Parameter::query("cursor", PLACE, "`next_cursor` of the page before."),
            LIMIT,
            FOLLOW,
            UNCHANGED,
            LAST_EVENT_ID,
        ],
        successes: &[
            tagged(&[(JSON, shape::<wire::StreamPage>()), (LINES, Shape::Text), (STREAM, Shape::Text)]),
            NOT_MODIFIED,
        ],
        codes: &[MALFORMED_HEADER, UNKNOWN_AGGREGATE],
        ..BASE
    },
    Operation {
        method: "POST",
        path: "/api/v1/replay",
        id: "replay",
        tag: "Time",
        summary: "Fold a stream's events into its state",
        description: "Nothing is sent again, nothing has an effect.",
        parameters: &[LIMIT],
        body: Body::of(Shape::Named("Replay")),
        successes: &[tagged(&[(JSON, shape::<wire::Replayed>())])],
        codes: &[INVALID_ID, UNKNOWN_AGGREGATE],
    },
    Operation {
        method: "POST",
        path: "/api/v1/temporal-query",
        id: "temporalQuery",
        tag: "Time",
        summary: "What happened in a stretch of time, or the state at an instant",
        parameters: &[LIMIT, Parameter::query("cursor", PLACE, "`next_cursor` of the page before; not with `at`.")],
        body: Body::of(Shape::Named("TemporalQuery")),
        successes: &[found(&[(JSON, Shape::Named("TemporalAnswer"))])],
        codes: &[INVALID_ID, INVALID_TIME, UNKNOWN_AGGREGATE],
        ..BASE
    },
    Operation {
        path: "/api/v1/aggregates",
        id: "listAggregates",
        tag: "Aggregates",
        summary: "List streams by id",
        parameters: &[
            Parameter::query("aggregate_type", r##"{"$ref":"#/components/schemas/AggregateType"}"##, "Only these."),
            Parameter::query("cursor", ID, "`next_cursor` of the page before."),
            LIMIT,
        ],
        successes: &[found(&[(JSON, shape::<aggregates::Page<'static>>())])],
        ..BASE
    },
    Operation {
        path: "/api/v1/aggregates/{aggregate_id}",
        id: "showAggregate",
        tag: "Aggregates",
        summary: "An aggregate's state, now or at a point of the past",
        description: "At most one of `at_sequence`, `at_time` and `at_position`.",
        parameters: &[
            Parameter::query("at_sequence", PLACE, "As of this event of the stream."),
            Parameter::query("at_time", TIME, "As of this instant."),
            Parameter::query("at_position", PLACE, "As of this position of the log."),
            UNCHANGED,
        ],
        successes: &[tagged(&[(JSON, shape::<wire::State>())]), NOT_MODIFIED],
        codes: &[INVALID_TIME, UNKNOWN_AGGREGATE],
        ..BASE
    },
    Operation {
        path: "/api/v1/aggregates/{aggregate_id}/diff",
        id: "diffAggregate",
        tag: "Aggregates",
        summary: "What changed in the state between two events",
        parameters: &[
            Parameter::query("from_sequence", PLACE, "The earlier event; 0 (the default) is before the first."),
            Parameter::query("to_sequence", PLACE, "The later event; the head if absent."),
        ],
        successes: &[found(&[(JSON, shape::<wire::Changes>())])],
        codes: &[UNKNOWN_AGGREGATE],
        ..BASE
    },
];
