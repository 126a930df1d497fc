//! Transfers under faults: starts them over HTTP, waits for quiet, and reads in the log what became of each.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU16, AtomicUsize, Ordering},
    },
    time::Duration,
};

use event_sourcing_actors::RecordedEvent;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::load::{Answer, Client};

/// Accounts, of which every second transfer meets one of the hot ones.
pub const ACCOUNTS: usize = 1_000;
pub const HOT: usize = 20;
/// How long the last instance may take once nothing is started and nothing fails any more.
pub const QUIET: Duration = Duration::from_secs(60);

/// How many transfers: `TRANSFERS=20000` for the long run.
pub fn count() -> usize {
    std::env::var("TRANSFERS").ok().and_then(|count| count.parse().ok()).unwrap_or(1_500)
}

/// What each account begins with: so little that some transfers are refused, the hot accounts' above all.
fn initial_balance() -> i64 {
    40 * i64::try_from(count().div_ceil(1_500)).unwrap()
}

/// Where requests go now, and how far the work is.
#[derive(Debug, Clone)]
pub struct Load {
    /// The servers that may be asked.
    pub ports: Arc<[AtomicU16]>,
    pub started: Arc<AtomicUsize>,
}

impl Load {
    pub fn new(ports: &[u16]) -> Self {
        Self { ports: ports.iter().map(|port| AtomicU16::new(*port)).collect(), started: Arc::default() }
    }

    pub fn turn_to(&self, server: usize, port: u16) {
        self.ports[server].store(port, Ordering::Release);
    }

    /// The accounts, with their money.
    pub async fn create_accounts(&self) {
        let workers = (0..8).map(|worker| {
            let load = self.clone();
            tokio::spawn(async move {
                for account in (worker..ACCOUNTS).step_by(8) {
                    let data = json!({ "owner": "o", "initial_balance": initial_balance() });
                    let body = json!({ "command_type": "CreateAccount", "aggregate_id": name(account), "data": data });
                    load.insist("/api/v1/commands", &format!("create-{account}"), &body, 200).await;
                }
            })
        });
        futures_util::future::join_all(workers).await.into_iter().for_each(|worker| worker.unwrap());
    }

    /// Starts this many transfers by eight callers; each start is repeated under its key until it is answered.
    pub async fn start_transfers(&self, count: usize) {
        let workers = (0..8).map(|worker| {
            let load = self.clone();
            tokio::spawn(async move {
                for turn in (worker..count).step_by(8) {
                    let (from, to) = accounts_of(turn);
                    let data = json!({ "from_account": name(from), "to_account": name(to), "amount": 1 + turn % 17 });
                    let body = json!({ "saga_type": "TransferSaga", "data": data });
                    load.insist("/api/v1/sagas", &format!("transfer-{turn}"), &body, 202).await;
                    load.started.fetch_add(1, Ordering::AcqRel);
                }
            })
        });
        futures_util::future::join_all(workers).await.into_iter().for_each(|worker| worker.unwrap());
    }

    async fn insist(&self, path: &str, key: &str, body: &Value, status: u16) -> Value {
        let give_up = Instant::now() + Duration::from_secs(120);
        let mut clients: Vec<_> = self.ports.iter().map(|port| Client::new(port.load(Ordering::Acquire))).collect();
        for turn in 0.. {
            let server = turn % clients.len();
            clients[server].turn_to_if_moved(self.ports[server].load(Ordering::Acquire));
            match clients[server].post(path, Some(key), body).await {
                Ok(answer) if answer.status == status => return answer.body,
                Ok(Answer { status: 409 | 503, .. }) | Err(_) if Instant::now() < give_up => {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                other => panic!("{key}: {other:?}"),
            }
        }
        unreachable!("it returns or panics")
    }

    /// Waits until no instance is running or compensating; how long that took.
    pub async fn quiet(&self, get: impl Fn(&str) -> (u16, String)) -> Duration {
        let since = Instant::now();
        loop {
            let open = ["running", "compensating"].iter().any(|status| {
                let (code, body) = get(&format!("/api/v1/sagas?status={status}&limit=1"));
                let body: Value = serde_json::from_str(&body).unwrap_or_default();
                code != 200 || !body["items"].as_array().is_some_and(Vec::is_empty)
            });
            if !open {
                return since.elapsed();
            }
            assert!(since.elapsed() < QUIET, "some instances did not end within {QUIET:?} of quiet");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

pub fn name(account: usize) -> String {
    format!("acc-{account}")
}

/// From whom and to whom the transfer of this number goes.
fn accounts_of(turn: usize) -> (usize, usize) {
    let scattered = turn.wrapping_mul(7_919) % ACCOUNTS;
    let hot = turn.wrapping_mul(31) % HOT;
    let (from, to) =
        if turn.is_multiple_of(2) { (hot, scattered) } else { (scattered, (scattered + 1 + turn) % ACCOUNTS) };
    (from, if to == from { (to + 1) % ACCOUNTS } else { to })
}

/// What became of the transfers of a log.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Ends {
    pub completed: usize,
    pub compensated: usize,
    pub failed: usize,
    pub open: usize,
    /// Transfers whose money was doubled, lost or left on the way, and accounts below zero: sentences.
    pub wrong: Vec<String>,
}

/// What the log says of one instance.
#[derive(Debug, Default)]
struct Instance {
    is_order: bool,
    /// Whether it was completed, once it has ended.
    end: Option<bool>,
    is_failed: bool,
}

/// Reads every position of a log: the sum of balances and of money on its way must stay, no balance may be negative, each
/// transfer's money leaves once and arrives once, and each instance has one end.
pub fn ends_of(log: &[RecordedEvent]) -> Ends {
    let (mut balances, mut on_its_way): (HashMap<String, i64>, HashMap<String, i64>) = Default::default();
    let mut instances: HashMap<String, Instance> = HashMap::new();
    let (mut ends, mut total) = (Ends::default(), 0_i64);
    for event in log {
        let data: Value = serde_json::from_slice(&event.data).unwrap();
        let (id, amount) = (event.aggregate_id.to_string(), data["amount"].as_i64().unwrap_or(0));
        let transfer = data["transfer_id"].as_str().map(str::to_owned);
        match event.event_type.as_str() {
            "AccountCreated" => {
                let initial = data["initial_balance"].as_i64().unwrap();
                balances.insert(id.clone(), initial);
                total += initial;
            }
            "MoneyWithdrawn" => {
                *balances.get_mut(&id).unwrap() -= amount;
                let way = on_its_way.entry(transfer.unwrap()).or_default();
                *way += amount;
                if *way != amount {
                    ends.wrong.push(format!("position {}: taken twice", event.position));
                }
            }
            "MoneyDeposited" => {
                *balances.get_mut(&id).unwrap() += amount;
                let way = on_its_way.entry(transfer.unwrap()).or_default();
                *way -= amount;
                if *way != 0 {
                    ends.wrong.push(format!("position {}: given twice, or before it was taken", event.position));
                }
            }
            "SagaStarted" => {
                let is_order = data["saga_type"] == "OrderFulfillmentSaga";
                let started = Instance { is_order, ..Instance::default() };
                if instances.insert(id.clone(), started).is_some() {
                    ends.wrong.push(format!("{id} began twice"));
                }
            }
            "SagaEnded" => {
                let instance = instances.get_mut(&id).unwrap();
                if instance.end.replace(data["is_completed"].as_bool().unwrap()).is_some() {
                    ends.wrong.push(format!("{id} ended twice"));
                }
            }
            "SagaFailed" => instances.get_mut(&id).unwrap().is_failed = true,
            "SagaRetried" => instances.get_mut(&id).unwrap().is_failed = false,
            _ => {}
        }
        if balances.get(&id).is_some_and(|balance| *balance < 0) {
            ends.wrong.push(format!("position {}: {id} is overdrawn", event.position));
        }
        // Summed up anew now and then, since the sum is what an auditor would look at.
        if event.position.0 % 997 == 0 {
            let sum: i64 = balances.values().chain(on_its_way.values()).sum();
            if sum != total {
                ends.wrong.push(format!("position {}: {sum} instead of {total}", event.position));
            }
        }
    }
    for (id, instance) in &instances {
        match (instance.end, instance.is_failed) {
            (Some(true), _) => ends.completed += 1,
            (Some(false), _) => ends.compensated += 1,
            (None, true) => ends.failed += 1,
            (None, false) => ends.open += 1,
        }
        let way = on_its_way.get(id).copied().unwrap_or(0);
        // What a completed order cost stays with the shop.
        let is_paid = instance.is_order && instance.end == Some(true);
        if instance.end.is_some() && way != 0 && !is_paid {
            ends.wrong.push(format!("{id} ended with {way} on the way"));
        }
    }
    ends
}
