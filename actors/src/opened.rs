//! A store whose events come opened: the one place where what was sealed is read.

use std::{num::NonZeroU32, sync::Arc};

use chrono::{DateTime, Utc};
use futures_util::{FutureExt, future::BoxFuture};

use crate::{
    envelope::{EventFilter, RecordedEvent},
    id::{AggregateId, AggregateType, EventId},
    ports::{AppendBatch, EventStore, KeyRecord, LogPage, StoreError, StreamRange, StreamSummary, UnitOutcome},
    vault::Vault,
    version::Position,
};

/// Passes everything on, and opens the events it reads.
#[derive(Debug)]
pub(crate) struct OpenedStore {
    pub inner: Arc<dyn EventStore>,
    pub vault: Arc<Vault>,
}

impl OpenedStore {
    async fn opened(&self, mut events: Vec<RecordedEvent>) -> Result<Vec<RecordedEvent>, StoreError> {
        self.vault.open(&mut events).await?;
        Ok(events)
    }
}

impl EventStore for OpenedStore {
    fn append(&self, batch: AppendBatch) -> BoxFuture<'_, Result<Vec<UnitOutcome>, StoreError>> {
        self.inner.append(batch)
    }
    fn read_stream<'a>(
        &'a self,
        id: &'a AggregateId,
        range: StreamRange,
    ) -> BoxFuture<'a, Result<Vec<RecordedEvent>, StoreError>> {
        async move { self.opened(self.inner.read_stream(id, range).await?).await }.boxed()
    }
    fn read_all<'a>(
        &'a self,
        after: Position,
        filter: &'a EventFilter,
        limit: NonZeroU32,
    ) -> BoxFuture<'a, Result<LogPage, StoreError>> {
        async move {
            let page = self.inner.read_all(after, filter, limit).await?;
            Ok(LogPage { events: self.opened(page.events).await?, ..page })
        }
        .boxed()
    }
    fn head(&self) -> BoxFuture<'_, Result<Position, StoreError>> {
        self.inner.head()
    }
    fn stream<'a>(&'a self, id: &'a AggregateId) -> BoxFuture<'a, Result<Option<StreamSummary>, StoreError>> {
        self.inner.stream(id)
    }
    fn list_streams<'a>(
        &'a self,
        aggregate_type: Option<&'a AggregateType>,
        after: Option<&'a AggregateId>,
        limit: NonZeroU32,
    ) -> BoxFuture<'a, Result<Vec<StreamSummary>, StoreError>> {
        self.inner.list_streams(aggregate_type, after, limit)
    }
    fn find_events<'a>(&'a self, ids: &'a [EventId]) -> BoxFuture<'a, Result<Vec<RecordedEvent>, StoreError>> {
        async move { self.opened(self.inner.find_events(ids).await?).await }.boxed()
    }
    fn find_key<'a>(
        &'a self,
        principal: &'a str,
        key: &'a str,
    ) -> BoxFuture<'a, Result<Option<KeyRecord>, StoreError>> {
        self.inner.find_key(principal, key)
    }
    fn sweep_keys(&self, before: DateTime<Utc>, limit: NonZeroU32) -> BoxFuture<'_, Result<u64, StoreError>> {
        self.inner.sweep_keys(before, limit)
    }
}
