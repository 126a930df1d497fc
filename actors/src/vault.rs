//! The vault: which subject's key opens what. Keys are loaded through the port, opened by the master keys, and remembered
//! for a short while.
//!
//! **Nothing is opened or sealed with a key that was read longer than [`Limits::subject_key_life`](crate::Limits) ago**,
//! counted from before it was asked for. That is the bound on what another process may still do after a key was destroyed
//! here; an erasure waits it out before it tells the read models.

mod foreign;
mod remembered;

use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use tokio::{sync::oneshot, time::Instant};

pub use self::foreign::{ForeignError, TakenIn};
use self::remembered::Remembered;
use crate::{
    catalog::Catalog,
    envelope::RecordedEvent,
    id::{AggregateId, EventId, EventType},
    master_keys::MasterKeys,
    personal::{self, KeyState, Place, SubjectKey},
    ports::{StoreError, StoredKey, StoredKeyState, SubjectKeys, Tombstone, WrappedKey},
};

/// Keys asked for, or made, in one call.
const KEYS_PER_CALL: usize = 1_000;

/// A subject whose key is to be made, and who waits for it.
type Waiting = (AggregateId, oneshot::Sender<Result<KeyState, StoreError>>);

/// Opens and seals the personal members of events.
pub struct Vault {
    catalog: Arc<Catalog>,
    keys: Option<(Arc<dyn SubjectKeys>, MasterKeys)>,
    life: Duration,
    remembered: Mutex<Remembered>,
    /// Keys to be made.
    queue: Mutex<Vec<Waiting>>,
    /// Held by the one that makes what is queued, for all.
    making: tokio::sync::Mutex<()>,
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vault").field("life", &self.life).finish_non_exhaustive()
    }
}

impl Vault {
    /// Over a catalog that says what is personal; without keys it opens and seals nothing.
    pub(crate) fn new(
        catalog: Arc<Catalog>,
        keys: Option<(Arc<dyn SubjectKeys>, MasterKeys)>,
        life: Duration,
        remembered_max: usize,
    ) -> Self {
        Self {
            catalog,
            keys,
            life,
            remembered: Mutex::new(Remembered::new(remembered_max)),
            queue: Mutex::default(),
            making: tokio::sync::Mutex::default(),
        }
    }

    /// How long a key is used after it was read.
    #[must_use]
    pub fn life(&self) -> Duration {
        self.life
    }

    /// What is known of a subject's key without asking.
    pub(crate) fn held(&self, subject: &AggregateId) -> Option<KeyState> {
        self.remembered().get(subject, self.life)
    }

    /// Opens the personal members of events, in [`RecordedEvent::opened`]; asks for all keys that are not known in one
    /// call.
    ///
    /// # Errors
    /// [`StoreError`]; no event is then to be shown.
    pub async fn open(&self, events: &mut [RecordedEvent]) -> Result<(), StoreError> {
        let is_personal = |event: &RecordedEvent| self.catalog.personal(&event.event_type).is_some();
        if self.keys.is_none() || !events.iter().any(is_personal) {
            return Ok(());
        }
        let mut states: HashMap<AggregateId, Option<KeyState>> = HashMap::new();
        for event in events.iter().filter(|event| is_personal(event)) {
            if !states.contains_key(&event.aggregate_id) {
                states.insert(event.aggregate_id.clone(), self.held(&event.aggregate_id));
            }
        }
        let unknown = states.iter().filter(|(_, state)| state.is_none());
        let unknown: Vec<AggregateId> = unknown.map(|(subject, _)| subject.clone()).collect();
        let loaded = self.load(&unknown).await?;
        states.extend(unknown.into_iter().zip(loaded.into_iter().map(Some)));
        for event in events {
            let Some(members) = self.catalog.personal(&event.event_type) else { continue };
            if let Some(Some(state)) = states.get(&event.aggregate_id) {
                event.opened = personal::open(state, members, &event.event);
            }
        }
        Ok(())
    }

    /// Learns the keys that these events will be opened with, in one call.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn foresee(&self, events: &[RecordedEvent]) -> Result<(), StoreError> {
        let personal = events.iter().filter(|event| self.catalog.personal(&event.event_type).is_some());
        let subjects: HashSet<&AggregateId> = personal.map(|event| &event.aggregate_id).collect();
        let unknown: Vec<_> = subjects.into_iter().filter(|id| self.held(id).is_none()).cloned().collect();
        self.load(&unknown).await.map(|_| ())
    }

    /// A payload as it is to be stored. `None`: it cannot be sealed.
    pub(crate) fn seal(
        &self,
        key: &SubjectKey,
        id: &AggregateId,
        event_type: &EventType,
        event_id: EventId,
        data: &Bytes,
    ) -> Option<Bytes> {
        let Some(members) = self.catalog.personal(event_type) else { return Some(data.clone()) };
        personal::seal(key, members, Place { aggregate_id: id, event_type, event_id }, data)
    }

    /// The subject's key, made and stored if there is none; whoever comes while one call is under way shares the next.
    ///
    /// Cancellation safe: what was asked for may be made all the same.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn make(&self, subject: &AggregateId) -> Result<KeyState, StoreError> {
        let (sender, mut made) = oneshot::channel();
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).push((subject.clone(), sender));
        let _making = self.making.lock().await;
        if let Ok(state) = made.try_recv() {
            return state;
        }
        loop {
            let waiting = {
                let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
                let count = queue.len().min(KEYS_PER_CALL);
                queue.drain(..count).collect::<Vec<_>>()
            };
            if waiting.is_empty() {
                // Ours went with somebody who was cut off while making it.
                let reason = "the key was not made".to_owned();
                return made.await.unwrap_or(Err(StoreError::Unavailable { reason }));
            }
            let result = self.make_all(waiting.iter().map(|(subject, _)| subject.clone()).collect()).await;
            for (index, (_, sender)) in waiting.into_iter().enumerate() {
                let state = result.as_ref().map_err(Clone::clone).map(|states| states.get(index).cloned());
                let _ = sender.send(state.map(|state| state.unwrap_or(KeyState::Absent)));
            }
            if let Ok(state) = made.try_recv() {
                return state;
            }
        }
    }

    async fn make_all(&self, subjects: Vec<AggregateId>) -> Result<Vec<KeyState>, StoreError> {
        let known = self.load(&subjects).await?;
        let Some((port, masters)) = &self.keys else { return Ok(known) };
        let mut new: Vec<(AggregateId, WrappedKey)> = Vec::new();
        for (subject, state) in subjects.iter().zip(&known) {
            if !matches!(state, KeyState::Absent) || new.iter().any(|(other, _)| other == subject) {
                continue;
            }
            let key = SubjectKey::random();
            let wrapped = masters
                .wrap(subject, &key)
                .ok_or_else(|| StoreError::Refused { reason: "a key could not be wrapped".to_owned() })?;
            new.push((subject.clone(), WrappedKey { id: key.id(), master: masters.current().to_owned(), wrapped }));
        }
        if new.is_empty() {
            return Ok(known);
        }
        let asked_at = Instant::now();
        for stored in port.create(&new).await? {
            self.remember(&stored.subject.clone(), Some(stored), asked_at)?;
        }
        let made = |(subject, before)| self.held(subject).unwrap_or(before);
        Ok(subjects.iter().zip(known).map(made).collect())
    }

    /// Reads keys, whether or not they are known, in the order asked.
    pub(crate) async fn load(&self, subjects: &[AggregateId]) -> Result<Vec<KeyState>, StoreError> {
        let mut states = Vec::with_capacity(subjects.len());
        let Some((port, _)) = &self.keys else { return Ok(vec![KeyState::Absent; subjects.len()]) };
        for subjects in subjects.chunks(KEYS_PER_CALL) {
            let asked_at = Instant::now();
            for (subject, stored) in subjects.iter().zip(port.find(subjects).await?) {
                states.push(self.remember(subject, stored, asked_at)?);
            }
        }
        Ok(states)
    }

    fn remember(
        &self,
        subject: &AggregateId,
        stored: Option<StoredKey>,
        asked_at: Instant,
    ) -> Result<KeyState, StoreError> {
        let state = match stored.map(|stored| stored.state) {
            None => KeyState::Absent,
            Some(StoredKeyState::Destroyed(_)) => KeyState::Destroyed,
            Some(StoredKeyState::Wrapped(wrapped)) => KeyState::Live(Arc::new(self.unwrap(subject, &wrapped)?)),
        };
        self.remembered().put(subject.clone(), state.clone(), asked_at);
        Ok(state)
    }

    fn unwrap(&self, subject: &AggregateId, wrapped: &WrappedKey) -> Result<SubjectKey, StoreError> {
        let masters = self.keys.as_ref().map(|(_, masters)| masters);
        let key = masters.and_then(|keys| keys.unwrap(&wrapped.master, subject, wrapped.id, &wrapped.wrapped));
        key.ok_or_else(|| StoreError::Corrupt {
            reason: format!(
                "the key of subject {:?} does not open: it was wrapped by master key {}",
                subject.as_str(),
                wrapped.master
            ),
        })
    }

    /// Destroys a subject's key, and returns when it was destroyed first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn destroy(&self, subject: &AggregateId) -> Result<chrono::DateTime<chrono::Utc>, StoreError> {
        let Some((port, _)) = &self.keys else {
            return Err(StoreError::Refused { reason: "this runtime keeps no keys of subjects".to_owned() });
        };
        let at = port.destroy(subject).await?;
        self.remembered().put(subject.clone(), KeyState::Destroyed, Instant::now());
        Ok(at)
    }

    /// What is stored of these subjects' keys, in order.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn stored(&self, subjects: &[AggregateId]) -> Result<Vec<Option<StoredKey>>, StoreError> {
        let Some((port, _)) = &self.keys else { return Ok(vec![None; subjects.len()]) };
        port.find(subjects).await
    }

    /// Up to `limit` subjects whose keys were destroyed, after this one.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn destroyed(&self, after: &Tombstone, limit: usize) -> Result<Vec<Tombstone>, StoreError> {
        let Some((port, _)) = &self.keys else { return Ok(Vec::new()) };
        port.destroyed(after, u32::try_from(limit).unwrap_or(u32::MAX)).await
    }

    /// Wraps everything that an older master key wrapped by the current one; returns how many.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn rewrap(&self) -> Result<u64, StoreError> {
        let Some((port, masters)) = &self.keys else { return Ok(0) };
        let mut count = 0;
        loop {
            let page = u32::try_from(KEYS_PER_CALL).unwrap_or(u32::MAX);
            let foreign = port.foreign(masters.current(), page).await?;
            let mut anew = Vec::with_capacity(foreign.len());
            for stored in foreign {
                let StoredKeyState::Wrapped(old) = stored.state else { continue };
                let key = self.unwrap(&stored.subject, &old)?;
                let Some(wrapped) = masters.wrap(&stored.subject, &key) else { continue };
                anew.push((stored.subject, WrappedKey { id: old.id, master: masters.current().to_owned(), wrapped }));
            }
            if anew.is_empty() {
                return Ok(count);
            }
            port.rewrap(&anew).await?;
            count += anew.len() as u64;
        }
    }

    fn remembered(&self) -> std::sync::MutexGuard<'_, Remembered> {
        self.remembered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
