//! The file of the master keys: read, or made where a store has none yet.

use std::{fs, io, path::Path, sync::Arc};

use event_sourcing_actors::{
    RuntimeBuilder,
    master_keys::MasterKeys,
    ports::{StoreError, SubjectKeys, Tombstones},
};

use super::{Storage, tombstones::TombstoneFile};
use crate::{archive::KeyPlace, settings::Settings};

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
    let masters = load(settings.master_key_file(id).as_deref(), &keys).await?;
    let builder = builder.subject_keys(keys, masters);
    Ok(match settings.tombstone_file(id).zip(id) {
        Some((file, id)) => builder.tombstones(Arc::new(TombstoneFile::new(file, id))),
        None => builder,
    })
}

/// Where keys of a store are put back, with what the settings say opens them and keeps the erased out. Makes no file.
///
/// # Errors
/// [`MasterKeyError`]; a file that is missing is none.
pub fn key_place(settings: &Settings, storage: &Storage) -> Result<KeyPlace, MasterKeyError> {
    let id = storage.id();
    let masters = match settings.master_key_file(id) {
        None => None,
        Some(file) => {
            let name = file.display().to_string();
            match read(&file) {
                Ok(text) => {
                    let parsed = MasterKeys::parse(&text);
                    Some(parsed.map_err(|problem| MasterKeyError::Content { file: name, problem })?)
                }
                Err(source) if source.kind() == io::ErrorKind::NotFound => None,
                Err(source) => return Err(MasterKeyError::Io { file: name, what: "read", source }),
            }
        }
    };
    let tombstones = settings.tombstone_file(id).zip(id);
    Ok(KeyPlace {
        keys: storage.subject_keys(),
        events: storage.events(),
        snapshots: storage.snapshots(),
        tombstones: tombstones.map(|(file, id)| Arc::new(TombstoneFile::new(file, id)) as Arc<dyn Tombstones>),
        masters,
        store_id: id.unwrap_or_default(),
    })
}

/// The master keys in a file; without a file, those of a store that is gone with the process.
///
/// A missing file is made, unless the store names a master key already: a new one could not open what is there.
async fn load(file: Option<&Path>, keys: &Arc<dyn SubjectKeys>) -> Result<MasterKeys, MasterKeyError> {
    let Some(file) = file else { return Ok(MasterKeys::random()) };
    let name = file.display().to_string();
    // Small, and before anything is served.
    match read(file) {
        Ok(text) => MasterKeys::parse(&text).map_err(|problem| MasterKeyError::Content { file: name, problem }),
        Err(source) if source.kind() == io::ErrorKind::NotFound => {
            let new = MasterKeys::random();
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
        let made = load(Some(&file), &store).await.unwrap();
        let read = load(Some(&file), &store).await.unwrap();
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
        load(Some(&file), &store).await.unwrap();
        fs::remove_file(&file).unwrap();
        let error = load(Some(&file), &store).await.unwrap_err();
        assert!(matches!(error, MasterKeyError::Missing { .. }), "{error}");
        assert!(!file.exists());
    }

    #[tokio::test]
    async fn wrong_file_is_told_without_its_content() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("keys");
        fs::write(&file, "hunter2").unwrap();
        let error = load(Some(&file), &store()).await.unwrap_err().to_string();
        assert!(error.contains("line 1") && !error.contains("hunter2"), "{error}");
    }
}
