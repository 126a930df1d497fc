//! Inserts of many rows with few statements.

use std::sync::Arc;

use sqlx::{AssertSqlSafe, Error, Sqlite, SqliteConnection, query::Query, sqlite::SqliteArguments};

/// Rows per statement: a few sizes, so that each is prepared once.
const ROWS: [usize; 7] = [64, 32, 16, 8, 4, 2, 1];

/// A statement that owns what is bound to it.
pub(super) type Insert = Query<'static, Sqlite, SqliteArguments>;

/// One statement per size in [`ROWS`].
pub(super) struct Inserts([Arc<str>; ROWS.len()]);

impl Inserts {
    pub(super) fn new(into: &str, row: &str, then: &str) -> Self {
        Self(ROWS.map(|rows| format!("{into}{}{then}", vec![row; rows].join(", ")).into()))
    }

    /// Inserts all rows with as few statements as the sizes allow.
    pub(super) async fn run<T>(
        &self,
        connection: &mut SqliteConnection,
        mut rows: &[T],
        bind: impl Fn(Insert, &T) -> Insert,
    ) -> Result<(), Error> {
        for (size, statement) in ROWS.iter().zip(&self.0) {
            while rows.len() >= *size {
                let (now, later) = rows.split_at(*size);
                let query = now.iter().fold(sqlx::query(AssertSqlSafe(statement.clone())), &bind);
                query.execute(&mut *connection).await?;
                rows = later;
            }
        }
        Ok(())
    }
}
