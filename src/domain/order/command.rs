//! What an order can be told.

use event_sourcing_actors::{AggregateId, CommandData, Violations, commands};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{OrderItem, event::item_faults};
use crate::domain::{
    REFERENCE_BYTES_MAX, TEXT_BYTES_MAX,
    texts::{Reference, Text},
};

commands! {
    /// All an order can be told.
    pub enum OrderCommand {
        CreateOrder, AddOrderItem, RemoveOrderItem, ConfirmOrder, PayOrder, ShipOrder, DeliverOrder, CancelOrder,
    }
}

/// One product of a new order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OrderLine {
    /// The product; once in an order.
    pub product_id: AggregateId,
    /// Pieces; at least 1.
    #[schemars(range(min = 1))]
    pub quantity: i64,
    /// Price of one piece, in minor units; at least 0.
    #[schemars(range(min = 0))]
    pub unit_price: i64,
}

impl From<&OrderLine> for OrderItem {
    fn from(line: &OrderLine) -> Self {
        Self { product_id: line.product_id.clone(), quantity: line.quantity, unit_price: line.unit_price }
    }
}

/// Begins an order; it may still be empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateOrder {
    /// The aggregate's id, repeated.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<AggregateId>")]
    pub order_id: Option<String>,
    /// Who buys.
    pub customer_id: AggregateId,
    /// What; at most [`ORDER_ITEMS_MAX`](super::ORDER_ITEMS_MAX), each product once.
    #[serde(default)]
    pub items: Vec<OrderLine>,
}

impl CreateOrder {
    pub(super) fn order_items(&self) -> Vec<OrderItem> {
        self.items.iter().map(OrderItem::from).collect()
    }
}

impl CommandData for CreateOrder {
    fn validate(&self, check: &mut Violations<'_>) {
        check.same_id("/order_id", self.order_id.as_deref());
        for fault in item_faults(&self.order_items()) {
            check.note(Err(fault));
        }
    }
}

/// Adds a product, or more of one that is in the order at the same price.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AddOrderItem {
    /// The aggregate's id, repeated.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<AggregateId>")]
    pub order_id: Option<String>,
    /// The product.
    pub product_id: AggregateId,
    /// Pieces; at least 1.
    #[schemars(range(min = 1))]
    pub quantity: i64,
    /// Price of one piece, in minor units; at least 0.
    #[schemars(range(min = 0))]
    pub unit_price: i64,
}

impl CommandData for AddOrderItem {
    fn validate(&self, check: &mut Violations<'_>) {
        check.same_id("/order_id", self.order_id.as_deref());
        check.at_least("/quantity", self.quantity, 1);
        check.at_least("/unit_price", self.unit_price, 0);
    }
}

/// Takes a product out, all of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RemoveOrderItem {
    /// The aggregate's id, repeated.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<AggregateId>")]
    pub order_id: Option<String>,
    /// The product.
    pub product_id: AggregateId,
}

impl CommandData for RemoveOrderItem {
    fn validate(&self, check: &mut Violations<'_>) {
        check.same_id("/order_id", self.order_id.as_deref());
    }
}

/// Ends the changing of items.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConfirmOrder {
    /// The aggregate's id, repeated.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<AggregateId>")]
    pub order_id: Option<String>,
}

impl CommandData for ConfirmOrder {
    fn validate(&self, check: &mut Violations<'_>) {
        check.same_id("/order_id", self.order_id.as_deref());
    }
}

/// Notes that the customer paid.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PayOrder {
    /// The aggregate's id, repeated.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<AggregateId>")]
    pub order_id: Option<String>,
    /// Where the payment is to be found.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Reference>")]
    pub payment_reference: Option<String>,
}

impl CommandData for PayOrder {
    fn validate(&self, check: &mut Violations<'_>) {
        check.same_id("/order_id", self.order_id.as_deref());
        if let Some(reference) = &self.payment_reference {
            check.text("/payment_reference", reference, REFERENCE_BYTES_MAX);
        }
    }
}

/// Notes that the goods left.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ShipOrder {
    /// The aggregate's id, repeated.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<AggregateId>")]
    pub order_id: Option<String>,
    /// The carrier's number.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Reference>")]
    pub tracking: Option<String>,
}

impl CommandData for ShipOrder {
    fn validate(&self, check: &mut Violations<'_>) {
        check.same_id("/order_id", self.order_id.as_deref());
        if let Some(tracking) = &self.tracking {
            check.text("/tracking", tracking, REFERENCE_BYTES_MAX);
        }
    }
}

/// Notes that the goods arrived.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeliverOrder {
    /// The aggregate's id, repeated.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<AggregateId>")]
    pub order_id: Option<String>,
}

impl CommandData for DeliverOrder {
    fn validate(&self, check: &mut Violations<'_>) {
        check.same_id("/order_id", self.order_id.as_deref());
    }
}

/// Gives the order up, before it is shipped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CancelOrder {
    /// The aggregate's id, repeated.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<AggregateId>")]
    pub order_id: Option<String>,
    /// Why.
    #[schemars(with = "Text")]
    pub reason: String,
}

impl CommandData for CancelOrder {
    fn validate(&self, check: &mut Violations<'_>) {
        check.same_id("/order_id", self.order_id.as_deref());
        check.text("/reason", &self.reason, TEXT_BYTES_MAX);
    }
}
