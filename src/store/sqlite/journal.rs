//! The connection that appends: one, of its own, thrown away whenever its state is in doubt.

use std::sync::{Arc, LazyLock};

use chrono::{DateTime, Utc};
use event_sourcing_actors::{
    BranchId, NewEvent, Position,
    ports::{AppendBatch, AppendUnit, BranchMerge, Clock, Committed, KeyRecord, MergeOutcome, StoreError, UnitOutcome},
};
use sqlx::{
    Connection, Error, Row, Sqlite, SqliteConnection,
    query::Query,
    sqlite::{SqliteArguments, SqliteConnectOptions, SqliteSynchronous},
};
use tokio::sync::Mutex;
use uuid::Uuid;

use super::{
    super::verdicts::{Verdicts, stores_something},
    branch_appends,
    error::store_error,
    inserts::{Insert, Inserts},
    slot::Slot,
};

/// Takes the write lock and asks everything in one go: the head, then only what speaks against a unit.
const LOOK_UP: &str = "BEGIN IMMEDIATE; \
     SELECT 0 AS kind, coalesce(e.position, 0), coalesce(e.recorded_at, 0), h.read_only + 2 * (h.store_id <> ?4) FROM log_head h \
         LEFT JOIN (SELECT position, recorded_at FROM events WHERE partition = 0 ORDER BY position DESC LIMIT 1) e ON true \
         WHERE h.partition = 0 \
     UNION ALL \
     SELECT 1, p.value ->> 0, p.value ->> 1, 0 FROM json_each(?1) p WHERE EXISTS ( \
         SELECT 1 FROM events e WHERE e.partition = 0 AND e.event_id = unhex(p.value ->> 2)) \
     UNION ALL \
     SELECT 1, k.value ->> 0, k.value ->> 1, 0 FROM json_each(?2) k WHERE EXISTS ( \
         SELECT 1 FROM idempotency i WHERE i.partition = 0 AND i.principal = k.value ->> 2 AND i.key = k.value ->> 3) \
     UNION ALL \
     SELECT 2, c.value ->> 0, 0, 0 FROM json_each(?3) c WHERE c.value ->> 2 <> coalesce(( \
         SELECT e.sequence || ':' || lower(hex(e.chain)) FROM events e WHERE e.partition = 0 \
         AND e.aggregate_id = c.value ->> 1 ORDER BY e.sequence DESC LIMIT 1), '0:' || lower(hex(zeroblob(32))))";

/// Streams whose first event this transaction stored get their row.
const COMMIT_WITH_STREAMS: &str = "INSERT INTO streams (partition, aggregate_id, aggregate_type) \
         SELECT 0, aggregate_id, aggregate_type FROM events WHERE partition = 0 AND position > ?1 AND sequence = 1; \
     COMMIT";
const COMMIT: &str = "COMMIT";
const ROLLBACK: &str = "ROLLBACK";

pub(super) static INSERT_EVENTS: LazyLock<Inserts> = LazyLock::new(|| {
    Inserts::new(
        "INSERT INTO events (partition, position, aggregate_id, aggregate_type, sequence, event_id, event_type, \
         schema_version, data, metadata, recorded_at, checksum, chain) VALUES ",
        "(0, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        "",
    )
});
static INSERT_KEYS: LazyLock<Inserts> = LazyLock::new(|| {
    Inserts::new(
        "INSERT INTO idempotency (partition, principal, key, fingerprint, outcome, recorded_at) VALUES ",
        "(0, ?, ?, ?, ?, ?)",
        "",
    )
});

/// Whose turn it is to write, among the connections of this store: they queue here, first come, first served, as a
/// connection that finds the file locked by another only sleeps and looks again.
pub(super) type WriteTurn = Arc<Mutex<()>>;

/// The connections that append and that write caches.
pub(super) struct Journal {
    options: SqliteConnectOptions,
    clock: Arc<dyn Clock>,
    /// Of the log that was opened; appends go to no other.
    store_id: Uuid,
    turn: WriteTurn,
    slot: Mutex<Slot>,
    cache: Mutex<Slot>,
}

impl Journal {
    pub(super) fn new(
        options: SqliteConnectOptions,
        clock: Arc<dyn Clock>,
        store_id: Uuid,
        turn: WriteTurn,
        first: SqliteConnection,
    ) -> Self {
        Self { options, clock, store_id, turn, slot: Mutex::new(Slot::Idle(first)), cache: Mutex::new(Slot::Empty) }
    }

    pub(super) async fn close(&self) {
        self.cache.lock().await.close().await;
        self.slot.lock().await.close().await;
    }

    /// Appends in one transaction; the connection goes back to its place only when none is open on it.
    pub(super) async fn append(&self, batch: AppendBatch) -> Result<Vec<UnitOutcome>, StoreError> {
        let mut slot = self.slot.lock().await;
        // Taken out: if this future is dropped half-way, so is the connection, and with it the transaction.
        let mut connection = slot.take(&self.options).await?;
        let _turn = self.turn.lock().await;
        let error = match write(&mut connection, self, &batch).await {
            Ok(outcomes) => {
                *slot = Slot::Idle(connection);
                return Ok(outcomes);
            }
            Err(error) => store_error(error),
        };
        Err(give_back(&mut slot, connection, error).await)
    }

    /// Appends what a branch's commands lead to and closes the branch, in one transaction.
    pub(super) async fn merge(&self, id: BranchId, merge: BranchMerge) -> Result<MergeOutcome, StoreError> {
        let mut slot = self.slot.lock().await;
        let mut connection = slot.take(&self.options).await?;
        let _turn = self.turn.lock().await;
        match merged(&mut connection, self, id, merge).await {
            Ok(outcome) => {
                *slot = Slot::Idle(connection);
                Ok(outcome)
            }
            Err(error) => Err(give_back(&mut slot, connection, error).await),
        }
    }

    /// Runs one flushed statement with one flag.
    pub(super) async fn flag(&self, statement: &'static str, flag: bool) -> Result<(), StoreError> {
        let mut slot = self.slot.lock().await;
        let mut connection = slot.take(&self.options).await?;
        let _turn = self.turn.lock().await;
        sqlx::query(statement).bind(flag).execute(&mut connection).await.map_err(store_error)?;
        *slot = Slot::Idle(connection);
        Ok(())
    }

    /// Runs a self-contained statement whose loss in a power cut harms nobody; returns the rows it touched.
    pub(super) async fn unflushed(&self, query: Query<'_, Sqlite, SqliteArguments>) -> Result<u64, StoreError> {
        let mut cache = self.cache.lock().await;
        let mut connection = cache.take(&self.options.clone().synchronous(SqliteSynchronous::Normal)).await?;
        let _turn = self.turn.lock().await;
        let done = query.execute(&mut connection).await.map_err(store_error)?;
        *cache = Slot::Idle(connection);
        Ok(done.rows_affected())
    }
}

/// After a failure: the connection goes back if the transaction is certainly over; what the failure means for the caller.
async fn give_back(slot: &mut Slot, mut connection: SqliteConnection, error: StoreError) -> StoreError {
    let is_refused = matches!(error, StoreError::Refused { .. });
    if is_refused && sqlx::query(ROLLBACK).execute(&mut connection).await.is_ok() {
        *slot = Slot::Idle(connection);
    } else {
        // Waits until the file is unlocked; a transaction that is still open ends with the connection.
        let _ = connection.close().await;
    }
    match error {
        // The log cannot be read, so nobody knows what was stored.
        StoreError::Corrupt { reason } => StoreError::Unavailable { reason },
        other => other,
    }
}

async fn merged(
    connection: &mut SqliteConnection,
    journal: &Journal,
    id: BranchId,
    merge: BranchMerge,
) -> Result<MergeOutcome, StoreError> {
    let batch = AppendBatch { units: vec![merge.unit.clone()] };
    let Staged { mut outcomes, head, has_new_streams } =
        stage(connection, journal, &batch).await.map_err(store_error)?;
    let objection = branch_appends::objection(connection, id, &merge).await?;
    let outcome = match (objection, outcomes.pop()) {
        (Some(objection), _) => objection,
        (None, Some(UnitOutcome::Committed(committed))) => {
            branch_appends::close(connection, id, &merge.report).await.map_err(store_error)?;
            commit(connection, head, has_new_streams).await.map_err(store_error)?;
            return Ok(MergeOutcome::Merged(committed));
        }
        (None, Some(outcome)) => MergeOutcome::Unit(outcome),
        (None, None) => return Err(StoreError::Refused { reason: "a merge was not answered".to_owned() }),
    };
    sqlx::query(ROLLBACK).execute(connection).await.map_err(store_error)?;
    Ok(outcome)
}

/// What is written and not committed yet.
struct Staged {
    outcomes: Vec<UnitOutcome>,
    /// Where the log ended before.
    head: Position,
    has_new_streams: bool,
}

async fn write(
    connection: &mut SqliteConnection,
    journal: &Journal,
    batch: &AppendBatch,
) -> Result<Vec<UnitOutcome>, Error> {
    let Staged { outcomes, head, has_new_streams } = stage(connection, journal, batch).await?;
    commit(connection, head, has_new_streams).await?;
    Ok(outcomes)
}

async fn commit(connection: &mut SqliteConnection, head: Position, has_new_streams: bool) -> Result<(), Error> {
    // With nothing inserted this flushes nothing.
    let commit =
        if has_new_streams { sqlx::query(COMMIT_WITH_STREAMS).bind(head.as_i64()) } else { sqlx::query(COMMIT) };
    commit.execute(connection).await.map(|_| ())
}

/// Opens the transaction and writes what passes.
async fn stage(connection: &mut SqliteConnection, journal: &Journal, batch: &AppendBatch) -> Result<Staged, Error> {
    let malformed = batch.malformed();
    let verdicts = look_up(connection, journal, batch, &malformed).await?;
    let outcomes = verdicts.settle(batch, malformed);
    let passing: Vec<&AppendUnit> = (batch.units.iter().zip(&outcomes))
        .filter(|(unit, outcome)| matches!(outcome, UnitOutcome::Committed(Committed { .. })) && stores_something(unit))
        .map(|(unit, _)| unit)
        .collect();

    let recorded_at = verdicts.recorded_at.timestamp_micros();
    let events = passing.iter().flat_map(|unit| &unit.events);
    let events: Vec<(i64, &NewEvent)> = (verdicts.head.as_i64() + 1..).zip(events).collect();
    let keys: Vec<&KeyRecord> =
        passing.iter().flat_map(|unit| &unit.commands).filter_map(|command| command.key.as_ref()).collect();
    INSERT_EVENTS
        .run(connection, &events, |query, (position, event)| bind_event(query, *position, recorded_at, event))
        .await?;
    INSERT_KEYS.run(connection, &keys, |query, record| bind_key(query, recorded_at, record)).await?;

    let has_new_streams = events.iter().any(|(_, event)| event.sequence.0 == 1);
    Ok(Staged { outcomes, head: verdicts.head, has_new_streams })
}

fn bind_event(query: Insert, position: i64, recorded_at: i64, event: &NewEvent) -> Insert {
    let query = query.bind(position).bind(event.aggregate_id.as_str().to_owned());
    let query = query.bind(event.aggregate_type.as_str().to_owned()).bind(event.sequence.as_i64());
    let query = query.bind(event.event_id.0).bind(event.event_type.as_str().to_owned());
    let query = query.bind(i64::from(event.schema_version)).bind(event.data.to_vec()).bind(event.metadata.to_vec());
    query.bind(recorded_at).bind(event.checksum.0.to_vec()).bind(event.chain.0.to_vec())
}

fn bind_key(query: Insert, recorded_at: i64, record: &KeyRecord) -> Insert {
    let query = query.bind(record.principal.clone()).bind(record.key.clone());
    query.bind(record.fingerprint.to_vec()).bind(record.outcome.to_vec()).bind(recorded_at)
}

/// What the look-ups are asked, as JSON arrays.
fn questions(batch: &AppendBatch, malformed: &[Option<String>]) -> Result<[String; 3], Error> {
    let (mut probes, mut keys, mut claims) = (Vec::new(), Vec::new(), Vec::new());
    for (number, unit) in batch.units.iter().enumerate().filter(|(number, _)| malformed[*number].is_none()) {
        for (command, probe) in unit.commands.iter().enumerate() {
            probes.extend(probe.event_ids.iter().map(|id| (number, command, id.0.simple().to_string())));
            keys.extend(probe.key.as_ref().map(|record| (number, command, &*record.principal, &*record.key)));
        }
        for claim in &unit.streams {
            let head = format!("{}:{}", claim.head.sequence, claim.head.chain);
            claims.push((number, claim.aggregate_id.as_str(), head));
        }
    }
    let failed = |error: serde_json::Error| Error::Encode(error.into());
    Ok([
        serde_json::to_string(&probes).map_err(failed)?,
        serde_json::to_string(&keys).map_err(failed)?,
        serde_json::to_string(&claims).map_err(failed)?,
    ])
}

async fn look_up(
    connection: &mut SqliteConnection,
    journal: &Journal,
    batch: &AppendBatch,
    malformed: &[Option<String>],
) -> Result<Verdicts, Error> {
    let [probes, keys, claims] = questions(batch, malformed)?;
    let query = sqlx::query(LOOK_UP).bind(probes).bind(keys).bind(claims).bind(journal.store_id);
    let rows = query.fetch_all(connection).await?;
    // Read under the lock, so that the order of instants is the order of appends.
    let now = journal.clock.now();
    let mut head: Option<(Position, DateTime<Utc>, i64)> = None;
    let (mut known, mut stale) = (Vec::new(), Vec::new());
    for row in &rows {
        let (kind, first, second): (i64, i64, i64) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        let number = usize::try_from(first).unwrap_or(0);
        match kind {
            0 => {
                let last = DateTime::from_timestamp_micros(second).unwrap_or(now);
                head = Some((Position::from_i64(first), last, row.try_get(3)?));
            }
            1 => known.push((number, usize::try_from(second).unwrap_or(0))),
            _ => stale.push(number),
        }
    }
    let (head, last, flags) = head.ok_or(Error::RowNotFound)?;
    let (is_read_only, is_replaced) = (flags & 1 != 0, flags & 2 != 0);
    Ok(Verdicts { head, recorded_at: last.max(now), is_read_only, is_replaced, known, stale, waiting: Vec::new() })
}
