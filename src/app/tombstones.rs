//! The file that remembers whose data was erased: beside the database, and in no backup of it.
//!
//! One line per person, `{"store":"…","destroyed_at":"…","subject":"…"}`, only ever added to; several processes may add at
//! once, and several stores may share a file. A line that was cut off by a crash is passed over.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use chrono::{DateTime, Utc};
use event_sourcing_actors::{
    AggregateId,
    ports::{StoreError, Tombstone, Tombstones},
};
use futures_util::{FutureExt, future::BoxFuture};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Tombstones of one store in a file.
#[derive(Debug, Clone)]
pub(super) struct TombstoneFile(Arc<Place>);

#[derive(Debug)]
struct Place {
    path: PathBuf,
    store_id: Uuid,
    /// Lines of one process are added one after the other.
    turn: std::sync::Mutex<()>,
}

#[derive(Serialize, Deserialize)]
struct Line {
    store: Uuid,
    destroyed_at: DateTime<Utc>,
    subject: String,
}

impl TombstoneFile {
    pub(super) fn new(path: PathBuf, store_id: Uuid) -> Self {
        Self(Arc::new(Place { path, store_id, turn: std::sync::Mutex::default() }))
    }

    /// Does something with the file away from the runtime's workers.
    async fn with<T: Send + 'static>(
        &self,
        what: &'static str,
        work: impl FnOnce(&Place) -> io::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let place = self.0.clone();
        let name = place.path.display().to_string();
        let done = tokio::task::spawn_blocking(move || work(&place))
            .await
            .unwrap_or_else(|error| Err(io::Error::other(error)));
        done.map_err(|error| StoreError::Unavailable {
            reason: format!(
                "the file {name} of what was erased cannot be {what}: {error}; erasure.tombstone_file names another"
            ),
        })
    }
}

impl Tombstones for TombstoneFile {
    fn all(&self) -> BoxFuture<'_, Result<Vec<Tombstone>, StoreError>> {
        async move {
            let text = self.with("read", |place| match fs::read(&place.path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
                read => read,
            });
            parsed(&text.await?, self.0.store_id).map_err(|line| StoreError::Corrupt {
                reason: format!(
                    "line {line} of the file {} tells of no erasure: put it right, since what it told is not known now",
                    self.0.path.display()
                ),
            })
        }
        .boxed()
    }

    fn add<'a>(&'a self, tombstones: &'a [Tombstone]) -> BoxFuture<'a, Result<(), StoreError>> {
        async move {
            if tombstones.is_empty() {
                return Ok(());
            }
            let mut text = Vec::new();
            for Tombstone { destroyed_at, subject } in tombstones {
                let line =
                    Line { store: self.0.store_id, destroyed_at: *destroyed_at, subject: subject.as_str().to_owned() };
                serde_json::to_writer(&mut text, &line)
                    .map_err(|error| StoreError::Refused { reason: error.to_string() })?;
                text.push(b'\n');
            }
            self.with("written", move |place| {
                let _turn = place.turn.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                append(&place.path, &text)
            })
            .await
        }
        .boxed()
    }
}

/// Those of one store; else the number of the line that is none. What comes after the last end of a line was never
/// confirmed to anybody.
fn parsed(text: &[u8], store_id: Uuid) -> Result<Vec<Tombstone>, usize> {
    let mut lines: Vec<&[u8]> = text.split(|byte| *byte == b'\n').collect();
    lines.pop();
    let mut tombstones = Vec::with_capacity(lines.len());
    for (number, line) in (1_usize..).zip(lines).filter(|(_, line)| !line.is_empty()) {
        let line: Line = serde_json::from_slice(line).map_err(|_| number)?;
        let subject = AggregateId::new(line.subject.as_str()).map_err(|_| number)?;
        if line.store == store_id {
            tombstones.push(Tombstone { destroyed_at: line.destroyed_at, subject });
        }
    }
    Ok(tombstones)
}

/// Adds whole lines, flushed, after the last whole line.
fn append(path: &Path, lines: &[u8]) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    // Until it is closed; other processes that add wait.
    file.lock()?;
    let whole = fs::read(path)?.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    file.set_len(u64::try_from(whole).map_err(io::Error::other)?)?;
    file.write_all(lines)?;
    file.sync_all()?;
    #[cfg(unix)]
    fs::File::open(folder)?.sync_all()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tombstone(subject: &str) -> Tombstone {
        let subject = AggregateId::new(subject).unwrap();
        Tombstone { destroyed_at: "2026-11-26T12:00:00.000001Z".parse().unwrap(), subject }
    }

    #[tokio::test]
    async fn what_was_added_is_read_by_its_store_only_and_by_its_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/erased");
        let (ours, theirs) = (Uuid::now_v7(), Uuid::now_v7());
        let file = TombstoneFile::new(path.clone(), ours);
        assert_eq!(file.all().await.unwrap(), []);
        file.add(&[tombstone("ann"), tombstone("ü/\" x")]).await.unwrap();
        TombstoneFile::new(path.clone(), theirs).add(&[tombstone("bo")]).await.unwrap();
        file.add(&[tombstone("cy")]).await.unwrap();
        assert_eq!(file.all().await.unwrap(), [tombstone("ann"), tombstone("ü/\" x"), tombstone("cy")]);
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt;
            assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        }
    }

    #[tokio::test]
    async fn line_that_a_crash_cut_off_is_passed_over_and_a_wrong_one_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("erased");
        let file = TombstoneFile::new(path.clone(), Uuid::nil());
        file.add(&[tombstone("ann")]).await.unwrap();
        let whole = fs::read_to_string(&path).unwrap();
        fs::write(&path, format!("{whole}{}", &whole[..20])).unwrap();
        assert_eq!(file.all().await.unwrap(), [tombstone("ann")]);
        file.add(&[tombstone("bo")]).await.unwrap();
        assert_eq!(file.all().await.unwrap(), [tombstone("ann"), tombstone("bo")]);
        fs::write(&path, format!("{whole}nonsense\n")).unwrap();
        assert!(file.all().await.unwrap_err().to_string().contains("line 2"));
    }
}
