//! What an embedder says about personal data.

use std::sync::Arc;

use super::{RuntimeBuilder, StartError};
use crate::{
    catalog::Catalog,
    limits::Limits,
    master_keys::MasterKeys,
    observe::ObservedStore,
    opened::OpenedStore,
    ports::{EventStore, Scrubber, SubjectKeys},
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

    /// Adds a database that erasures have to scrub: that of the events, and that of the read models if it is another.
    #[must_use]
    pub fn scrubber(mut self, scrubber: Arc<dyn Scrubber>) -> Self {
        self.scrubbers.push(scrubber);
        self
    }
}

/// The log, as it is stored and as it is read.
pub(super) struct Stores {
    pub sealed: Arc<dyn EventStore>,
    pub store: Arc<dyn EventStore>,
    pub vault: Arc<Vault>,
}

impl Stores {
    pub fn new(measured: ObservedStore, catalog: &Arc<Catalog>, keys: Keys, limits: &Limits) -> Self {
        let vault = Vault::new(catalog.clone(), keys, limits.subject_key_life, limits.subject_keys_max);
        let (sealed, vault): (Arc<dyn EventStore>, _) = (Arc::new(measured), Arc::new(vault));
        let store = Arc::new(OpenedStore { inner: sealed.clone(), vault: vault.clone() });
        Self { sealed, store, vault }
    }
}

/// Makes sure that personal members can be sealed, and by a master key that every process has.
pub(super) async fn check(catalog: &Catalog, keys: &Keys) -> Result<(), StartError> {
    let Some((port, masters)) = keys else {
        return if catalog.has_personal() { Err(StartError::NoSubjectKeys) } else { Ok(()) };
    };
    let others: Vec<String> = masters.ids().skip(1).map(str::to_owned).collect();
    let current = port.appoint(&others, masters.current()).await?;
    if masters.ids().any(|id| id == current) {
        return Ok(());
    }
    Err(StartError::ForeignMasterKey { needed: current, current: masters.current().to_owned() })
}
