//! Keys of callers, the audit, and the erasure of what is personal.

use super::{BASE, IDEMPOTENCY_KEY, JSON, LIMIT, TEXT, found};
use crate::{
    auth::port::AuditRecord,
    http::{
        error::{
            DRAINING, INVALID_TIME, MALFORMED_HEADER, NOT_FOUND, OUTCOME_UNKNOWN, READ_ONLY, TOO_MANY_TOKENS,
            UNKNOWN_SUBJECT, UNKNOWN_TOKEN,
        },
        openapi::operation::{Body, Operation, Parameter, Shape, Success, shape},
    },
    wire,
};

const CURSOR: Parameter = Parameter::query("cursor", TEXT, "`next_cursor` of the page before.");

pub(super) const ALL: &[Operation] = &[
    Operation {
        path: "/api/v1/tokens",
        id: "listTokens",
        tag: "Access",
        summary: "List API keys, newest first; never the keys themselves",
        parameters: &[CURSOR, LIMIT],
        successes: &[found(&[(JSON, shape::<wire::Page<wire::Token, String>>())])],
        codes: &[NOT_FOUND],
        ..BASE
    },
    Operation {
        method: "POST",
        path: "/api/v1/tokens",
        id: "createToken",
        tag: "Access",
        summary: "Make an API key",
        description: "The answer is the only place where the key is ever shown.",
        body: Body::of(Shape::Named("NewToken")),
        successes: &[Success::new(201, "Made.", &[(JSON, shape::<wire::CreatedToken>())], &[])],
        codes: &[NOT_FOUND, INVALID_TIME, TOO_MANY_TOKENS, OUTCOME_UNKNOWN],
        ..BASE
    },
    Operation {
        method: "DELETE",
        path: "/api/v1/tokens/{token_id}",
        id: "revokeToken",
        tag: "Access",
        summary: "Revoke an API key for ever",
        successes: &[Success::new(200, "Revoked, now or earlier.", &[(JSON, shape::<wire::Token>())], &[])],
        codes: &[NOT_FOUND, UNKNOWN_TOKEN, OUTCOME_UNKNOWN],
        ..BASE
    },
    Operation {
        path: "/api/v1/audit",
        id: "listAudit",
        tag: "Access",
        summary: "List administrative and refused acts, newest first",
        parameters: &[CURSOR, LIMIT],
        successes: &[found(&[(JSON, shape::<wire::Page<AuditRecord, String>>())])],
        codes: &[NOT_FOUND],
        ..BASE
    },
    Operation {
        method: "POST",
        path: "/api/v1/subjects/{subject_id}/erase",
        id: "eraseSubject",
        tag: "Access",
        summary: "Erase a person's data by destroying its key",
        description: "The log stays as it is, and every proof valid; what was personal in it cannot be read any more.",
        parameters: &[IDEMPOTENCY_KEY],
        body: Body::optional(Shape::Named("Nothing")),
        successes: &[Success::new(
            202,
            "Begun; `Location` tells how it goes.",
            &[(JSON, shape::<wire::Operation>())],
            &["Location"],
        )],
        codes: &[MALFORMED_HEADER, UNKNOWN_SUBJECT, DRAINING, READ_ONLY, OUTCOME_UNKNOWN],
    },
];
