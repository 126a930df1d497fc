//! What is remembered of erasures outside of the database, and what follows for a database that was restored from an older
//! backup: there the keys are back, and so is everything that was made with them.
//!
//! Every process writes down what any of them has destroyed, so each has the whole list. At a start, before anything can be
//! read, the keys of those on it are destroyed once more; then their data is erased as it was the first time.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use chrono::{DateTime, TimeDelta, Utc};

use super::steps::erased_event_id;
use crate::{
    id::AggregateId,
    personal::KeyState,
    ports::{EventStore, SnapshotStore, StoreError, StoredKeyState, Tombstone, Tombstones},
    vault::Vault,
    version::Sequence,
};

/// Subjects looked at in one call.
const PAGE: usize = 1_000;
/// So long before the last one that was seen it is looked for others: what was destroyed first may be seen last.
const OVERLAP: TimeDelta = TimeDelta::minutes(10);

/// The list outside, and how far it has been brought.
#[derive(Debug)]
pub(crate) struct Graveyard {
    vault: Arc<Vault>,
    outside: Option<Arc<dyn Tombstones>>,
    seen: tokio::sync::Mutex<Seen>,
}

/// What is known to be on the list.
#[derive(Debug, Default)]
struct Seen {
    /// The newest; `None`: nothing was compared yet.
    newest: Option<DateTime<Utc>>,
    /// Those within the overlap.
    lately: HashMap<AggregateId, DateTime<Utc>>,
}

impl Graveyard {
    pub(crate) fn new(vault: &Arc<Vault>, outside: Option<Arc<dyn Tombstones>>) -> Self {
        Self { vault: vault.clone(), outside, seen: tokio::sync::Mutex::default() }
    }

    /// Destroys the keys that have come back, with the snapshots made with them; how many they were. Until it returns
    /// nothing is to be read.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn bury(&self, snapshots: &dyn SnapshotStore) -> Result<u64, StoreError> {
        let mut count = 0;
        for subjects in self.subjects().await?.chunks(PAGE) {
            let states = self.vault.load(subjects).await?;
            for (subject, _) in subjects.iter().zip(states).filter(|(_, state)| !matches!(state, KeyState::Destroyed)) {
                self.vault.destroy(subject).await?;
                snapshots.discard(subject, Sequence(1)).await?;
                count += 1;
            }
        }
        Ok(count)
    }

    /// Those of subjects on the list whose log does not say that they were erased.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(super) async fn unfinished(
        &self,
        subjects: &[AggregateId],
        sealed: &dyn EventStore,
    ) -> Result<Vec<AggregateId>, StoreError> {
        let mut unfinished = Vec::new();
        for subjects in subjects.chunks(PAGE) {
            let mut expected = BTreeMap::new();
            for stored in self.vault.stored(subjects).await?.into_iter().flatten() {
                if let StoredKeyState::Destroyed(at) = stored.state {
                    expected.insert(erased_event_id(&stored.subject, at), stored.subject);
                }
            }
            let ids: Vec<_> = expected.keys().copied().collect();
            for event in sealed.find_events(&ids).await? {
                expected.remove(&event.event_id);
            }
            for subject in expected.into_values() {
                if sealed.stream(&subject).await?.is_some() {
                    unfinished.push(subject);
                }
            }
        }
        Ok(unfinished)
    }

    /// Puts on the list whatever was destroyed, by whatever process, and is not on it yet. Flushed on return.
    ///
    /// # Errors
    /// [`StoreError`]; it may be tried again.
    pub(super) async fn catch_up(&self) -> Result<(), StoreError> {
        let Some(outside) = &self.outside else { return Ok(()) };
        let mut seen = self.seen.lock().await;
        let known: HashSet<AggregateId> = match seen.newest {
            Some(_) => seen.lately.keys().cloned().collect(),
            None => outside.all().await?.into_iter().map(|tombstone| tombstone.subject).collect(),
        };
        let since = seen.newest.map_or(DateTime::UNIX_EPOCH, |newest| newest - OVERLAP);
        let mut after = Tombstone { destroyed_at: since, subject: AggregateId::from_uuid(uuid::Uuid::nil()) };
        let mut now = Seen { newest: Some(since), lately: HashMap::new() };
        loop {
            let page = self.vault.destroyed(&after, PAGE).await?;
            let Some(last) = page.last() else { break };
            let new: Vec<_> = page.iter().filter(|found| !known.contains(&found.subject)).cloned().collect();
            if !new.is_empty() {
                // Another process with the same list may have been faster.
                let there: HashSet<_> = outside.all().await?.into_iter().collect();
                let new: Vec<_> = new.into_iter().filter(|tombstone| !there.contains(tombstone)).collect();
                outside.add(&new).await?;
            }
            now.newest = now.newest.max(Some(last.destroyed_at));
            now.lately.extend(page.iter().map(|found| (found.subject.clone(), found.destroyed_at)));
            now.lately.retain(|_, at| *at > last.destroyed_at - OVERLAP);
            after = last.clone();
        }
        *seen = now;
        Ok(())
    }

    /// Everybody on the list.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(super) async fn subjects(&self) -> Result<Vec<AggregateId>, StoreError> {
        let Some(outside) = &self.outside else { return Ok(Vec::new()) };
        let mut subjects: Vec<_> = outside.all().await?.into_iter().map(|tombstone| tombstone.subject).collect();
        subjects.sort();
        subjects.dedup();
        Ok(subjects)
    }
}
