//! The pub-sub: wake-ups that carry the log's head. Never the only copy of anything: followers read the log.
//!
//! One task per process keeps the head up to date; any number of followers wait for it without asking the store.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::{StreamExt, future};
use tokio::{
    sync::{Notify, watch},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    limits::Limits,
    observe::Metrics,
    ports::{EventStore, StoreError, Wakeup, Wakeups},
    version::Position,
};

/// Tells followers how far the log is known to reach. Cloning shares it.
#[derive(Debug, Clone)]
pub struct Publisher {
    head: Arc<watch::Sender<Position>>,
    views: Arc<watch::Sender<u64>>,
    ended: CancellationToken,
    /// Another log lies where this process's was.
    is_replaced: Arc<AtomicBool>,
    metrics: Metrics,
}

impl Publisher {
    pub(crate) fn new(metrics: Metrics) -> Self {
        Self {
            head: Arc::new(watch::Sender::new(Position::ZERO)),
            views: Arc::new(watch::Sender::new(0)),
            ended: CancellationToken::new(),
            is_replaced: Arc::default(),
            metrics,
        }
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

    /// Lowers the known head from `wrong` to `head`: somebody told of events that are not there.
    fn correct(&self, wrong: Position, head: Position) {
        let is_lowered = self.head.send_if_modified(|known| {
            let is_wrong = *known == wrong && head < wrong;
            if is_wrong {
                *known = head;
            }
            is_wrong
        });
        if is_lowered {
            self.metrics.log_position.set(head.as_i64());
            tracing::warn!(told = %wrong, %head, "a wake-up told of events that the log does not have");
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

    /// Tells that read models have moved, here or elsewhere.
    pub fn views_moved(&self) {
        self.views.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// A receiver that is woken whenever read models have moved; the number itself means nothing.
    #[must_use]
    pub fn subscribe_views(&self) -> watch::Receiver<u64> {
        self.views.subscribe()
    }

    /// Whether another log has taken the place of this process's, which then is to work on nothing any more.
    pub(crate) fn is_replaced(&self) -> bool {
        self.is_replaced.load(Ordering::Relaxed)
    }

    pub(crate) fn replaced(&self, reason: &str) {
        if !self.is_replaced.swap(true, Ordering::Relaxed) {
            tracing::error!(reason, "this process works on the log no more");
        }
    }

    /// Tells followers that nothing more will be told.
    pub(crate) fn end(&self) {
        self.ended.cancel();
    }

    /// Waits until nothing more will be told.
    pub(crate) async fn ended(&self) {
        self.ended.cancelled().await;
    }
}

/// Keeps the publisher's head up to date: hears wake-ups where there are any, and looks at the store in any case.
#[derive(Debug)]
pub(crate) struct HeadWatcher {
    store: Arc<dyn EventStore>,
    publisher: Publisher,
    wakeups: Option<Arc<dyn Wakeups>>,
    limits: Limits,
    /// A look is due at once.
    resync: Notify,
}

impl HeadWatcher {
    pub fn new(
        store: Arc<dyn EventStore>,
        publisher: Publisher,
        wakeups: Option<Arc<dyn Wakeups>>,
        limits: Limits,
    ) -> Self {
        Self { store, publisher, wakeups, limits, resync: Notify::new() }
    }

    /// Runs until it is told to stop.
    pub async fn run(self, stop: CancellationToken) {
        stop.run_until_cancelled(future::join(self.hear(), self.look())).await;
    }

    /// Beside the looks, so that a store that is slow to answer holds up no wake-up.
    async fn hear(&self) {
        let Some(wakeups) = &self.wakeups else { return };
        let mut heard = wakeups.listen();
        while let Some(wakeup) = heard.next().await {
            match wakeup {
                Wakeup::Log(head) => self.publisher.raise(head),
                Wakeup::Views => self.publisher.views_moved(),
                Wakeup::Resync => {
                    self.resync.notify_one();
                    self.publisher.views_moved();
                }
            }
        }
        tracing::error!("wake-ups have ended; from now on the log is only looked at now and then");
    }

    async fn look(&self) {
        let poll = self.limits.feed_poll.max(POLL_MIN);
        let mut pause = poll;
        let mut is_told = false;
        loop {
            match self.look_once().await {
                Ok(()) => {
                    pause = poll;
                    if std::mem::take(&mut is_told) {
                        tracing::info!("the head of the log can be read again");
                    }
                }
                Err(error) => {
                    pause = (pause * 2).min(self.limits.feed_pause_max.max(poll));
                    if !std::mem::replace(&mut is_told, true) {
                        tracing::warn!(%error, "the head of the log cannot be read; followers may lag");
                    }
                }
            }
            let _ = timeout(pause, self.resync.notified()).await;
        }
    }

    async fn look_once(&self) -> Result<(), StoreError> {
        // Known before the look: what was appended by then must be seen by it.
        let known = self.publisher.head();
        let head = within(self.limits.feed_look, self.store.head()).await.inspect_err(|error| {
            // Reading is refused for one reason only, and for ever.
            if let StoreError::ReadOnly { reason } = error {
                self.publisher.replaced(reason);
            }
        })?;
        self.publisher.raise(head);
        self.publisher.correct(known, head);
        Ok(())
    }
}

/// However it is set, nobody asks the store without a pause.
const POLL_MIN: Duration = Duration::from_millis(1);

async fn within<T>(limit: Duration, call: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    tokio::select! {
        result = call => result,
        () = sleep(limit) => Err(StoreError::Unavailable { reason: format!("no answer within {limit:?}") }),
    }
}
