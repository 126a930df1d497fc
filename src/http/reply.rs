//! Answers that are a success: JSON, its headers, and events as the API shows them.

use bytes::Bytes;
use chrono::SecondsFormat;
use event_sourcing_actors::{AggregateId, RecordedEvent, Sequence, ports::StoreError};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use serde_json::value::RawValue;
use warp::{
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    reply::Response,
};

use super::error::Problem;

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

/// An event; payload and metadata are the stored bytes.
#[derive(Debug, Serialize)]
pub(super) struct EventView<'a> {
    position: u64,
    aggregate_id: &'a str,
    aggregate_type: &'a str,
    sequence: u64,
    event_id: String,
    event_type: &'a str,
    schema_version: u32,
    data: &'a RawValue,
    metadata: &'a RawValue,
    recorded_at: String,
    checksum: String,
}

impl<'a> TryFrom<&'a RecordedEvent> for EventView<'a> {
    type Error = Box<Problem>;

    fn try_from(event: &'a RecordedEvent) -> Result<Self, Box<Problem>> {
        let raw = |bytes: &'a Bytes| {
            serde_json::from_slice::<&RawValue>(bytes).map_err(|error| {
                let reason = format!("event at position {}: {error}", event.position);
                Problem::of_store(&StoreError::Corrupt { reason })
            })
        };
        Ok(Self {
            position: event.position.0,
            aggregate_id: event.aggregate_id.as_str(),
            aggregate_type: event.aggregate_type.as_str(),
            sequence: event.sequence.0,
            event_id: event.event_id.to_string(),
            event_type: event.event_type.as_str(),
            schema_version: event.schema_version,
            data: raw(&event.data)?,
            metadata: raw(&event.metadata)?,
            recorded_at: instant(event.recorded_at),
            checksum: event.checksum.to_string(),
        })
    }
}

/// Events in order.
pub(super) fn views(events: &[RecordedEvent]) -> Result<Vec<EventView<'_>>, Box<Problem>> {
    events.iter().map(EventView::try_from).collect()
}

/// An instant in microseconds, in UTC.
pub(super) fn instant(time: chrono::DateTime<chrono::Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Micros, true)
}
