//! The port of what is remembered of erasures outside of the database.

use std::fmt::Debug;

use chrono::{DateTime, Utc};
use futures_util::future::BoxFuture;

use super::StoreError;
use crate::id::AggregateId;

/// A subject whose key was destroyed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tombstone {
    /// When; by the clock of the database that destroyed it first.
    pub destroyed_at: DateTime<Utc>,
    /// Whose key.
    pub subject: AggregateId,
}

/// Remembers outside of the database whose key was destroyed, as a database that was restored from an older backup does
/// not. Every method may be called from many tasks and processes at once.
pub trait Tombstones: Debug + Send + Sync + 'static {
    /// All of them, in no order; one may come twice.
    ///
    /// # Errors
    /// [`StoreError`]: what is there cannot be read, and nothing may be shown then that they might concern.
    fn all(&self) -> BoxFuture<'_, Result<Vec<Tombstone>, StoreError>>;

    /// Adds some. Flushed on return.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]; it may be tried again.
    fn add<'a>(&'a self, tombstones: &'a [Tombstone]) -> BoxFuture<'a, Result<(), StoreError>>;
}
