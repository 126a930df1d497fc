//! Lists instances, newest first. The index keeps one list for each type and status; a page is merged of those that are
//! asked for.

use std::{collections::BTreeSet, num::NonZeroU32, time::Duration};

use tokio::time::Instant;

use super::{
    SagaCallError, Sagas,
    index::{COUNTS, INDEX, LISTED, ListedSaga, listed_group},
};
use crate::{
    ports::{Direction, StoreError},
    saga::SagaStatus,
    view::{ListRange, Selection},
};

/// How long a list waits for the index to have seen what is in the log.
const LATEST_WAIT: Duration = Duration::from_secs(1);

/// Sagas that a store may know beside those of this process.
const TYPES_MAX: NonZeroU32 = NonZeroU32::MIN.saturating_add(999);

/// Which instances.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SagaFilter {
    /// Of this saga.
    pub saga_type: Option<String>,
    /// With this status.
    pub status: Option<SagaStatus>,
}

/// Part of the list.
#[derive(Debug, Clone, PartialEq)]
pub struct SagaPage {
    /// The instances, newest first.
    pub items: Vec<ListedSaga>,
    /// Where the next page begins; none after the last.
    pub next_cursor: Option<String>,
}

impl Sagas {
    /// Instances, newest first, after a cursor. Waits at most a second for what is in the log already.
    ///
    /// # Errors
    /// [`SagaCallError::Store`].
    pub async fn list(
        &self,
        filter: &SagaFilter,
        cursor: Option<&str>,
        limit: NonZeroU32,
    ) -> Result<SagaPage, SagaCallError> {
        self.catch_up().await?;
        let statuses = filter.status.map_or_else(|| SagaStatus::ALL.to_vec(), |status| vec![status]);
        let mut rows = Vec::new();
        for saga_type in self.types(filter).await? {
            for status in &statuses {
                let list = ListRange {
                    after: cursor.map(Into::into),
                    direction: Direction::Backward,
                    // One more tells whether there is a next page.
                    limit: limit.saturating_add(1),
                    ..ListRange::new(LISTED, listed_group(&saga_type, *status))
                };
                let page = self.desk.views.read(INDEX, &Selection::List(list)).await?;
                rows.extend(page.map(|page| page.rows).unwrap_or_default());
            }
        }
        rows.sort_unstable_by(|(one, _), (other, _)| other.cmp(one));
        // Of an instance that changed its status between two reads the newer row stands.
        rows.dedup_by(|(later, _), (first, _)| later == first);
        let limit = limit.get() as usize;
        let next_cursor = (rows.len() > limit).then(|| rows[limit - 1].0.to_string());
        rows.truncate(limit);
        let items = rows.iter().map(|(_, data)| serde_json::from_slice::<ListedSaga>(data));
        let items =
            items.collect::<Result<_, _>>().map_err(|error| StoreError::Corrupt { reason: error.to_string() })?;
        Ok(SagaPage { items, next_cursor })
    }

    async fn types(&self, filter: &SagaFilter) -> Result<BTreeSet<String>, SagaCallError> {
        if let Some(saga_type) = &filter.saga_type {
            return Ok(BTreeSet::from([saga_type.clone()]));
        }
        let counts = Selection::List(ListRange { limit: TYPES_MAX, ..ListRange::new(COUNTS, "") });
        let page = self.desk.views.read(INDEX, &counts).await?;
        Ok(page.map(|page| page.rows).unwrap_or_default().into_iter().map(|(sort, _)| sort.into()).collect())
    }

    async fn catch_up(&self) -> Result<(), SagaCallError> {
        if self.desk.definitions.is_empty() {
            // Nobody moves the index here.
            return Ok(());
        }
        let head = self.desk.events.head().await?;
        self.freshness.query_came();
        let _waiting = self.freshness.waiting();
        let mut index = self.freshness.subscribe(INDEX);
        let caught_up = index.wait_for(|progress| progress.position >= head);
        let _ = tokio::time::timeout_at(Instant::now() + LATEST_WAIT, caught_up).await;
        Ok(())
    }
}
