//! Questions about the past: `POST /api/v1/temporal-query` and `GET /api/v1/aggregates/{aggregate_id}/diff`.

use chrono::{DateTime, Utc};
use event_sourcing_actors::{
    AggregateId, Position, Sequence,
    history::{At, TimeRange},
};

use super::{
    aggregates::unknown,
    body::Envelope,
    error::{self, Answer, Problem},
    negotiate::{Media, negotiate},
    query::{Query, instant},
    reply,
    request::Call,
};
use crate::wire::{Changes, State, Timespan};

/// What is asked: a stream at an instant, or what happened to it between two.
enum Asked {
    At(DateTime<Utc>),
    Between(DateTime<Utc>, DateTime<Utc>),
}

/// A stream at an instant, or what happened to it between two.
pub(super) async fn query(mut call: Call) -> Answer {
    let body = call.read_body(call.server.options.body_bytes_max).await?;
    let mut envelope = Envelope::parse(&body, call.server.options.json_depth_max)?;
    let id: String = envelope.required("aggregate_id", "a text");
    let asked = asked(envelope)?;
    let id =
        AggregateId::new(id).map_err(|reason| Problem::at(error::INVALID_ID, "/aggregate_id", reason.to_string()))?;
    call.enter_branch().await?;
    let history = call.runtime().history();
    let mut query = call.query();
    match asked {
        Asked::At(instant) => {
            let wrong = query.finish();
            let Some(found) = history.as_of(&id, At::Time(instant)).await? else { return Err(unknown(&id)) };
            wrong?;
            Ok(reply::json(&State::as_of(id, found)?))
        }
        Asked::Between(from, to) => {
            let (limit, cursor) = (query.limit(), query.place("cursor").map(Sequence));
            let wrong = query.finish();
            if from > to || wrong.is_err() {
                if call.runtime().feed().summary(&id).await?.is_none() {
                    return Err(unknown(&id));
                }
                wrong?;
                let detail = "must not be before from_time";
                return Err(Problem::at(error::VALIDATION_FAILED, "/to_time", detail));
            }
            let found = history.between(&id, TimeRange { from, to, cursor, limit }).await?;
            let found = found.ok_or_else(|| unknown(&id))?;
            Ok(reply::json(&Timespan::new(id, found)?))
        }
    }
}

/// Takes the times out of the envelope: `at` alone, or both others.
fn asked(mut envelope: Envelope<'_>) -> Result<Asked, Box<Problem>> {
    let mut take = |name| (envelope.raw(name).is_some(), envelope.optional::<String>(name, "a text"));
    let ((has_at, at), (has_from, from), (has_to, to)) = (take("at"), take("from_time"), take("to_time"));
    if has_at && (has_from || has_to) {
        envelope.note("at", "must stand alone, without from_time and to_time");
    }
    for (name, is_there) in [("from_time", has_from), ("to_time", has_to)] {
        if !has_at && !is_there {
            envelope.note(name, "is missing; send from_time and to_time, or at alone");
        }
    }
    envelope.finish()?;
    let parsed = |name: &str, text: Option<String>| instant(&text.unwrap_or_default(), format!("/{name}"));
    if has_at {
        return Ok(Asked::At(parsed("at", at)?));
    }
    Ok(Asked::Between(parsed("from_time", from)?, parsed("to_time", to)?))
}

/// What changed in an aggregate's state between two sequences.
pub(super) async fn diff(mut call: Call) -> Answer {
    negotiate(&call.headers, &[Media::Json])?;
    let id = call.aggregate_id()?;
    call.enter_branch().await?;
    let mut query = call.query();
    let from = query.place("from_sequence").unwrap_or(0);
    let to = query.place("to_sequence").unwrap_or(u64::MAX);
    let wrong = query.finish();
    if wrong.is_err() && call.runtime().feed().summary(&id).await?.is_none() {
        return Err(unknown(&id));
    }
    wrong?;
    let found = call.runtime().history().difference(&id, Sequence(from), Sequence(to)).await?;
    let found = found.ok_or_else(|| unknown(&id))?;
    Ok(reply::json(&Changes::new(id, found)))
}

/// The point of the past that a URL names: by sequence, position or instant.
///
/// # Errors
/// `invalid-time`, at once: the envelope is judged before what it holds.
pub(super) fn point(query: &mut Query) -> Result<Option<At>, Box<Problem>> {
    let points = [
        ("at_time", query.time("at_time")?.map(At::Time)),
        ("at_position", query.place("at_position").map(|position| At::Position(Position(position)))),
        ("at_sequence", query.place("at_sequence").map(|sequence| At::Sequence(Sequence(sequence)))),
    ];
    let mut named = points.into_iter().filter_map(|(name, point)| Some((name, point?)));
    let Some((first, point)) = named.next() else { return Ok(None) };
    if let Some((second, _)) = named.next() {
        query.note(second, format!("must not stand beside {first}"));
    }
    Ok(Some(point))
}
