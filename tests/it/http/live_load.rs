//! Live events on bad days: connections that drop, readers that do not read, replicas that are not heard.
//!
//! `LOAD_DROPS` (100) is how often a reader loses its connection.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use event_sourcing_cqrs::http::HttpOptions;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
};

use crate::support::{
    eventually,
    http::{Live, TestServer},
};

fn drops() -> usize {
    std::env::var("LOAD_DROPS").ok().and_then(|text| text.parse().ok()).unwrap_or(100)
}

/// Writes to four accounts until it is told to stop; returns how many events there are then.
async fn write_until(server: Arc<TestServer>, stop: Arc<AtomicBool>) -> u64 {
    let mut writers = JoinSet::new();
    for number in 0..4 {
        let (server, stop) = (server.clone(), stop.clone());
        writers.spawn(async move {
            let id = format!("account-{number}");
            server.account(&id, 0).await;
            let mut written = 1;
            while !stop.load(Ordering::Relaxed) {
                let reply = server.command("DepositMoney", &id, json!({ "amount": 1 })).await;
                assert_eq!(reply.status, 200, "{}", reply.text());
                written += 1;
            }
            written
        });
    }
    writers.join_all().await.into_iter().sum()
}

#[derive(Debug, Clone, Copy)]
enum Format {
    Events,
    Lines,
}

/// The next whole event's position: a reader takes nothing else for one.
async fn next_position(live: &mut Live, format: Format) -> u64 {
    loop {
        let line = live.line().await.expect("one more event");
        let data = match format {
            Format::Lines => Some(line.as_str()),
            Format::Events => line.strip_prefix("data: "),
        };
        if let Some(data) = data {
            let event: Value = serde_json::from_str(data).unwrap();
            if matches!(format, Format::Events) {
                assert_eq!(live.line().await.as_deref(), Some(""), "an event ends with an empty line");
            }
            return event["position"].as_u64().unwrap();
        }
    }
}

async fn open(server: &TestServer, format: Format, after: u64) -> Live {
    let position = after.to_string();
    Live::new(match format {
        Format::Events => {
            let headers = [("accept", "text/event-stream"), ("last-event-id", position.as_str())];
            server.open("GET", "/api/v1/events", &headers, b"").await
        }
        Format::Lines => {
            let path = format!("/api/v1/events?after={after}");
            server.open("GET", &path, &[("accept", "application/x-ndjson")], b"").await
        }
    })
}

/// Loses its connection again and again, at once, in the middle of events or after some; then reads up to the end.
async fn read_with_drops(format: Format) {
    let server = Arc::new(TestServer::start().await);
    let stop = Arc::new(AtomicBool::new(false));
    let writing = tokio::spawn(write_until(server.clone(), stop.clone()));
    let mut last = 0;
    for drop_number in 0..drops() {
        let mut live = open(&server, format, last).await;
        for _ in 0..drop_number % 6 {
            assert_eq!(next_position(&mut live, format).await, last + 1, "after {drop_number} drops");
            last += 1;
        }
    }
    stop.store(true, Ordering::Relaxed);
    let end = writing.await.unwrap();
    let mut live = open(&server, format, last).await;
    while last < end {
        assert_eq!(next_position(&mut live, format).await, last + 1);
        last += 1;
    }
    assert!(end > drops() as u64, "there was load: {end} events");
}

#[tokio::test(flavor = "multi_thread")]
async fn server_sent_events_go_on_after_every_drop_without_gap_or_duplicate() {
    read_with_drops(Format::Events).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_go_on_after_every_drop_without_gap_or_duplicate() {
    read_with_drops(Format::Lines).await;
}

/// More than the kernel holds for a connection nobody reads.
const LARGE_EVENTS: usize = 250;

fn large_event(number: usize) -> String {
    let data = json!({ "number": number, "filler": "x".repeat(64 << 10) });
    json!({ "aggregate_id": "large", "aggregate_type": "t", "event_type": "Filled", "data": data }).to_string()
}

/// Asks for all events as they come, and does not read them.
async fn silent_reader(port: u16) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let request = b"GET /api/v1/events HTTP/1.1\r\nhost: t\r\naccept: text/event-stream\r\n\r\n";
    stream.write_all(request).await.unwrap();
    stream
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_read_is_cut_and_others_go_on() {
    let write_stall = Duration::from_millis(500);
    let server = TestServer::start_with(HttpOptions { write_stall, ..HttpOptions::default() }, |context| context).await;
    for number in 0..LARGE_EVENTS {
        assert_eq!(server.post("/api/v1/events", &large_event(number)).await.status, 201);
    }
    let mut silent = Vec::new();
    for _ in 0..4 {
        silent.push(silent_reader(server.address.port()).await);
    }
    let mut live = open(&server, Format::Events, 0).await;
    for position in 1..=LARGE_EVENTS as u64 {
        assert_eq!(next_position(&mut live, Format::Events).await, position);
    }
    let server = &server;
    eventually("only the connection that is read stays open", || async move {
        let families = server.runtime.metrics().registry().gather();
        let open = families.iter().find(|family| family.name() == "es_http_connections").unwrap();
        open.get_metric()[0].get_gauge().get_value() < 2.0
    })
    .await;
    for mut stream in silent {
        let mut all = Vec::new();
        // What the kernel had; then the end, orderly or not.
        let _ = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut all)).await.unwrap();
        assert!(all.len() < LARGE_EVENTS * (64 << 10), "{} bytes reached one who did not read", all.len());
    }
    server.account("a", 0).await;
    assert_eq!(next_position(&mut live, Format::Events).await, LARGE_EVENTS as u64 + 1);
}

#[cfg(all(target_os = "linux", feature = "sqlite"))]
mod memory {
    use std::time::Duration;

    use super::{LARGE_EVENTS, large_event, silent_reader};
    use crate::support::server::Server;

    fn resident_kib(pid: u32) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_is_not_read_is_not_held_in_memory() {
        // So many that what else the process does meanwhile (read models, evidence) is small beside what they leave unread.
        const READERS: usize = 32;
        let folder = tempfile::tempdir().unwrap();
        let server = Server::start(folder.path(), &[]);
        for number in 0..LARGE_EVENTS {
            assert_eq!(server.request("POST", "/api/v1/events", &large_event(number)).0, 201);
        }
        let before = resident_kib(server.pid);
        let mut silent = Vec::new();
        for _ in 0..READERS {
            silent.push(silent_reader(server.port).await);
        }
        let mut most = 0;
        for _ in 0..30 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            most = most.max(resident_kib(server.pid).saturating_sub(before));
        }
        let unread = (READERS * LARGE_EVENTS * 64) as u64;
        eprintln!("{most} KiB for {READERS} readers who leave {unread} KiB unread");
        assert!(most < unread / 4, "{most} KiB for {READERS} readers who leave {unread} KiB unread");
    }
}

#[cfg(feature = "postgres")]
mod replicas {
    use std::{sync::Arc, time::Duration};

    use event_sourcing_actors::{Limits, RuntimeBuilder, catalog::Catalog, ports::Wakeups};
    use event_sourcing_cqrs::{
        app::App,
        domain::{
            self,
            account::{Account, CreateAccount, DepositMoney},
        },
        http::HttpOptions,
        store::{PostgresOptions, PostgresStore},
    };
    use tokio::time::Instant;

    use super::{Format, next_position, open};
    use crate::support::{
        eventually,
        http::TestServer,
        postgres::{self, Database},
        settings_for,
    };

    const NEVER: Duration = Duration::from_secs(3_600);

    /// The replica that writes: the whole app, as the program starts it.
    async fn writer(database: &Database) -> App {
        let mut settings = settings_for(&database.url);
        settings.event_store.database_url = database.url.parse().unwrap();
        let app = App::builder().settings(settings).seal(false).start().await.unwrap();
        app.execute::<Account>("a", CreateAccount { account_id: None, owner: "o".into(), initial_balance: 0 })
            .await
            .unwrap();
        app
    }

    async fn deposit(app: &App) -> u64 {
        app.execute::<Account>("a", DepositMoney { account_id: None, amount: 1, transfer_id: None })
            .await
            .unwrap()
            .position
            .0
    }

    /// The replica that is read, with its own look at the store every so often.
    async fn reader(database: &Database, feed_poll: Duration, hears: bool) -> TestServer {
        let store = PostgresStore::connect(PostgresOptions::new(&database.url)).await.unwrap();
        let mut catalog = Catalog::default();
        domain::register(&mut catalog).unwrap();
        let listener: Arc<dyn Wakeups> = Arc::new(store.listener());
        let store = Arc::new(store);
        let mut builder = RuntimeBuilder::new(store.clone(), store).catalog(catalog).throwaway_keys();
        if hears {
            builder = builder.wakeups(listener);
        }
        let limits = Limits { feed_poll, ..Limits::default() };
        TestServer::over(builder.limits(limits), HttpOptions::default(), |context| context).await
    }

    const LISTENERS: &str = "SELECT count(*) FROM pg_stat_activity \
         WHERE datname = current_database() AND application_name = 'event-sourcing-cqrs listener'";
    const END_LISTENERS: &str = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
         WHERE datname = current_database() AND application_name = 'event-sourcing-cqrs listener'";

    async fn ask(database: &Database, query: &'static str) -> i64 {
        sqlx::query_scalar(query).fetch_one(&mut database.session().await).await.unwrap()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn events_of_another_replica_are_heard_and_not_waited_for() {
        let Some(database) = postgres::database().await else { return };
        let app = writer(&database).await;
        let server = reader(&database, Duration::from_secs(5), true).await;
        let mut log = open(&server, Format::Events, 0).await;
        assert_eq!(next_position(&mut log, Format::Events).await, 1);
        eventually("both replicas listen", || async { ask(&database, LISTENERS).await == 2 }).await;
        let mut slowest = Duration::ZERO;
        for _ in 0..20 {
            let started = Instant::now();
            let position = deposit(&app).await;
            assert_eq!(next_position(&mut log, Format::Events).await, position);
            slowest = slowest.max(started.elapsed());
        }
        eprintln!("from the command here to the event there: {slowest:?} at most");
        assert!(slowest < Duration::from_secs(2), "{slowest:?}, so it was the look and not the wake-up");
        app.shutdown().await;
        server.runtime.shutdown().await;
        eventually("nobody listens any more", || async { ask(&database, LISTENERS).await == 0 }).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_listener_that_is_ended_comes_back_and_misses_nothing() {
        let Some(database) = postgres::database().await else { return };
        let app = writer(&database).await;
        // Looks never: whatever arrives, arrives by the listener or because it came back.
        let server = reader(&database, NEVER, true).await;
        let mut log = open(&server, Format::Lines, 0).await;
        assert_eq!(next_position(&mut log, Format::Lines).await, 1);
        eventually("both replicas listen", || async { ask(&database, LISTENERS).await == 2 }).await;
        for _ in 0..3 {
            assert_eq!(ask(&database, END_LISTENERS).await, 2);
            let position = deposit(&app).await;
            assert_eq!(next_position(&mut log, Format::Lines).await, position, "found when the listener is back");
            let position = deposit(&app).await;
            assert_eq!(next_position(&mut log, Format::Lines).await, position, "heard");
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_replica_that_hears_nothing_finds_events_by_looking() {
        let Some(database) = postgres::database().await else { return };
        let app = writer(&database).await;
        let server = reader(&database, Duration::from_millis(100), false).await;
        let mut log = open(&server, Format::Events, 0).await;
        let mut own = open_stream(&server).await;
        assert_eq!(next_position(&mut log, Format::Events).await, 1);
        assert_eq!(next_position(&mut own, Format::Events).await, 1);
        for _ in 0..5 {
            let position = deposit(&app).await;
            assert_eq!(next_position(&mut log, Format::Events).await, position);
            assert_eq!(next_position(&mut own, Format::Events).await, position);
        }
    }

    async fn open_stream(server: &TestServer) -> crate::support::http::Live {
        let accept = [("accept", "text/event-stream")];
        crate::support::http::Live::new(server.open("GET", "/api/v1/events/a", &accept, b"").await)
    }
}
