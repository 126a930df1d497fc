//! Followers read while eight writers in two processes write: nobody skips an event. The control does.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use event_sourcing_actors::{Position, envelope::EventFilter, ports::EventStore};
use event_sourcing_cqrs::store::{PostgresOptions, PostgresStore};
use serde_json::json;
use sqlx::Row;

use crate::support::{
    batches::at_most,
    load::{Client, sound_log},
    postgres,
    server::Server,
};

const WRITERS: usize = 8;
const REQUESTS: usize = 250;
const EVENTS_PER_REQUEST: usize = 50;
const EVENTS: usize = WRITERS * REQUESTS * EVENTS_PER_REQUEST;

/// Appends to streams that the writers share, so that they also meet.
async fn write(writer: usize, port: u16) {
    let mut client = Client::new(port);
    for turn in 0..REQUESTS {
        let events: Vec<_> = (0..EVENTS_PER_REQUEST)
            .map(
                |n| json!({ "event_type": "Ticked", "data": { "writer": writer, "n": turn * EVENTS_PER_REQUEST + n } }),
            )
            .collect();
        let stream = format!("ticks-{}", (writer + turn) % 5);
        let body = json!({ "aggregate_id": stream, "aggregate_type": "ticks", "events": events });
        let answer = client.post("/api/v1/events", None, &body).await.unwrap();
        assert_eq!(answer.status, 201, "{answer:?}");
    }
}

/// Follows the log with a checkpoint, and counts what it sees.
async fn follow(store: PostgresStore) -> HashMap<(u64, u64), u32> {
    let (mut checkpoint, mut seen, mut count) = (Position::ZERO, HashMap::new(), 0);
    while count < EVENTS {
        let page = store.read_all(checkpoint, &EventFilter::default(), at_most(777)).await.unwrap();
        for event in &page.events {
            assert_eq!(event.position.0, checkpoint.0 + 1, "a follower skipped");
            checkpoint = event.position;
            let data: serde_json::Value = serde_json::from_slice(&event.data).unwrap();
            *seen.entry((data["writer"].as_u64().unwrap(), data["n"].as_u64().unwrap())).or_default() += 1;
            count += 1;
        }
    }
    seen
}

#[tokio::test(flavor = "multi_thread")]
async fn followers_skip_nothing_while_eight_writers_write_in_two_processes() {
    let Some(database) = postgres::database().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let environment = [("DATABASE_URL", database.url.as_str())];
    let servers = [Server::start(folder.path(), &environment), Server::start(folder.path(), &environment)];
    let mut followers = Vec::new();
    for _ in 0..3 {
        let store = PostgresStore::connect(PostgresOptions::new(&database.url)).await.unwrap();
        followers.push(tokio::spawn(follow(store)));
    }
    let writers: Vec<_> = (0..WRITERS).map(|writer| tokio::spawn(write(writer, servers[writer % 2].port))).collect();
    for writer in writers {
        writer.await.unwrap();
    }
    for follower in followers {
        let seen = follower.await.unwrap();
        assert_eq!(seen.len(), EVENTS);
        assert!(seen.values().all(|times| *times == 1));
    }
    let store = PostgresStore::connect(PostgresOptions::new(&database.url)).await.unwrap();
    assert_eq!(sound_log(&store).await.len(), EVENTS);
    println!("{EVENTS} events by {WRITERS} writers in 2 processes, 3 followers: 0 skipped");
}

/// The control: the same follower on an identity column skips.
#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_on_an_identity_column_skips() {
    let Some(database) = postgres::database().await else { return };
    let mut session = database.session().await;
    sqlx::raw_sql("CREATE TABLE naive (id BIGSERIAL PRIMARY KEY, writer int)").execute(&mut session).await.unwrap();
    let mut writers = Vec::new();
    for writer in 0..8_i32 {
        let mut session = database.session().await;
        writers.push(tokio::spawn(async move {
            for _ in 0..200 {
                for statement in ["BEGIN", "INSERT INTO naive (writer) VALUES (1)", "SELECT pg_sleep(0.001)", "COMMIT"]
                {
                    sqlx::query(statement).execute(&mut session).await.unwrap();
                }
            }
            writer
        }));
    }
    let done = Arc::new(AtomicBool::new(false));
    let is_done = done.clone();
    let follower = tokio::spawn(async move {
        let (mut checkpoint, mut seen) = (0_i64, 0);
        loop {
            let was_done = is_done.load(Ordering::Acquire);
            let rows = sqlx::query("SELECT id FROM naive WHERE id > $1 ORDER BY id LIMIT 777")
                .bind(checkpoint)
                .fetch_all(&mut session)
                .await
                .unwrap();
            if rows.is_empty() && was_done {
                return seen;
            }
            seen += rows.len();
            checkpoint = rows.last().map_or(checkpoint, |row| row.get(0));
        }
    });
    for writer in writers {
        writer.await.unwrap();
    }
    done.store(true, Ordering::Release);
    let seen = follower.await.unwrap();
    assert!(seen < 1_600, "the control must be able to fail: {seen} of 1600 seen");
    println!("control: a cursor on an identity column skipped {} of 1600", 1_600 - seen);
}
