//! One event after the other of a log that is moved: checked like in a verification, and hashed into the tree.

use std::sync::Arc;

use event_sourcing_actors::ports::StoreError;
use tokio::runtime::Handle;

use crate::integrity::{
    FirstBad,
    check::{Checked, Checker},
    note::SignedCheckpoint,
    port::{StoredRow, StoredRows, TreeStore},
    tiles::{Frontier, Tile},
    tree::Hash,
};

/// Where the predecessor of an event is looked up that was too long ago to be remembered. Used from threads that may
/// wait.
#[derive(Debug, Clone)]
pub(super) struct Lookup {
    pub store: Arc<dyn TreeStore>,
    pub handle: Handle,
}

/// What an audit finds.
#[derive(Debug)]
pub(super) enum AuditError {
    /// The log is not what was recorded.
    Bad(FirstBad),
    /// The store failed.
    Store(StoreError),
}

/// The audit of a log from its first event on.
#[derive(Debug)]
pub(super) struct Audit {
    checker: Checker,
    frontier: Frontier,
    /// Those yet to be met, the next one last.
    anchors: Vec<SignedCheckpoint>,
    lookup: Option<Lookup>,
    proven: u64,
    held: usize,
    unfollowed: u64,
}

impl Audit {
    /// Holds the log against these checkpoints.
    pub fn new(mut anchors: Vec<SignedCheckpoint>, lookup: Option<Lookup>) -> Self {
        anchors.retain(|anchor| anchor.checkpoint.head.size > 0);
        anchors.sort_by_key(|anchor| anchor.checkpoint.head.size);
        anchors.dedup_by_key(|anchor| anchor.checkpoint.head);
        anchors.reverse();
        let (checker, frontier) = (Checker::after(0), Frontier::default());
        Self { checker, frontier, anchors, lookup, proven: 0, held: 0, unfollowed: 0 }
    }

    /// Checks rows.
    pub fn take(&mut self, rows: &StoredRows) -> Result<(), AuditError> {
        rows.iter().try_for_each(|row| self.take_one(&row))
    }

    /// Checks one row.
    pub fn take_one(&mut self, row: &StoredRow<'_>) -> Result<(), AuditError> {
        let bad = |position, reason: &str| {
            Err(AuditError::Bad(FirstBad { position, to_position: None, reason: reason.to_owned() }))
        };
        let mut checked = self.checker.check(row);
        if checked == Checked::PredecessorUnknown {
            checked = match &self.lookup {
                Some(Lookup { store, handle }) => {
                    let before = store.predecessor(row.aggregate_id, row.sequence.saturating_sub(1));
                    let before = handle.block_on(before).map_err(AuditError::Store)?;
                    self.checker.check_after(row, before.and_then(|before| before.chain))
                }
                None => {
                    self.unfollowed += 1;
                    self.checker.check_unfollowed(row)
                }
            };
        }
        match checked {
            Checked::Leaf(leaf) => self.frontier.push(leaf),
            Checked::Fault(fault) => return bad(fault.position, fault.reason),
            Checked::PredecessorUnknown => return bad(self.checker.next(), "its predecessor cannot be found"),
        }
        self.meet()
    }

    fn meet(&mut self) -> Result<(), AuditError> {
        let size = self.frontier.size();
        while let Some(anchor) = self.anchors.last().filter(|anchor| anchor.checkpoint.head.size == size) {
            if anchor.checkpoint.head.root != self.frontier.root() {
                let reason = "the log does not have the root of the checkpoint".to_owned();
                return Err(AuditError::Bad(FirstBad { position: self.proven + 1, to_position: Some(size), reason }));
            }
            (self.proven, self.held) = (size, self.held + 1);
            self.anchors.pop();
        }
        Ok(())
    }

    /// Events so far.
    pub fn size(&self) -> u64 {
        self.frontier.size()
    }

    /// The root of the tree over them.
    pub fn root(&self) -> Hash {
        self.frontier.root()
    }

    /// The largest checkpoint that was met, and how many were.
    pub fn met(&self) -> (Option<u64>, usize) {
        ((self.held > 0).then_some(self.proven), self.held)
    }

    /// Events whose chain could not be followed, as there are too many streams and no store to ask.
    pub fn unfollowed(&self) -> u64 {
        self.unfollowed
    }

    /// Tiles that became full since the last call.
    pub fn full_tiles(&mut self) -> Vec<Tile> {
        self.frontier.take_full()
    }

    /// The unfinished tiles.
    pub fn open_tiles(&self) -> Vec<Tile> {
        self.frontier.open_tiles()
    }
}
