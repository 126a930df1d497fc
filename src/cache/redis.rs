//! [`RedisCache`]: answers in a Redis that replicas share. Whatever happens to the Redis costs speed only.

mod link;
mod value;

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use event_sourcing_actors::ports::{CacheUnavailable, CachedAnswer, QueryCache};
use futures_util::future::BoxFuture;
use redis::Client;
use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::settings::SecretUrl;
use link::{Link, PATIENCE};

/// Answers waiting to be written; more are not taken.
const QUEUE_MAX: usize = 256;
/// Answers written at once.
const BATCH_MAX: usize = 32;
/// Longer answers are not kept: they would delay others.
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// Between two attempts to reach a Redis that is away.
const REST: Duration = Duration::from_secs(1);

/// Bounds of a [`RedisCache`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RedisCacheOptions {
    /// How long Redis keeps an answer.
    pub ttl: Duration,
    /// How long a query waits for Redis before it goes to the database.
    pub timeout: Duration,
}

impl Default for RedisCacheOptions {
    fn default() -> Self {
        Self { ttl: Duration::from_secs(60), timeout: Duration::from_millis(50) }
    }
}

/// Keys looked at in one step of a sweep.
const SCAN_KEYS: u32 = 1_000;

/// Answers in a Redis.
pub struct RedisCache {
    link: Arc<Link>,
    timeout: Duration,
    queue: mpsc::Sender<(String, CachedAnswer)>,
    stop: CancellationToken,
    keeper: Mutex<Option<JoinHandle<()>>>,
}

impl fmt::Debug for RedisCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never the client: it holds the password.
        f.debug_struct("RedisCache").finish_non_exhaustive()
    }
}

/// Why a Redis cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// The URL is not one.
    #[error("{url} is no Redis URL; it takes redis://host:port or rediss://host:port")]
    Url {
        /// As set, passwords masked.
        url: SecretUrl,
    },
    /// No answer came in time.
    #[error("no answer within {} ms", PATIENCE.as_millis())]
    Late,
    /// It cannot be reached, or refuses.
    #[error("Redis does not answer: {reason}")]
    Unavailable {
        /// In general words: the client's own may name hosts and users.
        reason: String,
    },
}

impl RedisCache {
    /// Reads the URL and starts the task that connects, writes, and connects anew. Needs a tokio runtime; end it with
    /// [`RedisCache::close`].
    ///
    /// # Errors
    /// [`CacheError::Url`].
    pub fn start(url: &SecretUrl, options: RedisCacheOptions) -> Result<Self, CacheError> {
        let client = Client::open(url.expose()).map_err(|_| CacheError::Url { url: url.clone() })?;
        let link = Arc::new(Link::new(client, options.timeout));
        let (queue, answers) = mpsc::channel(QUEUE_MAX);
        let stop = CancellationToken::new();
        let keeper = Keeper { link: link.clone(), answers, ttl: options.ttl };
        let stopped = stop.clone();
        let keeper = tokio::spawn(async move {
            // Everything it awaits may be cut: an answer that is not written is read from the database.
            let _ = stopped.run_until_cancelled(keeper.run()).await;
        });
        Ok(Self { link, timeout: options.timeout, queue, stop, keeper: Mutex::new(Some(keeper)) })
    }

    /// Whether queries use it at the moment.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.link.is_up()
    }

    /// Asks for a sign of life, for a second at most.
    ///
    /// # Errors
    /// [`CacheError::Late`] or [`CacheError::Unavailable`].
    pub async fn ping(&self) -> Result<(), CacheError> {
        match timeout(PATIENCE, self.link.ping()).await {
            Err(_) => Err(CacheError::Late),
            Ok(Err(error)) => Err(CacheError::Unavailable { reason: error.category().to_owned() }),
            Ok(Ok(())) => Ok(()),
        }
    }

    /// Ends its task; answers not yet written are dropped.
    pub async fn close(&self) {
        self.stop.cancel();
        let keeper = self.keeper.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(keeper) = keeper {
            let _ = keeper.await;
        }
    }

    /// Walks all keys and removes those that begin like this, page by page.
    async fn remove(&self, prefix: &str) -> Result<(), CacheUnavailable> {
        let mut connection = self.link.connections().ok_or(CacheUnavailable)?.writes;
        let mut cursor = 0_u64;
        loop {
            let mut scan = redis::cmd("SCAN");
            scan.arg(cursor).arg("MATCH").arg(format!("{prefix}*")).arg("COUNT").arg(SCAN_KEYS);
            let page = timeout(PATIENCE, scan.query_async::<(u64, Vec<String>)>(&mut connection)).await;
            let Ok(Ok((next, keys))) = page else { return Err(CacheUnavailable) };
            if !keys.is_empty() {
                let mut unlink = redis::cmd("UNLINK");
                unlink.arg(keys);
                let done = timeout(PATIENCE, unlink.exec_async(&mut connection)).await;
                let Ok(Ok(())) = done else { return Err(CacheUnavailable) };
            }
            if next == 0 {
                return Ok(());
            }
            cursor = next;
        }
    }

    async fn ask(&self, key: &str) -> Result<Option<CachedAnswer>, CacheUnavailable> {
        let mut connection = self.link.connections().ok_or(CacheUnavailable)?.reads;
        let command = redis::Cmd::get(key);
        let asked = command.query_async::<Option<Bytes>>(&mut connection);
        let Ok(Ok(value)) = timeout(self.timeout, asked).await else {
            self.link.failed();
            return Err(CacheUnavailable);
        };
        self.link.succeeded();
        match value {
            None => Ok(None),
            Some(value) => value::decode(key, &value).map(Some).ok_or(CacheUnavailable),
        }
    }
}

impl Drop for RedisCache {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl QueryCache for RedisCache {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<CachedAnswer>, CacheUnavailable>> {
        Box::pin(self.ask(key))
    }

    fn put(&self, key: String, answer: CachedAnswer) {
        if answer.data.len() <= ANSWER_BYTES_MAX && self.link.is_up() {
            // A full queue: the answer is read from the database next time.
            let _ = self.queue.try_send((key, answer));
        }
    }

    fn sweep<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<(), CacheUnavailable>> {
        Box::pin(self.remove(prefix))
    }
}

/// The one task that connects and writes.
struct Keeper {
    link: Arc<Link>,
    answers: mpsc::Receiver<(String, CachedAnswer)>,
    ttl: Duration,
}

impl Keeper {
    async fn run(mut self) {
        loop {
            let tried_at = Instant::now();
            if !self.link.revive().await {
                sleep_until(tried_at + REST).await;
                continue;
            }
            self.write().await;
            sleep_until(tried_at + REST).await;
        }
    }

    /// Writes what comes until the connections are given up.
    async fn write(&mut self) {
        let mut batch = Vec::with_capacity(BATCH_MAX);
        while let Some(connections) = self.link.connections() {
            tokio::select! {
                count = self.answers.recv_many(&mut batch, BATCH_MAX) => {
                    if count == 0 {
                        return; // the cache is gone, and this task with it
                    }
                    self.store(connections.writes, &batch).await;
                    batch.clear();
                }
                () = self.link.given_up.notified() => {}
            }
        }
    }

    async fn store(&self, mut connection: redis::aio::MultiplexedConnection, batch: &[(String, CachedAnswer)]) {
        let ttl_ms = u64::try_from(self.ttl.as_millis()).unwrap_or(u64::MAX).max(1);
        let mut commands = redis::pipe();
        for (key, answer) in batch {
            let value = value::encode(key, answer);
            commands.cmd("SET").arg(key).arg(&value[..]).arg("PX").arg(ttl_ms).ignore();
        }
        match timeout(PATIENCE, commands.exec_async(&mut connection)).await {
            Ok(Ok(())) => {}
            // It answers, but does not take answers just now (full, or a replica): reads may still find some.
            Ok(Err(error)) if !error.is_io_error() && !error.is_unrecoverable_error() => {
                tracing::debug!(reason = error.category(), "Redis did not take answers of queries");
            }
            Ok(Err(_)) | Err(_) => self.link.give_up(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn wrong_url_is_told_without_its_password() {
        let url = SecretUrl::new("http://user:hunter2@host");
        let error = RedisCache::start(&url, RedisCacheOptions::default()).unwrap_err().to_string();
        assert!(error.contains("redis://host:port") && !error.contains("hunter2"), "{error}");
    }

    #[tokio::test]
    async fn redis_that_is_not_there_is_told_within_a_second_and_costs_a_query_nothing() {
        let nobody = SecretUrl::new("redis://127.0.0.1:1");
        let nobody = RedisCache::start(&nobody, RedisCacheOptions::default()).unwrap();
        assert!(nobody.ping().await.is_err());
        assert_eq!(nobody.get("key").await, Err(CacheUnavailable));
        nobody.close().await;
    }
}
