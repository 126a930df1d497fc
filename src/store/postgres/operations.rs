//! Operations: begun, told of, ended once.

use std::{num::NonZeroU32, time::Duration};

use event_sourcing_actors::ports::{Operation, OperationUpdate, OperationsKept, StoreError};
use sqlx::{Error, Row, postgres::PgRow};
use uuid::Uuid;

use super::{
    super::view_rows::{RawOperation, operation_columns, status_word, storable},
    PostgresStore,
    error::store_error,
};

const BEGIN: &str = concat!(
    "INSERT INTO operations (partition, ",
    operation_columns!(),
    ") VALUES (0, $1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT DO NOTHING"
);
const UPDATE: &str = "UPDATE operations SET status = $2, done = $3, total = $4, result = $5, error = $6, updated_at = clock_timestamp() \
     WHERE partition = 0 AND id = $1 AND status = 'running'";
const OPERATION: &str = concat!("SELECT ", operation_columns!(), " FROM operations WHERE partition = 0 AND id = $1");
const OPERATIONS: &str = concat!(
    "SELECT ",
    operation_columns!(),
    " FROM operations WHERE partition = 0 AND id < $1 ORDER BY id DESC LIMIT $2"
);
const NEWEST: &str =
    concat!("SELECT ", operation_columns!(), " FROM operations WHERE partition = 0 ORDER BY id DESC LIMIT $1");

const REMOVE: &str = "DELETE FROM operations WHERE partition = 0 AND id IN (SELECT id FROM operations \
     WHERE partition = 0 AND status <> 'running' AND (updated_at < clock_timestamp() - make_interval(secs => $1) \
         OR id <= (SELECT id FROM operations WHERE partition = 0 ORDER BY id DESC LIMIT 1 OFFSET $2)) \
     ORDER BY id LIMIT $3)";
const END_SILENT: &str = "UPDATE operations SET status = 'failed', error = $3, updated_at = clock_timestamp() \
     WHERE partition = 0 AND status = 'running' AND kind = $1 \
         AND updated_at <= clock_timestamp() - make_interval(secs => $2) RETURNING id";

fn operation(row: &PgRow) -> Result<Operation, StoreError> {
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
            created_at: row.try_get(8)?,
            updated_at: row.try_get(9)?,
        })
    };
    raw().map_err(store_error)?.checked()
}

impl PostgresStore {
    pub(super) async fn record_operation(&self, operation: Operation) -> Result<(), StoreError> {
        let query = sqlx::query(BEGIN).bind(operation.id).bind(storable(&operation.kind));
        let query = query.bind(storable(&operation.subject)).bind(status_word(operation.status));
        let query = query.bind(operation.done.cast_signed()).bind(operation.total.cast_signed());
        let query = query.bind(operation.result.as_deref()).bind(operation.error.as_deref().map(storable));
        let query = query.bind(operation.created_at).bind(operation.updated_at);
        query.execute(&self.pool).await.map(|_| ()).map_err(store_error)
    }

    pub(super) async fn note_operation(&self, news: OperationUpdate) -> Result<(), StoreError> {
        let query = sqlx::query(UPDATE).bind(news.id).bind(status_word(news.status));
        let query = query.bind(news.done.cast_signed()).bind(news.total.cast_signed());
        let query = query.bind(news.result.as_deref()).bind(news.error.as_deref().map(storable));
        query.execute(&self.pool).await.map(|_| ()).map_err(store_error)
    }

    pub(super) async fn end_silent_operations(
        &self,
        kind: &str,
        silence: Duration,
        reason: &str,
    ) -> Result<Vec<Uuid>, StoreError> {
        let query = sqlx::query_scalar(END_SILENT).bind(kind).bind(silence.as_secs_f64()).bind(storable(reason));
        query.fetch_all(&self.pool).await.map_err(store_error)
    }

    pub(super) async fn remove_operations(&self, kept: OperationsKept, limit: NonZeroU32) -> Result<u64, StoreError> {
        let query = sqlx::query(REMOVE).bind(kept.age.as_secs_f64()).bind(i64::from(kept.newest_max));
        let done = query.bind(i64::from(limit.get())).execute(&self.pool).await.map_err(store_error)?;
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
