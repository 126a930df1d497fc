//! What an aggregate's actor and the journal share: what is in flight, which generation is dead, how far the stream is
//! durable.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::{version::Position, work::Work};

/// One incarnation's submissions.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// Submitted and not settled, oldest first, by ticket. The journal removes what is settled, so that an idle
    /// aggregate holds nothing of its last command.
    pending: Mutex<VecDeque<(u64, Arc<Work>)>>,
    /// Members of this generation and before are dead: the aggregate decides them again.
    dead: AtomicU64,
    /// Position of the stream's last durable event.
    position: AtomicU64,
}

impl Progress {
    fn pending(&self) -> MutexGuard<'_, VecDeque<(u64, Arc<Work>)>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a submission.
    pub fn submitted(&self, ticket: u64, work: Arc<Work>) {
        self.pending().push_back((ticket, work));
    }

    /// Whether nothing is in flight.
    pub fn is_settled(&self) -> bool {
        self.pending().is_empty()
    }

    /// Takes everything in flight, oldest first.
    pub fn take(&self) -> VecDeque<(u64, Arc<Work>)> {
        std::mem::take(&mut self.pending())
    }

    /// A ticket was settled, and with it all before.
    pub fn settle(&self, ticket: u64) {
        let mut pending = self.pending();
        while pending.front().is_some_and(|(settled, _)| *settled <= ticket) {
            pending.pop_front();
        }
        if pending.is_empty() {
            *pending = VecDeque::new();
        }
    }

    /// Declares a generation and all before it dead.
    pub fn kill(&self, generation: u64) {
        self.dead.fetch_max(generation, Ordering::AcqRel);
    }

    /// Whether a generation is dead.
    pub fn is_dead(&self, generation: u64) -> bool {
        generation <= self.dead.load(Ordering::Acquire)
    }

    /// The stream is durable up to a position.
    pub fn raise_position(&self, position: Position) {
        self.position.fetch_max(position.0, Ordering::AcqRel);
    }

    /// Position of the stream's last durable event.
    pub fn position(&self) -> Position {
        Position(self.position.load(Ordering::Acquire))
    }
}
