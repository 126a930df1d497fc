//! The command bus: a chain of middleware in front of the aggregates.

mod request;

pub use request::{
    Action, AppendedEvent, CommandAccepted, CommandRequest, CommandResult, DecodedCommand, Idempotency, Principal,
    RawAppend, RawEvent, RequestContext,
};
