//! Making a backup while the log grows: a prefix of it, up to the head at the beginning.
//!
//! The log is append-only, so its events up to a position are the same at any later time: pages are read one after the
//! other, and no transaction stays open. A thread of its own checks, packs and writes what was read.

use std::{io::Write, sync::Arc};

use chrono::{DateTime, Utc};
use event_sourcing_actors::ports::{Clock, StoreError};
use serde::Serialize;
use tokio::{
    runtime::Handle,
    sync::mpsc::{Receiver, Sender, channel},
};
use uuid::Uuid;

use super::{
    audit::{Audit, AuditError, Lookup},
    content::{End, Evidence, Manifest},
    frame::{Family, Kind, Writer},
    rows::{pack, packed_bytes},
};
use crate::integrity::{
    FirstBad, Progress,
    pages::Pages,
    port::{StoredRows, TreeStore},
    vault::{Moved, Vault},
};

/// Bytes of events in a frame, unless one event alone is larger.
const FRAME_BYTES: usize = 1 << 20;
/// Pages between the one who reads and the one who writes.
const PAGES_AHEAD: usize = 4;

/// What a backup is made of.
#[derive(Debug)]
pub struct Source {
    /// The log.
    pub store: Arc<dyn TreeStore>,
    /// Which kind of store it is in.
    pub kind: &'static str,
    /// The schema of its tables.
    pub schema: Option<i64>,
    /// Where its keys and checkpoints are.
    pub vault: Vault,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Whether the secret key goes along.
    pub with_signing_key: bool,
}

/// Why there is no backup.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The log is not what was recorded.
    #[error("the log was altered, so no backup was made: {}; `event-sourcing-cqrs verify` tells more", .0.sentence())]
    Altered(FirstBad),
    /// The folder of the evidence cannot be read.
    #[error("the folder of the evidence cannot be used: {0}")]
    Folder(std::io::Error),
    /// The file cannot be written.
    #[error("the backup cannot be written: {0}")]
    Write(std::io::Error),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Somebody gave it up.
    #[error("given up")]
    Cancelled,
}

/// What was backed up.
#[derive(Debug, Clone, Serialize)]
pub struct BackupSummary {
    /// The backup's own id.
    pub backup_id: Uuid,
    /// The store it is of.
    pub store_id: Uuid,
    /// When it was begun.
    pub created_at: DateTime<Utc>,
    /// Its last position.
    pub head_position: u64,
    /// The root of the tree over it, hexadecimal.
    pub tree_root: String,
    /// The largest checkpoint it was held against.
    pub checkpoint_position: Option<u64>,
    /// Bytes of it.
    pub bytes: u64,
    /// The digest of its last frame, which covers all of it, hexadecimal.
    pub digest: String,
}

enum Item {
    Rows(StoredRows),
    /// All was read; without it the backup has no end.
    Done,
}

/// Writes a backup, and gives back where it was written to, flushed but not synchronised.
///
/// Every event is checked on the way, and the tree over them must have the root of every checkpoint outside.
///
/// # Errors
/// [`BackupError`]; what was written then is no backup.
pub async fn back_up<W: Write + Send + 'static>(
    source: Source,
    out: W,
    progress: Progress<'_>,
) -> Result<(BackupSummary, W), BackupError> {
    let Source { store, kind, schema, vault, clock, with_signing_key } = source;
    // Checkpoints first, the database after: an honest log is never behind them.
    let moved = tokio::task::spawn_blocking(move || vault.moved(with_signing_key)).await;
    let moved = moved.unwrap_or_else(|error| Err(std::io::Error::other(error))).map_err(BackupError::Folder)?;
    let state = store.tree().await?;
    if let Some(newest) = moved.checkpoints.last().map(|newest| newest.checkpoint.head.size)
        && newest > state.head
    {
        let reason = format!("the event is missing: the log ends at {}, a checkpoint covers {newest}", state.head);
        return Err(BackupError::Altered(FirstBad { position: state.head + 1, to_position: None, reason }));
    }
    let manifest = Manifest {
        backup_id: Uuid::now_v7(),
        store_id: store.tree_id(),
        store_kind: kind.to_owned(),
        schema,
        program: env!("CARGO_PKG_VERSION").to_owned(),
        created_at: clock.now(),
        head_position: state.head,
        acceptances: state.acceptances,
        read_only: state.is_read_only,
    };
    let (sender, receiver) = channel(PAGES_AHEAD);
    let lookup = Lookup { store: store.clone(), handle: Handle::current() };
    let writing = {
        let manifest = manifest.clone();
        tokio::task::spawn_blocking(move || write(out, &manifest, moved, lookup, receiver))
    };
    let read = read(&*store, manifest.head_position, &sender, progress).await;
    drop(sender);
    let written = writing.await.unwrap_or_else(|error| Err(BackupError::Write(std::io::Error::other(error))));
    match (read, written) {
        (Err(error), _) => Err(error),
        (Ok(()), written) => written,
    }
}

/// Reads up to a head. Ends early without an error when the writer has ended: that one tells why.
async fn read(
    store: &dyn TreeStore,
    head: u64,
    sender: &Sender<Item>,
    progress: Progress<'_>,
) -> Result<(), BackupError> {
    let mut pages = Pages::from(store, i64::MIN);
    let mut done = 0;
    while done < head {
        let mut rows = pages.next().await?;
        rows.retain_up_to(head.cast_signed());
        let Some(last) = rows.iter().last().map(|row| row.position) else {
            let reason = "the event is missing".to_owned();
            return Err(BackupError::Altered(FirstBad { position: done + 1, to_position: None, reason }));
        };
        done = u64::try_from(last).unwrap_or(0);
        if sender.send(Item::Rows(rows)).await.is_err() {
            return Ok(());
        }
        if !progress(done, head) {
            return Err(BackupError::Cancelled);
        }
    }
    let _ = sender.send(Item::Done).await;
    Ok(())
}

fn write<W: Write>(
    out: W,
    manifest: &Manifest,
    moved: Moved,
    lookup: Lookup,
    mut items: Receiver<Item>,
) -> Result<(BackupSummary, W), BackupError> {
    let mut writer = Writer::begin(out, Family::Backup).map_err(BackupError::Write)?;
    let evidence = Evidence {
        keys: moved.keys.iter().map(ToString::to_string).collect(),
        checkpoints: moved.checkpoints.iter().map(|signed| signed.note.clone()).collect(),
        signing_key: moved.signing_key,
    };
    put(&mut writer, Kind::Manifest, manifest)?;
    put(&mut writer, Kind::Evidence, &evidence)?;
    let mut audit = Audit::new(moved.checkpoints, Some(lookup));
    let mut frame = Vec::with_capacity(FRAME_BYTES);
    loop {
        match items.blocking_recv() {
            None => return Err(BackupError::Cancelled),
            Some(Item::Done) => break,
            Some(Item::Rows(rows)) => {
                for row in rows.iter() {
                    audit.take_one(&row)?;
                    if !frame.is_empty() && frame.len() + packed_bytes(&row) > FRAME_BYTES {
                        writer.write(Kind::Events, &frame).map_err(BackupError::Write)?;
                        frame.clear();
                    }
                    let too_large = || std::io::Error::other("an event is larger than a backup takes");
                    pack(&mut frame, &row).ok_or_else(too_large).map_err(BackupError::Write)?;
                }
                // The tree's tiles are not needed here.
                drop(audit.full_tiles());
            }
        }
    }
    if !frame.is_empty() {
        writer.write(Kind::Events, &frame).map_err(BackupError::Write)?;
    }
    let tree_root = hex::encode(audit.root());
    let digest = put(&mut writer, Kind::End, &End { events: audit.size(), tree_root: tree_root.clone() })?;
    let summary = BackupSummary {
        backup_id: manifest.backup_id,
        store_id: manifest.store_id,
        created_at: manifest.created_at,
        head_position: manifest.head_position,
        tree_root,
        checkpoint_position: audit.met().0,
        bytes: writer.written(),
        digest: hex::encode(digest),
    };
    Ok((summary, writer.end().map_err(BackupError::Write)?))
}

fn put<W: Write, T: Serialize>(writer: &mut Writer<W>, kind: Kind, content: &T) -> Result<[u8; 32], BackupError> {
    let content = serde_json::to_vec(content).map_err(std::io::Error::from).map_err(BackupError::Write)?;
    writer.write(kind, &content).map_err(BackupError::Write)
}

impl From<AuditError> for BackupError {
    fn from(error: AuditError) -> Self {
        match error {
            AuditError::Bad(bad) => Self::Altered(bad),
            AuditError::Store(error) => Self::Store(error),
        }
    }
}
