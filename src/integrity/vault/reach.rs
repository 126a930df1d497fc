//! Reaching what may not answer: the folder, and the targets on other machines.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use super::{Vault, patience::Place};

/// How long the folder may take, beside the targets.
const FOLDER_PATIENCE: Duration = Duration::from_secs(5);

/// A file that gets each checkpoint, on whatever machine it lies.
#[derive(Debug)]
pub(super) struct Target {
    pub path: PathBuf,
    pub place: Place,
}

impl Vault {
    /// Sets how long a target may take to answer: all of them are asked at once.
    #[must_use]
    pub fn patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// How many targets could not be read or written when they were asked last.
    #[must_use]
    pub fn targets_failing(&self) -> usize {
        self.targets.iter().filter(|target| target.place.has_failed()).count()
    }

    /// Does something with the folder off the workers, one thing at a time, and waits for it no longer than it may take.
    ///
    /// # Errors
    /// What it fails with; [`io::ErrorKind::TimedOut`] while the folder does not answer.
    pub async fn with<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let (vault, patience) = (self.clone(), FOLDER_PATIENCE + self.patience * 2);
        let waited = tokio::task::spawn_blocking(move || {
            let inner = vault.clone();
            vault.work.begin(patience, move || work(&inner)).wait()
        });
        waited.await.unwrap_or_else(|error| Err(io::Error::other(error)))
    }

    /// Does the same with every target at once; who does not answer in time has failed.
    pub(super) fn with_targets<T: Send + 'static>(
        &self,
        work: impl Fn(&Path) -> io::Result<T> + Clone + Send + 'static,
    ) -> Vec<(&Path, io::Result<T>)> {
        let begin = |target: &Target| {
            let (work, path) = (work.clone(), target.path.clone());
            target.place.begin(self.patience, move || work(&path))
        };
        let begun: Vec<_> = self.targets.iter().map(begin).collect();
        self.targets.iter().zip(begun).map(|(target, pending)| (target.path.as_path(), pending.wait())).collect()
    }
}
