//! What only the PostgreSQL store must do.

use std::time::{Duration, Instant};

use event_sourcing_actors::{
    EventFilter, Position, StreamHead,
    ports::{AppendBatch, AppendUnit, EventStore, StoreError, UnitOutcome},
};
use event_sourcing_cqrs::store::{OpenError, PostgresOptions, PostgresStore};
use sqlx::Connection;

use crate::support::{
    batches::{at_most, batch, committed, unit},
    postgres::{self, Database},
};

async fn connect(database: &Database) -> PostgresStore {
    PostgresStore::connect(PostgresOptions::new(&database.url)).await.unwrap()
}

/// The database of a test, or the end of the test where there is no server.
macro_rules! database {
    () => {
        match postgres::database().await {
            Some(database) => database,
            None => return,
        }
    };
}

#[tokio::test]
async fn triggers_refuse_to_change_the_log() {
    let database = database!();
    let store = connect(&database).await;
    committed(store.append(batch(&["a"])).await);
    let mut session = database.session().await;
    for statement in [
        "UPDATE events SET data = ''",
        "DELETE FROM events",
        "TRUNCATE events",
        "UPDATE streams SET aggregate_type = 'other'",
        "DELETE FROM streams",
        "TRUNCATE streams",
        "DELETE FROM log_head",
        "TRUNCATE log_head",
    ] {
        let error = sqlx::query(statement).execute(&mut session).await.unwrap_err().to_string();
        assert!(error.contains("append-only"), "{statement}: {error}");
    }
    assert_eq!(store.head().await.unwrap(), Position(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn three_replicas_migrate_an_empty_database_at_once() {
    for _ in 0..3 {
        let database = database!();
        let opens = (0..3).map(|_| tokio::spawn(PostgresStore::connect(PostgresOptions::new(&database.url))));
        let stores: Vec<_> =
            futures_util::future::join_all(opens).await.into_iter().map(|it| it.unwrap().unwrap()).collect();
        assert!(stores.iter().all(|store| store.store_id() == stores[0].store_id()));
        assert_eq!(stores[2].schema_version().await.unwrap(), 6);
    }
}

#[tokio::test]
async fn opening_a_current_database_writes_nothing() {
    let database = database!();
    let first = connect(&database).await;
    let mut other = database.session().await;
    let mut locked = other.begin().await.unwrap();
    sqlx::query("LOCK TABLE events, log_head, _sqlx_migrations IN EXCLUSIVE MODE").execute(&mut *locked).await.unwrap();
    let second = tokio::time::timeout(Duration::from_secs(2), connect(&database)).await.unwrap();
    assert_eq!(first.store_id(), second.store_id());
}

#[tokio::test]
async fn newer_and_edited_and_older_schemas_are_refused() {
    let database = database!();
    let options = PostgresOptions { migrate: false, ..PostgresOptions::new(&database.url) };
    let older = PostgresStore::connect(options.clone()).await.unwrap_err();
    assert!(matches!(older, OpenError::OlderSchema { found: 0, needed: 6, .. }), "{older}");
    assert_eq!(PostgresStore::migrate(&options).await.unwrap(), 6);
    PostgresStore::connect(options.clone()).await.unwrap().ping().await.unwrap();

    let mut session = database.session().await;
    sqlx::query("INSERT INTO _sqlx_migrations VALUES (99, 'future', now(), true, '', 0)")
        .execute(&mut session)
        .await
        .unwrap();
    let newer = PostgresStore::connect(options.clone()).await.unwrap_err();
    assert!(matches!(newer, OpenError::NewerSchema { found: 99, known: 6, .. }), "{newer}");
    sqlx::query("DELETE FROM _sqlx_migrations WHERE version = 99").execute(&mut session).await.unwrap();
    sqlx::query("UPDATE _sqlx_migrations SET checksum = '' WHERE version = 2").execute(&mut session).await.unwrap();
    let edited = PostgresStore::connect(options).await.unwrap_err();
    assert!(matches!(edited, OpenError::EditedMigration { version: 2, .. }), "{edited}");
}

#[tokio::test]
async fn errors_of_opening_tell_what_helps() {
    let database = database!();
    let refused = PostgresStore::connect(PostgresOptions::new("postgres://u@127.0.0.1:1/x")).await.unwrap_err();
    assert!(refused.is_retryable(), "{refused}");
    let url = PostgresStore::connect(PostgresOptions::new("mysql://somewhere")).await.unwrap_err();
    assert!(matches!(url, OpenError::Configuration { .. }), "{url}");
    let (server, _) = database.url.split_once("/es_test_").unwrap();
    let absent = PostgresStore::connect(PostgresOptions::new(format!("{server}/absent"))).await.unwrap_err();
    assert!(matches!(absent, OpenError::Configuration { .. }), "{absent}");
    // Another server's URL may name its user otherwise.
    if let Some((_, place)) = database.url.split_once('@') {
        let nobody = format!("postgres://nobody-here:secret@{place}");
        let nobody = PostgresStore::connect(PostgresOptions::new(nobody)).await.unwrap_err();
        assert!(matches!(nobody, OpenError::Configuration { .. }), "{nobody}");
        assert!(!nobody.to_string().contains("secret"), "{nobody}");
    }
}

#[tokio::test]
async fn heads_that_a_writer_remembers_do_not_outlive_another_writers_append() {
    let database = database!();
    let (here, there) = (connect(&database).await, connect(&database).await);
    let head = |unit: &AppendUnit| StreamHead { sequence: unit.events[0].sequence, chain: unit.events[0].chain };
    for padding in [&[][..], &["b", "c"][..]] {
        let name = format!("stream-{}", padding.len());
        let first = unit(&name, StreamHead::EMPTY);
        committed(here.append(AppendBatch { units: vec![first.clone()] }).await);
        let mut second = batch(padding);
        second.units.insert(0, unit(&name, head(&first)));
        let mut rival = second.clone();
        rival.units[0] = unit(&name, head(&first));
        rival.units.truncate(1);
        committed(there.append(rival).await);
        let outcomes = here.append(second.clone()).await.unwrap();
        assert!(matches!(outcomes[0], UnitOutcome::Stale), "{outcomes:?}");
        let again = here.append(AppendBatch { units: second.units[..1].to_vec() }).await.unwrap();
        assert!(matches!(again[0], UnitOutcome::Stale), "also where the log has not moved since: {again:?}");
    }
}

/// How long a turn lasts, by the migration.
const TURN: Duration = Duration::from_millis(50);

#[tokio::test]
async fn writer_that_lost_twice_gets_a_turn() {
    let database = database!();
    let (unlucky, lucky) = (connect(&database).await, connect(&database).await);
    // A turn is short: on a machine that is busy elsewhere it may run out before the rival comes, and tells nothing then.
    for attempt in 0..50 {
        let (contended, free) = (format!("a-{attempt}"), format!("b-{attempt}"));
        let mut lost = batch(&[&contended]);
        let head = lost.units[0].events[0].clone();
        committed(lucky.append(batch(&[&contended])).await);
        let now = lucky.stream(&head.aggregate_id).await.unwrap().unwrap().head;
        lost.units[0].streams[0].losses = 2;
        let began = Instant::now();
        let stale = unlucky.append(lost).await.unwrap();
        assert!(matches!(stale[0], UnitOutcome::Stale), "{stale:?}");

        let next = AppendBatch { units: vec![unit(&contended, now), unit(&free, StreamHead::EMPTY)] };
        let outcomes = lucky.append(next).await.unwrap();
        if !matches!(outcomes[0], UnitOutcome::Wait) && began.elapsed() >= TURN {
            continue;
        }
        assert!(matches!(outcomes[0], UnitOutcome::Wait), "{outcomes:?}");
        assert!(matches!(outcomes[1], UnitOutcome::Committed(_)), "another stream is free: {outcomes:?}");

        let mut again = AppendBatch { units: vec![unit(&contended, now)] };
        again.units[0].streams[0].losses = 3;
        committed(unlucky.append(again).await);
        let now = lucky.stream(&head.aggregate_id).await.unwrap().unwrap().head;
        committed(lucky.append(AppendBatch { units: vec![unit(&contended, now)] }).await);
        return;
    }
    panic!("this machine is too busy for any turn");
}

#[tokio::test]
async fn turn_that_is_not_used_runs_out() {
    let database = database!();
    let (unlucky, lucky) = (connect(&database).await, connect(&database).await);
    committed(lucky.append(batch(&["a"])).await);
    let mut lost = batch(&["a"]);
    lost.units[0].streams[0].losses = 2;
    let id = lost.units[0].streams[0].aggregate_id.clone();
    unlucky.append(lost).await.unwrap();
    let now = lucky.stream(&id).await.unwrap().unwrap().head;
    let next = AppendBatch { units: vec![unit("a", now)] };
    let start = Instant::now();
    loop {
        let outcome = lucky.append(next.clone()).await.unwrap().remove(0);
        if matches!(outcome, UnitOutcome::Committed(_)) {
            break;
        }
        assert!(matches!(outcome, UnitOutcome::Wait), "{outcome:?}");
        assert!(start.elapsed() < Duration::from_secs(5), "the turn lasts too long");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut session = database.session().await;
    let turns: i64 = sqlx::query_scalar("SELECT count(*) FROM turns").fetch_one(&mut session).await.unwrap();
    assert_eq!(turns, 0, "a turn that ran out is cleared away");
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_session_that_holds_the_head_is_ended() {
    let database = database!();
    let (first, second) = (connect(&database).await, connect(&database).await);
    let mut console = database.session().await;
    sqlx::query("BEGIN").execute(&mut console).await.unwrap();
    sqlx::query("SELECT * FROM log_head FOR UPDATE").fetch_all(&mut console).await.unwrap();
    let waiting = tokio::spawn(async move { first.append(batch(&["a"])).await });
    committed(second.append(batch(&["b"])).await);
    committed(waiting.await.unwrap());
    assert!(sqlx::query("SELECT 1").execute(&mut console).await.is_err(), "the console's session has ended");
}

#[tokio::test(flavor = "multi_thread")]
async fn busy_session_that_holds_the_head_is_left_alone() {
    let database = database!();
    let options = PostgresOptions {
        head_wait: Duration::from_millis(100),
        append_timeout: Duration::from_secs(1),
        ..PostgresOptions::new(&database.url)
    };
    let store = PostgresStore::connect(options).await.unwrap();
    let mut worker = database.session().await;
    let mut working = worker.begin().await.unwrap();
    sqlx::query("SELECT * FROM log_head FOR UPDATE").fetch_all(&mut *working).await.unwrap();
    let work = sqlx::query("SELECT pg_sleep(3)").execute(&mut *working);
    let batch = batch(&["a"]);
    let (work, timed_out) = tokio::join!(work, store.append(batch.clone()));
    work.unwrap();
    assert!(matches!(timed_out, Err(StoreError::Unavailable { .. })), "{timed_out:?}");
    working.rollback().await.unwrap();
    committed(store.append(batch).await);
}

#[tokio::test]
async fn killed_session_is_unavailable_and_the_same_batch_commits_once() {
    let database = database!();
    let store = connect(&database).await;
    let first = batch(&["a"]);
    committed(store.append(first.clone()).await);
    let kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                WHERE datname = current_database() AND pid <> pg_backend_pid()";
    sqlx::query(kill).fetch_all(&mut database.session().await).await.unwrap();
    let second = batch(&["b"]);
    let cut = store.append(second.clone()).await;
    assert!(matches!(cut, Err(StoreError::Unavailable { .. })), "{cut:?}");
    committed(store.append(second).await);
    let known = store.append(first).await.unwrap();
    assert!(matches!(known[0], UnitOutcome::Known { .. }), "{known:?}");
    let page = store.read_all(Position(0), &EventFilter::default(), at_most(10)).await.unwrap();
    assert_eq!(page.events.len(), 2);
}

#[tokio::test]
async fn read_only_server_is_not_appended_to() {
    let database = database!();
    connect(&database).await;
    let read_only =
        format!("{}?options=-c%20default_transaction_read_only%3Don", database.url.split('?').next().unwrap());
    let error = PostgresStore::connect(PostgresOptions::new(read_only)).await.unwrap_err();
    assert!(error.is_retryable(), "{error}");
}

#[tokio::test]
async fn read_only_log_refuses_appends_and_still_confirms() {
    let database = database!();
    let (store, other) = (connect(&database).await, connect(&database).await);
    store.set_read_only(true).await.unwrap();
    assert!(other.is_read_only().await.unwrap());
    let mut two = batch(&["a", "b"]);
    two.units[1].events.clear();
    let outcomes = other.append(two).await.unwrap();
    assert!(matches!(outcomes[0], UnitOutcome::Failed(StoreError::ReadOnly { .. })), "{outcomes:?}");
    assert!(matches!(outcomes[1], UnitOutcome::Committed(_)), "{outcomes:?}");
    store.set_read_only(false).await.unwrap();
    committed(other.append(batch(&["a"])).await);
    assert_eq!(store.head().await.unwrap(), Position(1));
}

#[tokio::test]
async fn appends_wake_listeners_once_per_batch() {
    let database = database!();
    let store = connect(&database).await;
    let mut listener = sqlx::postgres::PgListener::connect(&database.url).await.unwrap();
    listener.listen("es_events").await.unwrap();
    let mut confirmation = batch(&["z"]);
    confirmation.units[0].events.clear();
    committed(store.append(confirmation).await);
    committed(store.append(batch(&["a", "b", "c"])).await);
    committed(store.append(batch(&["d"])).await);
    assert_eq!(listener.recv().await.unwrap().payload(), "3");
    assert_eq!(listener.recv().await.unwrap().payload(), "4");
}

#[tokio::test]
async fn journal_session_is_set_up_for_durability() {
    let database = database!();
    let store = connect(&database).await;
    let options = "synchronous_commit=off";
    let unsafe_server =
        format!("ALTER DATABASE {} SET {options}", database.url.split('?').next().unwrap().rsplit('/').next().unwrap());
    sqlx::query(sqlx::AssertSqlSafe(unsafe_server)).execute(&mut database.session().await).await.unwrap();
    drop(store);
    let store = connect(&database).await;
    let mut session = database.session().await;
    // Looks into the session from inside: a trigger notes what holds while an append runs.
    let spy = "CREATE TABLE seen (name text, value text); \
         CREATE FUNCTION spy() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
             INSERT INTO seen SELECT name, setting FROM pg_settings; RETURN NULL; END $$; \
         CREATE TRIGGER spy AFTER INSERT ON events FOR EACH STATEMENT EXECUTE FUNCTION spy()";
    sqlx::raw_sql(spy).execute(&mut session).await.unwrap();
    committed(store.append(batch(&["a"])).await);
    committed(store.append(batch(&["b", "c"])).await);
    for (name, expected) in [
        ("synchronous_commit", "on"),
        ("transaction_isolation", "read committed"),
        ("statement_timeout", "10000"),
        ("idle_in_transaction_session_timeout", "2000"),
        ("tcp_keepalives_idle", "10"),
        ("client_connection_check_interval", "10000"),
        ("enable_seqscan", "off"),
        ("enable_hashjoin", "off"),
        ("enable_mergejoin", "off"),
        ("plan_cache_mode", "force_generic_plan"),
    ] {
        let query = sqlx::query_scalar("SELECT value FROM seen WHERE name = $1").bind(name);
        let values: Vec<String> = query.fetch_all(&mut session).await.unwrap();
        assert_eq!(values, [expected, expected], "{name}: of a single command, and of a batch");
    }
}

/// Look-ups of the functions that append: statement, types and values of its parameters, the index it must use.
const LOOK_UPS: [(&str, &str, &str, &str); 8] = [
    (
        "SELECT p.unit FROM unnest($1::int[], $2::uuid[]) p(unit, id) CROSS JOIN LATERAL (SELECT 1 FROM events e \
          WHERE e.partition = 0 AND e.event_id = p.id LIMIT 1) x",
        "(int[], uuid[])",
        "NULL, NULL",
        "events_event_id",
    ),
    (
        "SELECT c.unit FROM unnest($1::int[], $2::text[]) c(unit, stream) LEFT JOIN LATERAL (SELECT e.sequence, e.chain \
          FROM events e WHERE e.partition = 0 AND e.aggregate_id = c.stream ORDER BY e.sequence DESC LIMIT 1) x ON true",
        "(int[], text[])",
        "NULL, NULL",
        "events_sequence",
    ),
    (
        "SELECT k.unit FROM unnest($1::int[], $2::text[], $3::text[]) k(unit, principal, name) CROSS JOIN LATERAL ( \
          SELECT 1 FROM idempotency i WHERE i.partition = 0 AND i.principal = k.principal AND i.key = k.name LIMIT 1) x",
        "(int[], text[], text[])",
        "NULL, NULL, NULL",
        "idempotency_pkey",
    ),
    (
        "SELECT 1 WHERE EXISTS (SELECT FROM events e WHERE e.partition = 0 AND e.event_id BETWEEN $1 AND $2)",
        "(uuid, uuid)",
        "NULL, NULL",
        "events_event_id",
    ),
    (
        "SELECT 1 WHERE EXISTS (SELECT FROM events e WHERE e.partition = 0 AND e.event_id = $1)",
        "(uuid)",
        "NULL",
        "events_event_id",
    ),
    (
        "SELECT e.sequence, e.chain FROM events e WHERE e.partition = 0 AND e.aggregate_id = $1 \
             ORDER BY e.sequence DESC LIMIT 1",
        "(text)",
        "NULL",
        "events_sequence",
    ),
    (
        "SELECT 1 WHERE EXISTS (SELECT FROM idempotency i WHERE i.partition = 0 AND i.principal = $1 AND i.key = $2)",
        "(text, text)",
        "NULL, NULL",
        "idempotency_pkey",
    ),
    (
        "SELECT e.position FROM events e WHERE e.partition = 0 ORDER BY e.position DESC LIMIT 1",
        "",
        "",
        "events_position",
    ),
];

#[tokio::test]
async fn look_ups_of_an_empty_database_go_by_index() {
    let database = database!();
    let store = connect(&database).await;
    let mut session = database.session().await;
    let body: String = sqlx::query_scalar("SELECT prosrc FROM pg_proc WHERE proname = 'append_batch'")
        .fetch_one(&mut session)
        .await
        .unwrap();
    assert_eq!(body.matches("JOIN LATERAL").count(), 4, "the plans below are the look-ups of the function");
    let settings = "SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off; \
                    SET plan_cache_mode = force_generic_plan; SET jit = off";
    sqlx::raw_sql(settings).execute(&mut session).await.unwrap();
    for (number, (query, types, values, index)) in LOOK_UPS.into_iter().enumerate() {
        let prepare = format!("PREPARE look_up_{number} {types} AS {query}");
        sqlx::raw_sql(sqlx::AssertSqlSafe(prepare)).execute(&mut session).await.unwrap();
        let values = if values.is_empty() { String::new() } else { format!("({values})") };
        let explain = format!("EXPLAIN EXECUTE look_up_{number} {values}");
        let rows = sqlx::raw_sql(sqlx::AssertSqlSafe(explain)).fetch_all(&mut session).await.unwrap();
        let plan: Vec<String> = rows.iter().map(|row| sqlx::Row::get(row, 0)).collect();
        let plan = plan.join("\n");
        assert!(plan.contains(index), "{query}\n{plan}");
        assert!(!plan.contains("Seq Scan"), "{query}\n{plan}");
    }
    drop(store);
}

#[tokio::test]
async fn dropped_append_leaves_no_transaction_behind() {
    let database = database!();
    let store = connect(&database).await;
    for round in 0..50 {
        let wait = Duration::from_micros(round * 40);
        let _ = tokio::time::timeout(wait, store.append(batch(&[&format!("dropped-{round}")]))).await;
    }
    committed(store.append(batch(&["last"])).await);
    let open = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in%'";
    let open: i64 = sqlx::query_scalar(open).fetch_one(&mut database.session().await).await.unwrap();
    assert_eq!(open, 0);
}

#[tokio::test]
async fn closed_store_is_unavailable() {
    let database = database!();
    let store = connect(&database).await;
    store.close().await;
    assert!(matches!(store.append(batch(&["a"])).await, Err(StoreError::Unavailable { .. })));
    assert!(matches!(store.head().await, Err(StoreError::Unavailable { .. })));
}

/// What Citus and poolers refuse, and what would break the order of positions, must not creep in.
#[test]
fn sql_is_portable() {
    let migrations = [
        include_str!("../../migrations/postgres/0001_events.sql"),
        include_str!("../../migrations/postgres/0002_snapshots.sql"),
        include_str!("../../migrations/postgres/0003_views.sql"),
        include_str!("../../migrations/postgres/0004_read_models.sql"),
    ];
    let statements = [
        include_str!("../../src/store/postgres.rs"),
        include_str!("../../src/store/postgres/events.rs"),
        include_str!("../../src/store/postgres/journal.rs"),
        include_str!("../../src/store/postgres/snapshots.rs"),
        include_str!("../../src/store/postgres/commits.rs"),
        include_str!("../../src/store/postgres/operations.rs"),
        include_str!("../../src/store/postgres/parked.rs"),
        include_str!("../../src/store/postgres/projections.rs"),
        include_str!("../../src/store/postgres/upkeep.rs"),
        include_str!("../../src/store/postgres/views.rs"),
    ];
    for text in migrations.iter().chain(&statements) {
        let text = text.to_lowercase();
        for forbidden in ["xmin", "serial", "nextval", "pg_advisory_lock(", "jsonb", "pg_snapshot", "references "] {
            let used = text.lines().find(|line| line.contains(forbidden) && !line.trim_start().starts_with("--"));
            assert_eq!(used, None, "{forbidden}");
        }
    }
    let keys = |line: &&str| {
        let line = line.to_uppercase();
        line.contains("PRIMARY KEY (") || line.contains("UNIQUE (") || line.contains("CREATE INDEX")
    };
    let keys: Vec<_> = migrations.iter().flat_map(|text| text.lines()).filter(keys).collect();
    assert!(keys.len() >= 8, "{keys:?}");
    for key in keys {
        assert!(key.contains("(partition,"), "begins with something else than partition: {key}");
    }
}

#[test]
fn both_databases_have_the_same_migrations() {
    let names = |folder: &str| {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations").join(folder);
        let mut names: Vec<_> =
            std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    assert_eq!(names("postgres"), names("sqlite"));
}
