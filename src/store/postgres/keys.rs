//! Keys of subjects over PostgreSQL, and what an erasure removes beside them.

use std::time::Duration;

use chrono::{DateTime, Utc};
use event_sourcing_actors::{
    AggregateId,
    master_keys::MasterKeys,
    ports::{
        ERASED_WORDS, KeyCensus, Scrubber, StoreError, StoredKey, StoredKeyState, SubjectKeys, Tombstone, WrappedKey,
    },
};
use futures_util::{FutureExt, future::BoxFuture};
use sqlx::{Connection, Error, PgConnection, PgExecutor, Row, postgres::PgRow};
use uuid::Uuid;

use super::{
    super::{
        keys::{RawKey, census, in_order, kept_master, standing, tombstones},
        verdicts::replaced,
    },
    PostgresStore,
    error::store_error,
};

macro_rules! select {
    ($condition:literal) => {
        concat!(
            "SELECT subject, key_id, master, wrapped, destroyed_at FROM subject_keys WHERE partition = 0 AND ",
            $condition
        )
    };
}

const FIND: &str = select!("subject = ANY($1)");
const FOREIGN: &str = select!("master IS NOT NULL AND master <> $1 ORDER BY master, subject LIMIT $2");
/// Not in another log than the one that was opened, which another master key may be of. In order of subject, so that two that make the same keys do not wait for each other.
const CREATE: &str = "INSERT INTO subject_keys (partition, subject, key_id, master, wrapped, created_at) \
     SELECT 0, n.subject, n.key_id, n.master, n.wrapped, clock_timestamp() \
     FROM unnest($1::text[], $2::uuid[], $3::text[], $4::bytea[]) n(subject, key_id, master, wrapped) \
     WHERE EXISTS (SELECT FROM log_head l WHERE l.partition = 0 AND l.store_id = $5) \
     ORDER BY n.subject COLLATE \"C\" ON CONFLICT DO NOTHING";
/// Nobody of another log than the one that was opened, who may have the same name.
const DESTROY: &str = "INSERT INTO subject_keys (partition, subject, created_at, destroyed_at) \
     SELECT 0, $1, clock_timestamp(), clock_timestamp() FROM log_head l WHERE l.partition = 0 AND l.store_id = $2 \
     ON CONFLICT (partition, subject) DO UPDATE \
     SET key_id = NULL, master = NULL, wrapped = NULL, destroyed_at = excluded.destroyed_at \
     WHERE subject_keys.destroyed_at IS NULL";
/// The same of many, each with its instant, in order of subject.
const BURY: &str = "INSERT INTO subject_keys (partition, subject, created_at, destroyed_at) \
     SELECT 0, n.subject, n.at, n.at FROM unnest($1::text[], $2::timestamptz[]) n(subject, at) \
     WHERE EXISTS (SELECT FROM log_head l WHERE l.partition = 0 AND l.store_id = $3) \
     ORDER BY n.subject COLLATE \"C\" ON CONFLICT (partition, subject) DO UPDATE \
     SET key_id = NULL, master = NULL, wrapped = NULL, destroyed_at = excluded.destroyed_at \
     WHERE subject_keys.destroyed_at IS NULL";
const CENSUS: &str = "SELECT master, count(*) FROM subject_keys WHERE partition = 0 GROUP BY master \
     ORDER BY master COLLATE \"C\"";
const LIST: &str = select!("subject > $1 ORDER BY subject LIMIT $2");
const DESTROYED_AT: &str = "SELECT destroyed_at FROM subject_keys WHERE partition = 0 AND subject = $1";
const DESTROYED: &str =
    select!("destroyed_at IS NOT NULL AND (destroyed_at, subject) > ($1, $2) ORDER BY destroyed_at, subject LIMIT $3");
const REWRAP: &str = "UPDATE subject_keys k SET master = n.master, wrapped = n.wrapped \
     FROM unnest($1::text[], $2::uuid[], $3::text[], $4::bytea[]) n(subject, key_id, master, wrapped) \
     WHERE k.partition = 0 AND k.subject = n.subject AND k.key_id = n.key_id AND k.destroyed_at IS NULL \
         AND EXISTS (SELECT FROM log_head l WHERE l.partition = 0 AND l.store_id = $5)";
const APPOINT: &str = "INSERT INTO subject_key_master (partition, master) VALUES (0, $1) ON CONFLICT (partition) \
     DO UPDATE SET master = excluded.master WHERE subject_key_master.master = ANY($2)";
const KEEP: &str =
    "INSERT INTO subject_key_master (partition, master, secret) VALUES (0, $1, $2) ON CONFLICT DO NOTHING";
const KEPT: &str = "SELECT secret FROM subject_key_master WHERE partition = 0";
const APPOINTED: &str = "SELECT master FROM subject_key_master WHERE partition = 0";
const FORGET: &str = "UPDATE parked_events SET error = $2 WHERE partition = 0 AND aggregate_id = $1 AND error <> $2";
/// Everything from which an erasure removes something: the name, how to measure it, how to write it anew, and how to make
/// its removed rows' room free. `VACUUM` alone leaves their bytes in the free space of pages; `ANALYZE` replaces samples of keys.
macro_rules! swept {
    ($($table:literal),*) => {
        [$(($table, concat!("SELECT pg_table_size('", $table, "')"), concat!("VACUUM (FULL, ANALYZE) ", $table), concat!("VACUUM (ANALYZE) ", $table))),*]
    };
}
const SWEPT: [(&str, &str, &str, &str); 5] =
    swept!("subject_keys", "snapshots", "view_rows", "view_changes", "parked_events");

/// A larger table is not written anew: nobody can read it meanwhile.
const REWRITE_BYTES_MAX: i64 = 64 << 20;
/// Whoever comes while a table waits to be written anew waits too.
const BOUNDS: &str = "SET statement_timeout = 0; SET lock_timeout = '500ms'";
/// Attempts at a table that others use.
const ATTEMPTS: u32 = 5;
const PAUSE: Duration = Duration::from_secs(1);
/// PostgreSQL's word for a lock that was not had in time.
const LOCK_NOT_AVAILABLE: &str = "55P03";

fn key(row: &PgRow) -> Result<StoredKey, StoreError> {
    let raw = || -> Result<RawKey, Error> {
        Ok(RawKey {
            subject: row.try_get(0)?,
            key_id: row.try_get(1)?,
            master: row.try_get(2)?,
            wrapped: row.try_get(3)?,
            destroyed_at: row.try_get(4)?,
        })
    };
    raw().map_err(store_error)?.checked()
}

/// One statement over keys in columns.
async fn with_keys<'a>(
    session: impl PgExecutor<'_>,
    statement: &'static str,
    store_id: Uuid,
    keys: impl Iterator<Item = (&'a AggregateId, &'a WrappedKey)> + Clone,
) -> Result<(), StoreError> {
    let subjects: Vec<&str> = keys.clone().map(|(subject, _)| subject.as_str()).collect();
    let ids: Vec<_> = keys.clone().map(|(_, key)| key.id).collect();
    let masters: Vec<&str> = keys.clone().map(|(_, key)| key.master.as_str()).collect();
    let wrapped: Vec<&[u8]> = keys.map(|(_, key)| &key.wrapped[..]).collect();
    let query = sqlx::query(statement).bind(subjects).bind(ids).bind(masters).bind(wrapped).bind(store_id);
    query.execute(session).await.map(|_| ()).map_err(store_error)
}

/// Destroys keys with their own instants, if this is the log's id.
pub(super) async fn bury<'a>(
    session: impl PgExecutor<'_>,
    store_id: Uuid,
    erased: impl Iterator<Item = (&'a AggregateId, DateTime<Utc>)>,
) -> Result<(), StoreError> {
    let (subjects, instants): (Vec<&str>, Vec<_>) = erased.map(|(subject, at)| (subject.as_str(), at)).unzip();
    let query = sqlx::query(BURY).bind(subjects).bind(instants).bind(store_id);
    query.execute(session).await.map(|_| ()).map_err(store_error)
}

impl SubjectKeys for PostgresStore {
    fn find<'a>(&'a self, subjects: &'a [AggregateId]) -> BoxFuture<'a, Result<Vec<Option<StoredKey>>, StoreError>> {
        async move {
            let names: Vec<&str> = subjects.iter().map(AggregateId::as_str).collect();
            let rows = sqlx::query(FIND).bind(names).fetch_all(&self.pool).await.map_err(store_error)?;
            Ok(in_order(rows.iter().map(key).collect::<Result<_, _>>()?, subjects))
        }
        .boxed()
    }

    fn create<'a>(
        &'a self,
        keys: &'a [(AggregateId, WrappedKey)],
    ) -> BoxFuture<'a, Result<Vec<StoredKey>, StoreError>> {
        async move {
            with_keys(&self.pool, CREATE, self.store_id, keys.iter().map(|(subject, key)| (subject, key))).await?;
            let subjects: Vec<AggregateId> = keys.iter().map(|(subject, _)| subject.clone()).collect();
            standing(SubjectKeys::find(self, &subjects).await?)
        }
        .boxed()
    }

    fn destroy<'a>(&'a self, subject: &'a AggregateId) -> BoxFuture<'a, Result<DateTime<Utc>, StoreError>> {
        async move {
            let query = sqlx::query(DESTROY).bind(subject.as_str()).bind(self.store_id);
            query.execute(&self.pool).await.map_err(store_error)?;
            let query = sqlx::query_scalar(DESTROYED_AT).bind(subject.as_str());
            query.fetch_optional(&self.pool).await.map_err(store_error)?.flatten().ok_or_else(replaced)
        }
        .boxed()
    }

    fn destroyed<'a>(&'a self, after: &'a Tombstone, limit: u32) -> BoxFuture<'a, Result<Vec<Tombstone>, StoreError>> {
        async move {
            let query = sqlx::query(DESTROYED).bind(after.destroyed_at).bind(after.subject.as_str());
            let rows = query.bind(i64::from(limit)).fetch_all(&self.pool).await.map_err(store_error)?;
            tombstones(rows.iter().map(key))
        }
        .boxed()
    }

    fn foreign<'a>(&'a self, master: &'a str, limit: u32) -> BoxFuture<'a, Result<Vec<StoredKey>, StoreError>> {
        async move {
            let query = sqlx::query(FOREIGN).bind(master).bind(i64::from(limit));
            let rows = query.fetch_all(&self.pool).await.map_err(store_error)?;
            rows.iter().map(key).collect()
        }
        .boxed()
    }

    fn rewrap<'a>(&'a self, keys: &'a [(AggregateId, WrappedKey)]) -> BoxFuture<'a, Result<(), StoreError>> {
        with_keys(&self.pool, REWRAP, self.store_id, keys.iter().map(|(subject, key)| (subject, key))).boxed()
    }

    fn census(&self) -> BoxFuture<'_, Result<KeyCensus, StoreError>> {
        async move {
            let read = async || {
                let current = sqlx::query_scalar(APPOINTED).fetch_optional(&self.pool).await?;
                let rows: Vec<(Option<String>, i64)> = sqlx::query_as(CENSUS).fetch_all(&self.pool).await?;
                Ok(census(current, rows))
            };
            read().await.map_err(store_error)
        }
        .boxed()
    }

    fn list<'a>(
        &'a self,
        after: Option<&'a AggregateId>,
        limit: u32,
    ) -> BoxFuture<'a, Result<Vec<StoredKey>, StoreError>> {
        async move {
            let query = sqlx::query(LIST).bind(after.map_or("", AggregateId::as_str)).bind(i64::from(limit));
            query.fetch_all(&self.pool).await.map_err(store_error)?.iter().map(key).collect()
        }
        .boxed()
    }

    fn put_back<'a>(&'a self, keys: &'a [StoredKey]) -> BoxFuture<'a, Result<Vec<StoredKey>, StoreError>> {
        async move {
            let wrapped = keys.iter().filter_map(|key| match &key.state {
                StoredKeyState::Wrapped(wrapped) => Some((&key.subject, wrapped)),
                StoredKeyState::Destroyed(_) => None,
            });
            let erased = keys.iter().filter_map(|key| match key.state {
                StoredKeyState::Destroyed(at) => Some((&key.subject, at)),
                StoredKeyState::Wrapped(_) => None,
            });
            let mut session = self.pool.acquire().await.map_err(store_error)?;
            let mut transaction = session.begin().await.map_err(store_error)?;
            with_keys(&mut *transaction, CREATE, self.store_id, wrapped).await?;
            bury(&mut *transaction, self.store_id, erased).await?;
            transaction.commit().await.map_err(store_error)?;
            let subjects: Vec<AggregateId> = keys.iter().map(|key| key.subject.clone()).collect();
            standing(SubjectKeys::find(self, &subjects).await?)
        }
        .boxed()
    }

    fn appoint<'a>(&'a self, from: &'a [String], to: &'a str) -> BoxFuture<'a, Result<String, StoreError>> {
        async move {
            // A store that has one is not written to.
            let standing: Option<String> =
                sqlx::query_scalar(APPOINTED).fetch_optional(&self.pool).await.map_err(store_error)?;
            if let Some(standing) = standing.filter(|standing| standing == to || !from.contains(standing)) {
                return Ok(standing);
            }
            sqlx::query(APPOINT).bind(to).bind(from).execute(&self.pool).await.map_err(store_error)?;
            sqlx::query_scalar(APPOINTED).fetch_one(&self.pool).await.map_err(store_error)
        }
        .boxed()
    }

    fn kept_master<'a>(
        &'a self,
        offer: Option<&'a MasterKeys>,
    ) -> BoxFuture<'a, Result<Option<MasterKeys>, StoreError>> {
        async move {
            if let Some(offer) = offer {
                sqlx::query(KEEP)
                    .bind(offer.current())
                    .bind(offer.to_text().as_str())
                    .execute(&self.pool)
                    .await
                    .map_err(store_error)?;
            }
            let kept: Option<Option<String>> =
                sqlx::query_scalar(KEPT).fetch_optional(&self.pool).await.map_err(store_error)?;
            kept_master(kept.flatten())
        }
        .boxed()
    }
}

impl Scrubber for PostgresStore {
    fn forget<'a>(&'a self, stream: &'a AggregateId) -> BoxFuture<'a, Result<(), StoreError>> {
        async move {
            let query = sqlx::query(FORGET).bind(stream.as_str()).bind(ERASED_WORDS);
            query.execute(&self.pool).await.map(|_| ()).map_err(store_error)
        }
        .boxed()
    }

    fn scrub(&self) -> BoxFuture<'_, Result<String, StoreError>> {
        async move {
            // Taken out of the pool: it may take longer than a read may.
            let mut connection = self.pool.acquire().await.map_err(store_error)?.detach();
            let left = overwrite(&mut connection).await;
            let _ = connection.close().await;
            Ok(words(&left.map_err(store_error)?))
        }
        .boxed()
    }
}

/// Writes the tables anew; returns those that were too large, or in use all the time, and are only vacuumed.
async fn overwrite(connection: &mut PgConnection) -> Result<Vec<&'static str>, Error> {
    sqlx::raw_sql(BOUNDS).execute(&mut *connection).await?;
    let mut left = Vec::new();
    for (table, size, rewrite, vacuum) in SWEPT {
        let bytes: i64 = sqlx::query_scalar(size).fetch_one(&mut *connection).await?;
        if bytes > REWRITE_BYTES_MAX || !rewritten(connection, rewrite).await? {
            sqlx::raw_sql(vacuum).execute(&mut *connection).await?;
            left.push(table);
        }
    }
    Ok(left)
}

/// Whether a table could be written anew.
async fn rewritten(connection: &mut PgConnection, rewrite: &'static str) -> Result<bool, Error> {
    for _ in 0..ATTEMPTS {
        match sqlx::raw_sql(rewrite).execute(&mut *connection).await {
            Ok(_) => return Ok(true),
            Err(Error::Database(error)) if error.code().as_deref() == Some(LOCK_NOT_AVAILABLE) => {
                tokio::time::sleep(PAUSE).await;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(false)
}

fn words(left: &[&str]) -> String {
    let mut words = "PostgreSQL: no row holds it any more".to_owned();
    if left.len() < SWEPT.len() {
        words += ", and tables were written anew";
    }
    if !left.is_empty() {
        let tables = left.join(", ");
        words += &format!(
            "; {tables} only made room, being large or in use: bytes of removed rows lie there until it is used again, or \
             until VACUUM (FULL) {tables}"
        );
    }
    words + "; the write-ahead log, its archive and standbys hold what was removed until they are recycled"
}
