//! What lies outside of the database: signing key, public keys, the last checkpoint, and a thinned history of them.
//!
//! Named by the store's id, so that one folder may serve several stores. Files are replaced whole (written beside, flushed,
//! renamed) and are readable by their owner alone. Every call blocks on files; a process that shares the folder waits. A
//! target that does not answer is waited for no longer than so long ([`Vault::patience`]), and the folder itself likewise
//! by whoever asks through [`Vault::with`].

mod moved;
mod patience;
mod reach;

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use uuid::Uuid;

pub use moved::Moved;
use patience::Place;
use reach::Target;

use super::note::{Origin, SignedCheckpoint, Signer, VerifierKey};

/// Notes of the history before the older ones are thinned out, and how many of the newest stay as they are.
const HISTORY_MAX: usize = 1_024;
const HISTORY_KEPT: usize = 256;
/// The line between two notes of the history.
const BETWEEN: &str = "--\n";

/// Keys and checkpoints of one store.
#[derive(Debug)]
pub struct Vault {
    store_id: Uuid,
    /// Nowhere: they live in memory, and end with the process.
    folder: Option<PathBuf>,
    targets: Vec<Target>,
    /// How long a target may take to answer.
    patience: Duration,
    /// What is done with the folder, one thing after the other, where somebody waits for it.
    work: Place,
    memory: Mutex<Memory>,
}

/// How long a target may take unless it is said otherwise.
const PATIENCE: Duration = Duration::from_secs(2);

#[derive(Debug, Default)]
struct Memory {
    signer: Option<Signer>,
    keys: Vec<VerifierKey>,
    history: Vec<SignedCheckpoint>,
}

/// A checkpoint with where it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// A file, for people.
    pub place: String,
    /// What it holds.
    pub signed: SignedCheckpoint,
}

/// Checkpoints outside of the database.
#[derive(Debug, Clone, Default)]
pub struct Outside {
    /// The last ones: own and those of the targets that can be reached.
    pub last: Vec<Found>,
    /// Places that could not be read or written, and why.
    pub troubles: Vec<String>,
    /// Files that are there and hold no checkpoint of this store.
    pub altered: Vec<String>,
}

impl Outside {
    /// The newest.
    #[must_use]
    pub fn newest(&self) -> Option<&SignedCheckpoint> {
        self.last.iter().map(|found| &found.signed).max_by_key(|signed| rank(signed))
    }
}

/// Later acceptances come after earlier ones, whatever their sizes.
fn rank(signed: &SignedCheckpoint) -> (u64, u64) {
    (signed.checkpoint.origin.acceptances, signed.checkpoint.head.size)
}

impl Vault {
    /// In a folder.
    #[must_use]
    pub fn in_folder(folder: PathBuf, store_id: Uuid, targets: Vec<PathBuf>) -> Self {
        Self::new(store_id, Some(folder), targets)
    }

    /// In memory; targets are files all the same.
    #[must_use]
    pub fn in_memory(store_id: Uuid, targets: Vec<PathBuf>) -> Self {
        Self::new(store_id, None, targets)
    }

    fn new(store_id: Uuid, folder: Option<PathBuf>, targets: Vec<PathBuf>) -> Self {
        let target = |path| Target { path, place: Place::default() };
        let targets = targets.into_iter().map(target).collect();
        Self { store_id, folder, targets, patience: PATIENCE, work: Place::default(), memory: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Memory> {
        // Every change is whole when the lock is let go.
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn file(&self, ending: &str) -> Option<PathBuf> {
        self.folder.as_ref().map(|folder| folder.join(format!("{}.{ending}", self.store_id)))
    }

    /// Waits until no other process changes these files.
    fn guard(&self) -> io::Result<Option<File>> {
        let Some(path) = self.file("lock") else { return Ok(None) };
        let file = private().create(true).append(true).open(path)?;
        file.lock()?;
        Ok(Some(file))
    }

    /// The key to sign with, under the name of this origin; made when there is none.
    ///
    /// # Errors
    /// The folder cannot be made, read or written; the key file holds no key.
    pub fn signer(&self, origin: Origin) -> io::Result<Signer> {
        let name = origin.to_string();
        let Some(path) = self.file("key") else {
            let mut memory = self.lock();
            let signer = memory.signer.get_or_insert_with(|| Signer::generate(&name)).named(&name);
            if !memory.keys.contains(&signer.verifier()) {
                memory.keys.push(signer.verifier());
            }
            return Ok(signer);
        };
        if let Some(signer) = read_key(&path)? {
            let signer = signer.named(&name);
            return self.announced(signer);
        }
        if let Some(folder) = &self.folder {
            fs::create_dir_all(folder)?;
        }
        let guard = self.guard()?;
        let signer = match read_key(&path)? {
            Some(signer) => signer.named(&name),
            None => {
                let signer = Signer::generate(&name);
                replace(&path, &format!("{}\n", signer.secret()))?;
                signer
            }
        };
        drop(guard);
        self.announced(signer)
    }

    /// Records the public half, so that what it signs can be verified after the next rotation too.
    fn announced(&self, signer: Signer) -> io::Result<Signer> {
        let verifier = signer.verifier();
        if !self.keys()?.contains(&verifier) {
            let _guard = self.guard()?;
            let mut keys = self.keys()?;
            if !keys.contains(&verifier) {
                keys.push(verifier);
                self.store_keys(&keys)?;
            }
        }
        Ok(signer)
    }

    /// Makes a new key and returns its public half; the old public keys stay known.
    ///
    /// # Errors
    /// The folder cannot be read or written.
    pub fn rotate(&self, origin: Origin) -> io::Result<VerifierKey> {
        self.signer(origin)?;
        let signer = Signer::generate(&origin.to_string());
        match self.file("key") {
            None => self.lock().signer = Some(signer.clone()),
            Some(path) => {
                let _guard = self.guard()?;
                replace(&path, &format!("{}\n", signer.secret()))?;
            }
        }
        self.announced(signer).map(|signer| signer.verifier())
    }

    /// Every public key, oldest first.
    ///
    /// # Errors
    /// The file cannot be read, or holds something else.
    pub fn keys(&self) -> io::Result<Vec<VerifierKey>> {
        let Some(path) = self.file("vkeys") else { return Ok(self.lock().keys.clone()) };
        let Some(text) = read(&path)? else { return Ok(Vec::new()) };
        text.lines().map(|line| VerifierKey::parse(line).map_err(|error| odd(&path, &error))).collect()
    }

    fn store_keys(&self, keys: &[VerifierKey]) -> io::Result<()> {
        match self.file("vkeys") {
            None => self.lock().keys = keys.to_vec(),
            Some(path) => replace(&path, &keys.iter().map(|key| format!("{key}\n")).collect::<String>())?,
        }
        Ok(())
    }

    /// The last checkpoints outside.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn outside(&self) -> io::Result<Outside> {
        let keys = self.keys()?;
        let mut outside = Outside::default();
        match self.file("checkpoint") {
            None => {
                let last = self.lock().history.last().cloned();
                outside.last.extend(last.map(|signed| Found { place: "memory".to_owned(), signed }));
            }
            Some(path) => {
                let text = read(&path)?;
                self.note_found(&mut outside, &path, text, &keys);
            }
        }
        for (path, text) in self.with_targets(read) {
            match text {
                Ok(text) => self.note_found(&mut outside, path, text, &keys),
                Err(error) => outside.troubles.push(format!("{}: {error}", path.display())),
            }
        }
        Ok(outside)
    }

    fn note_found(&self, outside: &mut Outside, path: &Path, text: Option<String>, keys: &[VerifierKey]) {
        let Some(text) = text else { return };
        match SignedCheckpoint::read(&text, keys) {
            Ok(signed) if signed.checkpoint.origin.store_id == self.store_id => {
                outside.last.push(Found { place: path.display().to_string(), signed });
            }
            Ok(_) => outside.altered.push(format!("{} is of another store", path.display())),
            Err(error) => outside.altered.push(format!("{}: {error}", path.display())),
        }
    }

    /// Earlier checkpoints of the folder that a known key has signed, oldest first; sparser with age.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn history(&self) -> io::Result<Vec<SignedCheckpoint>> {
        let Some(path) = self.file("history") else { return Ok(self.lock().history.clone()) };
        let keys = self.keys()?;
        let text = read(&path)?.unwrap_or_default();
        let notes = text.split(BETWEEN).filter_map(|note| SignedCheckpoint::read(note, &keys).ok());
        Ok(notes.filter(|signed| signed.is_signed).collect())
    }

    /// Writes a checkpoint to the folder and to every target, unless a later one is there. Returns the targets that could
    /// not be written.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn store(&self, signed: &SignedCheckpoint) -> io::Result<Vec<String>> {
        let keys = self.keys()?;
        match self.file("checkpoint") {
            None => {
                let mut memory = self.lock();
                memory.history.push(signed.clone());
                thin(&mut memory.history);
            }
            Some(path) => {
                let _guard = self.guard()?;
                if replace_older(&path, signed, &keys)? {
                    self.remember(signed)?;
                }
            }
        }
        let signed = signed.clone();
        let stored = self.with_targets(move |path| replace_older(path, &signed, &keys));
        let failed = stored.into_iter().filter_map(|(path, result)| Some((path, result.err()?)));
        Ok(failed.map(|(path, error)| format!("{}: {error}", path.display())).collect())
    }

    /// Writes the first checkpoint of a new origin, whatever is there: the last one of the old origin is kept under another
    /// name. Returns the targets that could not be written.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn begin_anew(&self, signed: &SignedCheckpoint) -> io::Result<Vec<String>> {
        let aside = format!("checkpoint.before-acceptance-{}", signed.checkpoint.origin.acceptances);
        if let (Some(path), Some(aside)) = (self.file("checkpoint"), self.file(&aside)) {
            let _guard = self.guard()?;
            if let Some(text) = read(&path)? {
                replace(&aside, &text)?;
            }
            replace(&path, &signed.note)?;
            self.remember(signed)?;
        }
        self.store(signed)
    }

    /// Adds to the history. It narrows down where a log was altered, so losing some of it in a power cut does no harm.
    fn remember(&self, signed: &SignedCheckpoint) -> io::Result<()> {
        let Some(path) = self.file("history") else { return Ok(()) };
        let text = read(&path)?.unwrap_or_default();
        let mut notes: Vec<&str> = text.split(BETWEEN).filter(|note| !note.is_empty()).collect();
        if notes.len() < HISTORY_MAX {
            let mut file = private().create(true).append(true).open(path)?;
            return file.write_all(format!("{}{BETWEEN}", signed.note).as_bytes());
        }
        notes.push(&signed.note);
        thin(&mut notes);
        replace(&path, &notes.iter().flat_map(|note| [note, BETWEEN]).collect::<String>())
    }
}

/// Takes out every second of the older entries, once there are too many.
fn thin<T>(entries: &mut Vec<T>) {
    if entries.len() > HISTORY_MAX {
        let (mut number, newest) = (0, entries.len() - HISTORY_KEPT);
        entries.retain(|_| {
            number += 1;
            number > newest || number % 2 == 1
        });
    }
}

fn odd(path: &Path, error: &dyn std::error::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{}: {error}", path.display()))
}

fn read_key(path: &Path) -> io::Result<Option<Signer>> {
    let Some(text) = read(path)? else { return Ok(None) };
    Signer::parse(&text).map(Some).map_err(|error| odd(path, &error))
}

fn read(path: &Path) -> io::Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Files that their owner alone may read.
fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// Replaces a file whole: after a power cut it is the old one or the new one.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}.tmp", Uuid::now_v7().simple()));
    let beside = PathBuf::from(beside);
    let written = (|| {
        let mut file = private().create_new(true).write(true).open(&beside)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&beside, path)
    })();
    if let Err(error) = written {
        let _ = fs::remove_file(&beside);
        return Err(error);
    }
    #[cfg(unix)]
    if let Some(folder) = path.parent() {
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}

/// Replaces a checkpoint unless it is as new; files only grow. Whether it did.
fn replace_older(path: &Path, signed: &SignedCheckpoint, keys: &[VerifierKey]) -> io::Result<bool> {
    if let Some(text) = read(path)? {
        let is_older = match SignedCheckpoint::read(&text, keys) {
            Ok(there) => {
                there.checkpoint.origin.store_id == signed.checkpoint.origin.store_id && rank(&there) < rank(signed)
            }
            // What is there is evidence of something: never overwritten.
            Err(error) => return Err(odd(path, &error)),
        };
        if !is_older {
            return Ok(false);
        }
    }
    replace(path, &signed.note).map(|()| true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::integrity::{note::Checkpoint, tree::TreeHead};

    fn signed(vault: &Vault, acceptances: u64, size: u64) -> SignedCheckpoint {
        let origin = Origin { store_id: vault.store_id, acceptances };
        let checkpoint = Checkpoint { origin, head: TreeHead { size, root: [1; 32] } };
        SignedCheckpoint::sign(checkpoint, &vault.signer(origin).unwrap())
    }

    fn vaults() -> (tempfile::TempDir, [Vault; 2]) {
        let folder = tempfile::tempdir().unwrap();
        let id = Uuid::from_u128(7);
        let target = vec![folder.path().join("elsewhere")];
        let on_disk = Vault::in_folder(folder.path().join("deep"), id, target);
        (folder, [on_disk, Vault::in_memory(id, Vec::new())])
    }

    #[test]
    fn checkpoints_only_grow_and_an_acceptance_begins_anew() {
        let (_folder, vaults) = vaults();
        let [vault, _] = &vaults;
        assert!(vault.outside().unwrap().newest().is_none());
        for (acceptances, size, expected) in
            [(0, 5, (0, 5)), (0, 3, (0, 5)), (0, 9, (0, 9)), (1, 4, (1, 4)), (0, 99, (1, 4))]
        {
            assert_eq!(vault.store(&signed(vault, acceptances, size)).unwrap(), Vec::<String>::new());
            let outside = vault.outside().unwrap();
            assert_eq!(outside.last.len(), 2);
            assert!(outside.last.iter().all(|found| rank(&found.signed) == expected && found.signed.is_signed));
        }
        assert_eq!(vault.history().unwrap().iter().map(rank).collect::<Vec<_>>(), [(0, 5), (0, 9), (1, 4)]);
    }

    #[test]
    fn rotation_keeps_old_keys_known() {
        let (_folder, vaults) = vaults();
        for vault in &vaults {
            let before = signed(vault, 0, 1);
            let origin = before.checkpoint.origin;
            let new = vault.rotate(origin).unwrap();
            let keys = vault.keys().unwrap();
            assert_eq!((keys.len(), keys.last()), (2, Some(&new)));
            assert_eq!(vault.signer(origin).unwrap().verifier(), new);
            assert!(SignedCheckpoint::read(&before.note, &keys).unwrap().is_signed);
            assert!(SignedCheckpoint::read(&signed(vault, 0, 2).note, &keys).unwrap().is_signed);
        }
    }

    #[test]
    fn altered_checkpoint_is_noticed_and_never_overwritten() {
        let (_folder, vaults) = vaults();
        let [vault, _] = &vaults;
        vault.store(&signed(vault, 0, 5)).unwrap();
        let path = vault.file("checkpoint").unwrap();
        let text = fs::read_to_string(&path).unwrap().replace("\n5\n", "\n4\n");
        fs::write(&path, &text).unwrap();
        assert_eq!(vault.outside().unwrap().altered.len(), 1);
        assert!(vault.store(&signed(vault, 0, 6)).is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }

    #[cfg(unix)]
    #[test]
    fn files_are_their_owners_alone() {
        use std::os::unix::fs::PermissionsExt;
        let (_folder, vaults) = vaults();
        let [vault, _] = &vaults;
        vault.store(&signed(vault, 0, 5)).unwrap();
        for ending in ["key", "vkeys", "checkpoint", "history"] {
            let mode = fs::metadata(vault.file(ending).unwrap()).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{ending}");
        }
    }

    #[test]
    fn history_gets_sparser_with_age() {
        let mut entries: Vec<u32> = Vec::new();
        for number in 0..10_000 {
            entries.push(number);
            thin(&mut entries);
        }
        assert!(entries.len() <= HISTORY_MAX && entries[0] == 0 && entries.is_sorted());
        assert_eq!(entries[entries.len() - 100..], (9_900..10_000).collect::<Vec<u32>>());
    }
}
