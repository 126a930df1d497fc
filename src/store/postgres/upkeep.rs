//! What is measured, followed and removed.

use std::num::NonZeroU32;

use chrono::{DateTime, Utc};
use event_sourcing_actors::{
    Position,
    ports::{Generation, Revision, StoreError, Tally, VIEW_CHANGES_MAX, ViewChanges},
};
use sqlx::{
    Connection, Error, PgConnection, Postgres, Row,
    postgres::{PgArguments, PgRow},
    query::Query,
};

use super::{
    super::view_rows::{RawChange, Sum, TALLY_PAGE_ROWS, changes, storable},
    PostgresStore,
    error::store_error,
    views,
};

const MEASURING: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
const GENERATIONS: &str = "SELECT p.generation, p.checkpoint, (SELECT count(*) FROM parked_events e \
         WHERE e.partition = 0 AND e.generation = p.generation), \
     p.shadow_generation, p.shadow_checkpoint, (SELECT count(*) FROM parked_events e \
         WHERE e.partition = 0 AND e.generation = p.shadow_generation) \
     FROM projections p WHERE p.partition = 0 AND p.name = $1";
const CHANGES: &str = "SELECT s.place, p.checkpoint, p.revision, c.revision, c.previous_revision, c.touched \
     FROM unnest($1::text[], $2::bigint[]) WITH ORDINALITY s(name, since, place) \
     JOIN projections p ON p.partition = 0 AND p.name = s.name \
     LEFT JOIN LATERAL (SELECT * FROM view_changes v WHERE v.partition = 0 AND v.projection = s.name \
         AND v.revision > s.since ORDER BY v.revision LIMIT $3) c ON true ORDER BY s.place, c.revision";
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
/// Rows that somebody else is removing are left to them.
const REMOVE_ROWS: &str = "DELETE FROM view_rows WHERE (partition, generation, collection, grp, sort) IN ( \
     SELECT partition, generation, collection, grp, sort FROM view_rows WHERE partition = 0 AND generation = $1 \
     ORDER BY collection, grp, sort LIMIT $2 FOR UPDATE SKIP LOCKED)";
const REMOVE_PARKED: &str = "DELETE FROM parked_events WHERE (partition, generation, position) IN ( \
     SELECT partition, generation, position FROM parked_events WHERE partition = 0 AND generation = $1 \
     ORDER BY position LIMIT $2 FOR UPDATE SKIP LOCKED)";
const NAMES: &str = "SELECT name FROM projections WHERE partition = 0 ORDER BY name";
/// The oldest of one projection, as far as they are old enough; its newest stays.
const REMOVE_CHANGES: &str = "DELETE FROM view_changes WHERE (partition, projection, revision) IN ( \
     SELECT c.partition, c.projection, c.revision FROM (SELECT * FROM view_changes \
         WHERE partition = 0 AND projection = $1 ORDER BY revision LIMIT $2) c \
     WHERE c.recorded_at < $3 \
         AND c.revision < (SELECT p.revision FROM projections p WHERE p.partition = 0 AND p.name = $1))";

impl PostgresStore {
    pub(super) async fn measure(&self, projection: &str) -> Result<Option<(Tally, Tally)>, StoreError> {
        // Taken out of the pool: if this future is dropped half-way, so is the connection, and with it the transaction.
        let mut connection = self.pool.acquire().await.map_err(store_error)?.detach();
        sqlx::raw_sql(MEASURING).execute(&mut connection).await.map_err(store_error)?;
        let both = measure_both(&mut connection, projection).await;
        // Nothing was written; a connection that went without a word ends its transaction as well.
        let _ = connection.close().await;
        both
    }

    pub(super) async fn changes_since(&self, since: &[(String, Revision)]) -> Result<Vec<ViewChanges>, StoreError> {
        let limit = i64::try_from(VIEW_CHANGES_MAX).unwrap_or(i64::MAX).saturating_add(1);
        let names: Vec<_> = since.iter().map(|(name, _)| storable(name)).collect();
        let revisions: Vec<i64> = since.iter().map(|(_, revision)| revision.0.cast_signed()).collect();
        let query = sqlx::query(CHANGES).bind(names).bind(revisions).bind(limit);
        let rows = query.fetch_all(&self.pool).await.map_err(store_error)?;
        let read = |row: &PgRow| -> Result<((i64, i64, i64), Option<RawChange>), Error> {
            let after: Option<i64> = row.try_get(3)?;
            let change = after.map(|after| -> Result<_, Error> { Ok((after, row.try_get(4)?, row.try_get(5)?)) });
            Ok(((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?), change.transpose()?))
        };
        let rows: Vec<_> = rows.iter().map(read).collect::<Result<_, _>>().map_err(store_error)?;
        let mut all = Vec::with_capacity(since.len());
        for of_one in rows.chunk_by(|(before, _), (after, _)| before.0 == after.0) {
            let (place, position, revision) = of_one[0].0;
            let Some((name, since)) = usize::try_from(place - 1).ok().and_then(|place| since.get(place)) else {
                continue;
            };
            let stored: Vec<RawChange> = of_one.iter().filter_map(|(_, change)| change.clone()).collect();
            all.push(changes(name.clone(), position, revision, *since, &stored));
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
            let query = sqlx::query(REMOVE_CHANGES).bind(name).bind(left).bind(before);
            removed += self.remove(query).await?;
        }
        Ok(removed)
    }

    async fn remove(&self, query: Query<'_, Postgres, PgArguments>) -> Result<u64, StoreError> {
        Ok(query.execute(&self.pool).await.map_err(store_error)?.rows_affected())
    }
}

/// Both generations within one transaction, page by page.
async fn measure_both(connection: &mut PgConnection, projection: &str) -> Result<Option<(Tally, Tally)>, StoreError> {
    let row = sqlx::query(GENERATIONS).bind(projection).fetch_optional(&mut *connection).await.map_err(store_error)?;
    let Some(row) = row else { return Ok(None) };
    let sum = |first: usize| -> Result<Option<Sum>, Error> {
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
