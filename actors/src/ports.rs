//! Ports: traits whose documentation is the adapters' specification.

mod clock;
mod event_store;
mod snapshot_store;
mod wakeups;

pub use clock::{Clock, SystemClock};
pub use event_store::{
    AppendBatch, AppendUnit, CommandProbe, Committed, Direction, EventStore, KeyRecord, LogPage, StoreError,
    StreamClaim, StreamRange, StreamSummary, UnitOutcome,
};
pub use snapshot_store::SnapshotStore;
pub use wakeups::{Wakeup, Wakeups};
