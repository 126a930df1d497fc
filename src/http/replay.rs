//! `POST /api/v1/replay`: a stream's state rebuilt from its events. Nothing is sent again, nothing has an effect.

use std::time::Instant;

use event_sourcing_actors::{AggregateId, Sequence, history::ReplayRequest};
use warp::http::header;

use super::{
    aggregates::unknown,
    body::Envelope,
    error::{self, Answer, Problem},
    reply,
    request::Call,
};
use crate::wire::Replayed;

/// Replays a stream.
pub(super) async fn replay(mut call: Call) -> Answer {
    let body = call.read_body(call.server.options.body_bytes_max).await?;
    let mut envelope = Envelope::parse(&body, call.server.options.json_depth_max)?;
    let number = "a whole number from 0 on";
    let id: String = envelope.required("aggregate_id", "a text");
    let from: u64 = envelope.optional("from_sequence", number).unwrap_or(0);
    let to: Option<u64> = envelope.optional("to_sequence", number);
    let use_snapshot = envelope.optional("use_snapshot", "true or false").unwrap_or(true);
    envelope.finish()?;
    let id =
        AggregateId::new(id).map_err(|reason| Problem::at(error::INVALID_ID, "/aggregate_id", reason.to_string()))?;
    call.enter_branch().await?;
    let mut query = call.query();
    let limit = query.limit();
    let wrong = query.finish();
    let Some(summary) = call.runtime().feed().summary(&id).await? else { return Err(unknown(&id)) };
    wrong?;
    let started = Instant::now();
    let request = ReplayRequest {
        from_sequence: Sequence(from.max(1)),
        to_sequence: Sequence(to.unwrap_or(u64::MAX)),
        use_snapshot,
        limit,
    };
    let history = call.runtime().history();
    let replayed = if to == Some(0) { None } else { history.replay(&id, request).await? };
    let replayed = match &replayed {
        Some((state, events)) => Replayed::new(state, events, started.elapsed())?,
        None => Replayed::nothing(id, summary.aggregate_type, started.elapsed()),
    };
    let mut response = reply::json(&replayed);
    response.headers_mut().insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
    Ok(response)
}
