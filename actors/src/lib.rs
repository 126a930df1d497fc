//! Runtime.

pub mod aggregate;
pub mod catalog;
pub mod codec;
pub mod command_bus;
pub mod digest;
pub mod envelope;
pub mod error;
pub mod id;
pub mod limits;
pub mod memory;
pub mod ports;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod upcast;
pub mod version;

pub use aggregate::{
    Aggregate, Command, CommandData, DecisionContext, DomainEvent, FieldError, Refusal, Rejection, Violations,
};
pub use envelope::{EventFilter, Metadata, NewEvent, RecordedEvent, Snapshot, StreamHead};
pub use id::{AggregateId, AggregateType, CommandId, EventId, EventType};
pub use limits::Limits;
pub use version::{Expected, Position, Sequence};

#[doc(hidden)]
pub mod __private {
    pub use serde_json::value::RawValue;
}
