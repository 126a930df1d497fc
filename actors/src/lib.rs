//! `event-sourcing-actors`: the runtime of `event-sourcing-cqrs`, for embedders.
//!
//! Each aggregate instance is a supervised actor that decides one command at a time on its speculative state; one
//! journal task makes what was decided durable in groups; nobody hears "done" before that. The crate knows no SQL, no
//! HTTP and no files: stores come through [`ports`], and [`memory`] has one to start with.
//!
//! # Map, in reading order
//! - **Vocabulary, pure:** [`id`], [`version`], [`envelope`], [`aggregate`], [`upcast`], [`codec`], [`digest`],
//!   [`difference`], [`schema`], [`error`], [`limits`], [`personal`], [`master_keys`]
//! - **Ports:** [`ports`] (event store, snapshot store, keys of subjects, clock)
//! - **Write side:** [`command_bus`], [`catalog`], `registry`, `aggregate_actor`, `speculative`, `progress`, `work`, `answer`,
//!   [`vault`], `opened`, `recovery`, `journal`, [`erasure`]
//! - **Reading the log:** [`pubsub`], [`feed`], [`history`]
//! - **Read models:** [`projection`] and [`query`] (what they are made by), `projection_actor`, `parked`, `rebuild` (how
//!   they are moved), [`projections`] (what operators see), [`freshness`], [`query_bus`]
//! - **Other timelines:** [`branches`]
//! - **Life cycle:** `supervisor`, [`observe`], [`runtime`]
//! - **In memory and in tests:** [`memory`], `testing`
//!
//! # Promises
//! An answer leaves only after the store has confirmed what it rests on, refusals too. One command id has at most one
//! effect, for ever. Positions and sequences are 1, 2, 3 … without holes. Every queue and wait has a bound in
//! [`limits::Limits`].

// Vocabulary: pure.
pub mod aggregate;
pub mod codec;
pub mod difference;
pub mod digest;
pub mod envelope;
pub mod error;
pub mod id;
pub mod limits;
pub mod master_keys;
pub mod personal;
pub mod ports;
pub mod schema;
pub mod upcast;
pub mod version;
pub mod view;

// Write side.
mod aggregate_actor;
mod answer;
pub mod catalog;
pub mod command_bus;
pub mod erasure;
mod journal;
mod opened;
mod progress;
mod recovery;
mod registry;
mod slow;
mod speculative;
pub mod vault;
mod work;

// Reading the log.
pub mod feed;
pub mod freshness;
pub mod history;
mod parked;
pub mod projection;
mod projection_actor;
mod projection_supervisor;
pub mod projections;
pub mod pubsub;
pub mod query;
pub mod query_bus;
mod rebuild;

// Process side.
pub mod branches;
mod failpoint;
pub mod saga;
pub mod sagas;

// Life cycle.
pub mod observe;
pub mod runtime;
mod supervisor;

// In memory and in tests.
pub mod memory;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use aggregate::{
    Aggregate, Command, CommandData, DecisionContext, DomainEvent, FieldError, Refusal, Rejection, Violations,
};
pub use aggregate_actor::AggregateMessage;
pub use envelope::{EventFilter, Metadata, NewEvent, RecordedEvent, Snapshot, StreamHead};
pub use id::{AggregateId, AggregateType, BranchId, CommandId, EventId, EventType};
pub use limits::Limits;
pub use recovery::RecoveryError;
pub use registry::{ParkedAggregate, SnapshotFrequency};
pub use runtime::{Runtime, RuntimeBuilder};
pub use version::{Expected, Position, Sequence};

#[doc(hidden)]
pub mod __private {
    //! What the macros of this crate name.
    pub use serde_json::value::RawValue;
}
