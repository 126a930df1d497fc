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

/// Keeps answers for a while. Nothing is true because it is in here: whether an answer may be served is decided anew
/// each time, by what the database said of the rows it was made of.
pub trait QueryCache: Debug + Send + Sync + 'static {
    /// The answer under a key; `None` whenever there is none, it cannot be reached, or it cannot be reached *soon*: a
    /// slow or dead cache must cost less than the database does.
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Option<CachedAnswer>>;

    /// Offers an answer; returns at once, whether or not it will be kept. An older one under the key is replaced.
    fn put(&self, key: String, answer: CachedAnswer);
}
