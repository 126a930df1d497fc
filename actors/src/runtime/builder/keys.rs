//! What an embedder says about personal data.

use std::sync::Arc;

use super::{RuntimeBuilder, StartError};
use crate::{
    catalog::Catalog,
    erasure::Graveyard,
    limits::Limits,
    master_keys::MasterKeys,
    observe::{ObservedStore, Pulse},
    opened::OpenedStore,
    ports::{EventStore, Scrubber, SnapshotStore, StoreError, SubjectKeys, Tombstones},
    vault::Vault,
};

/// Who keeps the subjects' keys, and what opens them.
pub(super) type Keys = Option<(Arc<dyn SubjectKeys>, MasterKeys)>;

impl RuntimeBuilder {
    /// Sets where keys of subjects lie, and the master keys that wrap them; needed as soon as an aggregate declares
    /// personal members.
    #[must_use]
    pub fn subject_keys(mut self, keys: Arc<dyn SubjectKeys>, masters: MasterKeys) -> Self {
        self.keys = Some((keys, masters));
        self
    }

    /// Keeps keys in memory, for tests whose personal data nobody reads again.
    #[cfg(any(test, feature = "testing"))]
    #[must_use]
    pub fn throwaway_keys(self) -> Self {
        let store = crate::memory::MemoryStore::new(self.clock.clone());
        self.subject_keys(Arc::new(store), MasterKeys::random())
    }

    /// Opens nothing personal, for a look at what is stored by who has no key: personal members are read as ciphertext, so
    /// states that need them cannot be made, and none can be recorded.
    #[must_use]
    pub fn sealed(mut self) -> Self {
        self.is_sealed = true;
        self
    }

    /// Sets where it is remembered, outside of the database, whose keys were destroyed: what a database brings back that
    /// is restored from an older backup is then erased again.
    #[must_use]
    pub fn tombstones(mut self, tombstones: Arc<dyn Tombstones>) -> Self {
        self.tombstones = Some(tombstones);
        self
    }

    /// Whether this process goes on with erasures that others left behind, as it does unless told.
    #[must_use]
    pub fn look_after_erasures(mut self, looks: bool) -> Self {
        self.looks_after_erasures = looks;
        self
    }

    /// Adds a database that erasures have to scrub: that of the events, and that of the read models if it is another.
    #[must_use]
    pub fn scrubber(mut self, scrubber: Arc<dyn Scrubber>) -> Self {
        self.scrubbers.push(scrubber);
        self
    }
}

impl RuntimeBuilder {
    /// The log, once it is certain that personal members can be sealed, and that nothing erased has come back.
    pub(super) async fn stores(&mut self, catalog: &Arc<Catalog>, pulse: &Arc<Pulse>) -> Result<Stores, StartError> {
        check(catalog, &self.keys, self.is_sealed).await?;
        let measured = ObservedStore { inner: self.store.clone(), metrics: self.metrics.clone(), pulse: pulse.clone() };
        let keys = (self.keys.take(), self.tombstones.take());
        Ok(Stores::new(measured, catalog, keys, &*self.snapshots, &self.limits).await?)
    }
}

/// The log, as it is stored and as it is read.
pub(super) struct Stores {
    pub sealed: Arc<dyn EventStore>,
    pub store: Arc<dyn EventStore>,
    pub vault: Arc<Vault>,
    pub graveyard: Graveyard,
}

impl Stores {
    /// Nothing is readable through them that was ever erased.
    async fn new(
        measured: ObservedStore,
        catalog: &Arc<Catalog>,
        (keys, tombstones): (Keys, Option<Arc<dyn Tombstones>>),
        snapshots: &dyn SnapshotStore,
        limits: &Limits,
    ) -> Result<Self, StoreError> {
        let vault = Vault::new(catalog.clone(), keys, limits.subject_key_life, limits.subject_keys_max);
        let (sealed, vault): (Arc<dyn EventStore>, _) = (Arc::new(measured), Arc::new(vault));
        let store = Arc::new(OpenedStore { inner: sealed.clone(), vault: vault.clone() });
        let graveyard = Graveyard::new(&vault, tombstones);
        match graveyard.bury(snapshots).await? {
            0 => {}
            keys => {
                tracing::warn!(keys, "keys of erased people had come back with the database, and are destroyed again")
            }
        }
        Ok(Self { sealed, store, vault, graveyard })
    }
}

/// Makes sure that personal members can be sealed, and by a master key that every process has.
async fn check(catalog: &Catalog, keys: &Keys, is_sealed: bool) -> Result<(), StartError> {
    let Some((port, masters)) = keys else {
        return if catalog.has_personal() && !is_sealed { Err(StartError::NoSubjectKeys) } else { Ok(()) };
    };
    let others: Vec<String> = masters.ids().skip(1).map(str::to_owned).collect();
    let current = port.appoint(&others, masters.current()).await?;
    if masters.ids().any(|id| id == current) {
        return Ok(());
    }
    Err(StartError::ForeignMasterKey { needed: current, current: masters.current().to_owned() })
}
