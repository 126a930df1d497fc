//! Single flight: queries that want the same rows at the same time share one read.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use tokio::{sync::watch, time::Instant};

use crate::{
    freshness::{CONFIRMED_AGE_MAX, Progress},
    ports::StoreError,
};

/// What a read gave.
#[derive(Debug)]
pub(super) struct Fetched {
    pub made_of: Progress,
    /// `None`: there is no such row.
    pub data: Option<Bytes>,
}

type Outcome = Result<Arc<Fetched>, StoreError>;

/// The reads under way, by key; as many as queries are admitted at most.
#[derive(Debug, Default)]
pub(super) struct Flights {
    running: Mutex<HashMap<String, Flight>>,
    next: AtomicU64,
}

#[derive(Debug)]
struct Flight {
    number: u64,
    began: Instant,
    outcome: watch::Receiver<Option<Outcome>>,
}

/// The query that reads. When it ends, however it ends, the next one reads.
struct Leader<'a> {
    flights: &'a Flights,
    key: &'a str,
    number: u64,
    outcome: watch::Sender<Option<Outcome>>,
}

impl Drop for Leader<'_> {
    fn drop(&mut self) {
        let mut running = self.flights.running();
        if running.get(self.key).is_some_and(|flight| flight.number == self.number) {
            running.remove(self.key);
        }
    }
}

enum Role<'a> {
    Leads(Leader<'a>),
    Follows(watch::Receiver<Option<Outcome>>),
}

impl Flights {
    /// Reads, or shares a read of the same key that began a moment ago; tells whether it was shared.
    ///
    /// Cancellation safe: if the query that reads goes away, one of those that wait reads instead.
    pub async fn fetch<F: Future<Output = Result<Fetched, StoreError>>>(
        &self,
        key: &str,
        read: impl Fn() -> F,
    ) -> (Outcome, bool) {
        loop {
            match self.role(key) {
                Role::Leads(leader) => {
                    let outcome = read().await.map(Arc::new);
                    leader.outcome.send_replace(Some(outcome.clone()));
                    return (outcome, false);
                }
                Role::Follows(mut flight) => {
                    if let Ok(outcome) = flight.wait_for(Option::is_some).await
                        && let Some(outcome) = outcome.clone()
                    {
                        return (outcome, true);
                    }
                }
            }
        }
    }

    fn role<'a>(&'a self, key: &'a str) -> Role<'a> {
        let began = Instant::now();
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, outcome) = watch::channel(None);
        let flight = Flight { number, began, outcome };
        match self.running().entry(key.to_owned()) {
            // One that takes longer may have looked at rows older than a cached answer may be.
            Entry::Occupied(running) if began - running.get().began <= CONFIRMED_AGE_MAX => {
                return Role::Follows(running.get().outcome.clone());
            }
            Entry::Occupied(mut slow) => drop(slow.insert(flight)),
            Entry::Vacant(free) => drop(free.insert(flight)),
        }
        Role::Leads(Leader { flights: self, key, number, outcome: sender })
    }

    fn running(&self) -> MutexGuard<'_, HashMap<String, Flight>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
