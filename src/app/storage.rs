//! The store that the settings ask for, behind one face.

use std::{sync::Arc, time::Duration};

use event_sourcing_actors::{
    memory::MemoryStore,
    ports::{
        BranchStore, EventStore, Scrubber, SnapshotStore, StoreError, SubjectKeys, SystemClock, ViewStore, Wakeups,
    },
};
use tokio::time::Instant;

#[cfg(feature = "postgres")]
use crate::store::{PostgresOptions, PostgresStore};
#[cfg(feature = "sqlite")]
use crate::store::{SqliteOptions, SqliteStore};
use crate::{
    app::AppError,
    archive::RestoreStore,
    integrity::{memory::MemoryTree, port::TreeStore},
    settings::{self, Database},
    store::OpenError,
};

/// How a store is opened.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Opening {
    /// How long to try one that does not answer.
    pub(crate) patience: Duration,
    /// Whether to make a file that is not there.
    #[cfg_attr(not(feature = "sqlite"), allow(dead_code, reason = "other stores make nothing"))]
    pub(crate) create: bool,
    /// Whether to bring an older schema up to date.
    #[cfg_attr(not(any(feature = "sqlite", feature = "postgres")), allow(dead_code, reason = "only SQL has a schema"))]
    pub(crate) migrate: bool,
    /// Whether to open one into which a backup was not restored to its end.
    #[cfg_attr(not(any(feature = "sqlite", feature = "postgres")), allow(dead_code, reason = "only SQL is restored"))]
    pub(crate) unfinished: bool,
}

impl Default for Opening {
    fn default() -> Self {
        Self { patience: Duration::from_secs(5), create: true, migrate: true, unfinished: false }
    }
}

/// What bringing a schema up to date did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Migrated {
    /// The schema before; 0 = none.
    pub before: i64,
    /// The schema now.
    pub after: i64,
}

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

/// The store itself, as any port that all three are.
macro_rules! port {
    ($storage:expr) => {
        match $storage {
            Storage::Memory(store) => Arc::new(store.clone()),
            #[cfg(feature = "sqlite")]
            Storage::Sqlite(store) => Arc::new(store.clone()),
            #[cfg(feature = "postgres")]
            Storage::Postgres(store) => Arc::new(store.clone()),
        }
    };
}

impl Storage {
    /// Opens the store; one that does not answer is tried again for as long as the patience lasts.
    pub(crate) async fn open(settings: &settings::EventStore, opening: Opening) -> Result<Self, AppError> {
        let give_up = Instant::now() + opening.patience;
        let mut pause = Duration::from_millis(100);
        let mut is_told = false;
        loop {
            let left = give_up.saturating_duration_since(Instant::now());
            match Self::try_open(settings, opening, left).await {
                Err(AppError::Open(error)) if error.is_retryable() && Instant::now() + pause < give_up => {
                    if !std::mem::replace(&mut is_told, true) {
                        tracing::warn!(%error, "trying again for up to {} s", left.as_secs().max(1));
                    }
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_secs(2));
                }
                result => return result,
            }
        }
    }

    /// Brings the schema up to date, in a database that may be new.
    ///
    /// # Errors
    /// [`AppError`]; a store in memory has schema 0 before and after.
    pub async fn migrate(settings: &settings::EventStore, patience: Duration) -> Result<Migrated, AppError> {
        let found = match Self::open(settings, Opening { patience, migrate: false, ..Opening::default() }).await {
            Err(AppError::Open(OpenError::OlderSchema { found, .. })) => Some(found),
            Err(error) => return Err(error),
            Ok(store) => {
                store.close().await;
                None
            }
        };
        let store = Self::open(settings, Opening { patience, ..Opening::default() }).await?;
        let after = store.schema_version().await;
        store.close().await;
        let after = after?.unwrap_or(0);
        Ok(Migrated { before: found.unwrap_or(after), after })
    }

    /// Opens a store to put a backup into it: made when it is not there, brought up to date, and also one where that was
    /// begun before.
    ///
    /// # Errors
    /// [`AppError`].
    pub async fn open_to_restore(settings: &settings::EventStore, patience: Duration) -> Result<Self, AppError> {
        Self::open(settings, Opening { patience, unfinished: true, ..Opening::default() }).await
    }

    /// Opens a store only to look at it: nothing is made, migrated or started.
    ///
    /// # Errors
    /// [`AppError`].
    pub async fn open_to_look(settings: &settings::EventStore, patience: Duration) -> Result<Self, AppError> {
        Self::open(settings, Opening { patience, create: false, migrate: false, unfinished: false }).await
    }

    #[cfg_attr(not(all(feature = "sqlite", feature = "postgres")), allow(unused_variables, clippy::unused_async))]
    async fn try_open(settings: &settings::EventStore, opening: Opening, left: Duration) -> Result<Self, AppError> {
        match &settings.database_url {
            Database::Memory => Ok(Self::Memory(MemoryStore::new(Arc::new(SystemClock)))),
            #[cfg(feature = "sqlite")]
            Database::Sqlite { path } => {
                if !opening.create && !path.exists() {
                    return Err(AppError::Missing { database: settings.database_url.to_string() });
                }
                let options =
                    SqliteOptions { create: opening.create, migrate: opening.migrate, ..SqliteOptions::new(path) };
                let options = SqliteOptions { unfinished: opening.unfinished, ..options };
                Ok(Self::Sqlite(SqliteStore::open(options).await?))
            }
            #[cfg(feature = "postgres")]
            Database::Postgres { url } => {
                let defaults = PostgresOptions::new(url.expose());
                let options = PostgresOptions {
                    pool_connections_max: settings.pool_connections_max,
                    migrate: opening.migrate,
                    unfinished: opening.unfinished,
                    // A host that swallows packets must not outlast the caller's patience.
                    connect_timeout: defaults.connect_timeout.min(left.max(Duration::from_secs(1))),
                    ..defaults
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
        port!(self)
    }

    /// The branches.
    #[must_use]
    pub fn branches(&self) -> Arc<dyn BranchStore> {
        port!(self)
    }

    /// The snapshots.
    #[must_use]
    pub fn snapshots(&self) -> Arc<dyn SnapshotStore> {
        port!(self)
    }

    /// Who tells of other processes on the same store; `None` where nobody does.
    #[must_use]
    pub fn wakeups(&self) -> Option<Arc<dyn Wakeups>> {
        match self {
            Self::Memory(_) => None,
            #[cfg(feature = "sqlite")]
            Self::Sqlite(_) => None,
            #[cfg(feature = "postgres")]
            Self::Postgres(store) => Some(Arc::new(store.listener())),
        }
    }

    /// The read models.
    #[must_use]
    pub fn views(&self) -> Arc<dyn ViewStore> {
        port!(self)
    }

    /// The keys of subjects.
    #[must_use]
    pub fn subject_keys(&self) -> Arc<dyn SubjectKeys> {
        port!(self)
    }

    /// The tree over the log, and its events as they lie there. Of a store in memory it is a new one each time.
    #[must_use]
    pub fn tree(&self) -> Arc<dyn TreeStore> {
        match self {
            Self::Memory(store) => Arc::new(MemoryTree::new(store.clone())),
            #[cfg(feature = "sqlite")]
            Self::Sqlite(store) => Arc::new(store.clone()),
            #[cfg(feature = "postgres")]
            Self::Postgres(store) => Arc::new(store.clone()),
        }
    }

    /// What overwrites removed content.
    #[must_use]
    pub fn scrubber(&self) -> Arc<dyn Scrubber> {
        port!(self)
    }

    /// The store as a place for a backup; `None` in memory.
    #[must_use]
    pub fn restorable(&self) -> Option<Arc<dyn RestoreStore>> {
        match self {
            Self::Memory(_) => None,
            #[cfg(feature = "sqlite")]
            Self::Sqlite(store) => Some(Arc::new(store.clone())),
            #[cfg(feature = "postgres")]
            Self::Postgres(store) => Some(Arc::new(store.clone())),
        }
    }

    /// What a PostgreSQL says of itself; `None` for any other store.
    ///
    /// # Errors
    /// [`StoreError`].
    #[cfg(feature = "postgres")]
    pub async fn postgres_facts(&self) -> Result<Option<crate::store::PostgresFacts>, StoreError> {
        match self {
            Self::Postgres(store) => store.facts().await.map(Some),
            _ => Ok(None),
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
