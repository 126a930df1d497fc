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
    catalog::nearest,
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

/// The settings name a projection that there is not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "projections.definitions.{name} names no projection{}",
    nearest.first().map(|near| format!("; did you mean {near:?}?")).unwrap_or_default()
)]
pub struct UnknownProjection {
    /// As set.
    pub name: String,
    /// Known names close to it.
    pub nearest: Vec<String>,
}

/// Checks that the settings of single projections are about projections that there are.
///
/// # Errors
/// [`UnknownProjection`] for the first that is not.
pub fn check_names<'a>(
    set: impl IntoIterator<Item = &'a str>,
    projections: &[Arc<dyn Projection>],
) -> Result<(), UnknownProjection> {
    let names = || projections.iter().map(|projection| projection.name());
    match set.into_iter().find(|name| !names().any(|known| known == *name)) {
        Some(name) => Err(UnknownProjection { name: name.to_owned(), nearest: nearest(name, names()) }),
        None => Ok(()),
    }
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
