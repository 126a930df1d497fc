//! [`Cache`]: where the app keeps answers of queries, chosen by the settings.

use std::{sync::Arc, time::Duration};

use event_sourcing_actors::ports::QueryCache;

use super::AppError;
use crate::{
    cache::memory::{MemoryCache, MemoryCacheOptions},
    settings,
};

/// Where answers of queries are kept for a while.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Cache {
    /// Nowhere.
    None,
    /// In the process.
    Memory(Arc<MemoryCache>),
    /// In a Redis that replicas share.
    #[cfg(feature = "redis")]
    Redis(Arc<crate::cache::redis::RedisCache>),
}

impl Cache {
    /// Makes the one the settings ask for; a Redis that does not answer is no fault.
    #[cfg_attr(not(feature = "redis"), allow(clippy::unnecessary_wraps, reason = "with the feature it can fail"))]
    pub(super) fn open(settings: &settings::Cache) -> Result<Self, AppError> {
        if !settings.enabled {
            return Ok(Self::None);
        }
        let ttl = Duration::from_secs(settings.ttl_s);
        let Some(url) = &settings.redis_url else {
            let bytes_max = u64::try_from(settings.bytes_max).unwrap_or(u64::MAX);
            return Ok(Self::Memory(Arc::new(MemoryCache::new(MemoryCacheOptions { bytes_max, ttl }))));
        };
        #[cfg(feature = "redis")]
        {
            use crate::cache::redis::{RedisCache, RedisCacheOptions};
            let options = RedisCacheOptions { ttl, timeout: Duration::from_millis(settings.redis_timeout_ms) };
            Ok(Self::Redis(Arc::new(RedisCache::start(url, options)?)))
        }
        #[cfg(not(feature = "redis"))]
        Err(AppError::MissingFeature { feature: "redis", database: url.to_string() })
    }

    /// The port, for the query bus.
    pub(super) fn port(&self) -> Option<Arc<dyn QueryCache>> {
        match self {
            Self::None => None,
            Self::Memory(cache) => Some(cache.clone()),
            #[cfg(feature = "redis")]
            Self::Redis(cache) => Some(cache.clone()),
        }
    }

    /// Ends what it runs.
    pub(super) async fn close(&self) {
        #[cfg(feature = "redis")]
        if let Self::Redis(cache) = self {
            cache.close().await;
        }
    }
}
