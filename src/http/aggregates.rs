//! `GET /api/v1/aggregates[/{aggregate_id}]`: which streams there are, and the state of one.

use event_sourcing_actors::{AggregateId, AggregateType, Sequence};
use schemars::JsonSchema;
use serde::Serialize;
use warp::http::header;

use super::{
    error::{self, Answer, Problem},
    negotiate::{Media, negotiate},
    reply,
    request::Call,
    temporal,
};
use crate::wire::State;

/// A page of streams.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "AggregatePage")]
pub(super) struct Page<'a> {
    items: Vec<Listed<'a>>,
    /// Where the next page starts; `null` past the end.
    next_cursor: Option<AggregateId>,
}

/// A stream in the list.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ListedAggregate")]
struct Listed<'a> {
    #[schemars(with = "AggregateId")]
    aggregate_id: &'a str,
    #[schemars(with = "AggregateType")]
    aggregate_type: &'a str,
    version: u64,
    position: u64,
    /// When its last event was recorded.
    #[schemars(with = "chrono::DateTime<chrono::Utc>")]
    recorded_at: String,
}

/// The streams in order of id.
pub(super) async fn list(call: Call) -> Answer {
    negotiate(&call.headers, &[Media::Json])?;
    let mut query = call.query();
    let mut one = |name| -> Option<String> { query.text(name) };
    let (kind, cursor) = (one("aggregate_type"), one("cursor"));
    let mut wrong = |name, error: event_sourcing_actors::id::IdError| query.note(name, error.to_string());
    let kind = kind.and_then(|kind| AggregateType::new(kind).map_err(|error| wrong("aggregate_type", error)).ok());
    let after = cursor.and_then(|id| AggregateId::new(id).map_err(|error| wrong("cursor", error)).ok());
    let limit = query.limit();
    query.finish()?;
    let streams = call.runtime().feed().streams(kind.as_ref(), after.as_ref(), limit).await?;
    let is_full = streams.len() >= limit.get() as usize;
    let next_cursor = streams.last().filter(|_| is_full).map(|last| last.aggregate_id.clone());
    let items = streams.iter().map(|stream| Listed {
        aggregate_id: stream.aggregate_id.as_str(),
        aggregate_type: stream.aggregate_type.as_str(),
        version: stream.head.sequence.0,
        position: stream.position.0,
        recorded_at: reply::instant(stream.recorded_at),
    });
    Ok(reply::json(&Page { items: items.collect(), next_cursor }))
}

/// The state of one aggregate, now or at a point of the past.
pub(super) async fn show(call: Call) -> Answer {
    negotiate(&call.headers, &[Media::Json])?;
    let id = call.aggregate_id()?;
    let mut query = call.query();
    let at = temporal::point(&mut query)?;
    let wrong = query.finish();
    let Some(summary) = call.runtime().feed().summary(&id).await? else { return Err(unknown(&id)) };
    wrong?;
    let history = call.runtime().history();
    let shown = match at {
        Some(at) => State::as_of(id.clone(), history.as_of(&id, at).await?.ok_or_else(|| unknown(&id))?)?,
        None if reply::is_unchanged(&call.headers, summary.head.sequence) => {
            return Ok(reply::not_modified(summary.head.sequence));
        }
        None => {
            let state = history.state_at(&id, Sequence(u64::MAX), true).await?;
            State::new(id, summary.aggregate_type, state.as_ref(), None)?
        }
    };
    let mut response = reply::json(&shown);
    response.headers_mut().insert(header::ETAG, reply::etag(shown.version));
    Ok(response)
}

/// 404 for a stream without events.
pub(super) fn unknown(id: &AggregateId) -> Box<Problem> {
    Problem::new(
        error::UNKNOWN_AGGREGATE,
        format!("there is no aggregate {:?}: no event was ever recorded under this id", id.as_str()),
    )
}
