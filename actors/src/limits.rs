//! Every bound of the runtime in one place, units in the names.

use std::time::Duration;

use crate::ports::OperationsKept;

/// Bounds of one runtime. The defaults suit a two-core server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Commands admitted and not yet answered, over all aggregates; one more is refused with `overloaded`.
    pub commands_in_flight_max: usize,
    /// The same for one aggregate.
    pub commands_per_aggregate_max: usize,
    /// Time a command has, from its arrival to its answer.
    pub command_deadline: Duration,
    /// A command that takes longer is told of in the log; zero for none.
    pub slow_command: Duration,
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
    /// Events kept in memory for all followers near the log's head; 0 = each reads the store itself.
    pub tail_events_max: usize,
    /// Bytes of payload and metadata of these events.
    pub tail_bytes_max: usize,
    /// How long a subject's key is used after it was read: the bound on what another process may still do after the key
    /// was destroyed, and the wait of every erasure.
    pub subject_key_life: Duration,
    /// Keys of subjects remembered at most.
    pub subject_keys_max: usize,
    /// Erasures that rewrite read models at once; the others wait.
    pub erasures_max: usize,
    /// Between two looks for keys that other processes destroyed, and for erasures that ended with their process.
    pub erasure_look: Duration,
    /// An erasure that has told nothing for so long has ended with its process.
    pub erasure_silence: Duration,
    /// How long an idempotency key is remembered.
    pub key_retention: Duration,
    /// How long shutdown waits for commands in flight.
    pub drain: Duration,
    /// How often the projections' states are looked at, for metrics and for what operators asked of another process.
    pub projection_watch: Duration,
    /// Bounds of each projection that has none of its own.
    pub projection: ProjectionLimits,
    /// Bounds of the sagas.
    pub sagas: SagaLimits,
    /// Bounds of the branches.
    pub branches: BranchLimits,
}

/// Bounds of the branches that are live in a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BranchLimits {
    /// Live at once; one more ends the one that has been idle longest.
    pub live_max: usize,
    /// One that nobody has used for so long is ended, unless its sagas are under way; the next use begins it again.
    pub idle: Duration,
    /// Rows of one live branch that are remembered at most.
    pub rows_max: usize,
    /// Bytes they may take, with what they were made of.
    pub rows_bytes_max: usize,
}

impl Default for BranchLimits {
    fn default() -> Self {
        Self { live_max: 64, idle: Duration::from_secs(60), rows_max: 1_000, rows_bytes_max: 2 << 20 }
    }
}

/// Bounds of the sagas a process works on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SagaLimits {
    /// Instances worked on at once; the others wait in the index.
    pub in_flight_max: usize,
    /// Faults of one instance in a row, of its code or of a target's, before it is set aside.
    pub attempts_max: u32,
    /// Longest pause between two tries while a target does not answer.
    pub retry_pause_max: Duration,
    /// How often the clock is looked at for due timers, and the index for what nobody told of.
    pub look: Duration,
    /// Rows of the index read at once.
    pub page_rows: u32,
    /// How long shutdown waits for the steps under way.
    pub drain: Duration,
}

impl Default for SagaLimits {
    fn default() -> Self {
        Self {
            in_flight_max: 512,
            attempts_max: 8,
            retry_pause_max: Duration::from_secs(5),
            look: Duration::from_millis(250),
            page_rows: 500,
            drain: Duration::from_secs(5),
        }
    }
}

/// Bounds of one projection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProjectionLimits {
    /// Events in one commit of the served rows.
    pub batch_events_max: u32,
    /// Events in one commit of a rebuild; between two of them the served rows make a step.
    pub rebuild_batch_events_max: u32,
    /// How often an event that cannot be applied is tried before it is parked.
    pub apply_attempts: u32,
    /// Pause between two of these attempts.
    pub apply_pause: Duration,
    /// Rows of one generation that its owner remembers; above it all are forgotten and loaded when they are needed.
    pub rows_remembered_max: usize,
    /// Keys that may wait behind a parked event; one more stops the projection.
    pub parked_keys_max: u32,
    /// How long a lease lasts that is not renewed: after it another process takes over.
    pub lease: Duration,
    /// How long one call to a store may take before its outcome counts as unknown.
    pub store_call: Duration,
    /// Longest pause before the store is tried again after it failed.
    pub retry_pause_max: Duration,
    /// How long it is recorded which rows changed.
    pub change_retention: Duration,
    /// Rows that cannot be reached any more, removed in one transaction.
    pub prune_rows_max: u32,
    /// Between two looks for such rows.
    pub prune_pause: Duration,
    /// How long operations that have ended are kept, and how many.
    pub operations: OperationsKept,
}

impl Default for ProjectionLimits {
    fn default() -> Self {
        Self {
            batch_events_max: 1_000,
            rebuild_batch_events_max: 1_000,
            apply_attempts: 3,
            apply_pause: Duration::from_millis(5),
            rows_remembered_max: 50_000,
            parked_keys_max: 10_000,
            lease: Duration::from_secs(5),
            store_call: Duration::from_secs(30),
            retry_pause_max: Duration::from_secs(2),
            change_retention: Duration::from_secs(300),
            prune_rows_max: 1_000,
            prune_pause: Duration::from_secs(20),
            operations: OperationsKept { age: Duration::from_secs(90 * 86_400), newest_max: 10_000 },
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            commands_in_flight_max: 4_096,
            commands_per_aggregate_max: 256,
            command_deadline: Duration::from_secs(5),
            slow_command: Duration::from_secs(1),
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
            tail_events_max: 4_096,
            tail_bytes_max: 4 << 20,
            subject_key_life: Duration::from_secs(5),
            subject_keys_max: 20_000,
            erasures_max: 32,
            erasure_look: Duration::from_secs(10),
            erasure_silence: Duration::from_secs(600),
            key_retention: Duration::from_secs(24 * 3_600),
            drain: Duration::from_secs(20),
            projection_watch: Duration::from_millis(500),
            projection: ProjectionLimits::default(),
            sagas: SagaLimits::default(),
            branches: BranchLimits::default(),
        }
    }
}
