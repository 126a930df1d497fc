//! A hundred people on each database, with Redis, snapshots, rebuilt and declared read models, and a real server's log.

use std::sync::Arc;

use event_sourcing_actors::{
    EventFilter, EventType,
    ports::{OperationStatus, StoredKeyState},
    projection::{ApplyError, ProjectedEvent, Projection, Rows},
};
use event_sourcing_cqrs::{
    app::App,
    settings::{SecretUrl, Settings},
};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, Row};

use super::canaries::{Person, ended_of, erase, found, found_below, live, people, sound_log, state, user};
use crate::support::{postgres, redis::Redis, server::Server, settings_for};

/// An embedder's read model that has never heard of erasures.
#[derive(Debug)]
struct Addresses;

impl Projection for Addresses {
    fn name(&self) -> &str {
        "addresses"
    }
    fn version(&self) -> u64 {
        1
    }
    fn interest(&self) -> EventFilter {
        EventFilter { event_types: vec![EventType::new("UserRegistered").unwrap()], ..EventFilter::default() }
    }
    fn apply(&self, event: &ProjectedEvent<'_>, rows: &mut Rows<'_>) -> Result<(), ApplyError> {
        rows.put("addresses", "", event.aggregate_id.as_str(), &event.read::<Value>()?)
    }
}

async fn app(url: &str, redis: Option<&Redis>) -> Arc<App> {
    let mut settings: Settings = settings_for(url);
    settings.erasure.key_life_ms = 500;
    settings.event_store.snapshot_frequency = 2;
    settings.cache.redis_url = redis.map(|redis| SecretUrl::new(redis.url()));
    let builder = App::builder().settings(settings).database_url(url).unwrap();
    Arc::new(builder.projection(Addresses).start().await.unwrap())
}

/// Everything in a Redis.
async fn redis_bytes(redis: &Redis) -> Vec<u8> {
    let client = redis::Client::open(redis.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let keys: Vec<Vec<u8>> = redis::cmd("KEYS").arg("*").query_async(&mut connection).await.unwrap();
    let mut bytes = Vec::new();
    for key in keys {
        let value: Option<Vec<u8>> = redis::cmd("GET").arg(&key).query_async(&mut connection).await.unwrap();
        bytes.extend(key);
        bytes.push(b'\n');
        bytes.extend(value.unwrap_or_default());
        bytes.push(b'\n');
    }
    bytes
}

/// Every row of every table as text, as a dump has it.
async fn dump(database: &postgres::Database) -> Vec<u8> {
    let mut session = sqlx::PgConnection::connect(&database.url).await.unwrap();
    let tables: Vec<String> = sqlx::query_scalar("SELECT tablename::text FROM pg_tables WHERE schemaname = 'public'")
        .fetch_all(&mut session)
        .await
        .unwrap();
    let mut bytes = Vec::new();
    for table in tables {
        let rows = sqlx::query(AssertSqlSafe(format!("SELECT t::text FROM {table} t")));
        for row in rows.fetch_all(&mut session).await.unwrap() {
            bytes.extend(format!("{table} {}\n", row.get::<String, _>(0)).into_bytes());
        }
    }
    bytes
}

/// Every file of a database, once all is written to them; nothing where they are another machine's.
async fn files(database: &postgres::Database) -> Vec<u8> {
    let mut session = database.session().await;
    sqlx::raw_sql("CHECKPOINT").execute(&mut session).await.unwrap();
    let folder = "SELECT current_setting('data_directory') || '/base/' || oid FROM pg_database \
                  WHERE datname = current_database()";
    let folder: String = sqlx::query_scalar(folder).fetch_one(&mut session).await.unwrap();
    let Ok(entries) = std::fs::read_dir(folder) else {
        eprintln!("SKIPPED: the files of this PostgreSQL are not here");
        return Vec::new();
    };
    entries.flat_map(|entry| std::fs::read(entry.unwrap().path()).unwrap_or_default()).collect()
}

/// The wrapped keys of these people, as they lie in the database.
async fn wrapped_keys(app: &App, people: &[Person]) -> Vec<Vec<u8>> {
    let ids: Vec<_> = people.iter().map(Person::id).collect();
    let keys = app.storage().subject_keys().find(&ids).await.unwrap();
    let wrapped = keys.into_iter().filter_map(|key| match key?.state {
        StoredKeyState::Wrapped(key) => Some(key.wrapped),
        StoredKeyState::Destroyed(_) => None,
    });
    wrapped.collect()
}

/// How many of these keys lie somewhere in some bytes.
fn keys_in(keys: &[Vec<u8>], bytes: &[u8]) -> usize {
    let parts: std::collections::HashSet<&[u8]> = keys.iter().map(|key| &key[..16]).collect();
    bytes.windows(16).filter(|window| parts.contains(window)).collect::<std::collections::HashSet<_>>().len()
}

/// Before: everything is readable where it should be. Returns once rows and cached answers are there.
async fn everything_is_there(app: &App, all: &[Person]) {
    for person in all {
        let row = user(app, person).await;
        assert_eq!((&row["email"], &row["name"]), (&json!(person.email), &json!(person.name)));
        assert_eq!(state(app, person).await["email"], json!(person.email));
    }
    for event in sound_log(&*app.storage().events()).await {
        assert!(found(all, &event.data).is_empty(), "the log holds ciphertext only: {event:?}");
    }
}

/// After: the erased read as tombstones, the others as ever, and a rebuild makes the very rows that are served.
async fn all_is_well(app: &App, erased: &[Person], others: &[Person]) {
    let log = sound_log(&*app.storage().events()).await;
    assert_eq!(log.iter().filter(|event| event.event_type.as_str() == "SubjectErased").count(), erased.len());
    for person in erased {
        let row = user(app, person).await;
        assert_eq!((&row["email"], &row["name"]), (&json!("[erased]"), &json!("[erased]")));
        let state = state(app, person).await;
        assert_eq!((&state["email"], &state["sessions"]), (&json!("[erased]"), &json!(["s0", "s1", "s2"])));
    }
    // The control: with the key still there, what is stored opens.
    for person in others {
        assert_eq!(user(app, person).await["email"], json!(person.email));
        assert_eq!(state(app, person).await["name"], json!(person.name));
    }
    // It is compared with the served rows, and would fail if they differed.
    let rebuild = app.runtime().projections().rebuild("user_activity", false).await.unwrap();
    let rebuilt = ended_of(app, rebuild.id).await;
    assert_eq!(rebuilt.status, OperationStatus::Succeeded, "{rebuilt:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn hundred_people_are_found_nowhere_on_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("store.db").display());
    let redis = Redis::start().await;
    let app = app(&url, redis.as_ref()).await;
    let (erased, others, control) = (people("erased", 100), people("other", 10), people("control", 1));
    for group in [&erased, &others, &control] {
        live(&app, group).await;
        everything_is_there(&app, group).await;
    }
    assert_eq!(found_below(&erased, folder.path()).iter().map(|(_, found)| found.len()).max(), Some(100));

    let ended = erase(&app, &erased).await;
    for operation in &ended {
        assert_eq!(operation.status, OperationStatus::Succeeded, "{operation:?}");
        assert!(found(&erased, operation.result.as_deref().unwrap()).is_empty());
    }
    assert_eq!(found_below(&erased, folder.path()), [], "file, write-ahead log and everything beside");
    all_is_well(&app, &erased, &others).await;
    if let Some(redis) = &redis {
        assert!(found(&erased, &redis_bytes(redis).await).is_empty(), "Redis");
        assert_eq!(found(&others, &redis_bytes(redis).await).len(), others.len(), "the control is cached again");
    }
    let backup = folder.path().join("backup");
    std::fs::create_dir(&backup).unwrap();
    let mut session = sqlx::SqliteConnection::connect(&url).await.unwrap();
    let into = format!("VACUUM INTO '{}'", backup.join("copy.db").display());
    sqlx::raw_sql(AssertSqlSafe(into)).execute(&mut session).await.unwrap();
    assert_eq!(found_below(&erased, folder.path()), [], "a backup made since, and the rebuilt rows");

    // The control: a key that is destroyed without the sweeps leaves rows and snapshots behind.
    app.storage().subject_keys().destroy(&control[0].id()).await.unwrap();
    assert!(!found_below(&control, folder.path()).is_empty(), "without the sweeps it would be found");
    app.shutdown().await;
    assert_eq!(found_below(&erased, folder.path()), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn hundred_people_are_found_nowhere_on_postgres() {
    let Some(database) = postgres::database().await else { return };
    let redis = Redis::start().await;
    let app = app(&database.url, redis.as_ref()).await;
    let (erased, others, control) = (people("erased", 100), people("other", 10), people("control", 1));
    for group in [&erased, &others, &control] {
        live(&app, group).await;
        everything_is_there(&app, group).await;
    }
    assert_eq!(found(&erased, &dump(&database).await).len(), 100);
    // Samples that the planner takes outlive the rows they were taken from.
    let mut session = database.session().await;
    sqlx::raw_sql("ANALYZE").execute(&mut session).await.unwrap();
    let sampled = "SELECT tablename || '.' || attname FROM pg_stats WHERE schemaname = 'public'";
    let sampled: Vec<String> = sqlx::query_scalar(sampled).fetch_all(&mut session).await.unwrap();
    let is_sampled = |column: &str| sampled.iter().any(|sampled| sampled == column);
    assert!(is_sampled("subject_keys.subject") && is_sampled("view_rows.sort") && is_sampled("snapshots.sequence"));
    assert!(!is_sampled("subject_keys.wrapped") && !is_sampled("view_rows.data") && !is_sampled("snapshots.state"));
    let (before, keys) = (files(&database).await, wrapped_keys(&app, &erased).await);
    if !before.is_empty() {
        assert_eq!((found(&erased, &before).len(), keys_in(&keys, &before)), (100, 100));
    }
    for operation in erase(&app, &erased).await {
        assert_eq!(operation.status, OperationStatus::Succeeded, "{operation:?}");
    }
    assert!(found(&erased, &dump(&database).await).is_empty(), "every row of every table");
    let after = files(&database).await;
    assert!(found(&erased, &after).is_empty(), "every file of the database, free space and samples included");
    assert_eq!(keys_in(&keys, &after), 0, "and of the keys");
    all_is_well(&app, &erased, &others).await;
    if let Some(redis) = &redis {
        assert!(found(&erased, &redis_bytes(redis).await).is_empty(), "Redis");
    }
    assert!(found(&erased, &dump(&database).await).is_empty(), "and after a rebuild");
    app.storage().subject_keys().destroy(&control[0].id()).await.unwrap();
    assert!(!found(&control, &dump(&database).await).is_empty(), "without the sweeps it would be found");
    app.shutdown().await;
}

#[test]
fn server_that_logs_everything_logs_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let environment = [("LOG_LEVEL", "trace"), ("SNAPSHOT_FREQUENCY", "2"), ("ES__ERASURE__KEY_LIFE_MS", "300")];
    let mut server = Server::start(folder.path(), &environment);
    let post = |server: &Server, path: &str, body: Value| server.request("POST", path, &body.to_string());
    let everyone = people("p", 20);
    for (number, person) in everyone.iter().enumerate() {
        let data = json!({ "email": person.email, "name": person.name });
        // Every second one by a raw event, in the clear.
        let (status, answer) = if number % 2 == 0 {
            let body = json!({ "command_type": "RegisterUser", "aggregate_id": person.id, "data": data });
            post(&server, "/api/v1/commands", body)
        } else {
            let data = json!({ "user_id": person.id, "email": person.email, "name": person.name });
            post(
                &server,
                "/api/v1/events",
                json!({ "aggregate_id": person.id, "event_type": "UserRegistered", "data": data }),
            )
        };
        assert!(status < 300, "{answer}");
        let body = json!({ "command_type": "LogInUser", "aggregate_id": person.id, "data": { "session_id": "s" } });
        assert_eq!(post(&server, "/api/v1/commands", body).0, 200);
        let body = json!({ "query_type": "GetUser", "filters": { "user_id": person.id } });
        let give_up = std::time::Instant::now() + std::time::Duration::from_secs(60);
        while !post(&server, "/api/v1/queries", body.clone()).1.contains(&person.email) {
            assert!(std::time::Instant::now() < give_up, "its row does not come");
        }
        let (_, events) = server.get(&format!("/api/v1/events/{}", person.id));
        let (_, stored) = server.get(&format!("/api/v1/events/{}?raw=true", person.id));
        assert!(
            events.contains(&person.email) && !person.is_in(stored.as_bytes()) && stored.contains("$enc"),
            "{stored}"
        );
        // Input that is refused must not be repeated to the log either.
        let body = json!({ "command_type": "RegisterUser", "aggregate_id": person.id, "data": data });
        assert_eq!(post(&server, "/api/v1/commands", body).0, 422, "registered twice");
    }
    let mut operations = Vec::new();
    for person in &everyone {
        let (status, answer) = post(&server, &format!("/api/v1/subjects/{}/erase", person.id), json!({}));
        assert_eq!(status, 202, "{answer}");
        operations.push(serde_json::from_str::<Value>(&answer).unwrap()["operation_id"].as_str().unwrap().to_owned());
    }
    for operation in &operations {
        let path = format!("/api/v1/operations/{operation}");
        let give_up = std::time::Instant::now() + std::time::Duration::from_secs(120);
        let ended = loop {
            let ended: Value = serde_json::from_str(&server.get(&path).1).unwrap();
            if ended["status"] != "running" {
                break ended;
            }
            assert!(std::time::Instant::now() < give_up, "{ended}");
        };
        assert_eq!(ended["status"], "succeeded", "{ended}");
    }
    let person = &everyone[0];
    let (_, events) = server.get(&format!("/api/v1/events/{}", person.id));
    assert!(events.contains("[erased]") && events.contains("SubjectErased") && !person.is_in(events.as_bytes()));
    let body = json!({ "aggregate_id": "new", "event_type": "SubjectErased", "aggregate_type": "notes", "data": {} });
    assert_eq!(post(&server, "/api/v1/events", body).0, 422, "written by the runtime only");
    let (status, answer) = post(&server, "/api/v1/subjects/nobody/erase", json!({}));
    assert_eq!((status, answer.contains("unknown-subject")), (404, true));
    assert_eq!(found_below(&everyone, folder.path()), [], "the database's files");
    server.process().signal("TERM");
    server.process().wait();
    let log = server.process().said().join("\n");
    assert!(log.contains("RegisterUser") && log.contains("p-019"), "it logs what is done: {log}");
    assert!(found(&everyone, log.as_bytes()).is_empty(), "the log");
    assert_eq!(found_below(&everyone, folder.path()), [], "after a clean end");
}
