//! The sections of `cqrs.yaml`, but for `sagas`.

use std::{collections::BTreeMap, fmt, net::SocketAddr, str::FromStr, time::Duration};

use event_sourcing_actors::limits::BranchLimits;
use serde::{Deserialize, Serialize};

use super::{
    ListenAddress,
    schema::{Bound, bound},
};
use crate::auth::{
    Role,
    proxies::{ForwardedHeader, Network},
};

const DAY_MS: u64 = 86_400_000;

/// The command bus.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Commands {
    /// Time a command has, from its arrival to its answer.
    pub deadline_ms: u64,
    /// Commands admitted and not yet answered, over all aggregates; one more is refused with `overloaded`.
    pub in_flight_max: usize,
    /// The same for one aggregate.
    pub per_aggregate_max: usize,
    /// How often a command is decided again after losing to another writer, before `concurrency-conflict`.
    pub conflict_losses_max: u32,
    /// Commands waiting for the journal.
    pub journal_queue_max: usize,
    /// Hours an idempotency key is remembered.
    pub idempotency_retention_h: u64,
    /// A command that takes longer is told of in the log; 0 = none.
    pub slow_ms: u64,
    /// What single command types do differently, by name.
    pub types: BTreeMap<String, CommandKind>,
}

/// What one command type does differently; what is absent is as for all.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommandKind {
    /// Who may send it; a writer, if absent. It takes effect with authentication.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
}

impl Default for Commands {
    fn default() -> Self {
        Self {
            deadline_ms: 5_000,
            in_flight_max: 4_096,
            per_aggregate_max: 256,
            conflict_losses_max: 20,
            journal_queue_max: 4_096,
            idempotency_retention_h: 24,
            types: BTreeMap::new(),
            slow_ms: 1_000,
        }
    }
}

impl Commands {
    pub(super) fn bounds(&self) -> [Bound; 7] {
        [
            bound("commands.deadline_ms", self.deadline_ms, 1..=600_000),
            bound("commands.in_flight_max", self.in_flight_max, 1..=1_000_000),
            bound("commands.per_aggregate_max", self.per_aggregate_max, 1..=1_000_000),
            bound("commands.conflict_losses_max", self.conflict_losses_max, 1..=1_000),
            bound("commands.journal_queue_max", self.journal_queue_max, 1..=1_000_000),
            bound("commands.idempotency_retention_h", self.idempotency_retention_h, 1..=8_760),
            bound("commands.slow_ms", self.slow_ms, 0..=600_000),
        ]
    }
}

/// The query bus.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Queries {
    /// Time a query has, from its arrival to its answer, waiting for a position left aside.
    pub timeout_ms: u64,
    /// Longest wait a caller may ask for with `Prefer: wait`.
    pub wait_max_ms: u64,
    /// Longest wait of a query without a position for the head it finds, where consistency is `latest`.
    pub latest_wait_ms: u64,
    /// Queries admitted and not yet answered; one more is refused with `overloaded`.
    pub in_flight_max: usize,
    /// A query that takes longer, its wait included, is told of in the log; 0 = none.
    pub slow_ms: u64,
    /// What single query types do differently, by name.
    pub types: BTreeMap<String, QueryKind>,
}

/// What one query type does differently; what is absent is as for all.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QueryKind {
    /// Time such a query has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// Who may ask it; whoever may read, if absent. It takes effect with authentication.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
}

impl Default for Queries {
    fn default() -> Self {
        Self {
            timeout_ms: 5_000,
            wait_max_ms: 30_000,
            latest_wait_ms: 1_000,
            in_flight_max: 1_024,
            slow_ms: 1_000,
            types: BTreeMap::new(),
        }
    }
}

impl Queries {
    /// Time a query of this type has.
    #[must_use]
    pub fn timeout_ms_of(&self, query_type: &str) -> u64 {
        self.types.get(query_type).and_then(|own| own.timeout_ms).unwrap_or(self.timeout_ms)
    }

    pub(super) fn bounds(&self) -> Vec<Bound> {
        let mut bounds = vec![
            bound("queries.timeout_ms", self.timeout_ms, 1..=600_000),
            bound("queries.wait_max_ms", self.wait_max_ms, 0..=600_000),
            bound("queries.latest_wait_ms", self.latest_wait_ms, 0..=600_000),
            bound("queries.in_flight_max", self.in_flight_max, 1..=1_000_000),
            bound("queries.slow_ms", self.slow_ms, 0..=600_000),
        ];
        bounds.extend(self.types.iter().filter_map(|(name, own)| {
            let key = format!("queries.types.{name}.timeout_ms");
            Some(bound(key, own.timeout_ms?, 1..=600_000))
        }));
        bounds
    }
}

/// Live aggregates.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Aggregates {
    /// An aggregate without commands for so long leaves memory.
    pub idle_ms: u64,
    /// Aggregates in memory; above it the longest idle ones leave.
    pub live_max: usize,
    /// Aggregates that load their history at once.
    pub recoveries_max: usize,
    /// Failures of one aggregate within a minute before it is parked.
    pub restarts_max: u32,
    /// How long a parked aggregate refuses commands before it is tried again.
    pub parked_ms: u64,
}

impl Default for Aggregates {
    fn default() -> Self {
        Self { idle_ms: 300_000, live_max: 20_000, recoveries_max: 50, restarts_max: 5, parked_ms: 30_000 }
    }
}

impl Aggregates {
    pub(super) fn bounds(&self) -> [Bound; 5] {
        [
            bound("aggregates.idle_ms", self.idle_ms, 1..=DAY_MS),
            bound("aggregates.live_max", self.live_max, 1..=10_000_000),
            bound("aggregates.recoveries_max", self.recoveries_max, 1..=10_000),
            bound("aggregates.restarts_max", self.restarts_max, 1..=1_000),
            bound("aggregates.parked_ms", self.parked_ms, 1..=DAY_MS),
        ]
    }
}

/// Live branches.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Branches {
    /// Branches live in a process; one more ends the one that was unused longest.
    pub live_max: usize,
    /// One that nobody has used for so long is ended.
    pub idle_ms: u64,
    /// Rows of one live branch that are remembered.
    pub rows_in_memory_max: usize,
    /// Bytes they may take.
    pub rows_in_memory_bytes_max: usize,
}

impl Default for Branches {
    fn default() -> Self {
        Self { live_max: 64, idle_ms: 60_000, rows_in_memory_max: 1_000, rows_in_memory_bytes_max: 2 << 20 }
    }
}

impl Branches {
    pub(super) fn bounds(&self) -> [Bound; 4] {
        [
            bound("branches.live_max", self.live_max, 1..=64),
            bound("branches.idle_ms", self.idle_ms, 1..=DAY_MS),
            bound("branches.rows_in_memory_max", self.rows_in_memory_max, 1..=1_000_000),
            bound("branches.rows_in_memory_bytes_max", self.rows_in_memory_bytes_max, 64 << 10..=1 << 30),
        ]
    }

    /// The bounds of the runtime's live branches.
    #[must_use]
    pub fn limits(&self) -> BranchLimits {
        BranchLimits {
            live_max: self.live_max,
            idle: Duration::from_millis(self.idle_ms),
            rows_max: self.rows_in_memory_max,
            rows_bytes_max: self.rows_in_memory_bytes_max,
        }
    }
}

/// The HTTP door.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Http {
    /// IP address or host name, and port, to listen on; also `BIND_ADDRESS`. Port 0 takes a free one.
    pub bind_address: ListenAddress,
    /// Connections at once; above it new ones wait in the system's queue.
    pub connections_max: usize,
    /// Time to send the head of a request.
    pub head_timeout_ms: u64,
    /// Time to send the body of a request.
    pub body_timeout_ms: u64,
    /// Longest body.
    pub body_bytes_max: usize,
    /// Longest body of `POST /api/v1/events`.
    pub events_body_bytes_max: usize,
    /// Deepest nesting of JSON.
    pub json_depth_max: usize,
    /// How long shutdown waits for requests and commands in flight.
    pub drain_ms: u64,
    /// At shutdown, time between the first `not ready` and the closing of the listener, for load balancers to notice.
    pub shutdown_grace_ms: u64,
    /// Networks of proxies that are believed when they say for whom they ask.
    pub trusted_proxies: Vec<Network>,
    /// Where they say it.
    pub forwarded_header: ForwardedHeader,
    /// Which pages of other origins may read answers.
    pub cors: Cors,
    /// How many requests a caller may send.
    pub rate_limit: RateLimit,
}

/// Which pages of other origins may read answers.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cors {
    /// Origins such as `https://app.example`, or `*` for all.
    pub allowed_origins: Vec<String>,
}

/// How many requests a caller may send.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RateLimit {
    /// Requests in a window; 0 = as many as they like.
    pub requests: u32,
    /// Seconds of a window.
    pub window_s: u64,
}

impl Default for RateLimit {
    fn default() -> Self {
        Self { requests: 0, window_s: 60 }
    }
}

impl Default for Http {
    fn default() -> Self {
        Self {
            bind_address: SocketAddr::from(([127, 0, 0, 1], 8_000)).into(),
            connections_max: 4_096,
            head_timeout_ms: 10_000,
            body_timeout_ms: 30_000,
            body_bytes_max: 1 << 20,
            events_body_bytes_max: 4 << 20,
            json_depth_max: 64,
            drain_ms: 20_000,
            shutdown_grace_ms: 1_000,
            trusted_proxies: Vec::new(),
            forwarded_header: ForwardedHeader::default(),
            cors: Cors::default(),
            rate_limit: RateLimit::default(),
        }
    }
}

impl Http {
    /// What is wrong, with its key.
    pub(super) fn problem(&self) -> Option<(String, String)> {
        let is_origin = |origin: &str| {
            let rest = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
            rest.is_some_and(|host| {
                !host.is_empty() && host.bytes().all(|b| b.is_ascii_graphic() && b != b'/' && b != b'*')
            })
        };
        let wrong = self.cors.allowed_origins.iter().find(|origin| *origin != "*" && !is_origin(origin))?;
        let problem = format!("an origin is written https://host or https://host:port, without a path, not {wrong:?}");
        Some((problem, "http.cors.allowed_origins".to_owned()))
    }

    pub(super) fn bounds(&self) -> [Bound; 10] {
        [
            bound("http.rate_limit.requests", self.rate_limit.requests, 0..=1_000_000),
            bound("http.rate_limit.window_s", self.rate_limit.window_s, 1..=86_400),
            bound("http.connections_max", self.connections_max, 1..=1_000_000),
            bound("http.head_timeout_ms", self.head_timeout_ms, 1..=600_000),
            bound("http.body_timeout_ms", self.body_timeout_ms, 1..=600_000),
            bound("http.body_bytes_max", self.body_bytes_max, 1_024..=64 << 20),
            bound("http.events_body_bytes_max", self.events_body_bytes_max, 1_024..=64 << 20),
            bound("http.json_depth_max", self.json_depth_max, 1..=64),
            bound("http.drain_ms", self.drain_ms, 0..=600_000),
            bound("http.shutdown_grace_ms", self.shutdown_grace_ms, 0..=600_000),
        ]
    }
}

/// The log of the process, on standard error.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// What is told; also `LOG_LEVEL`. It can be changed while the server runs.
    pub level: LogLevel,
    /// How it is written.
    pub format: LogFormat,
}

/// How the log is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    #[default]
    Auto,
    /// One JSON object a line.
    Json,
    /// One line of text each.
    Text,
}

/// What is logged, from nothing to everything. Read in any case.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", try_from = "String")]
pub enum LogLevel {
    /// Nothing.
    Off,
    /// What failed.
    Error,
    /// And what an operator should look at. Also read as `warning`.
    Warn,
    /// And the life of the process.
    #[default]
    Info,
    /// And each request.
    Debug,
    /// And each hop of it.
    Trace,
}

impl LogLevel {
    /// All levels, from nothing to everything.
    pub const ALL: [Self; 6] = [Self::Off, Self::Error, Self::Warn, Self::Info, Self::Debug, Self::Trace];

    /// The name in lower case.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

impl fmt::Display for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text names no [`LogLevel`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must be one of off, error, warn, info, debug and trace, not {0:?}")]
pub struct UnknownLogLevel(String);

impl FromStr for LogLevel {
    type Err = UnknownLogLevel;

    fn from_str(text: &str) -> Result<Self, UnknownLogLevel> {
        if text.eq_ignore_ascii_case("warning") {
            return Ok(Self::Warn);
        }
        let known = Self::ALL.into_iter().find(|level| text.eq_ignore_ascii_case(level.as_str()));
        known.ok_or_else(|| UnknownLogLevel(text.to_owned()))
    }
}

impl TryFrom<String> for LogLevel {
    type Error = UnknownLogLevel;

    fn try_from(text: String) -> Result<Self, UnknownLogLevel> {
        text.parse()
    }
}
