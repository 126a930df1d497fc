//! [`PostgresStore`]: one log in one PostgreSQL (14 or later), shared by any number of replicas.
//!
//! Appends go over one session of their own, everything else over a pool. The session's settings matter for
//! durability, so it must not go through a pooler in transaction mode.

mod access;
mod branch_appends;
mod branches;
mod call;
mod commits;
mod error;
mod events;
mod facts;
mod heads;
mod journal;
mod keys;
mod listener;
mod operations;
mod parked;
mod projections;
mod restore;
mod snapshots;
mod tree;
mod upkeep;
mod views;

use std::{fmt, str::FromStr, sync::Arc, time::Duration};

use event_sourcing_actors::ports::StoreError;
use sqlx::{
    ConnectOptions, Connection, PgConnection, PgPool, Row,
    migrate::Migrator,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use uuid::Uuid;

use self::{
    call::Writer,
    error::{open_error, store_error},
    journal::{Journal, JournalLimits},
};
use super::{OpenError, schema, verdicts::replaced};

pub use facts::PostgresFacts;
pub use listener::PostgresListener;

const MIGRATIONS: &[(&str, &str)] = &[
    ("events", include_str!("../../migrations/postgres/0001_events.sql")),
    ("snapshots", include_str!("../../migrations/postgres/0002_snapshots.sql")),
    ("views", include_str!("../../migrations/postgres/0003_views.sql")),
    ("read_models", include_str!("../../migrations/postgres/0004_read_models.sql")),
    ("integrity", include_str!("../../migrations/postgres/0005_integrity.sql")),
    ("view_deletes", include_str!("../../migrations/postgres/0006_view_deletes.sql")),
    ("subject_keys", include_str!("../../migrations/postgres/0007_subject_keys.sql")),
    ("access", include_str!("../../migrations/postgres/0008_access.sql")),
    ("branches", include_str!("../../migrations/postgres/0009_branches.sql")),
    ("kept_master", include_str!("../../migrations/postgres/0010_kept_master.sql")),
    ("audit_retention", include_str!("../../migrations/postgres/0011_audit_retention.sql")),
];

const HAS_SCHEMA: &str = "SELECT to_regclass('_sqlx_migrations') IS NOT NULL";
/// Released with the transaction, so no session keeps it; the number is "es-cqrs" in ASCII.
const MIGRATION_LOCK: &str = "SELECT pg_advisory_xact_lock(28555611426878067)";
const LOG_HEAD: &str = "SELECT store_id, read_only FROM log_head WHERE partition = 0";
const SET_READ_ONLY: &str = "UPDATE log_head SET read_only = $1 WHERE partition = 0";
/// Look-ups go by index also where a plan was made on young tables; steps of projections rely on read committed.
const POOL_SESSION: &str = "SELECT set_config('statement_timeout', $1, false), \
     set_config('default_transaction_isolation', 'read committed', false), \
     set_config('enable_seqscan', 'off', false), set_config('enable_bitmapscan', 'off', false), \
     set_config('enable_hashjoin', 'off', false), set_config('enable_mergejoin', 'off', false), \
     set_config('idle_in_transaction_session_timeout', '10s', false)";

/// Where the database is, and how long to wait for it.
#[derive(Clone)]
pub struct PostgresOptions {
    /// `postgres://user:password@host:port/database?sslmode=…`.
    pub url: String,
    /// Connections for everything but appends, which have one of their own.
    pub pool_connections_max: u32,
    /// This process among all that append to the log; new for each start.
    pub writer: Uuid,
    /// Whether to bring the schema up to date at opening; otherwise an older one is refused.
    pub migrate: bool,
    /// How long a connection may take to be made.
    pub connect_timeout: Duration,
    /// How long an append may take before its outcome counts as unknown.
    pub append_timeout: Duration,
    /// How long a read may take.
    pub read_timeout: Duration,
    /// How long an append waits for the log's head before it ends the session of a client that holds it and is silent.
    pub head_wait: Duration,
    /// Whether to open a database into which a backup was not restored to its end; otherwise it is refused.
    pub unfinished: bool,
}

impl PostgresOptions {
    /// The defaults with this URL: 10 pooled connections, 5 s to connect, 10 s to append, 30 s to read, 2 s for the head.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            pool_connections_max: 10,
            writer: Uuid::now_v7(),
            migrate: true,
            connect_timeout: Duration::from_secs(5),
            append_timeout: Duration::from_secs(10),
            read_timeout: Duration::from_secs(30),
            head_wait: Duration::from_secs(2),
            unfinished: false,
        }
    }

    /// Whether the URL can be read, without connecting.
    ///
    /// # Errors
    /// [`OpenError::Configuration`] with how to write it.
    pub fn check(&self) -> Result<(), OpenError> {
        self.parsed().map(drop)
    }

    fn parsed(&self) -> Result<PgConnectOptions, OpenError> {
        let failed = |reason: String| OpenError::Configuration {
            what: "in the URL".to_owned(),
            reason,
            advice: "write it as postgres://user:password@host:port/database",
        };
        // The driver would take any scheme, and look for PostgreSQL at another database's address.
        if !["postgres://", "postgresql://"].iter().any(|scheme| self.url.starts_with(scheme)) {
            return Err(failed("it does not begin with postgres://".to_owned()));
        }
        let options = PgConnectOptions::from_str(&self.url).map_err(|error| failed(super::words(&error)))?;
        Ok(options.application_name("event-sourcing-cqrs").disable_statement_logging())
    }
}

impl fmt::Debug for PostgresOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never the URL: it may hold a password.
        f.debug_struct("PostgresOptions").field("writer", &self.writer).finish_non_exhaustive()
    }
}

/// Host, port and database, without secrets.
fn name(options: &PgConnectOptions) -> String {
    let database = options.get_database().unwrap_or_else(|| options.get_username());
    format!("{database:?} on {}:{}", options.get_host(), options.get_port())
}

/// The event, snapshot and view store in PostgreSQL. Clones share their connections.
#[derive(Clone)]
pub struct PostgresStore {
    pool: PgPool,
    journal: Arc<Journal>,
    name: Arc<str>,
    store_id: Uuid,
}

impl fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresStore")
            .field("name", &self.name)
            .field("store_id", &self.store_id)
            .finish_non_exhaustive()
    }
}

impl PostgresStore {
    /// Connects, brings the schema up to date if asked to, and opens the session that appends.
    ///
    /// A database that is up to date is not written to. Any number of replicas may start at once.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn connect(options: PostgresOptions) -> Result<Self, OpenError> {
        let connect = options.parsed()?;
        let what = name(&connect);
        let migrator = schema::migrator(MIGRATIONS);
        let mut first = dial(&connect, &what, options.connect_timeout).await?;
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
        // Failing to say goodbye to a session that is no longer needed changes nothing.
        let _ = first.close().await;

        let pool = pool(&options, connect.clone());
        let limits = JournalLimits {
            connect_timeout: options.connect_timeout,
            append_timeout: options.append_timeout,
            head_wait: options.head_wait,
        };
        let writer = Writer { id: options.writer, store_id };
        let journal = Journal::new(connect, pool.clone(), writer, limits);
        journal.connect_now().await.map_err(|error| open_error(&what, &error))?;
        Ok(Self { pool, journal: Arc::new(journal), name: what.into(), store_id })
    }

    /// Brings the schema up to date, under a lock, and returns its number; does nothing to one that is.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn migrate(options: &PostgresOptions) -> Result<i64, OpenError> {
        let connect = options.parsed()?;
        let what = name(&connect);
        let migrator = schema::migrator(MIGRATIONS);
        let mut connection = dial(&connect, &what, options.connect_timeout).await?;
        if examine(&mut connection, &what, &migrator).await? < schema::newest(&migrator) {
            run_migrations(&mut connection, &what, &migrator).await?;
        }
        let _ = connection.close().await;
        Ok(schema::newest(&migrator))
    }

    /// Asks the database for a sign of life.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn ping(&self) -> Result<(), StoreError> {
        // Nothing else answers for the log that was opened.
        let same = sqlx::query("SELECT 1 FROM log_head WHERE partition = 0 AND store_id = $1").bind(self.store_id);
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

    /// Makes the log refuse appends of every replica, or accept them again. Confirmations still work.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn set_read_only(&self, read_only: bool) -> Result<(), StoreError> {
        sqlx::query(SET_READ_ONLY).bind(read_only).execute(&self.pool).await.map(|_| ()).map_err(store_error)
    }

    /// Ends the sessions; an append in flight is finished first. Calls after this fail as unavailable.
    pub async fn close(&self) {
        self.journal.close().await;
        self.pool.close().await;
    }
}

fn pool(options: &PostgresOptions, connect: PgConnectOptions) -> PgPool {
    let read_timeout = format!("{}ms", options.read_timeout.as_millis());
    PgPoolOptions::new()
        .max_connections(options.pool_connections_max)
        .acquire_timeout(options.connect_timeout)
        .after_connect(move |connection, _| {
            let read_timeout = read_timeout.clone();
            Box::pin(async move { sqlx::query(POOL_SESSION).bind(read_timeout).execute(connection).await.map(|_| ()) })
        })
        .connect_lazy_with(connect)
}

async fn dial(options: &PgConnectOptions, what: &str, limit: Duration) -> Result<PgConnection, OpenError> {
    match tokio::time::timeout(limit, options.connect()).await {
        Ok(connection) => connection.map_err(|error| open_error(what, &error)),
        Err(_) => Err(OpenError::Unavailable { what: what.to_owned(), reason: format!("no answer within {limit:?}") }),
    }
}

async fn examine(connection: &mut PgConnection, what: &str, migrator: &Migrator) -> Result<i64, OpenError> {
    let failed = |error: sqlx::Error| open_error(what, &error);
    let exists: bool = sqlx::query_scalar(HAS_SCHEMA).fetch_one(&mut *connection).await.map_err(failed)?;
    if !exists {
        return Ok(0);
    }
    let applied: Vec<(i64, Vec<u8>)> = sqlx::query_as(schema::APPLIED).fetch_all(connection).await.map_err(failed)?;
    schema::examine(what, migrator, &applied)
}

/// All missing migrations in one transaction, under a lock that ends with it.
async fn run_migrations(connection: &mut PgConnection, what: &str, migrator: &Migrator) -> Result<(), OpenError> {
    let failed = |error: sqlx::Error| open_error(what, &error);
    let mut transaction = Connection::begin(connection).await.map_err(failed)?;
    sqlx::query(MIGRATION_LOCK).execute(&mut *transaction).await.map_err(failed)?;
    // Not `run`: its future cannot be sent to another thread ("Acquire is not general enough").
    migrator
        .run_direct(None, &mut *transaction, false)
        .await
        .map_err(|error| schema::migrate_error(what, migrator, error, failed))?;
    transaction.commit().await.map_err(failed)
}
