//! [`MemoryCache`]: answers in the process, bounded by their bytes.

use std::time::Duration;

use event_sourcing_actors::ports::{CacheUnavailable, CachedAnswer, QueryCache};
use futures_util::future::{BoxFuture, ready};
use moka::sync::Cache;

/// Bounds of a [`MemoryCache`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryCacheOptions {
    /// Bytes of all answers with their keys, and what it takes to keep them; the least used go first.
    pub bytes_max: u64,
    /// How long an answer is kept.
    pub ttl: Duration,
}

impl Default for MemoryCacheOptions {
    fn default() -> Self {
        Self { bytes_max: 64 << 20, ttl: Duration::from_secs(60) }
    }
}

/// Answers in the process.
#[derive(Debug)]
pub struct MemoryCache {
    answers: Cache<String, CachedAnswer>,
}

/// What an entry costs beside its key and its data, roughly.
const ENTRY_BYTES: usize = 192;

impl MemoryCache {
    /// An empty cache.
    #[must_use]
    pub fn new(options: MemoryCacheOptions) -> Self {
        let answers = Cache::builder()
            .weigher(|key: &String, answer: &CachedAnswer| {
                u32::try_from(key.len() + answer.data.len() + ENTRY_BYTES).unwrap_or(u32::MAX)
            })
            .max_capacity(options.bytes_max)
            .time_to_live(options.ttl)
            .build();
        Self { answers }
    }
}

impl QueryCache for MemoryCache {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<CachedAnswer>, CacheUnavailable>> {
        Box::pin(ready(Ok(self.answers.get(key))))
    }

    fn put(&self, key: String, answer: CachedAnswer) {
        self.answers.insert(key, answer);
    }

    fn sweep<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<(), CacheUnavailable>> {
        // All of them, of whatever key: it is rare, and what is still fresh is read from the database once.
        self.answers.invalidate_all();
        self.answers.run_pending_tasks();
        Box::pin(ready(Ok(())))
    }
}
