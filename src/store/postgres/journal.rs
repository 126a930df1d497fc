//! The session that appends: one, of its own, thrown away whenever its state is in doubt.

use std::time::Duration;

use chrono::{DateTime, Utc};
use event_sourcing_actors::{
    NewEvent, Position,
    ports::{AppendBatch, KeyRecord, StoreError, StreamClaim, UnitOutcome},
};
use sqlx::{
    ConnectOptions, Connection, Error, PgConnection, PgPool, Postgres, Row,
    postgres::{PgArguments, PgConnectOptions, PgRow},
    query::Query,
};
use tokio::sync::Mutex;
use uuid::Uuid;

use super::{super::verdicts::Verdicts, error::store_error};

macro_rules! answer {
    () => {
        "SELECT head, instant, sealed, known_units, known_commands, stale_units, waiting_units FROM "
    };
}
const APPEND: &str = concat!(
    answer!(),
    "append_batch($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, \
     $22, $23, $24, $25, $26, $27, $28)"
);
const APPEND_ONE: &str =
    concat!(answer!(), "append_one($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)");

/// Acknowledged means flushed, also on a server that is set up otherwise; a dead peer is noticed from both ends.
const SESSION: &str = "SELECT pg_backend_pid(), pg_is_in_recovery() OR current_setting('transaction_read_only')::bool, \
     set_config('synchronous_commit', \
         CASE current_setting('synchronous_commit') WHEN 'remote_apply' THEN 'remote_apply' ELSE 'on' END, false), \
     set_config('default_transaction_isolation', 'read committed', false), \
     set_config('tcp_keepalives_idle', '10', false), set_config('tcp_keepalives_interval', '5', false), \
     set_config('tcp_keepalives_count', '2', false), set_config('tcp_user_timeout', '10000', false), \
     set_config('statement_timeout', $1, false), set_config('lock_timeout', '0', false), \
     set_config('idle_in_transaction_session_timeout', '2s', false)";

/// Some platforms refuse this one, so it goes alone.
const CONNECTION_CHECK: &str = "SELECT set_config('client_connection_check_interval', '10s', false)";

/// Ends the sessions that block ours, directly or through others that wait, if their client has been silent for a second
/// inside a transaction: its host stopped, or somebody left a console open.
const BREAK: &str = "WITH RECURSIVE blockers (pid) AS ( \
         SELECT unnest(pg_blocking_pids($1)) UNION SELECT unnest(pg_blocking_pids(pid)) FROM blockers) \
     SELECT a.pid, pg_terminate_backend(a.pid) FROM blockers JOIN pg_stat_activity a USING (pid) \
     WHERE a.pid <> $1 AND a.wait_event_type = 'Client' AND a.wait_event = 'ClientRead' \
         AND a.state_change < clock_timestamp() - interval '1 second'";

/// Waits of the journal.
#[derive(Debug, Clone, Copy)]
pub(super) struct JournalLimits {
    pub connect_timeout: Duration,
    pub append_timeout: Duration,
    pub head_wait: Duration,
}

/// The one session, or none while it has to be made anew.
pub(super) struct Journal {
    options: PgConnectOptions,
    pool: PgPool,
    writer: Uuid,
    limits: JournalLimits,
    slot: Mutex<Slot>,
}

enum Slot {
    Empty,
    Idle(Session),
    Closed,
}

struct Session {
    connection: PgConnection,
    pid: i32,
}

impl Journal {
    pub(super) fn new(options: PgConnectOptions, pool: PgPool, writer: Uuid, limits: JournalLimits) -> Self {
        Self { options, pool, writer, limits, slot: Mutex::new(Slot::Empty) }
    }

    /// Makes the session before the first append, so that what is wrong shows at once.
    pub(super) async fn connect_now(&self) -> Result<(), Error> {
        let mut slot = self.slot.lock().await;
        *slot = Slot::Idle(self.session().await?);
        Ok(())
    }

    pub(super) async fn close(&self) {
        let mut slot = self.slot.lock().await;
        if let Slot::Idle(session) = std::mem::replace(&mut *slot, Slot::Closed) {
            // The server notices a session that went without a word as well.
            let _ = session.connection.close().await;
        }
    }

    /// Sends the batch; the session goes back to its place only when the whole answer is in.
    pub(super) async fn append(&self, batch: AppendBatch) -> Result<Vec<UnitOutcome>, StoreError> {
        let mut slot = self.slot.lock().await;
        // Taken out: if this future is dropped half-way, so is the session, and nobody meets its transaction.
        let mut session = match std::mem::replace(&mut *slot, Slot::Empty) {
            Slot::Idle(session) => session,
            Slot::Empty => self.session().await.map_err(store_error)?,
            Slot::Closed => {
                *slot = Slot::Closed;
                return Err(StoreError::Unavailable { reason: "the store is closed".to_owned() });
            }
        };
        let malformed = batch.malformed();
        let answer = self.call(&mut session, &batch, &malformed).await;
        if matches!(answer, Ok(_) | Err(StoreError::Refused { .. })) {
            *slot = Slot::Idle(session);
        }
        Ok(answer?.settle(&batch, malformed))
    }

    /// Calls the function, and ends sessions that keep the head from it.
    async fn call(
        &self,
        session: &mut Session,
        batch: &AppendBatch,
        malformed: &[Option<String>],
    ) -> Result<Verdicts, StoreError> {
        let Session { connection, pid } = session;
        // A little more than the server's own limit, which gives the better message.
        let limit = self.limits.append_timeout + Duration::from_secs(1);
        let call = tokio::time::timeout(limit, send(connection, self.writer, batch, malformed));
        tokio::pin!(call);
        let answer = loop {
            tokio::select! {
                answer = &mut call => break answer,
                () = tokio::time::sleep(self.limits.head_wait) => self.break_blockers(*pid).await,
            }
        };
        match answer {
            Ok(answer) => answer.map_err(|error| match store_error(error) {
                // An answer that cannot be read says nothing about what was stored.
                StoreError::Corrupt { reason } => StoreError::Unavailable { reason },
                other => other,
            }),
            Err(_) => Err(StoreError::Unavailable { reason: format!("no answer to an append within {limit:?}") }),
        }
    }

    async fn break_blockers(&self, pid: i32) {
        let query = sqlx::query(BREAK).bind(pid).fetch_all(&self.pool);
        match tokio::time::timeout(self.limits.connect_timeout, query).await {
            Ok(Ok(rows)) => {
                for row in rows {
                    let blocker: Option<i32> = row.try_get(0).ok();
                    tracing::warn!(blocker, "ended a silent session that held the log's head");
                }
            }
            Ok(Err(error)) => tracing::warn!(%error, "cannot look for sessions that hold the log's head"),
            Err(_) => tracing::warn!("no connection to look for sessions that hold the log's head"),
        }
    }

    /// A new session on a server that accepts writes.
    async fn session(&self) -> Result<Session, Error> {
        let limit = self.limits.connect_timeout;
        let made = tokio::time::timeout(limit, async {
            let mut connection = self.options.connect().await?;
            let timeout = format!("{}ms", self.limits.append_timeout.as_millis());
            let row = sqlx::query(SESSION).bind(timeout).fetch_one(&mut connection).await?;
            if row.try_get(1)? {
                return Err(std::io::Error::other("the server is a standby or read-only").into());
            }
            if let Err(error) = sqlx::query(CONNECTION_CHECK).execute(&mut connection).await {
                tracing::info!(%error, "the server cannot watch for clients that went away");
            }
            Ok(Session { pid: row.try_get(0)?, connection })
        });
        made.await.unwrap_or_else(|_| Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()))
    }
}

/// Units, streams, sequences, chains, losses.
type Claims<'a> = (Vec<i32>, Vec<&'a str>, Vec<i64>, Vec<&'a [u8]>, Vec<i32>);
/// Units, commands, principals, names, fingerprints, outcomes.
type Keys<'a> = (Vec<i32>, Vec<i32>, Vec<&'a str>, Vec<&'a str>, Vec<&'a [u8]>, Vec<&'a [u8]>);

/// The batch in columns, as the function takes it; malformed units are left out.
#[derive(Default)]
struct Columns<'a> {
    claims: Claims<'a>,
    /// Units, commands, event ids.
    probes: (Vec<i32>, Vec<i32>, Vec<Uuid>),
    keys: Keys<'a>,
    events: Events<'a>,
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
    fn of(batch: &'a AppendBatch, malformed: &[Option<String>]) -> Self {
        let mut columns = Self::default();
        for (number, unit) in batch.units.iter().enumerate().filter(|(number, _)| malformed[*number].is_none()) {
            let number = index(number);
            for claim in &unit.streams {
                columns.claims.0.push(number);
                columns.claims.1.push(claim.aggregate_id.as_str());
                columns.claims.2.push(claim.head.sequence.as_i64());
                columns.claims.3.push(&claim.head.chain.0);
                columns.claims.4.push(i32::try_from(claim.losses).unwrap_or(i32::MAX));
            }
            for (command, probe) in unit.commands.iter().enumerate() {
                for id in &probe.event_ids {
                    columns.probes.0.push(number);
                    columns.probes.1.push(index(command));
                    columns.probes.2.push(id.0);
                }
                if let Some(record) = &probe.key {
                    columns.keys.0.push(number);
                    columns.keys.1.push(index(command));
                    columns.keys.2.push(&record.principal);
                    columns.keys.3.push(&record.key);
                    columns.keys.4.push(&record.fingerprint);
                    columns.keys.5.push(&record.outcome);
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
    probe: Option<Uuid>,
    key: Option<&'a KeyRecord>,
    event: Option<&'a NewEvent>,
}

impl<'a> Single<'a> {
    fn of(batch: &'a AppendBatch, malformed: &[Option<String>]) -> Option<Self> {
        let ([unit], [None]) = (&batch.units[..], malformed) else { return None };
        let [claim] = &unit.streams[..] else { return None };
        let command = unit.commands.first();
        let ids = command.map_or(&[][..], |command| &command.event_ids);
        (unit.commands.len() <= 1 && unit.events.len() <= 1 && ids.len() <= 1).then(|| Self {
            claim,
            probe: ids.first().map(|id| id.0),
            key: command.and_then(|command| command.key.as_ref()),
            event: unit.events.first(),
        })
    }

    fn query(&self, writer: Uuid) -> Query<'a, Postgres, PgArguments> {
        let Self { claim, probe, key, event } = *self;
        let query = sqlx::query(APPEND_ONE).bind(writer).bind(claim.aggregate_id.as_str());
        let query = query.bind(claim.head.sequence.as_i64()).bind(&claim.head.chain.0[..]);
        let query = query.bind(i32::try_from(claim.losses).unwrap_or(i32::MAX)).bind(probe);
        let query = query.bind(key.map(|key| &*key.principal)).bind(key.map(|key| &*key.key));
        let query = query.bind(key.map(|key| &key.fingerprint[..])).bind(key.map(|key| &key.outcome[..]));
        let query =
            query.bind(event.map(|event| event.aggregate_type.as_str())).bind(event.map(|event| event.event_id.0));
        let query = query.bind(event.map(|event| event.event_type.as_str()));
        let query = query.bind(event.map(|event| i64::from(event.schema_version)));
        let query = query.bind(event.map(|event| &event.data[..])).bind(event.map(|event| &event.metadata[..]));
        query.bind(event.map(|event| &event.checksum.0[..])).bind(event.map(|event| &event.chain.0[..]))
    }
}

async fn send(
    connection: &mut PgConnection,
    writer: Uuid,
    batch: &AppendBatch,
    malformed: &[Option<String>],
) -> Result<Verdicts, Error> {
    if let Some(single) = Single::of(batch, malformed) {
        let rows = single.query(writer).fetch_all(connection).await?;
        return verdicts(rows.first().ok_or(Error::RowNotFound)?);
    }
    let Columns { claims, probes, keys, events } = Columns::of(batch, malformed);
    let query = sqlx::query(APPEND).bind(writer);
    let query = query.bind(claims.0).bind(claims.1).bind(claims.2).bind(claims.3).bind(claims.4);
    let (least, most) = (probes.2.iter().min().copied(), probes.2.iter().max().copied());
    let query = query.bind(probes.0).bind(probes.1).bind(probes.2).bind(least).bind(most);
    let query = query.bind(keys.0).bind(keys.1).bind(keys.2).bind(keys.3).bind(keys.4).bind(keys.5);
    let query = query.bind(events.units).bind(events.streams).bind(events.stream_types).bind(events.sequences);
    let query = query.bind(events.ids).bind(events.types).bind(events.schemas).bind(events.datas);
    let query = query.bind(events.metadatas).bind(events.checksums).bind(events.chains);
    // The row can arrive before the commit: nothing is read from it until the whole answer is in.
    let rows = query.fetch_all(connection).await?;
    verdicts(rows.first().ok_or(Error::RowNotFound)?)
}

fn verdicts(row: &PgRow) -> Result<Verdicts, Error> {
    let numbers = |column: usize| -> Result<Vec<usize>, Error> {
        let stored: Option<Vec<i32>> = row.try_get(column)?;
        Ok(stored.unwrap_or_default().into_iter().map(|number| usize::try_from(number).unwrap_or(0)).collect())
    };
    Ok(Verdicts {
        head: Position::from_i64(row.try_get(0)?),
        recorded_at: row.try_get::<DateTime<Utc>, _>(1)?,
        is_read_only: row.try_get(2)?,
        known: numbers(3)?.into_iter().zip(numbers(4)?).collect(),
        stale: numbers(5)?,
        waiting: numbers(6)?,
    })
}
