//! The ports of subjects' keys in memory.

use std::{
    collections::BTreeMap,
    ops::Bound,
    sync::{Mutex, MutexGuard, PoisonError},
};

use chrono::{DateTime, Utc};
use futures_util::{FutureExt, future::BoxFuture};

use super::MemoryStore;
use crate::{
    id::AggregateId,
    master_keys::MasterKeys,
    ports::{KeyCensus, Scrubber, StoreError, StoredKey, StoredKeyState, SubjectKeys, Tombstone, WrappedKey},
};

/// Everything behind one lock.
#[derive(Debug, Default)]
pub(super) struct Keys(Mutex<Contents>);

#[derive(Debug, Default)]
struct Contents {
    keys: BTreeMap<AggregateId, StoredKeyState>,
    master: Option<String>,
    kept_master: Option<MasterKeys>,
}

impl Keys {
    fn contents(&self) -> MutexGuard<'_, Contents> {
        // Nothing below panics half-way through a change, so a poisoned lock guards whole contents.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_destroyed(&self, subject: &AggregateId) -> bool {
        matches!(self.contents().keys.get(subject), Some(StoredKeyState::Destroyed(_)))
    }
}

impl Contents {
    fn stored(&self, subject: &AggregateId) -> Option<StoredKey> {
        self.keys.get(subject).map(|state| StoredKey { subject: subject.clone(), state: state.clone() })
    }
}

impl SubjectKeys for MemoryStore {
    fn find<'a>(&'a self, subjects: &'a [AggregateId]) -> BoxFuture<'a, Result<Vec<Option<StoredKey>>, StoreError>> {
        async move {
            let contents = self.keys.contents();
            Ok(subjects.iter().map(|subject| contents.stored(subject)).collect())
        }
        .boxed()
    }

    fn create<'a>(
        &'a self,
        keys: &'a [(AggregateId, WrappedKey)],
    ) -> BoxFuture<'a, Result<Vec<StoredKey>, StoreError>> {
        async move {
            let mut contents = self.keys.contents();
            for (subject, key) in keys {
                contents.keys.entry(subject.clone()).or_insert_with(|| StoredKeyState::Wrapped(key.clone()));
            }
            Ok(keys.iter().filter_map(|(subject, _)| contents.stored(subject)).collect())
        }
        .boxed()
    }

    fn destroy<'a>(&'a self, subject: &'a AggregateId) -> BoxFuture<'a, Result<DateTime<Utc>, StoreError>> {
        async move {
            let now = self.clock.now();
            let mut contents = self.keys.contents();
            if let Some(StoredKeyState::Destroyed(at)) = contents.keys.get(subject) {
                return Ok(*at);
            }
            contents.keys.insert(subject.clone(), StoredKeyState::Destroyed(now));
            Ok(now)
        }
        .boxed()
    }

    fn destroyed<'a>(&'a self, after: &'a Tombstone, limit: u32) -> BoxFuture<'a, Result<Vec<Tombstone>, StoreError>> {
        async move {
            let contents = self.keys.contents();
            let mut all: Vec<Tombstone> = contents
                .keys
                .iter()
                .filter_map(|(subject, state)| match state {
                    StoredKeyState::Destroyed(at) => Some(Tombstone { destroyed_at: *at, subject: subject.clone() }),
                    StoredKeyState::Wrapped(_) => None,
                })
                .filter(|tombstone| tombstone > after)
                .collect();
            all.sort();
            all.truncate(limit as usize);
            Ok(all)
        }
        .boxed()
    }

    fn foreign<'a>(&'a self, master: &'a str, limit: u32) -> BoxFuture<'a, Result<Vec<StoredKey>, StoreError>> {
        async move {
            let contents = self.keys.contents();
            let is_foreign = |state: &StoredKeyState| match state {
                StoredKeyState::Wrapped(key) => key.master != master,
                StoredKeyState::Destroyed(_) => false,
            };
            let foreign = contents.keys.iter().filter(|(_, state)| is_foreign(state)).take(limit as usize);
            Ok(foreign.map(|(subject, state)| StoredKey { subject: subject.clone(), state: state.clone() }).collect())
        }
        .boxed()
    }

    fn rewrap<'a>(&'a self, keys: &'a [(AggregateId, WrappedKey)]) -> BoxFuture<'a, Result<(), StoreError>> {
        async move {
            let mut contents = self.keys.contents();
            for (subject, anew) in keys {
                if let Some(StoredKeyState::Wrapped(key)) = contents.keys.get_mut(subject)
                    && key.id == anew.id
                {
                    *key = anew.clone();
                }
            }
            Ok(())
        }
        .boxed()
    }

    fn census(&self) -> BoxFuture<'_, Result<KeyCensus, StoreError>> {
        async move {
            let contents = self.keys.contents();
            let (mut wrapped, mut destroyed) = (BTreeMap::<String, u64>::new(), 0);
            for state in contents.keys.values() {
                match state {
                    StoredKeyState::Wrapped(key) => *wrapped.entry(key.master.clone()).or_default() += 1,
                    StoredKeyState::Destroyed(_) => destroyed += 1,
                }
            }
            Ok(KeyCensus { current: contents.master.clone(), wrapped: wrapped.into_iter().collect(), destroyed })
        }
        .boxed()
    }

    fn list<'a>(
        &'a self,
        after: Option<&'a AggregateId>,
        limit: u32,
    ) -> BoxFuture<'a, Result<Vec<StoredKey>, StoreError>> {
        async move {
            let contents = self.keys.contents();
            let after = contents
                .keys
                .range::<AggregateId, _>((after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded));
            let listed = after.take(limit as usize);
            Ok(listed.map(|(subject, state)| StoredKey { subject: subject.clone(), state: state.clone() }).collect())
        }
        .boxed()
    }

    fn put_back<'a>(&'a self, keys: &'a [StoredKey]) -> BoxFuture<'a, Result<Vec<StoredKey>, StoreError>> {
        async move {
            let mut contents = self.keys.contents();
            for StoredKey { subject, state } in keys {
                match (contents.keys.get(subject), state) {
                    (Some(StoredKeyState::Destroyed(_)), _) | (Some(_), StoredKeyState::Wrapped(_)) => {}
                    (None, _) | (Some(StoredKeyState::Wrapped(_)), StoredKeyState::Destroyed(_)) => {
                        contents.keys.insert(subject.clone(), state.clone());
                    }
                }
            }
            Ok(keys.iter().filter_map(|key| contents.stored(&key.subject)).collect())
        }
        .boxed()
    }

    fn appoint<'a>(&'a self, from: &'a [String], to: &'a str) -> BoxFuture<'a, Result<String, StoreError>> {
        async move {
            let mut contents = self.keys.contents();
            if contents.master.as_ref().is_none_or(|master| from.contains(master)) {
                contents.master = Some(to.to_owned());
            }
            Ok(contents.master.clone().unwrap_or_default())
        }
        .boxed()
    }

    fn kept_master<'a>(
        &'a self,
        offer: Option<&'a MasterKeys>,
    ) -> BoxFuture<'a, Result<Option<MasterKeys>, StoreError>> {
        async move {
            let mut contents = self.keys.contents();
            if let (None, Some(offer)) = (&contents.master, offer) {
                contents.master = Some(offer.current().to_owned());
                contents.kept_master = Some(offer.clone());
            }
            Ok(contents.kept_master.clone())
        }
        .boxed()
    }
}

impl Scrubber for MemoryStore {
    fn forget<'a>(&'a self, stream: &'a AggregateId) -> BoxFuture<'a, Result<(), StoreError>> {
        async move {
            self.forget_parked_words(stream);
            Ok(())
        }
        .boxed()
    }

    fn scrub(&self) -> BoxFuture<'_, Result<String, StoreError>> {
        async move { Ok("memory that was given back is not overwritten".to_owned()) }.boxed()
    }
}
