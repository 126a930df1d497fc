//! What happens to an order.

use std::collections::BTreeSet;

use event_sourcing_actors::{AggregateId, FieldError, events};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ORDER_ITEMS_MAX;
use crate::domain::{
    REFERENCE_BYTES_MAX, TEXT_BYTES_MAX,
    texts::{Reference, Text},
};

events! {
    /// All that happens to an order.
    pub enum OrderEvent {
        OrderCreated = 1,
        OrderItemAdded = 1,
        OrderItemRemoved = 1,
        OrderConfirmed = 1,
        OrderPaid = 1,
        OrderShipped = 1,
        OrderDelivered = 1,
        OrderCancelled = 1,
    }
}

/// One product of an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OrderItem {
    /// The product; once in an order.
    pub product_id: AggregateId,
    /// Pieces; at least 1.
    #[schemars(range(min = 1))]
    pub quantity: i64,
    /// Price of one piece, in minor units; at least 0.
    #[schemars(range(min = 0))]
    pub unit_price: i64,
}

/// An order was begun.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OrderCreated {
    /// The order.
    pub order_id: AggregateId,
    /// Who buys.
    pub customer_id: AggregateId,
    /// What; perhaps nothing yet.
    #[serde(default)]
    pub items: Vec<OrderItem>,
}

/// A product was added, or more of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OrderItemAdded {
    /// The product.
    pub product_id: AggregateId,
    /// Pieces; at least 1.
    #[schemars(range(min = 1))]
    pub quantity: i64,
    /// Price of one piece, in minor units; at least 0.
    #[schemars(range(min = 0))]
    pub unit_price: i64,
}

/// A product was taken out, all of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OrderItemRemoved {
    /// The product.
    pub product_id: AggregateId,
}

/// The items are settled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OrderConfirmed {}

/// The customer paid.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OrderPaid {
    /// Where the payment is to be found.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Reference>")]
    pub payment_reference: Option<String>,
}

/// The goods left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OrderShipped {
    /// The carrier's number.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Reference>")]
    pub tracking: Option<String>,
}

/// The goods arrived.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OrderDelivered {}

/// The order was given up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OrderCancelled {
    /// Why.
    #[schemars(with = "Text")]
    pub reason: String,
}

impl OrderEvent {
    /// Checks what can be checked without state, as validation does for commands.
    pub(super) fn check(&self) -> Result<(), FieldError> {
        let reference = |pointer, text: &Option<String>| {
            text.as_ref().map_or(Ok(()), |text| FieldError::text(pointer, text, REFERENCE_BYTES_MAX))
        };
        match self {
            Self::OrderCreated(created) => item_faults(&created.items).into_iter().next().map_or(Ok(()), Err),
            Self::OrderItemAdded(added) => {
                FieldError::at_least("/quantity", added.quantity, 1)?;
                FieldError::at_least("/unit_price", added.unit_price, 0)
            }
            Self::OrderPaid(paid) => reference("/payment_reference", &paid.payment_reference),
            Self::OrderShipped(shipped) => reference("/tracking", &shipped.tracking),
            Self::OrderCancelled(cancelled) => FieldError::text("/reason", &cancelled.reason, TEXT_BYTES_MAX),
            Self::OrderItemRemoved(_) | Self::OrderConfirmed(_) | Self::OrderDelivered(_) => Ok(()),
        }
    }
}

/// What is wrong with the items of a new order.
pub(super) fn item_faults(items: &[OrderItem]) -> Vec<FieldError> {
    if items.len() > ORDER_ITEMS_MAX {
        let detail = format!("must be at most {ORDER_ITEMS_MAX} items, not {}", items.len());
        return vec![FieldError { pointer: "/items".to_owned(), detail }];
    }
    let mut faults = Vec::new();
    let mut seen = BTreeSet::new();
    for (index, item) in items.iter().enumerate() {
        if !seen.insert(&item.product_id) {
            let detail = format!("must not repeat the product {:?}", item.product_id);
            faults.push(FieldError { pointer: format!("/items/{index}/product_id"), detail });
        }
        faults.extend(FieldError::at_least(&format!("/items/{index}/quantity"), item.quantity, 1).err());
        faults.extend(FieldError::at_least(&format!("/items/{index}/unit_price"), item.unit_price, 0).err());
    }
    faults
}
