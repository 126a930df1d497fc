//! The event store port over PostgreSQL.

use std::num::NonZeroU32;

use chrono::{DateTime, Utc};
use event_sourcing_actors::{
    AggregateId, AggregateType, EventFilter, EventId, Position, RecordedEvent,
    ports::{
        AppendBatch, Direction, EventStore, KeyRecord, LogPage, StoreError, StreamRange, StreamSummary, UnitOutcome,
    },
};
use futures_util::{FutureExt, future::BoxFuture};
use sqlx::{Error, Row, postgres::PgRow};
use uuid::Uuid;

use super::{
    super::{
        rows::{RawEvent, RawStream, UNFILTERED_ROWS, WINDOW_POSITIONS_MAX, in_order},
        verdicts::replaced,
    },
    PostgresStore,
    error::store_error,
};

macro_rules! event_columns {
    () => {
        "e.position, e.aggregate_id, e.aggregate_type, e.sequence, e.event_id, e.event_type, e.schema_version, e.data, \
         e.metadata, e.recorded_at, e.checksum, e.chain"
    };
}
pub(super) use event_columns;
macro_rules! stream_columns {
    () => {
        "s.aggregate_id, s.aggregate_type, e.sequence, e.chain, e.position, e.recorded_at"
    };
}
macro_rules! last_event {
    () => {
        " CROSS JOIN LATERAL (SELECT * FROM events e WHERE e.partition = 0 AND e.aggregate_id = s.aggregate_id \
         ORDER BY e.sequence DESC LIMIT 1) e "
    };
}

const STREAM_FORWARD: &str = concat!(
    "SELECT ",
    event_columns!(),
    " FROM events e WHERE e.partition = 0 AND e.aggregate_id = $1 AND e.sequence BETWEEN $2 AND $3 \
     ORDER BY e.sequence LIMIT $4"
);
const STREAM_BACKWARD: &str = concat!(
    "SELECT ",
    event_columns!(),
    " FROM events e WHERE e.partition = 0 AND e.aggregate_id = $1 AND e.sequence BETWEEN $2 AND $3 \
     ORDER BY e.sequence DESC LIMIT $4"
);
/// Head and page in one statement, so that both are of one instant; the head comes also when the page is empty.
const PAGE: &str = concat!(
    "SELECT h.head, ",
    event_columns!(),
    " FROM (SELECT coalesce((SELECT position FROM events WHERE partition = 0 ORDER BY position DESC LIMIT 1), 0) AS head) h \
     LEFT JOIN LATERAL (SELECT * FROM events e WHERE e.partition = 0 AND e.position > $1 AND e.position <= $2 \
         AND ($3::text[] IS NULL OR e.event_type = ANY ($3)) AND ($4::text[] IS NULL OR e.aggregate_type = ANY ($4)) \
         AND ($5::timestamptz IS NULL OR e.recorded_at >= $5) AND ($6::timestamptz IS NULL OR e.recorded_at <= $6) \
         ORDER BY e.position LIMIT $7) e ON true ORDER BY e.position"
);
/// Of the log that was opened, and of no other.
const HEAD: &str = "SELECT coalesce((SELECT position FROM events WHERE partition = 0 ORDER BY position DESC LIMIT 1), 0) \
     FROM log_head WHERE partition = 0 AND store_id = $1";
const STREAM: &str = concat!(
    "SELECT ",
    stream_columns!(),
    " FROM streams s",
    last_event!(),
    "WHERE s.partition = 0 AND s.aggregate_id = $1"
);
const STREAMS_BY_ID: &str = concat!(
    "SELECT ",
    stream_columns!(),
    " FROM unnest($1::text[]) k(id) JOIN streams s ON s.partition = 0 AND s.aggregate_id = k.id",
    last_event!(),
);
const STREAMS: &str = concat!(
    "SELECT ",
    stream_columns!(),
    " FROM (SELECT * FROM streams WHERE partition = 0 AND aggregate_id > $1 ORDER BY aggregate_id LIMIT $2) s",
    last_event!(),
    "ORDER BY s.aggregate_id"
);
const STREAMS_OF_TYPE: &str = concat!(
    "SELECT ",
    stream_columns!(),
    " FROM (SELECT * FROM streams WHERE partition = 0 AND aggregate_type = $3 AND aggregate_id > $1 \
     ORDER BY aggregate_id LIMIT $2) s",
    last_event!(),
    "ORDER BY s.aggregate_id"
);
const EVENTS_BY_ID: &str = concat!(
    "SELECT ",
    event_columns!(),
    " FROM events e WHERE e.partition = 0 AND e.event_id = ANY ($1) ORDER BY e.position"
);
const KEY: &str =
    "SELECT principal, key, fingerprint, outcome FROM idempotency WHERE partition = 0 AND principal = $1 AND key = $2";
/// Rows that somebody else is sweeping are left to them.
const SWEEP: &str = "DELETE FROM idempotency WHERE (partition, principal, key) IN ( \
         SELECT partition, principal, key FROM idempotency WHERE partition = 0 AND recorded_at < $1 \
         ORDER BY recorded_at LIMIT $2 FOR UPDATE SKIP LOCKED)";

pub(super) fn event(row: &PgRow, first: usize) -> Result<RecordedEvent, StoreError> {
    let raw = || -> Result<RawEvent, Error> {
        Ok(RawEvent {
            position: row.try_get(first)?,
            aggregate_id: row.try_get(first + 1)?,
            aggregate_type: row.try_get(first + 2)?,
            sequence: row.try_get(first + 3)?,
            event_id: row.try_get(first + 4)?,
            event_type: row.try_get(first + 5)?,
            schema_version: row.try_get(first + 6)?,
            data: row.try_get(first + 7)?,
            metadata: row.try_get(first + 8)?,
            recorded_at: row.try_get(first + 9)?,
            checksum: row.try_get(first + 10)?,
            chain: row.try_get(first + 11)?,
        })
    };
    raw().map_err(store_error)?.checked()
}

pub(super) fn stream(row: &PgRow) -> Result<StreamSummary, StoreError> {
    let raw = || -> Result<RawStream, Error> {
        Ok(RawStream {
            aggregate_id: row.try_get(0)?,
            aggregate_type: row.try_get(1)?,
            sequence: row.try_get(2)?,
            chain: row.try_get(3)?,
            position: row.try_get(4)?,
            recorded_at: row.try_get(5)?,
        })
    };
    raw().map_err(store_error)?.checked()
}

/// What PostgreSQL can hold; nothing was recorded before 1970, so the filter means the same.
pub(super) fn instant(wanted: Option<DateTime<Utc>>) -> Option<DateTime<Utc>> {
    wanted.map(|instant| instant.max(DateTime::UNIX_EPOCH))
}

/// A page of rows of head and event.
pub(super) fn page(
    rows: &[PgRow],
    after: Position,
    filter: &EventFilter,
    limit: i64,
    rows_max: i64,
) -> Result<LogPage, StoreError> {
    let head: i64 = rows.first().map_or(Ok(0), |row| row.try_get(0)).map_err(store_error)?;
    let whole = Position::from_i64(after.as_i64().saturating_add(WINDOW_POSITIONS_MAX).min(head)).max(after);
    let mut page = LogPage { events: Vec::new(), examined: whole };
    let empty = rows.first().is_none_or(|row| row.try_get::<Option<i64>, _>(1).is_ok_and(|it| it.is_none()));
    let rows = if empty { &[][..] } else { rows };
    for (count, row) in (1_i64..).zip(rows) {
        let event = event(row, 1)?;
        let position = event.position;
        if filter.matches(&event) {
            page.events.push(event);
        }
        if count == rows_max || page.events.len() as u64 == limit.unsigned_abs() {
            page.examined = position;
            break;
        }
    }
    Ok(page)
}

/// What is recorded under a key.
pub(super) fn key_record(row: &PgRow, first: usize, principal: &str, key: &str) -> Result<KeyRecord, StoreError> {
    let fingerprint: Vec<u8> = row.try_get(first).map_err(store_error)?;
    let outcome: Vec<u8> = row.try_get(first + 1).map_err(store_error)?;
    let fingerprint = fingerprint
        .try_into()
        .map_err(|_| StoreError::Corrupt { reason: format!("fingerprint of key {key:?} is not 32 bytes") })?;
    Ok(KeyRecord { principal: principal.into(), key: key.into(), fingerprint, outcome: outcome.into() })
}

impl PostgresStore {
    async fn page(&self, after: Position, filter: &EventFilter, limit: i64) -> Result<LogPage, StoreError> {
        let window_end = after.as_i64().saturating_add(WINDOW_POSITIONS_MAX);
        // What SQL does not test may pass over many rows, so more than the page are fetched at once.
        let rows_max = if filter.correlation_id.is_some() { limit.max(UNFILTERED_ROWS) } else { limit };
        let types: Vec<&str> = filter.event_types.iter().map(|kind| kind.as_str()).collect();
        let kinds: Vec<&str> = filter.aggregate_types.iter().map(|kind| kind.as_str()).collect();
        let query = sqlx::query(PAGE).bind(after.as_i64()).bind(window_end);
        let query = query.bind((!types.is_empty()).then_some(types)).bind((!kinds.is_empty()).then_some(kinds));
        let query = query.bind(instant(filter.from_time)).bind(instant(filter.to_time)).bind(rows_max);
        let rows = query.fetch_all(&self.pool).await.map_err(store_error)?;

        page(&rows, after, filter, limit, rows_max)
    }
}

impl EventStore for PostgresStore {
    /// Safe to drop: the connection in use goes with the future, and its transaction with it.
    fn append(&self, batch: AppendBatch) -> BoxFuture<'_, Result<Vec<UnitOutcome>, StoreError>> {
        self.journal.append(batch).boxed()
    }

    fn read_stream<'a>(
        &'a self,
        id: &'a AggregateId,
        range: StreamRange,
    ) -> BoxFuture<'a, Result<Vec<RecordedEvent>, StoreError>> {
        async move {
            let query = match range.direction {
                Direction::Forward => STREAM_FORWARD,
                Direction::Backward => STREAM_BACKWARD,
            };
            let query = sqlx::query(query).bind(id.as_str()).bind(range.from.as_i64()).bind(range.to.as_i64());
            let rows = query.bind(i64::from(range.limit.get())).fetch_all(&self.pool).await.map_err(store_error)?;
            rows.iter().map(|row| event(row, 0)).collect()
        }
        .boxed()
    }

    fn read_all<'a>(
        &'a self,
        after: Position,
        filter: &'a EventFilter,
        limit: NonZeroU32,
    ) -> BoxFuture<'a, Result<LogPage, StoreError>> {
        self.page(after, filter, i64::from(limit.get())).boxed()
    }

    fn head(&self) -> BoxFuture<'_, Result<Position, StoreError>> {
        async move {
            let query = sqlx::query_scalar(HEAD).bind(self.store_id);
            let head: Option<i64> = query.fetch_optional(&self.pool).await.map_err(store_error)?;
            head.map(Position::from_i64).ok_or_else(replaced)
        }
        .boxed()
    }

    fn stream<'a>(&'a self, id: &'a AggregateId) -> BoxFuture<'a, Result<Option<StreamSummary>, StoreError>> {
        async move {
            let row = sqlx::query(STREAM).bind(id.as_str()).fetch_optional(&self.pool).await.map_err(store_error)?;
            row.as_ref().map(stream).transpose()
        }
        .boxed()
    }

    fn find_streams<'a>(
        &'a self,
        ids: &'a [AggregateId],
    ) -> BoxFuture<'a, Result<Vec<Option<StreamSummary>>, StoreError>> {
        async move {
            let names: Vec<&str> = ids.iter().map(AggregateId::as_str).collect();
            let rows = sqlx::query(STREAMS_BY_ID).bind(names).fetch_all(&self.pool).await.map_err(store_error)?;
            Ok(in_order(rows.iter().map(stream).collect::<Result<_, _>>()?, ids))
        }
        .boxed()
    }

    fn list_streams<'a>(
        &'a self,
        aggregate_type: Option<&'a AggregateType>,
        after: Option<&'a AggregateId>,
        limit: NonZeroU32,
    ) -> BoxFuture<'a, Result<Vec<StreamSummary>, StoreError>> {
        async move {
            let after = after.map_or("", AggregateId::as_str);
            let query = sqlx::query(if aggregate_type.is_some() { STREAMS_OF_TYPE } else { STREAMS });
            let mut query = query.bind(after).bind(i64::from(limit.get()));
            if let Some(kind) = aggregate_type {
                query = query.bind(kind.as_str());
            }
            query.fetch_all(&self.pool).await.map_err(store_error)?.iter().map(stream).collect()
        }
        .boxed()
    }

    fn find_events<'a>(&'a self, ids: &'a [EventId]) -> BoxFuture<'a, Result<Vec<RecordedEvent>, StoreError>> {
        async move {
            let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
            let rows = sqlx::query(EVENTS_BY_ID).bind(ids).fetch_all(&self.pool).await.map_err(store_error)?;
            rows.iter().map(|row| event(row, 0)).collect()
        }
        .boxed()
    }

    fn find_key<'a>(
        &'a self,
        principal: &'a str,
        key: &'a str,
    ) -> BoxFuture<'a, Result<Option<KeyRecord>, StoreError>> {
        async move {
            let query = sqlx::query(KEY).bind(principal).bind(key);
            let row = query.fetch_optional(&self.pool).await.map_err(store_error)?;
            row.map(|row| key_record(&row, 2, principal, key)).transpose()
        }
        .boxed()
    }

    fn sweep_keys(&self, before: DateTime<Utc>, limit: NonZeroU32) -> BoxFuture<'_, Result<u64, StoreError>> {
        async move {
            let query = sqlx::query(SWEEP).bind(before.max(DateTime::UNIX_EPOCH)).bind(i64::from(limit.get()));
            query.execute(&self.pool).await.map(|done| done.rows_affected()).map_err(store_error)
        }
        .boxed()
    }
}
