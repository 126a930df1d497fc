//! The place of a connection that writes: whoever uses it takes it out, so that one whose future is dropped half-way goes
//! with it, and its transaction too.

use event_sourcing_actors::ports::StoreError;
use sqlx::{ConnectOptions, SqliteConnection, sqlite::SqliteConnectOptions};

#[derive(Debug)]
pub(super) enum Slot {
    Empty,
    Idle(SqliteConnection),
    Closed,
}

impl Slot {
    /// Takes the connection out, opening one if there is none.
    pub(super) async fn take(&mut self, options: &SqliteConnectOptions) -> Result<SqliteConnection, StoreError> {
        match std::mem::replace(self, Self::Empty) {
            Self::Idle(connection) => Ok(connection),
            // Whatever keeps us from opening, an earlier attempt with the same batch may have been stored.
            Self::Empty => (options.clone().create_if_missing(false).connect().await)
                .map_err(|error| StoreError::Unavailable { reason: error.to_string() }),
            Self::Closed => {
                *self = Self::Closed;
                Err(StoreError::Unavailable { reason: "the store is closed".to_owned() })
            }
        }
    }

    /// Closes it for good.
    pub(super) async fn close(&mut self) {
        if let Self::Idle(connection) = std::mem::replace(self, Self::Closed) {
            // Everything acknowledged is flushed already.
            let _ = sqlx::Connection::close(connection).await;
        }
    }
}
