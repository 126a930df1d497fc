//! The load: accounts first, then requests at their pace, each counted by what it was and how it went.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use event_sourcing_cqrs::wire::Problem;
use hdrhistogram::Histogram;
use tokio::{task::JoinSet, time::Instant};
use uuid::Uuid;

use super::{
    super::{
        exit::{Exit, Failure},
        output::talk,
        remote::Remote,
        secret::Secret,
    },
    connection::{Connection, Trouble},
    report::Results,
};

/// Longest latency that is told apart, in microseconds: an hour.
const LATENCY_MICROS_MAX: u64 = 3_600_000_000;
/// Connections that make the accounts.
const MAKERS_MAX: u32 = 64;
/// Requests between the first ones of two connections of a closed load.
const CONNECTION_TICKETS: u64 = 1 << 40;
/// How often progress is told.
const TELL: Duration = Duration::from_secs(1);

/// When requests are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pace {
    /// So many a second, whatever becomes of those before.
    Open(u32),
    /// When the one before on the same connection was answered.
    Closed,
}

/// What to do.
#[derive(Debug, Clone)]
pub(super) struct Load {
    pub url: String,
    pub timeout: Duration,
    pub token: Option<Secret>,
    pub pace: Pace,
    pub connections: u32,
    pub warm_up: Duration,
    pub duration: Duration,
    pub queries_percent: u32,
    pub aggregates: u32,
}

/// How requests of one kind went.
#[derive(Debug, Clone)]
pub(super) struct Tally {
    /// In microseconds, of all that were answered, refusals too.
    pub latency: Histogram<u64>,
    /// By code; what was accepted is in none.
    pub errors: BTreeMap<String, u64>,
}

impl Tally {
    pub fn new() -> Self {
        // Bounds and digits are constants that fit.
        let latency = Histogram::new_with_bounds(1, LATENCY_MICROS_MAX, 3);
        Self { latency: latency.unwrap_or_else(|error| unreachable!("{error}")), errors: BTreeMap::new() }
    }

    pub fn add(&mut self, other: &Self) {
        // The same bounds everywhere.
        let _ = self.latency.add(&other.latency);
        for (code, count) in &other.errors {
            *self.errors.entry(code.clone()).or_default() += count;
        }
    }
}

/// What all connections share.
#[derive(Debug)]
struct Shared {
    load: Load,
    authority: String,
    prefix: String,
    begin: Instant,
    /// The next request of an open load.
    ticket: AtomicU64,
    done: AtomicU64,
    failed: AtomicU64,
}

impl Load {
    /// Makes the accounts, sends the load, and tells how it went.
    pub async fn run(self) -> Result<Results, Failure> {
        let remote = Remote::new(&self.url, self.timeout)?.with_token(self.token.clone());
        let (_, version) = remote.document("/version").await?;
        let (authority, prefix) = (remote.authority().to_owned(), format!("bench-{}-", Uuid::now_v7().simple()));
        self.make_accounts(&authority, &prefix).await?;
        let shared = Arc::new(Shared {
            authority,
            prefix,
            begin: Instant::now(),
            ticket: AtomicU64::new(0),
            done: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            load: self,
        });
        let mut workers = JoinSet::new();
        for number in 0..shared.load.connections {
            workers.spawn(shared.clone().work(number));
        }
        let telling = tokio::spawn(shared.clone().tell());
        let (mut commands, mut queries) = (Tally::new(), Tally::new());
        while let Some(worked) = workers.join_next().await {
            let (more_commands, more_queries) =
                worked.map_err(|error| Failure::new(Exit::Failed, error.to_string()))?;
            commands.add(&more_commands);
            queries.add(&more_queries);
        }
        telling.abort();
        Ok(Results::new(&shared.load, &shared.prefix, &version, &commands, &queries))
    }

    async fn make_accounts(&self, authority: &str, prefix: &str) -> Result<(), Failure> {
        talk(&format!("making {} accounts", self.aggregates));
        let makers = self.connections.min(MAKERS_MAX).min(self.aggregates);
        let mut all = JoinSet::new();
        for maker in 0..makers {
            let (authority, prefix, aggregates) = (authority.to_owned(), prefix.to_owned(), self.aggregates);
            let mut connection = Connection::new(&authority, self.token.clone(), self.timeout);
            all.spawn(async move {
                for number in (maker..aggregates).step_by(makers as usize) {
                    let id = format!("{prefix}{number}");
                    let body = format!(
                        r#"{{"command_type":"CreateAccount","aggregate_id":"{id}","data":{{"owner":"bench","initial_balance":0}}}}"#
                    );
                    match connection.post("/api/v1/commands", body).await {
                        Ok((200, _)) => {}
                        Ok((status, body)) => {
                            return Err(Failure::from_problem(status, &serde_json::from_slice(&body).unwrap_or_default()));
                        }
                        Err(trouble) => {
                            let said = format!("{authority} did not make the accounts: {}", trouble.name());
                            return Err(Failure::new(Exit::Unavailable, said));
                        }
                    }
                }
                Ok(())
            });
        }
        while let Some(made) = all.join_next().await {
            made.map_err(|error| Failure::new(Exit::Failed, error.to_string()))??;
        }
        Ok(())
    }

    /// When a request of an open load is due, counted from the beginning.
    pub fn due(rate: u32, ticket: u64) -> Duration {
        Duration::from_nanos(u64::try_from(u128::from(ticket) * 1_000_000_000 / u128::from(rate)).unwrap_or(u64::MAX))
    }
}

impl Shared {
    async fn work(self: Arc<Self>, number: u32) -> (Tally, Tally) {
        let (mut commands, mut queries) = (Tally::new(), Tally::new());
        let mut connection = Connection::new(&self.authority, self.load.token.clone(), self.load.timeout);
        let counted = self.begin + self.load.warm_up;
        let end = counted + self.load.duration;
        let mut own = 0_u64;
        loop {
            let (ticket, due) = match self.load.pace {
                Pace::Open(rate) => {
                    let ticket = self.ticket.fetch_add(1, Ordering::Relaxed);
                    (ticket, self.begin + Load::due(rate, ticket))
                }
                Pace::Closed => {
                    own += 1;
                    // Each connection has the whole mix.
                    (u64::from(number) * CONNECTION_TICKETS + own, Instant::now())
                }
            };
            if due >= end {
                return (commands, queries);
            }
            if due > Instant::now() {
                tokio::time::sleep_until(due).await;
            }
            let (is_query, path, body) = self.request(ticket);
            if Instant::now() > end + self.load.timeout {
                // The run has to end. What was due and never sent counts with the time it has waited, or a server that
                // is far too slow would look better than one that is a little.
                if due >= counted {
                    let tally = if is_query { &mut queries } else { &mut commands };
                    note(tally, due.elapsed(), Some("not-sent".to_owned()));
                }
                continue;
            }
            let answer = connection.post(path, body).await;
            let took = due.elapsed();
            self.done.fetch_add(1, Ordering::Relaxed);
            let error = error_of(&answer);
            if error.is_some() {
                self.failed.fetch_add(1, Ordering::Relaxed);
            }
            if due >= counted {
                let tally = if is_query { &mut queries } else { &mut commands };
                note(tally, took, error);
            }
            if matches!(answer, Err(Trouble::Connect)) {
                // A server that is away is not to be asked a million times a second.
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }

    /// Whether it is a query, where it goes, and what it says. The same for the same ticket.
    fn request(&self, ticket: u64) -> (bool, &'static str, String) {
        let mixed = mix(ticket);
        let id = format!("{}{}", self.prefix, mixed % u64::from(self.load.aggregates));
        // Spread evenly, so that a short run has the mix too.
        let percent = u64::from(self.load.queries_percent);
        if (ticket * percent) % 100 + percent >= 100 && percent > 0 {
            let body = format!(r#"{{"query_type":"GetAccountBalance","filters":{{"account_id":"{id}"}}}}"#);
            return (true, "/api/v1/queries", body);
        }
        let body = format!(r#"{{"command_type":"DepositMoney","aggregate_id":"{id}","data":{{"amount":1}}}}"#);
        (false, "/api/v1/commands", body)
    }

    async fn tell(self: Arc<Self>) {
        let mut before = 0;
        let total = (self.load.warm_up + self.load.duration).as_secs_f64();
        loop {
            tokio::time::sleep(TELL).await;
            let (done, failed) = (self.done.load(Ordering::Relaxed), self.failed.load(Ordering::Relaxed));
            let at = self.begin.elapsed().as_secs_f64();
            let warming = if at < self.load.warm_up.as_secs_f64() { " (warming up)" } else { "" };
            talk(&format!("{at:.0} of {total:.0} s: {} requests/s, {failed} errors{warming}", done - before));
            before = done;
        }
    }
}

/// Neighbours go to different aggregates (the finaliser of splitmix64).
fn mix(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

fn error_of(answer: &Result<(u16, bytes::Bytes), Trouble>) -> Option<String> {
    match answer {
        Ok((200..300, _)) => None,
        Ok((status, body)) => {
            let problem: Problem = serde_json::from_slice(body).unwrap_or_default();
            Some(if problem.code.is_empty() { format!("status-{status}") } else { problem.code })
        }
        Err(trouble) => Some(trouble.name().to_owned()),
    }
}

fn note(tally: &mut Tally, took: Duration, error: Option<String>) {
    let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    tally.latency.saturating_record(micros.clamp(1, LATENCY_MICROS_MAX));
    if let Some(code) = error {
        *tally.errors.entry(code).or_default() += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_of_an_open_load_are_due_at_even_distances() {
        assert_eq!(Load::due(1_000, 0), Duration::ZERO);
        assert_eq!(Load::due(1_000, 2_500), Duration::from_millis(2_500));
        assert_eq!(Load::due(3, 1), Duration::from_nanos(333_333_333));
        // No drift, however long it goes on.
        assert_eq!(Load::due(3, 3 * 86_400), Duration::from_secs(86_400));
    }

    #[test]
    fn latency_of_a_request_that_waited_counts_the_waiting() {
        // One that was due a second before it could be sent and was answered at once took a second.
        let mut tally = Tally::new();
        note(&mut tally, Duration::from_secs(1), None);
        note(&mut tally, Duration::from_micros(10), Some("overloaded".to_owned()));
        assert!(tally.latency.max() >= 999_000);
        assert_eq!((tally.latency.len(), tally.errors["overloaded"]), (2, 1));
    }
}
