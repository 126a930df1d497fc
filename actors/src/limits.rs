//! Every bound of the runtime in one place, units in the names.

use std::time::Duration;

/// Bounds of one runtime. The defaults suit a two-core server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Commands admitted and not yet answered, over all aggregates; one more is refused with `overloaded`.
    pub commands_in_flight_max: usize,
    /// The same for one aggregate.
    pub commands_per_aggregate_max: usize,
    /// Time a command has, from its arrival to its answer.
    pub command_deadline: Duration,
    /// Aggregates that load their history at once.
    pub recoveries_max: usize,
    /// How long loading one aggregate's history may take.
    pub load: Duration,
    /// Live aggregates; above it the longest idle ones are passivated.
    pub live_aggregates_max: usize,
    /// An aggregate without commands for so long is passivated.
    pub aggregate_idle: Duration,
    /// How often a command is decided again after losing to another writer, before `concurrency-conflict`.
    pub conflict_losses_max: u32,
    /// Aggregate failures within a minute before it is parked.
    pub restarts_max: u32,
    /// How long a parked aggregate refuses commands before it is tried again.
    pub parked: Duration,
    /// Commands waiting for the journal.
    pub journal_queue_max: usize,
    /// Events in one batch of the journal.
    pub batch_events_max: usize,
    /// Bytes of payload and metadata in one batch of the journal.
    pub batch_bytes_max: usize,
    /// How long the journal sends a batch of unknown outcome again before it reports `outcome-unknown`.
    pub journal_retry: Duration,
    /// Events of one raw append.
    pub append_events_max: usize,
    /// Events a page of a read holds at most.
    pub page_events_max: u32,
    /// Snapshots waiting to be written; more are not taken.
    pub snapshot_queue_max: usize,
    /// How often the process looks for events of other processes when nothing wakes it; one look serves all followers.
    pub feed_poll: Duration,
    /// How long one such look may take.
    pub feed_look: Duration,
    /// Longest pause between two looks while the store fails.
    pub feed_pause_max: Duration,
    /// Bytes of payload and metadata a follower's page should hold: it reads fewer events at once when they are large.
    pub follow_page_bytes: usize,
    /// How long an idempotency key is remembered.
    pub key_retention: Duration,
    /// How long shutdown waits for commands in flight.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            commands_in_flight_max: 4_096,
            commands_per_aggregate_max: 256,
            command_deadline: Duration::from_secs(5),
            recoveries_max: 50,
            load: Duration::from_secs(60),
            live_aggregates_max: 20_000,
            aggregate_idle: Duration::from_secs(300),
            conflict_losses_max: 20,
            restarts_max: 5,
            parked: Duration::from_secs(30),
            journal_queue_max: 4_096,
            batch_events_max: 1_024,
            batch_bytes_max: 8 << 20,
            journal_retry: Duration::from_secs(5),
            append_events_max: 1_000,
            page_events_max: 1_000,
            snapshot_queue_max: 1_024,
            feed_poll: Duration::from_millis(200),
            feed_look: Duration::from_secs(10),
            feed_pause_max: Duration::from_secs(5),
            follow_page_bytes: 128 << 10,
            key_retention: Duration::from_secs(24 * 3_600),
            drain: Duration::from_secs(20),
        }
    }
}
