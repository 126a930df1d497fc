//! `GET /api/v1/events[/{aggregate_id}]`: the log and its streams, in pages or live.

use std::sync::Arc;

use event_sourcing_actors::{
    EventFilter, Position, RecordedEvent, Sequence,
    ports::{Direction, StreamRange},
};
use warp::http::{HeaderName, header};

use super::{
    aggregates::unknown,
    error::{self, Answer, Problem},
    live::{self, Source},
    negotiate::{Media, negotiate},
    query::Query,
    reply,
    request::Call,
};
use crate::wire::{self, LogPage, StreamPage};

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
const OFFERED: [Media; 3] = [Media::Json, Media::Lines, Media::Stream];
/// Windows of the store one page of the log looks through; then the caller goes on from `next_cursor`.
const WINDOWS_PER_PAGE: u32 = 10;

/// How payloads are given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// With personal members opened, or tombstones where they were erased.
    Opened,
    /// As they are stored, which is what the checksum covers.
    Stored,
}

impl Form {
    fn of(query: &mut Query) -> Self {
        if query.flag("raw").unwrap_or(false) { Self::Stored } else { Self::Opened }
    }

    /// One event in this form.
    pub(super) fn of_event(self, event: RecordedEvent) -> RecordedEvent {
        match self {
            Self::Opened => event,
            Self::Stored => RecordedEvent { opened: None, ..event },
        }
    }

    fn given(self, events: Vec<RecordedEvent>) -> Vec<RecordedEvent> {
        events.into_iter().map(|event| self.of_event(event)).collect()
    }
}

/// The events of one stream.
pub(super) async fn of_stream(call: Call) -> Answer {
    let media = negotiate(&call.headers, &OFFERED)?;
    let id = call.aggregate_id()?;
    let after = call.last_event_id()?;
    let Some(summary) = call.runtime().feed().summary(&id).await? else {
        return Err(unknown(&id));
    };
    let mut query = call.query();
    let from = query.place("from_sequence").unwrap_or(1).max(1);
    let form = Form::of(&mut query);
    if media != Media::Json {
        let after = after.or(query.place("after")).unwrap_or(0);
        let follow = query.flag("follow").unwrap_or(true);
        query.finish()?;
        let source = Source::Stream { id, from: Sequence(from), head: summary.head.sequence };
        return Ok(live::reply(&call, media, source, form, Position(after), follow));
    }
    let head = summary.head.sequence;
    let to = query.place("to_sequence").unwrap_or(u64::MAX).min(head.0);
    let direction = query.text("direction").unwrap_or_else(|| "forward".to_owned());
    let direction = match direction.as_str() {
        "forward" => Direction::Forward,
        "backward" => Direction::Backward,
        other => {
            query.note("direction", format!("must be forward or backward, not {other:?}"));
            Direction::Forward
        }
    };
    let (limit, cursor) = (query.limit(), query.place("cursor"));
    query.finish()?;
    if reply::is_unchanged(&call.headers, head) {
        return Ok(reply::not_modified(head));
    }
    let (from, to) = match (direction, cursor) {
        (_, None) => (from, to),
        (Direction::Forward, Some(cursor)) => (from.max(cursor), to),
        (Direction::Backward, Some(cursor)) => (from, to.min(cursor)),
    };
    let events = if from > to {
        Vec::new()
    } else {
        let range = StreamRange { from: Sequence(from), to: Sequence(to), direction, limit };
        call.runtime().feed().stream(&id, range).await?
    };
    let next_cursor = events.last().and_then(|last| match direction {
        Direction::Forward => Some(last.sequence.0 + 1).filter(|next| *next <= to),
        Direction::Backward => last.sequence.0.checked_sub(1).filter(|next| *next >= from),
    });
    let mut response = reply::json(&StreamPage {
        aggregate_id: id,
        aggregate_type: summary.aggregate_type,
        version: head,
        events: wire::events(&form.given(events))?,
        next_cursor: next_cursor.map(Sequence),
    });
    response.headers_mut().insert(header::ETAG, reply::etag(head));
    Ok(response)
}

/// The whole log, filtered.
pub(super) async fn of_log(call: Call) -> Answer {
    let media = negotiate(&call.headers, &OFFERED)?;
    let last_event_id = call.last_event_id()?;
    let mut query = call.query();
    let filter = EventFilter {
        from_time: query.time("from_time")?,
        to_time: query.time("to_time")?,
        event_types: query.ids("event_type"),
        aggregate_types: query.ids("aggregate_type"),
        correlation_id: query.text("correlation_id").map(Arc::from),
    };
    let after = query.place("after");
    let form = Form::of(&mut query);
    let feed = call.runtime().feed();
    if media != Media::Json {
        let follow = query.flag("follow").unwrap_or(true);
        query.finish()?;
        let after = Position(last_event_id.or(after).unwrap_or(0));
        let source = Source::Log { filter, head: feed.head().await? };
        return Ok(live::reply(&call, media, source, form, after, follow));
    }
    let limit = query.limit();
    query.finish()?;
    let page = feed.page(Position(after.unwrap_or(0)), &filter, limit, WINDOWS_PER_PAGE).await?;
    Ok(reply::json(&LogPage { events: wire::events(&form.given(page.events))?, next_cursor: page.examined }))
}

impl Call {
    /// Where a reader of server-sent events has stopped; it weighs more than `?after=`, which stays in its URL.
    fn last_event_id(&self) -> Result<Option<u64>, Box<Problem>> {
        let Some(value) = self.headers.get(LAST_EVENT_ID).filter(|value| !value.is_empty()) else { return Ok(None) };
        let position = value.to_str().ok().and_then(|text| text.parse::<u64>().ok());
        position
            .map(|position| Some(position.min(i64::MAX as u64 - 1)))
            .ok_or_else(|| Problem::new(error::MALFORMED_HEADER, "Last-Event-ID is the position of an event"))
    }
}
