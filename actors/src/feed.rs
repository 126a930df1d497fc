//! The feed: pages of the log and of streams, and live following without gap or duplicate.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use futures_util::{Stream, stream};

use crate::{
    envelope::{EventFilter, RecordedEvent},
    id::{AggregateId, AggregateType},
    ports::{Direction, EventStore, LogPage, StoreError, StreamRange, StreamSummary},
    pubsub::Publisher,
    version::{Position, Sequence},
};

/// Reads the log; never writes. Cloning is cheap.
#[derive(Debug, Clone)]
pub struct Feed {
    pub(crate) store: Arc<dyn EventStore>,
    pub(crate) publisher: Publisher,
    pub(crate) page: NonZeroU32,
    pub(crate) poll: Duration,
}

/// A follower's place between two pages.
struct Follower {
    feed: Feed,
    filter: EventFilter,
    /// The one stream to follow, and its next sequence.
    stream: Option<(AggregateId, Sequence)>,
    after: Position,
    buffer: std::vec::IntoIter<RecordedEvent>,
}

impl Feed {
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
    /// Wake-ups only shorten the wait; the log, looked at every `feed_poll` at the latest, is the truth. The stream
    /// ends after the first error, and never otherwise; it buffers one page.
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
        let follower = Follower { feed: self.clone(), filter, stream, after, buffer: Vec::new().into_iter() };
        stream::unfold(Some(follower), |follower| async move {
            let mut follower = follower?;
            match follower.next().await {
                Ok(event) => Some((Ok(event), Some(follower))),
                Err(error) => Some((Err(error), None)),
            }
        })
    }
}

impl Follower {
    async fn next(&mut self) -> Result<RecordedEvent, StoreError> {
        if let Some(event) = self.buffer.next() {
            return Ok(event);
        }
        let mut wake = self.feed.publisher.subscribe();
        loop {
            // Before the read: news that come during it must not be slept over.
            wake.borrow_and_update();
            let is_end = self.fill().await?;
            if let Some(event) = self.buffer.next() {
                return Ok(event);
            }
            if is_end {
                let _ = tokio::time::timeout(self.feed.poll, wake.changed()).await;
            }
        }
    }

    /// Reads the next page; whether it reached the end of what is there.
    async fn fill(&mut self) -> Result<bool, StoreError> {
        if self.stream.is_some() {
            return self.fill_from_stream().await;
        }
        let feed = &self.feed;
        let page = feed.store.read_all(self.after, &self.filter, feed.page).await?;
        let is_end = page.examined == self.after;
        if !is_end {
            // At the end `examined` is what the reader asked for, which may lie beyond the log.
            feed.publisher.raise(page.examined);
        }
        self.after = page.examined;
        self.buffer = page.events.into_iter();
        Ok(is_end)
    }

    async fn fill_from_stream(&mut self) -> Result<bool, StoreError> {
        let Some((id, from)) = &mut self.stream else { return Ok(true) };
        let range =
            StreamRange { from: *from, to: Sequence(u64::MAX), direction: Direction::Forward, limit: self.feed.page };
        let mut events = self.feed.store.read_stream(id, range).await?;
        let is_end = events.is_empty();
        if let Some(last) = events.last() {
            *from = last.sequence.next();
        }
        events.retain(|event| event.position > self.after);
        self.buffer = events.into_iter();
        Ok(is_end)
    }
}
