//! An attacker who may do anything to the database, and nothing to the folder of the evidence.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use event_sourcing_actors::{
    AggregateId, CommandId, EventId, NewEvent, StreamHead,
    digest::{ChainDigest, Checksum, StoredParts},
    envelope::EventBody,
    ports::{AppendBatch, AppendUnit, CommandProbe, EventStore, StreamClaim, SystemClock, ViewStore},
};
use event_sourcing_cqrs::{
    integrity::{
        Integrity, Parts, Report, Wanted,
        note::SignedCheckpoint,
        port::{StoredRow, TreeStore},
        tiles::Frontier,
        vault::Vault,
        verify,
    },
    store::{PostgresOptions, PostgresStore, SqliteOptions, SqliteStore},
};
use sqlx::{AssertSqlSafe, Connection, PgConnection, SqliteConnection, sqlite::SqliteConnectOptions};
use tempfile::TempDir;
use uuid::Uuid;

use crate::support::postgres;

/// A row of `events` as the attacker sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    pub partition: i64,
    pub position: i64,
    pub aggregate_id: Vec<u8>,
    pub aggregate_type: Vec<u8>,
    pub sequence: i64,
    pub event_id: Vec<u8>,
    pub event_type: Vec<u8>,
    pub schema_version: i64,
    pub data: Vec<u8>,
    pub metadata: Vec<u8>,
    pub recorded_at: i64,
    pub checksum: Vec<u8>,
    pub chain: Vec<u8>,
}

impl Row {
    fn of(row: &StoredRow<'_>) -> Self {
        Self {
            partition: 0,
            position: row.position,
            aggregate_id: row.aggregate_id.to_vec(),
            aggregate_type: row.aggregate_type.to_vec(),
            sequence: row.sequence,
            event_id: row.event_id.to_vec(),
            event_type: row.event_type.to_vec(),
            schema_version: row.schema_version,
            data: row.data.to_vec(),
            metadata: row.metadata.to_vec(),
            recorded_at: row.recorded_at,
            checksum: row.checksum.to_vec(),
            chain: row.chain.to_vec(),
        }
    }

    /// The digest that makes the row look right.
    pub fn right_checksum(&self) -> Checksum {
        StoredParts {
            aggregate_id: &self.aggregate_id,
            aggregate_type: &self.aggregate_type,
            sequence: self.sequence.cast_unsigned(),
            event_id: self.event_id.as_slice().try_into().unwrap(),
            event_type: &self.event_type,
            schema_version: u32::try_from(self.schema_version).unwrap(),
            data: &self.data,
            metadata: &self.metadata,
        }
        .checksum()
    }
}

/// Makes every checksum and chain right again, as an attacker who knows the program would.
pub fn rehash(rows: &mut [Row]) {
    let mut chains: BTreeMap<Vec<u8>, ChainDigest> = BTreeMap::new();
    for row in rows {
        let checksum = row.right_checksum();
        let chain = chains.entry(row.aggregate_id.clone()).or_insert(ChainDigest::EMPTY);
        *chain = chain.then(checksum);
        (row.checksum, row.chain) = (checksum.0.to_vec(), chain.0.to_vec());
    }
}

enum Session {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

/// A sealed log, the folder with its evidence, and a session that may do anything.
pub struct Victim {
    pub name: &'static str,
    pub store: Arc<dyn TreeStore>,
    pub good: Vec<Row>,
    pub folder: TempDir,
    pub url: String,
    wanted: Wanted,
    current: BTreeMap<(i64, i64), Row>,
    is_tree_altered: bool,
    session: Session,
}

const STREAMS: usize = 23;
const CHUNKS: usize = 6;
const CHUNK_EVENTS: usize = 50;

impl Victim {
    pub async fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.db");
        let store = Arc::new(SqliteStore::open(SqliteOptions::new(&path)).await.unwrap());
        let options = SqliteConnectOptions::new().filename(&path).busy_timeout(Duration::from_secs(10));
        let session = Session::Sqlite(SqliteConnection::connect_with(&options).await.unwrap());
        let url = format!("sqlite://{}", path.display());
        Self::sealed("sqlite", store.clone(), store.clone(), store, session, folder, url).await
    }

    pub async fn postgres() -> Option<Self> {
        let database = postgres::database().await?;
        let store = Arc::new(PostgresStore::connect(PostgresOptions::new(&database.url)).await.unwrap());
        let session = Session::Postgres(database.session().await);
        let folder = tempfile::tempdir().unwrap();
        Some(Self::sealed("postgres", store.clone(), store.clone(), store, session, folder, database.url).await)
    }

    async fn sealed(
        name: &'static str,
        events: Arc<dyn EventStore>,
        store: Arc<dyn TreeStore>,
        views: Arc<dyn ViewStore>,
        session: Session,
        folder: TempDir,
        url: String,
    ) -> Self {
        let parts = Parts {
            store: store.clone(),
            vault: Vault::in_folder(folder.path().to_owned(), store.tree_id(), Vec::new()),
            views,
            clock: Arc::new(SystemClock),
            registry: prometheus::Registry::new(),
            interval: Duration::from_millis(20),
            lease: Duration::from_secs(10),
        };
        let integrity = Integrity::start(parts).await.unwrap();
        let mut heads: Vec<(AggregateId, StreamHead)> = (0..STREAMS)
            .map(|number| (AggregateId::new(format!("stream-{number:02}")).unwrap(), StreamHead::EMPTY))
            .collect();
        for chunk in 0..CHUNKS {
            for number in 0..CHUNK_EVENTS {
                append(&*events, &mut heads[(chunk * 7 + number * 5) % STREAMS], number).await;
            }
            let sealed = ((chunk + 1) * CHUNK_EVENTS) as u64;
            for _ in 0..500 {
                if integrity.checkpoint().is_some_and(|signed| signed.checkpoint.head.size == sealed) {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            assert_eq!(integrity.health().sealed_position, sealed, "{:?}", integrity.health());
        }
        let wanted = integrity.wanted(None).await.unwrap();
        integrity.close().await;
        let good: Vec<Row> = store.rows(1, 10_000).await.unwrap().iter().map(|row| Row::of(&row)).collect();
        let current = good.iter().map(|row| ((0, row.position), row.clone())).collect();
        let mut victim = Self { name, store, good, folder, url, wanted, current, is_tree_altered: false, session };
        victim.drop_triggers().await;
        victim
    }

    /// What an attacker with SQL does first.
    async fn drop_triggers(&mut self) {
        match &mut self.session {
            Session::Sqlite(session) => {
                for trigger in ["events_no_update", "events_no_delete"] {
                    sqlx::query(AssertSqlSafe(format!("DROP TRIGGER {trigger}"))).execute(&mut *session).await.unwrap();
                }
                sqlx::query("PRAGMA synchronous = OFF").execute(session).await.unwrap();
            }
            Session::Postgres(session) => {
                sqlx::query("DROP TRIGGER events_append_only ON events").execute(&mut *session).await.unwrap();
                sqlx::query("SET synchronous_commit = off").execute(session).await.unwrap();
            }
        }
    }

    pub fn head(&self) -> i64 {
        i64::try_from(self.good.len()).unwrap()
    }

    /// Puts these rows in the place of what is there; `false` when the database refuses them, and then nothing is done.
    pub async fn write(&mut self, rows: &[Row]) -> bool {
        let target: BTreeMap<(i64, i64), Row> =
            rows.iter().map(|row| ((row.partition, row.position), row.clone())).collect();
        if target.len() < rows.len() {
            return false;
        }
        let gone = self.current.iter().filter(|(key, row)| target.get(*key) != Some(*row)).map(|(key, _)| *key);
        let gone: Vec<(i64, i64)> = gone.collect();
        let new: Vec<&Row> =
            target.iter().filter(|(key, row)| self.current.get(*key) != Some(*row)).map(|(_, row)| row).collect();
        let done = match &mut self.session {
            Session::Sqlite(session) => write_sqlite(session, &gone, &new).await,
            Session::Postgres(session) => write_postgres(session, &gone, &new).await,
        };
        if done.is_ok() {
            self.current = target;
        }
        done.is_ok()
    }

    /// Makes the stored tree that of these rows.
    pub async fn rebuild_tree(&mut self, rows: &[Row]) {
        let mut frontier = Frontier::default();
        for row in rows {
            let checksum = Checksum::from_slice(&row.checksum).unwrap();
            let leaf = event_sourcing_actors::digest::LeafHash::of_parts(
                row.position.cast_unsigned(),
                row.recorded_at,
                checksum,
            );
            frontier.push(leaf.0);
        }
        let mut tiles = frontier.take_full();
        tiles.extend(frontier.open_tiles());
        let size = frontier.size().cast_signed();
        self.execute("DELETE FROM merkle_tiles").await;
        self.execute(&format!("UPDATE merkle_tree SET size = {size}, checkpoint = NULL")).await;
        for tile in tiles {
            let hashes = hex::encode(tile.to_bytes());
            let literal = match self.session {
                Session::Sqlite(_) => format!("x'{hashes}'"),
                Session::Postgres(_) => format!("decode('{hashes}', 'hex')"),
            };
            let (level, index) = (tile.id.level, tile.id.index);
            self.execute(&format!(
                "INSERT INTO merkle_tiles (partition, level, tile, hashes) VALUES (0, {level}, {index}, {literal})"
            ))
            .await;
        }
        self.is_tree_altered = true;
    }

    pub async fn execute(&mut self, statement: &str) {
        let statement = AssertSqlSafe(statement.to_owned());
        match &mut self.session {
            Session::Sqlite(session) => drop(sqlx::query(statement).execute(session).await.unwrap()),
            Session::Postgres(session) => drop(sqlx::query(statement).execute(session).await.unwrap()),
        }
    }

    /// As if nothing had been done.
    pub async fn restore(&mut self) {
        let good = self.good.clone();
        assert!(self.write(&good).await, "the good rows go back");
        if std::mem::take(&mut self.is_tree_altered) {
            self.rebuild_tree(&good).await;
            self.is_tree_altered = false;
        }
    }

    pub async fn verify(&self) -> Report {
        self.verify_against(self.wanted.clone()).await
    }

    pub async fn verify_chains_only(&self) -> Report {
        self.verify_against(Wanted { is_chain_only: true, ..Wanted::default() }).await
    }

    pub async fn verify_against(&self, wanted: Wanted) -> Report {
        verify(&*self.store, &SystemClock, wanted, &mut |_, _| true).await.unwrap()
    }

    pub fn checkpoints(&self) -> &[SignedCheckpoint] {
        &self.wanted.outside
    }
}

async fn append(store: &dyn EventStore, (id, head): &mut (AggregateId, StreamHead), number: usize) {
    let claim = StreamClaim { aggregate_id: id.clone(), head: *head, losses: 0 };
    let command = CommandId::generate();
    let body = EventBody {
        event_id: EventId::derived(command, 0),
        event_type: ["MoneyDeposited", "MoneyWithdrawn", "Überwiesen"][number % 3].try_into().unwrap(),
        schema_version: 1,
        data: format!(r#"{{"amount":{number},"note":"né {number}"}}"#).into(),
        metadata: format!(r#"{{"command_id":"{command}","correlation_id":"{command}"}}"#).into(),
    };
    let event = NewEvent::following(head, id, &"account".try_into().unwrap(), body);
    let probe = CommandProbe { event_ids: vec![event.event_id], key: None, record: None };
    let unit = AppendUnit { streams: vec![claim], commands: vec![probe], events: vec![event] };
    store.append(AppendBatch { units: vec![unit] }).await.unwrap();
}

async fn write_sqlite(session: &mut SqliteConnection, gone: &[(i64, i64)], new: &[&Row]) -> Result<(), sqlx::Error> {
    let mut all = session.begin().await?;
    for (partition, position) in gone {
        let query =
            sqlx::query("DELETE FROM events WHERE partition = ? AND position = ?").bind(partition).bind(position);
        query.execute(&mut *all).await?;
    }
    for row in new {
        sqlx::query(
            "INSERT INTO events (partition, position, aggregate_id, aggregate_type, sequence, event_id, event_type, \
             schema_version, data, metadata, recorded_at, checksum, chain) VALUES (?, ?, CAST(? AS TEXT), \
             CAST(? AS TEXT), ?, ?, CAST(? AS TEXT), ?, ?, ?, ?, ?, ?)",
        )
        .bind(row.partition)
        .bind(row.position)
        .bind(&row.aggregate_id)
        .bind(&row.aggregate_type)
        .bind(row.sequence)
        .bind(&row.event_id)
        .bind(&row.event_type)
        .bind(row.schema_version)
        .bind(&row.data)
        .bind(&row.metadata)
        .bind(row.recorded_at)
        .bind(&row.checksum)
        .bind(&row.chain)
        .execute(&mut *all)
        .await?;
    }
    all.commit().await
}

async fn write_postgres(session: &mut PgConnection, gone: &[(i64, i64)], new: &[&Row]) -> Result<(), sqlx::Error> {
    let mut all = session.begin().await?;
    let (partitions, positions): (Vec<i64>, Vec<i64>) = gone.iter().copied().unzip();
    sqlx::query(
        "DELETE FROM events e USING unnest($1::bigint[], $2::bigint[]) g(partition, position) \
         WHERE e.partition = g.partition AND e.position = g.position",
    )
    .bind(partitions)
    .bind(positions)
    .execute(&mut *all)
    .await?;
    let bytes = |part: fn(&Row) -> &Vec<u8>| new.iter().map(|row| part(row).clone()).collect::<Vec<_>>();
    let numbers = |part: fn(&Row) -> i64| new.iter().map(|row| part(row)).collect::<Vec<_>>();
    sqlx::query(
        "INSERT INTO events (partition, position, aggregate_id, aggregate_type, sequence, event_id, event_type, \
         schema_version, data, metadata, recorded_at, checksum, chain) \
         SELECT n.a::smallint, n.b, convert_from(n.c, 'UTF8'), convert_from(n.d, 'UTF8'), n.e, n.f, \
         convert_from(n.g, 'UTF8'), n.h, n.i, n.j, 'epoch'::timestamptz + n.k * interval '1 microsecond', n.l, n.m \
         FROM unnest($1::bigint[], $2::bigint[], $3::bytea[], $4::bytea[], $5::bigint[], $6::uuid[], $7::bytea[], \
         $8::bigint[], $9::bytea[], $10::bytea[], $11::bigint[], $12::bytea[], $13::bytea[]) \
         n(a, b, c, d, e, f, g, h, i, j, k, l, m)",
    )
    .bind(numbers(|row| row.partition))
    .bind(numbers(|row| row.position))
    .bind(bytes(|row| &row.aggregate_id))
    .bind(bytes(|row| &row.aggregate_type))
    .bind(numbers(|row| row.sequence))
    .bind(new.iter().map(|row| Uuid::from_slice(&row.event_id).unwrap()).collect::<Vec<_>>())
    .bind(bytes(|row| &row.event_type))
    .bind(numbers(|row| row.schema_version))
    .bind(bytes(|row| &row.data))
    .bind(bytes(|row| &row.metadata))
    .bind(numbers(|row| row.recorded_at))
    .bind(bytes(|row| &row.checksum))
    .bind(bytes(|row| &row.chain))
    .execute(&mut *all)
    .await?;
    all.commit().await
}
