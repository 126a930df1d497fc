//! The sections of `event_store.yaml`.

use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, Serialize};

use super::{
    schema::{Bound, bound},
    url::Database,
};

const SNAPSHOT_FREQUENCY: std::ops::RangeInclusive<u64> = 1..=1_000_000;

/// Where and how events are kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventStore {
    /// The database; also `DATABASE_URL`.
    pub database_url: Database,
    /// Connections to PostgreSQL at most; SQLite has one writer and as many readers.
    pub pool_connections_max: u32,
    /// Events in one commit of the journal at most.
    pub batch_events_max: usize,
    /// Bytes of payload and metadata in one commit of the journal at most.
    pub batch_bytes_max: usize,
    /// A snapshot after so many events of a stream; also `SNAPSHOT_FREQUENCY`.
    pub snapshot_frequency: u64,
    /// The same for single aggregate types, by name.
    pub aggregates: BTreeMap<String, AggregateType>,
    /// Seconds for which the server tries a database that refuses connections; 0 tries once.
    pub connect_retry_s: u64,
}

/// What one aggregate type does differently; what is absent is as for all.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AggregateType {
    /// A snapshot after so many events of a stream of this type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot_frequency: Option<u64>,
}

impl Default for EventStore {
    fn default() -> Self {
        Self {
            database_url: Database::default(),
            pool_connections_max: 10,
            batch_events_max: 1_024,
            batch_bytes_max: 8 << 20,
            snapshot_frequency: 100,
            aggregates: BTreeMap::new(),
            connect_retry_s: 60,
        }
    }
}

impl EventStore {
    /// After how many events a stream of this type gets a snapshot.
    #[must_use]
    pub fn snapshot_frequency_of(&self, aggregate_type: &str) -> u64 {
        let own = self.aggregates.get(aggregate_type).and_then(|own| own.snapshot_frequency);
        own.unwrap_or(self.snapshot_frequency)
    }

    pub(super) fn bounds(&self) -> Vec<Bound> {
        let mut bounds = vec![
            bound("event_store.pool_connections_max", self.pool_connections_max, 1..=1_000),
            bound("event_store.batch_events_max", self.batch_events_max, 1..=100_000),
            bound("event_store.batch_bytes_max", self.batch_bytes_max, 1_024..=256 << 20),
            bound("event_store.snapshot_frequency", self.snapshot_frequency, SNAPSHOT_FREQUENCY),
            bound("event_store.connect_retry_s", self.connect_retry_s, 0..=86_400),
        ];
        bounds.extend(self.aggregates.iter().filter_map(|(name, own)| {
            let key = format!("event_store.aggregates.{name}.snapshot_frequency");
            Some(bound(key, own.snapshot_frequency?, SNAPSHOT_FREQUENCY))
        }));
        bounds
    }
}

/// Personal data and its erasure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Erasure {
    /// File of the master keys; see [`master_key_file`](super::Settings::master_key_file).
    pub master_key_file: Option<PathBuf>,
    /// File that remembers whose data was erased; see [`tombstone_file`](super::Settings::tombstone_file).
    pub tombstone_file: Option<PathBuf>,
    /// Milliseconds for which a process uses a subject's key after it has read it.
    pub key_life_ms: u64,
}

impl Default for Erasure {
    fn default() -> Self {
        Self { master_key_file: None, tombstone_file: None, key_life_ms: 5_000 }
    }
}

impl Erasure {
    pub(super) fn bounds(&self) -> Vec<Bound> {
        vec![bound("erasure.key_life_ms", self.key_life_ms, 100..=300_000)]
    }
}

/// Evidence against tampering.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Integrity {
    /// Whether evidence is kept.
    pub enabled: bool,
    /// Folder of signing key and checkpoints; see [`integrity_directory`](super::Settings::integrity_directory).
    pub directory: Option<PathBuf>,
    /// Further files that get each checkpoint.
    pub targets: Vec<PathBuf>,
    /// Milliseconds such a file may take to be read or written.
    pub target_timeout_ms: u64,
    /// Milliseconds between two looks for events that are not sealed yet.
    pub interval_ms: u64,
    /// Milliseconds after which another process seals where one has died.
    pub lease_ms: u64,
}

impl Default for Integrity {
    fn default() -> Self {
        Self {
            enabled: true,
            directory: None,
            targets: Vec::new(),
            target_timeout_ms: 2_000,
            interval_ms: 1_000,
            lease_ms: 10_000,
        }
    }
}

impl Integrity {
    pub(super) fn bounds(&self) -> Vec<Bound> {
        vec![
            bound("integrity.target_timeout_ms", self.target_timeout_ms, 10..=60_000),
            bound("integrity.interval_ms", self.interval_ms, 50..=60_000),
            bound("integrity.lease_ms", self.lease_ms, 1_000..=600_000),
        ]
    }
}
