//! The document itself: the table of operations and the schemas, put into the form of OpenAPI 3.1.

use std::collections::BTreeMap;

use event_sourcing_actors::{
    AggregateId, AggregateType, EventType,
    schema::{SchemaGenerator, SchemaOf},
};
use serde_json::{Map, Value, json};
use warp::http::StatusCode;

use super::{
    Registered,
    components::{Components, reference},
    examples,
    operation::{Operation, Parameter, Shape, Success},
    operations, registered,
};
use crate::{
    http::{
        error::{self, Code},
        routes::{RouteAccess, access_table},
    },
    wire,
};

const DESCRIPTION: &str = "JSON in, JSON out, UTF-8. Every 4xx and 5xx is `application/problem+json`; its `type` leads to a \
page about it. `HEAD` is answered wherever `GET` is, `OPTIONS` everywhere. Every answer carries `X-Request-Id`, \
`X-Correlation-Id`, `X-Causation-Id` and `traceparent`; what the client sent of them, if it is usable, and else what was made. \
Where requests are counted, every counted answer carries `RateLimit-Policy` and `RateLimit`.";

const BEARER: &str = "An API key or a JSON web token. Servers with `auth.mode: none` ask for none.";

/// A branch in place of the log.
const BRANCH: Parameter = Parameter::query(
    "branch",
    r#"{"type":"string","format":"uuid"}"#,
    "The branch that it is about; the log if absent.",
);

const TAGS: &[(&str, &str)] = &[
    ("Commands", "Orders to aggregates, answered once they are durable."),
    ("Events", "The log: every change there ever was, in order."),
    ("Queries", "Read models."),
    ("Sagas", "Long-running transactions over several aggregates."),
    ("Time", "Questions about the past."),
    ("Aggregates", "Streams and the states they fold into."),
    ("Projections", "How read models follow the log."),
    ("Branches", "Alternative timelines."),
    ("Integrity", "Evidence against tampering."),
    ("Access", "Keys, the audit, and the erasure of what is personal."),
    ("Operations", "Health, metrics, settings and long work."),
    ("Documents", "About this API."),
];

/// Writes it.
pub(super) fn document(registered: Registered<'_>) -> Value {
    let mut components = Components::new();
    registered::define(&mut components, registered);
    bodies(&mut components);
    let mut paths = Map::new();
    for operation in operations::all() {
        let written = written(operation, &mut components, registered);
        paths.entry(operation.path).or_insert_with(|| json!({}))[operation.method.to_lowercase()] = written;
    }
    let tags: Vec<Value> = TAGS.iter().map(|(name, told)| json!({ "name": name, "description": told })).collect();
    let mut document = json!({
        "openapi": "3.1.0",
        "info": {
            "title": env!("CARGO_PKG_NAME"),
            "version": env!("CARGO_PKG_VERSION"),
            "summary": env!("CARGO_PKG_DESCRIPTION"),
            "description": DESCRIPTION,
            "license": { "name": "MIT", "identifier": "MIT" },
        },
        "servers": [{ "url": "/" }],
        "tags": tags,
        "paths": paths,
        "components": {
            "schemas": {},
            "headers": headers(),
            "securitySchemes": { "bearer": { "type": "http", "scheme": "bearer", "description": BEARER } },
        },
    });
    components.finish(&mut document);
    document
}

/// The bodies that are read member by member, and those that are two shapes in one.
fn bodies(components: &mut Components) {
    let id = components.input(Some(&SchemaOf::type_of::<AggregateId>()));
    // Parameters refer to these.
    for schema in
        [SchemaOf::type_of::<AggregateId>(), SchemaOf::type_of::<AggregateType>(), SchemaOf::type_of::<EventType>()]
    {
        let _ = components.output(Some(&schema));
    }
    let object = |required: &[&str], properties: Value| json!({ "type": "object", "required": required, "properties": properties, "additionalProperties": false });
    let place = json!({ "type": "integer", "minimum": 0, "maximum": u64::MAX });
    let time = json!({ "type": "string", "format": "date-time" });
    components.define("Nothing", object(&[], json!({})));
    components
        .define("RebuildRequest", object(&[], json!({ "accept_difference": { "type": "boolean", "default": false } })));
    components.define(
        "Verify",
        object(&[], json!({ "checkpoint": { "type": "string", "description": "A signed note to begin at." } })),
    );
    let fork = json!({
        "name": { "type": "string" }, "aggregate_id": id, "from_sequence": place, "at_time": time, "at_position": place,
    });
    let ways = json!([
        { "required": ["aggregate_id", "from_sequence"] }, { "required": ["at_time"] }, { "required": ["at_position"] },
    ]);
    let mut fork = object(&["name"], fork);
    fork["oneOf"] = ways;
    components.define("NewBranch", fork);
    components.define("Merge", object(&[], json!({ "dry_run": { "type": "boolean", "default": false } })));
    let role = components.input(Some(&SchemaOf::type_of::<crate::auth::Role>()));
    let token = json!({
        "name": { "type": ["string", "null"] }, "roles": { "type": "array", "items": role, "minItems": 1 },
        "expires_at": { "type": ["string", "null"], "format": "date-time" },
    });
    components.define("NewToken", object(&["roles"], token));
    let replay = json!({
        "aggregate_id": id, "from_sequence": place, "to_sequence": place, "use_snapshot": { "type": "boolean", "default": true },
    });
    components.define("Replay", object(&["aggregate_id"], replay));
    let between = object(
        &["aggregate_id", "from_time", "to_time"],
        json!({ "aggregate_id": id, "from_time": time, "to_time": time }),
    );
    let at = object(&["aggregate_id", "at"], json!({ "aggregate_id": id, "at": time }));
    let (between, at) = (components.add("TemporalBetween", between), components.add("TemporalAt", at));
    components.define("TemporalQuery", json!({ "oneOf": [between, at] }));
    let mut output = |schema: SchemaOf| components.output(Some(&schema));
    let answers = [output(SchemaOf::type_of::<wire::Timespan>()), output(SchemaOf::type_of::<wire::State>())];
    components.define(
        "TemporalAnswer",
        json!({ "description": "As asked: between two instants, or at one.", "anyOf": answers }),
    );
    let document = json!({ "type": "object", "required": ["openapi", "info", "paths"], "properties": { "openapi": { "const": "3.1.0" } } });
    components.define("OpenApi", document);
}

fn shown(shape: Shape, components: &mut Components, generator: fn(&mut Components) -> &mut SchemaGenerator) -> Value {
    match shape {
        Shape::Type(make) => make(generator(components)).to_value(),
        Shape::Named(name) => reference(name),
        Shape::Text => json!({ "type": "string" }),
    }
}

fn written(operation: &Operation, components: &mut Components, registered: Registered<'_>) -> Value {
    let mut written = json!({ "operationId": operation.id, "tags": [operation.tag], "summary": operation.summary });
    if !operation.description.is_empty() {
        written["description"] = operation.description.into();
    }
    let branch = takes_branch(operation.path).then(|| parameter(&BRANCH));
    let own = operation.parameters.iter().map(parameter).chain(branch);
    let parameters: Vec<Value> = names(operation.path).map(path_parameter).chain(own).collect();
    if !parameters.is_empty() {
        written["parameters"] = parameters.into();
    }
    if let Some(body) = operation.body {
        let schema = shown(body.shape, components, Components::input_generator);
        let mut content = json!({ "schema": schema });
        let examples = examples::of(operation.id, registered);
        if !examples.is_empty() {
            content["examples"] = Value::Object(examples);
        }
        written["requestBody"] = json!({ "required": body.is_required, "content": { "application/json": content } });
    }
    let mut responses: BTreeMap<String, Value> = BTreeMap::new();
    for success in operation.successes {
        responses.insert(success.status.to_string(), answered(success, components));
    }
    let mut problems: BTreeMap<StatusCode, Vec<&Code>> = BTreeMap::new();
    for code in codes(operation) {
        problems.entry(code.status).or_default().push(code);
    }
    for (status, codes) in problems {
        responses.insert(status.as_u16().to_string(), problem(status, &codes, components));
    }
    written["security"] = match access_of(operation).and_then(|access| access.role) {
        None => json!([]),
        // Since OpenAPI 3.1 the list may name the role that is needed. An empty alternative: nothing need be sent.
        Some(role) if registered.is_guarded => json!([{ "bearer": [role.as_str()] }]),
        Some(role) => json!([{}, { "bearer": [role.as_str()] }]),
    };
    written["responses"] = responses.into_iter().collect::<Map<_, _>>().into();
    written
}

/// What an operation may answer beside its successes: its own codes, and those that follow from its path and body.
pub(super) fn codes(operation: &Operation) -> Vec<&'static Code> {
    // A parameter that is none is refused.
    let mut codes = vec![error::INTERNAL, error::VALIDATION_FAILED];
    if operation.path.starts_with("/api/") {
        codes.extend([error::NOT_ACCEPTABLE, error::STORE_UNAVAILABLE, error::INTEGRITY_VIOLATION]);
    }
    if names(operation.path).next().is_some() {
        codes.push(error::INVALID_ID);
    }
    if operation.body.is_some() || operation.method == "POST" {
        codes.extend([
            error::MALFORMED_BODY,
            error::REQUEST_TIMEOUT,
            error::BODY_TOO_LARGE,
            error::UNSUPPORTED_MEDIA_TYPE,
        ]);
    }
    if takes_branch(operation.path) {
        codes.extend([error::UNKNOWN_BRANCH, error::BRANCH_CLOSED, error::OVERLOADED, error::DRAINING]);
    }
    let access = access_of(operation);
    if access.is_some_and(|access| access.role.is_some()) {
        codes.extend([error::UNAUTHENTICATED, error::FORBIDDEN, error::AUTHENTICATION_UNAVAILABLE]);
    }
    if operation.method != "GET" {
        codes.push(error::CROSS_ORIGIN);
    }
    if access.is_some_and(|access| !access.is_exempt) {
        codes.push(error::RATE_LIMITED);
    }
    codes.extend(operation.codes);
    codes.sort_by_key(|code| code.name);
    codes.dedup();
    codes
}

/// Who may.
fn access_of(operation: &Operation) -> Option<RouteAccess> {
    access_table().find(|access| access.path == operation.path && access.method == operation.method)
}

/// Whether `?branch=` sends a request there to a branch.
fn takes_branch(path: &str) -> bool {
    const RESOURCES: [&str; 7] = ["commands", "events", "replay", "temporal-query", "aggregates", "queries", "sagas"];
    let rest = path.strip_prefix("/api/v1/").unwrap_or_default();
    RESOURCES.contains(&rest.split('/').next().unwrap_or_default()) && !path.ends_with("/verify")
}

fn names(path: &'static str) -> impl Iterator<Item = &'static str> {
    path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
}

fn path_parameter(name: &'static str) -> Value {
    let schema = match name {
        "aggregate_id" | "saga_id" | "subject_id" => reference("AggregateId"),
        "operation_id" | "branch_id" | "token_id" => json!({ "type": "string", "format": "uuid" }),
        "position" => json!({ "type": "integer", "minimum": 0, "maximum": u64::MAX }),
        _ => json!({ "type": "string", "minLength": 1 }),
    };
    json!({ "name": name, "in": "path", "required": true, "schema": schema })
}

fn parameter(parameter: &Parameter) -> Value {
    // A test reads every schema of the table.
    let schema: Value = serde_json::from_str(parameter.schema).unwrap_or_default();
    let mut written = json!({
        "name": parameter.name, "in": parameter.place, "schema": schema, "description": parameter.description,
    });
    if parameter.is_required {
        written["required"] = true.into();
    }
    written
}

fn answered(success: &Success, components: &mut Components) -> Value {
    let mut written = json!({ "description": success.description });
    if !success.contents.is_empty() {
        let content: Map<String, Value> = success
            .contents
            .iter()
            .map(|(media, shape)| {
                ((*media).to_owned(), json!({ "schema": shown(*shape, components, Components::output_generator) }))
            })
            .collect();
        written["content"] = content.into();
    }
    written["headers"] = header_references(success.headers);
    written
}

fn problem(status: StatusCode, codes: &[&Code], components: &mut Components) -> Value {
    let names: Vec<&str> = codes.iter().map(|code| code.name).collect();
    let titles: Vec<&str> = codes.iter().map(|code| code.title).collect();
    let base = components.output_generator().subschema_for::<error::Document<'static>>().to_value();
    let own = json!({ "properties": { "code": { "enum": names }, "status": { "const": status.as_u16() } } });
    let headers: &[&str] = match status {
        StatusCode::SERVICE_UNAVAILABLE => &["Retry-After"],
        StatusCode::TOO_MANY_REQUESTS => &["Retry-After", "RateLimit-Policy", "RateLimit"],
        StatusCode::UNAUTHORIZED => &["WWW-Authenticate"],
        _ => &[],
    };
    json!({
        "description": titles.join(". ") + ".",
        "content": { "application/problem+json": { "schema": { "allOf": [base, own] } } },
        "headers": header_references(headers),
    })
}

const HEADERS: &[(&str, &str, &str)] = &[
    ("X-Request-Id", r#"{"type":"string"}"#, "The request's."),
    ("X-Correlation-Id", r#"{"type":"string"}"#, "Shared by everything the request set off."),
    ("X-Causation-Id", r#"{"type":"string"}"#, "What caused the request."),
    ("traceparent", r#"{"type":"string"}"#, "W3C trace context."),
    ("ETag", r#"{"type":"string","pattern":"^\"[0-9]+\"$"}"#, "The version, as in `\"17\"`."),
    ("FileETag", r#"{"type":"string"}"#, "Names the content of a file."),
    ("Location", r#"{"type":"string"}"#, "Where to look at it."),
    (
        "Idempotency-Replayed",
        r#"{"type":"string","const":"true"}"#,
        "There when the answer is that of an earlier request.",
    ),
    ("Preference-Applied", r#"{"type":"string"}"#, "Which preferences were heeded."),
    ("Retry-After", r#"{"type":"string","pattern":"^[0-9]+$"}"#, "Seconds to wait before the request is sent again."),
    ("RateLimit-Policy", r#"{"type":"string"}"#, "The caller's quota: requests `q` in `w` seconds."),
    ("RateLimit", r#"{"type":"string"}"#, "What is left of it: requests `r`, and the seconds `t` until more are."),
    ("WWW-Authenticate", r#"{"type":"string"}"#, "How to authenticate."),
];

fn headers() -> Value {
    let all = HEADERS.iter().map(|(name, schema, description)| {
        let schema: Value = serde_json::from_str(schema).unwrap_or_default();
        ((*name).to_owned(), json!({ "schema": schema, "description": description }))
    });
    Value::Object(all.collect())
}

/// Those that every answer has, and these.
fn header_references(names: &[&str]) -> Value {
    let always = HEADERS.iter().take(4).map(|(name, ..)| *name);
    let all = always.chain(names.iter().copied());
    Value::Object(
        all.map(|name| {
            // Components of several forms go by names of their own.
            let header = if name == "FileETag" { "ETag" } else { name };
            (header.to_owned(), json!({ "$ref": format!("#/components/headers/{name}") }))
        })
        .collect(),
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_schema_of_the_table_is_json_and_every_header_is_known() {
        for operation in operations::all() {
            for parameter in operation.parameters {
                let schema: Value = serde_json::from_str(parameter.schema).unwrap();
                assert!(schema.is_object(), "{} {}", operation.id, parameter.name);
            }
            for header in operation.successes.iter().flat_map(|success| success.headers) {
                assert!(
                    HEADERS.iter().any(|(name, ..)| name == header),
                    "{} has the unknown header {header}",
                    operation.id
                );
            }
            assert!(
                TAGS.iter().any(|(name, _)| *name == operation.tag),
                "{} has the unknown tag {:?}",
                operation.id,
                operation.tag
            );
        }
        for (_, schema, _) in HEADERS {
            assert!(serde_json::from_str::<Value>(schema).unwrap().is_object());
        }
    }

    #[test]
    fn every_code_is_told_by_some_operation() {
        let told: BTreeSet<&str> = operations::all().flat_map(codes).map(|code| code.name).collect();
        for code in error::CODES {
            // What no operation of the table can answer: a method that is none of them, and heads that are none.
            if ![error::METHOD_NOT_ALLOWED, error::URI_TOO_LONG, error::HEAD_TOO_LARGE].contains(code) {
                assert!(
                    told.contains(code.name),
                    "no entry of src/http/openapi/operations tells the code {}",
                    code.name
                );
            }
        }
    }
}
