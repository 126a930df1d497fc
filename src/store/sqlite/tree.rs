//! The Merkle tree in SQLite, and events as they lie there.

use std::time::Duration;

use event_sourcing_actors::{digest::ChainDigest, ports::StoreError};
use futures_util::{FutureExt, future::BoxFuture};
use sqlx::{Row, sqlite::SqliteRow};
use uuid::Uuid;

use super::{SqliteStore, error::store_error};
use crate::integrity::{
    port::{Growth, Predecessor, SealLease, StoredRows, TreeState, TreeStore},
    tiles::{Tile, TileId},
};

const TREE: &str = "SELECT t.size, t.acceptances, t.checkpoint, \
         coalesce((SELECT position FROM events WHERE partition = 0 ORDER BY position DESC LIMIT 1), 0), h.read_only \
     FROM merkle_tree t JOIN log_head h ON h.partition = t.partition WHERE t.partition = 0";
/// Nobody seals another log than the one that was opened.
const ACQUIRE: &str = "UPDATE merkle_tree SET epoch = epoch + (owner IS NOT ?1), owner = ?1, lease_until = ?3 \
     WHERE partition = 0 AND (owner IS NULL OR owner = ?1 OR lease_until < ?2) \
     AND EXISTS (SELECT 1 FROM log_head h WHERE h.partition = 0 AND h.store_id = ?4) RETURNING epoch";
const RELEASE: &str = "UPDATE merkle_tree SET owner = NULL, lease_until = NULL WHERE partition = 0 AND owner = ?1";
const GROW: &str = "UPDATE merkle_tree SET size = ?4 WHERE partition = 0 AND owner = ?1 AND epoch = ?2 AND size = ?3";
pub(super) const STORE_TILE: &str = "INSERT INTO merkle_tiles (partition, level, tile, hashes) VALUES (0, ?1, ?2, ?3) \
     ON CONFLICT (partition, level, tile) DO UPDATE SET hashes = excluded.hashes";
const PUBLISH: &str = "UPDATE merkle_tree SET checkpoint = ?3 WHERE partition = 0 AND owner = ?1 AND epoch = ?2";
const REFUSE: &str = "UPDATE log_head SET read_only = 1 WHERE partition = 0 AND read_only = 0 \
     AND store_id = ?2 \
     AND (SELECT acceptances FROM merkle_tree WHERE partition = 0) = ?1";
const ACCEPT: &str = "UPDATE merkle_tree SET acceptances = ?1, checkpoint = ?2 WHERE partition = 0";
const OPEN_AGAIN: &str = "UPDATE log_head SET read_only = 0 WHERE partition = 0";
const TILES: &str = "SELECT t.level, t.tile, t.hashes FROM json_each(?1) w \
     CROSS JOIN merkle_tiles t ON t.partition = 0 AND t.level = w.value ->> 0 AND t.tile = w.value ->> 1";

/// Many rows as two values: the driver's price is per row and column. Concatenation keeps bytes as they are.
macro_rules! packed {
    ($where:literal) => {
        concat!(
            "SELECT group_concat(numbers, ''), group_concat(parts, '') FROM (SELECT \
             printf('%d %d %d %d %d %d %d %d %d %d %d %d;', position, sequence, schema_version, recorded_at, \
                 octet_length(aggregate_id), octet_length(aggregate_type), octet_length(event_id), \
                 octet_length(event_type), octet_length(data), octet_length(metadata), octet_length(checksum), \
                 octet_length(chain)) AS numbers, \
             aggregate_id || aggregate_type || event_id || event_type || data || metadata || checksum || chain AS parts \
             FROM events WHERE partition = 0 AND ",
            $where,
            ")"
        )
    };
}
const ROWS: &str = packed!("position >= ?1 ORDER BY position LIMIT ?2");
const STREAM_ROWS: &str = packed!("aggregate_id = CAST(?1 AS TEXT) AND sequence >= ?2 ORDER BY sequence LIMIT ?3");
const PREDECESSOR: &str = "SELECT position, chain FROM events \
     WHERE partition = 0 AND aggregate_id = CAST(?1 AS TEXT) AND sequence = ?2";

fn unpacked(row: &SqliteRow) -> Result<StoredRows, StoreError> {
    let failed = || StoreError::Corrupt { reason: "rows of events that cannot be read".to_owned() };
    // The values hold bytes of any kind, whatever type SQLite gives them.
    let numbers: Option<Vec<u8>> = row.try_get_unchecked(0).map_err(store_error)?;
    let Some(numbers) = numbers else { return Ok(StoredRows::default()) };
    let parts: Option<Vec<u8>> = row.try_get_unchecked(1).map_err(store_error)?;
    let numbers = String::from_utf8(numbers).map_err(|_| failed())?;
    let rows = numbers.split_terminator(';').map(|row| {
        let mut words = row.split(' ').map(|word| word.parse::<i64>().ok());
        let mut next = || words.next().flatten();
        let numbers = [next()?, next()?, next()?, next()?];
        let mut lengths = [0; 8];
        for length in &mut lengths {
            *length = usize::try_from(next()?).ok()?;
        }
        Some((numbers, lengths))
    });
    let rows = rows.collect::<Option<Vec<_>>>().ok_or_else(failed)?;
    StoredRows::packed(parts.unwrap_or_default(), 0, &rows).ok_or_else(failed)
}

fn tile(row: &SqliteRow) -> Result<Tile, StoreError> {
    let (level, index): (i64, i64) = (row.try_get(0).map_err(store_error)?, row.try_get(1).map_err(store_error)?);
    let hashes: Vec<u8> = row.try_get(2).map_err(store_error)?;
    let id = TileId { level: u8::try_from(level).unwrap_or(u8::MAX), index: index.cast_unsigned() };
    Tile::from_bytes(id, &hashes).ok_or_else(|| StoreError::Corrupt { reason: format!("{id:?} is no tile") })
}

impl SqliteStore {
    fn micros_from_now(&self, time: Duration) -> i64 {
        let time = i64::try_from(time.as_micros()).unwrap_or(i64::MAX);
        self.clock.now().timestamp_micros().saturating_add(time)
    }

    async fn grow(&self, growth: Growth) -> Result<bool, StoreError> {
        // Not flushed: a tree that went back in a power cut grows again from the log, which is.
        let mut writing = self.writer.begin(false).await?;
        let query = sqlx::query(GROW).bind(growth.lease.owner).bind(growth.lease.epoch.cast_signed());
        let query = query.bind(growth.from.cast_signed()).bind(growth.to.cast_signed());
        if query.execute(&mut writing.connection).await.map_err(store_error)?.rows_affected() == 0 {
            writing.rollback().await?;
            return Ok(false);
        }
        for tile in &growth.tiles {
            let query = sqlx::query(STORE_TILE).bind(i64::from(tile.id.level)).bind(tile.id.index.cast_signed());
            query.bind(tile.to_bytes()).execute(&mut writing.connection).await.map_err(store_error)?;
        }
        writing.commit().await?;
        Ok(true)
    }

    async fn state(&self) -> Result<TreeState, StoreError> {
        let row = sqlx::query(TREE).fetch_one(&self.pool).await.map_err(store_error)?;
        let number = |column: usize| row.try_get::<i64, _>(column).map(i64::cast_unsigned).map_err(store_error);
        Ok(TreeState {
            size: number(0)?,
            acceptances: number(1)?,
            checkpoint: row.try_get(2).map_err(store_error)?,
            head: number(3)?,
            is_read_only: row.try_get(4).map_err(store_error)?,
        })
    }
}

impl TreeStore for SqliteStore {
    fn tree_id(&self) -> Uuid {
        self.store_id()
    }

    fn tree(&self) -> BoxFuture<'_, Result<TreeState, StoreError>> {
        self.state().boxed()
    }

    fn acquire_tree(&self, owner: Uuid, lease: Duration) -> BoxFuture<'_, Result<Option<SealLease>, StoreError>> {
        async move {
            let mut writing = self.writer.begin(false).await?;
            let (now, until) = (self.micros_from_now(Duration::ZERO), self.micros_from_now(lease));
            let query = sqlx::query_scalar(ACQUIRE).bind(owner).bind(now).bind(until).bind(self.store_id);
            let epoch: Option<i64> = query.fetch_optional(&mut writing.connection).await.map_err(store_error)?;
            writing.commit().await?;
            Ok(epoch.map(|epoch| SealLease { owner, epoch: epoch.cast_unsigned() }))
        }
        .boxed()
    }

    fn release_tree(&self, owner: Uuid) -> BoxFuture<'_, Result<(), StoreError>> {
        async move {
            let mut writing = self.writer.begin(false).await?;
            sqlx::query(RELEASE).bind(owner).execute(&mut writing.connection).await.map_err(store_error)?;
            writing.commit().await
        }
        .boxed()
    }

    fn grow_tree(&self, growth: Growth) -> BoxFuture<'_, Result<bool, StoreError>> {
        self.grow(growth).boxed()
    }

    fn publish_checkpoint(&self, lease: SealLease, note: String) -> BoxFuture<'_, Result<(), StoreError>> {
        async move {
            let mut writing = self.writer.begin(false).await?;
            let query = sqlx::query(PUBLISH).bind(lease.owner).bind(lease.epoch.cast_signed()).bind(note);
            query.execute(&mut writing.connection).await.map_err(store_error)?;
            writing.commit().await
        }
        .boxed()
    }

    fn refuse_appends(&self, acceptances: u64) -> BoxFuture<'_, Result<(), StoreError>> {
        async move {
            let mut writing = self.writer.begin(true).await?;
            let query = sqlx::query(REFUSE).bind(acceptances.cast_signed()).bind(self.store_id);
            query.execute(&mut writing.connection).await.map_err(store_error)?;
            writing.commit().await
        }
        .boxed()
    }

    fn accept(&self, acceptances: u64, note: String) -> BoxFuture<'_, Result<(), StoreError>> {
        async move {
            let mut writing = self.writer.begin(true).await?;
            let query = sqlx::query(ACCEPT).bind(acceptances.cast_signed()).bind(note);
            query.execute(&mut writing.connection).await.map_err(store_error)?;
            sqlx::query(OPEN_AGAIN).execute(&mut writing.connection).await.map_err(store_error)?;
            writing.commit().await
        }
        .boxed()
    }

    fn tiles<'a>(&'a self, ids: &'a [TileId]) -> BoxFuture<'a, Result<Vec<Tile>, StoreError>> {
        async move {
            let wanted: Vec<(u8, u64)> = ids.iter().map(|id| (id.level, id.index)).collect();
            let wanted =
                serde_json::to_string(&wanted).map_err(|error| StoreError::Refused { reason: error.to_string() })?;
            let rows = sqlx::query(TILES).bind(wanted).fetch_all(&self.pool).await.map_err(store_error)?;
            rows.iter().map(tile).collect()
        }
        .boxed()
    }

    fn rows(&self, from: i64, limit: u32) -> BoxFuture<'_, Result<StoredRows, StoreError>> {
        async move {
            let query = sqlx::query(ROWS).bind(from).bind(i64::from(limit));
            unpacked(&query.fetch_one(&self.pool).await.map_err(store_error)?)
        }
        .boxed()
    }

    fn stream_rows<'a>(
        &'a self,
        stream: &'a [u8],
        from: i64,
        limit: u32,
    ) -> BoxFuture<'a, Result<StoredRows, StoreError>> {
        async move {
            let query = sqlx::query(STREAM_ROWS).bind(stream).bind(from).bind(i64::from(limit));
            unpacked(&query.fetch_one(&self.pool).await.map_err(store_error)?)
        }
        .boxed()
    }

    fn predecessor<'a>(
        &'a self,
        stream: &'a [u8],
        sequence: i64,
    ) -> BoxFuture<'a, Result<Option<Predecessor>, StoreError>> {
        async move {
            let query = sqlx::query(PREDECESSOR).bind(stream).bind(sequence);
            let Some(row) = query.fetch_optional(&self.pool).await.map_err(store_error)? else { return Ok(None) };
            let chain: Vec<u8> = row.try_get(1).map_err(store_error)?;
            let position = row.try_get(0).map_err(store_error)?;
            Ok(Some(Predecessor { position, chain: ChainDigest::from_slice(&chain) }))
        }
        .boxed()
    }
}
