//! Reading a backup: every frame, every event, the tree over them, and every checkpoint, without any database.

use std::{io::Read, time::Instant};

use event_sourcing_actors::ports::StoreError;

use super::{
    audit::{Audit, AuditError},
    content::{End, Evidence, Manifest},
    frame::{Family, FileError, FrameDigest, Kind, Reader},
    rows::unpack,
};
use crate::integrity::{
    FirstBad, Report,
    note::{SignedCheckpoint, VerifierKey},
    port::StoredRows,
    tiles::Tile,
    vault::Moved,
};

/// A backup whose first frames were read.
#[derive(Debug)]
pub(super) struct Opened<R> {
    reader: Reader<R>,
    pub manifest: Manifest,
    pub moved: Moved,
}

/// Why a backup was not read to its end.
#[derive(Debug)]
pub(super) enum ReadError {
    File(FileError),
    Bad(FirstBad),
    Store(StoreError),
    /// Whoever took the events wants no more.
    Stopped,
}

impl From<FileError> for ReadError {
    fn from(error: FileError) -> Self {
        Self::File(error)
    }
}

impl From<AuditError> for ReadError {
    fn from(error: AuditError) -> Self {
        match error {
            AuditError::Bad(bad) => Self::Bad(bad),
            AuditError::Store(error) => Self::Store(error),
        }
    }
}

/// What a backup was found to be.
#[derive(Debug, Clone)]
pub struct Inspected {
    /// What it says it is of.
    pub manifest: Manifest,
    /// What it was found to be.
    pub report: Report,
}

impl<R: Read> Opened<R> {
    /// Reads what the backup is of, and its evidence.
    pub fn open(from: R) -> Result<Self, FileError> {
        let mut reader = Reader::begin(from, Family::Backup)?;
        let (kind, content) = reader.next()?;
        let manifest: Manifest = parsed(&reader, kind == Kind::Manifest, &content)?;
        let (kind, content) = reader.next()?;
        let evidence: Evidence = parsed(&reader, kind == Kind::Evidence, &content)?;
        let keys = evidence.keys.iter().map(|key| VerifierKey::parse(key)).collect::<Result<Vec<_>, _>>();
        let keys = keys.map_err(|error| reader.damaged(format!("a public key in it: {error}")))?;
        let checkpoints = evidence.checkpoints.iter().map(|note| SignedCheckpoint::read(note, &keys));
        let checkpoints = checkpoints.collect::<Result<Vec<_>, _>>();
        let checkpoints = checkpoints.map_err(|error| reader.damaged(format!("a checkpoint in it: {error}")))?;
        if let Some(foreign) = checkpoints.iter().find(|one| one.checkpoint.origin.store_id != manifest.store_id) {
            return Err(
                reader.damaged(format!("a checkpoint in it is of another store, {}", foreign.checkpoint.origin))
            );
        }
        let moved = Moved { keys, checkpoints, signing_key: evidence.signing_key };
        Ok(Self { reader, manifest, moved })
    }

    /// Reads the events to the last one. `each` gets them with the tiles that became full with them; `false` ends it.
    pub fn read(
        mut self,
        audit: &mut Audit,
        mut each: impl FnMut(StoredRows, Vec<Tile>) -> bool,
    ) -> Result<FrameDigest, ReadError> {
        loop {
            let (kind, content) = self.reader.next()?;
            if kind == Kind::End {
                let end: End = parsed(&self.reader, true, &content)?;
                let is_whole = end.events == audit.size() && self.manifest.head_position == audit.size();
                if !is_whole || end.tree_root != hex::encode(audit.root()) {
                    return Err(self.reader.damaged("its events are not those it says it has").into());
                }
                let digest = self.reader.digest();
                self.reader.end()?;
                return Ok(digest);
            }
            let rows = (kind == Kind::Events).then(|| unpack(&content)).flatten();
            let rows = rows.ok_or_else(|| self.reader.damaged("it holds something else than events"))?;
            audit.take(&rows)?;
            let tiles = audit.full_tiles();
            if !each(rows, tiles) {
                return Err(ReadError::Stopped);
            }
        }
    }
}

fn parsed<T: serde::de::DeserializeOwned, R: Read>(
    reader: &Reader<R>,
    is_right: bool,
    content: &[u8],
) -> Result<T, FileError> {
    let found = if is_right { serde_json::from_slice(content).ok() } else { None };
    found.ok_or_else(|| reader.damaged("a part is not the one that belongs there"))
}

/// What a backup says it is of. Reads its beginning only.
///
/// # Errors
/// [`FileError`].
pub fn manifest<R: Read>(from: R) -> Result<Manifest, FileError> {
    Opened::open(from).map(|opened| opened.manifest)
}

/// Verifies a backup: its digests, each event, the tree over all of them against what it says, and every checkpoint, its
/// own and those of `outside` (which may be later than its end). Blocks on the file.
///
/// `trusted` are keys from elsewhere: those in the backup are worth as much as the backup.
///
/// # Errors
/// [`FileError`], if it cannot be read at all; damage further on is an outcome, and no error.
pub fn inspect<R: Read>(
    from: R,
    outside: impl FnOnce(&Manifest) -> std::io::Result<Moved>,
    progress: &mut dyn FnMut(u64, u64) -> bool,
) -> Result<Inspected, FileError> {
    let started = Instant::now();
    let opened = Opened::open(from)?;
    let manifest = opened.manifest.clone();
    let head = manifest.head_position;
    let known = outside(&manifest)?;
    let mut remarks = remarks(&manifest, &opened.moved, &known);
    // Later ones are of events that were recorded after the backup.
    let anchors =
        opened.moved.checkpoints.iter().chain(&known.checkpoints).filter(|one| {
            one.checkpoint.head.size <= head && one.checkpoint.origin.acceptances == manifest.acceptances
        });
    let mut audit = Audit::new(anchors.cloned().collect(), None);
    let mut done = 0;
    let read = opened.read(&mut audit, |rows, _| {
        done += rows.len() as u64;
        progress(done, head)
    });
    let position = audit.size() + 1;
    let first_bad = match read {
        Ok(_) => None,
        Err(ReadError::Bad(bad)) => Some(bad),
        Err(ReadError::File(error)) if error.is_damage() => {
            Some(FirstBad { position, to_position: None, reason: error.to_string() })
        }
        Err(ReadError::File(error)) => return Err(error),
        Err(ReadError::Store(error)) => return Err(std::io::Error::other(error).into()),
        Err(ReadError::Stopped) => return Err(std::io::Error::from(std::io::ErrorKind::Interrupted).into()),
    };
    if audit.unfollowed() > 0 {
        remarks.push(format!(
            "the chains of {} events could not be followed (more streams than are remembered); a restoration follows them",
            audit.unfollowed()
        ));
    }
    let (checkpoint_position, checkpoints) = audit.met();
    let verified = first_bad.as_ref().map_or(audit.size(), |bad| bad.position.saturating_sub(1).min(audit.size()));
    let report = Report {
        intact: first_bad.is_none(),
        first_bad,
        head_position: head,
        from_position: 1,
        verified_position: verified,
        sealed_position: checkpoint_position.unwrap_or(0),
        unsealed_events: head - checkpoint_position.unwrap_or(0).min(head),
        unsealed_age_s: None,
        checkpoint_position,
        checkpoints,
        read_only: manifest.read_only,
        remarks,
        duration_ms: (started.elapsed().as_secs_f64() * 1e6).round() / 1e3,
    };
    Ok(Inspected { manifest, report })
}

fn remarks(manifest: &Manifest, own: &Moved, known: &Moved) -> Vec<String> {
    let mut remarks = Vec::new();
    if !own.keys.iter().any(|key| known.keys.contains(key)) {
        remarks.push(
            "no key of this store is known here: signatures were checked with the keys in the backup, which are worth as \
             much as the backup"
                .to_owned(),
        );
    }
    if own.checkpoints.is_empty() && known.checkpoints.is_empty() {
        remarks.push("no checkpoint, neither in the backup nor here: only its own digests speak for it".to_owned());
    }
    if let Some(newest) = known.checkpoints.last().map(|newest| newest.checkpoint.head.size)
        && newest > manifest.head_position
    {
        remarks.push(format!(
            "the backup ends at {}, before the newest checkpoint here ({newest})",
            manifest.head_position
        ));
    }
    remarks
}
