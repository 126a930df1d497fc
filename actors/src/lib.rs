//! `event-sourcing-actors`: the runtime of `event-sourcing-cqrs`, for embedders.
//!
//! Each aggregate instance is a supervised actor that decides one command at a time on its speculative state; one
//! journal task makes what was decided durable in groups; nobody hears "done" before that. The crate knows no SQL, no
//! HTTP and no files: stores come through [`ports`], and [`memory`] has one to start with.
//!
//! An aggregate is a state with two pure functions:
//!
//! ```
//! use std::sync::Arc;
//!
//! use event_sourcing_actors::{
//!     Aggregate, CommandData, DecisionContext, Rejection, RuntimeBuilder, commands, events, memory::MemoryStore,
//!     ports::SystemClock,
//! };
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Debug, Clone, Deserialize)]
//! #[serde(deny_unknown_fields)]
//! pub struct Increment { by: i64 }
//! impl CommandData for Increment {}
//! commands! { pub enum CounterCommand { Increment } }
//!
//! #[derive(Debug, Clone, Serialize, Deserialize)]
//! pub struct Incremented { by: i64 }
//! // Schema version 1; later ones lift what is stored, see `upcast`.
//! events! { pub enum CounterEvent { Incremented = 1 } }
//!
//! #[derive(Debug, thiserror::Error)]
//! #[error("{0} is too much at once")]
//! pub struct TooMuch(i64);
//! impl Rejection for TooMuch {
//!     fn code(&self) -> &'static str { "too-much" }
//! }
//!
//! #[derive(Debug, Default, Clone, Serialize, Deserialize)]
//! pub struct Counter { value: i64 }
//! impl Aggregate for Counter {
//!     const TYPE: &'static str = "counter";
//!     type Command = CounterCommand;
//!     type Event = CounterEvent;
//!     type Rejection = TooMuch;
//!
//!     fn decide(&self, command: &CounterCommand, _: &DecisionContext<'_>) -> Result<Vec<CounterEvent>, TooMuch> {
//!         let CounterCommand::Increment(Increment { by }) = *command;
//!         if by > 10 { Err(TooMuch(by)) } else { Ok(vec![Incremented { by }.into()]) }
//!     }
//!
//!     fn apply(&mut self, CounterEvent::Incremented(event): &CounterEvent) {
//!         self.value = self.value.saturating_add(event.by);
//!     }
//! }
//!
//! # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
//! let store = Arc::new(MemoryStore::new(Arc::new(SystemClock)));
//! let runtime = RuntimeBuilder::new(store.clone(), store).aggregate::<Counter>()?.start().await?;
//! let accepted = runtime.execute::<Counter>("visits", Increment { by: 3 }).await?;
//! assert_eq!((accepted.version.0, accepted.position.0), (1, 1));
//! assert!(runtime.execute::<Counter>("visits", Increment { by: 11 }).await.is_err());
//! runtime.shutdown().await;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # }).unwrap();
//! ```
//!
//! # Map, in reading order
//! - **Vocabulary, pure:** [`id`], [`version`], [`envelope`], [`aggregate`], [`upcast`], [`codec`], [`digest`],
//!   [`difference`], [`schema`], [`error`], [`limits`], [`personal`], [`master_keys`]
//! - **Ports:** [`ports`] (event store, snapshot store, view store, keys of subjects, clock)
//! - **Write side:** [`command_bus`], [`catalog`], `registry`, `aggregate_actor`, `speculative`, `progress`, `work`, `answer`,
//!   [`vault`], `opened`, `recovery`, `journal`, [`erasure`]
//! - **Reading the log:** [`pubsub`], [`feed`], [`history`]
//! - **Read models:** [`projection`] and [`query`] (what they are made by), `projection_actor`, `parked`, `rebuild` (how
//!   they are moved), [`projections`] (what operators see), [`freshness`], [`query_bus`]
//! - **Other timelines:** [`branches`]
//! - **Life cycle:** `supervisor`, [`observe`], [`runtime`]
//! - **In memory and in tests:** [`memory`], `testing` (behind the feature of that name: given/when/then for aggregates,
//!   projections and sagas, contract suites for stores, a clock that tests move)
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
