//! What idle readers of live events cost a real server: resident memory each, and queries of the database.
//!
//! `BENCH_READERS` (1,000) is how many; each is one connection with `Accept: text/event-stream` at the log's head.

#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark may panic")]

#[path = "../tests/it/support/postgres.rs"]
#[allow(dead_code, reason = "shared with the tests")]
mod postgres;
#[cfg(unix)]
#[path = "../tests/it/support/server.rs"]
#[allow(dead_code, reason = "shared with the tests")]
mod server;

#[cfg(target_os = "linux")]
mod measure {
    use std::{path::Path, time::Duration};

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpStream,
        time::sleep,
    };

    use super::{postgres::Database, server::Server};

    const IDLE: Duration = Duration::from_secs(5);
    const REQUEST: &[u8] = b"GET /api/v1/events HTTP/1.1\r\nhost: localhost\r\naccept: text/event-stream\r\n\r\n";

    fn resident_kib(server: &Server) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid)).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// Connects and reads the whole log, so that all the memory a reader ever needed has been used once.
    async fn reader(port: u16, last: &str) -> TcpStream {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        stream.write_all(REQUEST).await.unwrap();
        let (mut all, mut part) = (Vec::new(), vec![0; 16 << 10]);
        while !String::from_utf8_lossy(&all[all.len().saturating_sub(2_000)..]).contains(last) {
            let count = stream.read(&mut part).await.unwrap();
            assert!(count > 0, "the server closed");
            all.extend_from_slice(&part[..count]);
        }
        stream
    }

    async fn transactions(database: Option<&Database>) -> Option<i64> {
        let mut session = database?.session().await;
        let query = "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()";
        Some(sqlx::query_scalar(query).fetch_one(&mut session).await.unwrap())
    }

    /// Transactions per second while nothing happens; the statistics come with a delay of their own.
    async fn idle_rate(database: Option<&Database>) -> Option<f64> {
        sleep(Duration::from_secs(2)).await;
        let before = transactions(database).await?;
        sleep(IDLE).await;
        let after = transactions(database).await?;
        Some(f64::from(i32::try_from(after - before).unwrap()) / IDLE.as_secs_f64())
    }

    pub async fn backend(name: &str, folder: &Path, database: Option<&Database>, readers: usize) {
        let url = database.map_or_else(|| "sqlite://log.db".to_owned(), |database| database.url.clone());
        let server = Server::start(folder, &[("DATABASE_URL", &url)]);
        for number in 0..100 {
            let body = format!(
                r#"{{"aggregate_id":"a","aggregate_type":"t","event_type":"Ticked","data":{{"number":{number}}}}}"#
            );
            assert_eq!(server.request("POST", "/api/v1/events", &body).0, 201);
        }
        let last = r#""number":99}"#;
        // What the first ones cost is the server's, not theirs.
        for _ in 0..20 {
            drop(reader(server.port, last).await);
        }
        let rate = idle_rate(database).await;
        let before = resident_kib(&server);
        let mut open = Vec::new();
        for _ in 0..readers {
            open.push(reader(server.port, last).await);
        }
        let rate_with = idle_rate(database).await;
        let growth = resident_kib(&server).saturating_sub(before);
        let each = growth as f64 / readers as f64;
        print!("{name}: {readers} idle readers, {growth} KiB more resident memory, {each:.1} KiB each");
        if let (Some(without), Some(with)) = (rate, rate_with) {
            print!("; transactions/s {without:.1} without and {with:.1} with them");
        }
        println!();
        drop(open);
    }
}

#[cfg(target_os = "linux")]
#[tokio::main]
async fn main() {
    let readers = std::env::var("BENCH_READERS").ok().and_then(|text| text.parse().ok()).unwrap_or(1_000);
    let folder = tempfile::tempdir().unwrap();
    measure::backend("sqlite", folder.path(), None, readers).await;
    if let Some(database) = postgres::database().await {
        measure::backend("postgres", folder.path(), Some(&database), readers).await;
    }
}

#[cfg(not(target_os = "linux"))]
fn main() {
    println!("resident memory is read from /proc, which is not here");
}
