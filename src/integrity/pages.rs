//! Pages of rows that shrink as events grow.

use event_sourcing_actors::ports::StoreError;

use super::port::{StoredRows, TreeStore};

/// Rows of a page at most.
const ROWS_MAX: u32 = 1_024;
/// Bytes a page should have.
const BYTES_WANTED: usize = 2 << 20;

/// The log from a position on.
#[derive(Debug)]
pub(crate) struct Pages<'a> {
    store: &'a dyn TreeStore,
    from: i64,
    limit: u32,
}

impl<'a> Pages<'a> {
    pub fn from(store: &'a dyn TreeStore, from: i64) -> Self {
        Self { store, from, limit: ROWS_MAX / 8 }
    }

    /// The next rows; none at the end. A page that cannot be read is tried again row by row, so that what comes before
    /// the one that cannot is read.
    pub async fn next(&mut self) -> Result<StoredRows, StoreError> {
        let rows = match self.store.rows(self.from, self.limit).await {
            Err(StoreError::Corrupt { .. } | StoreError::Refused { .. }) if self.limit > 1 => {
                self.limit = 1;
                match self.store.rows(self.from, self.limit).await {
                    // Too large together, or the faulty one comes later.
                    Ok(rows) => rows,
                    Err(StoreError::Refused { reason }) => return Err(StoreError::Corrupt { reason }),
                    Err(error) => return Err(error),
                }
            }
            other => other?,
        };
        if let Some(last) = rows.iter().last() {
            self.from = last.position.saturating_add(1);
            let each = (rows.bytes_len() / rows.len()).max(1);
            let wanted = u32::try_from(BYTES_WANTED / each).unwrap_or(ROWS_MAX);
            // Growing step by step: after a row that could not be read with others, the others are near.
            self.limit = wanted.clamp(1, ROWS_MAX.min(self.limit.saturating_mul(4)));
        }
        Ok(rows)
    }
}
