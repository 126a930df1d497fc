//! Branches.

use super::{BASE, IDEMPOTENCY_KEY, JSON, LIMIT, TEXT, found};
use crate::{
    http::{
        error::{
            BRANCH_CLOSED, DRAINING, IDEMPOTENCY_KEY_REUSED, INVALID_ID, INVALID_TIME, MALFORMED_HEADER,
            MERGE_CONFLICT, MERGE_TOO_LARGE, OUTCOME_UNKNOWN, OVERLOADED, READ_ONLY, TOO_MANY_BRANCHES,
            UNKNOWN_AGGREGATE, UNKNOWN_BRANCH,
        },
        openapi::operation::{Body, Operation, Parameter, Shape, Success, shape},
    },
    wire,
};

const CURSOR: Parameter = Parameter::query("cursor", TEXT, "`next_cursor` of the page before.");

pub(super) const ALL: &[Operation] = &[
    Operation {
        method: "POST",
        path: "/api/v1/branches",
        id: "createBranch",
        tag: "Branches",
        summary: "Fork an alternative timeline off the log",
        description: "At one place: a position, an instant, or the sequence of an aggregate; its event is the last one \
                      that the branch shares with the log.",
        parameters: &[IDEMPOTENCY_KEY],
        body: Body::of(Shape::Named("NewBranch")),
        successes: &[Success::new(
            201,
            "Made.",
            &[(JSON, shape::<wire::Branch>())],
            &["Location", "Idempotency-Replayed"],
        )],
        codes: &[
            MALFORMED_HEADER,
            INVALID_ID,
            INVALID_TIME,
            UNKNOWN_AGGREGATE,
            TOO_MANY_BRANCHES,
            IDEMPOTENCY_KEY_REUSED,
            DRAINING,
            READ_ONLY,
            OUTCOME_UNKNOWN,
        ],
    },
    Operation {
        path: "/api/v1/branches",
        id: "listBranches",
        tag: "Branches",
        summary: "List branches, newest first",
        parameters: &[CURSOR, LIMIT],
        successes: &[found(&[(JSON, shape::<wire::Page<wire::Branch, String>>())])],
        ..BASE
    },
    Operation {
        path: "/api/v1/branches/{branch_id}",
        id: "showBranch",
        tag: "Branches",
        summary: "One branch",
        successes: &[found(&[(JSON, shape::<wire::Branch>())])],
        codes: &[UNKNOWN_BRANCH],
        ..BASE
    },
    Operation {
        method: "DELETE",
        path: "/api/v1/branches/{branch_id}",
        id: "deleteBranch",
        tag: "Branches",
        summary: "Forget a branch with all its events",
        successes: &[Success::new(204, "Forgotten.", &[], &[])],
        codes: &[UNKNOWN_BRANCH, READ_ONLY, OUTCOME_UNKNOWN],
        ..BASE
    },
    Operation {
        path: "/api/v1/branches/{branch_id}/diff",
        id: "diffBranch",
        tag: "Branches",
        summary: "What the branch has changed, aggregate by aggregate",
        parameters: &[CURSOR, LIMIT],
        successes: &[found(&[(JSON, shape::<wire::Page<wire::BranchChanges, String>>())])],
        codes: &[UNKNOWN_BRANCH, OVERLOADED, DRAINING],
        ..BASE
    },
    Operation {
        method: "POST",
        path: "/api/v1/branches/{branch_id}/merge",
        id: "mergeBranch",
        tag: "Branches",
        summary: "Run the branch's commands on the log, all or none, and close the branch",
        description: "Merging again answers as the first time. A refusal, 409 `merge-conflict`, carries the same report.",
        parameters: &[IDEMPOTENCY_KEY],
        body: Body::optional(Shape::Named("Merge")),
        successes: &[Success::new(
            200,
            "Done, or with `dry_run` what would be done.",
            &[(JSON, shape::<wire::MergeReport>())],
            &["Idempotency-Replayed"],
        )],
        codes: &[
            MALFORMED_HEADER,
            UNKNOWN_BRANCH,
            BRANCH_CLOSED,
            MERGE_CONFLICT,
            MERGE_TOO_LARGE,
            DRAINING,
            OVERLOADED,
            READ_ONLY,
            OUTCOME_UNKNOWN,
        ],
    },
];
