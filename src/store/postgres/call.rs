//! The two functions that append, and how a batch is handed to them.

use chrono::{DateTime, Utc};
use event_sourcing_actors::{
    NewEvent, Position,
    ports::{AppendBatch, KeyRecord, StreamClaim},
};
use sqlx::{
    Error, PgConnection, Postgres, Row,
    postgres::{PgArguments, PgRow},
    query::Query,
};
use uuid::Uuid;

use super::{super::verdicts::Verdicts, heads::Heads};

/// The function is called for a row of this log alone, which it needs an argument of: of another log there is none, so that
/// nothing is called, and no row comes.
macro_rules! answer {
    () => {
        "SELECT a.head, a.instant, a.sealed, a.known_units, a.known_commands, a.stale_units, a.waiting_units \
             FROM log_head l CROSS JOIN LATERAL "
    };
}
const APPEND: &str = concat!(
    answer!(),
    "append_batch(CASE l.partition WHEN 0 THEN $1::uuid END, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, \
     $22, $23, $24, $25, $26, $27, $28, $29, $30) a WHERE l.partition = 0 AND l.store_id = $31"
);
const APPEND_ONE: &str = concat!(
    answer!(),
    "append_one(CASE l.partition WHEN 0 THEN $1::uuid END, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, \
     $15, $16, $17, $18, $19) a WHERE l.partition = 0 AND l.store_id = $20"
);

/// Who appends, and to which log.
#[derive(Debug, Clone, Copy)]
pub(super) struct Writer {
    /// This process among all that append.
    pub id: Uuid,
    /// The log that was opened; appends go to no other.
    pub store_id: Uuid,
}

/// The batch in columns, as the function takes it; malformed units are left out.
#[derive(Default)]
struct Columns<'a> {
    claims: Claims<'a>,
    probes: Probes,
    keys: Keys<'a>,
    events: Events<'a>,
}

#[derive(Default)]
struct Claims<'a> {
    units: Vec<i32>,
    streams: Vec<&'a str>,
    sequences: Vec<i64>,
    chains: Vec<&'a [u8]>,
    losses: Vec<i32>,
    trusted: Vec<bool>,
}

#[derive(Default)]
struct Probes {
    units: Vec<i32>,
    commands: Vec<i32>,
    ids: Vec<Uuid>,
}

#[derive(Default)]
struct Keys<'a> {
    units: Vec<i32>,
    commands: Vec<i32>,
    principals: Vec<&'a str>,
    names: Vec<&'a str>,
    fingerprints: Vec<&'a [u8]>,
    outcomes: Vec<&'a [u8]>,
}

#[derive(Default)]
struct Events<'a> {
    units: Vec<i32>,
    streams: Vec<&'a str>,
    stream_types: Vec<&'a str>,
    sequences: Vec<i64>,
    ids: Vec<Uuid>,
    types: Vec<&'a str>,
    schemas: Vec<i64>,
    datas: Vec<&'a [u8]>,
    metadatas: Vec<&'a [u8]>,
    checksums: Vec<&'a [u8]>,
    chains: Vec<&'a [u8]>,
}

/// Indices within a batch, which never holds more than two thousand million of anything.
fn index(of: usize) -> i32 {
    i32::try_from(of).unwrap_or(i32::MAX)
}

impl<'a> Columns<'a> {
    fn of(batch: &'a AppendBatch, malformed: &[Option<String>], heads: &Heads) -> Self {
        let mut columns = Self::default();
        for (number, unit) in batch.units.iter().enumerate().filter(|(number, _)| malformed[*number].is_none()) {
            let number = index(number);
            for claim in &unit.streams {
                columns.claims.units.push(number);
                columns.claims.streams.push(claim.aggregate_id.as_str());
                columns.claims.sequences.push(claim.head.sequence.as_i64());
                columns.claims.chains.push(&claim.head.chain.0);
                columns.claims.losses.push(i32::try_from(claim.losses).unwrap_or(i32::MAX));
                columns.claims.trusted.push(heads.trusts(claim));
            }
            for (command, probe) in unit.commands.iter().enumerate() {
                for id in &probe.event_ids {
                    columns.probes.units.push(number);
                    columns.probes.commands.push(index(command));
                    columns.probes.ids.push(id.0);
                }
                if let Some(record) = &probe.key {
                    columns.keys.units.push(number);
                    columns.keys.commands.push(index(command));
                    columns.keys.principals.push(&record.principal);
                    columns.keys.names.push(&record.key);
                    columns.keys.fingerprints.push(&record.fingerprint);
                    columns.keys.outcomes.push(&record.outcome);
                }
            }
            for event in &unit.events {
                columns.events.units.push(number);
                columns.events.streams.push(event.aggregate_id.as_str());
                columns.events.stream_types.push(event.aggregate_type.as_str());
                columns.events.sequences.push(event.sequence.as_i64());
                columns.events.ids.push(event.event_id.0);
                columns.events.types.push(event.event_type.as_str());
                columns.events.schemas.push(i64::from(event.schema_version));
                columns.events.datas.push(&event.data);
                columns.events.metadatas.push(&event.metadata);
                columns.events.checksums.push(&event.checksum.0);
                columns.events.chains.push(&event.chain.0);
            }
        }
        columns
    }
}

/// One command of one stream with at most one event: what an idle system sends, and cheaper without arrays.
struct Single<'a> {
    claim: &'a StreamClaim,
    is_trusted: bool,
    left_at: Option<i64>,
    probe: Option<Uuid>,
    key: Option<&'a KeyRecord>,
    event: Option<&'a NewEvent>,
}

impl<'a> Single<'a> {
    fn of(batch: &'a AppendBatch, malformed: &[Option<String>], heads: &Heads) -> Option<Self> {
        let ([unit], [None]) = (&batch.units[..], malformed) else { return None };
        let [claim] = &unit.streams[..] else { return None };
        let command = unit.commands.first();
        let ids = command.map_or(&[][..], |command| &command.event_ids);
        (claim.losses < 2 && unit.commands.len() <= 1 && unit.events.len() <= 1 && ids.len() <= 1).then(|| Self {
            claim,
            is_trusted: heads.trusts(claim),
            left_at: heads.left_at(),
            probe: ids.first().map(|id| id.0),
            key: command.and_then(|command| command.key.as_ref()),
            event: unit.events.first(),
        })
    }

    fn query(&self, writer: Writer) -> Query<'a, Postgres, PgArguments> {
        let Self { claim, is_trusted, left_at, probe, key, event } = *self;
        let query = sqlx::query(APPEND_ONE).bind(writer.id).bind(left_at).bind(claim.aggregate_id.as_str());
        let query = query.bind(claim.head.sequence.as_i64()).bind(&claim.head.chain.0[..]);
        let query = query.bind(is_trusted).bind(probe);
        let query = query.bind(key.map(|key| &*key.principal)).bind(key.map(|key| &*key.key));
        let query = query.bind(key.map(|key| &key.fingerprint[..])).bind(key.map(|key| &key.outcome[..]));
        let query =
            query.bind(event.map(|event| event.aggregate_type.as_str())).bind(event.map(|event| event.event_id.0));
        let query = query.bind(event.map(|event| event.event_type.as_str()));
        let query = query.bind(event.map(|event| i64::from(event.schema_version)));
        let query = query.bind(event.map(|event| &event.data[..])).bind(event.map(|event| &event.metadata[..]));
        let query = query.bind(event.map(|event| &event.checksum.0[..])).bind(event.map(|event| &event.chain.0[..]));
        query.bind(writer.store_id)
    }
}

/// Sends a batch; `heads` says which claims need no look-up.
pub(super) async fn send(
    connection: &mut PgConnection,
    writer: Writer,
    heads: &Heads,
    batch: &AppendBatch,
    malformed: &[Option<String>],
) -> Result<Verdicts, Error> {
    if let Some(single) = Single::of(batch, malformed, heads) {
        let rows = single.query(writer).fetch_all(connection).await?;
        return verdicts(rows.first());
    }
    let Columns { claims, probes, keys, events } = Columns::of(batch, malformed, heads);
    let query = sqlx::query(APPEND).bind(writer.id).bind(heads.left_at());
    let query = query
        .bind(claims.units)
        .bind(claims.streams)
        .bind(claims.sequences)
        .bind(claims.chains)
        .bind(claims.losses)
        .bind(claims.trusted);
    let (least, most) = (probes.ids.iter().min().copied(), probes.ids.iter().max().copied());
    let query = query.bind(probes.units).bind(probes.commands).bind(probes.ids).bind(least).bind(most);
    let query = query
        .bind(keys.units)
        .bind(keys.commands)
        .bind(keys.principals)
        .bind(keys.names)
        .bind(keys.fingerprints)
        .bind(keys.outcomes);
    let query = query.bind(events.units).bind(events.streams).bind(events.stream_types).bind(events.sequences);
    let query = query.bind(events.ids).bind(events.types).bind(events.schemas).bind(events.datas);
    let query = query.bind(events.metadatas).bind(events.checksums).bind(events.chains).bind(writer.store_id);
    // The row can arrive before the commit: nothing is read from it until the whole answer is in.
    let rows = query.fetch_all(connection).await?;
    verdicts(rows.first())
}

fn verdicts(row: Option<&PgRow>) -> Result<Verdicts, Error> {
    let Some(row) = row else { return Ok(Verdicts::replaced()) };
    let numbers = |column: usize| -> Result<Vec<usize>, Error> {
        let stored: Option<Vec<i32>> = row.try_get(column)?;
        Ok(stored.unwrap_or_default().into_iter().map(|number| usize::try_from(number).unwrap_or(0)).collect())
    };
    Ok(Verdicts {
        head: Position::from_i64(row.try_get(0)?),
        recorded_at: row.try_get::<DateTime<Utc>, _>(1)?,
        is_read_only: row.try_get(2)?,
        is_replaced: false,
        known: numbers(3)?.into_iter().zip(numbers(4)?).collect(),
        stale: numbers(5)?,
        waiting: numbers(6)?,
    })
}
