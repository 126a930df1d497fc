//! The numbered migrations, and what a database's list of applied ones means for this program.

use sqlx::SqlSafeStr;
use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};

use super::OpenError;

/// The table in which sqlx notes what was applied.
pub(super) const APPLIED: &str = "SELECT version, checksum FROM _sqlx_migrations ORDER BY version";

/// The table that marks a database while a backup is restored into it: made at the beginning, dropped at the end. In no
/// migration, as no other database has it.
pub(super) const MARK: &str = "unfinished_restore";

/// Migrations from (name, text), numbered from 1.
pub(super) fn migrator(texts: &[(&'static str, &'static str)]) -> Migrator {
    let numbered = (1_i64..).zip(texts).map(|(version, (name, text))| {
        Migration::new(version, (*name).into(), MigrationType::Simple, text.into_sql_str(), false)
    });
    let mut migrator = Migrator::with_migrations(numbered.collect());
    // The caller holds a lock of its own: sqlx would take one of the session, which a pooler could hand to another.
    migrator.set_locking(false);
    migrator
}

/// The newest schema of this program.
pub(super) fn newest(migrator: &Migrator) -> i64 {
    migrator.iter().map(|migration| migration.version).max().unwrap_or(0)
}

/// The schema a database has; 0 = none.
///
/// # Errors
/// [`OpenError::NewerSchema`], [`OpenError::EditedMigration`].
pub(super) fn examine(what: &str, migrator: &Migrator, applied: &[(i64, Vec<u8>)]) -> Result<i64, OpenError> {
    let (found, known) = (applied.iter().map(|(version, _)| *version).max().unwrap_or(0), newest(migrator));
    if found > known {
        return Err(OpenError::NewerSchema { what: what.to_owned(), found, known });
    }
    for migration in migrator.iter() {
        let stored = applied.iter().find(|(version, _)| *version == migration.version);
        if stored.is_some_and(|(_, checksum)| checksum[..] != migration.checksum[..]) {
            return Err(OpenError::EditedMigration { what: what.to_owned(), version: migration.version });
        }
    }
    Ok(found)
}

/// What a failed migration means; `driver` reads the driver's own errors.
pub(super) fn migrate_error(
    what: &str,
    migrator: &Migrator,
    error: MigrateError,
    driver: impl FnOnce(sqlx::Error) -> OpenError,
) -> OpenError {
    let what = what.to_owned();
    match error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => driver(error),
        MigrateError::VersionMissing(found) => OpenError::NewerSchema { what, found, known: newest(migrator) },
        MigrateError::VersionMismatch(version) => OpenError::EditedMigration { what, version },
        other => OpenError::Configuration {
            what,
            reason: other.to_string(),
            advice: "look at the table _sqlx_migrations, or use a new database",
        },
    }
}
