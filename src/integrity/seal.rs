//! Sealing: one process at a time lets the tree grow over the log, checks each event on the way, and signs.
//!
//! A round comes once an interval. It reads the checkpoints outside first and the database after, so that an honest
//! database is never behind them; it signs only what is proven to continue every one of them. A process that does not have
//! the lease follows: it takes over the owner's checkpoints into its own folder, each proven to continue its last one.

use std::{sync::Arc, time::Duration};

use event_sourcing_actors::ports::StoreError;
use tokio::time::Instant;
use uuid::Uuid;

use super::{
    check::{Checked, Checker, Fault, leaf},
    note::{Checkpoint, Origin, SignedCheckpoint},
    pages::Pages,
    port::{Growth, SealLease, StoredRow, TreeState, TreeStore},
    proofs,
    tiles::Frontier,
    tree::{self, TreeHead},
    vault::{Found, Outside, Vault},
};

/// Leaves of one growth: its unfinished tiles are written anew by the next.
const GROWTH_MAX: u64 = 8_192;
/// Leaves of one round: what is left is signed by the next, which comes at once.
const ROUND_MAX: u64 = 65_536;
/// Looks before a round believes in what may be another process that is just accepting or writing.
const LOOKS: u32 = 3;
const LOOK_PAUSE: Duration = Duration::from_millis(200);

/// Why a round has no outcome.
#[derive(Debug, thiserror::Error)]
pub(super) enum RoundError {
    /// The log is not what the checkpoints say.
    #[error("{0}")]
    Violation(String),
    /// The store does not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The folder does not.
    #[error("the folder of the evidence: {0}")]
    Folder(#[from] std::io::Error),
}

/// What a round has found.
#[derive(Debug, Clone, Default)]
pub(super) struct Round {
    pub state: Option<TreeState>,
    /// The tree's size after the round.
    pub sealed: u64,
    pub checkpoint: Option<SignedCheckpoint>,
    pub is_owner: bool,
    /// Targets that could not be written.
    pub troubles: Vec<String>,
    /// Microseconds since 1970 of the first event that is not sealed.
    pub unsealed_since: Option<i64>,
}

/// The process that seals, or stands by.
#[derive(Debug)]
pub(super) struct Sealer {
    pub store: Arc<dyn TreeStore>,
    pub vault: Arc<Vault>,
    pub lease: Duration,
    me: Uuid,
    held: Option<(SealLease, Instant)>,
    edge: Option<(Frontier, Checker)>,
}

impl Round {
    /// Whether this process can go on at once.
    pub fn has_more(&self) -> bool {
        self.is_owner && self.state.as_ref().is_some_and(|state| state.head > self.sealed)
    }
}

impl Sealer {
    pub fn new(store: Arc<dyn TreeStore>, vault: Arc<Vault>, lease: Duration) -> Self {
        Self { store, vault, lease, me: Uuid::now_v7(), held: None, edge: None }
    }

    async fn outside(&self) -> Result<Outside, RoundError> {
        Ok(self.vault.with(Vault::outside).await?)
    }

    /// One round.
    pub async fn round(&mut self) -> Result<Round, RoundError> {
        let result = self.try_round().await;
        if result.is_err() {
            // Whatever was in memory may not be what is stored.
            self.forget();
        }
        result
    }

    fn forget(&mut self) {
        (self.held, self.edge) = (None, None);
    }

    async fn try_round(&mut self) -> Result<Round, RoundError> {
        let (outside, state) = self.looked().await?;
        let mut round = Round { sealed: state.size, troubles: outside.troubles.clone(), ..Round::default() };
        let newest = outside.newest().cloned();
        match self.acquired().await? {
            Some(lease) => {
                round.is_owner = true;
                round.sealed = self.grow(lease, state.size, state.head).await?;
                round.checkpoint = self.sign(lease, &state, &outside, &mut round.troubles).await?.or(newest);
            }
            None => round.checkpoint = self.follow(&state, &outside, &mut round.troubles).await?.or(newest),
        }
        if state.head > round.sealed {
            let next = i64::try_from(round.sealed + 1).unwrap_or(i64::MAX);
            round.unsealed_since = self.store.rows(next, 1).await?.iter().next().map(|row| row.recorded_at);
        }
        round.state = Some(state);
        Ok(round)
    }

    /// Checkpoints and tree, once they fit each other.
    async fn looked(&self) -> Result<(Outside, TreeState), RoundError> {
        let mut looks = 1;
        loop {
            let outside = self.outside().await?;
            let state = self.store.tree().await?;
            let Some(doubt) = doubt(&outside, &state) else { return Ok((outside, state)) };
            if looks == LOOKS {
                return Err(RoundError::Violation(doubt));
            }
            looks += 1;
            tokio::time::sleep(LOOK_PAUSE).await;
        }
    }

    /// The lease, renewed when half of it is over.
    async fn acquired(&mut self) -> Result<Option<SealLease>, RoundError> {
        if let Some((lease, since)) = self.held
            && since.elapsed() < self.lease / 2
        {
            return Ok(Some(lease));
        }
        let now = Instant::now();
        let lease = self.store.acquire_tree(self.me, self.lease).await?;
        if lease.map(|lease| lease.epoch) != self.held.map(|(lease, _)| lease.epoch) {
            self.edge = None;
        }
        self.held = lease.map(|lease| (lease, now));
        Ok(lease)
    }

    /// Lets the tree grow to the log's head, or as far as a round goes; returns its size.
    async fn grow(&mut self, lease: SealLease, size: u64, head: u64) -> Result<u64, RoundError> {
        let head = head.min(size + ROUND_MAX);
        let (mut frontier, mut checker) = match self.edge.take() {
            Some(edge) if edge.0.size() == size => edge,
            _ => match proofs::frontier(&*self.store, size).await? {
                Some(frontier) => (frontier, Checker::after(size)),
                None => return Err(RoundError::Violation("the stored tree is incomplete".to_owned())),
            },
        };
        let mut pages = Pages::from(&*self.store, size.max(1).cast_signed());
        let mut stored = size;
        while frontier.size() < head {
            let rows = pages.next().await?;
            if rows.is_empty() {
                return Err(violation(checker.missing()));
            }
            for row in rows.iter().take_while(|row| row.position <= head.cast_signed()) {
                if row.position == size.cast_signed() && size > 0 {
                    same_leaf(&frontier, &row)?;
                    continue;
                }
                let checked = self.checked(&mut checker, &row).await?;
                frontier.push(checked);
            }
            if frontier.size() == head || frontier.size() - stored >= GROWTH_MAX {
                let mut tiles = frontier.take_full();
                tiles.extend(frontier.open_tiles());
                let growth = Growth { lease, from: stored, to: frontier.size(), tiles };
                if !self.store.grow_tree(growth).await? {
                    // Another owns the tree now.
                    self.forget();
                    return Ok(stored);
                }
                stored = frontier.size();
            }
        }
        self.edge = Some((frontier, checker));
        Ok(stored)
    }

    /// The leaf of the next event, if it is intact.
    async fn checked(&self, checker: &mut Checker, row: &StoredRow<'_>) -> Result<tree::Hash, RoundError> {
        let mut checked = checker.check(row);
        if checked == Checked::PredecessorUnknown {
            let before = self.store.predecessor(row.aggregate_id, row.sequence.saturating_sub(1)).await?;
            checked = checker.check_after(row, before.and_then(|before| before.chain));
        }
        match checked {
            Checked::Leaf(leaf) => Ok(leaf),
            Checked::Fault(fault) => Err(violation(fault)),
            Checked::PredecessorUnknown => Err(violation(checker.missing())),
        }
    }

    /// Signs what is new, once it is proven to continue everything outside.
    async fn sign(
        &self,
        lease: SealLease,
        state: &TreeState,
        outside: &Outside,
        troubles: &mut Vec<String>,
    ) -> Result<Option<SignedCheckpoint>, RoundError> {
        let Some((frontier, _)) = &self.edge else { return Ok(None) };
        let head = TreeHead { size: frontier.size(), root: frontier.root() };
        self.prove(state, outside, &head).await?;
        let is_news = outside.newest().is_none_or(|newest| newest.checkpoint.head.size < head.size);
        let is_behind = outside.last.iter().any(|found| {
            let there = found.signed.checkpoint;
            (there.origin.acceptances, there.head.size) < (state.acceptances, head.size)
        });
        if head.size == 0 || !(is_news || is_behind) {
            return Ok(None);
        }
        let origin = Origin { store_id: self.store.tree_id(), acceptances: state.acceptances };
        let stored = self.vault.with(move |vault| {
            let signed = SignedCheckpoint::sign(Checkpoint { origin, head }, &vault.signer(origin)?);
            vault.store(&signed).map(|failed| (signed, failed))
        });
        let (signed, failed) = stored.await?;
        troubles.extend(failed);
        self.store.publish_checkpoint(lease, signed.note.clone()).await?;
        Ok(Some(signed))
    }

    /// Every checkpoint outside must be a beginning of this tree, but for those from before an acceptance.
    async fn prove(&self, state: &TreeState, outside: &Outside, head: &TreeHead) -> Result<(), RoundError> {
        let is_current = |found: &&Found| found.signed.checkpoint.origin.acceptances == state.acceptances;
        for found in outside.last.iter().filter(is_current) {
            let old = found.signed.checkpoint.head;
            if old.size <= head.size && !proofs::is_beginning(&*self.store, &old, head).await? {
                return Err(RoundError::Violation(format!(
                    "the log is not a continuation of the checkpoint at position {} in {}",
                    old.size, found.place
                )));
            }
        }
        Ok(())
    }

    /// Takes the owner's checkpoint over into this process's folder, if the tree shows that it continues its last one.
    async fn follow(
        &self,
        state: &TreeState,
        outside: &Outside,
        troubles: &mut Vec<String>,
    ) -> Result<Option<SignedCheckpoint>, RoundError> {
        let Some(note) = state.checkpoint.clone() else { return Ok(None) };
        let keys = self.vault.with(Vault::keys).await?;
        let Ok(signed) = SignedCheckpoint::read(&note, &keys) else {
            troubles.push("the checkpoint in the database cannot be read".to_owned());
            return Ok(None);
        };
        let Checkpoint { origin, head } = signed.checkpoint;
        let expected = Origin { store_id: self.store.tree_id(), acceptances: state.acceptances };
        let is_news = outside.newest().is_none_or(|newest| newest.checkpoint.head.size < head.size);
        if !is_news || origin != expected || head.size > state.size {
            return Ok(None);
        }
        self.prove(state, outside, &head).await?;
        if proofs::root(&*self.store, head.size).await? != Some(head.root) {
            return Err(RoundError::Violation(format!(
                "the tree does not have the root of the checkpoint at position {}",
                head.size
            )));
        }
        let stored = signed.clone();
        troubles.extend(self.vault.with(move |vault| vault.store(&stored)).await?);
        Ok(Some(signed))
    }

    /// Lets another process take over at once.
    pub async fn release(&mut self) {
        if self.held.is_some() {
            self.forget();
            // Else it runs out by itself.
            let _ = self.store.release_tree(self.me).await;
        }
    }
}

/// Why checkpoints and database do not fit.
fn doubt(outside: &Outside, state: &TreeState) -> Option<String> {
    if let Some(altered) = outside.altered.first() {
        return Some(format!("a checkpoint outside of the database was altered: {altered}"));
    }
    if state.size > state.head {
        return Some(format!(
            "the log ends at position {}, but was sealed to {}: it went back",
            state.head, state.size
        ));
    }
    let newest = outside.newest()?.checkpoint;
    if newest.origin.acceptances != state.acceptances {
        return Some(format!(
            "the database counts {} accepted rollbacks, the checkpoints outside {}",
            state.acceptances, newest.origin.acceptances
        ));
    }
    (newest.head.size > state.head).then(|| {
        format!(
            "the log ends at position {}, but a checkpoint outside of the database covers {}: it went back",
            state.head, newest.head.size
        )
    })
}

fn violation(fault: Fault) -> RoundError {
    RoundError::Violation(format!("position {}: {}", fault.position, fault.reason))
}

/// The last sealed event must still be the one that was sealed.
fn same_leaf(frontier: &Frontier, row: &StoredRow<'_>) -> Result<(), RoundError> {
    match frontier.last_leaf() {
        Some(known) if leaf(row) != Some(known) => Err(RoundError::Violation(format!(
            "position {}: the event is not the one that was sealed; the log went back",
            row.position
        ))),
        _ => Ok(()),
    }
}
