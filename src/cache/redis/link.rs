//! The way to the Redis: two connections while it answers in time, none while it does not.
//!
//! A query never connects and never waits for a connection. After a few failures in a row both connections are given
//! up, so that nothing queues behind a Redis that hangs; one task tries again once a second, and takes up service only
//! when it is answered as fast as queries want to be.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use redis::{AsyncConnectionConfig, Client, RedisError, aio::MultiplexedConnection};
use tokio::{sync::Notify, time::timeout};

/// Failures in a row before the connections are given up.
const FAILURES_MAX: u32 = 3;
/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(1);
/// How long a write, and a sign of life asked for by the health check, may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);

/// Reads and writes do not wait for each other's bytes.
#[derive(Clone)]
pub(super) struct Connections {
    pub reads: MultiplexedConnection,
    pub writes: MultiplexedConnection,
}

pub(super) struct Link {
    client: Client,
    /// How long an answer to a read may take.
    timeout: Duration,
    connections: Mutex<Option<Connections>>,
    failures: AtomicU32,
    /// The connections were given up.
    pub given_up: Notify,
}

impl Link {
    pub fn new(client: Client, timeout: Duration) -> Self {
        Self { client, timeout, connections: Mutex::default(), failures: AtomicU32::new(0), given_up: Notify::new() }
    }

    pub fn connections(&self) -> Option<Connections> {
        self.lock().clone()
    }

    pub fn is_up(&self) -> bool {
        self.lock().is_some()
    }

    pub fn succeeded(&self) {
        self.failures.store(0, Ordering::Relaxed);
    }

    pub fn failed(&self) {
        if self.failures.fetch_add(1, Ordering::Relaxed) + 1 >= FAILURES_MAX {
            self.give_up();
        }
    }

    pub fn give_up(&self) {
        if self.lock().take().is_some() {
            tracing::warn!("Redis does not answer in time: queries go to the database until it does");
        }
        self.given_up.notify_one();
    }

    /// Connects anew and asks for a sign of life, in the time a query would give it.
    pub async fn revive(&self) -> bool {
        let Some(connections) = self.connect().await else { return false };
        let mut reads = connections.reads.clone();
        let is_alive = timeout(self.timeout, redis::cmd("PING").query_async::<String>(&mut reads)).await;
        if !matches!(is_alive, Ok(Ok(_))) {
            return false;
        }
        self.failures.store(0, Ordering::Relaxed);
        *self.lock() = Some(connections);
        tracing::info!("Redis answers: query results are cached there");
        true
    }

    /// Asks for a sign of life on a connection that is there, else on a new one.
    pub async fn ping(&self) -> Result<(), RedisError> {
        let mut reads = match self.connections() {
            Some(connections) => connections.reads,
            None => self.client.get_multiplexed_async_connection_with_config(&config()).await?,
        };
        redis::cmd("PING").query_async::<String>(&mut reads).await.map(drop)
    }

    async fn connect(&self) -> Option<Connections> {
        let config = config();
        let both = async {
            let reads = self.client.get_multiplexed_async_connection_with_config(&config).await?;
            let writes = self.client.get_multiplexed_async_connection_with_config(&config).await?;
            Ok::<_, RedisError>(Connections { reads, writes })
        };
        timeout(2 * CONNECT, both).await.ok()?.ok()
    }

    fn lock(&self) -> MutexGuard<'_, Option<Connections>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn config() -> AsyncConnectionConfig {
    AsyncConnectionConfig::new().set_connection_timeout(Some(CONNECT)).set_response_timeout(Some(PATIENCE))
}
