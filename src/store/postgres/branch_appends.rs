//! Appends to branches, and the merge: one transaction each on a pooled connection.
//!
//! Who appends to a branch holds that branch's row, never the log's head; a merge takes the branch's row first, then the
//! head. So writers of the log wait for a merge alone, and as long as for any append.

use chrono::{DateTime, Utc};
use event_sourcing_actors::{
    AggregateId, BranchId, NewEvent, Position, StreamHead,
    ports::{
        AppendBatch, BranchAppend, BranchMerge, BranchStatus, CommandRecord, KeyRecord, MergeOutcome, StoreError,
        UnitOutcome,
    },
};
use sqlx::{PgConnection, Row, postgres::PgRow};
use uuid::Uuid;

use super::{
    super::{branch_rows, verdicts::Verdicts},
    PostgresStore,
    branches::{FLUSHED, one},
    call::send,
    error::store_error,
    heads::Heads,
};

/// The one lock of all writers of a branch.
const LOCK: &str = "SELECT status FROM branches WHERE partition = 0 AND branch_id = $1 FOR UPDATE";
/// As for the log: where the branch ends, then only what speaks against a unit.
const LOOK_UP: &str = "SELECT 0 AS kind, coalesce(e.position, b.fork_position) AS first, 0::bigint AS second, \
         greatest(coalesce(e.recorded_at, b.fork_at), clock_timestamp()) AS at \
     FROM branches b LEFT JOIN LATERAL (SELECT position, recorded_at FROM branch_events WHERE partition = 0 \
         AND branch_id = $1 ORDER BY position DESC LIMIT 1) e ON true WHERE b.partition = 0 AND b.branch_id = $1 \
     UNION ALL \
     SELECT 1, p.unit, p.command, NULL FROM unnest($2::bigint[], $3::bigint[], $4::uuid[]) p(unit, command, id) \
     WHERE EXISTS (SELECT FROM branch_events e WHERE e.partition = 0 AND e.branch_id = $1 AND e.event_id = p.id) \
     UNION ALL \
     SELECT 1, k.unit, k.command, NULL \
     FROM unnest($5::bigint[], $6::bigint[], $7::text[], $8::text[]) k(unit, command, principal, name) \
     WHERE EXISTS (SELECT FROM branch_idempotency i WHERE i.partition = 0 AND i.branch_id = $1 \
         AND i.principal = k.principal AND i.key = k.name) \
     UNION ALL \
     SELECT 2, c.unit, 0, NULL \
     FROM unnest($9::bigint[], $10::text[], $11::bigint[], $12::bytea[], $13::bigint[], $14::bytea[]) \
         c(unit, stream, sequence, chain, base_sequence, base_chain) \
     LEFT JOIN LATERAL (SELECT e.sequence, e.chain FROM branch_events e WHERE e.partition = 0 AND e.branch_id = $1 \
         AND e.aggregate_id = c.stream ORDER BY e.sequence DESC LIMIT 1) x ON true \
     WHERE coalesce(x.sequence, c.base_sequence) <> c.sequence OR coalesce(x.chain, c.base_chain) <> c.chain";
const INSERT_EVENTS: &str = "INSERT INTO branch_events (partition, branch_id, position, aggregate_id, aggregate_type, \
         sequence, event_id, event_type, schema_version, data, metadata, recorded_at, checksum, chain) \
     SELECT 0, $1, n.position, n.stream, n.stream_type, n.sequence, n.id, n.type, n.schema, n.data, n.metadata, $2, \
         n.checksum, n.chain \
     FROM unnest($3::bigint[], $4::text[], $5::text[], $6::bigint[], $7::uuid[], $8::text[], $9::bigint[], $10::bytea[], \
         $11::bytea[], $12::bytea[], $13::bytea[]) \
         n(position, stream, stream_type, sequence, id, type, schema, data, metadata, checksum, chain)";
const INSERT_KEYS: &str = "INSERT INTO branch_idempotency (partition, branch_id, principal, key, fingerprint, outcome, \
         recorded_at) SELECT 0, $1, k.principal, k.name, k.fingerprint, k.outcome, $2 \
     FROM unnest($3::text[], $4::text[], $5::bytea[], $6::bytea[]) k(principal, name, fingerprint, outcome)";
const INSERT_COMMANDS: &str = "INSERT INTO branch_commands (partition, branch_id, position, command_id, aggregate_id, \
         command_type, content) SELECT 0, $1, c.position, c.id, c.stream, c.type, c.content \
     FROM unnest($2::bigint[], $3::uuid[], $4::text[], $5::text[], $6::bytea[]) c(position, id, stream, type, content)";
const HEAD: &str = "SELECT max(position) FROM branch_events WHERE partition = 0 AND branch_id = $1";
const CLOSE: &str = "UPDATE branches SET status = 'merged', report = $2 WHERE partition = 0 AND branch_id = $1";

impl PostgresStore {
    pub(super) async fn append_to_branch(
        &self,
        id: BranchId,
        append: BranchAppend,
    ) -> Result<Vec<UnitOutcome>, StoreError> {
        let malformed = append.batch.malformed();
        // Dropped without a commit it stores nothing.
        let mut transaction = self.pool.begin().await.map_err(store_error)?;
        let status: Option<String> =
            sqlx::query_scalar(LOCK).bind(id.0).fetch_optional(&mut *transaction).await.map_err(store_error)?;
        if let Some(error) = branch_rows::closed(id, status.as_deref()) {
            return Ok(append.batch.units.iter().map(|_| UnitOutcome::Failed(error.clone())).collect());
        }
        sqlx::query(FLUSHED).execute(&mut *transaction).await.map_err(store_error)?;
        let verdicts = look_up(&mut transaction, id, &append, &malformed).await?;
        let outcomes = verdicts.settle(&append.batch, malformed);
        let (passing, events) = branch_rows::stored(&append.batch.units, &outcomes, verdicts.head);
        let keys: Vec<&KeyRecord> =
            passing.iter().flat_map(|unit| &unit.commands).filter_map(|command| command.key.as_ref()).collect();
        let records = branch_rows::records(&passing, &events);
        if !events.is_empty() {
            insert_events(&mut transaction, id, verdicts.recorded_at, &events).await?;
        }
        if !keys.is_empty() {
            insert_keys(&mut transaction, id, verdicts.recorded_at, &keys).await?;
        }
        if !records.is_empty() {
            insert_commands(&mut transaction, id, &records).await?;
        }
        transaction.commit().await.map_err(store_error)?;
        Ok(outcomes)
    }

    pub(super) async fn merge(&self, id: BranchId, merge: BranchMerge) -> Result<MergeOutcome, StoreError> {
        let batch = AppendBatch { units: vec![merge.unit] };
        let malformed = batch.malformed();
        let mut transaction = self.pool.begin().await.map_err(store_error)?;
        sqlx::query(LOCK).bind(id.0).fetch_optional(&mut *transaction).await.map_err(store_error)?;
        let Some(branch) = one(&mut transaction, id).await? else { return Ok(MergeOutcome::Unknown) };
        if branch.status != BranchStatus::Open {
            return Ok(MergeOutcome::Closed(branch));
        }
        let head: Option<i64> =
            sqlx::query_scalar(HEAD).bind(id.0).fetch_one(&mut *transaction).await.map_err(store_error)?;
        if head.map_or(branch.fork, Position::from_i64) != merge.seen {
            return Ok(MergeOutcome::Behind);
        }
        // Nothing is known here of where streams stand: all is looked up.
        let heads = Heads::default();
        let answer = send(&mut transaction, self.journal.writer(), &heads, &batch, &malformed).await;
        let mut outcomes = answer.map_err(store_error)?.settle(&batch, malformed);
        let committed = match outcomes.pop() {
            Some(UnitOutcome::Committed(committed)) => committed,
            Some(outcome) => return Ok(MergeOutcome::Unit(outcome)),
            None => return Err(StoreError::Refused { reason: "a merge was not answered".to_owned() }),
        };
        sqlx::query(CLOSE).bind(id.0).bind(&merge.report[..]).execute(&mut *transaction).await.map_err(store_error)?;
        // After the call, which flushes nothing where it stores nothing.
        sqlx::query(FLUSHED).execute(&mut *transaction).await.map_err(store_error)?;
        transaction.commit().await.map_err(store_error)?;
        Ok(MergeOutcome::Merged(committed))
    }
}

/// The claims of a batch in columns: unit, stream, claimed head, and what it stood at at the fork.
#[derive(Default)]
struct Claims<'a> {
    units: Vec<i64>,
    streams: Vec<&'a str>,
    sequences: Vec<i64>,
    chains: Vec<&'a [u8]>,
    base_sequences: Vec<i64>,
    base_chains: Vec<&'a [u8]>,
}

impl<'a> Claims<'a> {
    fn push(&mut self, unit: i64, stream: &'a AggregateId, head: &'a StreamHead, base: &'a StreamHead) {
        self.units.push(unit);
        self.streams.push(stream.as_str());
        self.sequences.push(head.sequence.as_i64());
        self.chains.push(&head.chain.0);
        self.base_sequences.push(base.sequence.as_i64());
        self.base_chains.push(&base.chain.0);
    }
}

async fn look_up(
    connection: &mut PgConnection,
    id: BranchId,
    append: &BranchAppend,
    malformed: &[Option<String>],
) -> Result<Verdicts, StoreError> {
    let (mut probe_units, mut probe_commands, mut probe_ids) = (Vec::new(), Vec::new(), Vec::<Uuid>::new());
    let (mut key_units, mut key_commands) = (Vec::new(), Vec::new());
    let (mut key_principals, mut key_names, mut claims) = (Vec::new(), Vec::new(), Claims::default());
    let units = append.batch.units.iter().enumerate().filter(|(number, _)| malformed[*number].is_none());
    for (number, unit) in units {
        let number = place(number);
        for (command, probe) in unit.commands.iter().enumerate() {
            for event_id in &probe.event_ids {
                probe_units.push(number);
                probe_commands.push(place(command));
                probe_ids.push(event_id.0);
            }
            if let Some(record) = &probe.key {
                key_units.push(number);
                key_commands.push(place(command));
                key_principals.push(&*record.principal);
                key_names.push(&*record.key);
            }
        }
        for claim in &unit.streams {
            let base = append.bases.get(&claim.aggregate_id).unwrap_or(&StreamHead::EMPTY);
            claims.push(number, &claim.aggregate_id, &claim.head, base);
        }
    }
    let query = sqlx::query(LOOK_UP).bind(id.0).bind(probe_units).bind(probe_commands).bind(probe_ids);
    let query = query.bind(key_units).bind(key_commands).bind(key_principals).bind(key_names);
    let query = query.bind(claims.units).bind(claims.streams).bind(claims.sequences).bind(claims.chains);
    let query = query.bind(claims.base_sequences).bind(claims.base_chains);
    verdicts(&query.fetch_all(connection).await.map_err(store_error)?)
}

fn verdicts(rows: &[PgRow]) -> Result<Verdicts, StoreError> {
    let (mut found, mut known, mut stale) = (None, Vec::new(), Vec::new());
    for row in rows {
        let kind: i32 = row.try_get(0).map_err(store_error)?;
        let (first, second): (i64, i64) = (row.try_get(1).map_err(store_error)?, row.try_get(2).map_err(store_error)?);
        match kind {
            0 => found = Some((Position::from_i64(first), row.try_get::<DateTime<Utc>, _>(3).map_err(store_error)?)),
            1 => known.push((usize::try_from(first).unwrap_or(0), usize::try_from(second).unwrap_or(0))),
            _ => stale.push(usize::try_from(first).unwrap_or(0)),
        }
    }
    let missing = || StoreError::Corrupt { reason: "a branch that is locked is not there".to_owned() };
    let (head, recorded_at) = found.ok_or_else(missing)?;
    Ok(Verdicts { head, recorded_at, is_read_only: false, is_replaced: false, known, stale, waiting: Vec::new() })
}

fn place(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

async fn insert_events(
    connection: &mut PgConnection,
    id: BranchId,
    recorded_at: DateTime<Utc>,
    events: &[(i64, &NewEvent)],
) -> Result<(), StoreError> {
    fn column<'a, T>(events: &[(i64, &'a NewEvent)], of: impl Fn(&'a NewEvent) -> T) -> Vec<T> {
        events.iter().map(|(_, event)| of(event)).collect()
    }
    let positions: Vec<i64> = events.iter().map(|(position, _)| *position).collect();
    let query = sqlx::query(INSERT_EVENTS).bind(id.0).bind(recorded_at).bind(positions);
    let query = query.bind(column(events, |event| event.aggregate_id.as_str()));
    let query = query.bind(column(events, |event| event.aggregate_type.as_str()));
    let query = query.bind(column(events, |event| event.sequence.as_i64()));
    let query = query.bind(column(events, |event| event.event_id.0));
    let query = query.bind(column(events, |event| event.event_type.as_str()));
    let query = query.bind(column(events, |event| i64::from(event.schema_version)));
    let query = query.bind(column(events, |event| &event.data[..])).bind(column(events, |event| &event.metadata[..]));
    let query = query.bind(column(events, |event| &event.checksum.0[..]));
    let query = query.bind(column(events, |event| &event.chain.0[..]));
    query.execute(connection).await.map(|_| ()).map_err(store_error)
}

async fn insert_keys(
    connection: &mut PgConnection,
    id: BranchId,
    recorded_at: DateTime<Utc>,
    keys: &[&KeyRecord],
) -> Result<(), StoreError> {
    let query = sqlx::query(INSERT_KEYS).bind(id.0).bind(recorded_at);
    let query = query.bind(keys.iter().map(|record| &*record.principal).collect::<Vec<_>>());
    let query = query.bind(keys.iter().map(|record| &*record.key).collect::<Vec<_>>());
    let query = query.bind(keys.iter().map(|record| &record.fingerprint[..]).collect::<Vec<_>>());
    let query = query.bind(keys.iter().map(|record| &record.outcome[..]).collect::<Vec<_>>());
    query.execute(connection).await.map(|_| ()).map_err(store_error)
}

async fn insert_commands(
    connection: &mut PgConnection,
    id: BranchId,
    records: &[(i64, &CommandRecord)],
) -> Result<(), StoreError> {
    let query = sqlx::query(INSERT_COMMANDS).bind(id.0);
    let query = query.bind(records.iter().map(|(position, _)| *position).collect::<Vec<_>>());
    let query = query.bind(records.iter().map(|(_, record)| record.command_id.0).collect::<Vec<_>>());
    let query = query.bind(records.iter().map(|(_, record)| record.aggregate_id.as_str()).collect::<Vec<_>>());
    let query = query.bind(records.iter().map(|(_, record)| &*record.command_type).collect::<Vec<_>>());
    let query = query.bind(records.iter().map(|(_, record)| &record.content[..]).collect::<Vec<_>>());
    query.execute(connection).await.map(|_| ()).map_err(store_error)
}
