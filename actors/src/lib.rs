//! Runtime.

pub mod aggregate;
mod aggregate_actor;
mod answer;
pub mod catalog;
pub mod codec;
pub mod command_bus;
pub mod digest;
pub mod envelope;
pub mod error;
pub mod feed;
pub mod history;
pub mod id;
mod journal;
pub mod limits;
pub mod observe;
pub mod ports;
pub mod pubsub;
mod recovery;
mod registry;
pub mod runtime;
mod supervisor;
pub mod upcast;
pub mod version;
mod work;

pub use aggregate::{
    Aggregate, Command, CommandData, DecisionContext, DomainEvent, FieldError, Refusal, Rejection, Violations,
};
pub use aggregate_actor::AggregateMessage;
pub use envelope::{EventFilter, Metadata, NewEvent, RecordedEvent, Snapshot, StreamHead};
pub use id::{AggregateId, AggregateType, CommandId, EventId, EventType};
pub use limits::Limits;
pub use recovery::RecoveryError;
pub use registry::{ParkedAggregate, SnapshotFrequency};
pub use runtime::{Runtime, RuntimeBuilder};
pub use version::{Expected, Position, Sequence};

#[doc(hidden)]
pub mod __private {
    pub use serde_json::value::RawValue;
}
