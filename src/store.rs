//! Stores: the event, snapshot and view ports over SQLite and PostgreSQL.
//!
//! Both keep the same tables under the same names, answer alike (one contract suite proves it) and lay their files out
//! alike: `events`, `snapshots`, `error`, the connection that appends; and for read models `views` (reads), `projections`
//! (who may write), `commits` (steps), `parked`, `operations`, `upkeep`; and `keys` for what an erasure destroys.

#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod access_rows;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod keys;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod rows;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod schema;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod verdicts;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod view_rows;

#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(feature = "sqlite")]
pub mod sqlite;

#[cfg(feature = "postgres")]
pub use postgres::{PostgresOptions, PostgresStore};
#[cfg(feature = "sqlite")]
pub use sqlite::{SqliteOptions, SqliteStore};

/// What went wrong, without the driver's lead and the line of the database's source code.
#[cfg(any(feature = "sqlite", feature = "postgres"))]
fn words(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Database(error) => error.message().to_owned(),
        sqlx::Error::Io(error) => error.to_string(),
        sqlx::Error::Configuration(error) => error.to_string(),
        other => other.to_string(),
    }
}

/// Why a store could not be opened, told apart by what helps.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Not reachable at the moment: the same settings may work in a while.
    #[error("the database {what} does not answer: {reason}; it may be starting or failing over, so try again")]
    Unavailable {
        /// Which database, without secrets.
        what: String,
        /// What the driver said.
        reason: String,
    },
    /// The settings cannot work: trying again does not help.
    #[error("the database {what} cannot be used: {reason}; {advice}")]
    Configuration {
        /// Which database, without secrets.
        what: String,
        /// What the driver said.
        reason: String,
        /// What to change.
        advice: &'static str,
    },
    /// A newer program has changed the tables.
    #[error(
        "the database {what} has schema {found}, but this program knows schemas up to {known}: start the newer program, \
         or restore a backup made before the upgrade"
    )]
    NewerSchema {
        /// Which database, without secrets.
        what: String,
        /// The schema found.
        found: i64,
        /// The newest this program knows.
        known: i64,
    },
    /// The tables are older than the program and were not to be migrated.
    #[error("the database {what} has schema {found}, but this program needs {needed}: migrate it first")]
    OlderSchema {
        /// Which database, without secrets.
        what: String,
        /// The schema found; 0 = none.
        found: i64,
        /// The schema needed.
        needed: i64,
    },
    /// A migration that was applied is not the one this program holds.
    #[error(
        "the database {what} was made by another edition of migration {version}: applied migrations are never edited, \
         so use the program that made it, or a new database"
    )]
    EditedMigration {
        /// Which database, without secrets.
        what: String,
        /// The migration.
        version: i64,
    },
}

impl OpenError {
    /// Whether the same call may succeed later without anybody changing anything.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }
}
