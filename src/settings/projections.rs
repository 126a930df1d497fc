//! The sections of `projections.yaml`.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::{
    schema::{Bound, bound},
    url::{Database, SecretUrl},
};

const BATCH_EVENTS: std::ops::RangeInclusive<u64> = 1..=100_000;

/// How read models follow the log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Projections {
    /// Whether this process keeps read models; else it only reads those that others keep.
    pub follow: bool,
    /// Events applied in one transaction at most.
    pub batch_events_max: usize,
    /// Whether queries wait for the head of the log they find.
    pub consistency: Consistency,
    /// How long an owner of a projection may be silent before another process takes over.
    pub lease_ms: u64,
    /// How often the process looks for events when nothing wakes it; one look serves all projections and live readers.
    pub poll_ms: u64,
    /// Rows each projection remembers at most.
    pub rows_in_memory_max: usize,
    /// Attempts at an event before it is parked.
    pub apply_attempts: u32,
    /// How long it is remembered what changed when, for the caches of other processes.
    pub changes_retention_s: u64,
    /// How long operations (rebuilds, verifications, erasures …) stay on record after their end.
    pub operations_retention_days: u32,
    /// Operations on record at most; running ones are always kept.
    pub operations_kept_max: u32,
    /// What single projections do differently, by name.
    pub definitions: BTreeMap<String, Definition>,
    /// Read models of the operator's own, by name, as written; `projections::declared` understands them.
    pub declarations: BTreeMap<String, Value>,
}

impl Default for Projections {
    fn default() -> Self {
        Self {
            follow: true,
            batch_events_max: 1_000,
            consistency: Consistency::Latest,
            lease_ms: 5_000,
            poll_ms: 200,
            rows_in_memory_max: 50_000,
            apply_attempts: 3,
            changes_retention_s: 300,
            operations_retention_days: 90,
            operations_kept_max: 10_000,
            definitions: BTreeMap::new(),
            declarations: BTreeMap::new(),
        }
    }
}

/// What one projection does differently; what is absent is as for all.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Definition {
    /// Whether it is kept at all; yes if absent. Queries over one that is not are refused as unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// Events applied in one transaction at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch_events_max: Option<usize>,
    /// Whether its queries wait for the head of the log they find.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consistency: Option<Consistency>,
}

/// How fresh an answer without `Es-Min-Position` is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Consistency {
    /// It holds everything that was recorded when the query came, unless that takes longer than
    /// `queries.latest_wait_ms`.
    #[default]
    Latest,
    /// It holds what the projection has applied; nothing is waited for.
    Eventual,
}

impl Projections {
    /// Whether a projection is kept.
    #[must_use]
    pub fn is_enabled(&self, name: &str) -> bool {
        self.definitions.get(name).and_then(|own| own.enabled).unwrap_or(true)
    }

    /// Events a projection applies in one transaction at most.
    #[must_use]
    pub fn batch_events_max_of(&self, name: &str) -> usize {
        self.definitions.get(name).and_then(|own| own.batch_events_max).unwrap_or(self.batch_events_max)
    }

    /// How fresh the answers of a projection are.
    #[must_use]
    pub fn consistency_of(&self, name: &str) -> Consistency {
        self.definitions.get(name).and_then(|own| own.consistency).unwrap_or(self.consistency)
    }

    pub(super) fn bounds(&self) -> Vec<Bound> {
        let mut bounds = vec![
            bound("projections.batch_events_max", self.batch_events_max, BATCH_EVENTS),
            bound("projections.lease_ms", self.lease_ms, 500..=600_000),
            bound("projections.poll_ms", self.poll_ms, 10..=60_000),
            bound("projections.rows_in_memory_max", self.rows_in_memory_max, 0..=10_000_000),
            bound("projections.apply_attempts", self.apply_attempts, 1..=100),
            bound("projections.changes_retention_s", self.changes_retention_s, 10..=86_400),
            bound("projections.operations_retention_days", self.operations_retention_days, 1..=36_500),
            bound("projections.operations_kept_max", self.operations_kept_max, 100..=1_000_000),
        ];
        bounds.extend(self.definitions.iter().filter_map(|(name, own)| {
            let key = format!("projections.definitions.{name}.batch_events_max");
            Some(bound(key, own.batch_events_max?, BATCH_EVENTS))
        }));
        bounds
    }
}

/// Where read models are kept.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReadModels {
    /// A database of their own; none = beside the events.
    pub database_url: Option<Database>,
}

/// The cache of query results.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cache {
    /// Whether results are kept at all.
    pub enabled: bool,
    /// How long a result is kept at most; it leaves earlier when its rows change.
    pub ttl_s: u64,
    /// Bytes of results in this process at most.
    pub bytes_max: usize,
    /// The Redis that replicas share; also `REDIS_URL`. Without it the cache lies in the process.
    #[serde(deserialize_with = "redis_url")]
    pub redis_url: Option<SecretUrl>,
    /// How long a query waits for Redis before it asks the database.
    pub redis_timeout_ms: u64,
}

impl Default for Cache {
    fn default() -> Self {
        Self { enabled: true, ttl_s: 60, bytes_max: 64 << 20, redis_url: None, redis_timeout_ms: 50 }
    }
}

impl Cache {
    pub(super) fn bounds(&self) -> [Bound; 3] {
        [
            bound("cache.ttl_s", self.ttl_s, 1..=86_400),
            bound("cache.bytes_max", self.bytes_max, 1_024..=64 << 30),
            bound("cache.redis_timeout_ms", self.redis_timeout_ms, 1..=10_000),
        ]
    }
}

fn redis_url<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SecretUrl>, D::Error> {
    let Some(text) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
    if ["redis://", "rediss://"].iter().any(|scheme| text.strip_prefix(scheme).is_some_and(|rest| !rest.is_empty())) {
        return Ok(Some(SecretUrl::new(text)));
    }
    Err(serde::de::Error::custom("must be redis://host:port or rediss://host:port (TLS)"))
}
