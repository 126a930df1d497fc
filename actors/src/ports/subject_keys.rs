//! The port of the subjects' keys, and of what an erasure removes beside them.

use std::fmt::Debug;

use chrono::{DateTime, Utc};
use futures_util::future::BoxFuture;
use uuid::Uuid;

use super::{StoreError, Tombstone};
use crate::{id::AggregateId, master_keys::MasterKeys};

/// A subject's key as it is stored: wrapped, or destroyed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredKey {
    /// Whose.
    pub subject: AggregateId,
    /// What became of it.
    pub state: StoredKeyState,
}

/// What became of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoredKeyState {
    /// It can be opened by the master key that wrapped it.
    Wrapped(WrappedKey),
    /// It was destroyed then; the row stays, so that the subject never gets another.
    Destroyed(DateTime<Utc>),
}

/// A key under a master key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrappedKey {
    /// The key's own id.
    pub id: Uuid,
    /// The name of the master key.
    pub master: String,
    /// Nonce and ciphertext.
    pub wrapped: Vec<u8>,
}

/// What there is of keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyCensus {
    /// The master key that is current, if one was ever named.
    pub current: Option<String>,
    /// How many keys each master key wraps, in order of name.
    pub wrapped: Vec<(String, u64)>,
    /// How many were destroyed.
    pub destroyed: u64,
}

impl KeyCensus {
    /// How many keys are there.
    #[must_use]
    pub fn keys(&self) -> u64 {
        self.wrapped.iter().map(|(_, keys)| keys).sum()
    }
}

/// Keeps the keys of subjects, in the event store's own database. Every method may be called from many tasks and
/// processes at once.
pub trait SubjectKeys: Debug + Send + Sync + 'static {
    /// The keys of these subjects, in order; `None` for those that never had one.
    ///
    /// # Errors
    /// [`StoreError`].
    fn find<'a>(&'a self, subjects: &'a [AggregateId]) -> BoxFuture<'a, Result<Vec<Option<StoredKey>>, StoreError>>;

    /// Stores keys, each for a subject of its own, and returns what then stands, in order: the first to come wins, and a
    /// destroyed key stays destroyed. Flushed on return: events under a key are stored after it.
    ///
    /// # Errors
    /// [`StoreError`]; which of them are stored is then unknown.
    fn create<'a>(&'a self, keys: &'a [(AggregateId, WrappedKey)])
    -> BoxFuture<'a, Result<Vec<StoredKey>, StoreError>>;

    /// Destroys a subject's key: its bytes are overwritten, and the subject can have none again, also if it never had
    /// one. Returns when it was destroyed first. Flushed on return.
    ///
    /// # Errors
    /// [`StoreError`].
    fn destroy<'a>(&'a self, subject: &'a AggregateId) -> BoxFuture<'a, Result<DateTime<Utc>, StoreError>>;

    /// Up to `limit` keys that were destroyed, in order of instant and subject, after this one; those of one instant may
    /// show up later than those of the next.
    ///
    /// # Errors
    /// [`StoreError`].
    fn destroyed<'a>(&'a self, after: &'a Tombstone, limit: u32) -> BoxFuture<'a, Result<Vec<Tombstone>, StoreError>>;

    /// Up to `limit` keys that are wrapped by another master key than this.
    ///
    /// # Errors
    /// [`StoreError`].
    fn foreign<'a>(&'a self, master: &'a str, limit: u32) -> BoxFuture<'a, Result<Vec<StoredKey>, StoreError>>;

    /// Replaces the wrapping of keys that are still there, by key id. Flushed on return.
    ///
    /// # Errors
    /// [`StoreError`].
    fn rewrap<'a>(&'a self, keys: &'a [(AggregateId, WrappedKey)]) -> BoxFuture<'a, Result<(), StoreError>>;

    /// Counts what there is. Reads all of it.
    ///
    /// # Errors
    /// [`StoreError`].
    fn census(&self) -> BoxFuture<'_, Result<KeyCensus, StoreError>>;

    /// Up to `limit` keys, destroyed ones too, in order of subject, after this subject.
    ///
    /// # Errors
    /// [`StoreError`].
    fn list<'a>(
        &'a self,
        after: Option<&'a AggregateId>,
        limit: u32,
    ) -> BoxFuture<'a, Result<Vec<StoredKey>, StoreError>>;

    /// Puts back what was listed before, each of a subject of its own, and returns what then stands, in order. A key goes
    /// where its subject has none; a destruction goes everywhere, with its own instant unless there was one before. All or
    /// nothing, and flushed on return.
    ///
    /// # Errors
    /// [`StoreError`].
    fn put_back<'a>(&'a self, keys: &'a [StoredKey]) -> BoxFuture<'a, Result<Vec<StoredKey>, StoreError>>;

    /// Names the current master key of the store, once for all processes; a rotation replaces it. Returns the one that
    /// then stands: `to` if none stood, or if `from` did.
    ///
    /// # Errors
    /// [`StoreError`].
    fn appoint<'a>(&'a self, from: &'a [String], to: &'a str) -> BoxFuture<'a, Result<String, StoreError>>;

    /// The master keys that the store keeps itself, beside what they wrap: for processes that share nothing but the store.
    /// An `offer` is appointed and kept if none stands. `None`: the one that stands lies elsewhere. Flushed on return.
    ///
    /// # Errors
    /// [`StoreError`].
    fn kept_master<'a>(
        &'a self,
        offer: Option<&'a MasterKeys>,
    ) -> BoxFuture<'a, Result<Option<MasterKeys>, StoreError>>;
}

/// What stands in place of an error that may have repeated what was erased.
pub const ERASED_WORDS: &str = "[erased]";

/// Removes what the other ports cannot, and makes sure that nothing removed can be read from the database's files.
pub trait Scrubber: Debug + Send + Sync + 'static {
    /// Takes words that may repeat what an event held out of what is kept of a stream: the errors of its parked events.
    ///
    /// # Errors
    /// [`StoreError`].
    fn forget<'a>(&'a self, stream: &'a AggregateId) -> BoxFuture<'a, Result<(), StoreError>>;

    /// Overwrites what was removed, as far as the database can; returns a sentence that says how far that is.
    ///
    /// # Errors
    /// [`StoreError`]: it is not done, and may be tried again.
    fn scrub(&self) -> BoxFuture<'_, Result<String, StoreError>>;
}
