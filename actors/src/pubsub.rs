//! The pub-sub: wake-ups that carry the log's head. Never the only copy of anything: followers read the log.

use std::sync::Arc;

use tokio::sync::watch;

use crate::{observe::Metrics, version::Position};

/// Tells followers how far the log is known to reach. Cloning shares it.
#[derive(Debug, Clone)]
pub struct Publisher {
    head: Arc<watch::Sender<Position>>,
    metrics: Metrics,
}

impl Publisher {
    pub(crate) fn new(metrics: Metrics) -> Self {
        Self { head: Arc::new(watch::Sender::new(Position::ZERO)), metrics }
    }

    /// Raises the known head; wakes followers if it is news.
    pub fn raise(&self, head: Position) {
        let is_news = self.head.send_if_modified(|known| {
            let is_news = head > *known;
            *known = head.max(*known);
            is_news
        });
        if is_news {
            self.metrics.log_position.set(head.as_i64());
        }
    }

    /// The head this process knows.
    #[must_use]
    pub fn head(&self) -> Position {
        *self.head.borrow()
    }

    /// A receiver that is woken whenever the head rises.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Position> {
        self.head.subscribe()
    }
}
