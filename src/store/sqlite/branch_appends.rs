//! Appends to branches: one transaction each, over the connection of caches and read models, so that the one that appends
//! to the log is never busy with a branch.

use std::sync::LazyLock;

use chrono::DateTime;
use event_sourcing_actors::{
    BranchId, NewEvent, Position,
    ports::{
        Branch, BranchAppend, BranchMerge, BranchStatus, CommandRecord, KeyRecord, MergeOutcome, StoreError,
        UnitOutcome,
    },
};
use sqlx::{Error, Row, SqliteConnection};

use super::{
    super::{branch_rows, verdicts::Verdicts},
    SqliteStore, branches,
    error::store_error,
    inserts::{Insert, Inserts},
};

/// As for the log: where the branch ends, then only what speaks against a unit.
const LOOK_UP: &str = "SELECT 0 AS kind, coalesce(e.position, b.fork_position), coalesce(e.recorded_at, b.fork_at), b.status \
     FROM branches b LEFT JOIN (SELECT position, recorded_at FROM branch_events WHERE partition = 0 AND branch_id = ?4 \
         ORDER BY position DESC LIMIT 1) e ON true WHERE b.partition = 0 AND b.branch_id = ?4 \
     UNION ALL \
     SELECT 1, p.value ->> 0, p.value ->> 1, '' FROM json_each(?1) p WHERE EXISTS ( \
         SELECT 1 FROM branch_events e WHERE e.partition = 0 AND e.branch_id = ?4 AND e.event_id = unhex(p.value ->> 2)) \
     UNION ALL \
     SELECT 1, k.value ->> 0, k.value ->> 1, '' FROM json_each(?2) k WHERE EXISTS ( \
         SELECT 1 FROM branch_idempotency i WHERE i.partition = 0 AND i.branch_id = ?4 \
         AND i.principal = k.value ->> 2 AND i.key = k.value ->> 3) \
     UNION ALL \
     SELECT 2, c.value ->> 0, 0, '' FROM json_each(?3) c WHERE c.value ->> 2 <> coalesce(( \
         SELECT e.sequence || ':' || lower(hex(e.chain)) FROM branch_events e WHERE e.partition = 0 AND e.branch_id = ?4 \
         AND e.aggregate_id = c.value ->> 1 ORDER BY e.sequence DESC LIMIT 1), c.value ->> 3)";
const HEAD: &str = "SELECT max(position) FROM branch_events WHERE partition = 0 AND branch_id = ?1";
const CLOSE: &str = "UPDATE branches SET status = 'merged', report = ?2 WHERE partition = 0 AND branch_id = ?1";

static INSERT_EVENTS: LazyLock<Inserts> = LazyLock::new(|| {
    Inserts::new(
        "INSERT INTO branch_events (partition, branch_id, position, aggregate_id, aggregate_type, sequence, event_id, \
         event_type, schema_version, data, metadata, recorded_at, checksum, chain) VALUES ",
        "(0, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        "",
    )
});
static INSERT_KEYS: LazyLock<Inserts> = LazyLock::new(|| {
    Inserts::new(
        "INSERT INTO branch_idempotency (partition, branch_id, principal, key, fingerprint, outcome, recorded_at) VALUES ",
        "(0, ?, ?, ?, ?, ?, ?)",
        "",
    )
});
static INSERT_COMMANDS: LazyLock<Inserts> = LazyLock::new(|| {
    Inserts::new(
        "INSERT INTO branch_commands (partition, branch_id, position, command_id, aggregate_id, command_type, content) VALUES ",
        "(0, ?, ?, ?, ?, ?, ?)",
        "",
    )
});

impl SqliteStore {
    /// Safe to drop: the connection in use goes with the future, and its transaction with it.
    pub(super) async fn append_to_branch(
        &self,
        id: BranchId,
        append: BranchAppend,
    ) -> Result<Vec<UnitOutcome>, StoreError> {
        let malformed = append.batch.malformed();
        let mut writing = self.writer.begin(true).await?;
        let Some((status, verdicts)) = self.look_up_on(&mut writing.connection, id, &append, &malformed).await? else {
            writing.rollback().await?;
            return Ok(refused(&append, branch_rows::closed(id, None)));
        };
        let closed = branch_rows::closed(id, Some(&status));
        if closed.is_some() {
            writing.rollback().await?;
            return Ok(refused(&append, closed));
        }
        let outcomes = verdicts.settle(&append.batch, malformed);
        let (passing, events) = branch_rows::stored(&append.batch.units, &outcomes, verdicts.head);
        let keys: Vec<&KeyRecord> =
            passing.iter().flat_map(|unit| &unit.commands).filter_map(|command| command.key.as_ref()).collect();
        let records = branch_rows::records(&passing, &events);
        let at = verdicts.recorded_at.timestamp_micros();
        let connection = &mut writing.connection;
        let inserted = async {
            INSERT_EVENTS
                .run(connection, &events, |query, (place, event)| bind_event(query, id, *place, at, event))
                .await?;
            INSERT_KEYS.run(connection, &keys, |query, record| bind_key(query, id, at, record)).await?;
            INSERT_COMMANDS
                .run(connection, &records, |query, (place, record)| bind_command(query, id, *place, record))
                .await
        };
        if let Err(error) = inserted.await {
            // What is refused was not stored, and the connection is whole.
            let error = store_error(error);
            writing.rollback().await?;
            return Err(error);
        }
        writing.commit().await?;
        Ok(outcomes)
    }

    /// How the branch stands, and what speaks against the units; none if there is no such branch.
    async fn look_up_on(
        &self,
        connection: &mut SqliteConnection,
        id: BranchId,
        append: &BranchAppend,
        malformed: &[Option<String>],
    ) -> Result<Option<(String, Verdicts)>, StoreError> {
        let [probes, keys, claims] = questions(append, malformed)?;
        let query = sqlx::query(LOOK_UP).bind(probes).bind(keys).bind(claims).bind(id.0);
        let rows = query.fetch_all(connection).await.map_err(store_error)?;
        // Read under the lock, so that the order of instants is the order of appends.
        let now = self.clock.now();
        let (mut found, mut known, mut stale) = (None, Vec::new(), Vec::new());
        let mut sort = |row: &sqlx::sqlite::SqliteRow| -> Result<(), Error> {
            let (kind, first, second): (i64, i64, i64) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
            let number = usize::try_from(first).unwrap_or(0);
            match kind {
                0 => {
                    let last = DateTime::from_timestamp_micros(second).unwrap_or(now);
                    found = Some((row.try_get::<String, _>(3)?, Position::from_i64(first), last));
                }
                1 => known.push((number, usize::try_from(second).unwrap_or(0))),
                _ => stale.push(number),
            }
            Ok(())
        };
        rows.iter().try_for_each(&mut sort).map_err(store_error)?;
        let verdicts = |(status, head, last): (String, Position, DateTime<chrono::Utc>)| {
            let (is_read_only, is_replaced, waiting) = (false, false, Vec::new());
            (status, Verdicts { head, recorded_at: last.max(now), is_read_only, is_replaced, known, stale, waiting })
        };
        Ok(found.map(verdicts))
    }
}

fn refused(append: &BranchAppend, closed: Option<StoreError>) -> Vec<UnitOutcome> {
    let error = closed.unwrap_or(StoreError::Closed { reason: "the branch is closed".to_owned() });
    append.batch.units.iter().map(|_| UnitOutcome::Failed(error.clone())).collect()
}

/// What the look-ups are asked, as JSON arrays.
fn questions(append: &BranchAppend, malformed: &[Option<String>]) -> Result<[String; 3], StoreError> {
    let (mut probes, mut keys, mut claims) = (Vec::new(), Vec::new(), Vec::new());
    let none = event_sourcing_actors::StreamHead::EMPTY;
    for (number, unit) in append.batch.units.iter().enumerate().filter(|(number, _)| malformed[*number].is_none()) {
        for (command, probe) in unit.commands.iter().enumerate() {
            probes.extend(probe.event_ids.iter().map(|id| (number, command, id.0.simple().to_string())));
            keys.extend(probe.key.as_ref().map(|record| (number, command, &*record.principal, &*record.key)));
        }
        for claim in &unit.streams {
            let base = append.bases.get(&claim.aggregate_id).unwrap_or(&none);
            let [head, base] = [&claim.head, base].map(|head| format!("{}:{}", head.sequence, head.chain));
            claims.push((number, claim.aggregate_id.as_str(), head, base));
        }
    }
    let failed = |error: serde_json::Error| StoreError::Refused { reason: error.to_string() };
    Ok([
        serde_json::to_string(&probes).map_err(failed)?,
        serde_json::to_string(&keys).map_err(failed)?,
        serde_json::to_string(&claims).map_err(failed)?,
    ])
}

fn bind_event(query: Insert, id: BranchId, position: i64, recorded_at: i64, event: &NewEvent) -> Insert {
    let query = query.bind(id.0).bind(position).bind(event.aggregate_id.as_str().to_owned());
    let query = query.bind(event.aggregate_type.as_str().to_owned()).bind(event.sequence.as_i64());
    let query = query.bind(event.event_id.0).bind(event.event_type.as_str().to_owned());
    let query = query.bind(i64::from(event.schema_version)).bind(event.data.to_vec()).bind(event.metadata.to_vec());
    query.bind(recorded_at).bind(event.checksum.0.to_vec()).bind(event.chain.0.to_vec())
}

fn bind_key(query: Insert, id: BranchId, recorded_at: i64, record: &KeyRecord) -> Insert {
    let query = query.bind(id.0).bind(record.principal.clone()).bind(record.key.clone());
    query.bind(record.fingerprint.to_vec()).bind(record.outcome.to_vec()).bind(recorded_at)
}

fn bind_command(query: Insert, id: BranchId, position: i64, record: &CommandRecord) -> Insert {
    let query = query.bind(id.0).bind(position).bind(record.command_id.0);
    let query = query.bind(record.aggregate_id.as_str().to_owned()).bind(record.command_type.clone());
    query.bind(record.content.to_vec())
}

/// What keeps a branch from being merged as it was looked at, under the lock; none if nothing does.
pub(super) async fn objection(
    connection: &mut SqliteConnection,
    id: BranchId,
    merge: &BranchMerge,
) -> Result<Option<MergeOutcome>, StoreError> {
    let Some(branch): Option<Branch> = branches::one(connection, id).await? else {
        return Ok(Some(MergeOutcome::Unknown));
    };
    if branch.status != BranchStatus::Open {
        return Ok(Some(MergeOutcome::Closed(branch)));
    }
    let head: Option<i64> = sqlx::query_scalar(HEAD).bind(id.0).fetch_one(connection).await.map_err(store_error)?;
    let head = head.map_or(branch.fork, Position::from_i64);
    Ok((head != merge.seen).then_some(MergeOutcome::Behind))
}

/// Closes a branch, in the transaction that appends what its commands lead to.
pub(super) async fn close(connection: &mut SqliteConnection, id: BranchId, report: &[u8]) -> Result<(), Error> {
    sqlx::query(CLOSE).bind(id.0).bind(report).execute(connection).await.map(|_| ())
}
