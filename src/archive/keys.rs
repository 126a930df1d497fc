//! Taking keys of subjects out of a store and putting them back: wrapped as they are, apart from the log's backup, and never
//! a key of somebody who was erased.
//!
//! Three places say who that is, and each is enough: the store's own rows, the list outside of the database, and the log.
//! They are asked before the first key comes back, and a destruction is put down where it is missing.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    num::NonZeroU32,
    sync::Arc,
};

use chrono::{DateTime, Utc};
use event_sourcing_actors::{
    AggregateId, EventFilter, Position, Sequence,
    erasure::told,
    master_keys::MasterKeys,
    personal::SUBJECT_ERASED,
    ports::{
        Clock, EventStore, SnapshotStore, StoreError, StoredKey, StoredKeyState, SubjectKeys, Tombstones, WrappedKey,
    },
};
use serde::Serialize;
use uuid::Uuid;

use super::{
    frame::FileError,
    key_file::{KeyManifest, KeyReader, KeyWriter},
};
use crate::integrity::Progress;

/// Keys of a part of the file, and of a transaction.
const PAGE: u32 = 1_000;
/// Events examined at once for what they say of erasures.
const EVENTS: NonZeroU32 = NonZeroU32::MIN.saturating_add(999);

/// Why keys were not taken out or put back.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The file is none, or is damaged.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file cannot be written.
    #[error("the key file cannot be written: {0}")]
    Write(std::io::Error),
    /// The keys are of another store.
    #[error("the keys are of store {of}, and this is store {here}: they open nothing here")]
    OtherStore {
        /// Whose they are.
        of: Uuid,
        /// This one.
        here: Uuid,
    },
    /// They were wrapped by a master key that is not here.
    #[error("the keys were wrapped by master key {needed}, and the master key file here {}", words(.held))]
    ForeignMaster {
        /// That master key.
        needed: String,
        /// Those that are here.
        held: Vec<String>,
    },
    /// Keys of this store were.
    #[error("keys of this store were wrapped by master key {needed}, and the master key file here {}", words(.held))]
    StandingMaster {
        /// That master key.
        needed: String,
        /// Those that are here.
        held: Vec<String>,
    },
    /// A key is not what its master key wrapped.
    #[error("the key of {:?} does not open under master key {master}, which wrapped it: take another copy of the file", .subject.as_str())]
    Unopenable {
        /// Whose.
        subject: AggregateId,
        /// The master key.
        master: String,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Somebody gave it up.
    #[error("given up")]
    Cancelled,
}

fn words(held: &[String]) -> String {
    if held.is_empty() { "is missing".to_owned() } else { format!("holds {}", held.join(", ")) }
}

/// Where keys are taken from.
#[derive(Debug)]
pub struct KeySource {
    /// The keys.
    pub keys: Arc<dyn SubjectKeys>,
    /// The store's id.
    pub store_id: Uuid,
    /// Which kind of store it is.
    pub kind: &'static str,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

/// What was taken out.
#[derive(Debug, Clone, Serialize)]
pub struct KeysBackedUp {
    /// The file's own id.
    pub file_id: Uuid,
    /// The store they are of.
    pub store_id: Uuid,
    /// When it was begun.
    pub created_at: DateTime<Utc>,
    /// The names of the master keys that wrap them.
    pub masters: Vec<String>,
    /// Keys in it.
    pub keys: u64,
    /// Those of whom it says that their key was destroyed.
    pub destroyed: u64,
    /// Bytes of it.
    pub bytes: u64,
    /// The digest of its last frame, which covers all of it, hexadecimal.
    pub digest: String,
}

/// Writes every key as it is wrapped, and who has none any more, and gives back where it was written to, flushed but not
/// synchronised. No master key is needed. A key that is made or destroyed meanwhile may be in it either way.
///
/// # Errors
/// [`KeysError`]; what was written then is no key file.
pub async fn back_up_keys<W: Write + Send + 'static>(
    source: KeySource,
    out: W,
    progress: Progress<'_>,
) -> Result<(KeysBackedUp, W), KeysError> {
    let KeySource { keys, store_id, kind, clock } = source;
    let census = keys.census().await?;
    let total = census.keys() + census.destroyed;
    let manifest = KeyManifest {
        file_id: Uuid::now_v7(),
        store_id,
        store_kind: kind.to_owned(),
        program: env!("CARGO_PKG_VERSION").to_owned(),
        created_at: clock.now(),
        masters: census.wrapped.into_iter().map(|(master, _)| master).collect(),
        keys: total,
    };
    let begun = manifest.clone();
    let mut writer = blocking(move || KeyWriter::begin(out, &begun).map_err(KeysError::Write)).await?;
    let (mut after, mut done) = (None::<AggregateId>, 0);
    loop {
        let page = keys.list(after.as_ref(), PAGE).await?;
        let Some(last) = page.last() else { break };
        (after, done) = (Some(last.subject.clone()), done + page.len() as u64);
        writer = blocking(move || writer.write(&page).map(|()| writer).map_err(KeysError::Write)).await?;
        if !progress(done, total.max(done)) {
            return Err(KeysError::Cancelled);
        }
    }
    let (end, bytes, digest, out) = blocking(move || writer.end().map_err(KeysError::Write)).await?;
    let KeyManifest { file_id, created_at, masters, .. } = manifest;
    let (keys, destroyed, digest) = (end.keys, end.destroyed, hex::encode(digest));
    Ok((KeysBackedUp { file_id, store_id, created_at, masters, keys, destroyed, bytes, digest }, out))
}

/// Where keys are put back.
#[derive(Debug)]
pub struct KeyPlace {
    /// The keys.
    pub keys: Arc<dyn SubjectKeys>,
    /// The log, as it is stored.
    pub events: Arc<dyn EventStore>,
    /// Its snapshots.
    pub snapshots: Arc<dyn SnapshotStore>,
    /// Who is known outside of the database to be erased.
    pub tombstones: Option<Arc<dyn Tombstones>>,
    /// What opens the keys, if there is anything.
    pub masters: Option<MasterKeys>,
    /// The store's id.
    pub store_id: Uuid,
}

/// What became of the keys of a file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct KeysRestored {
    /// The file.
    pub file_id: Uuid,
    /// The store.
    pub store_id: Uuid,
    /// Keys put back, or, in a dry run, that would be.
    pub restored: u64,
    /// Keys that were there.
    pub already_there: u64,
    /// Keys of people who were erased: left out for ever.
    pub erased: u64,
    /// Keys of people who have got another one here since, which stays.
    pub replaced: u64,
    /// People of whom this store did not know yet that they were erased.
    pub newly_erased: u64,
    /// Whether nothing was stored.
    pub dry_run: bool,
}

/// Puts the keys of a file back. Each is opened first. A file that is damaged further on, or a fault, leaves what came
/// before: doing it again goes on.
///
/// Nobody may work on the store meanwhile who has read without these keys.
///
/// # Errors
/// [`KeysError`].
pub async fn restore_keys<R: Read + Send + 'static>(
    from: R,
    place: KeyPlace,
    dry_run: bool,
    progress: Progress<'_>,
) -> Result<KeysRestored, KeysError> {
    let (reader, manifest) = blocking(move || KeyReader::begin(from).map_err(KeysError::File)).await?;
    place.fits(&manifest).await?;
    let mut work = Restoring { place, erased: BTreeMap::new(), done: KeysRestored { dry_run, ..Default::default() } };
    (work.done.file_id, work.done.store_id) = (manifest.file_id, manifest.store_id);
    work.learn_erased().await?;
    work.bury().await?;
    let (mut reader, mut done) = (Some(reader), 0);
    while let Some(rest) = reader.take() {
        let (rest, page) = blocking(move || rest.next().map_err(KeysError::File)).await?;
        reader = rest;
        done += page.len() as u64;
        work.take(page).await?;
        if !progress(done, manifest.keys.max(done)) {
            return Err(KeysError::Cancelled);
        }
    }
    if !dry_run {
        work.place.appoint().await?;
    }
    Ok(work.done)
}

impl KeyPlace {
    /// The names of the master keys that are here, the current one first.
    fn held(&self) -> Vec<String> {
        self.masters.iter().flat_map(MasterKeys::ids).map(str::to_owned).collect()
    }

    /// Whether keys of this file open here. Nothing was changed yet.
    async fn fits(&self, manifest: &KeyManifest) -> Result<(), KeysError> {
        if manifest.store_id != self.store_id {
            return Err(KeysError::OtherStore { of: manifest.store_id, here: self.store_id });
        }
        let held = self.held();
        if let Some(needed) = manifest.masters.iter().find(|master| !held.contains(master)) {
            return Err(KeysError::ForeignMaster { needed: needed.clone(), held });
        }
        let census = self.keys.census().await?;
        match census.wrapped.into_iter().map(|(master, _)| master).find(|master| !held.contains(master)) {
            Some(needed) => Err(KeysError::StandingMaster { needed, held }),
            None => Ok(()),
        }
    }

    fn check(&self, subject: &AggregateId, key: &WrappedKey) -> Result<(), KeysError> {
        let WrappedKey { id, master, wrapped } = key;
        let held = self.held();
        if !held.contains(master) {
            // As when it was rotated while the file was made.
            return Err(KeysError::ForeignMaster { needed: master.clone(), held });
        }
        match self.masters.as_ref().and_then(|masters| masters.unwrap(master, subject, *id, wrapped)) {
            Some(_) => Ok(()),
            None => Err(KeysError::Unopenable { subject: subject.clone(), master: master.clone() }),
        }
    }

    /// Names the master key that servers are to have: one that wraps nothing here, as a word made it that ran before the
    /// right one was here, is let go of.
    async fn appoint(&self) -> Result<(), KeysError> {
        let held = self.held();
        let Some((current, others)) = held.split_first() else { return Ok(()) };
        let census = self.keys.census().await?;
        let wraps = |master: &String| census.wrapped.iter().any(|(name, _)| name == master);
        let idle = census.current.iter().filter(|current| !wraps(current));
        let from: Vec<String> = others.iter().chain(idle).cloned().collect();
        self.keys.appoint(&from, current).await?;
        Ok(())
    }
}

struct Restoring {
    place: KeyPlace,
    /// Who was erased, and when the key was destroyed.
    erased: BTreeMap<AggregateId, DateTime<Utc>>,
    done: KeysRestored,
}

impl Restoring {
    async fn learn_erased(&mut self) -> Result<(), KeysError> {
        if let Some(tombstones) = &self.place.tombstones {
            let outside = tombstones.all().await?;
            self.erased.extend(outside.into_iter().map(|one| (one.subject, one.destroyed_at)));
        }
        let event_types = SUBJECT_ERASED.try_into().into_iter().collect();
        let (filter, mut after) = (EventFilter { event_types, ..EventFilter::default() }, Position::ZERO);
        loop {
            let page = self.place.events.read_all(after, &filter, EVENTS).await?;
            // The log's own word of the instant counts: by it the erasure is known to be done.
            self.erased.extend(page.events.iter().filter_map(told).map(|one| (one.subject, one.destroyed_at)));
            if page.examined == after {
                return Ok(());
            }
            after = page.examined;
        }
    }

    /// Puts down who was erased, before any key comes back.
    async fn bury(&mut self) -> Result<(), KeysError> {
        let all: Vec<StoredKey> = (self.erased.iter())
            .map(|(subject, at)| StoredKey { subject: subject.clone(), state: StoredKeyState::Destroyed(*at) })
            .collect();
        for page in all.chunks(PAGE as usize) {
            let before = self.place.keys.find(&subjects(page)).await?;
            let is_news = |before: &Option<StoredKey>| !before.as_ref().is_some_and(is_destroyed);
            let news: Vec<StoredKey> =
                page.iter().zip(&before).filter(|(_, before)| is_news(before)).map(|(key, _)| key.clone()).collect();
            self.put(&news).await?;
            self.done.newly_erased += news.len() as u64;
        }
        Ok(())
    }

    async fn take(&mut self, page: Vec<StoredKey>) -> Result<(), KeysError> {
        let before = self.place.keys.find(&subjects(&page)).await?;
        let mut put = Vec::with_capacity(page.len());
        for (key, before) in page.into_iter().zip(before) {
            let is_erased = before.as_ref().is_some_and(is_destroyed) || self.erased.contains_key(&key.subject);
            match (&key.state, before.map(|before| before.state)) {
                (StoredKeyState::Wrapped(_), _) if is_erased => self.done.erased += 1,
                (StoredKeyState::Destroyed(_), _) if is_erased => {}
                (StoredKeyState::Destroyed(_), _) => {
                    self.done.newly_erased += 1;
                    put.push(key);
                }
                (StoredKeyState::Wrapped(wrapped), Some(StoredKeyState::Wrapped(there))) => {
                    let count =
                        if wrapped.id == there.id { &mut self.done.already_there } else { &mut self.done.replaced };
                    *count += 1;
                }
                (StoredKeyState::Wrapped(wrapped), _) => {
                    self.place.check(&key.subject, wrapped)?;
                    self.done.restored += 1;
                    put.push(key);
                }
            }
        }
        self.put(&put).await
    }

    /// Stores keys and destructions; snapshots that were made without a key, or with one that is no more, go. They go first:
    /// a key that is stored already is passed over when the work is done again.
    async fn put(&self, keys: &[StoredKey]) -> Result<(), KeysError> {
        if self.done.dry_run || keys.is_empty() {
            return Ok(());
        }
        for StoredKey { subject, .. } in keys {
            if self.place.snapshots.latest(subject, Sequence(u64::MAX)).await?.is_some() {
                self.place.snapshots.discard(subject, Sequence(1)).await?;
            }
        }
        self.place.keys.put_back(keys).await?;
        Ok(())
    }
}

fn is_destroyed(key: &StoredKey) -> bool {
    matches!(key.state, StoredKeyState::Destroyed(_))
}

fn subjects(keys: &[StoredKey]) -> Vec<AggregateId> {
    keys.iter().map(|key| key.subject.clone()).collect()
}

/// Work on a file, away from the runtime's workers.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, KeysError> + Send + 'static,
) -> Result<T, KeysError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(KeysError::File(std::io::Error::other(error).into())))
}
