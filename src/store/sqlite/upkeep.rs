//! What is measured, followed and removed.

use std::num::NonZeroU32;

use chrono::{DateTime, Utc};
use event_sourcing_actors::{
    Position,
    ports::{Generation, Revision, StoreError, Tally, VIEW_CHANGES_MAX, ViewChanges},
};
use sqlx::{Connection, Row, SqliteConnection};

use super::{
    super::view_rows::{RawChange, Sum, TALLY_PAGE_ROWS, changes},
    SqliteStore,
    error::store_error,
    views,
};

const GENERATIONS: &str = "SELECT p.generation, p.checkpoint, (SELECT count(*) FROM parked_events e \
         WHERE e.partition = 0 AND e.generation = p.generation), \
     p.shadow_generation, p.shadow_checkpoint, (SELECT count(*) FROM parked_events e \
         WHERE e.partition = 0 AND e.generation = p.shadow_generation) \
     FROM projections p WHERE p.partition = 0 AND p.name = ?1";
const CHANGES: &str = "SELECT p.checkpoint, p.revision, c.revision, c.previous_revision, c.touched FROM projections p \
     LEFT JOIN view_changes c ON c.partition = 0 AND c.projection = p.name AND c.revision > ?2 \
     WHERE p.partition = 0 AND p.name = ?1 ORDER BY c.revision LIMIT ?3";
/// From generation to generation by index, however many rows each has; then those that no projection names.
macro_rules! unreached {
    ($table:literal) => {
        concat!(
            "WITH RECURSIVE found (generation) AS ( \
                 SELECT (SELECT r.generation FROM ",
            $table,
            " r WHERE r.partition = 0 ORDER BY r.generation LIMIT 1) \
                 UNION ALL \
                 SELECT (SELECT r.generation FROM ",
            $table,
            " r WHERE r.partition = 0 AND r.generation > f.generation ORDER BY r.generation LIMIT 1) \
                     FROM found f WHERE f.generation IS NOT NULL) \
             SELECT f.generation FROM found f WHERE f.generation IS NOT NULL AND NOT EXISTS ( \
                 SELECT 1 FROM projections p WHERE p.partition = 0 AND (p.generation = f.generation \
                     OR p.shadow_generation = f.generation OR p.previous_generation = f.generation))"
        )
    };
}
const UNREACHED_ROWS: &str = unreached!("view_rows");
const UNREACHED_PARKED: &str = unreached!("parked_events");
const REMOVE_ROWS: &str = "DELETE FROM view_rows WHERE (partition, generation, collection, grp, sort) IN ( \
     SELECT partition, generation, collection, grp, sort FROM view_rows WHERE partition = 0 AND generation = ?1 LIMIT ?2)";
const REMOVE_PARKED: &str = "DELETE FROM parked_events WHERE (partition, generation, position) IN ( \
     SELECT partition, generation, position FROM parked_events WHERE partition = 0 AND generation = ?1 LIMIT ?2)";
const NAMES: &str = "SELECT name FROM projections WHERE partition = 0 ORDER BY name";
/// The oldest of one projection, as far as they are old enough; its newest stays.
const REMOVE_CHANGES: &str = "DELETE FROM view_changes WHERE (partition, projection, revision) IN ( \
     SELECT c.partition, c.projection, c.revision FROM (SELECT * FROM view_changes \
         WHERE partition = 0 AND projection = ?1 ORDER BY revision LIMIT ?2) c \
     WHERE c.recorded_at < ?3 \
         AND c.revision < (SELECT p.revision FROM projections p WHERE p.partition = 0 AND p.name = ?1))";

impl SqliteStore {
    pub(super) async fn measure(&self, projection: &str) -> Result<Option<(Tally, Tally)>, StoreError> {
        // Taken out of the pool: if this future is dropped half-way, so is the connection, and with it the transaction.
        let mut connection = self.pool.acquire().await.map_err(store_error)?.detach();
        sqlx::raw_sql("BEGIN").execute(&mut connection).await.map_err(store_error)?;
        let both = measure_both(&mut connection, projection).await;
        // Nothing was written; a connection that went without a word ends its transaction as well.
        let _ = connection.close().await;
        both
    }

    pub(super) async fn changes_since(&self, since: &[(String, Revision)]) -> Result<Vec<ViewChanges>, StoreError> {
        let mut all = Vec::with_capacity(since.len());
        for (projection, since) in since {
            let limit = i64::try_from(VIEW_CHANGES_MAX).unwrap_or(i64::MAX).saturating_add(1);
            let query = sqlx::query(CHANGES).bind(projection).bind(since.0.cast_signed()).bind(limit);
            let rows = query.fetch_all(&self.pool).await.map_err(store_error)?;
            let Some(first) = rows.first() else { continue };
            let (position, revision) = (first.try_get(0).map_err(store_error)?, first.try_get(1).map_err(store_error)?);
            let mut stored: Vec<RawChange> = Vec::with_capacity(rows.len());
            for row in &rows {
                let Some(after) = row.try_get(2).map_err(store_error)? else { continue };
                stored.push((after, row.try_get(3).map_err(store_error)?, row.try_get(4).map_err(store_error)?));
            }
            all.push(changes(projection.clone(), position, revision, *since, &stored));
        }
        Ok(all)
    }

    pub(super) async fn remove_unreached(&self, before: DateTime<Utc>, limit: NonZeroU32) -> Result<u64, StoreError> {
        let limit = u64::from(limit.get());
        let mut removed = 0;
        // Looked up without a lock: what nobody reaches, nobody will ever reach again.
        for (look_up, remove) in [(UNREACHED_ROWS, REMOVE_ROWS), (UNREACHED_PARKED, REMOVE_PARKED)] {
            let generations: Vec<i64> = sqlx::query_scalar(look_up).fetch_all(&self.pool).await.map_err(store_error)?;
            for generation in generations {
                let left = (limit - removed).cast_signed();
                removed += self.remove(sqlx::query(remove).bind(generation).bind(left)).await?;
            }
        }
        let names: Vec<String> = sqlx::query_scalar(NAMES).fetch_all(&self.pool).await.map_err(store_error)?;
        for name in names {
            let left = (limit - removed).cast_signed();
            let query = sqlx::query(REMOVE_CHANGES).bind(name).bind(left).bind(before.timestamp_micros());
            removed += self.remove(query).await?;
        }
        Ok(removed)
    }

    async fn remove(
        &self,
        query: sqlx::query::Query<'_, sqlx::Sqlite, sqlx::sqlite::SqliteArguments>,
    ) -> Result<u64, StoreError> {
        let mut writing = self.writer.begin(false).await?;
        let done = query.execute(&mut writing.connection).await.map_err(store_error)?;
        writing.commit().await?;
        Ok(done.rows_affected())
    }
}

/// Both generations within one transaction, page by page.
async fn measure_both(
    connection: &mut SqliteConnection,
    projection: &str,
) -> Result<Option<(Tally, Tally)>, StoreError> {
    let row = sqlx::query(GENERATIONS).bind(projection).fetch_optional(&mut *connection).await.map_err(store_error)?;
    let Some(row) = row else { return Ok(None) };
    let sum = |first: usize| -> Result<Option<Sum>, sqlx::Error> {
        let Some(generation) = row.try_get::<Option<i64>, _>(first)? else { return Ok(None) };
        let position = Position::from_i64(row.try_get(first + 1)?);
        Ok(Some(Sum::of(Generation(generation.cast_unsigned()), position, row.try_get(first + 2)?)))
    };
    let sums = (sum(0).map_err(store_error)?, sum(3).map_err(store_error)?);
    let (Some(mut served), Some(mut shadow)) = sums else { return Ok(None) };
    for sum in [&mut served, &mut shadow] {
        loop {
            let page = views::dump(connection, sum.tally.generation, sum.last.as_ref(), TALLY_PAGE_ROWS).await?;
            if !sum.add(page) {
                break;
            }
        }
    }
    Ok(Some((served.tally, shadow.tally)))
}
