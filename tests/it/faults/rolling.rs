//! Three replicas on one database are restarted one after the other under load, as an orchestrator does it behind a load
//! balancer: no request fails, no event is lost, and each ends within its deadline.
//!
//! The balancer here does what they all do: it asks each replica every 100 ms whether it is ready, keeps its connections
//! alive, and repeats nothing. `ROLLING_ROUNDS=20` makes it longer; the control is `ROLLING_GRACE_MS=0`, with which
//! replicas close while they are still sent requests: then some fail.

use std::{
    collections::BTreeMap,
    io::Write,
    net::TcpListener,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use event_sourcing_cqrs::store::{PostgresOptions, PostgresStore};
use http_body_util::{BodyExt, Empty};
use hyper::{Request, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{net::TcpStream, task::JoinSet, time::Instant};

use crate::support::{
    load::{Client, each_has_one_effect, sound_log},
    postgres,
    server::Server,
};

const REPLICAS: usize = 3;
const ACCOUNTS: u64 = 60;
/// Requests a second, from all callers together.
const RATE: u64 = 200;
/// So many that the rate holds while an answer takes up to half a second.
const CALLERS: u64 = 100;
const READERS: usize = 3;
/// How often the balancer asks; the grace of the replicas is longer.
const PROBE: Duration = Duration::from_millis(100);
/// How long a request may wait for a replica that is ready.
const QUEUE: Duration = Duration::from_secs(10);
const DRAIN_MS: &str = "10000";
/// Grace, drain, the end of the store and of the spans, and some slack for a busy machine.
const DEADLINE: Duration = Duration::from_secs(1 + 10 + 4 + 2 + 15);

/// How long a replica that leaves still serves.
fn grace_ms() -> String {
    std::env::var("ROLLING_GRACE_MS").unwrap_or_else(|_| "1500".to_owned())
}

fn rounds() -> usize {
    std::env::var("ROLLING_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(1)
}

/// A replica as the balancer sees it.
#[derive(Debug)]
struct Backend {
    port: u16,
    is_ready: AtomicBool,
}

/// What callers and readers share.
#[derive(Debug)]
struct Balancer {
    backends: Vec<Backend>,
    turn: AtomicUsize,
    is_over: AtomicBool,
    /// What went wrong, in words.
    failures: Mutex<Vec<String>>,
    /// How long each took.
    took: Mutex<Vec<Duration>>,
}

impl Balancer {
    fn new(ports: &[u16]) -> Arc<Self> {
        let backend = |port: &u16| Backend { port: *port, is_ready: AtomicBool::new(false) };
        Arc::new(Self {
            backends: ports.iter().map(backend).collect(),
            turn: AtomicUsize::new(0),
            is_over: AtomicBool::new(false),
            failures: Mutex::default(),
            took: Mutex::default(),
        })
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Acquire)
    }

    fn fail(&self, what: String) {
        self.failures.lock().unwrap().push(what);
    }

    /// The next replica that is ready.
    fn next(&self) -> Option<&Backend> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let backends = (0..REPLICAS).map(|step| &self.backends[(turn + step) % REPLICAS]);
        backends.into_iter().find(|backend| backend.is_ready.load(Ordering::Acquire))
    }

    /// The same, but a request waits a while where an overloaded machine lets every probe fail at once, as in the queue of a
    /// balancer; it has not been sent anywhere yet.
    async fn queue(&self) -> Option<&Backend> {
        let give_up = Instant::now() + QUEUE;
        loop {
            match self.next() {
                None if Instant::now() < give_up => tokio::time::sleep(PROBE).await,
                found => return found,
            }
        }
    }

    /// Asks one replica again and again.
    async fn probe(self: Arc<Self>, index: usize) {
        let backend = &self.backends[index];
        while !self.is_over() {
            let is_ready = tokio::time::timeout(Duration::from_secs(2), ready(backend.port)).await;
            backend.is_ready.store(is_ready.unwrap_or(false), Ordering::Release);
            tokio::time::sleep(PROBE).await;
        }
    }

    /// Sends requests in its own rhythm until told to stop; every deposit that was answered.
    async fn call(self: Arc<Self>, caller: u64) -> Vec<Value> {
        let mut clients: BTreeMap<u16, Client> = BTreeMap::new();
        let (mut answers, mut count) = (Vec::new(), 0_u64);
        let mut rhythm = tokio::time::interval(Duration::from_millis(1_000 * CALLERS / RATE));
        rhythm.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while !self.is_over() {
            rhythm.tick().await;
            let Some(backend) = self.queue().await else {
                self.fail("no replica was ready in time".to_owned());
                continue;
            };
            count += 1;
            let began = Instant::now();
            let client = clients.entry(backend.port).or_insert_with(|| Client::new(backend.port));
            let account = format!("acc-{}", (caller + count * CALLERS) % ACCOUNTS);
            let is_query = count.is_multiple_of(4);
            let sent = if is_query {
                let query = json!({ "query_type": "GetAccountBalance", "projection": "account_balance",
                    "filters": { "account_id": account } });
                client.post("/api/v1/queries", None, &query).await
            } else {
                client.command(None, "DepositMoney", &account, json!({ "amount": 1 })).await
            };
            self.took.lock().unwrap().push(began.elapsed());
            match sent {
                Ok(answer) if answer.status == 200 && is_query => {}
                Ok(answer) if answer.status == 200 => answers.push(answer.body),
                other => self.fail(format!("port {}: {other:?}", backend.port)),
            }
        }
        answers
    }

    /// Follows the log over whichever replica is ready, and goes on at another when a stream ends; the positions it saw.
    async fn follow(self: Arc<Self>, head: Arc<AtomicU64>) -> Vec<u64> {
        let mut seen: Vec<u64> = Vec::new();
        // At the end there is a last event to wait for.
        while !(self.is_over() && seen.last().copied().unwrap_or(0) >= head.load(Ordering::Acquire)) {
            let Some(backend) = self.next() else {
                tokio::time::sleep(PROBE).await;
                continue;
            };
            if let Err(error) = self.stream(backend.port, &mut seen, &head).await {
                self.fail(format!("stream at port {}: {error}", backend.port));
            }
        }
        seen
    }

    async fn stream(&self, port: u16, seen: &mut Vec<u64>, head: &AtomicU64) -> Result<(), String> {
        let text = |error: &dyn std::fmt::Display| error.to_string();
        let stream = TcpStream::connect(("127.0.0.1", port)).await.map_err(|error| text(&error))?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| text(&error))?;
        let connection = tokio::spawn(connection);
        let request = Request::get("/api/v1/events").header("host", "t").header("accept", "text/event-stream");
        let request = request.header("last-event-id", seen.last().copied().unwrap_or(0).to_string());
        let request = request.body(Empty::<&[u8]>::new()).map_err(|error| text(&error))?;
        let answer = sender.send_request(request).await.map_err(|error| text(&error))?;
        if answer.status() != 200 {
            return Err(answer.status().to_string());
        }
        let (mut body, mut rest) = (answer.into_body(), Vec::new());
        loop {
            let frame = match tokio::time::timeout(Duration::from_millis(200), body.frame()).await {
                Ok(Some(frame)) => frame.map_err(|error| text(&error))?,
                // The replica leaves: a well-formed end, not a cut.
                Ok(None) => break,
                Err(_) if self.is_over() && seen.last().copied().unwrap_or(0) >= head.load(Ordering::Acquire) => break,
                Err(_) => continue,
            };
            rest.extend_from_slice(frame.data_ref().map_or(&[], AsRef::as_ref));
            while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = rest.drain(..=end).collect();
                if let Some(id) = std::str::from_utf8(&line).ok().and_then(|line| line.strip_prefix("id:")) {
                    seen.push(id.trim().parse().map_err(|error| text(&error))?);
                }
            }
        }
        connection.abort();
        Ok(())
    }
}

async fn ready(port: u16) -> bool {
    let asked = async {
        let stream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.ok()?;
        let connection = tokio::spawn(connection);
        let request = Request::get("/health/ready").header("host", "t").body(Empty::<&[u8]>::new()).ok()?;
        let answer = sender.send_request(request).await.ok()?;
        connection.abort();
        Some(answer.status() == 200)
    };
    asked.await.unwrap_or(false)
}

fn free_ports() -> Vec<u16> {
    // Held together, so that they differ.
    let listeners: Vec<_> = (0..REPLICAS).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    listeners.iter().map(|listener| listener.local_addr().unwrap().port()).collect()
}

fn start(folder: &std::path::Path, url: &str, port: u16) -> Server {
    let address = format!("127.0.0.1:{port}");
    Server::start(
        folder,
        &[
            ("BIND_ADDRESS", &address),
            ("DATABASE_URL", url),
            ("ES__HTTP__SHUTDOWN_GRACE_MS", &grace_ms()),
            ("ES__HTTP__DRAIN_MS", DRAIN_MS),
            // What a machine that is busy with other tests does not reach; a request that takes so long has failed.
            ("ES__COMMANDS__DEADLINE_MS", "14000"),
            ("ES__QUERIES__TIMEOUT_MS", "14000"),
        ],
    )
}

/// Restarts every replica once, one after the other; the longest end.
async fn roll(
    balancer: &Balancer,
    replicas: &mut [Option<Server>],
    folders: &[tempfile::TempDir],
    url: &str,
) -> Duration {
    let mut longest = Duration::ZERO;
    for (index, backend) in balancer.backends.iter().enumerate() {
        let told = Instant::now();
        let replica = replicas[index].take().unwrap();
        let status = tokio::task::spawn_blocking(move || replica.terminate()).await.unwrap();
        longest = longest.max(told.elapsed());
        assert!(status.success(), "a replica did not end well: {status}");
        assert!(told.elapsed() < DEADLINE, "a replica ended {:?} after it was told to", told.elapsed());
        let (folder, url, port) = (folders[index].path().to_owned(), url.to_owned(), backend.port);
        replicas[index] = Some(tokio::task::spawn_blocking(move || start(&folder, &url, port)).await.unwrap());
        while !backend.is_ready.load(Ordering::Acquire) {
            tokio::time::sleep(PROBE).await;
        }
    }
    longest
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_restart_under_load_fails_no_request_and_loses_no_event() {
    let Some(database) = postgres::database().await else { return };
    let folders: Vec<_> = (0..REPLICAS).map(|_| tempfile::tempdir().unwrap()).collect();
    let balancer = Balancer::new(&free_ports());
    let first = |index: usize| Some(start(folders[index].path(), &database.url, balancer.backends[index].port));
    let mut replicas: Vec<_> = (0..REPLICAS).map(first).collect();
    let mut client = Client::new(balancer.backends[0].port);
    for account in 0..ACCOUNTS {
        let data = json!({ "owner": "o", "initial_balance": 0 });
        let answer = client.command(None, "CreateAccount", &format!("acc-{account}"), data).await.unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    // Unknown until the last event is there.
    let head = Arc::new(AtomicU64::new(u64::MAX));
    let (mut probes, mut callers, mut readers) = (JoinSet::new(), JoinSet::new(), JoinSet::new());
    for index in 0..REPLICAS {
        probes.spawn(balancer.clone().probe(index));
    }
    while !balancer.backends.iter().all(|backend| backend.is_ready.load(Ordering::Acquire)) {
        tokio::time::sleep(PROBE).await;
    }
    let began = Instant::now();
    (0..CALLERS).for_each(|caller| drop(callers.spawn(balancer.clone().call(caller))));
    (0..READERS).for_each(|_| drop(readers.spawn(balancer.clone().follow(head.clone()))));
    let mut longest = Duration::ZERO;
    for _ in 0..rounds() {
        longest = longest.max(roll(&balancer, &mut replicas, &folders, &database.url).await);
    }
    balancer.is_over.store(true, Ordering::Release);
    let answers: Vec<Value> = callers.join_all().await.into_iter().flatten().collect();
    let elapsed = began.elapsed();
    let store = PostgresStore::connect(PostgresOptions::new(&database.url)).await.unwrap();
    let log = sound_log(&store).await;
    head.store(log.len() as u64, Ordering::Release);
    let seen = tokio::time::timeout(Duration::from_secs(60), readers.join_all()).await.expect("readers reach the end");
    probes.shutdown().await;

    let failures = balancer.failures.lock().unwrap().clone();
    assert!(failures.is_empty(), "{} failed: {:#?}", failures.len(), &failures[..failures.len().min(10)]);
    each_has_one_effect(&log, "MoneyDeposited", &answers);
    for positions in seen {
        let is_whole = positions.iter().zip(1..).all(|(position, expected)| *position == expected);
        assert!(is_whole && positions.len() == log.len(), "a reader saw {} of {} events", positions.len(), log.len());
    }
    let mut took = std::mem::take(&mut *balancer.took.lock().unwrap());
    took.sort_unstable();
    let (requests, slow) = (took.len(), |share: usize| took[(took.len() - 1) * share / 100]);
    println!(
        "{} restarts, {requests} requests at {:.0}/s, none failed (p50 {:?}, p99 {:?}, longest {:?}); {} events seen by \
         {READERS} readers; longest end {longest:?}",
        rounds() * REPLICAS,
        requests as f64 / elapsed.as_secs_f64(),
        slow(50),
        slow(99),
        slow(100),
        log.len()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn told_to_stop_it_ends_within_its_deadline_whatever_clients_do() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &[("ES__HTTP__DRAIN_MS", "500")]);
    let connect = || std::net::TcpStream::connect(("127.0.0.1", server.port)).unwrap();
    let mut clients = Vec::new();
    for sent in [
        &b""[..],
        b"GET /version HTT",
        b"POST /api/v1/commands HTTP/1.1\r\nhost: t\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{",
        b"GET /api/v1/events HTTP/1.1\r\nhost: t\r\naccept: text/event-stream\r\n\r\n",
        b"GET /version HTTP/1.1\r\nhost: t\r\n\r\n",
    ] {
        let mut stream = connect();
        stream.write_all(sent).unwrap();
        clients.push(stream);
    }
    // They have arrived before the end begins.
    assert_eq!(server.get("/version").0, 200);
    let told = Instant::now();
    tokio::task::spawn_blocking(move || server.terminate()).await.unwrap();
    assert!(told.elapsed() < DEADLINE, "{:?}", told.elapsed());
    drop(clients);
}
