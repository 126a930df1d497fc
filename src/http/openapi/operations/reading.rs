//! Read models, long work, and evidence.

use super::{BASE, IDEMPOTENCY_KEY, JSON, LIMIT, PLACE, PLAIN, found};
use crate::{
    http::{
        error::{
            MALFORMED_HEADER, NOT_FOUND, NOTHING_TO_ROLL_BACK, OPERATION_ENDED, PROJECTION_CONFLICT,
            REBUILD_IN_PROGRESS, UNKNOWN_AGGREGATE, UNKNOWN_OPERATION, UNKNOWN_PROJECTION,
        },
        openapi::operation::{Body, Operation, Parameter, Shape, Success, shape},
    },
    wire,
};

const BEGUN: Success =
    Success::new(202, "Begun; `Location` tells how it goes.", &[(JSON, shape::<wire::Operation>())], &["Location"]);
const STANDS: &[Success] = &[found(&[(JSON, shape::<wire::Projection>())])];

/// A switch of one projection.
const fn switch(path: &'static str, id: &'static str, summary: &'static str) -> Operation {
    Operation {
        method: "POST",
        path,
        id,
        tag: "Projections",
        summary,
        parameters: &[IDEMPOTENCY_KEY],
        body: Body::optional(Shape::Named("Nothing")),
        successes: STANDS,
        codes: &[MALFORMED_HEADER, UNKNOWN_PROJECTION, PROJECTION_CONFLICT],
        ..BASE
    }
}

/// What is done with a parked event.
const fn settle(path: &'static str, id: &'static str, summary: &'static str) -> Operation {
    let successes = &[BEGUN];
    let codes = &[MALFORMED_HEADER, NOT_FOUND, UNKNOWN_PROJECTION, PROJECTION_CONFLICT];
    Operation { successes, codes, ..switch(path, id, summary) }
}

pub(super) const ALL: &[Operation] = &[
    Operation {
        path: "/api/v1/projections",
        id: "listProjections",
        tag: "Projections",
        summary: "How all read models stand",
        successes: &[found(&[(JSON, shape::<wire::Page<wire::Projection, String>>())])],
        ..BASE
    },
    Operation {
        path: "/api/v1/projections/{name}",
        id: "showProjection",
        tag: "Projections",
        summary: "How one read model stands",
        successes: STANDS,
        codes: &[UNKNOWN_PROJECTION],
        ..BASE
    },
    Operation {
        description: "Reads are served from the old rows until the new ones have caught up, been verified and swapped in.",
        body: Body::optional(Shape::Named("Rebuild")),
        successes: &[BEGUN],
        codes: &[MALFORMED_HEADER, UNKNOWN_PROJECTION, REBUILD_IN_PROGRESS, PROJECTION_CONFLICT],
        ..switch("/api/v1/projections/{name}/rebuild", "rebuildProjection", "Build a read model's rows anew")
    },
    Operation {
        codes: &[MALFORMED_HEADER, UNKNOWN_PROJECTION, REBUILD_IN_PROGRESS, NOTHING_TO_ROLL_BACK],
        ..switch(
            "/api/v1/projections/{name}/rollback",
            "rollBackProjection",
            "Serve the rows from before the last rebuild",
        )
    },
    switch("/api/v1/projections/{name}/pause", "pauseProjection", "Stop a read model until it is resumed"),
    switch("/api/v1/projections/{name}/resume", "resumeProjection", "Let a read model go on, also after a fault"),
    Operation {
        path: "/api/v1/projections/{name}/parked",
        id: "listParked",
        tag: "Projections",
        summary: "Events a read model could not apply, with those that wait behind them",
        parameters: &[
            Parameter::query("after", PLACE, "Only events after this position."),
            Parameter::query("cursor", PLACE, "`next_cursor` of the page before."),
            LIMIT,
        ],
        successes: &[found(&[(JSON, shape::<wire::Page<wire::Parked, event_sourcing_actors::Position>>())])],
        codes: &[UNKNOWN_PROJECTION],
        ..BASE
    },
    settle("/api/v1/projections/{name}/parked/{position}/retry", "retryParked", "Apply a parked event again"),
    settle("/api/v1/projections/{name}/parked/{position}/skip", "skipParked", "Leave a parked event out for good"),
    Operation {
        path: "/api/v1/operations",
        id: "listOperations",
        tag: "Operations",
        summary: "Long work, newest first",
        parameters: &[
            Parameter::query("cursor", r#"{"type":"string","format":"uuid"}"#, "`next_cursor` of the page before."),
            LIMIT,
        ],
        successes: &[found(&[(JSON, shape::<wire::Page<wire::Operation, uuid::Uuid>>())])],
        ..BASE
    },
    Operation {
        path: "/api/v1/operations/{operation_id}",
        id: "showOperation",
        tag: "Operations",
        summary: "One piece of long work",
        successes: &[found(&[(JSON, shape::<wire::Operation>())])],
        codes: &[UNKNOWN_OPERATION],
        ..BASE
    },
    Operation {
        method: "DELETE",
        path: "/api/v1/operations/{operation_id}",
        id: "cancelOperation",
        tag: "Operations",
        summary: "Give long work up",
        successes: &[Success::new(200, "Given up.", &[(JSON, shape::<wire::Operation>())], &[])],
        codes: &[UNKNOWN_OPERATION, OPERATION_ENDED, PROJECTION_CONFLICT],
        ..BASE
    },
    Operation {
        path: "/api/v1/integrity/checkpoint",
        id: "showCheckpoint",
        tag: "Integrity",
        summary: "The last signed checkpoint: a note",
        successes: &[found(&[(PLAIN, Shape::Text)])],
        codes: &[NOT_FOUND],
        ..BASE
    },
    Operation {
        path: "/api/v1/integrity/key",
        id: "showKeys",
        tag: "Integrity",
        summary: "The public keys, one a line, the one in use last",
        successes: &[found(&[(PLAIN, Shape::Text)])],
        codes: &[NOT_FOUND],
        ..BASE
    },
    Operation {
        path: "/api/v1/integrity/proof",
        id: "proveEvent",
        tag: "Integrity",
        summary: "Why an event is in the tree of the last checkpoint (RFC 9162)",
        parameters: &[Parameter::query("position", PLACE, "The event's.").required()],
        successes: &[found(&[(JSON, shape::<wire::InclusionProof>())])],
        codes: &[NOT_FOUND],
        ..BASE
    },
    Operation {
        path: "/api/v1/integrity/consistency",
        id: "proveConsistency",
        tag: "Integrity",
        summary: "Why an earlier tree is the beginning of a later one (RFC 9162)",
        parameters: &[
            Parameter::query("from", PLACE, "Size of the earlier tree.").required(),
            Parameter::query("to", PLACE, "Size of the later tree; the last checkpoint's if absent."),
        ],
        successes: &[found(&[(JSON, shape::<wire::ConsistencyProof>())])],
        codes: &[NOT_FOUND],
        ..BASE
    },
    Operation {
        method: "POST",
        path: "/api/v1/integrity/verify",
        id: "verifyLog",
        tag: "Integrity",
        summary: "Verify the log, from its beginning or from a checkpoint on",
        body: Body::optional(Shape::Named("Verify")),
        successes: &[BEGUN],
        codes: &[NOT_FOUND],
        ..BASE
    },
    Operation {
        path: "/api/v1/aggregates/{aggregate_id}/verify",
        id: "verifyAggregate",
        tag: "Integrity",
        summary: "Verify one stream at once",
        successes: &[found(&[(JSON, shape::<wire::StreamReport>())])],
        codes: &[NOT_FOUND, UNKNOWN_AGGREGATE],
        ..BASE
    },
];
