//! `OrderFulfillmentSaga`: reserves the stock of every line of an order, withdraws its total, confirms and pays it; or
//! undoes what was done and cancels the order.
//!
//! # Whose order it is
//! The saga works on the order as it read it: `created`, with items, at one version. It cancels what is still exactly
//! that, or that and its own confirmation; both are said by the version that [`CancelOrder`] demands. An order that
//! somebody else changed meanwhile, by adding an item, paying, cancelling or fulfilling it, goes on with whoever did so:
//! the saga takes its own doings back and leaves the order alone.
//!
//! [`CancelOrder`]: crate::domain::order::CancelOrder

use event_sourcing_actors::{
    Aggregate, AggregateId, AggregateType, FieldError, Sequence,
    saga::{Call, ReadRecord, Reason, SagaError, SagaRecord, Step, StepRecord, StepSaga, StepStatus},
};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use super::Policy;
use crate::domain::order::{Order, OrderItem, OrderState, OrderStatus};

const ORDER: &str = "order";
const WITHDRAW: &str = "withdraw";
const CONFIRM: &str = "confirm";
const PAY: &str = "pay";

/// What a fulfilment is started with.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OrderFulfillment {
    /// The order; `created`, with items.
    order_id: AggregateId,
    /// Who pays.
    account_id: AggregateId,
}

impl OrderFulfillment {
    fn faults(&self) -> Vec<FieldError> {
        if self.order_id != self.account_id {
            return Vec::new();
        }
        let detail = "must not be the order_id: an id names one aggregate".to_owned();
        vec![FieldError { pointer: "/account_id".to_owned(), detail }]
    }

    fn to_order(&self, command_type: &str, data: serde_json::Value) -> Result<Call, SagaError> {
        Call::new(self.order_id.as_str(), command_type, data)
    }

    fn cancel(&self, saga: &SagaRecord, version: Sequence) -> Result<Call, SagaError> {
        let reason = format!("it could not be fulfilled, see saga {}", saga.saga_id);
        Ok(self.to_order("CancelOrder", json!({ "reason": reason }))?.at_version(version))
    }

    /// Reads the order. Its undo cancels it, if it was the saga's to work on.
    fn order(&self, saga: &SagaRecord) -> Result<Step, SagaError> {
        let step = Step::read(ORDER, self.order_id.clone());
        let Some(read) = saga.reads.get(ORDER) else { return Ok(step) };
        let is_open = order_in(read)?.is_ok_and(|order| order.status == OrderStatus::Created);
        // What was confirmed is cancelled by the undo of that; a reservation that exists is another fulfilment's.
        if !is_open || was_done(saga, CONFIRM) || saga.steps.iter().any(is_taken) {
            return Ok(step);
        }
        Ok(step.undo_unless(self.cancel(saga, read.version)?, is_anothers))
    }

    /// One reservation for each line; or none, because the order cannot be fulfilled.
    fn reservations(&self, saga: &SagaRecord) -> Result<Vec<Step>, SagaError> {
        let order = match fulfillable(saga)? {
            Ok(order) => order,
            Err(reason) => return Ok(vec![Step::refuse("check", reason)]),
        };
        let reserve = |item: &OrderItem| {
            let product = item.product_id.as_str();
            let reserve = json!({ "order_id": self.order_id, "quantity": item.quantity });
            let release = Call::new(product, "ReleaseStock", json!({ "order_id": self.order_id }))?;
            let step = Step::command(format!("reserve:{product}"), Call::new(product, "ReserveStock", reserve)?);
            Ok(step.undo_unless(release, |reason| reason.code == "reservation-not-found"))
        };
        order.items.iter().map(reserve).collect()
    }

    /// Takes the total; nothing for an order that costs nothing.
    fn payment(&self, saga: &SagaRecord) -> Result<Vec<Step>, SagaError> {
        let total = sound(saga)?.total;
        if total == 0 {
            return Ok(Vec::new());
        }
        let movement = |command_type| {
            let data = json!({ "amount": total, "transfer_id": saga.saga_id });
            Call::new(self.account_id.as_str(), command_type, data)
        };
        Ok(vec![Step::command(WITHDRAW, movement("WithdrawMoney")?).undo(movement("RefundTransfer")?)])
    }

    /// Confirms what was read and nothing else.
    fn confirmation(&self, saga: &SagaRecord) -> Result<Step, SagaError> {
        let version = read_order(saga)?.version;
        let confirm = Step::command(CONFIRM, self.to_order("ConfirmOrder", json!({}))?.at_version(version));
        Ok(confirm.undo_unless(self.cancel(saga, version.next())?, is_anothers))
    }

    fn receipt(&self, saga: &SagaRecord) -> Result<Step, SagaError> {
        let data = json!({ "payment_reference": saga.saga_id });
        Ok(Step::command(PAY, self.to_order("PayOrder", data)?).pivot())
    }
}

/// The saga. The payment is its pivot: a paid order may be shipped by anybody, so there is no way back from it.
#[must_use]
pub fn order_fulfillment_saga(policy: Policy) -> StepSaga<OrderFulfillment> {
    StepSaga::new("OrderFulfillmentSaga")
        .check(OrderFulfillment::faults)
        .step(OrderFulfillment::order)
        .steps(OrderFulfillment::reservations)
        .steps(OrderFulfillment::payment)
        .step(OrderFulfillment::confirmation)
        .step(OrderFulfillment::receipt)
        .documented()
        .timeout(policy.timeout)
        .policy(policy.steps)
}

fn read_order(saga: &SagaRecord) -> Result<&ReadRecord, SagaError> {
    saga.reads.get(ORDER).ok_or_else(|| SagaError::new("the order was not read yet"))
}

/// The order that was read, or why it is none.
fn order_in(read: &ReadRecord) -> Result<Result<OrderState, Reason>, SagaError> {
    let id = read.aggregate_id.as_str();
    let not_found = || Reason::new("order-not-found", format!("there is no order {id:?}"));
    match read.aggregate_type.as_ref().map(AggregateType::as_str) {
        None => Ok(Err(not_found())),
        Some(Order::TYPE) => {
            let order = Order::deserialize(&read.state)
                .map_err(|error| SagaError::new(format!("the state of order {id:?} cannot be read: {error}")))?;
            Ok(order.get().cloned().ok_or_else(not_found))
        }
        Some(other) => {
            let reason = Reason::new("aggregate-type-mismatch", format!("{id:?} is of type {other}, and no order"));
            Ok(Err(Reason { details: Some(json!({ "aggregate_type": other })), ..reason }))
        }
    }
}

/// The order that was read, or why it cannot be fulfilled.
fn fulfillable(saga: &SagaRecord) -> Result<Result<OrderState, Reason>, SagaError> {
    Ok(order_in(read_order(saga)?)?.and_then(|order| match order.status {
        OrderStatus::Created if order.items.is_empty() => {
            Err(Reason::new("order-empty", "the order has no items: there is nothing to fulfil"))
        }
        OrderStatus::Created => Ok(order),
        current => {
            let message = format!("the order is {current}; it can only be fulfilled while it is created");
            let details = json!({ "current": current, "required": [OrderStatus::Created] });
            Err(Reason { details: Some(details), ..Reason::new("invalid-order-state", message) })
        }
    }))
}

/// The order, where the steps before have looked at it.
fn sound(saga: &SagaRecord) -> Result<OrderState, SagaError> {
    fulfillable(saga)?.map_err(|reason| SagaError::new(reason.message))
}

/// Whether a step has had its effect, undone since or not.
fn was_done(saga: &SagaRecord, step: &str) -> bool {
    use StepStatus::{Compensated, Compensating, Completed, Failed};
    saga.step(step).is_some_and(|step| matches!(step.status, Completed | Compensating | Compensated | Failed))
}

/// A reservation for the order was there before the saga's own.
fn is_taken(step: &StepRecord) -> bool {
    let code = step.error.as_ref().map(|reason| reason.code.as_str());
    step.status == StepStatus::Refused && code == Some("already-reserved")
}

/// The order is not as the saga left it, or not there: nothing of it is left to undo.
fn is_anothers(reason: &Reason) -> bool {
    let current = reason.details.as_ref().and_then(|details| details["current"].as_str());
    match reason.code.as_str() {
        "precondition-failed" | "order-not-found" => true,
        "invalid-order-state" => current == Some("cancelled"),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
