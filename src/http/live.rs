//! Events as they come: lines of JSON (`application/x-ndjson`) and server-sent events (`text/event-stream`).
//!
//! Each follower reads the log itself, one page at a time and only as fast as its client reads: there is no queue to
//! overflow. A stream ends cleanly at shutdown (and, with `?follow=false`, at the head seen at its start); when the
//! store fails it breaks off, so that no client takes the end for the end of the log.

use std::{
    num::NonZeroU32,
    pin::Pin,
    sync::{Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use event_sourcing_actors::{
    AggregateId, EventFilter, Position, RecordedEvent, Sequence,
    feed::Feed,
    ports::{Direction, StoreError, StreamRange},
};
use futures_util::{
    Stream, StreamExt,
    future::Either,
    stream::{self, BoxStream},
};
use warp::{
    Reply,
    http::{HeaderValue, header},
    reply::Response,
};

use super::{error::Problem, events::Form, negotiate::Media, request::Call};
use crate::wire;

/// Events read at once on the way to the head.
const PAGE_EVENTS: NonZeroU32 = NonZeroU32::MIN.saturating_add(499);

/// What is followed, and where its head was at the start.
pub(super) enum Source {
    /// The log.
    Log { filter: EventFilter, head: Position },
    /// One stream.
    Stream { id: AggregateId, from: Sequence, head: Sequence },
}

/// An answer that goes on.
pub(super) fn reply(call: &Call, media: Media, source: Source, form: Form, after: Position, follow: bool) -> Response {
    let feed = call.runtime().feed();
    let events = if follow { following(feed, source, after) } else { up_to_head(feed.clone(), source, after) };
    let events = events.map(move |event| event.map(|event| form.of_event(event))).boxed();
    let lines = written(events, media, call.server.options.stream_comment);
    let (shutdown, access) = (call.server.shutdown.clone(), call.access.clone());
    // Whoever could no longer begin to read this does not read on either.
    let over = async move {
        tokio::select! { () = shutdown.cancelled_owned() => {} () = access.ended() => {} }
    };
    let ended = lines.take_until(Box::pin(over));
    let mut response = warp::reply::stream(Shared::new(ended.boxed())).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media.name()));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // Proxies that buffer answers would hold events back.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

type Events = BoxStream<'static, Result<RecordedEvent, StoreError>>;

fn following(feed: &Feed, source: Source, after: Position) -> Events {
    match source {
        Source::Log { filter, .. } => feed.follow(after, filter).boxed(),
        Source::Stream { id, from, .. } => feed.follow_stream(id, from, after).boxed(),
    }
}

/// The same up to the head, page by page.
fn up_to_head(feed: Feed, source: Source, after: Position) -> Events {
    let reader = Reader { feed, after, from: source.start(), source };
    let pages = stream::try_unfold(reader, |mut reader| async move {
        Ok::<_, StoreError>(reader.page().await?.map(|events| (events, reader)))
    });
    let each = |page: Result<Vec<RecordedEvent>, StoreError>| match page {
        Ok(events) => Either::Left(stream::iter(events.into_iter().map(Ok))),
        Err(error) => Either::Right(stream::iter([Err(error)])),
    };
    pages.flat_map(each).boxed()
}

impl Source {
    fn start(&self) -> Sequence {
        match self {
            Self::Log { .. } => Sequence::ZERO,
            Self::Stream { from, .. } => *from,
        }
    }
}

/// A place on the way to the head.
struct Reader {
    feed: Feed,
    source: Source,
    after: Position,
    from: Sequence,
}

impl Reader {
    /// The next page; `None` at the head.
    async fn page(&mut self) -> Result<Option<Vec<RecordedEvent>>, StoreError> {
        let after = self.after;
        match &self.source {
            Source::Log { head, .. } if after >= *head => Ok(None),
            Source::Log { filter, head } => {
                let mut page = self.feed.page(after, filter, PAGE_EVENTS, 1).await?;
                self.after = if page.examined == after { *head } else { page.examined };
                page.events.retain(|event| event.position <= *head);
                Ok(Some(page.events))
            }
            Source::Stream { head, .. } if self.from > *head => Ok(None),
            Source::Stream { id, head, .. } => {
                let range =
                    StreamRange { from: self.from, to: *head, direction: Direction::Forward, limit: PAGE_EVENTS };
                let mut events = self.feed.stream(id, range).await?;
                self.from = events.last().map_or(head.next(), |last| last.sequence.next());
                events.retain(|event| event.position > after);
                Ok(Some(events))
            }
        }
    }
}

/// Events as bytes, with a comment now and then where the format has one: it tells a dead client from a silent log.
fn written(events: Events, media: Media, pause: Duration) -> impl Stream<Item = Result<Bytes, Broken>> + Send {
    stream::unfold(Some(events), move |events| async move {
        let mut events = events?;
        let next = match media {
            Media::Stream => match tokio::time::timeout(pause, events.next()).await {
                Ok(next) => next,
                Err(_) => return Some((Ok(Bytes::from_static(b":\n\n")), Some(events))),
            },
            Media::Lines | Media::Json => events.next().await,
        }?;
        match next.map_err(|error| Problem::of_store(&error)).and_then(|event| line(&event, media)) {
            Ok(line) => Some((Ok(line), Some(events))),
            Err(_) => Some((Err(Broken), None)),
        }
    })
}

/// One event on one line.
fn line(event: &RecordedEvent, media: Media) -> Result<Bytes, Box<Problem>> {
    let view = wire::Event::try_from(event)?;
    let mut line = match media {
        Media::Stream => format!("id: {}\ndata: ", event.position).into_bytes(),
        Media::Lines | Media::Json => Vec::new(),
    };
    let start = line.len();
    serde_json::to_writer(&mut line, &view).map_err(|_| Problem::internal())?;
    // A payload may have been sent in several lines; between the tokens of JSON a blank does as well.
    for byte in line.iter_mut().skip(start).filter(|byte| matches!(byte, b'\n' | b'\r')) {
        *byte = b' ';
    }
    line.extend_from_slice(if media == Media::Stream { b"\n\n" } else { b"\n" });
    Ok(line.into())
}

/// The stream breaks off; why is in the log.
#[derive(Debug, thiserror::Error)]
#[error("the event stream broke off")]
struct Broken;

/// A stream that warp takes: it wants `Sync`, which a mutex gives without ever being locked.
struct Shared<T>(Mutex<BoxStream<'static, T>>);

impl<T> Shared<T> {
    fn new(stream: BoxStream<'static, T>) -> Self {
        Self(Mutex::new(stream))
    }
}

impl<T> Stream for Shared<T> {
    type Item = T;
    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<T>> {
        let stream = self.get_mut().0.get_mut().unwrap_or_else(PoisonError::into_inner);
        stream.as_mut().poll_next(context)
    }
}
