//! `GET /api/v1/aggregates[/{aggregate_id}]`: which streams there are, and the state of one.

use event_sourcing_actors::{AggregateId, AggregateType, Sequence, history::StateAt, ports::StoreError};
use serde::Serialize;
use serde_json::value::RawValue;
use warp::http::header;

use super::{
    error::{self, Answer, Problem},
    negotiate::{Media, negotiate},
    reply,
    request::Call,
};

#[derive(Serialize)]
struct Page<'a> {
    items: Vec<Listed<'a>>,
    next_cursor: Option<AggregateId>,
}

#[derive(Serialize)]
struct Listed<'a> {
    aggregate_id: &'a str,
    aggregate_type: &'a str,
    version: u64,
    position: u64,
    recorded_at: String,
}

#[derive(Serialize)]
struct Shown<'a> {
    aggregate_id: &'a str,
    aggregate_type: &'a str,
    version: u64,
    /// Of the event at `version`; null before the first one.
    position: Option<u64>,
    recorded_at: Option<String>,
    state: &'a RawValue,
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

/// The state of one aggregate.
pub(super) async fn show(call: Call) -> Answer {
    negotiate(&call.headers, &[Media::Json])?;
    let id = call.aggregate_id()?;
    let Some(summary) = call.runtime().feed().summary(&id).await? else { return Err(unknown(&id)) };
    let mut query = call.query();
    let at = query.place("at_sequence");
    for name in ["at_time", "at_position"] {
        if query.text(name).is_some() {
            query.note(name, "is not served yet; use at_sequence");
        }
    }
    query.finish()?;
    if at.is_none() && reply::is_unchanged(&call.headers, summary.head.sequence) {
        return Ok(reply::not_modified(summary.head.sequence));
    }
    let state = match at {
        Some(0) => None,
        at => call.runtime().history().state_at(&id, Sequence(at.unwrap_or(u64::MAX)), true).await?,
    };
    let version = state.as_ref().map_or(Sequence::ZERO, |state| state.version);
    let mut response = reply::json(&Shown {
        aggregate_id: id.as_str(),
        aggregate_type: summary.aggregate_type.as_str(),
        version: version.0,
        position: state.as_ref().map(|state| state.position.0),
        recorded_at: state.as_ref().map(|state| reply::instant(state.recorded_at)),
        state: state.as_ref().map_or(Ok(RawValue::NULL), raw_state)?,
    });
    response.headers_mut().insert(header::ETAG, reply::etag(version));
    Ok(response)
}

/// A state as the API shows it.
pub(super) fn raw_state(state: &StateAt) -> Result<&RawValue, Box<Problem>> {
    serde_json::from_slice(&state.state).map_err(|error| {
        let reason = format!("the state of {}: {error}", state.aggregate_id);
        Problem::of_store(&StoreError::Corrupt { reason })
    })
}

/// 404 for a stream without events.
pub(super) fn unknown(id: &AggregateId) -> Box<Problem> {
    Problem::new(
        error::UNKNOWN_AGGREGATE,
        format!("there is no aggregate {:?}: no event was ever recorded under this id", id.as_str()),
    )
}
