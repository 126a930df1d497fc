//! A log put back as it was, into a file that carries a mark until it is whole.

use event_sourcing_actors::ports::{StoreError, Tombstone};
use futures_util::{FutureExt, future::BoxFuture};
use sqlx::{AssertSqlSafe, Error, Row, SqliteConnection};
use uuid::Uuid;

use super::{
    super::schema::MARK, SqliteStore, error::store_error, inserts::Insert, journal::INSERT_EVENTS, keys::bury,
    tree::STORE_TILE,
};
use crate::{
    archive::{Refused, RestoreEnd, RestoreMark, RestorePage, RestoreStore},
    integrity::port::StoredRow,
};

const HAS_MARK: &str = "SELECT EXISTS (SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?1)";
const READ_MARK: &str = "SELECT backup_id FROM unfinished_restore";
const SET_MARK: &str = "CREATE TABLE unfinished_restore \
     (backup_id BLOB NOT NULL, store_id BLOB NOT NULL, head_position INTEGER NOT NULL) STRICT";
const FILL_MARK: &str = "INSERT INTO unfinished_restore (backup_id, store_id, head_position) VALUES (?1, ?2, ?3)";
const DROP_MARK: &str = "DROP TABLE unfinished_restore";
const HEAD: &str = "SELECT coalesce(max(position), 0) FROM events WHERE partition = 0";
/// The master key of the store that was here opens nothing, unless keys were put here already.
const NO_MASTER: &str =
    "DELETE FROM subject_key_master WHERE NOT EXISTS (SELECT 1 FROM subject_keys WHERE master IS NOT NULL)";
/// Whoever seals, or keeps read models, holds a lease.
const IN_USE: &str = "SELECT EXISTS (SELECT 1 FROM merkle_tree WHERE lease_until > ?1) \
     OR EXISTS (SELECT 1 FROM projections WHERE lease_until > ?1)";
const TAKE_OVER: &str = "UPDATE log_head SET store_id = ?1, read_only = 1 WHERE partition = 0";
/// Whoever had a lease that is over finds that it is somebody else's: what is still on its way is fenced off.
const NO_LEASES: &str = "UPDATE projections SET owner = NULL, lease_until = NULL, epoch = epoch + 1; \
     UPDATE merkle_tree SET owner = NULL, lease_until = NULL, epoch = epoch + 1";
const SEAL: &str = "UPDATE merkle_tree SET size = ?1, acceptances = ?2, checkpoint = ?3, owner = NULL, \
     lease_until = NULL WHERE partition = 0";
const NEW_STREAMS: &str = "INSERT INTO streams (partition, aggregate_id, aggregate_type) \
     SELECT 0, aggregate_id, aggregate_type FROM events WHERE partition = 0 AND position >= ?1 AND sequence = 1";
const STORE_ID: &str = "SELECT store_id FROM log_head WHERE partition = 0";
const OPEN: &str = "UPDATE log_head SET read_only = 0 WHERE partition = 0";
/// Triggers that keep rows from being deleted: taken away and put back in the same transaction.
const GUARDS: &str = "SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND tbl_name IN ('events', 'streams')";
const EMPTY: &str = "DELETE FROM events; DELETE FROM streams; DELETE FROM merkle_tiles; \
     UPDATE merkle_tree SET size = 0, acceptances = 0, checkpoint = NULL; \
     UPDATE log_head SET store_id = randomblob(16), read_only = 0";

/// The backup whose restoration is unfinished, if one is.
pub(super) async fn mark(connection: &mut SqliteConnection) -> Result<Option<Uuid>, Error> {
    let is_marked: bool = sqlx::query_scalar(HAS_MARK).bind(MARK).fetch_one(&mut *connection).await?;
    if is_marked { sqlx::query_scalar(READ_MARK).fetch_optional(connection).await } else { Ok(None) }
}

fn text(bytes: &[u8]) -> String {
    // Tested before: see `readable`.
    String::from_utf8_lossy(bytes).into_owned()
}

fn readable(row: &StoredRow<'_>) -> Result<(), StoreError> {
    let texts = [row.aggregate_id, row.aggregate_type, row.event_type];
    if texts.iter().all(|bytes| std::str::from_utf8(bytes).is_ok()) && row.event_id.len() == 16 {
        return Ok(());
    }
    Err(StoreError::Corrupt { reason: format!("the event at position {} has names that are no text", row.position) })
}

fn bind(query: Insert, row: &StoredRow<'_>) -> Insert {
    let query = query.bind(row.position).bind(text(row.aggregate_id)).bind(text(row.aggregate_type));
    let query = query.bind(row.sequence).bind(row.event_id.to_vec()).bind(text(row.event_type));
    let query = query.bind(row.schema_version).bind(row.data.to_vec()).bind(row.metadata.to_vec());
    query.bind(row.recorded_at).bind(row.checksum.to_vec()).bind(row.chain.to_vec())
}

impl SqliteStore {
    async fn begin_restoring(&self, restored: RestoreMark) -> Result<u64, Refused> {
        let now = self.clock.now().timestamp_micros();
        let mut writing = self.writer.begin(true).await?;
        let connection = &mut writing.connection;
        let in_use: bool =
            sqlx::query_scalar(IN_USE).bind(now).fetch_one(&mut *connection).await.map_err(store_error)?;
        let head: i64 = sqlx::query_scalar(HEAD).fetch_one(&mut *connection).await.map_err(store_error)?;
        let marked = mark(&mut *connection).await.map_err(store_error)?;
        let head = head.cast_unsigned();
        match marked {
            Some(backup_id) if backup_id == restored.backup_id => {
                if in_use {
                    return Err(Refused::InUse);
                }
                writing.rollback().await?;
                return Ok(head);
            }
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
        writing.commit().await?;
        Ok(0)
    }

    async fn store_page(&self, page: RestorePage) -> Result<(), StoreError> {
        page.rows.iter().try_for_each(|row| readable(&row))?;
        let rows: Vec<StoredRow<'_>> = page.rows.iter().collect();
        // The last commit of the restoration flushes all of them.
        let mut writing = self.writer.begin(false).await?;
        INSERT_EVENTS.run(&mut writing.connection, &rows, bind).await.map_err(store_error)?;
        if let Some(first) = rows.first() {
            let query = sqlx::query(NEW_STREAMS).bind(first.position);
            query.execute(&mut writing.connection).await.map_err(store_error)?;
        }
        for tile in &page.tiles {
            let query = sqlx::query(STORE_TILE).bind(i64::from(tile.id.level)).bind(tile.id.index.cast_signed());
            query.bind(tile.to_bytes()).execute(&mut writing.connection).await.map_err(store_error)?;
        }
        writing.commit().await
    }

    async fn finish(&self, erased: &[Tombstone]) -> Result<(), Refused> {
        let now = self.clock.now().timestamp_micros();
        let mut writing = self.writer.begin(true).await?;
        let connection = &mut writing.connection;
        let in_use: bool =
            sqlx::query_scalar(IN_USE).bind(now).fetch_one(&mut *connection).await.map_err(store_error)?;
        if in_use {
            return Err(Refused::CameUp);
        }
        // Not that of this handle, which was opened before the log got its id.
        let store_id: Uuid = sqlx::query_scalar(STORE_ID).fetch_one(&mut *connection).await.map_err(store_error)?;
        bury(connection, erased, store_id).await?;
        sqlx::query(DROP_MARK).execute(&mut *connection).await.map_err(store_error)?;
        sqlx::query(OPEN).execute(&mut *connection).await.map_err(store_error)?;
        Ok(writing.commit().await?)
    }

    async fn discard(&self) -> Result<bool, StoreError> {
        let mut writing = self.writer.begin(true).await?;
        let connection = &mut writing.connection;
        if mark(&mut *connection).await.map_err(store_error)?.is_none() {
            writing.rollback().await?;
            return Ok(false);
        }
        let guards = sqlx::query(GUARDS).fetch_all(&mut *connection).await.map_err(store_error)?;
        let mut again = String::new();
        for guard in &guards {
            let (name, sql): (String, String) =
                (guard.try_get(0).map_err(store_error)?, guard.try_get(1).map_err(store_error)?);
            let drop = AssertSqlSafe(format!("DROP TRIGGER \"{name}\""));
            sqlx::raw_sql(drop).execute(&mut *connection).await.map_err(store_error)?;
            again.push_str(&sql);
            again.push(';');
        }
        sqlx::raw_sql(EMPTY).execute(&mut *connection).await.map_err(store_error)?;
        sqlx::query(NO_MASTER).execute(&mut *connection).await.map_err(store_error)?;
        sqlx::raw_sql(AssertSqlSafe(again)).execute(&mut *connection).await.map_err(store_error)?;
        sqlx::raw_sql(DROP_MARK).execute(&mut *connection).await.map_err(store_error)?;
        writing.commit().await?;
        Ok(true)
    }
}

impl RestoreStore for SqliteStore {
    fn begin_restore(&self, mark: RestoreMark) -> BoxFuture<'_, Result<u64, Refused>> {
        self.begin_restoring(mark).boxed()
    }

    fn restore_page(&self, page: RestorePage) -> BoxFuture<'_, Result<(), StoreError>> {
        self.store_page(page).boxed()
    }

    fn seal_restore(&self, end: RestoreEnd) -> BoxFuture<'_, Result<(), StoreError>> {
        async move {
            let mut writing = self.writer.begin(false).await?;
            let query = sqlx::query(SEAL).bind(end.size.cast_signed()).bind(end.acceptances.cast_signed());
            query.bind(end.checkpoint).execute(&mut writing.connection).await.map_err(store_error)?;
            writing.commit().await
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
