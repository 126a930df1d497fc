//! The feed: pages of the log and of streams, and live following without gap or duplicate.

mod tail;

use std::{num::NonZeroU32, sync::Arc};

use futures_util::{Stream, stream};

use self::tail::Tail;
use crate::{
    envelope::{EventFilter, RecordedEvent},
    id::{AggregateId, AggregateType},
    limits::Limits,
    ports::{Direction, EventStore, LogPage, StoreError, StreamRange, StreamSummary},
    pubsub::Publisher,
    vault::Vault,
    version::{Position, Sequence},
};

/// Reads the log; never writes. Cloning is cheap.
#[derive(Debug, Clone)]
pub struct Feed {
    /// Events come opened from here.
    store: Arc<dyn EventStore>,
    /// And sealed from here: what waits in a buffer may be read long after its subject was erased.
    sealed: Arc<dyn EventStore>,
    vault: Arc<Vault>,
    pub(crate) publisher: Publisher,
    page: NonZeroU32,
    follow_page_bytes: usize,
    tail: Arc<Tail>,
}

/// A follower's place between two pages.
struct Follower {
    feed: Feed,
    filter: EventFilter,
    /// The one stream to follow, and its next sequence.
    stream: Option<(AggregateId, Sequence)>,
    /// Events up to here are passed over.
    after: Position,
    /// The log has been looked at up to here, itself or by way of the stream.
    examined: Position,
    /// Whether it has reached the end, and not fallen behind the tail since.
    is_live: bool,
    /// The known head when the last read found the end; `None` while there may be more to read.
    end_at: Option<Position>,
    /// Events of the next page.
    limit: NonZeroU32,
    buffer: std::vec::IntoIter<RecordedEvent>,
}

impl Feed {
    pub(crate) fn new(
        store: Arc<dyn EventStore>,
        sealed: Arc<dyn EventStore>,
        vault: Arc<Vault>,
        publisher: Publisher,
        limits: &Limits,
    ) -> Self {
        Self {
            store,
            sealed,
            vault,
            publisher,
            page: NonZeroU32::new(limits.page_events_max).unwrap_or(NonZeroU32::MIN),
            follow_page_bytes: limits.follow_page_bytes,
            tail: Arc::new(Tail::new(limits)),
        }
    }

    /// Who tells of news: the head of the log, and read models that have moved.
    #[must_use]
    pub fn publisher(&self) -> &Publisher {
        &self.publisher
    }

    /// Position of the log's last event, asked of the store.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn head(&self) -> Result<Position, StoreError> {
        let head = self.store.head().await?;
        self.publisher.raise(head);
        Ok(head)
    }

    /// Part of a stream.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn stream(&self, id: &AggregateId, range: StreamRange) -> Result<Vec<RecordedEvent>, StoreError> {
        let limit = range.limit.min(self.page);
        self.store.read_stream(id, StreamRange { limit, ..range }).await
    }

    /// A stream's type and head.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn summary(&self, id: &AggregateId) -> Result<Option<StreamSummary>, StoreError> {
        self.store.stream(id).await
    }

    /// Streams in order of id.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn streams(
        &self,
        aggregate_type: Option<&AggregateType>,
        after: Option<&AggregateId>,
        limit: NonZeroU32,
    ) -> Result<Vec<StreamSummary>, StoreError> {
        self.store.list_streams(aggregate_type, after, limit.min(self.page)).await
    }

    /// The next events that pass a filter, up to `limit`; looks on through the log until it has found some, but
    /// examines at most `windows` of the store's windows.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn page(
        &self,
        after: Position,
        filter: &EventFilter,
        limit: NonZeroU32,
        windows: u32,
    ) -> Result<LogPage, StoreError> {
        let limit = limit.min(self.page);
        let mut page = LogPage { events: Vec::new(), examined: after };
        for _ in 0..windows.max(1) {
            let Some(rest) = NonZeroU32::new(limit.get() - u32::try_from(page.events.len()).unwrap_or(limit.get()))
            else {
                break;
            };
            let next = self.store.read_all(page.examined, filter, rest).await?;
            let is_end = next.examined == page.examined;
            page.events.extend(next.events);
            page.examined = next.examined;
            if is_end {
                break;
            }
        }
        Ok(page)
    }

    /// The events after a position that pass a filter: what is there, then what comes, each once and in order.
    ///
    /// A follower at the end waits for the [`Publisher`] and asks the store nothing; wake-ups only shorten the wait,
    /// the log, whose head the runtime looks at every `feed_poll`, is the truth. The stream ends after the first error,
    /// and never otherwise; when the runtime ends, that is [`StoreError::Unavailable`]. It buffers one page.
    pub fn follow(
        &self,
        after: Position,
        filter: EventFilter,
    ) -> impl Stream<Item = Result<RecordedEvent, StoreError>> + Send + use<> {
        self.following(after, filter, None)
    }

    /// The same for one stream, from a sequence on; events at or before `after` are passed over.
    pub fn follow_stream(
        &self,
        id: AggregateId,
        from: Sequence,
        after: Position,
    ) -> impl Stream<Item = Result<RecordedEvent, StoreError>> + Send + use<> {
        self.following(after, EventFilter::default(), Some((id, from)))
    }

    fn following(
        &self,
        after: Position,
        filter: EventFilter,
        stream: Option<(AggregateId, Sequence)>,
    ) -> impl Stream<Item = Result<RecordedEvent, StoreError>> + Send + use<> {
        stream::unfold(Some(Follower::new(self.clone(), filter, stream, after)), |follower| async move {
            let mut follower = follower?;
            match follower.next().await {
                Ok(event) => Some((Ok(event), Some(follower))),
                Err(error) => Some((Err(error), None)),
            }
        })
    }
}

impl Follower {
    fn new(feed: Feed, filter: EventFilter, stream: Option<(AggregateId, Sequence)>, after: Position) -> Self {
        let limit = feed.page.min(FIRST_PAGE);
        Self {
            feed,
            filter,
            stream,
            after,
            examined: after,
            is_live: false,
            end_at: None,
            limit,
            buffer: Vec::new().into_iter(),
        }
    }

    async fn next(&mut self) -> Result<RecordedEvent, StoreError> {
        loop {
            if let Some(mut event) = self.buffer.next() {
                self.feed.vault.open(std::slice::from_mut(&mut event)).await?;
                return Ok(event);
            }
            // The memory of a page goes when it has been read, not when the next one comes.
            self.buffer = Vec::new().into_iter();
            let known = self.news().await?;
            self.fill(known).await?;
        }
    }

    /// Waits until there may be something to read; returns the head known by then.
    async fn news(&self) -> Result<Position, StoreError> {
        let publisher = &self.feed.publisher;
        if self.end_at.is_none() {
            return Ok(publisher.head());
        }
        let mut wake = publisher.subscribe();
        loop {
            let known = *wake.borrow_and_update();
            let is_beyond = self.stream.is_none() && known <= self.examined;
            if self.end_at != Some(known) && !is_beyond {
                return Ok(known);
            }
            tokio::select! {
                // The sender is in our hands, so it is not closed.
                _ = wake.changed() => {}
                () = publisher.ended() => {
                    return Err(StoreError::Unavailable { reason: "the runtime has ended".to_owned() });
                }
            }
        }
    }

    /// Reads the next page, and notes whether it reached the end of what was there when `known` was the head.
    async fn fill(&mut self, known: Position) -> Result<(), StoreError> {
        let is_end = if self.is_live && self.fill_from_tail(known).await? {
            self.examined >= known
        } else {
            let is_end = if self.stream.is_some() {
                self.fill_from_stream(known).await?
            } else {
                self.fill_from_log(known).await?
            };
            self.limit = self.next_limit();
            self.is_live = is_end;
            is_end
        };
        self.end_at = is_end.then_some(known);
        Ok(())
    }

    /// Takes what is next from memory; whether it is there.
    async fn fill_from_tail(&mut self, known: Position) -> Result<bool, StoreError> {
        let tail = self.feed.tail.events(&*self.feed.sealed, self.examined, known).await?;
        let Some(last) = tail.as_ref().and_then(|events| events.last()) else { return Ok(false) };
        self.feed.publisher.raise(last.position);
        self.examined = last.position;
        let is_wanted = |event: &RecordedEvent| match &self.stream {
            Some((id, from)) => event.position > self.after && event.aggregate_id == *id && event.sequence >= *from,
            None => self.filter.matches(event),
        };
        let wanted = tail.iter().flatten().filter(|event| is_wanted(event));
        let wanted: Vec<RecordedEvent> = wanted.map(|event| RecordedEvent::clone(event)).collect();
        if let (Some((_, from)), Some(last)) = (&mut self.stream, wanted.last()) {
            *from = last.sequence.next();
        }
        self.buffer = wanted.into_iter();
        Ok(true)
    }

    /// As many events as should fit, told by those of the last page.
    fn next_limit(&self) -> NonZeroU32 {
        let (events, bytes_max) = (self.buffer.as_slice(), self.feed.follow_page_bytes);
        let bytes: usize = events.iter().map(|event| event.data.len() + event.metadata.len()).sum();
        if bytes > bytes_max {
            let fitting = u32::try_from(events.len().saturating_mul(bytes_max) / bytes).unwrap_or(u32::MAX);
            return NonZeroU32::new(fitting).unwrap_or(NonZeroU32::MIN).min(self.limit);
        }
        let is_small = bytes <= bytes_max / 4 && events.len() >= self.limit.get() as usize;
        if is_small { self.limit.saturating_mul(TWO).min(self.feed.page) } else { self.limit }
    }

    async fn fill_from_log(&mut self, known: Position) -> Result<bool, StoreError> {
        let feed = &self.feed;
        let page = feed.sealed.read_all(self.examined, &self.filter, self.limit).await?;
        feed.vault.foresee(&page.events).await?;
        let is_end = page.examined == self.examined;
        if !is_end {
            // At the end `examined` is what the reader asked for, which may lie beyond the log.
            feed.publisher.raise(page.examined);
        }
        // What was told of has been read; of more one will be told. A full page, or a head that was no news, shows less.
        let has_read_news =
            known > self.examined && page.examined >= known && page.events.len() < self.limit.get() as usize;
        self.examined = page.examined;
        self.buffer = page.events.into_iter();
        Ok(is_end || has_read_news)
    }

    async fn fill_from_stream(&mut self, known: Position) -> Result<bool, StoreError> {
        let Some((id, from)) = &mut self.stream else { return Ok(true) };
        let range =
            StreamRange { from: *from, to: Sequence(u64::MAX), direction: Direction::Forward, limit: self.limit };
        let mut events = self.feed.sealed.read_stream(id, range).await?;
        let is_end = events.len() < self.limit.get() as usize;
        if let Some(last) = events.last() {
            *from = last.sequence.next();
        }
        if is_end {
            self.examined = known;
        }
        events.retain(|event| event.position > self.after);
        self.buffer = events.into_iter();
        Ok(is_end)
    }
}

/// Events of a follower's first page; how many the next ones hold depends on their size.
const FIRST_PAGE: NonZeroU32 = NonZeroU32::MIN.saturating_add(15);
const TWO: NonZeroU32 = NonZeroU32::MIN.saturating_add(1);
