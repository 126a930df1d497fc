//! The query cache port: a place for answers that may lose them at any time, and may give back old ones.

use std::fmt::Debug;

use bytes::Bytes;
use futures_util::future::BoxFuture;

use super::Revision;
use crate::version::Position;

/// An answer, and what it rests on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CachedAnswer {
    /// The revision of the rows it was made of.
    pub revision: Revision,
    /// What these rows had applied.
    pub position: Position,
    /// The data of the answer: JSON.
    pub data: Bytes,
}

/// The cache gave no answer, or gave it too late; why is the adapter's to log and to count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the query cache gives no answer")]
pub struct CacheUnavailable;

/// Keeps answers for a while. Nothing is true because it is in here: whether an answer may be served is decided anew
/// each time, by what the database said of the rows it was made of.
///
/// So a cache may lose answers, and may give back any that was ever put under the key, in any order. It must never give
/// back one that was put under another key, nor one whose bytes have changed.
pub trait QueryCache: Debug + Send + Sync + 'static {
    /// The answer under a key, `None` if there is none. A slow or dead cache must cost less than the database does, so
    /// it gives up by itself, soon.
    ///
    /// Cancellation safe.
    ///
    /// # Errors
    /// [`CacheUnavailable`]; the query then goes to the database.
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<CachedAnswer>, CacheUnavailable>>;

    /// Offers an answer; returns at once, whether or not it will be kept. One under the key is replaced.
    fn put(&self, key: String, answer: CachedAnswer);

    /// Takes away every answer whose key begins like this. One that is put at the same time may stay, for as long as
    /// answers are kept.
    ///
    /// # Errors
    /// [`CacheUnavailable`]: some may be left.
    fn sweep<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<(), CacheUnavailable>>;
}
