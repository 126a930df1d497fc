//! How far this process has seen instances lately, so that the index, which lags, makes nobody look again.

use std::{collections::HashMap, time::Duration};

use tokio::time::Instant;

use crate::{id::AggregateId, version::Position};

/// After this the older half is forgotten; the index lags less.
const HALF_LIFE: Duration = Duration::from_secs(10);
/// Or when there are so many.
const HALF_MAX: usize = 50_000;

/// The last positions seen, in two halves.
#[derive(Debug)]
pub(super) struct Recent {
    young: HashMap<AggregateId, Position>,
    old: HashMap<AggregateId, Position>,
    turned_at: Instant,
}

impl Default for Recent {
    fn default() -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), turned_at: Instant::now() }
    }
}

impl Recent {
    /// An instance was seen as of its event there.
    pub fn note(&mut self, id: &AggregateId, position: Position, now: Instant) {
        if self.young.len() >= HALF_MAX || now.duration_since(self.turned_at) > HALF_LIFE {
            self.old = std::mem::take(&mut self.young);
            self.turned_at = now;
        }
        let seen = self.young.entry(id.clone()).or_insert(position);
        *seen = position.max(*seen);
    }

    /// An instance is to be looked at again.
    pub fn forget(&mut self, id: &AggregateId) {
        self.young.remove(id);
        self.old.remove(id);
    }

    /// As of which event an instance was seen last.
    pub fn position(&self, id: &AggregateId) -> Option<Position> {
        self.young.get(id).max(self.old.get(id)).copied()
    }
}
