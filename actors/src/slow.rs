//! Which commands and queries took so long that the log tells of them, without being flooded when all do.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

/// At most one line in so much time.
const PAUSE: Duration = Duration::from_secs(1);

/// Decides whether to tell of one that took long.
#[derive(Debug)]
pub(crate) struct SlowLog {
    /// Longer is slow; zero tells of nothing.
    threshold: Duration,
    started: Instant,
    /// Milliseconds after the start before which no further line is written.
    quiet_until_ms: AtomicU64,
    untold: AtomicU64,
}

impl SlowLog {
    pub fn new(threshold: Duration) -> Self {
        Self { threshold, started: Instant::now(), quiet_until_ms: AtomicU64::new(0), untold: AtomicU64::new(0) }
    }

    /// Whether to tell of this one; if so, how many were not told of since the last line.
    pub fn note(&self, elapsed: Duration) -> Option<u64> {
        if self.threshold.is_zero() || elapsed < self.threshold {
            return None;
        }
        let now = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let quiet_until = self.quiet_until_ms.load(Ordering::Relaxed);
        let next = now.saturating_add(u64::try_from(PAUSE.as_millis()).unwrap_or(u64::MAX));
        // Of several at once one tells.
        let is_told = now >= quiet_until
            && self.quiet_until_ms.compare_exchange(quiet_until, next, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if is_told {
            return Some(self.untold.swap(0, Ordering::Relaxed));
        }
        self.untold.fetch_add(1, Ordering::Relaxed);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_slow_ones_are_told_and_a_flood_is_counted() {
        let slow = SlowLog::new(Duration::from_millis(100));
        assert_eq!(slow.note(Duration::from_millis(99)), None);
        assert_eq!(slow.note(Duration::from_millis(100)), Some(0));
        assert_eq!((slow.note(Duration::from_secs(9)), slow.note(Duration::from_secs(9))), (None, None));
        slow.quiet_until_ms.store(0, Ordering::Relaxed);
        assert_eq!(slow.note(Duration::from_secs(9)), Some(2));
    }

    #[test]
    fn zero_tells_of_nothing() {
        assert_eq!(SlowLog::new(Duration::ZERO).note(Duration::from_secs(9)), None);
    }
}
