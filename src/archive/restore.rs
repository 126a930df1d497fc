//! Putting a backup into an empty store, as it was: verified while it is read, and again as it then lies there.

use std::{collections::BTreeMap, io::Read, sync::Arc};

use chrono::{DateTime, Utc};
use event_sourcing_actors::{
    AggregateId,
    erasure::told_by,
    ports::{Clock, StoreError, Tombstone},
};
use serde::Serialize;
use tokio::{
    runtime::Handle,
    sync::mpsc::{Receiver, Sender, channel},
    task::JoinHandle,
};
use uuid::Uuid;

use super::{
    audit::{Audit, Lookup},
    content::Manifest,
    frame::FileError,
    inspect::{Opened, ReadError},
    port::{Refused, RestoreEnd, RestoreMark, RestorePage, RestoreStore},
};
use crate::integrity::{
    FirstBad, Progress, Report, VerifyError, Wanted,
    note::Origin,
    port::{StoredRow, StoredRows, TreeStore},
    proofs,
    tree::Hash,
    vault::{Moved, Vault},
    verify,
};

/// Pages between the one who reads and the one who stores.
const PAGES_AHEAD: usize = 4;

/// Why a backup was not restored. Unless [`Refused`], what was begun can be gone on with, or discarded.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The file is none, or is damaged.
    #[error(transparent)]
    File(#[from] FileError),
    /// The events in it are not what was recorded.
    #[error("the backup was altered: {}", .0.sentence())]
    Altered(FirstBad),
    /// It does not begin.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// What lies in the store afterwards is not what was restored.
    #[error("what was stored is not what was in the backup: {0}")]
    Unsound(String),
    /// The folder of the evidence cannot be used.
    #[error("the folder of the evidence cannot be used: {0}")]
    Folder(std::io::Error),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Somebody gave it up.
    #[error("given up")]
    Cancelled,
}

/// What was restored.
#[derive(Debug, Clone, Serialize)]
pub struct Restored {
    /// The backup.
    pub backup_id: Uuid,
    /// The id of the store it was of, and of the store that now holds it.
    pub store_id: Uuid,
    /// The last position.
    pub head_position: u64,
    /// The root of the tree over all events, hexadecimal: that of the backup, and of the store.
    pub tree_root: String,
    /// The position after which an earlier attempt had left off; 0 = none.
    pub resumed_after: u64,
    /// What the verification of the store afterwards has found.
    pub report: Report,
    /// A checkpoint here that covers more than was restored: the log will take no appends until an operator accepts that.
    pub newer_checkpoint: Option<u64>,
}

/// What was read to the end.
struct ReadToEnd {
    size: u64,
    root: Hash,
    pages: RestorePage,
    /// Those of whom the log says that they were erased; the last to be told of each.
    erased: BTreeMap<AggregateId, DateTime<Utc>>,
}

/// Restores a backup.
///
/// `vault` makes the folder of the evidence for the store's id. `progress` is told twice from the beginning: of events
/// stored, then of events verified.
///
/// # Errors
/// [`RestoreError`].
pub async fn restore<R: Read + Send + 'static>(
    from: R,
    store: Arc<dyn RestoreStore>,
    vault: impl FnOnce(Uuid) -> Vault,
    clock: &dyn Clock,
    progress: Progress<'_>,
) -> Result<Restored, RestoreError> {
    let opened = blocking(move || Opened::open(from)).await?;
    let (manifest, moved) = (opened.manifest.clone(), opened.moved.clone());
    let Manifest { backup_id, store_id, head_position, acceptances, .. } = manifest;
    let resumed_after = store.begin_restore(RestoreMark { backup_id, store_id, head_position }).await?;

    let (sender, receiver) = channel(PAGES_AHEAD);
    let tree: Arc<dyn TreeStore> = store.clone();
    let reading = read(opened, Lookup { store: tree.clone(), handle: Handle::current() }, sender);
    let stored = keep(&*store, receiver, resumed_after, head_position, progress).await;
    let read = reading.await.unwrap_or_else(|error| Err(ReadError::File(std::io::Error::other(error).into())));
    stored?;
    let ReadToEnd { size, root, pages, erased } = read?;
    store.restore_page(pages).await?;
    let newest = moved.checkpoints.last().map(|newest| newest.note.clone());
    store.seal_restore(RestoreEnd { size, acceptances, checkpoint: newest }).await?;

    let wanted = Wanted { outside: moved.checkpoints.clone(), ..Wanted::default() };
    let report = verify(&*tree, clock, wanted, progress).await?;
    if let Some(bad) = &report.first_bad {
        return Err(RestoreError::Unsound(bad.sentence()));
    }
    if report.head_position != size || proofs::root(&*tree, size).await? != Some(root) {
        return Err(RestoreError::Unsound("its tree has another root".to_owned()));
    }
    let vault = vault(store_id);
    let newest_here = adopt(vault, moved, Origin { store_id, acceptances }).await.map_err(RestoreError::Folder)?;
    let erased = erased.into_iter().map(|(subject, destroyed_at)| Tombstone { destroyed_at, subject });
    store.finish_restore(&erased.collect::<Vec<_>>()).await?;
    Ok(Restored {
        backup_id,
        store_id,
        head_position,
        tree_root: hex::encode(root),
        resumed_after,
        report,
        newer_checkpoint: newest_here
            .filter(|(is_other, newest)| *is_other || *newest > size)
            .map(|(_, newest)| newest),
    })
}

/// The newest checkpoint here: whether it is of another origin, and what it covers.
async fn adopt(vault: Vault, moved: Moved, origin: Origin) -> std::io::Result<Option<(bool, u64)>> {
    let adopted = tokio::task::spawn_blocking(move || vault.adopt(&moved, origin)).await;
    let newest = adopted.unwrap_or_else(|error| Err(std::io::Error::other(error)))?;
    Ok(newest.map(|newest| (newest.checkpoint.origin != origin, newest.checkpoint.head.size)))
}

fn read<R: Read + Send + 'static>(
    opened: Opened<R>,
    lookup: Lookup,
    sender: Sender<RestorePage>,
) -> JoinHandle<Result<ReadToEnd, ReadError>> {
    tokio::task::spawn_blocking(move || {
        let mut audit = Audit::new(opened.moved.checkpoints.clone(), Some(lookup));
        let mut erased = BTreeMap::new();
        opened.read(&mut audit, |rows, tiles| {
            erased.extend(rows.iter().filter_map(|row| told(&row)).map(|one| (one.subject, one.destroyed_at)));
            sender.blocking_send(RestorePage { rows, tiles }).is_ok()
        })?;
        let pages = RestorePage { rows: StoredRows::default(), tiles: audit.open_tiles() };
        Ok(ReadToEnd { size: audit.size(), root: audit.root(), pages, erased })
    })
}

/// Whom an event says to be erased.
fn told(row: &StoredRow<'_>) -> Option<Tombstone> {
    let event_type = std::str::from_utf8(row.event_type).ok()?;
    let subject = || AggregateId::new(std::str::from_utf8(row.aggregate_id).ok()?).ok();
    told_by(event_type, subject, row.data, DateTime::from_timestamp_micros(row.recorded_at)?)
}

/// Stores what comes, but for what is there already.
async fn keep(
    store: &dyn RestoreStore,
    mut pages: Receiver<RestorePage>,
    there: u64,
    head: u64,
    progress: Progress<'_>,
) -> Result<(), RestoreError> {
    let mut done = 0;
    while let Some(mut page) = pages.recv().await {
        done += page.rows.len() as u64;
        page.rows.retain_after(there.cast_signed());
        if !page.rows.is_empty() || !page.tiles.is_empty() {
            store.restore_page(page).await?;
        }
        if !progress(done, head) {
            return Err(RestoreError::Cancelled);
        }
    }
    Ok(())
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, FileError> + Send + 'static,
) -> Result<T, FileError> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(std::io::Error::other(error).into()))
}

impl From<ReadError> for RestoreError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::File(error) => Self::File(error),
            ReadError::Bad(bad) => Self::Altered(bad),
            ReadError::Store(error) => Self::Store(error),
            ReadError::Stopped => Self::Cancelled,
        }
    }
}

impl From<VerifyError> for RestoreError {
    fn from(error: VerifyError) -> Self {
        match error {
            VerifyError::Store(error) => Self::Store(error),
            VerifyError::Cancelled => Self::Cancelled,
            VerifyError::Checkpoint(reason) => Self::Unsound(reason),
        }
    }
}
