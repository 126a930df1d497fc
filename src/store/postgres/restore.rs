//! A log put back as it was, into a database that carries a mark until it is whole.

use chrono::{DateTime, Utc};
use event_sourcing_actors::ports::{StoreError, Tombstone};
use futures_util::{FutureExt, future::BoxFuture};
use sqlx::{Connection, Error, PgConnection};
use uuid::Uuid;

use super::{super::schema::MARK, PostgresStore, error::store_error, keys::bury};
use crate::{
    archive::{Refused, RestoreEnd, RestoreMark, RestorePage, RestoreStore},
    integrity::{port::StoredRow, tiles::Tile},
};

const HAS_MARK: &str = "SELECT to_regclass($1) IS NOT NULL";
const READ_MARK: &str = "SELECT backup_id FROM unfinished_restore";
const SET_MARK: &str =
    "CREATE TABLE unfinished_restore (backup_id uuid NOT NULL, store_id uuid NOT NULL, head_position bigint NOT NULL)";
const FILL_MARK: &str = "INSERT INTO unfinished_restore (backup_id, store_id, head_position) VALUES ($1, $2, $3)";
const DROP_MARK: &str = "DROP TABLE unfinished_restore";
/// Whatever has looked at which log this is, to append to it or to seal it, is over then; what comes later looks anew.
const LOCK_OUT: &str = "LOCK TABLE log_head IN ACCESS EXCLUSIVE MODE";
/// Behind this lock nobody appends, and no second restoration begins.
const LOCK: &str = "SELECT read_only FROM log_head WHERE partition = 0 FOR UPDATE";
const HEAD: &str = "SELECT coalesce(max(position), 0) FROM events WHERE partition = 0";
/// The master key of the store that was here opens nothing, unless keys were put here already.
const NO_MASTER: &str =
    "DELETE FROM subject_key_master WHERE NOT EXISTS (SELECT 1 FROM subject_keys WHERE master IS NOT NULL)";
/// Whoever seals, or keeps read models, holds a lease.
const IN_USE: &str = "SELECT EXISTS (SELECT 1 FROM merkle_tree WHERE lease_until > clock_timestamp()) \
     OR EXISTS (SELECT 1 FROM projections WHERE lease_until > clock_timestamp())";
const TAKE_OVER: &str = "UPDATE log_head SET store_id = $1, read_only = true WHERE partition = 0";
const UNFLUSHED: &str = "SELECT set_config('synchronous_commit', 'off', true)";
const INSERT: &str = "INSERT INTO events (partition, position, aggregate_id, aggregate_type, sequence, event_id, \
         event_type, schema_version, data, metadata, recorded_at, checksum, chain) \
     SELECT 0, n.* FROM unnest($1::bigint[], $2::text[], $3::text[], $4::bigint[], $5::uuid[], $6::text[], \
         $7::bigint[], $8::bytea[], $9::bytea[], $10::timestamptz[], $11::bytea[], $12::bytea[]) n";
const NEW_STREAMS: &str = "INSERT INTO streams (partition, aggregate_id, aggregate_type) \
     SELECT 0, n.id, n.kind FROM unnest($1::text[], $2::text[], $3::bigint[]) n(id, kind, sequence) WHERE n.sequence = 1";
const TILES: &str = "INSERT INTO merkle_tiles (partition, level, tile, hashes) \
         SELECT 0, n.level, n.tile, n.hashes FROM unnest($1::smallint[], $2::bigint[], $3::bytea[]) n(level, tile, hashes) \
     ON CONFLICT (partition, level, tile) DO UPDATE SET hashes = excluded.hashes";
/// Whoever had a lease that is over finds that it is somebody else's: what is still on its way is fenced off.
const NO_LEASES: &str = "UPDATE projections SET owner = NULL, lease_until = NULL, epoch = epoch + 1; \
     UPDATE merkle_tree SET owner = NULL, lease_until = NULL, epoch = epoch + 1";
const SEAL: &str = "UPDATE merkle_tree SET size = $1, acceptances = $2, checkpoint = $3, owner = NULL, \
     lease_until = NULL WHERE partition = 0";
const STORE_ID: &str = "SELECT store_id FROM log_head WHERE partition = 0";
const OPEN: &str = "UPDATE log_head SET read_only = false WHERE partition = 0";
/// The triggers that keep the log from being emptied are off for this transaction alone.
const EMPTY: &str = "ALTER TABLE events DISABLE TRIGGER USER; ALTER TABLE streams DISABLE TRIGGER USER; \
     TRUNCATE events, streams, merkle_tiles; \
     ALTER TABLE events ENABLE TRIGGER USER; ALTER TABLE streams ENABLE TRIGGER USER; \
     UPDATE merkle_tree SET size = 0, acceptances = 0, checkpoint = NULL; \
     UPDATE log_head SET store_id = gen_random_uuid(), read_only = false; \
     DROP TABLE unfinished_restore";

/// The backup whose restoration is unfinished, if one is.
pub(super) async fn mark(connection: &mut PgConnection) -> Result<Option<Uuid>, Error> {
    let is_marked: bool = sqlx::query_scalar(HAS_MARK).bind(MARK).fetch_one(&mut *connection).await?;
    if is_marked { sqlx::query_scalar(READ_MARK).fetch_optional(connection).await } else { Ok(None) }
}

/// Keys destroyed by one statement.
const ROWS: usize = 10_000;

/// Rows as columns.
#[derive(Default)]
struct Columns {
    positions: Vec<i64>,
    ids: Vec<String>,
    kinds: Vec<String>,
    sequences: Vec<i64>,
    event_ids: Vec<Uuid>,
    event_types: Vec<String>,
    schemas: Vec<i64>,
    datas: Vec<Vec<u8>>,
    metadatas: Vec<Vec<u8>>,
    instants: Vec<DateTime<Utc>>,
    checksums: Vec<Vec<u8>>,
    chains: Vec<Vec<u8>>,
}

impl Columns {
    fn push(&mut self, row: &StoredRow<'_>) -> Option<()> {
        // PostgreSQL keeps no text with U+0000.
        let text =
            |bytes: &[u8]| std::str::from_utf8(bytes).ok().filter(|text| !text.contains('\0')).map(str::to_owned);
        self.positions.push(row.position);
        self.ids.push(text(row.aggregate_id)?);
        self.kinds.push(text(row.aggregate_type)?);
        self.sequences.push(row.sequence);
        self.event_ids.push(Uuid::from_slice(row.event_id).ok()?);
        self.event_types.push(text(row.event_type)?);
        self.schemas.push(row.schema_version);
        self.datas.push(row.data.to_vec());
        self.metadatas.push(row.metadata.to_vec());
        self.instants.push(DateTime::from_timestamp_micros(row.recorded_at)?);
        self.checksums.push(row.checksum.to_vec());
        self.chains.push(row.chain.to_vec());
        Some(())
    }
}

async fn store_tiles(connection: &mut PgConnection, tiles: &[Tile]) -> Result<(), StoreError> {
    let (levels, indices): (Vec<i16>, Vec<i64>) =
        tiles.iter().map(|tile| (i16::from(tile.id.level), tile.id.index.cast_signed())).unzip();
    let hashes: Vec<Vec<u8>> = tiles.iter().map(Tile::to_bytes).collect();
    let query = sqlx::query(TILES).bind(levels).bind(indices).bind(hashes);
    query.execute(connection).await.map(|_| ()).map_err(store_error)
}

impl PostgresStore {
    async fn begin_restoring(&self, restored: RestoreMark) -> Result<u64, Refused> {
        let mut session = self.pool.acquire().await.map_err(store_error)?;
        let mut transaction = session.begin().await.map_err(store_error)?;
        let connection: &mut PgConnection = &mut transaction;
        sqlx::query(LOCK_OUT).execute(&mut *connection).await.map_err(store_error)?;
        let head: i64 = sqlx::query_scalar(HEAD).fetch_one(&mut *connection).await.map_err(store_error)?;
        let in_use: bool = sqlx::query_scalar(IN_USE).fetch_one(&mut *connection).await.map_err(store_error)?;
        let head = head.cast_unsigned();
        // What is refused here is rolled back with the transaction that is dropped.
        match mark(&mut *connection).await.map_err(store_error)? {
            Some(backup_id) if backup_id == restored.backup_id && in_use => return Err(Refused::InUse),
            Some(backup_id) if backup_id == restored.backup_id => return Ok(head),
            Some(backup_id) => return Err(Refused::AnotherBackup { backup_id }),
            None if head > 0 => return Err(Refused::NotEmpty { head }),
            None if in_use => return Err(Refused::InUse),
            None => {}
        }
        sqlx::query(SET_MARK).execute(&mut *connection).await.map_err(store_error)?;
        let query = sqlx::query(FILL_MARK).bind(restored.backup_id).bind(restored.store_id);
        query.bind(restored.head_position.cast_signed()).execute(&mut *connection).await.map_err(store_error)?;
        sqlx::query(NO_MASTER).execute(&mut *connection).await.map_err(store_error)?;
        sqlx::query(TAKE_OVER).bind(restored.store_id).execute(&mut *connection).await.map_err(store_error)?;
        sqlx::raw_sql(NO_LEASES).execute(&mut *connection).await.map_err(store_error)?;
        transaction.commit().await.map_err(store_error)?;
        Ok(0)
    }

    async fn store_page(&self, page: RestorePage) -> Result<(), StoreError> {
        let mut columns = Columns::default();
        for row in page.rows.iter() {
            columns.push(&row).ok_or_else(|| StoreError::Corrupt {
                reason: format!("the event at position {} cannot be stored in PostgreSQL", row.position),
            })?;
        }
        let mut session = self.pool.acquire().await.map_err(store_error)?;
        let mut transaction = session.begin().await.map_err(store_error)?;
        let connection: &mut PgConnection = &mut transaction;
        // The last commit of the restoration flushes all of them.
        sqlx::query(UNFLUSHED).execute(&mut *connection).await.map_err(store_error)?;
        let query = sqlx::query(NEW_STREAMS).bind(&columns.ids).bind(&columns.kinds).bind(&columns.sequences);
        query.execute(&mut *connection).await.map_err(store_error)?;
        let query = sqlx::query(INSERT).bind(columns.positions).bind(columns.ids).bind(columns.kinds);
        let query = query.bind(columns.sequences).bind(columns.event_ids).bind(columns.event_types);
        let query = query.bind(columns.schemas).bind(columns.datas).bind(columns.metadatas).bind(columns.instants);
        let query = query.bind(columns.checksums).bind(columns.chains);
        query.execute(&mut *connection).await.map_err(store_error)?;
        store_tiles(connection, &page.tiles).await?;
        transaction.commit().await.map_err(store_error)
    }

    async fn finish(&self, erased: &[Tombstone]) -> Result<(), Refused> {
        let mut session = self.pool.acquire().await.map_err(store_error)?;
        let mut transaction = session.begin().await.map_err(store_error)?;
        let in_use: bool = sqlx::query_scalar(IN_USE).fetch_one(&mut *transaction).await.map_err(store_error)?;
        if in_use {
            return Err(Refused::CameUp);
        }
        // Not that of this handle, which was opened before the log got its id.
        let store_id: Uuid = sqlx::query_scalar(STORE_ID).fetch_one(&mut *transaction).await.map_err(store_error)?;
        for erased in erased.chunks(ROWS) {
            let erased = erased.iter().map(|one| (&one.subject, one.destroyed_at));
            bury(&mut *transaction, store_id, erased).await?;
        }
        sqlx::query(DROP_MARK).execute(&mut *transaction).await.map_err(store_error)?;
        sqlx::query(OPEN).execute(&mut *transaction).await.map_err(store_error)?;
        Ok(transaction.commit().await.map_err(store_error)?)
    }

    async fn discard(&self) -> Result<bool, StoreError> {
        let mut session = self.pool.acquire().await.map_err(store_error)?;
        let mut transaction = session.begin().await.map_err(store_error)?;
        let connection: &mut PgConnection = &mut transaction;
        sqlx::query(LOCK).execute(&mut *connection).await.map_err(store_error)?;
        if mark(&mut *connection).await.map_err(store_error)?.is_none() {
            return Ok(false);
        }
        sqlx::raw_sql(EMPTY).execute(&mut *connection).await.map_err(store_error)?;
        sqlx::query(NO_MASTER).execute(&mut *connection).await.map_err(store_error)?;
        transaction.commit().await.map_err(store_error)?;
        Ok(true)
    }
}

impl RestoreStore for PostgresStore {
    fn begin_restore(&self, mark: RestoreMark) -> BoxFuture<'_, Result<u64, Refused>> {
        self.begin_restoring(mark).boxed()
    }

    fn restore_page(&self, page: RestorePage) -> BoxFuture<'_, Result<(), StoreError>> {
        self.store_page(page).boxed()
    }

    fn seal_restore(&self, end: RestoreEnd) -> BoxFuture<'_, Result<(), StoreError>> {
        async move {
            let query = sqlx::query(SEAL).bind(end.size.cast_signed()).bind(end.acceptances.cast_signed());
            query.bind(end.checkpoint).execute(&self.pool).await.map(|_| ()).map_err(store_error)
        }
        .boxed()
    }

    fn finish_restore<'a>(&'a self, erased: &'a [Tombstone]) -> BoxFuture<'a, Result<(), Refused>> {
        self.finish(erased).boxed()
    }

    fn discard_restore(&self) -> BoxFuture<'_, Result<bool, StoreError>> {
        self.discard().boxed()
    }
}
