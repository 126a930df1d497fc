//! Operations: long work, as people follow it.

use std::num::NonZeroU32;

use bytes::Bytes;
use event_sourcing_actors::ports::{Operation, OperationStatus, OperationUpdate, StoreError};
use sqlx::{Error, Row, postgres::PgRow};
use uuid::Uuid;

use super::{
    super::projection_row::{signed, unsigned},
    PostgresStore,
    error::store_error,
};

macro_rules! select {
    ($which:literal) => {
        concat!(
            "SELECT id, kind, subject, status, done, total, result, error, created_at, updated_at FROM operations \
             WHERE partition = 0",
            $which
        )
    };
}
const BEGIN: &str = "INSERT INTO operations (partition, id, kind, subject, status, done, total, result, error, created_at, \
         updated_at) VALUES (0, $1, $2, $3, $4, $5, $6, $7, $8, $9, $10) \
     ON CONFLICT ON CONSTRAINT operations_pkey DO NOTHING";
const UPDATE: &str = "UPDATE operations SET status = $2, done = $3, total = $4, result = $5, error = $6, \
     updated_at = clock_timestamp() WHERE partition = 0 AND id = $1 AND status = 'running'";
const ONE: &str = select!(" AND id = $1");
const NEWEST: &str = select!(" AND ($1::uuid IS NULL OR id < $1) ORDER BY id DESC LIMIT $2");

/// How a status is stored.
fn status_text(status: OperationStatus) -> &'static str {
    match status {
        OperationStatus::Running => "running",
        OperationStatus::Succeeded => "succeeded",
        OperationStatus::Failed => "failed",
        OperationStatus::Cancelled => "cancelled",
    }
}

/// The same, back; `None` for what this program does not write.
fn status_of(text: &str) -> Option<OperationStatus> {
    use OperationStatus::{Cancelled, Failed, Running, Succeeded};
    [Running, Succeeded, Failed, Cancelled].into_iter().find(|status| status_text(*status) == text)
}

fn text(bytes: Option<&Bytes>) -> Option<String> {
    bytes.map(|bytes| String::from_utf8_lossy(bytes).replace('\0', "\u{fffd}"))
}

fn operation(row: &PgRow) -> Result<Operation, StoreError> {
    let columns = |row: &PgRow| -> Result<_, Error> {
        let status: String = row.try_get(3)?;
        let operation = Operation {
            id: row.try_get(0)?,
            kind: row.try_get(1)?,
            subject: row.try_get(2)?,
            status: OperationStatus::Running,
            done: unsigned(row.try_get(4)?),
            total: unsigned(row.try_get(5)?),
            result: row.try_get::<Option<String>, _>(6)?.map(Bytes::from),
            error: row.try_get(7)?,
            created_at: row.try_get(8)?,
            updated_at: row.try_get(9)?,
        };
        Ok((operation, status))
    };
    let (operation, status) = columns(row).map_err(store_error)?;
    let status = status_of(&status).ok_or_else(|| StoreError::Corrupt {
        reason: format!("operation {}: its status is {status:?}", operation.id),
    })?;
    Ok(Operation { status, ..operation })
}

impl PostgresStore {
    pub(super) async fn record_operation(&self, operation: Operation) -> Result<(), StoreError> {
        let query = sqlx::query(BEGIN).bind(operation.id).bind(&operation.kind).bind(&operation.subject);
        let query =
            query.bind(status_text(operation.status)).bind(signed(operation.done)).bind(signed(operation.total));
        let query = query.bind(text(operation.result.as_ref())).bind(operation.error.as_deref());
        let query = query.bind(operation.created_at).bind(operation.updated_at);
        query.execute(&self.pool).await.map(|_| ()).map_err(store_error)
    }

    pub(super) async fn note_operation(&self, update: OperationUpdate) -> Result<(), StoreError> {
        let query = sqlx::query(UPDATE).bind(update.id).bind(status_text(update.status));
        let query = query.bind(signed(update.done)).bind(signed(update.total));
        let query = query.bind(text(update.result.as_ref())).bind(update.error.as_deref());
        query.execute(&self.pool).await.map(|_| ()).map_err(store_error)
    }

    pub(super) async fn find_operation(&self, id: Uuid) -> Result<Option<Operation>, StoreError> {
        let row = sqlx::query(ONE).bind(id).fetch_optional(&self.pool).await.map_err(store_error)?;
        row.as_ref().map(operation).transpose()
    }

    pub(super) async fn list_operations(
        &self,
        before: Option<Uuid>,
        most: NonZeroU32,
    ) -> Result<Vec<Operation>, StoreError> {
        let query = sqlx::query(NEWEST).bind(before).bind(i64::from(most.get()));
        let rows = query.fetch_all(&self.pool).await.map_err(store_error)?;
        rows.iter().map(operation).collect()
    }
}
