//! The follower: the one task that asks the view store what has changed.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

use super::Freshness;
use crate::ports::{Revision, StoreError, ViewChanges, ViewStore};

/// Between two questions while queries come.
const PAUSE_BUSY: Duration = Duration::from_millis(100);
/// Between two questions while none come.
const PAUSE_IDLE: Duration = Duration::from_secs(1);
/// Between two questions while somebody waits, and between any two.
const PAUSE_LEAST: Duration = Duration::from_millis(20);
/// How long one question may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often old fences are looked for.
const FORGET: Duration = Duration::from_secs(15);

/// Follows every projection that has query types.
#[derive(Debug)]
pub(crate) struct Follower {
    pub freshness: Freshness,
    pub views: Arc<dyn ViewStore>,
    pub projections: BTreeSet<String>,
    /// Moves when another process says that read models moved.
    pub wake: Option<watch::Receiver<u64>>,
    /// Twice the life of a cached answer.
    pub fence_age: Duration,
    pub stop: CancellationToken,
}

impl Follower {
    /// Asks until it is told to stop. What it awaits are reads and pauses, so it may be cut anywhere.
    pub async fn run(mut self) {
        if self.projections.is_empty() {
            return;
        }
        let stop = self.stop.clone();
        let mut is_failing = false;
        let mut forget_at = Instant::now() + FORGET;
        loop {
            let asked_at = Instant::now();
            let asked = stop.run_until_cancelled(tokio::time::timeout(PATIENCE, self.ask()));
            match asked.await {
                None => return,
                Some(Ok(Ok(()))) if is_failing => {
                    is_failing = false;
                    tracing::info!("the view store answers again: cached answers are served again");
                }
                Some(Ok(Ok(()))) => {}
                Some(failed) if !is_failing => {
                    is_failing = true;
                    let reason = failed.map_or_else(
                        |_| "no answer in time".to_owned(),
                        |failed| failed.err().map_or_else(String::new, |error| error.to_string()),
                    );
                    tracing::warn!(reason, "the view store does not say what changed: no cached answer is served");
                }
                Some(_) => {}
            }
            if Instant::now() >= forget_at {
                forget_at = Instant::now() + FORGET;
                if let Some(before) = Instant::now().checked_sub(self.fence_age) {
                    self.freshness.forget(before);
                }
            }
            if stop.run_until_cancelled(self.pause(asked_at)).await.is_none() {
                return;
            }
        }
    }

    /// Asks once.
    async fn ask(&self) -> Result<(), StoreError> {
        let before = Instant::now();
        let mut since: Vec<(String, Revision)> = Vec::with_capacity(self.projections.len());
        let mut is_new = false;
        for projection in &self.projections {
            match self.freshness.confirmed_revision(projection) {
                Some(revision) => since.push((projection.clone(), revision)),
                None => is_new = true,
            }
        }
        if is_new {
            // Nothing made before now can be judged, so where it stands is all there is to know.
            let states = self.views.states().await?;
            for state in states.into_iter().filter(|state| self.projections.contains(&state.name)) {
                if !since.iter().any(|(known, _)| *known == state.name) {
                    let (position, revision) = (state.checkpoint.position, state.revision);
                    self.freshness
                        .confirm(&ViewChanges { projection: state.name, position, revision, changes: None }, before);
                }
            }
        }
        if !since.is_empty() {
            let before = Instant::now();
            for said in self.views.changes(&since).await? {
                self.freshness.confirm(&said, before);
            }
        }
        Ok(())
    }

    async fn pause(&mut self, asked_at: Instant) {
        let poked = self.freshness.clone();
        tokio::select! {
            () = async {
                // Looked at again after the least pause: somebody may have begun to wait.
                tokio::time::sleep_until(asked_at + PAUSE_LEAST).await;
                if !poked.is_waited_for() {
                    let pause = if poked.is_busy() { PAUSE_BUSY } else { PAUSE_IDLE };
                    tokio::time::sleep_until(asked_at + pause).await;
                }
            } => {}
            () = poked.shared.poke.notified() => {}
            () = moved(self.wake.as_mut().filter(|_| poked.is_busy())) => {}
        }
        tokio::time::sleep_until(asked_at + PAUSE_LEAST).await;
    }
}

/// Waits for a move; for ever if nobody is there who could tell.
async fn moved(wake: Option<&mut watch::Receiver<u64>>) {
    if let Some(wake) = wake
        && wake.changed().await.is_ok()
    {
        return;
    }
    std::future::pending().await
}
