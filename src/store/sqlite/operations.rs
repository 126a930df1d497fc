//! Operations: begun, told of, ended once.

use std::{num::NonZeroU32, time::Duration};

use chrono::{DateTime, Utc};
use event_sourcing_actors::ports::{Operation, OperationStatus, OperationUpdate, OperationsKept, StoreError};
use sqlx::{Error, Row, SqliteConnection, sqlite::SqliteRow};
use uuid::Uuid;

use super::{
    super::view_rows::{RawOperation, operation_columns, status_word, storable},
    SqliteStore,
    error::store_error,
    events::instant,
};

const BEGIN: &str = concat!(
    "INSERT INTO operations (partition, ",
    operation_columns!(),
    ") VALUES (0, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) ON CONFLICT DO NOTHING"
);
const UPDATE: &str = "UPDATE operations SET status = ?2, done = ?3, total = ?4, result = ?5, error = ?6, updated_at = ?7 \
     WHERE partition = 0 AND id = ?1 AND status = 'running'";
const END: &str =
    "UPDATE operations SET status = ?2, updated_at = ?3 WHERE partition = 0 AND id = ?1 AND status = 'running'";
const OPERATION: &str = concat!("SELECT ", operation_columns!(), " FROM operations WHERE partition = 0 AND id = ?1");
const OPERATIONS: &str = concat!(
    "SELECT ",
    operation_columns!(),
    " FROM operations WHERE partition = 0 AND id < ?1 ORDER BY id DESC LIMIT ?2"
);
const NEWEST: &str =
    concat!("SELECT ", operation_columns!(), " FROM operations WHERE partition = 0 ORDER BY id DESC LIMIT ?1");

const REMOVE: &str = "DELETE FROM operations WHERE partition = 0 AND id IN (SELECT id FROM operations \
     WHERE partition = 0 AND status <> 'running' AND (updated_at < ?1 OR id <= (SELECT id FROM operations \
         WHERE partition = 0 ORDER BY id DESC LIMIT 1 OFFSET ?2)) ORDER BY id LIMIT ?3)";
const END_SILENT: &str = "UPDATE operations SET status = 'failed', error = ?3, updated_at = ?4 \
     WHERE partition = 0 AND status = 'running' AND kind = ?1 AND updated_at <= ?2 RETURNING id";
/// The same without taking the writer's place, which it would every few seconds in vain.
const IS_SILENT: &str = "SELECT EXISTS (SELECT 1 FROM operations \
     WHERE partition = 0 AND status = 'running' AND kind = ?1 AND updated_at <= ?2)";
const IS_OLD: &str = "SELECT EXISTS (SELECT 1 FROM operations \
     WHERE partition = 0 AND status <> 'running' AND (updated_at < ?1 OR id <= (SELECT id FROM operations \
         WHERE partition = 0 ORDER BY id DESC LIMIT 1 OFFSET ?2)))";

fn operation(row: &SqliteRow) -> Result<Operation, StoreError> {
    let raw = || -> Result<RawOperation, Error> {
        Ok(RawOperation {
            id: row.try_get(0)?,
            kind: row.try_get(1)?,
            subject: row.try_get(2)?,
            status: row.try_get(3)?,
            done: row.try_get(4)?,
            total: row.try_get(5)?,
            result: row.try_get(6)?,
            error: row.try_get(7)?,
            created_at: instant(row, 8)?,
            updated_at: instant(row, 9)?,
        })
    };
    raw().map_err(store_error)?.checked()
}

pub(super) async fn begin(connection: &mut SqliteConnection, operation: &Operation) -> Result<(), StoreError> {
    let query = sqlx::query(BEGIN).bind(operation.id).bind(storable(&operation.kind));
    let query = query.bind(storable(&operation.subject)).bind(status_word(operation.status));
    let query = query.bind(operation.done.cast_signed()).bind(operation.total.cast_signed());
    let query = query.bind(operation.result.as_deref()).bind(operation.error.as_deref().map(storable));
    let query = query.bind(operation.created_at.timestamp_micros()).bind(operation.updated_at.timestamp_micros());
    query.execute(connection).await.map(|_| ()).map_err(store_error)
}

pub(super) async fn update(
    connection: &mut SqliteConnection,
    update: &OperationUpdate,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let query = sqlx::query(UPDATE).bind(update.id).bind(status_word(update.status));
    let query = query.bind(update.done.cast_signed()).bind(update.total.cast_signed());
    let query = query.bind(update.result.as_deref()).bind(update.error.as_deref().map(storable));
    query.bind(now.timestamp_micros()).execute(connection).await.map(|_| ()).map_err(store_error)
}

pub(super) async fn end(
    connection: &mut SqliteConnection,
    id: Uuid,
    status: OperationStatus,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let query = sqlx::query(END).bind(id).bind(status_word(status)).bind(now.timestamp_micros());
    query.execute(connection).await.map(|_| ()).map_err(store_error)
}

/// So long ago, as it is stored.
fn before(now: DateTime<Utc>, age: Duration) -> i64 {
    now.timestamp_micros().saturating_sub(i64::try_from(age.as_micros()).unwrap_or(i64::MAX))
}

impl SqliteStore {
    pub(super) async fn record_operation(&self, operation: Operation) -> Result<(), StoreError> {
        let mut writing = self.writer.begin(true).await?;
        begin(&mut writing.connection, &operation).await?;
        writing.commit().await
    }

    pub(super) async fn note_operation(&self, news: OperationUpdate) -> Result<(), StoreError> {
        let mut writing = self.writer.begin(true).await?;
        update(&mut writing.connection, &news, self.clock.now()).await?;
        writing.commit().await
    }

    pub(super) async fn end_silent_operations(
        &self,
        kind: &str,
        silence: Duration,
        reason: &str,
    ) -> Result<Vec<Uuid>, StoreError> {
        let now = self.clock.now();
        let since = before(now, silence);
        let is_there = sqlx::query_scalar(IS_SILENT).bind(kind).bind(since).fetch_one(&self.pool);
        if !is_there.await.map_err(store_error)? {
            return Ok(Vec::new());
        }
        let mut writing = self.writer.begin(true).await?;
        let query = sqlx::query_scalar(END_SILENT).bind(kind).bind(since).bind(storable(reason));
        let query = query.bind(now.timestamp_micros());
        let ended = query.fetch_all(&mut writing.connection).await.map_err(store_error)?;
        writing.commit().await?;
        Ok(ended)
    }

    pub(super) async fn remove_operations(&self, kept: OperationsKept, limit: NonZeroU32) -> Result<u64, StoreError> {
        let (since, newest) = (before(self.clock.now(), kept.age), i64::from(kept.newest_max));
        let is_there = sqlx::query_scalar(IS_OLD).bind(since).bind(newest).fetch_one(&self.pool);
        if !is_there.await.map_err(store_error)? {
            return Ok(0);
        }
        let mut writing = self.writer.begin(false).await?;
        let query = sqlx::query(REMOVE).bind(since).bind(newest).bind(i64::from(limit.get()));
        let done = query.execute(&mut writing.connection).await.map_err(store_error)?;
        writing.commit().await?;
        Ok(done.rows_affected())
    }

    pub(super) async fn one_operation(&self, id: Uuid) -> Result<Option<Operation>, StoreError> {
        let row = sqlx::query(OPERATION).bind(id).fetch_optional(&self.pool).await.map_err(store_error)?;
        row.as_ref().map(operation).transpose()
    }

    pub(super) async fn newest_operations(
        &self,
        before: Option<Uuid>,
        limit: NonZeroU32,
    ) -> Result<Vec<Operation>, StoreError> {
        let query = match before {
            Some(before) => sqlx::query(OPERATIONS).bind(before),
            None => sqlx::query(NEWEST),
        };
        let rows = query.bind(i64::from(limit.get())).fetch_all(&self.pool).await.map_err(store_error)?;
        rows.iter().map(operation).collect()
    }
}
