//! The Merkle tree in PostgreSQL, and events as they lie there.

use std::time::Duration;

use event_sourcing_actors::{digest::ChainDigest, ports::StoreError};
use futures_util::{FutureExt, future::BoxFuture};
use sqlx::{Row, ValueRef, postgres::PgRow};
use uuid::Uuid;

use super::{PostgresStore, error::store_error, projections::lease_ms};
use crate::integrity::{
    port::{Growth, Predecessor, SealLease, StoredRow, StoredRows, TreeState, TreeStore},
    tiles::{Tile, TileId},
};

const TREE: &str = "SELECT t.size, t.acceptances, t.checkpoint, \
         coalesce((SELECT position FROM events WHERE partition = 0 ORDER BY position DESC LIMIT 1), 0), h.read_only \
     FROM merkle_tree t JOIN log_head h ON h.partition = t.partition WHERE t.partition = 0";
/// Nobody seals another log than the one that was opened.
const ACQUIRE: &str = "UPDATE merkle_tree SET epoch = epoch + (owner IS DISTINCT FROM $1)::int, owner = $1, \
         lease_until = clock_timestamp() + $2 * interval '1 millisecond' \
     WHERE partition = 0 AND (owner IS NULL OR owner = $1 OR lease_until < clock_timestamp()) \
     AND EXISTS (SELECT 1 FROM log_head h WHERE h.partition = 0 AND h.store_id = $3) RETURNING epoch";
const RELEASE: &str = "UPDATE merkle_tree SET owner = NULL, lease_until = NULL WHERE partition = 0 AND owner = $1";
/// One statement: both or nothing, also when whoever waits for it goes away.
const GROW: &str = "WITH grown AS (UPDATE merkle_tree SET size = $4 \
         WHERE partition = 0 AND owner = $1 AND epoch = $2 AND size = $3 RETURNING partition) \
     INSERT INTO merkle_tiles (partition, level, tile, hashes) \
         SELECT g.partition, n.level, n.tile, n.hashes \
         FROM grown g CROSS JOIN unnest($5::smallint[], $6::bigint[], $7::bytea[]) n(level, tile, hashes) \
     ON CONFLICT (partition, level, tile) DO UPDATE SET hashes = excluded.hashes";
const PUBLISH: &str = "UPDATE merkle_tree SET checkpoint = $3 WHERE partition = 0 AND owner = $1 AND epoch = $2";
const REFUSE: &str = "UPDATE log_head SET read_only = true WHERE partition = 0 AND NOT read_only \
     AND store_id = $2 \
     AND (SELECT acceptances FROM merkle_tree WHERE partition = 0) = $1";
const ACCEPT: &str = "WITH accepted AS (UPDATE merkle_tree SET acceptances = $1, checkpoint = $2 \
         WHERE partition = 0 RETURNING partition) \
     UPDATE log_head SET read_only = false FROM accepted a WHERE log_head.partition = a.partition";
const TILES: &str = "SELECT w.level, w.tile, t.hashes FROM unnest($1::smallint[], $2::bigint[]) w(level, tile) \
     CROSS JOIN LATERAL (SELECT m.hashes FROM merkle_tiles m WHERE m.partition = 0 AND m.level = w.level \
     AND m.tile = w.tile LIMIT 1) t";

macro_rules! rows {
    ($where:literal) => {
        concat!(
            "SELECT position, sequence, schema_version, recorded_at, aggregate_id, aggregate_type, event_id, \
             event_type, data, metadata, checksum, chain FROM events WHERE partition = 0 AND ",
            $where
        )
    };
}
const ROWS: &str = rows!("position >= $1 ORDER BY position LIMIT $2");
const STREAM_ROWS: &str =
    rows!("aggregate_id = convert_from($1, 'UTF8') AND sequence >= $2 ORDER BY sequence LIMIT $3");
const PREDECESSOR: &str = "SELECT position, chain FROM events \
     WHERE partition = 0 AND aggregate_id = convert_from($1, 'UTF8') AND sequence = $2";

/// From 1970 to 2000, where PostgreSQL's instants begin.
const EPOCH_MICROS: i64 = 946_684_800_000_000;

/// The columns as they come over the wire: an instant that no calendar knows is one like any other.
fn stored(rows: &[PgRow]) -> Result<StoredRows, StoreError> {
    let mut all = StoredRows::default();
    for row in rows {
        let part = |column: usize| -> Result<&[u8], StoreError> {
            let value = row.try_get_raw(column).map_err(store_error)?;
            if value.is_null() {
                return Ok(&[]);
            }
            value.as_bytes().map_err(|error| StoreError::Corrupt { reason: error.to_string() })
        };
        let number = |column: usize| -> Result<i64, StoreError> {
            let bytes = part(column)?.try_into();
            bytes.map(i64::from_be_bytes).map_err(|_| StoreError::Corrupt { reason: "no number".to_owned() })
        };
        all.push(&StoredRow {
            position: number(0)?,
            sequence: number(1)?,
            schema_version: number(2)?,
            recorded_at: number(3)?.saturating_add(EPOCH_MICROS),
            aggregate_id: part(4)?,
            aggregate_type: part(5)?,
            event_id: part(6)?,
            event_type: part(7)?,
            data: part(8)?,
            metadata: part(9)?,
            checksum: part(10)?,
            chain: part(11)?,
        });
    }
    Ok(all)
}

fn tile(row: &PgRow) -> Result<Tile, StoreError> {
    let (level, index): (i16, i64) = (row.try_get(0).map_err(store_error)?, row.try_get(1).map_err(store_error)?);
    let hashes: Vec<u8> = row.try_get(2).map_err(store_error)?;
    let id = TileId { level: u8::try_from(level).unwrap_or(u8::MAX), index: index.cast_unsigned() };
    Tile::from_bytes(id, &hashes).ok_or_else(|| StoreError::Corrupt { reason: format!("{id:?} is no tile") })
}

/// Ids as columns.
fn columns(ids: impl Iterator<Item = TileId>) -> (Vec<i16>, Vec<i64>) {
    ids.map(|id| (i16::from(id.level), id.index.cast_signed())).unzip()
}

impl PostgresStore {
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

impl TreeStore for PostgresStore {
    fn tree_id(&self) -> Uuid {
        self.store_id()
    }

    fn tree(&self) -> BoxFuture<'_, Result<TreeState, StoreError>> {
        self.state().boxed()
    }

    fn acquire_tree(&self, owner: Uuid, lease: Duration) -> BoxFuture<'_, Result<Option<SealLease>, StoreError>> {
        async move {
            let query = sqlx::query_scalar(ACQUIRE).bind(owner).bind(lease_ms(lease)).bind(self.store_id);
            let epoch: Option<i64> = query.fetch_optional(&self.pool).await.map_err(store_error)?;
            Ok(epoch.map(|epoch| SealLease { owner, epoch: epoch.cast_unsigned() }))
        }
        .boxed()
    }

    fn release_tree(&self, owner: Uuid) -> BoxFuture<'_, Result<(), StoreError>> {
        async move { sqlx::query(RELEASE).bind(owner).execute(&self.pool).await.map(|_| ()).map_err(store_error) }
            .boxed()
    }

    fn grow_tree(&self, growth: Growth) -> BoxFuture<'_, Result<bool, StoreError>> {
        async move {
            let (levels, indices) = columns(growth.tiles.iter().map(|tile| tile.id));
            let hashes: Vec<Vec<u8>> = growth.tiles.iter().map(Tile::to_bytes).collect();
            let query = sqlx::query(GROW).bind(growth.lease.owner).bind(growth.lease.epoch.cast_signed());
            let query = query.bind(growth.from.cast_signed()).bind(growth.to.cast_signed());
            let done = query.bind(levels).bind(indices).bind(hashes).execute(&self.pool).await.map_err(store_error)?;
            Ok(done.rows_affected() > 0)
        }
        .boxed()
    }

    fn publish_checkpoint(&self, lease: SealLease, note: String) -> BoxFuture<'_, Result<(), StoreError>> {
        async move {
            let query = sqlx::query(PUBLISH).bind(lease.owner).bind(lease.epoch.cast_signed()).bind(note);
            query.execute(&self.pool).await.map(|_| ()).map_err(store_error)
        }
        .boxed()
    }

    fn refuse_appends(&self, acceptances: u64) -> BoxFuture<'_, Result<(), StoreError>> {
        async move {
            let query = sqlx::query(REFUSE).bind(acceptances.cast_signed()).bind(self.store_id);
            query.execute(&self.pool).await.map(|_| ()).map_err(store_error)
        }
        .boxed()
    }

    fn accept(&self, acceptances: u64, note: String) -> BoxFuture<'_, Result<(), StoreError>> {
        async move {
            let query = sqlx::query(ACCEPT).bind(acceptances.cast_signed()).bind(note);
            query.execute(&self.pool).await.map(|_| ()).map_err(store_error)
        }
        .boxed()
    }

    fn tiles<'a>(&'a self, ids: &'a [TileId]) -> BoxFuture<'a, Result<Vec<Tile>, StoreError>> {
        async move {
            let (levels, indices) = columns(ids.iter().copied());
            let query = sqlx::query(TILES).bind(levels).bind(indices);
            query.fetch_all(&self.pool).await.map_err(store_error)?.iter().map(tile).collect()
        }
        .boxed()
    }

    fn rows(&self, from: i64, limit: u32) -> BoxFuture<'_, Result<StoredRows, StoreError>> {
        async move {
            let query = sqlx::query(ROWS).bind(from).bind(i64::from(limit));
            stored(&query.fetch_all(&self.pool).await.map_err(store_error)?)
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
            stored(&query.fetch_all(&self.pool).await.map_err(store_error)?)
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
