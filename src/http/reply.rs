//! Answers that are a success: JSON and its headers.

use bytes::Bytes;
use chrono::SecondsFormat;
use event_sourcing_actors::{AggregateId, Sequence};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use uuid::Uuid;
use warp::{
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    reply::Response,
};

use crate::wire::Operation;

pub(super) const IDEMPOTENCY_REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// RFC 3986: everything but unreserved characters.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A JSON answer.
pub(super) fn json(value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(document) => bytes(document, "application/json"),
        Err(error) => {
            // Every answer is a tree with text keys, so this cannot happen; an empty 500 is better than a panic.
            tracing::error!(%error, "an answer could not be written as JSON");
            empty(StatusCode::INTERNAL_SERVER_ERROR)
        }
    }
}

/// An answer that no cache may keep.
pub(super) fn unstored(mut response: Response) -> Response {
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// An answer of some media type.
pub(super) fn bytes(body: impl Into<Bytes>, media_type: &'static str) -> Response {
    let mut response = Response::new(body.into().into());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    response
}

/// An answer without a body.
pub(super) fn empty(status: StatusCode) -> Response {
    let mut response = Response::new(Bytes::new().into());
    *response.status_mut() = status;
    response
}

/// A version as an entity tag.
pub(super) fn etag(version: Sequence) -> HeaderValue {
    HeaderValue::from_str(&format!("\"{version}\"")).unwrap_or(HeaderValue::from_static("\"\""))
}

/// The page of an aggregate.
pub(super) fn location(id: &AggregateId) -> HeaderValue {
    let path = format!("/api/v1/aggregates/{}", utf8_percent_encode(id.as_str(), SEGMENT));
    HeaderValue::from_str(&path).unwrap_or(HeaderValue::from_static("/api/v1/aggregates"))
}

/// The page of a saga.
pub(super) fn saga_location(id: &AggregateId) -> HeaderValue {
    let path = format!("/api/v1/sagas/{}", utf8_percent_encode(id.as_str(), SEGMENT));
    HeaderValue::from_str(&path).unwrap_or(HeaderValue::from_static("/api/v1/sagas"))
}

/// 202 with the operation that was begun, and where to follow it.
pub(super) fn accepted(operation: &Operation) -> Response {
    let mut response = json(operation);
    *response.status_mut() = StatusCode::ACCEPTED;
    response.headers_mut().insert(header::LOCATION, operation_location(operation.operation_id));
    response
}

/// The page of an operation.
pub(super) fn operation_location(id: Uuid) -> HeaderValue {
    let path = format!("/api/v1/operations/{id}");
    HeaderValue::from_str(&path).unwrap_or(HeaderValue::from_static("/api/v1/operations"))
}

/// Whether the client holds this version already.
pub(super) fn is_unchanged(headers: &HeaderMap, version: Sequence) -> bool {
    let own = format!("\"{version}\"");
    headers
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(',').map(str::trim))
        .any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == own)
}

/// 304 with the version it stands for.
pub(super) fn not_modified(version: Sequence) -> Response {
    let mut response = empty(StatusCode::NOT_MODIFIED);
    response.headers_mut().insert(header::ETAG, etag(version));
    response
}

/// An instant in microseconds, in UTC.
pub(super) fn instant(time: chrono::DateTime<chrono::Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Micros, true)
}
