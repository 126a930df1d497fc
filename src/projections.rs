//! The read models: four that are built in, and those an operator declares in `projections.yaml`.
//!
//! Each is a pure [`Projection`]: which events it wants, and what each does to its rows. None of them knows a store, a
//! query or the others.

pub mod account_balance;
pub mod declared;
pub mod inventory;
pub mod order_summary;
#[cfg(test)]
pub(crate) mod tests;
pub mod user_activity;

use std::sync::Arc;

use event_sourcing_actors::{
    Aggregate, AggregateType, DomainEvent, EventFilter, EventType,
    projection::{ApplyError, ProjectedEvent, Projection},
};

pub use account_balance::AccountBalance;
pub use declared::{DeclarationError, Declared, Known};
pub use inventory::Inventory;
pub use order_summary::OrderSummary;
pub use user_activity::UserActivity;

/// The four built-in projections.
#[must_use]
pub fn all() -> Vec<Arc<dyn Projection>> {
    vec![Arc::new(AccountBalance), Arc::new(OrderSummary), Arc::new(Inventory), Arc::new(UserActivity)]
}

/// All events of an aggregate's own streams.
fn interest_in<A: Aggregate>() -> EventFilter {
    let event_type = |(name, _): &(&str, u32)| EventType::new(name).ok();
    EventFilter {
        event_types: A::Event::KINDS.iter().filter_map(event_type).collect(),
        aggregate_types: AggregateType::new(A::TYPE).into_iter().collect(),
        ..EventFilter::default()
    }
}

/// The row that an earlier event of the stream must have made.
fn expected<T>(row: Option<T>, event: &ProjectedEvent<'_>) -> Result<T, ApplyError> {
    row.ok_or_else(|| {
        let (kind, id) = (&event.aggregate_type, &event.aggregate_id);
        ApplyError::failed(format!("{}: no earlier event made {kind} {:?}", event.event_type, id.as_str()))
    })
}

/// There must not be such a row yet.
fn unexpected<T>(row: Option<T>, event: &ProjectedEvent<'_>) -> Result<(), ApplyError> {
    match row {
        None => Ok(()),
        Some(_) => {
            let (kind, id) = (&event.aggregate_type, &event.aggregate_id);
            Err(ApplyError::failed(format!("{}: there is {kind} {:?} already", event.event_type, id.as_str())))
        }
    }
}

/// The outcome of checked arithmetic on a member.
fn within<T>(number: Option<T>, member: &str) -> Result<T, ApplyError> {
    number.ok_or_else(|| ApplyError::failed(format!("{member} would not fit into 64 bits")))
}
