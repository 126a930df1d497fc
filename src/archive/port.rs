//! What a restoration asks of the database that is to hold the log: [`RestoreStore`].

use std::fmt::Debug;

use event_sourcing_actors::ports::{StoreError, Tombstone};
use futures_util::future::BoxFuture;
use uuid::Uuid;

use crate::integrity::{
    port::{StoredRows, TreeStore},
    tiles::Tile,
};

/// What is being restored; the same for every attempt with one backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RestoreMark {
    /// The backup.
    pub backup_id: Uuid,
    /// The id the store will have.
    pub store_id: Uuid,
    /// The last position it will have.
    pub head_position: u64,
}

/// Events, and the tiles of the tree that became full with them.
#[derive(Debug, Default)]
pub struct RestorePage {
    /// In order of position; they follow what is there.
    pub rows: StoredRows,
    /// Stored whether they are there or not.
    pub tiles: Vec<Tile>,
}

/// The tree over everything that was restored.
#[derive(Debug, Clone)]
pub struct RestoreEnd {
    /// Its leaves.
    pub size: u64,
    /// How often an operator has accepted that the log went back.
    pub acceptances: u64,
    /// The newest checkpoint.
    pub checkpoint: Option<String>,
}

/// Why a restoration does not begin.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The store holds events.
    #[error(
        "the store has events already ({head} positions): a backup is restored into an empty store only; name another with --database-url"
    )]
    NotEmpty {
        /// Position of the last one.
        head: u64,
    },
    /// The store holds part of another backup.
    #[error(
        "the store holds an unfinished restoration of another backup ({backup_id}): go on with that one, or give it up with `restore --discard`"
    )]
    AnotherBackup {
        /// That backup.
        backup_id: Uuid,
    },
    /// Somebody works on the store.
    #[error("a server is running on this store: stop it first (or wait until the lease of one that died is over)")]
    InUse,
    /// Somebody began to work on the store meanwhile.
    #[error(
        "a server came up on this store while the backup was restored: stop it, and restore the same backup again to finish"
    )]
    CameUp,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A database into which a log can be put as it was.
///
/// From the first step to [`finish_restore`](RestoreStore::finish_restore) the database carries a mark: opened in any
/// other way it says that its restoration is unfinished, and its log refuses appends. A process that had it open before appends
/// to it never again, as the log has another id since.
pub trait RestoreStore: TreeStore {
    /// Marks the database, makes the log read-only and gives it the store id. Returns the last position that is there:
    /// 0, or where an earlier attempt with the same backup has ended.
    ///
    /// # Errors
    /// [`Refused`]; nothing was changed then.
    fn begin_restore(&self, mark: RestoreMark) -> BoxFuture<'_, Result<u64, Refused>>;

    /// Stores a page in one commit, which may be lost in a power cut until the end.
    ///
    /// # Errors
    /// [`StoreError`].
    fn restore_page(&self, page: RestorePage) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Sets the tree's size. The mark stays, so that the store can be verified first.
    ///
    /// # Errors
    /// [`StoreError`].
    fn seal_restore(&self, end: RestoreEnd) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Takes the mark away and lets the log take appends. Those of whom the log says that they were erased, each named
    /// once, have no key from then on, and get none. On return all of it is durable.
    ///
    /// # Errors
    /// [`Refused::CameUp`] and [`Refused::Store`]; the mark stays then.
    fn finish_restore<'a>(&'a self, erased: &'a [Tombstone]) -> BoxFuture<'a, Result<(), Refused>>;

    /// Empties a marked store again, under a new store id; `false` if it carries no mark.
    ///
    /// # Errors
    /// [`StoreError`].
    fn discard_restore(&self) -> BoxFuture<'_, Result<bool, StoreError>>;
}
