//! Requests per principal, or per address where nobody is known: the generic cell rate algorithm, one instant a caller.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use dashmap::DashMap;

/// Callers remembered at most. Beyond, those that have their whole quota again are forgotten; if there are none, new
/// callers share one.
const CALLERS_MAX: usize = 10_000;
const SWEEP_NANOS: u64 = 1_000_000_000;

/// Whose requests are counted together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Caller {
    /// Somebody known.
    Principal(Arc<str>),
    /// Somebody unknown; of an IPv6 address the network counts, since a host has as many addresses as it likes.
    Address(IpAddr),
    /// All for whom there was no room.
    Others,
}

impl Caller {
    /// Somebody unknown at this address.
    #[must_use]
    pub fn at(address: IpAddr) -> Self {
        Self::Address(match address.to_canonical() {
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                IpAddr::V6([a, b, c, d, 0, 0, 0, 0].into())
            }
            v4 @ IpAddr::V4(_) => v4,
        })
    }
}

/// Requests in a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// How many; at least one.
    pub requests: u32,
    /// In which time.
    pub window: Duration,
}

/// How a caller stands after a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// The quota.
    pub quota: Quota,
    /// Further requests that would pass now.
    pub remaining: u32,
    /// Until the whole quota is there again; of a refused request, until one would pass.
    pub reset: Duration,
    /// Whether this one passed.
    pub is_allowed: bool,
}

/// Counts.
#[derive(Debug)]
pub struct Limiter {
    quota: Quota,
    began: Instant,
    /// Nanoseconds since the beginning at which a caller's debt is paid.
    debts: DashMap<Caller, u64>,
    /// When those who owe nothing were forgotten last.
    swept: AtomicU64,
}

impl Limiter {
    /// With this quota for each caller.
    #[must_use]
    pub fn new(quota: Quota) -> Self {
        Self { quota, began: Instant::now(), debts: DashMap::new(), swept: AtomicU64::new(0) }
    }

    /// Counts a request of a caller's.
    #[must_use]
    pub fn take(&self, caller: Caller) -> Standing {
        self.take_at(caller, nanos(self.began.elapsed()))
    }

    fn take_at(&self, caller: Caller, now: u64) -> Standing {
        let window = nanos(self.quota.window).max(1);
        let each = (window / u64::from(self.quota.requests.max(1))).max(1);
        let mut debt = self.debts.entry(self.admitted(caller, now)).or_insert(now);
        let paid = (*debt).max(now) + each;
        let is_allowed = paid - now <= window;
        if is_allowed {
            *debt = paid;
        }
        let owed = debt.saturating_sub(now);
        let remaining = u32::try_from(window.saturating_sub(owed) / each).unwrap_or(u32::MAX);
        let reset = if is_allowed { owed } else { (paid - now).saturating_sub(window) };
        Standing { quota: self.quota, remaining, reset: Duration::from_nanos(reset), is_allowed }
    }

    /// The caller, or all others where there is no room for one more.
    fn admitted(&self, caller: Caller, now: u64) -> Caller {
        if self.debts.len() < CALLERS_MAX || self.debts.contains_key(&caller) {
            return caller;
        }
        // At most once a second: it looks at all of them.
        let swept = self.swept.load(Ordering::Relaxed);
        let is_due = now.saturating_sub(swept) >= SWEEP_NANOS;
        if is_due && self.swept.compare_exchange(swept, now, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            self.debts.retain(|_, debt| *debt > now);
        }
        if self.debts.len() < CALLERS_MAX { caller } else { Caller::Others }
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX / 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn limiter(requests: u32) -> Limiter {
        Limiter::new(Quota { requests, window: Duration::from_secs(10) })
    }

    fn at(last: u8) -> Caller {
        Caller::at(IpAddr::from([10, 0, 0, last]))
    }

    #[test]
    fn quota_passes_at_once_then_comes_back_evenly() {
        let limiter = limiter(5);
        let left: Vec<_> = (0..5).map(|_| limiter.take_at(at(1), 0)).map(|s| (s.is_allowed, s.remaining)).collect();
        assert_eq!(left, [(true, 4), (true, 3), (true, 2), (true, 1), (true, 0)]);
        let refused = limiter.take_at(at(1), 0);
        assert_eq!((refused.is_allowed, refused.reset), (false, Duration::from_secs(2)));
        // A refused request costs nothing.
        assert!(limiter.take_at(at(1), 2 * SECOND).is_allowed);
        assert!(!limiter.take_at(at(1), 2 * SECOND).is_allowed);
        assert_eq!(limiter.take_at(at(1), 100 * SECOND).remaining, 4);
        assert!(limiter.take_at(at(2), 2 * SECOND).is_allowed, "another caller has a quota of its own");
    }

    #[test]
    fn callers_are_bounded_and_share_one_quota_beyond() {
        let limiter = limiter(1);
        for number in 0..CALLERS_MAX {
            assert!(limiter.take_at(Caller::Principal(number.to_string().into()), 0).is_allowed);
        }
        assert!(limiter.take_at(at(1), SECOND).is_allowed);
        assert!(!limiter.take_at(at(2), SECOND).is_allowed, "they share what is left");
        assert!(limiter.debts.len() <= CALLERS_MAX + 1);
        assert!(limiter.take_at(at(3), 11 * SECOND).is_allowed, "whoever has paid is forgotten");
        assert!(limiter.debts.len() < 5);
    }

    #[test]
    fn one_network_of_ipv6_is_one_caller() {
        let address = |text: &str| Caller::at(text.parse().unwrap());
        assert_eq!(address("2001:db8:1:2::1"), address("2001:db8:1:2:ffff::9"));
        assert_ne!(address("2001:db8:1:2::1"), address("2001:db8:1:3::1"));
        assert_eq!(address("::ffff:10.0.0.1"), at(1));
    }
}
