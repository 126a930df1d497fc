//! Settings: built-in defaults < YAML files < environment < flags.
//!
//! One documented struct per concern, in the order of the files of the configuration folder. A key that nobody knows,
//! a value of the wrong type and a section in the wrong file stop the start, each with the key, the place it came from
//! and what would be right. Secrets are masked wherever a setting is shown.
//!
//! This module knows no store, no actor and no HTTP: it hands out plain values.

mod address;
mod auth;
mod cqrs;
mod declarations;
mod error;
mod event_store;
mod layers;
mod lines;
mod projections;
mod sagas;
mod schema;
#[cfg(test)]
mod tests;
mod url;

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use event_sourcing_actors::{
    Limits,
    limits::SagaLimits,
    query_bus::{self, QueryLimits},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use crate::auth::Role;
pub use address::{ListenAddress, NotAnAddress};
pub use auth::{Auth, AuthMode, JwtSettings, KeyLine};
pub use cqrs::{
    Aggregates, Branches, CommandKind, Commands, Cors, Http, Log, LogFormat, LogLevel, Queries, QueryKind, RateLimit,
    UnknownLogLevel,
};
pub use error::SettingsError;
pub use event_store::{AggregateType, Erasure, EventStore, Integrity};
pub use layers::{Flags, Source, process_environment};
pub use projections::{Cache, Consistency, Definition, Projections, ReadModels};
pub use sagas::{SagaDefinition, SagaDefinitions, Sagas};
pub use url::{Database, DatabaseError, SecretUrl};

/// What the process exits with when its settings are wrong.
pub const EXIT_CODE: u8 = 2;

/// Every setting of the server.
///
/// `Settings::default()` is a valid whole; an embedder may change fields and call [`validate`](Settings::validate).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// `event_store.yaml`: where and how events are kept.
    pub event_store: EventStore,
    /// `event_store.yaml`: who may do what.
    pub auth: Auth,
    /// `event_store.yaml`: evidence against tampering.
    pub integrity: Integrity,
    /// `event_store.yaml`: personal data and its erasure.
    pub erasure: Erasure,
    /// `projections.yaml`: how read models follow the log.
    pub projections: Projections,
    /// `projections.yaml`: where read models are kept.
    pub read_models: ReadModels,
    /// `projections.yaml`: the cache of query results.
    pub cache: Cache,
    /// `cqrs.yaml`: the command bus.
    pub commands: Commands,
    /// `cqrs.yaml`: the query bus.
    pub queries: Queries,
    /// `cqrs.yaml`: live aggregates.
    pub aggregates: Aggregates,
    /// `cqrs.yaml`: live branches.
    pub branches: Branches,
    /// `cqrs.yaml`: long-running transactions.
    pub sagas: Sagas,
    /// `cqrs.yaml`: the HTTP door.
    pub http: Http,
    /// `cqrs.yaml`: the log of the process.
    pub log: Log,
    /// Where each key came from; absent keys are defaults.
    #[serde(skip)]
    origins: BTreeMap<String, String>,
    /// File and line of each part of the declarations, by JSON pointer.
    #[serde(skip)]
    places: BTreeMap<String, String>,
}

/// One effective setting, as `config show` prints it.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(rename = "Setting")]
pub struct Explained {
    /// Dotted name, such as `commands.deadline_ms`.
    pub key: String,
    /// Its value, secrets masked.
    pub value: serde_json::Value,
    /// `default`, `file config/cqrs.yaml`, `environment DATABASE_URL` or `flag --database-url`.
    pub source: String,
}

impl Settings {
    /// Reads all layers and checks the result.
    ///
    /// Blocks on files: call it before the runtime serves anything.
    ///
    /// # Errors
    /// The first wrong key, value, file or folder, see [`SettingsError`]; the process then ends with [`EXIT_CODE`].
    pub fn load(source: Source) -> Result<Self, SettingsError> {
        let layers::Merged { tree, origins, places } = layers::merge(source)?;
        let mut settings: Self = serde_path_to_error::deserialize(tree).map_err(|error| {
            let key = error.path().to_string();
            let origin = origins.get(&key).cloned().unwrap_or_else(|| layers::DEFAULT.to_owned());
            SettingsError::Invalid { key, origin, problem: error.into_inner().to_string() }
        })?;
        settings.origins = origins;
        settings.places = places;
        settings.validate()?;
        Ok(settings)
    }

    /// Checks ranges, and that what is asked for exists in this version.
    ///
    /// # Errors
    /// [`SettingsError::Invalid`] for the first value out of its range.
    pub fn validate(&self) -> Result<(), SettingsError> {
        let outside = self.bounds().into_iter().find_map(|bound| Some((bound.problem()?, bound.key)));
        let wrong = || self.auth.problem().or_else(|| self.http.problem());
        match outside.or_else(wrong) {
            None => Ok(()),
            Some((problem, key)) => {
                let origin = self.origin(&key).to_owned();
                Err(SettingsError::Invalid { key, origin, problem })
            }
        }
    }

    /// Every effective setting with its source, in the order of the files; secrets are masked.
    #[must_use]
    pub fn explain(&self) -> Vec<Explained> {
        let tree = serde_json::to_value(self).unwrap_or_default();
        schema::leaves(&tree)
            .into_iter()
            .map(|(key, value)| Explained { source: self.origin(&key).to_owned(), key, value })
            .collect()
    }

    /// Sentences an operator should read at the start, for instance about a door that is open to everyone.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let address = &self.http.bind_address;
        if self.auth.mode == AuthMode::None && !address.is_of_this_machine() {
            return vec![format!(
                "{address} can be reached from other machines and auth.mode is none: whoever reaches it may read and write everything"
            )];
        }
        Vec::new()
    }

    /// The bounds of the runtime.
    #[must_use]
    pub fn limits(&self) -> Limits {
        let (commands, aggregates, store) = (&self.commands, &self.aggregates, &self.event_store);
        Limits {
            commands_in_flight_max: commands.in_flight_max,
            commands_per_aggregate_max: commands.per_aggregate_max,
            command_deadline: Duration::from_millis(commands.deadline_ms),
            slow_command: Duration::from_millis(commands.slow_ms),
            recoveries_max: aggregates.recoveries_max,
            live_aggregates_max: aggregates.live_max,
            aggregate_idle: Duration::from_millis(aggregates.idle_ms),
            conflict_losses_max: commands.conflict_losses_max,
            restarts_max: aggregates.restarts_max,
            parked: Duration::from_millis(aggregates.parked_ms),
            journal_queue_max: commands.journal_queue_max,
            batch_events_max: store.batch_events_max,
            batch_bytes_max: store.batch_bytes_max,
            key_retention: Duration::from_secs(commands.idempotency_retention_h * 3_600),
            drain: Duration::from_millis(self.http.drain_ms),
            feed_poll: Duration::from_millis(self.projections.poll_ms),
            sagas: SagaLimits {
                in_flight_max: self.sagas.in_flight_max,
                attempts_max: self.sagas.attempts_max,
                retry_pause_max: Duration::from_millis(self.sagas.retry_pause_max_ms),
                ..SagaLimits::default()
            },
            branches: self.branches.limits(),
            subject_key_life: Duration::from_millis(self.erasure.key_life_ms),
            ..Limits::default()
        }
    }

    /// The bounds of queries.
    #[must_use]
    pub fn query_limits(&self) -> QueryLimits {
        let (queries, projections) = (&self.queries, &self.projections);
        let consistency = |set| match set {
            Consistency::Latest => query_bus::Consistency::Latest,
            Consistency::Eventual => query_bus::Consistency::Eventual,
        };
        let definitions = projections.definitions.keys();
        QueryLimits {
            in_flight_max: queries.in_flight_max,
            deadline: Duration::from_millis(queries.timeout_ms),
            deadlines: queries
                .types
                .keys()
                .map(|name| (name.clone(), Duration::from_millis(queries.timeout_ms_of(name))))
                .collect(),
            slow: Duration::from_millis(queries.slow_ms),
            wait_max: Duration::from_millis(queries.wait_max_ms),
            latest_wait: Duration::from_millis(queries.latest_wait_ms),
            consistency: consistency(projections.consistency),
            consistencies: definitions
                .map(|name| (name.clone(), consistency(projections.consistency_of(name))))
                .collect(),
            cache_ttl: Duration::from_secs(self.cache.ttl_s),
        }
    }

    /// Where signing key and checkpoints lie: as set, else beside the SQLite file, else `data`.
    #[must_use]
    pub fn integrity_directory(&self) -> PathBuf {
        if let Some(directory) = &self.integrity.directory {
            return directory.clone();
        }
        match &self.event_store.database_url {
            Database::Sqlite { path } => path.parent().map(PathBuf::from).unwrap_or_default(),
            Database::Memory | Database::Postgres { .. } => PathBuf::from("data"),
        }
    }

    /// Where the master keys of a store with this id lie: as set, else beside the SQLite file, else in `data`. `None`: a
    /// store in memory has one of its own, gone with the process.
    #[must_use]
    pub fn master_key_file(&self, store_id: Option<uuid::Uuid>) -> Option<PathBuf> {
        self.erasure_file(self.erasure.master_key_file.as_ref(), store_id, "key")
    }

    /// Where it is remembered whose data was erased from a store with this id, in the same way.
    #[must_use]
    pub fn tombstone_file(&self, store_id: Option<uuid::Uuid>) -> Option<PathBuf> {
        self.erasure_file(self.erasure.tombstone_file.as_ref(), store_id, "erased")
    }

    fn erasure_file(&self, set: Option<&PathBuf>, store_id: Option<uuid::Uuid>, ending: &str) -> Option<PathBuf> {
        if let Some(file) = set {
            return Some(file.clone());
        }
        let name = format!("erasure-{}.{ending}", store_id?.simple());
        Some(match &self.event_store.database_url {
            Database::Sqlite { path } => path.with_file_name(name),
            Database::Memory | Database::Postgres { .. } => PathBuf::from("data").join(name),
        })
    }

    /// Where a part of `projections.declarations` is written, by its JSON pointer from there, such as
    /// `file config/projections.yaml, line 12`; the nearest part around it that is.
    #[must_use]
    pub fn declaration_place(&self, pointer: &str) -> String {
        let mut pointer = pointer;
        loop {
            match (self.places.get(pointer), pointer.rsplit_once('/')) {
                (Some(place), _) => return place.clone(),
                (None, Some((outer, _))) => pointer = outer,
                (None, None) => return "settings".to_owned(),
            }
        }
    }

    fn origin(&self, key: &str) -> &str {
        self.origins.get(key).map_or(layers::DEFAULT, String::as_str)
    }

    fn bounds(&self) -> Vec<schema::Bound> {
        let mut bounds = self.event_store.bounds();
        bounds.extend(self.auth.bounds());
        bounds.extend(self.integrity.bounds());
        bounds.extend(self.erasure.bounds());
        bounds.extend(self.projections.bounds());
        bounds.extend(self.cache.bounds());
        bounds.extend(self.commands.bounds());
        bounds.extend(self.queries.bounds());
        bounds.extend(self.aggregates.bounds());
        bounds.extend(self.branches.bounds());
        bounds.extend(self.sagas.bounds());
        bounds.extend(self.http.bounds());
        bounds
    }
}
