//! The long-running transactions: a transfer between two accounts, and the fulfilment of an order.
//!
//! Each is a list of steps over commands of the domains; when one begins, is tried again or is undone, and how a crash is
//! survived, is the runtime's business. None of them knows a store, a clock or a setting.

mod order_fulfillment;
mod transfer;

use std::time::Duration;

use event_sourcing_actors::saga::{SagaDefinitions, SagaTwice, StepPolicy};

pub use order_fulfillment::order_fulfillment_saga;
pub use transfer::transfer_saga;

/// How long a saga may take, and how often its steps are tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// For the whole; then it turns round.
    pub timeout: Duration,
    /// For each step.
    pub steps: StepPolicy,
}

/// The policy of each saga.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policies {
    /// Of `TransferSaga`.
    pub transfer: Policy,
    /// Of `OrderFulfillmentSaga`.
    pub order_fulfillment: Policy,
}

/// Adds both sagas.
///
/// # Errors
/// [`SagaTwice`] when one of their names is taken.
pub fn register(definitions: &mut SagaDefinitions, policies: &Policies) -> Result<(), SagaTwice> {
    definitions.register(transfer_saga(policies.transfer))?;
    definitions.register(order_fulfillment_saga(policies.order_fulfillment))
}

#[cfg(test)]
pub(crate) mod tests;
