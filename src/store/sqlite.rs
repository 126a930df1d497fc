//! [`SqliteStore`]: one log in one file.
//!
//! Appends go over one connection of their own, reads over a read-only pool; caches and read models are written over one
//! each that does not flush. These three take turns. Several processes of one machine may share the file, never over a network file system.

mod access;
mod branch_appends;
mod branches;
mod commits;
mod error;
mod events;
mod inserts;
mod journal;
mod keys;
mod operations;
mod parked;
mod projections;
mod restore;
mod slot;
mod snapshots;
mod tree;
mod upkeep;
mod views;
mod writer;

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use event_sourcing_actors::ports::{Clock, StoreError, SystemClock};
use sqlx::{
    ConnectOptions, Connection, Row, SqliteConnection, SqlitePool,
    migrate::Migrator,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use uuid::Uuid;

use self::{
    error::{is_busy, open_error, store_error},
    journal::{Journal, WriteTurn},
    writer::ViewWriter,
};
use super::{OpenError, schema, verdicts::replaced};

const MIGRATIONS: &[(&str, &str)] = &[
    ("events", include_str!("../../migrations/sqlite/0001_events.sql")),
    ("snapshots", include_str!("../../migrations/sqlite/0002_snapshots.sql")),
    ("views", include_str!("../../migrations/sqlite/0003_views.sql")),
    ("read_models", include_str!("../../migrations/sqlite/0004_read_models.sql")),
    ("integrity", include_str!("../../migrations/sqlite/0005_integrity.sql")),
    ("view_deletes", include_str!("../../migrations/sqlite/0006_view_deletes.sql")),
    ("subject_keys", include_str!("../../migrations/sqlite/0007_subject_keys.sql")),
    ("access", include_str!("../../migrations/sqlite/0008_access.sql")),
    ("branches", include_str!("../../migrations/sqlite/0009_branches.sql")),
    ("kept_master", include_str!("../../migrations/sqlite/0010_kept_master.sql")),
    ("audit_retention", include_str!("../../migrations/sqlite/0011_audit_retention.sql")),
];

const HAS_SCHEMA: &str =
    "SELECT EXISTS (SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = '_sqlx_migrations')";
const LOG_HEAD: &str = "SELECT store_id, read_only FROM log_head WHERE partition = 0";
const SET_READ_ONLY: &str = "UPDATE log_head SET read_only = ?1 WHERE partition = 0";

/// Where the file is, and how to use it.
#[derive(Debug, Clone)]
pub struct SqliteOptions {
    /// The database file; beside it SQLite keeps `-wal` and `-shm`.
    pub path: PathBuf,
    /// Connections for reads.
    pub pool_connections_max: u32,
    /// Stamps events.
    pub clock: Arc<dyn Clock>,
    /// Whether to make the file, and the folder it lies in, if they are missing.
    pub create: bool,
    /// Whether to bring the schema up to date at opening; otherwise an older one is refused.
    pub migrate: bool,
    /// How long to wait for another process that is writing.
    pub busy_timeout: Duration,
    /// Whether to open a file into which a backup was not restored to its end; otherwise it is refused.
    pub unfinished: bool,
}

impl SqliteOptions {
    /// The defaults with this file: made if missing, 4 readers, the machine's clock, 5 s for other writers.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            pool_connections_max: 4,
            clock: Arc::new(SystemClock),
            create: true,
            migrate: true,
            busy_timeout: Duration::from_secs(5),
            unfinished: false,
        }
    }

    /// A connection that flushes each commit to the disk.
    fn flushing(&self) -> SqliteConnectOptions {
        SqliteConnectOptions::new()
            .filename(&self.path)
            .create_if_missing(self.create)
            .busy_timeout(self.busy_timeout)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            // Only macOS knows it: there a plain flush stops at the drive's cache.
            .pragma("fullfsync", "ON")
            .pragma("recursive_triggers", "ON")
            // What is removed is overwritten: it may be a person's data.
            .pragma("secure_delete", "ON")
            .foreign_keys(false)
            .disable_statement_logging()
    }

    fn name(&self) -> String {
        self.path.display().to_string()
    }
}

/// The event, snapshot and view store in a SQLite file. Clones share their connections.
#[derive(Clone)]
pub struct SqliteStore {
    pool: SqlitePool,
    journal: Arc<Journal>,
    writer: Arc<ViewWriter>,
    clock: Arc<dyn Clock>,
    name: Arc<str>,
    store_id: Uuid,
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore")
            .field("name", &self.name)
            .field("store_id", &self.store_id)
            .finish_non_exhaustive()
    }
}

impl SqliteStore {
    /// Opens the file, brings the schema up to date if asked to, and opens the connection that appends.
    ///
    /// A file that is up to date is not written to. Any number of processes may start at once.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn open(options: SqliteOptions) -> Result<Self, OpenError> {
        let what = options.name();
        let migrator = schema::migrator(MIGRATIONS);
        let mut first = dial(&options).await?;
        let found = examine(&mut first, &what, &migrator).await?;
        if found < schema::newest(&migrator) {
            if !options.migrate {
                return Err(OpenError::OlderSchema { what, found, needed: schema::newest(&migrator) });
            }
            run_migrations(&mut first, &what, &migrator).await?;
        }
        if !options.unfinished
            && let Some(backup_id) = restore::mark(&mut first).await.map_err(|error| open_error(&what, &error))?
        {
            return Err(OpenError::UnfinishedRestore { what, backup_id });
        }
        let row = sqlx::query(LOG_HEAD).fetch_one(&mut first).await.map_err(|error| open_error(&what, &error))?;
        let store_id = row.try_get(0).map_err(|error| open_error(&what, &error))?;
        let pool = SqlitePoolOptions::new()
            .max_connections(options.pool_connections_max)
            .acquire_timeout(options.busy_timeout)
            // A file does not hang up: a test before each read would cost as much as the read.
            .test_before_acquire(false)
            .connect_lazy_with(options.flushing().read_only(true).create_if_missing(false));
        let turn = WriteTurn::default();
        let writer = Arc::new(ViewWriter::new(options.flushing(), turn.clone()));
        let journal = Arc::new(Journal::new(options.flushing(), options.clock.clone(), store_id, turn, first));
        Ok(Self { pool, journal, writer, clock: options.clock, name: what.into(), store_id })
    }

    /// Brings the schema up to date, under the write lock, and returns its number; does nothing to one that is.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn migrate(options: &SqliteOptions) -> Result<i64, OpenError> {
        let what = options.name();
        let migrator = schema::migrator(MIGRATIONS);
        let mut connection = dial(options).await?;
        if examine(&mut connection, &what, &migrator).await? < schema::newest(&migrator) {
            run_migrations(&mut connection, &what, &migrator).await?;
        }
        connection.close().await.map_err(|error| open_error(&what, &error))?;
        Ok(schema::newest(&migrator))
    }

    /// Asks the database for a sign of life.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn ping(&self) -> Result<(), StoreError> {
        // Nothing else answers for the log that was opened.
        let same = sqlx::query("SELECT 1 FROM log_head WHERE partition = 0 AND store_id = ?1").bind(self.store_id);
        let same = same.fetch_optional(&self.pool).await.map_err(store_error)?;
        same.map(|_| ()).ok_or_else(replaced)
    }

    /// The number of the newest migration that was applied.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn schema_version(&self) -> Result<i64, StoreError> {
        let applied: Vec<(i64, Vec<u8>)> =
            sqlx::query_as(schema::APPLIED).fetch_all(&self.pool).await.map_err(store_error)?;
        Ok(applied.into_iter().map(|(version, _)| version).max().unwrap_or(0))
    }

    /// The log's own id, random at its first migration.
    #[must_use]
    pub fn store_id(&self) -> Uuid {
        self.store_id
    }

    /// Whether the log refuses appends.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn is_read_only(&self) -> Result<bool, StoreError> {
        let row = sqlx::query(LOG_HEAD).fetch_one(&self.pool).await.map_err(store_error)?;
        row.try_get(1).map_err(store_error)
    }

    /// Makes the log refuse appends of every process, or accept them again. Confirmations still work.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn set_read_only(&self, read_only: bool) -> Result<(), StoreError> {
        self.journal.flag(SET_READ_ONLY, read_only).await
    }

    /// Closes the file; an append in flight is finished first. Calls after this fail as unavailable.
    pub async fn close(&self) {
        // Readers first: the last connection to go folds the write-ahead log into the file, which a reader could not.
        self.pool.close().await;
        self.writer.close().await;
        self.journal.close().await;
    }
}

async fn dial(options: &SqliteOptions) -> Result<SqliteConnection, OpenError> {
    let what = options.name();
    let folder = options.path.parent().filter(|folder| options.create && !folder.as_os_str().is_empty());
    if let Some(Err(error)) = folder.map(Path::new).map(std::fs::create_dir_all) {
        let advice = "name a file in a folder that this program may write to";
        return Err(OpenError::Configuration { what, reason: error.to_string(), advice });
    }
    if options.create
        && let Err(error) = touch(&options.path)
    {
        let advice = "name a file that this program may read and write";
        return Err(OpenError::Configuration { what, reason: error.to_string(), advice });
    }
    // Switching a new file to write-ahead logging does not wait for others that do the same, so it is tried again.
    let deadline = tokio::time::Instant::now() + options.busy_timeout;
    loop {
        match options.flushing().connect().await {
            Err(error) if is_busy(&error) && tokio::time::Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            result => return result.map_err(|error| open_error(&what, &error)),
        }
    }
}

/// Makes the file if it is not there, for its owner alone: what people said of themselves lies in it. The files beside it
/// get the rights of this one.
fn touch(path: &Path) -> std::io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        // One that is read only, or no file, is SQLite's to judge.
        Err(_) if path.exists() => Ok(()),
        result => result.map(drop),
    }
}

async fn examine(connection: &mut SqliteConnection, what: &str, migrator: &Migrator) -> Result<i64, OpenError> {
    let failed = |error: sqlx::Error| open_error(what, &error);
    let exists: bool = sqlx::query_scalar(HAS_SCHEMA).fetch_one(&mut *connection).await.map_err(failed)?;
    if !exists {
        return Ok(0);
    }
    let applied: Vec<(i64, Vec<u8>)> = sqlx::query_as(schema::APPLIED).fetch_all(connection).await.map_err(failed)?;
    schema::examine(what, migrator, &applied)
}

/// All missing migrations in one transaction, under the write lock.
async fn run_migrations(connection: &mut SqliteConnection, what: &str, migrator: &Migrator) -> Result<(), OpenError> {
    let failed = |error: sqlx::Error| open_error(what, &error);
    let mut transaction = Connection::begin_with(connection, "BEGIN IMMEDIATE").await.map_err(failed)?;
    // Not `run`: its future cannot be sent to another thread ("Acquire is not general enough").
    migrator
        .run_direct(None, &mut *transaction, false)
        .await
        .map_err(|error| schema::migrate_error(what, migrator, error, failed))?;
    transaction.commit().await.map_err(failed)
}
