//! Verification of the whole log, or of what came after a checkpoint: every event is read, checked, and hashed into the
//! tree anew, which must be the stored tree and have the root of every checkpoint.

use std::ops::RangeInclusive;

use event_sourcing_actors::ports::{Clock, StoreError};

use super::{
    check::{Checked, Checker, Fault},
    note::SignedCheckpoint,
    pages::Pages,
    port::{StoredRow, TreeState, TreeStore},
    proofs,
    report::{FirstBad, Report},
    tiles::{Frontier, TILE_HASHES, Tile, TileId},
    tree::Hash,
};

/// Stored tiles compared at once.
const TILES_MAX: usize = 64;

/// What a log is held against.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Checkpoints from outside of the database.
    pub outside: Vec<SignedCheckpoint>,
    /// The checkpoint after which reading begins; everything if absent.
    pub from: Option<SignedCheckpoint>,
    /// Whether the log may end before the newest checkpoint, as a backup does.
    pub is_backup: bool,
    /// Only checksums and chains, without the tree: what evidence is compared with.
    pub is_chain_only: bool,
}

/// Why a verification has no outcome.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Somebody gave it up.
    #[error("an operator has given it up")]
    Cancelled,
    /// The checkpoint is not this log's.
    #[error("{0}")]
    Checkpoint(String),
}

/// Told now and then how many events are read, of how many; `false` gives the verification up.
pub type Progress<'a> = &'a mut (dyn FnMut(u64, u64) -> bool + Send);

struct Verification<'a> {
    store: &'a dyn TreeStore,
    state: TreeState,
    anchors: Vec<SignedCheckpoint>,
    wanted: Wanted,
    checker: Checker,
    frontier: Frontier,
    computed: Vec<Tile>,
    /// The first leaf that is not the one in the stored tree.
    leaf_differs: Option<u64>,
    /// The leaves below the first other hash that is not.
    node_differs: Option<RangeInclusive<u64>>,
    bad: Option<FirstBad>,
    /// Up to here the log is proven to be the one of a checkpoint.
    proven: u64,
    /// Anchors passed.
    met: usize,
    held: usize,
    remarks: Vec<String>,
}

/// Verifies a log.
///
/// Positions up to the head at the beginning are looked at; what is appended meanwhile is left for the next time.
///
/// # Errors
/// [`VerifyError`]; that something is wrong with the log is an outcome, and no error.
pub async fn verify(
    store: &dyn TreeStore,
    clock: &dyn Clock,
    wanted: Wanted,
    progress: Progress<'_>,
) -> Result<Report, VerifyError> {
    let started = tokio::time::Instant::now();
    let mut work = Verification::begin(store, wanted).await?;
    let first = work.checker.next();
    if work.bad.is_none() {
        work.read(progress).await?;
    }
    if work.bad.is_none() {
        work.judge_ends();
    }
    work.settle_difference();
    let mut report = work.report(first);
    if report.unsealed_events > 0 {
        let next = i64::try_from(report.sealed_position + 1).unwrap_or(i64::MAX);
        let rows = store.rows(next, 1).await.unwrap_or_default();
        let now = clock.now().timestamp_micros();
        report.unsealed_age_s = rows.iter().next().map(|row| now.saturating_sub(row.recorded_at).max(0) as f64 / 1e6);
    }
    report.duration_ms = (started.elapsed().as_secs_f64() * 1e6).round() / 1e3;
    Ok(report)
}

impl<'a> Verification<'a> {
    async fn begin(store: &'a dyn TreeStore, wanted: Wanted) -> Result<Self, VerifyError> {
        let state = store.tree().await?;
        let mut remarks = Vec::new();
        let mut anchors = wanted.outside.clone();
        // Checkpoints from before an acceptance are of a log that an operator has given up.
        let acceptances = anchors.iter().map(|anchor| anchor.checkpoint.origin.acceptances).max();
        anchors.retain(|anchor| Some(anchor.checkpoint.origin.acceptances) == acceptances);
        if anchors.is_empty() && !wanted.is_chain_only {
            remarks.push("no checkpoint from outside of the database: a cut tail cannot be excluded".to_owned());
        }
        if anchors.iter().any(|anchor| !anchor.is_signed) {
            remarks.push("a checkpoint is signed by no key that is known here".to_owned());
        }
        if acceptances.is_some_and(|outside| outside != state.acceptances) {
            remarks.push(format!(
                "the database counts {} accepted rollbacks, the checkpoints outside {}",
                state.acceptances,
                acceptances.unwrap_or(0)
            ));
        }
        let mut work = Self {
            store,
            state,
            anchors,
            wanted,
            checker: Checker::after(0),
            frontier: Frontier::default(),
            computed: Vec::new(),
            leaf_differs: None,
            node_differs: None,
            bad: None,
            proven: 0,
            met: 0,
            held: 0,
            remarks,
        };
        work.start_at_checkpoint().await?;
        if work.wanted.is_chain_only {
            work.anchors.clear();
        }
        work.anchors.retain(|anchor| anchor.checkpoint.head.size > work.frontier.size());
        work.anchors.sort_by_key(|anchor| anchor.checkpoint.head.size);
        work.anchors.dedup_by_key(|anchor| anchor.checkpoint.head);
        Ok(work)
    }

    /// Takes the tree up to the checkpoint from the store, if it has the checkpoint's root.
    async fn start_at_checkpoint(&mut self) -> Result<(), VerifyError> {
        let Some(from) = self.wanted.from.clone() else { return Ok(()) };
        if from.checkpoint.origin.store_id != self.store.tree_id() {
            return Err(VerifyError::Checkpoint("the checkpoint is of another store".to_owned()));
        }
        let head = from.checkpoint.head;
        if head.size > self.state.size {
            // The stored tree does not reach so far: everything is read, and the root met on the way.
            self.remarks.push("the tree does not reach the checkpoint, so everything was read".to_owned());
            self.anchors.push(from);
            return Ok(());
        }
        match proofs::frontier(self.store, head.size).await? {
            Some(frontier) if frontier.root() == head.root => {
                (self.checker, self.frontier) = (Checker::after(head.size), frontier);
                (self.proven, self.held) = (head.size, 1);
            }
            _ => {
                let reason = "the log is not the one of the checkpoint".to_owned();
                self.bad = Some(FirstBad { position: 1, to_position: Some(head.size), reason });
            }
        }
        Ok(())
    }

    async fn read(&mut self, progress: Progress<'_>) -> Result<(), VerifyError> {
        let head = self.state.head;
        // Also what lies before the first position, where nothing may lie.
        let first = if self.checker.next() == 1 { i64::MIN } else { self.checker.next().cast_signed() };
        let mut pages = Pages::from(self.store, first);
        while self.checker.next() <= head {
            let rows = match pages.next().await {
                Ok(rows) => rows,
                Err(StoreError::Corrupt { .. }) => {
                    let fault = Fault { position: self.checker.next(), reason: "the event cannot be read" };
                    return self.stop(fault).await;
                }
                Err(error) => return Err(error.into()),
            };
            if rows.is_empty() {
                return self.stop(self.checker.missing()).await;
            }
            for row in rows.iter() {
                if self.checker.next() > head {
                    break;
                }
                if let Some(fault) = self.take(&row).await? {
                    return self.stop(fault).await;
                }
                if self.bad.is_some() {
                    return self.compare(true).await;
                }
            }
            self.compare(false).await?;
            if !progress(self.checker.next() - 1, head) {
                return Err(VerifyError::Cancelled);
            }
        }
        self.compare(true).await
    }

    /// Checks one event and adds its leaf.
    async fn take(&mut self, row: &StoredRow<'_>) -> Result<Option<Fault>, StoreError> {
        let mut checked = self.checker.check(row);
        if checked == Checked::PredecessorUnknown {
            let before = self.store.predecessor(row.aggregate_id, row.sequence.saturating_sub(1)).await?;
            let before = before.filter(|before| before.position < row.position);
            checked = self.checker.check_after(row, before.and_then(|before| before.chain));
        }
        match checked {
            Checked::Leaf(leaf) => self.frontier.push(leaf),
            Checked::Fault(fault) => return Ok(Some(fault)),
            Checked::PredecessorUnknown => {}
        }
        while let Some(anchor) = self.anchors.get(self.met) {
            if anchor.checkpoint.head.size != self.frontier.size() {
                break;
            }
            if anchor.checkpoint.head.root != self.frontier.root() {
                let (position, to) = (self.proven + 1, self.frontier.size());
                let reason = "the log does not have the root of the checkpoint".to_owned();
                self.bad = Some(FirstBad { position, to_position: Some(to), reason });
                break;
            }
            (self.met, self.held) = (self.met + 1, self.held + 1);
            // Of several checkpoints of one size all must fit.
            if self.anchors.get(self.met).is_none_or(|next| next.checkpoint.head.size > self.frontier.size()) {
                self.proven = self.frontier.size();
            }
        }
        Ok(None)
    }

    /// Notes the first bad event, after everything before it was held against the stored tree.
    async fn stop(&mut self, fault: Fault) -> Result<(), VerifyError> {
        self.bad = Some(FirstBad { position: fault.position, to_position: None, reason: fault.reason.to_owned() });
        self.compare(true).await
    }

    /// Holds computed tiles against the stored ones, at the end also those that are not full.
    async fn compare(&mut self, is_end: bool) -> Result<(), VerifyError> {
        self.computed.extend(self.frontier.take_full());
        if self.wanted.is_chain_only {
            self.computed.clear();
        }
        if is_end && !self.wanted.is_chain_only {
            self.computed.extend(self.frontier.open_tiles());
        }
        if !is_end && self.computed.len() < TILES_MAX {
            return Ok(());
        }
        for tiles in std::mem::take(&mut self.computed).chunks(TILES_MAX) {
            let ids: Vec<TileId> = tiles.iter().map(|tile| tile.id).collect();
            let stored = match self.store.tiles(&ids).await {
                Ok(stored) => stored,
                Err(StoreError::Corrupt { .. }) => Vec::new(),
                Err(error) => return Err(error.into()),
            };
            for tile in tiles {
                let stored = stored.iter().find(|stored| stored.id == tile.id).map(|stored| stored.hashes.as_slice());
                let Some(below) = first_difference(tile, stored.unwrap_or(&[]), self.state.size) else { continue };
                let start = *below.start();
                match tile.id.level {
                    0 => self.leaf_differs = Some(self.leaf_differs.map_or(start, |first| first.min(start))),
                    // Of two that begin alike the one with fewer leaves says more.
                    _ => {
                        let key = |below: &RangeInclusive<u64>| (*below.start(), *below.end());
                        self.node_differs = self.node_differs.take().into_iter().chain([below]).min_by_key(key);
                    }
                }
            }
        }
        Ok(())
    }

    /// Whether a log that is sound so far ends where it should.
    fn judge_ends(&mut self) {
        if self.wanted.is_chain_only {
            return;
        }
        let head = self.state.head;
        let largest = self.anchors.last().map_or(0, |anchor| anchor.checkpoint.head.size);
        if largest > head && !self.wanted.is_backup {
            let reason = format!("the event is missing: the log ends at {head}, a checkpoint covers {largest}");
            self.bad = Some(FirstBad { position: head + 1, to_position: None, reason });
        } else if self.state.size > head {
            let reason = format!("the event is missing: the log ends at {head}, the tree covers {}", self.state.size);
            self.bad = Some(FirstBad { position: head + 1, to_position: None, reason });
        } else if largest > head {
            self.remarks.push(format!("the log ends at {head}, before the newest checkpoint ({largest})"));
        }
    }

    /// A leaf that differs comes before whatever was found after it. Whether the event or the tree was altered is told by
    /// the checkpoints.
    fn settle_difference(&mut self) {
        // A leaf that differs makes every hash above it differ.
        let position = match (self.leaf_differs, &self.node_differs) {
            (Some(leaf), Some(below)) if *below.end() >= leaf => leaf,
            (_, Some(below)) => *below.start(),
            (Some(leaf), None) => leaf,
            (None, None) => return,
        };
        if self.bad.as_ref().is_some_and(|bad| bad.to_position.unwrap_or(bad.position) < position) {
            return;
        }
        let reason = if position <= self.proven {
            "the stored tree was altered; the event is the one that was signed"
        } else {
            "the event is not the one that was sealed"
        };
        self.bad = Some(FirstBad { position, to_position: None, reason: reason.to_owned() });
    }

    fn report(self, first: u64) -> Report {
        let bad_from = self.bad.as_ref().map_or(u64::MAX, |bad| bad.position);
        let sealed = self.state.size.min(self.state.head);
        Report {
            intact: self.bad.is_none(),
            first_bad: self.bad,
            head_position: self.state.head,
            from_position: first,
            verified_position: (self.checker.next() - 1).min(bad_from.saturating_sub(1)),
            sealed_position: sealed,
            unsealed_events: self.state.head - sealed,
            unsealed_age_s: None,
            checkpoint_position: (self.held > 0).then_some(self.proven),
            checkpoints: self.held,
            read_only: self.state.is_read_only,
            remarks: self.remarks,
            duration_ms: 0.0,
        }
    }
}

/// Positions of the leaves below the first hash that is not as stored, as far as the tree was sealed.
fn first_difference(computed: &Tile, stored: &[Hash], sealed: u64) -> Option<RangeInclusive<u64>> {
    let TileId { level, index } = computed.id;
    let below = u32::from(level) * 8;
    let first = index * TILE_HASHES as u64;
    let sealed = usize::try_from((sealed >> below).saturating_sub(first)).unwrap_or(usize::MAX);
    let compared = computed.hashes.iter().take(sealed).enumerate();
    let mut differs = compared.filter(|(at, hash)| stored.get(*at) != Some(hash));
    differs.next().map(|(at, _)| {
        let at = first + at as u64;
        (at << below) + 1..=(at + 1) << below
    })
}
