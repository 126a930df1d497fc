//! Parked events, as readers see them.

use std::num::NonZeroU32;

use chrono::{DateTime, Utc};
use event_sourcing_actors::{
    Position,
    ports::{Generation, ParkedEvent, ParkedFilter, StoreError},
};
use sqlx::{Error, Row, postgres::PgRow};
use uuid::Uuid;

use super::{
    super::view_rows::{RawParked, parked_columns, storable},
    PostgresStore,
    error::store_error,
};

macro_rules! select {
    ($condition:literal) => {
        concat!(
            "SELECT ",
            parked_columns!(),
            " FROM parked_events WHERE partition = 0 AND generation = $1 AND position > $2",
            $condition,
            " ORDER BY position LIMIT $3"
        )
    };
}

const ALL: &str = select!("");
const WAITING: &str = select!(" AND skipped_at IS NULL");
const OF_KEY: &str = select!(" AND skipped_at IS NULL AND key = $4");
const REQUESTED: &str = select!(" AND request IS NOT NULL");
/// From key to key by index, however many events wait behind each.
const KEYS: &str = "WITH RECURSIVE found (key) AS ( \
         SELECT (SELECT e.key FROM parked_events e WHERE e.partition = 0 AND e.generation = $1 \
             AND e.skipped_at IS NULL ORDER BY e.key LIMIT 1) \
         UNION ALL \
         SELECT (SELECT e.key FROM parked_events e WHERE e.partition = 0 AND e.generation = $1 \
             AND e.skipped_at IS NULL AND e.key > f.key ORDER BY e.key LIMIT 1) \
             FROM found f WHERE f.key IS NOT NULL) \
     SELECT key FROM found WHERE key IS NOT NULL LIMIT $2";

fn parked(row: &PgRow) -> Result<ParkedEvent, StoreError> {
    let raw = || -> Result<RawParked, Error> {
        let (request, skipped_at): (Option<String>, Option<DateTime<Utc>>) = (row.try_get(7)?, row.try_get(9)?);
        let request = request.map(|request| -> Result<(String, Uuid), Error> { Ok((request, row.try_get(8)?)) });
        let skipped = skipped_at.map(|at| -> Result<_, Error> { Ok((at, row.try_get(10)?)) });
        Ok(RawParked {
            position: row.try_get(0)?,
            key: row.try_get(1)?,
            aggregate_id: row.try_get(2)?,
            event_type: row.try_get(3)?,
            error: row.try_get(4)?,
            attempts: row.try_get(5)?,
            parked_at: row.try_get(6)?,
            request: request.transpose()?,
            skipped: skipped.transpose()?,
        })
    };
    raw().map_err(store_error)?.checked()
}

impl PostgresStore {
    pub(super) async fn parked_events(
        &self,
        generation: Generation,
        which: ParkedFilter<'_>,
        after: Position,
        limit: NonZeroU32,
    ) -> Result<Vec<ParkedEvent>, StoreError> {
        let query = sqlx::query(match which {
            ParkedFilter::All => ALL,
            ParkedFilter::Waiting => WAITING,
            ParkedFilter::Key(_) => OF_KEY,
            ParkedFilter::Requested => REQUESTED,
        });
        let query = query.bind(generation.0.cast_signed()).bind(after.as_i64()).bind(i64::from(limit.get()));
        let query = if let ParkedFilter::Key(key) = which { query.bind(storable(key)) } else { query };
        query.fetch_all(&self.pool).await.map_err(store_error)?.iter().map(parked).collect()
    }

    pub(super) async fn waiting_keys(
        &self,
        generation: Generation,
        limit: NonZeroU32,
    ) -> Result<Vec<String>, StoreError> {
        let query = sqlx::query_scalar(KEYS).bind(generation.0.cast_signed()).bind(i64::from(limit.get()));
        query.fetch_all(&self.pool).await.map_err(store_error)
    }
}
