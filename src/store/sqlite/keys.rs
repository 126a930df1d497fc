//! Keys of subjects over SQLite, and what an erasure removes beside them.

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
use sqlx::{
    Connection, Error, Row, Sqlite, SqliteConnection,
    query::Query,
    sqlite::{SqliteArguments, SqliteRow},
};
use uuid::Uuid;

use super::{
    super::{
        keys::{RawKey, census, in_order, kept_master, standing, tombstones},
        verdicts::replaced,
    },
    SqliteStore,
    error::store_error,
    events::instant,
};

macro_rules! select {
    ($condition:literal) => {
        concat!(
            "SELECT subject, key_id, master, wrapped, destroyed_at FROM subject_keys WHERE partition = 0 AND ",
            $condition
        )
    };
}

const FIND: &str = select!("subject IN (SELECT value FROM json_each(?1))");
const FOREIGN: &str = select!("master IS NOT NULL AND master <> ?1 ORDER BY master, subject LIMIT ?2");
/// Not in another log than the one that was opened, which another master key may be of.
const CREATE: &str = "INSERT INTO subject_keys (partition, subject, key_id, master, wrapped, created_at) \
     SELECT 0, ?1, ?2, ?3, ?4, ?5 FROM log_head WHERE partition = 0 AND store_id = ?6 ON CONFLICT DO NOTHING";
/// Nobody of another log than the one that was opened, who may have the same name.
const DESTROY: &str = "INSERT INTO subject_keys (partition, subject, created_at, destroyed_at) \
     SELECT 0, ?1, ?2, ?2 FROM log_head WHERE partition = 0 AND store_id = ?3 \
     ON CONFLICT DO UPDATE SET key_id = NULL, master = NULL, wrapped = NULL, destroyed_at = excluded.destroyed_at \
         WHERE subject_keys.destroyed_at IS NULL";
const DESTROYED_AT: &str = "SELECT destroyed_at FROM subject_keys WHERE partition = 0 AND subject = ?1";
const DESTROYED: &str =
    select!("destroyed_at IS NOT NULL AND (destroyed_at, subject) > (?1, ?2) ORDER BY destroyed_at, subject LIMIT ?3");
const REWRAP: &str = "UPDATE subject_keys SET master = ?3, wrapped = ?4 \
     WHERE partition = 0 AND subject = ?1 AND key_id = ?2 AND destroyed_at IS NULL \
         AND EXISTS (SELECT 1 FROM log_head WHERE partition = 0 AND store_id = ?5)";
const CENSUS: &str = "SELECT master, count(*) FROM subject_keys WHERE partition = 0 GROUP BY master ORDER BY master";
const LIST: &str = select!("subject > ?1 ORDER BY subject LIMIT ?2");
const APPOINT: &str = "INSERT INTO subject_key_master (partition, master) VALUES (0, ?1) ON CONFLICT DO UPDATE \
     SET master = excluded.master WHERE subject_key_master.master IN (SELECT value FROM json_each(?2))";
const KEEP: &str =
    "INSERT INTO subject_key_master (partition, master, secret) VALUES (0, ?1, ?2) ON CONFLICT DO NOTHING";
const KEPT: &str = "SELECT secret FROM subject_key_master WHERE partition = 0";
const APPOINTED: &str = "SELECT master FROM subject_key_master WHERE partition = 0";
const FORGET: &str = "UPDATE parked_events SET error = ?2 WHERE partition = 0 AND aggregate_id = ?1 AND error <> ?2";

/// A larger file is not written anew by an erasure.
const VACUUM_BYTES_MAX: i64 = 1 << 30;
/// Attempts to fold the write-ahead log into the file while a reader is in the way.
const CHECKPOINTS_MAX: u32 = 100;
const PAUSE: Duration = Duration::from_millis(50);

fn key(row: &SqliteRow) -> Result<StoredKey, StoreError> {
    let raw = || -> Result<RawKey, Error> {
        let destroyed_at: Option<i64> = row.try_get(4)?;
        Ok(RawKey {
            subject: row.try_get(0)?,
            key_id: row.try_get(1)?,
            master: row.try_get(2)?,
            wrapped: row.try_get(3)?,
            destroyed_at: destroyed_at.map(|_| instant(row, 4)).transpose()?,
        })
    };
    raw().map_err(store_error)?.checked()
}

fn json<'a>(texts: impl Iterator<Item = &'a str>) -> Result<String, StoreError> {
    let texts: Vec<&str> = texts.collect();
    serde_json::to_string(&texts).map_err(|error| StoreError::Refused { reason: error.to_string() })
}

fn create<'a>(subject: &'a AggregateId, key: &'a WrappedKey) -> Query<'a, Sqlite, SqliteArguments> {
    let query = sqlx::query(CREATE).bind(subject.as_str()).bind(key.id).bind(&key.master);
    query.bind(&key.wrapped[..])
}

/// Destroys keys with their own instants, in a log that is being restored under this id.
pub(super) async fn bury(
    connection: &mut SqliteConnection,
    erased: &[Tombstone],
    store_id: Uuid,
) -> Result<(), StoreError> {
    for Tombstone { destroyed_at, subject } in erased {
        let query = sqlx::query(DESTROY).bind(subject.as_str()).bind(destroyed_at.timestamp_micros()).bind(store_id);
        query.execute(&mut *connection).await.map_err(store_error)?;
    }
    Ok(())
}

impl SubjectKeys for SqliteStore {
    fn find<'a>(&'a self, subjects: &'a [AggregateId]) -> BoxFuture<'a, Result<Vec<Option<StoredKey>>, StoreError>> {
        async move {
            let query = sqlx::query(FIND).bind(json(subjects.iter().map(AggregateId::as_str))?);
            let rows = query.fetch_all(&self.pool).await.map_err(store_error)?;
            Ok(in_order(rows.iter().map(key).collect::<Result<_, _>>()?, subjects))
        }
        .boxed()
    }

    fn create<'a>(
        &'a self,
        keys: &'a [(AggregateId, WrappedKey)],
    ) -> BoxFuture<'a, Result<Vec<StoredKey>, StoreError>> {
        async move {
            let now = self.clock.now().timestamp_micros();
            let mut writing = self.writer.begin(true).await?;
            for (subject, key) in keys {
                let query = create(subject, key).bind(now).bind(self.store_id);
                query.execute(&mut writing.connection).await.map_err(store_error)?;
            }
            writing.commit().await?;
            let subjects: Vec<AggregateId> = keys.iter().map(|(subject, _)| subject.clone()).collect();
            standing(SubjectKeys::find(self, &subjects).await?)
        }
        .boxed()
    }

    fn destroy<'a>(&'a self, subject: &'a AggregateId) -> BoxFuture<'a, Result<DateTime<Utc>, StoreError>> {
        async move {
            let mut writing = self.writer.begin(true).await?;
            let query = sqlx::query(DESTROY).bind(subject.as_str()).bind(self.clock.now().timestamp_micros());
            query.bind(self.store_id).execute(&mut writing.connection).await.map_err(store_error)?;
            let query = sqlx::query(DESTROYED_AT).bind(subject.as_str());
            let row = query.fetch_optional(&mut writing.connection).await.map_err(store_error)?;
            let row = row.ok_or_else(replaced)?;
            if row.try_get::<Option<i64>, _>(0).map_err(store_error)?.is_none() {
                return Err(replaced());
            }
            let at = instant(&row, 0).map_err(store_error)?;
            writing.commit().await?;
            Ok(at)
        }
        .boxed()
    }

    fn destroyed<'a>(&'a self, after: &'a Tombstone, limit: u32) -> BoxFuture<'a, Result<Vec<Tombstone>, StoreError>> {
        async move {
            let query = sqlx::query(DESTROYED).bind(after.destroyed_at.timestamp_micros()).bind(after.subject.as_str());
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
        async move {
            let mut writing = self.writer.begin(true).await?;
            for (subject, key) in keys {
                let query = sqlx::query(REWRAP).bind(subject.as_str()).bind(key.id).bind(&key.master);
                let query = query.bind(&key.wrapped[..]).bind(self.store_id);
                query.execute(&mut writing.connection).await.map_err(store_error)?;
            }
            writing.commit().await
        }
        .boxed()
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
            let now = self.clock.now().timestamp_micros();
            let mut writing = self.writer.begin(true).await?;
            for StoredKey { subject, state } in keys {
                let query = match state {
                    StoredKeyState::Wrapped(key) => create(subject, key).bind(now),
                    StoredKeyState::Destroyed(at) => {
                        sqlx::query(DESTROY).bind(subject.as_str()).bind(at.timestamp_micros())
                    }
                };
                query.bind(self.store_id).execute(&mut writing.connection).await.map_err(store_error)?;
            }
            writing.commit().await?;
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
            let mut writing = self.writer.begin(true).await?;
            let query = sqlx::query(APPOINT).bind(to).bind(json(from.iter().map(String::as_str))?);
            query.execute(&mut writing.connection).await.map_err(store_error)?;
            let query = sqlx::query_scalar(APPOINTED);
            let standing = query.fetch_one(&mut writing.connection).await.map_err(store_error)?;
            writing.commit().await?;
            Ok(standing)
        }
        .boxed()
    }

    fn kept_master<'a>(
        &'a self,
        offer: Option<&'a MasterKeys>,
    ) -> BoxFuture<'a, Result<Option<MasterKeys>, StoreError>> {
        async move {
            if let Some(offer) = offer {
                let mut writing = self.writer.begin(true).await?;
                let query = sqlx::query(KEEP).bind(offer.current()).bind(offer.to_text().as_str());
                query.execute(&mut writing.connection).await.map_err(store_error)?;
                writing.commit().await?;
            }
            let kept: Option<Option<String>> =
                sqlx::query_scalar(KEPT).fetch_optional(&self.pool).await.map_err(store_error)?;
            kept_master(kept.flatten())
        }
        .boxed()
    }
}

impl Scrubber for SqliteStore {
    fn forget<'a>(&'a self, stream: &'a AggregateId) -> BoxFuture<'a, Result<(), StoreError>> {
        async move {
            let mut writing = self.writer.begin(true).await?;
            let query = sqlx::query(FORGET).bind(stream.as_str()).bind(ERASED_WORDS);
            query.execute(&mut writing.connection).await.map_err(store_error)?;
            writing.commit().await
        }
        .boxed()
    }

    fn scrub(&self) -> BoxFuture<'_, Result<String, StoreError>> {
        async move {
            let (mut connection, _turn) = self.writer.alone().await?;
            let words = overwrite(&mut connection).await;
            let _ = connection.close().await;
            words
        }
        .boxed()
    }
}

/// Pages that moved cells leave copies of them behind in their free space, which `secure_delete` does not reach: only
/// writing the file anew does.
async fn overwrite(connection: &mut SqliteConnection) -> Result<String, StoreError> {
    let size = "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size";
    let bytes: i64 = sqlx::query_scalar(size).fetch_one(&mut *connection).await.map_err(store_error)?;
    let is_small = bytes <= VACUUM_BYTES_MAX;
    if is_small {
        sqlx::raw_sql("VACUUM").execute(&mut *connection).await.map_err(store_error)?;
    }
    for _ in 0..CHECKPOINTS_MAX {
        let query = sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)");
        let row = query.fetch_one(&mut *connection).await.map_err(store_error)?;
        if row.try_get::<i64, _>(0).map_err(store_error)? == 0 {
            return Ok(match is_small {
                true => "SQLite: the file was written anew and the write-ahead log cut off".to_owned(),
                false => {
                    "SQLite: what was removed is overwritten and the write-ahead log cut off; copies may be left in \
                          the free space of pages: run VACUUM when a pause of writing is fine (the file is large)"
                        .to_owned()
                }
            });
        }
        tokio::time::sleep(PAUSE).await;
    }
    Err(StoreError::Unavailable { reason: "a reader keeps the write-ahead log from being cut off".to_owned() })
}
