//! The connection that writes read models: one, of its own, thrown away whenever its state is in doubt.

use event_sourcing_actors::ports::StoreError;
use sqlx::{
    SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteSynchronous},
};
use tokio::sync::{Mutex, MutexGuard};

use super::{error::store_error, journal::WriteTurn, slot::Slot};

const BEGIN: &str = "BEGIN IMMEDIATE";
const BEGIN_FLUSHED: &str = "PRAGMA synchronous = FULL; BEGIN IMMEDIATE";
const NO_LONGER_FLUSHED: &str = "PRAGMA synchronous = NORMAL";

/// The connection, with its place in the queue of writers.
pub(super) struct ViewWriter {
    options: SqliteConnectOptions,
    turn: WriteTurn,
    slot: Mutex<Slot>,
}

/// A transaction that holds the write lock. Dropped without an end it takes its connection along, and stores nothing.
pub(super) struct Writing<'a> {
    pub connection: SqliteConnection,
    is_flushed: bool,
    slot: MutexGuard<'a, Slot>,
    _turn: MutexGuard<'a, ()>,
}

impl ViewWriter {
    pub(super) fn new(options: SqliteConnectOptions, turn: WriteTurn) -> Self {
        // Read models can be made again from the log.
        Self { options: options.synchronous(SqliteSynchronous::Normal), turn, slot: Mutex::new(Slot::Empty) }
    }

    pub(super) async fn close(&self) {
        self.slot.lock().await.close().await;
    }

    /// A connection of its own outside any transaction, while no other of this store writes.
    pub(super) async fn alone(&self) -> Result<(SqliteConnection, MutexGuard<'_, ()>), StoreError> {
        let connection = Slot::Empty.take(&self.options).await?;
        Ok((connection, self.turn.lock().await))
    }

    /// Waits for its turn, then for other processes.
    pub(super) async fn begin(&self, is_flushed: bool) -> Result<Writing<'_>, StoreError> {
        let mut slot = self.slot.lock().await;
        let mut connection = slot.take(&self.options).await?;
        let turn = self.turn.lock().await;
        let begin = sqlx::raw_sql(if is_flushed { BEGIN_FLUSHED } else { BEGIN });
        begin.execute(&mut connection).await.map_err(store_error)?;
        Ok(Writing { connection, is_flushed, slot, _turn: turn })
    }
}

impl Writing<'_> {
    pub(super) async fn commit(self) -> Result<(), StoreError> {
        self.end("COMMIT").await
    }

    pub(super) async fn rollback(self) -> Result<(), StoreError> {
        self.end("ROLLBACK").await
    }

    async fn end(mut self, word: &'static str) -> Result<(), StoreError> {
        sqlx::raw_sql(word).execute(&mut self.connection).await.map_err(store_error)?;
        if self.is_flushed {
            sqlx::raw_sql(NO_LONGER_FLUSHED).execute(&mut self.connection).await.map_err(store_error)?;
        }
        *self.slot = Slot::Idle(self.connection);
        Ok(())
    }
}
