//! How long lines of the audit stay, where an operator has set so.
//!
//! Once a day one process announces what leaves and removes it in small batches. Triggers of the database refuse every
//! removal that was not announced, and announcements stay, so a line can leave by no way without a trace. Two lines of the
//! audit tell of each pruning: one before anything is removed, one when it is done.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use chrono::{DateTime, NaiveTime, SubsecRound, TimeDelta, Utc};
use event_sourcing_actors::ports::{Clock, StoreError};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    audit::Act,
    port::{AccessStore, Outcome},
};

/// Days that always stay; the databases refuse less.
pub const DAYS_MIN: u32 = 7;
/// Between two looks whether a day is over.
const LOOK: Duration = Duration::from_secs(3_600);
/// Lines removed in one transaction.
const LINES_MAX: NonZeroU32 = NonZeroU32::MIN.saturating_add(999);
/// Between two of these, for others who want to write.
const PAUSE: Duration = Duration::from_millis(100);

/// Removes lines of the audit that are old enough.
#[derive(Debug)]
pub(super) struct Retention {
    pub store: Arc<dyn AccessStore>,
    pub clock: Arc<dyn Clock>,
    pub days: NonZeroU32,
}

impl Retention {
    /// Looks now and then, until `stop` is cancelled.
    pub async fn keep(self, stop: CancellationToken) {
        let work = async {
            loop {
                match self.once().await {
                    Ok(None) => {}
                    Ok(Some(lines)) => tracing::info!(lines, days = self.days, "old lines of the audit were removed"),
                    Err(error) => tracing::warn!(%error, "old lines of the audit could not be removed yet"),
                }
                tokio::time::sleep(LOOK).await;
            }
        };
        let _ = stop.run_until_cancelled(work).await;
    }

    /// Removes what is older than so many whole days (UTC), unless this day's pruning has an owner. What an owner that died
    /// has left is among the next day's.
    async fn once(&self) -> Result<Option<u64>, StoreError> {
        let now = self.clock.now();
        let Some(before) = now.checked_sub_signed(TimeDelta::days(self.days.get().max(DAYS_MIN).into())) else {
            return Ok(None);
        };
        let before = before.with_time(NaiveTime::MIN).single().unwrap_or(before);
        let line = |outcome, told: &str| {
            let target = format!("lines from before {}{told}", before.format("%Y-%m-%d"));
            let act = Act { principal: None, peer: None, act: "audit prune".to_owned(), target, request_id: None };
            act.line(self.clock.now().trunc_subsecs(6), outcome, None, 1)
        };
        if !self.store.announce_pruning(before, line(Outcome::Begun, "")).await? {
            return Ok(None);
        }
        let mut removed = 0;
        loop {
            match self.store.prune_audit(before, LINES_MAX).await? {
                0 => break,
                lines => removed += lines,
            }
            tokio::time::sleep(PAUSE).await;
        }
        self.store.record(vec![line(Outcome::Succeeded, &format!(": {removed} removed"))]).await?;
        Ok(Some(removed))
    }
}

/// The least id of version 7 of this millisecond: lines with lower ids are from before.
pub(crate) fn first_id(at: DateTime<Utc>) -> Uuid {
    let millis = u128::try_from(at.timestamp_millis()).unwrap_or(0);
    Uuid::from_u128(millis << 80)
}

#[cfg(test)]
mod tests {
    use event_sourcing_actors::testing::clock::ManualClock;

    use super::*;
    use crate::auth::{memory::MemoryAccess, port::AuditRecord};

    const MANY: NonZeroU32 = NonZeroU32::MIN.saturating_add(9_999);

    fn retention(now: DateTime<Utc>) -> (Arc<MemoryAccess>, Retention) {
        let store = Arc::new(MemoryAccess::default());
        let clock = Arc::new(ManualClock::at(now));
        let days = NonZeroU32::new(30).unwrap();
        (store.clone(), Retention { store, clock, days })
    }

    fn aged(now: DateTime<Utc>, days: i64, number: u128) -> AuditRecord {
        let at = now - TimeDelta::days(days);
        let act = "POST /x".to_owned();
        let act = Act { principal: None, peer: None, act, target: String::new(), request_id: None };
        let id = Uuid::from_u128(first_id(at).as_u128() | number);
        AuditRecord { id, ..act.line(at, Outcome::Succeeded, None, 1) }
    }

    #[tokio::test]
    async fn what_is_old_enough_leaves_in_batches_once_a_day_and_two_lines_say_so() {
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let (store, retention) = retention(now);
        let old = (1..=2_500).map(|number| aged(now, 40, number));
        store.record(old.chain([aged(now, 29, 1), aged(now, 1, 1)]).collect()).await.unwrap();
        assert_eq!(retention.once().await.unwrap(), Some(2_500));
        let left = store.audit(None, MANY).await.unwrap();
        let targets: Vec<_> = left.iter().map(|line| (line.act.as_str(), line.outcome, line.target.as_str())).collect();
        assert_eq!(targets.len(), 4, "{targets:?}");
        assert!(targets.contains(&("audit prune", Outcome::Begun, "lines from before 2026-12-16")), "{targets:?}");
        let done = ("audit prune", Outcome::Succeeded, "lines from before 2026-12-16: 2500 removed");
        assert!(targets.contains(&done), "{targets:?}");
        // Once a day, whatever comes: another process of the same day finds it announced.
        store.record(vec![aged(now, 50, 9)]).await.unwrap();
        assert_eq!(retention.once().await.unwrap(), None);
        assert_eq!(store.audit(None, MANY).await.unwrap().len(), 5);
    }

    #[tokio::test]
    async fn nothing_old_is_announced_by_nobody() {
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let (store, retention) = retention(now);
        store.record(vec![aged(now, 29, 1)]).await.unwrap();
        assert_eq!(retention.once().await.unwrap(), None);
        assert_eq!(store.audit(None, MANY).await.unwrap().len(), 1);
    }
}
