//! Every code a problem can have; the pages `/problems/{code}` show this table.

use warp::http::StatusCode;

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
        "The body is no JSON, nests too deeply, or its top-level members are missing, unknown, repeated or of a wrong type. `errors` says which.";
    MALFORMED_HEADER "malformed-header" BAD_REQUEST "A header is not what this route takes"
        "An Idempotency-Key is 1 to 255 visible ASCII characters; If-Match names one version, as in \"17\"; If-None-Match of a command is *; Es-Min-Position or Es-As-Of-Position is one position, a whole number. A head that is no HTTP/1.1 at all gets this code, too.";
    INVALID_TIME "invalid-time" BAD_REQUEST "A time is not valid"
        "Times are RFC 3339 with an offset, as in 2024-01-01T00:00:00Z.";
    INVALID_ID "invalid-id" BAD_REQUEST "An id is not valid"
        "Ids are 1 to 255 bytes of UTF-8 without control characters; in a path they are percent-encoded.";
    UNAUTHENTICATED "unauthenticated" UNAUTHORIZED "Authentication is required"
        "Send Authorization: Bearer with an API key or a JSON web token that is known, not expired and not revoked.";
    FORBIDDEN "forbidden" FORBIDDEN "This is not allowed"
        "The principal lacks the role that `detail` names. Use another key, or have an operator grant the role.";
    CROSS_ORIGIN "cross-origin" FORBIDDEN "A page of another origin may not do this"
        "A browser sent this for a page of another origin, without a key, and it would change something. Name the origin in http.cors.allowed_origins, send Authorization: Bearer, or, behind a proxy, let it pass Host on as the client sent it.";
    NOT_FOUND "not-found" NOT_FOUND "There is nothing here"
        "No such path or row. GET / lists all paths; `detail` says what was looked for.";
    UNKNOWN_AGGREGATE "unknown-aggregate" NOT_FOUND "The aggregate does not exist"
        "No event was ever recorded under this id. GET /api/v1/aggregates lists the ids that there are.";
    UNKNOWN_PROJECTION "unknown-projection" NOT_FOUND "The projection does not exist"
        "`nearest` lists the known names closest to it; GET /api/v1/projections lists all.";
    UNKNOWN_OPERATION "unknown-operation" NOT_FOUND "The operation does not exist"
        "No operation has this id, or it was cleared away. GET /api/v1/operations lists those on record.";
    UNKNOWN_SAGA "unknown-saga" NOT_FOUND "The saga does not exist"
        "No saga was ever started under this id. GET /api/v1/sagas lists them.";
    UNKNOWN_SUBJECT "unknown-subject" NOT_FOUND "Nothing is known of this person"
        "No event with personal members was ever recorded under this id.";
    UNKNOWN_TOKEN "unknown-token" NOT_FOUND "The key does not exist"
        "GET /api/v1/tokens lists keys with their ids; the id is not the key.";
    UNKNOWN_BRANCH "unknown-branch" NOT_FOUND "The branch does not exist"
        "It was deleted, or never made. GET /api/v1/branches lists those there are.";
    METHOD_NOT_ALLOWED "method-not-allowed" METHOD_NOT_ALLOWED "The method is not allowed here"
        "The header Allow lists the methods of this path. GET / lists all paths with theirs.";
    NOT_ACCEPTABLE "not-acceptable" NOT_ACCEPTABLE "None of the accepted media types is available"
        "The route answers application/json; event lists also application/x-ndjson and text/event-stream.";
    REQUEST_TIMEOUT "request-timeout" REQUEST_TIMEOUT "The body did not arrive in time"
        "A body has 30 s to arrive. Nothing was done; send the request again.";
    CONCURRENCY_CONFLICT "concurrency-conflict" CONFLICT "Other writers were faster each time"
        "Nothing was done. Send the request again.";
    AGGREGATE_TYPE_MISMATCH "aggregate-type-mismatch" CONFLICT "The aggregate is of another type"
        "An id belongs to the type of its first event, for ever. `actual` is that type; use another id for another aggregate.";
    EVENT_ID_REUSED "event-id-reused" CONFLICT "The event id belongs to another event"
        "Event ids are unique in the whole store. Repeating one is fine only with equal content.";
    IDEMPOTENCY_IN_PROGRESS "idempotency-in-progress" CONFLICT "A request with this key is still running"
        "Send the same request with the same key again in a moment; it gets the answer of the first.";
    RESERVED_STREAM "reserved-stream" CONFLICT "The stream is written by the system only"
        "Streams of sagas take no events and no commands from outside. POST /api/v1/sagas starts one; retry and cancel steer it.";
    PERSONAL_DATA_ON_BRANCH "personal-data-on-branch" CONFLICT "Branches take no personal data"
        "A branch keeps commands as they were sent, so it could not forget a person. Send this one to the log itself; on a branch all else of the stream goes on.";
    SUBJECT_ERASED "subject-erased" CONFLICT "The person's data was erased"
        "What was erased does not come back, and no new personal data is taken under this id. Register the person anew under another.";
    REBUILD_IN_PROGRESS "rebuild-in-progress" CONFLICT "The projection is being rebuilt"
        "`operation_id` names the rebuild under way. Follow it at /api/v1/operations/{id}, or cancel it there with DELETE.";
    NOTHING_TO_ROLL_BACK "nothing-to-roll-back" CONFLICT "The projection has no earlier rows"
        "Only a finished rebuild leaves earlier rows behind, those it replaced, and they are kept until the next one.";
    PROJECTION_CONFLICT "projection-conflict" CONFLICT "The projection cannot do this now"
        "`detail` says what is in the way, and `operation_id`, if there is one, names it.";
    OPERATION_ENDED "operation-ended" CONFLICT "The operation is over"
        "What has succeeded or failed cannot be cancelled. `operation_status` says how it ended.";
    TOO_MANY_TOKENS "too-many-tokens" CONFLICT "There are too many keys"
        "Revoke keys that are not needed: GET /api/v1/tokens lists them, DELETE /api/v1/tokens/{token_id} revokes one.";
    SAGA_ENDED "saga-ended" CONFLICT "The saga is over"
        "A saga that is completed or compensated stays as it is. `detail` says how it ended.";
    SAGA_NOT_FAILED "saga-not-failed" CONFLICT "The saga goes on by itself"
        "Only a saga that was set aside (status failed) can be retried; a running one can be cancelled.";
    SAGA_DEFINITION_UNKNOWN "saga-definition-unknown" CONFLICT "This server does not have the saga's definition"
        "The saga was started by code that this server does not run. Ask a server that runs it, or give all servers the same version.";
    BRANCH_CLOSED "branch-closed" CONFLICT "The branch takes no more commands"
        "A branch that was merged or deleted stays as it is. Send the command to main, without ?branch=.";
    TOO_MANY_BRANCHES "too-many-branches" CONFLICT "As many branches are open as there can be"
        "64 branches may be open. Merge or delete one.";
    MERGE_CONFLICT "merge-conflict" CONFLICT "The branch cannot be merged as main stands"
        "Nothing was changed. `commands` says what would become of each of the branch's commands; without it, other writers were faster each time, so merge again.";
    PRECONDITION_FAILED "precondition-failed" PRECONDITION_FAILED "The aggregate is not at the expected version"
        "`current_version` says where it is. Read it again, decide anew, and send that version in If-Match.";
    BODY_TOO_LARGE "body-too-large" PAYLOAD_TOO_LARGE "The body is too large"
        "Bodies are at most 1 MiB, those of POST /api/v1/events 4 MiB.";
    URI_TOO_LONG "uri-too-long" URI_TOO_LONG "The path and query are too long"
        "The first line of a request is at most 64 KiB. Send what is long in a body: POST /api/v1/queries takes filters there.";
    UNSUPPORTED_MEDIA_TYPE "unsupported-media-type" UNSUPPORTED_MEDIA_TYPE "The body's media type is not supported"
        "Send Content-Type: application/json, in UTF-8 and without a content encoding.";
    VALIDATION_FAILED "validation-failed" UNPROCESSABLE_ENTITY "The input is not valid"
        "`errors` names each wrong member by a JSON pointer; /query/… is a parameter of the URL.";
    UNKNOWN_COMMAND_TYPE "unknown-command-type" UNPROCESSABLE_ENTITY "No aggregate has this command type"
        "`nearest` lists the known names closest to it; GET /api/v1/openapi.json has all commands with their members.";
    UNKNOWN_QUERY_TYPE "unknown-query-type" UNPROCESSABLE_ENTITY "No projection has this query type"
        "`nearest` lists the known names closest to it; GET /api/v1/openapi.json has all queries with their filters.";
    UNKNOWN_EVENT_TYPE "unknown-event-type" UNPROCESSABLE_ENTITY "The stream does not take this event type"
        "A stream of an aggregate takes that aggregate's event types only, a generic one any that no aggregate owns.";
    UNKNOWN_SAGA_TYPE "unknown-saga-type" UNPROCESSABLE_ENTITY "There is no saga of this type"
        "`nearest` lists the known names closest to it; GET /api/v1/openapi.json has all sagas with their data.";
    MERGE_TOO_LARGE "merge-too-large" UNPROCESSABLE_ENTITY "The branch is too large for one merge"
        "A merge is one atomic unit of at most 1,000 events and 1,000 commands. Nothing was changed.";
    IDEMPOTENCY_KEY_REUSED "idempotency-key-reused" UNPROCESSABLE_ENTITY "The idempotency key stands for another request"
        "Keys are remembered for 24 h, that of a branch as long as the branch is there. Use a new key for each new request.";
    DOMAIN_REJECTED "domain-rejected" UNPROCESSABLE_ENTITY "The domain refuses the command"
        "`rejection` is the domain's own code, such as insufficient-funds; `details` holds its facts.";
    RATE_LIMITED "rate-limited" TOO_MANY_REQUESTS "There were too many requests"
        "Nothing was done. Wait as long as Retry-After says. RateLimit-Policy tells the quota, RateLimit what is left of it.";
    HEAD_TOO_LARGE "head-too-large" REQUEST_HEADER_FIELDS_TOO_LARGE "The head of the request is too large"
        "All headers together are at most 64 KiB, and there are at most 100 of them. Look for cookies or tokens that a proxy adds.";
    INTERNAL "internal" INTERNAL_SERVER_ERROR "The server failed"
        "A fault of this program or of its configuration. The server's log tells more under the `trace_id`.";
    INTEGRITY_VIOLATION "integrity-violation" INTERNAL_SERVER_ERROR "What is stored is not what was recorded"
        "A stored event does not match its checksum or its predecessor. An operator must look at the store.";
    AUTHENTICATION_UNAVAILABLE "authentication-unavailable" SERVICE_UNAVAILABLE "Who you are cannot be told at the moment"
        "Nothing was done. The database of the keys, or whoever issues the tokens, does not answer. Send the request again.";
    OVERLOADED "overloaded" SERVICE_UNAVAILABLE "Too much work is in flight"
        "Nothing was done. Wait as long as Retry-After says, then send the request again.";
    DRAINING "draining" SERVICE_UNAVAILABLE "The server is shutting down"
        "Nothing was done. Send the request again; another replica takes it.";
    READ_ONLY "read-only" SERVICE_UNAVAILABLE "The log takes no events at the moment"
        "Nothing was done. What is stored is not what was signed, so nothing is added until an operator has decided; reads go on. GET /health says what was found, under `integrity`.";
    STORE_UNAVAILABLE "store-unavailable" SERVICE_UNAVAILABLE "The event store does not answer"
        "Nothing was done. Wait as long as Retry-After says, then send the request again.";
    PROJECTION_BEHIND "projection-behind" SERVICE_UNAVAILABLE "The read model has not come so far yet"
        "It has not applied the position asked for in time. Ask again, wait longer with Prefer: wait=5, or take older rows with Prefer: handling=lenient.";
    OUTCOME_UNKNOWN "outcome-unknown" SERVICE_UNAVAILABLE "The outcome is not known yet"
        "The command may or may not have been recorded. Repeat it with the same Idempotency-Key: it has one effect at most.";
}

/// The code of a name.
pub(super) fn code(name: &str) -> Option<&'static Code> {
    CODES.iter().copied().find(|code| code.name == name)
}
