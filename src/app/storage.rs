//! The store that the settings ask for, behind one face.

use std::{sync::Arc, time::Duration};

use event_sourcing_actors::{
    memory::MemoryStore,
    ports::{EventStore, SnapshotStore, StoreError, SystemClock},
};
use tokio::time::Instant;

#[cfg(feature = "postgres")]
use crate::store::{PostgresOptions, PostgresStore};
#[cfg(feature = "sqlite")]
use crate::store::{SqliteOptions, SqliteStore};
use crate::{
    app::AppError,
    settings::{self, Database},
};

/// An open store.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Storage {
    /// In memory: what is acknowledged lives as long as the process.
    Memory(MemoryStore),
    /// A SQLite file.
    #[cfg(feature = "sqlite")]
    Sqlite(SqliteStore),
    /// A PostgreSQL database.
    #[cfg(feature = "postgres")]
    Postgres(PostgresStore),
}

impl Storage {
    /// Opens the store; one that does not answer is tried again for as long as `patience`.
    pub(crate) async fn open(settings: &settings::EventStore, patience: Duration) -> Result<Self, AppError> {
        let give_up = Instant::now() + patience;
        let mut pause = Duration::from_millis(100);
        loop {
            match Self::try_open(settings).await {
                Err(AppError::Open(error)) if error.is_retryable() && Instant::now() + pause < give_up => {
                    tracing::warn!(%error, "trying again for {} s", (give_up - Instant::now()).as_secs());
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_secs(2));
                }
                result => return result,
            }
        }
    }

    async fn try_open(settings: &settings::EventStore) -> Result<Self, AppError> {
        match &settings.database_url {
            Database::Memory => Ok(Self::Memory(MemoryStore::new(Arc::new(SystemClock)))),
            #[cfg(feature = "sqlite")]
            Database::Sqlite { path } => Ok(Self::Sqlite(SqliteStore::open(SqliteOptions::new(path)).await?)),
            #[cfg(feature = "postgres")]
            Database::Postgres { url } => {
                let options = PostgresOptions {
                    pool_connections_max: settings.pool_connections_max,
                    ..PostgresOptions::new(url.expose())
                };
                Ok(Self::Postgres(PostgresStore::connect(options).await?))
            }
            #[cfg(not(feature = "sqlite"))]
            database @ Database::Sqlite { .. } => {
                Err(AppError::MissingFeature { feature: "sqlite", database: database.to_string() })
            }
            #[cfg(not(feature = "postgres"))]
            database @ Database::Postgres { .. } => {
                Err(AppError::MissingFeature { feature: "postgres", database: database.to_string() })
            }
        }
    }

    /// The log.
    #[must_use]
    pub fn events(&self) -> Arc<dyn EventStore> {
        match self {
            Self::Memory(store) => Arc::new(store.clone()),
            #[cfg(feature = "sqlite")]
            Self::Sqlite(store) => Arc::new(store.clone()),
            #[cfg(feature = "postgres")]
            Self::Postgres(store) => Arc::new(store.clone()),
        }
    }

    /// The snapshots.
    #[must_use]
    pub fn snapshots(&self) -> Arc<dyn SnapshotStore> {
        match self {
            Self::Memory(store) => Arc::new(store.clone()),
            #[cfg(feature = "sqlite")]
            Self::Sqlite(store) => Arc::new(store.clone()),
            #[cfg(feature = "postgres")]
            Self::Postgres(store) => Arc::new(store.clone()),
        }
    }

    /// Which kind of store: `memory`, `sqlite` or `postgres`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Memory(_) => "memory",
            #[cfg(feature = "sqlite")]
            Self::Sqlite(_) => "sqlite",
            #[cfg(feature = "postgres")]
            Self::Postgres(_) => "postgres",
        }
    }

    /// Asks the database for a sign of life.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn ping(&self) -> Result<(), StoreError> {
        match self {
            Self::Memory(_) => Ok(()),
            #[cfg(feature = "sqlite")]
            Self::Sqlite(store) => store.ping().await,
            #[cfg(feature = "postgres")]
            Self::Postgres(store) => store.ping().await,
        }
    }

    /// The number of the schema; `None` in memory.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn schema_version(&self) -> Result<Option<i64>, StoreError> {
        match self {
            Self::Memory(_) => Ok(None),
            #[cfg(feature = "sqlite")]
            Self::Sqlite(store) => store.schema_version().await.map(Some),
            #[cfg(feature = "postgres")]
            Self::Postgres(store) => store.schema_version().await.map(Some),
        }
    }

    /// The store's own id, given at its first migration; `None` in memory.
    #[must_use]
    pub fn id(&self) -> Option<uuid::Uuid> {
        match self {
            Self::Memory(_) => None,
            #[cfg(feature = "sqlite")]
            Self::Sqlite(store) => Some(store.store_id()),
            #[cfg(feature = "postgres")]
            Self::Postgres(store) => Some(store.store_id()),
        }
    }

    /// Closes every connection.
    pub async fn close(&self) {
        match self {
            Self::Memory(_) => {}
            #[cfg(feature = "sqlite")]
            Self::Sqlite(store) => store.close().await,
            #[cfg(feature = "postgres")]
            Self::Postgres(store) => store.close().await,
        }
    }
}
