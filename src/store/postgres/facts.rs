//! What a PostgreSQL says of itself, for whoever looks for the cause of a trouble. Reads only.

use event_sourcing_actors::ports::StoreError;
use sqlx::{Connection, Row};

use super::{PostgresStore, error::store_error};

const FACTS: &str = "SELECT current_setting('server_version_num')::int, current_setting('server_version'), \
     current_setting('synchronous_commit'), current_setting('fsync'), current_setting('full_page_writes'), \
     current_setting('max_connections')::int, pg_is_in_recovery(), \
     (SELECT count(*) FROM pg_stat_activity \
         WHERE datname = current_database() AND application_name = 'event-sourcing-cqrs'), \
     (SELECT count(*) FROM pg_stat_activity), \
     extract(epoch FROM clock_timestamp())::float8, \
     current_setting('server_encoding')";
const BACKEND: &str = "SELECT pg_backend_pid()";

/// What a PostgreSQL says of itself.
#[derive(Debug, Clone, PartialEq)]
pub struct PostgresFacts {
    /// Its version as a number, such as 150004.
    pub version_number: i32,
    /// Its version for people.
    pub version: String,
    /// Whether a commit waits for its flush.
    pub synchronous_commit: String,
    /// Whether it flushes at all.
    pub fsync: bool,
    /// Whether a page that was torn by a power cut can be mended.
    pub full_page_writes: bool,
    /// Sessions it takes.
    pub max_connections: i32,
    /// Sessions it has.
    pub connections: i64,
    /// Sessions of this program among them, of all its processes.
    pub own_connections: i64,
    /// Whether it is a standby, which takes no writes.
    pub is_standby: bool,
    /// Whether a session keeps its backend between two transactions; a pooler in transaction mode does not do that.
    pub keeps_sessions: bool,
    /// Its clock, in seconds since 1970.
    pub clock_s: f64,
    /// How it stores text.
    pub encoding: String,
}

impl PostgresStore {
    /// Asks.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn facts(&self) -> Result<PostgresFacts, StoreError> {
        let row = sqlx::query(FACTS).fetch_one(&self.pool).await.map_err(store_error)?;
        let text = |column: usize| row.try_get::<String, _>(column).map_err(store_error);
        Ok(PostgresFacts {
            version_number: row.try_get(0).map_err(store_error)?,
            version: text(1)?,
            synchronous_commit: text(2)?,
            fsync: text(3)? == "on",
            full_page_writes: text(4)? == "on",
            max_connections: row.try_get(5).map_err(store_error)?,
            is_standby: row.try_get(6).map_err(store_error)?,
            own_connections: row.try_get(7).map_err(store_error)?,
            connections: row.try_get(8).map_err(store_error)?,
            clock_s: row.try_get(9).map_err(store_error)?,
            encoding: text(10)?,
            keeps_sessions: self.keeps_sessions().await?,
        })
    }

    /// While a second session holds a transaction, a pooler in transaction mode has to give the first one another backend.
    async fn keeps_sessions(&self) -> Result<bool, StoreError> {
        let mut first = self.pool.acquire().await.map_err(store_error)?;
        let before: i32 = sqlx::query_scalar(BACKEND).fetch_one(&mut *first).await.map_err(store_error)?;
        let mut second = self.pool.acquire().await.map_err(store_error)?;
        let mut held = second.begin().await.map_err(store_error)?;
        let other: i32 = sqlx::query_scalar(BACKEND).fetch_one(&mut *held).await.map_err(store_error)?;
        let after: i32 = sqlx::query_scalar(BACKEND).fetch_one(&mut *first).await.map_err(store_error)?;
        held.rollback().await.map_err(store_error)?;
        Ok(before == after && before != other)
    }
}
