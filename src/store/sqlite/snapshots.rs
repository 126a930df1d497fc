//! The snapshot store port over SQLite.

use event_sourcing_actors::{
    AggregateId, Sequence, Snapshot,
    ports::{SnapshotStore, StoreError, StoredSnapshot, superfluous},
};
use futures_util::{FutureExt, future::BoxFuture};
use sqlx::{Error, Row, sqlite::SqliteRow};

use super::{
    super::rows::{RawSnapshot, snapshot_digest},
    SqliteStore,
    error::store_error,
};

const SAVE: &str = "INSERT OR REPLACE INTO snapshots (partition, aggregate_id, sequence, aggregate_type, state_version, \
     chain, state, digest, created_at) SELECT 0, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8 \
     WHERE NOT EXISTS (SELECT 1 FROM subject_keys k \
         WHERE k.partition = 0 AND k.subject = ?1 AND k.destroyed_at IS NOT NULL)";
const KEPT: &str = "SELECT sequence FROM snapshots WHERE partition = 0 AND aggregate_id = ?1 ORDER BY sequence";
const PRUNE: &str = "DELETE FROM snapshots WHERE partition = 0 AND aggregate_id = ?1 \
     AND sequence IN (SELECT value FROM json_each(?2))";
const LATEST: &str = "SELECT sequence, aggregate_type, state_version, chain, state, digest FROM snapshots \
     WHERE partition = 0 AND aggregate_id = ?1 AND sequence <= ?2 ORDER BY sequence DESC LIMIT 1";
const REMOVE: &str = "DELETE FROM snapshots WHERE partition = 0 AND aggregate_id = ?1 AND sequence = ?2";
const DISCARD: &str = "DELETE FROM snapshots WHERE partition = 0 AND aggregate_id = ?1 AND sequence >= ?2";

fn snapshot(row: &SqliteRow) -> Result<RawSnapshot, Error> {
    Ok(RawSnapshot {
        sequence: row.try_get(0)?,
        aggregate_type: row.try_get(1)?,
        state_version: row.try_get(2)?,
        chain: row.try_get(3)?,
        state: row.try_get(4)?,
        digest: row.try_get(5)?,
    })
}

impl SnapshotStore for SqliteStore {
    fn save(&self, snapshot: Snapshot) -> BoxFuture<'_, Result<(), StoreError>> {
        async move {
            let digest = snapshot_digest(&snapshot);
            let id = snapshot.aggregate_id.as_str();
            let query = sqlx::query(SAVE).bind(id).bind(snapshot.head.sequence.as_i64());
            let query = query.bind(snapshot.aggregate_type.as_str()).bind(i64::from(snapshot.state_version));
            let query = query.bind(&snapshot.head.chain.0[..]).bind(&snapshot.state[..]).bind(&digest[..]);
            self.journal.unflushed(query.bind(self.clock.now().timestamp_micros())).await?;
            let kept: Vec<i64> = sqlx::query_scalar(KEPT).bind(id).fetch_all(&self.pool).await.map_err(store_error)?;
            let kept: Vec<Sequence> = kept.into_iter().map(Sequence::from_i64).collect();
            let gone: Vec<String> = superfluous(&kept).iter().map(Sequence::to_string).collect();
            if gone.is_empty() {
                return Ok(());
            }
            let prune = sqlx::query(PRUNE).bind(id).bind(format!("[{}]", gone.join(",")));
            self.journal.unflushed(prune).await.map(|_| ())
        }
        .boxed()
    }

    fn latest<'a>(
        &'a self,
        id: &'a AggregateId,
        at_most: Sequence,
    ) -> BoxFuture<'a, Result<Option<StoredSnapshot>, StoreError>> {
        async move {
            let query = sqlx::query(LATEST).bind(id.as_str()).bind(at_most.as_i64());
            let row = query.fetch_optional(&self.pool).await.map_err(store_error)?;
            let Some(row) = row else { return Ok(None) };
            let sequence: i64 = row.try_get(0).map_err(store_error)?;
            let readable = self::snapshot(&row).ok().and_then(|raw| raw.checked(id));
            let unreadable = StoredSnapshot::Unreadable(Sequence::from_i64(sequence));
            Ok(Some(readable.map_or(unreadable, StoredSnapshot::Readable)))
        }
        .boxed()
    }

    fn remove<'a>(&'a self, id: &'a AggregateId, sequence: Sequence) -> BoxFuture<'a, Result<(), StoreError>> {
        async move {
            let query = sqlx::query(REMOVE).bind(id.as_str()).bind(sequence.as_i64());
            self.journal.unflushed(query).await.map(|_| ())
        }
        .boxed()
    }

    fn discard<'a>(&'a self, id: &'a AggregateId, from: Sequence) -> BoxFuture<'a, Result<(), StoreError>> {
        async move {
            let query = sqlx::query(DISCARD).bind(id.as_str()).bind(from.as_i64());
            self.journal.unflushed(query).await.map(|_| ())
        }
        .boxed()
    }
}
