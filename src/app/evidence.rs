//! Evidence against tampering, as the settings say.

use std::{sync::Arc, time::Duration};

use event_sourcing_actors::{Runtime, ports::SystemClock};
use uuid::Uuid;

use super::{AppError, Storage};
use crate::{
    integrity::{Integrity, Parts, vault::Vault},
    settings::{Database, Settings},
};

/// Where the settings say that keys and checkpoints of a store are.
#[must_use]
pub fn vault(settings: &Settings, store_id: Uuid) -> Vault {
    let targets = settings.integrity.targets.clone();
    let vault = match settings.event_store.database_url {
        Database::Memory => Vault::in_memory(store_id, targets),
        _ => Vault::in_folder(settings.integrity_directory(), store_id, targets),
    };
    vault.patience(Duration::from_millis(settings.integrity.target_timeout_ms))
}

/// Begins to seal, or only makes ready to look.
pub(super) async fn start(
    settings: &Settings,
    storage: &Storage,
    runtime: &Runtime,
    views: &Storage,
    seals: bool,
) -> Result<Option<Arc<Integrity>>, AppError> {
    if !settings.integrity.enabled {
        return Ok(None);
    }
    let store = storage.tree();
    let (folder, vault) = (settings.integrity_directory(), vault(settings, store.tree_id()));
    let parts = Parts {
        store,
        vault,
        views: views.views(),
        clock: Arc::new(SystemClock),
        registry: runtime.metrics().registry().clone(),
        interval: Duration::from_millis(settings.integrity.interval_ms),
        lease: Duration::from_millis(settings.integrity.lease_ms),
    };
    if !seals {
        return Ok(Some(Integrity::look(parts)));
    }
    let started = Integrity::start(parts).await;
    started.map(Some).map_err(|source| AppError::Integrity { folder: folder.display().to_string(), source })
}
