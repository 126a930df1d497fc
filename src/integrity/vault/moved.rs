//! Evidence that goes along with a log: taken out for a backup, put down where one was restored.

use std::{fs, io};

use super::{BETWEEN, Vault, read_key, replace};
use crate::integrity::note::{Origin, SignedCheckpoint, VerifierKey};

/// What goes along.
#[derive(Debug, Clone, Default)]
pub struct Moved {
    /// Public keys, oldest first.
    pub keys: Vec<VerifierKey>,
    /// Checkpoints, oldest first; the last one is the newest.
    pub checkpoints: Vec<SignedCheckpoint>,
    /// The text of the secret key. Whoever reads it can sign.
    pub signing_key: Option<String>,
}

impl Vault {
    /// Everything that would go along with the log; the secret key only if it is asked for.
    ///
    /// # Errors
    /// The folder cannot be read; a checkpoint was altered.
    pub fn moved(&self, with_signing_key: bool) -> io::Result<Moved> {
        let (keys, outside, mut checkpoints) = (self.keys()?, self.outside()?, self.history()?);
        if let Some(altered) = outside.altered.first() {
            let reason = format!("a checkpoint outside of the database was altered: {altered}");
            return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
        }
        let newest = outside.newest();
        // Those from before an acceptance are of a log that an operator has given up.
        let acceptances = newest.map_or(0, |newest| newest.checkpoint.origin.acceptances);
        checkpoints.retain(|signed| signed.checkpoint.origin.acceptances == acceptances);
        checkpoints.extend(newest.cloned());
        checkpoints.sort_by_key(|signed| signed.checkpoint.head.size);
        checkpoints.dedup();
        let signing_key = match (with_signing_key, self.file("key")) {
            (true, Some(path)) => read_key(&path)?.map(|signer| signer.secret()),
            _ => None,
        };
        Ok(Moved { keys, checkpoints, signing_key })
    }

    /// Puts down what came along, beside what is there: nothing that is there is replaced, but for an older checkpoint.
    /// Returns the newest checkpoint of the folder and its targets.
    ///
    /// # Errors
    /// The folder cannot be made, read or written.
    pub fn adopt(&self, moved: &Moved, origin: Origin) -> io::Result<Option<SignedCheckpoint>> {
        if let Some(folder) = &self.folder {
            fs::create_dir_all(folder)?;
        }
        {
            let _guard = self.guard()?;
            if let (Some(path), Some(secret)) = (self.file("key"), &moved.signing_key)
                && read_key(&path)?.is_none()
            {
                replace(&path, &format!("{}\n", secret.trim()))?;
            }
            let there = self.keys()?;
            let mut keys: Vec<VerifierKey> = moved.keys.iter().filter(|key| !there.contains(key)).cloned().collect();
            if !keys.is_empty() {
                // What is there stays last: it is in use.
                keys.extend(there);
                self.store_keys(&keys)?;
            }
            if let Some(path) = self.file("history").filter(|path| !path.exists()) {
                let older = moved.checkpoints.iter().rev().skip(1).rev();
                replace(&path, &older.flat_map(|one| [one.note.as_str(), BETWEEN]).collect::<String>())?;
            }
        }
        if let Some(newest) = moved.checkpoints.last().filter(|newest| newest.checkpoint.origin == origin) {
            self.store(newest)?;
        }
        Ok(self.outside()?.newest().cloned())
    }
}
