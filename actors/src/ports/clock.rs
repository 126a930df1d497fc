//! The clock port: the only way to the time, so that tests can move it.

use std::fmt::Debug;

use chrono::{DateTime, SubsecRound, Utc};

/// Tells the time.
pub trait Clock: Debug + Send + Sync + 'static {
    /// Now, truncated to microseconds (what the stores keep).
    fn now(&self) -> DateTime<Utc>;
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods, reason = "this is the clock port itself")]
    fn now(&self) -> DateTime<Utc> {
        Utc::now().trunc_subsecs(6)
    }
}
