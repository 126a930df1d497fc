//! [`RedisCache`]: a Redis, asked for a sign of life over one connection that is kept.

use std::{
    fmt,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use redis::{AsyncConnectionConfig, Client, RedisError, aio::MultiplexedConnection};

use crate::settings::SecretUrl;

/// How long a connection and an answer may take together.
const PATIENCE: Duration = Duration::from_secs(1);

/// A Redis.
pub struct RedisCache {
    client: Client,
    connection: Mutex<Option<MultiplexedConnection>>,
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
    /// Reads the URL; nothing is sent yet.
    ///
    /// # Errors
    /// [`CacheError::Url`].
    pub fn new(url: &SecretUrl) -> Result<Self, CacheError> {
        let client = Client::open(url.expose()).map_err(|_| CacheError::Url { url: url.clone() })?;
        Ok(Self { client, connection: Mutex::new(None) })
    }

    /// Asks for a sign of life, for a second at most.
    ///
    /// # Errors
    /// [`CacheError::Late`] or [`CacheError::Unavailable`]; the next call connects anew.
    pub async fn ping(&self) -> Result<(), CacheError> {
        let result = match tokio::time::timeout(PATIENCE, self.try_ping()).await {
            Err(_) => Err(CacheError::Late),
            Ok(Err(error)) => Err(CacheError::Unavailable { reason: error.category().to_owned() }),
            Ok(Ok(connection)) => {
                self.keep(Some(connection));
                return Ok(());
            }
        };
        self.keep(None);
        result
    }

    async fn try_ping(&self) -> Result<MultiplexedConnection, RedisError> {
        let kept = self.connection.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut connection = match kept {
            Some(connection) => connection,
            None => {
                let config = AsyncConnectionConfig::new().set_connection_timeout(Some(PATIENCE));
                self.client.get_multiplexed_async_connection_with_config(&config).await?
            }
        };
        let () = redis::cmd("PING").query_async::<String>(&mut connection).await.map(drop)?;
        Ok(connection)
    }

    fn keep(&self, connection: Option<MultiplexedConnection>) {
        *self.connection.lock().unwrap_or_else(PoisonError::into_inner) = connection;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_url_is_told_without_its_password() {
        let error = RedisCache::new(&SecretUrl::new("http://user:hunter2@host")).unwrap_err().to_string();
        assert!(error.contains("redis://host:port") && !error.contains("hunter2"), "{error}");
    }

    #[tokio::test]
    async fn redis_that_is_not_there_is_told_within_a_second() {
        let nobody = RedisCache::new(&SecretUrl::new("redis://127.0.0.1:1")).unwrap();
        assert!(nobody.ping().await.is_err());
    }
}
