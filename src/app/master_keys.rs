//! The file of the master keys: read, or made where a store has none yet. Replicas for which none is named share one that
//! their database keeps.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use event_sourcing_actors::{
    RuntimeBuilder,
    master_keys::MasterKeys,
    ports::{StoreError, SubjectKeys, Tombstones},
};

use super::{Storage, tombstones::TombstoneFile};
use crate::{
    archive::KeyPlace,
    settings::{Database, Settings},
};

/// Why master keys cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum MasterKeyError {
    /// The file cannot be read or made.
    #[error("the master key file {file} cannot be {what}: {source}; erasure.master_key_file names another")]
    Io {
        /// The file.
        file: String,
        /// `read` or `made`.
        what: &'static str,
        /// The system's answer.
        source: io::Error,
    },
    /// It is no list of keys.
    #[error("the master key file {file} is not one: {problem}")]
    Content {
        /// The file.
        file: String,
        /// What is wrong, without the content.
        problem: event_sourcing_actors::master_keys::MasterKeysError,
    },
    /// The store has one already, but not here.
    #[error(
        "the master key file {file} is missing, and personal data of this store is read with master key {needed}: put the \
         file back, or name it with erasure.master_key_file"
    )]
    Missing {
        /// Where it was looked for.
        file: String,
        /// The name of the key.
        needed: String,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A builder with all that personal data needs: keys, what opens them, and the list of who was erased.
pub(super) async fn into_builder(
    builder: RuntimeBuilder,
    storage: &Storage,
    settings: &Settings,
) -> Result<RuntimeBuilder, MasterKeyError> {
    let (keys, id) = (storage.subject_keys(), storage.id());
    let builder = builder.subject_keys(keys.clone(), load(Place::of(settings, id), &keys).await?);
    Ok(match settings.tombstone_file(id).zip(id) {
        Some((file, id)) => builder.tombstones(Arc::new(TombstoneFile::new(file, id))),
        None => builder,
    })
}

/// Where keys of a store are put back, with what the settings say opens them and keeps the erased out. Makes nothing.
///
/// # Errors
/// [`MasterKeyError`]; a file that is missing is none.
pub async fn key_place(settings: &Settings, storage: &Storage) -> Result<KeyPlace, MasterKeyError> {
    let (id, keys) = (storage.id(), storage.subject_keys());
    let kept = || keys.kept_master(None);
    let masters = match Place::of(settings, id) {
        Place::Memory => None,
        Place::Store(_) => kept().await?,
        Place::File(file) => match read(&file) {
            Ok(text) => {
                let content = |problem| MasterKeyError::Content { file: file.display().to_string(), problem };
                Some(MasterKeys::parse(&text).map_err(content)?)
            }
            Err(source) if source.kind() == io::ErrorKind::NotFound => kept().await?,
            Err(source) => return Err(MasterKeyError::Io { file: file.display().to_string(), what: "read", source }),
        },
    };
    let tombstones = settings.tombstone_file(id).zip(id);
    Ok(KeyPlace {
        keys,
        events: storage.events(),
        snapshots: storage.snapshots(),
        tombstones: tombstones.map(|(file, id)| Arc::new(TombstoneFile::new(file, id)) as Arc<dyn Tombstones>),
        masters,
        store_id: id.unwrap_or_default(),
    })
}

/// Where master keys lie.
enum Place {
    /// The store is gone with the process.
    Memory,
    /// In the database, for replicas that share nothing else. A file there of an older time would go before.
    Store(PathBuf),
    File(PathBuf),
}

impl Place {
    fn of(settings: &Settings, id: Option<uuid::Uuid>) -> Self {
        let is_shared = matches!(settings.event_store.database_url, Database::Postgres { .. });
        match (settings.master_key_file(id), &settings.erasure.master_key_file) {
            (None, _) => Self::Memory,
            (Some(file), None) if is_shared && !file.exists() => Self::Store(file),
            (Some(file), _) => Self::File(file),
        }
    }
}

async fn load(place: Place, keys: &Arc<dyn SubjectKeys>) -> Result<MasterKeys, MasterKeyError> {
    match place {
        Place::Memory => Ok(MasterKeys::random()),
        Place::File(file) => in_file(&file, keys).await,
        Place::Store(file) => {
            let kept = keys.kept_master(Some(&MasterKeys::random())).await?;
            let needed = keys.census().await?.current.unwrap_or_default();
            let Some(kept) = kept.filter(|kept| kept.current() == needed) else {
                return Err(MasterKeyError::Missing { file: file.display().to_string(), needed });
            };
            tracing::warn!(
                "the master key lies in the database, so a copy of that shows personal data: erasure.master_key_file takes \
                 it out"
            );
            Ok(kept)
        }
    }
}

/// The master keys in a file. A missing one is made, of the key that the store keeps, or of a new one if none stands: a new
/// one could not open what is there.
async fn in_file(file: &Path, keys: &Arc<dyn SubjectKeys>) -> Result<MasterKeys, MasterKeyError> {
    let name = file.display().to_string();
    // Small, and before anything is served.
    match read(file) {
        Ok(text) => MasterKeys::parse(&text).map_err(|problem| MasterKeyError::Content { file: name, problem }),
        Err(source) if source.kind() == io::ErrorKind::NotFound => {
            let kept = keys.kept_master(None).await?;
            let new = kept.unwrap_or_else(MasterKeys::random);
            make(file, &new).map_err(|source| MasterKeyError::Io { file: name.clone(), what: "made", source })?;
            // Another process may have been faster, with this file or with another.
            let text = read(file).map_err(|source| MasterKeyError::Io { file: name.clone(), what: "read", source })?;
            let found =
                MasterKeys::parse(&text).map_err(|problem| MasterKeyError::Content { file: name.clone(), problem })?;
            let needed = keys.appoint(&[], found.current()).await?;
            if needed != found.current() {
                if new.current() == found.current() {
                    // Ours, and of no use to anybody.
                    let _ = fs::remove_file(file);
                }
                return Err(MasterKeyError::Missing { file: name, needed });
            }
            tracing::warn!(file = name, "a master key was made: keep a copy apart from the database and its backups");
            Ok(found)
        }
        Err(source) => Err(MasterKeyError::Io { file: name, what: "read", source }),
    }
}

fn read(file: &Path) -> io::Result<String> {
    let text = fs::read_to_string(file)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        if fs::metadata(file)?.mode() & 0o077 != 0 {
            tracing::warn!(file = %file.display(), "the master key file can be read by others: chmod 600");
        }
    }
    Ok(text)
}

/// Makes the file with its content at once, for its owner only, unless there is one.
fn make(file: &Path, keys: &MasterKeys) -> io::Result<()> {
    use io::Write;
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let draft = file.with_extension(format!("{}.draft", uuid::Uuid::now_v7().simple()));
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let written = (|| {
        let mut handle = options.open(&draft)?;
        handle.write_all(keys.to_text().as_bytes())?;
        handle.sync_all()?;
        match fs::hard_link(&draft, file) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => Ok(()),
        }
    })();
    let _ = fs::remove_file(&draft);
    // The name must outlive a power cut too, as what is wrapped will.
    #[cfg(unix)]
    fs::File::open(folder)?.sync_all()?;
    written
}

#[cfg(test)]
mod tests {
    use super::*;
    use event_sourcing_actors::{memory::MemoryStore, ports::SystemClock};

    fn store() -> Arc<dyn SubjectKeys> {
        Arc::new(MemoryStore::new(Arc::new(SystemClock)))
    }

    #[tokio::test]
    async fn file_is_made_once_for_its_owner_only_and_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let (file, store) = (folder.path().join("deep/keys"), store());
        let made = load(Place::File(file.clone()), &store).await.unwrap();
        let read = load(Place::File(file.clone()), &store).await.unwrap();
        assert_eq!(made.current(), read.current());
        assert_eq!(fs::read_dir(file.parent().unwrap()).unwrap().count(), 1, "no draft is left");
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt;
            assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
        }
    }

    #[tokio::test]
    async fn lost_file_is_not_replaced_by_a_new_key() {
        let folder = tempfile::tempdir().unwrap();
        let (file, store) = (folder.path().join("keys"), store());
        load(Place::File(file.clone()), &store).await.unwrap();
        fs::remove_file(&file).unwrap();
        let error = load(Place::File(file.clone()), &store).await.unwrap_err();
        assert!(matches!(error, MasterKeyError::Missing { .. }), "{error}");
        assert!(!file.exists());
    }

    #[tokio::test]
    async fn wrong_file_is_told_without_its_content() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("keys");
        fs::write(&file, "hunter2").unwrap();
        let error = load(Place::File(file), &store()).await.unwrap_err().to_string();
        assert!(error.contains("line 1") && !error.contains("hunter2"), "{error}");
    }
}
