//! Ports: traits whose documentation is the adapters' specification.

mod branch_store;
mod clock;
mod event_store;
mod operation;
mod parked;
mod query_cache;
mod snapshot_rules;
mod snapshot_store;
mod subject_keys;
mod tombstones;
mod traces;
mod view_rules;
mod view_store;
mod wakeups;

pub use branch_store::{
    BRANCHES_LIVE_MAX, Branch, BranchAppend, BranchCommand, BranchCreated, BranchKey, BranchMerge, BranchStatus,
    BranchStore, MergeOutcome, NewBranch,
};
pub use clock::{Clock, SystemClock};
pub use event_store::{
    AppendBatch, AppendUnit, CommandProbe, CommandRecord, Committed, Direction, EventStore, KeyRecord, LogPage,
    StoreError, StreamClaim, StreamRange, StreamSummary, UnitOutcome,
};
pub use operation::{Operation, OperationStatus, OperationUpdate, OperationsKept};
pub use parked::{NewParked, ParkedEvent, ParkedFilter, ParkedRequest};
pub use query_cache::{CacheUnavailable, CachedAnswer, QueryCache};
pub use snapshot_rules::{SNAPSHOT_GAP_EVENTS_MAX, superfluous};
pub use snapshot_store::{SnapshotStore, StoredSnapshot};
pub use subject_keys::{ERASED_WORDS, KeyCensus, Scrubber, StoredKey, StoredKeyState, SubjectKeys, WrappedKey};
pub use tombstones::{Tombstone, Tombstones};
pub use traces::{NoTraces, Traces};
pub use view_rules::{Objection, Ruling};
pub use view_store::{
    Checkpoint, Control, Controlled, Fault, Generation, Lease, LeaseClaim, Move, Previous, ProjectionState,
    REVISION_LEAP, Revision, Shadow, Tally, Transition, VIEW_CHANGES_MAX, ViewChanges, ViewCommit, ViewOutcome,
    ViewPage, ViewStore,
};
pub use wakeups::{Wakeup, Wakeups};
