//! Tamper evidence: a Merkle tree over the log, signed checkpoints outside of the database, proofs and verification.
//!
//! [`tree`], [`tiles`] and [`note`] are pure. [`port`] says what is asked of the database, [`vault`] keeps keys and
//! checkpoints in files. One process seals ([`Integrity`] runs it), any process proves and verifies.
//! `docs/evidence.md` tells what this promises and what it does not.

mod accept;
pub(crate) mod check;
mod health;
pub mod memory;
pub mod note;
pub(crate) mod pages;
pub mod port;
pub(crate) mod proofs;
mod recent;
mod report;
mod seal;
mod stream;
pub mod tiles;
pub mod tree;
pub mod vault;
mod verification;
mod verify;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use event_sourcing_actors::ports::{Clock, StoreError, ViewStore};
use prometheus::{IntGauge, Registry};
use tokio::{task::JoinHandle, time::Instant};
use tokio_util::sync::CancellationToken;

pub use accept::{AcceptError, Accepted};
pub use health::{IntegrityHealth, Standing};
pub use recent::RecentTiles;
pub use report::{FirstBad, FirstBadEvent, Report, StreamReport};
pub use verification::{BeginError, KIND};
pub use verify::{Progress, VerifyError, Wanted, verify};

use self::{
    note::{Origin, SignedCheckpoint, VerifierKey},
    port::TreeStore,
    seal::{Round, RoundError, Sealer},
    tree::Hash,
    vault::Vault,
};

/// How long the last round at shutdown may take.
const LAST_ROUND: Duration = Duration::from_secs(3);

/// What evidence needs.
#[derive(Debug)]
pub struct Parts {
    /// The database of the events.
    pub store: Arc<dyn TreeStore>,
    /// Keys and checkpoints.
    pub vault: Vault,
    /// Where operations are on record.
    pub views: Arc<dyn ViewStore>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Where its gauges are registered.
    pub registry: Registry,
    /// Pause between two rounds.
    pub interval: Duration,
    /// How long a process that died keeps others from sealing.
    pub lease: Duration,
}

/// Evidence of one store, in one process.
#[derive(Debug)]
pub struct Integrity {
    store: Arc<dyn TreeStore>,
    vault: Arc<Vault>,
    recent: RecentTiles,
    views: Arc<dyn ViewStore>,
    clock: Arc<dyn Clock>,
    interval: Duration,
    sealed: IntGauge,
    verified: IntGauge,
    targets_failing: IntGauge,
    seen: Mutex<Seen>,
    stop: CancellationToken,
    sealing: Mutex<Option<JoinHandle<()>>>,
    running: Mutex<Option<verification::Running>>,
    looking_after: Mutex<Option<JoinHandle<()>>>,
}

/// What the rounds have found.
#[derive(Debug, Default)]
struct Seen {
    round: Round,
    /// Why appends are refused.
    violation: Option<String>,
    /// What keeps rounds from being done.
    trouble: Option<String>,
    /// When the last round ended.
    since: Option<Instant>,
}

/// Why there is no proof.
#[derive(Debug, thiserror::Error)]
pub enum ProofError {
    /// Nothing is signed yet.
    #[error("no checkpoint is signed yet")]
    NoCheckpoint,
    /// No event is there.
    #[error("there is no event at position {0}")]
    NoEvent(u64),
    /// It comes later than the checkpoint.
    #[error("position {position} is not sealed yet: the checkpoint covers {size}; ask again in a second")]
    NotSealed {
        /// What was asked for.
        position: u64,
        /// What there is.
        size: u64,
    },
    /// The sizes are not those of trees that were.
    #[error("sizes must satisfy 1 <= from <= to <= {0}")]
    Sizes(u64),
    /// The stored tree does not have the checkpoint's root.
    #[error("the stored tree is not the one that was signed")]
    Violation,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A leaf, and why it is in the tree of the checkpoint.
#[derive(Debug, Clone)]
pub struct Inclusion {
    /// The leaf's hash.
    pub leaf: Hash,
    /// Hashes from the leaf up.
    pub hashes: Vec<Hash>,
    /// The checkpoint.
    pub checkpoint: SignedCheckpoint,
}

fn gauge(registry: &Registry, name: &str, help: &str) -> IntGauge {
    let gauge =
        IntGauge::new(name, help).unwrap_or_else(|error| unreachable!("metric names are constants and valid: {error}"));
    // A second one over one runtime measures nothing: its names are taken.
    let _ = registry.register(Box::new(gauge.clone()));
    gauge
}

impl Integrity {
    /// Looks only: verifies and proves, seals and signs nothing, makes no key.
    #[must_use]
    pub fn look(parts: Parts) -> Arc<Self> {
        let Parts { store, vault, views, clock, registry, interval, .. } = parts;
        Arc::new(Self {
            store,
            vault: Arc::new(vault),
            recent: RecentTiles::default(),
            views,
            clock,
            interval,
            sealed: gauge(&registry, "es_integrity_sealed_position", "Every event up to here is in the signed tree."),
            verified: gauge(
                &registry,
                "es_integrity_verified_position",
                "Every event up to here was found intact by the last verification in this process.",
            ),
            targets_failing: gauge(
                &registry,
                "es_integrity_targets_failing",
                "Targets of checkpoints that could not be read or written in the last round, or did not answer.",
            ),
            seen: Mutex::default(),
            stop: CancellationToken::new(),
            sealing: Mutex::default(),
            running: Mutex::default(),
            looking_after: Mutex::default(),
        })
    }

    /// Makes the key if there is none, and seals from now on, or stands by while another process does.
    ///
    /// # Errors
    /// The folder of the evidence cannot be read or written.
    pub async fn start(parts: Parts) -> std::io::Result<Arc<Self>> {
        let lease = parts.lease;
        let this = Self::look(parts);
        let origin = Origin { store_id: this.store.tree_id(), acceptances: 0 };
        let newest = this.vault.with(move |vault| {
            let newest = vault.outside()?.newest().cloned();
            vault.signer(newest.as_ref().map_or(origin, |newest| newest.checkpoint.origin))?;
            Ok(newest)
        });
        let newest = newest.await?;
        {
            let mut seen = this.lock();
            (seen.round.checkpoint, seen.since) = (newest, Some(Instant::now()));
        }
        let sealer = Sealer::new(this.store.clone(), this.vault.clone(), lease);
        let task = tokio::spawn(this.clone().seal(sealer));
        *this.sealing.lock().unwrap_or_else(PoisonError::into_inner) = Some(task);
        let task = tokio::spawn(this.clone().end_silent_verifications());
        *this.looking_after.lock().unwrap_or_else(PoisonError::into_inner) = Some(task);
        Ok(this)
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        // Every change is whole when the lock is let go.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn seal(self: Arc<Self>, mut sealer: Sealer) {
        loop {
            // Read first: a round that was under way when the end came may not have seen the last events.
            let is_last = self.stop.is_cancelled();
            // Rounds are not cut off half-way: what they wait for is bounded by the store's own deadlines.
            let result = sealer.round().await;
            let has_more = result.as_ref().is_ok_and(Round::has_more);
            self.note(result).await;
            if has_more {
                continue;
            }
            if is_last {
                break;
            }
            let _ = tokio::time::timeout(self.interval, self.stop.cancelled()).await;
        }
        sealer.release().await;
    }

    async fn note(&self, result: Result<Round, RoundError>) {
        self.targets_failing.set(i64::try_from(self.vault.targets_failing()).unwrap_or(i64::MAX));
        match result {
            Ok(round) => {
                self.sealed.set(round.sealed.cast_signed());
                let is_read_only = round.state.as_ref().is_some_and(|state| state.is_read_only);
                let mut seen = self.lock();
                if seen.violation.take().is_some() && !is_read_only {
                    tracing::info!("the log is what it was signed as, and takes appends");
                }
                *seen = Seen { round, violation: None, trouble: None, since: Some(Instant::now()) };
            }
            Err(RoundError::Violation(reason)) => {
                let is_new = self.lock().violation.replace(reason.clone()).is_none();
                if is_new {
                    tracing::error!(reason, "the log is not what was signed; it takes no appends any more");
                }
                let refused = async {
                    let acceptances = self.store.tree().await?.acceptances;
                    self.store.refuse_appends(acceptances).await
                };
                if let Err(error) = refused.await {
                    tracing::error!(%error, "the log could not be made read-only");
                }
            }
            Err(error) => {
                let reason = error.to_string();
                if self.lock().trouble.replace(reason.clone()).is_none() {
                    tracing::warn!(reason, "nothing could be sealed");
                }
            }
        }
    }

    /// Seals and signs what is left, as far as it can be done in a moment, and lets another process take over.
    pub async fn close(&self) {
        self.stop.cancel();
        self.end_verification().await;
        if let Some(task) = self.looking_after.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // Nothing of it has to be finished: what it ends is ended by one statement.
            task.abort();
        }
        let task = self.sealing.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut task) = task else { return };
        if tokio::time::timeout(LAST_ROUND, &mut task).await.is_err() {
            tracing::warn!("the last events are not sealed yet; the next start does it");
            task.abort();
        }
    }

    /// The last checkpoint this process knows of.
    #[must_use]
    pub fn checkpoint(&self) -> Option<SignedCheckpoint> {
        self.lock().round.checkpoint.clone()
    }

    /// The newest checkpoint in the folder of the evidence and its targets.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub async fn newest_outside(&self) -> std::io::Result<Option<SignedCheckpoint>> {
        Ok(self.vault.with(Vault::outside).await?.newest().cloned())
    }

    /// Every public key, oldest first.
    ///
    /// # Errors
    /// The folder of the evidence cannot be read.
    pub async fn keys(&self) -> std::io::Result<Vec<VerifierKey>> {
        self.vault.with(Vault::keys).await
    }

    /// Makes a new key; what the old ones have signed stays verifiable.
    ///
    /// # Errors
    /// The folder of the evidence cannot be read or written.
    pub async fn rotate_key(&self) -> std::io::Result<VerifierKey> {
        let store_id = self.store.tree_id();
        let rotated = self.vault.with(move |vault| {
            let newest = vault.outside()?.newest().map(|newest| newest.checkpoint.origin);
            vault.rotate(newest.unwrap_or(Origin { store_id, acceptances: 0 }))
        });
        rotated.await
    }

    /// Why the event at a position is in the tree of the last checkpoint.
    ///
    /// # Errors
    /// [`ProofError`].
    pub async fn inclusion(&self, position: u64) -> Result<Inclusion, ProofError> {
        let checkpoint = self.checkpoint();
        let size = checkpoint.as_ref().map_or(0, |signed| signed.checkpoint.head.size);
        if position == 0 || (position > size && position > self.store.tree().await?.head) {
            return Err(ProofError::NoEvent(position));
        }
        let checkpoint = checkpoint.ok_or(ProofError::NoCheckpoint)?;
        if position > size {
            return Err(ProofError::NotSealed { position, size });
        }
        let proof = self.recent.inclusion(&*self.store, position - 1, &checkpoint.checkpoint.head).await?;
        let (leaf, hashes) = proof.ok_or(ProofError::Violation)?;
        Ok(Inclusion { leaf, hashes, checkpoint })
    }

    /// Why the tree of `from` leaves is the beginning of the one of `to`; to that of the last checkpoint if absent.
    ///
    /// # Errors
    /// [`ProofError`].
    pub async fn consistency(
        &self,
        from: u64,
        to: Option<u64>,
    ) -> Result<(u64, Vec<Hash>, SignedCheckpoint), ProofError> {
        let checkpoint = self.checkpoint().ok_or(ProofError::NoCheckpoint)?;
        let head = checkpoint.checkpoint.head;
        let to = to.unwrap_or(head.size);
        if from == 0 || from > to || to > head.size {
            return Err(ProofError::Sizes(head.size));
        }
        let proof = proofs::consistency(&*self.store, from, to).await?.ok_or(ProofError::Violation)?;
        // The tree that is proven from is the one that was signed.
        if proofs::root(&*self.store, head.size).await? != Some(head.root) {
            return Err(ProofError::Violation);
        }
        Ok((to, proof, checkpoint))
    }

    /// Verifies one stream; `None` if it has no events.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn verify_stream(&self, stream: &str) -> Result<Option<StreamReport>, StoreError> {
        let checkpoint = match self.checkpoint() {
            Some(checkpoint) => Some(checkpoint),
            None => self.outside_of_files().await.into_iter().max_by_key(|signed| signed.checkpoint.head.size),
        };
        stream::verify_stream(&*self.store, stream, checkpoint.as_ref()).await
    }

    async fn outside_of_files(&self) -> Vec<SignedCheckpoint> {
        let outside = self.vault.with(Vault::outside).await.unwrap_or_default();
        outside.last.into_iter().map(|found| found.signed).collect()
    }
}
