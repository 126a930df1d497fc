//! Rows of `order_summary`: orders, whose they are, which products they hold, and what happened day by day.

use chrono::{DateTime, NaiveDate, Utc};
use event_sourcing_actors::{AggregateId, Position, Sequence};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::instant;
use crate::domain::order::{OrderItem, OrderStatus};

/// One order; collection `orders`, sorted by order id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OrderRow {
    /// The order.
    pub order_id: AggregateId,
    /// Who buys.
    pub customer_id: AggregateId,
    /// What; each product once.
    pub items: Vec<OrderItem>,
    /// How many different products.
    pub item_count: u64,
    /// Sum over the items, in minor units.
    pub total: i64,
    /// How far it has gone.
    pub status: OrderStatus,
    /// When it was begun.
    #[serde(with = "instant")]
    #[schemars(with = "DateTime<Utc>")]
    pub created_at: DateTime<Utc>,
    /// Place of its beginning in the whole log.
    pub created_position: Position,
    /// When its last event was recorded.
    #[serde(with = "instant")]
    #[schemars(with = "DateTime<Utc>")]
    pub updated_at: DateTime<Utc>,
    /// Sequence of that event.
    pub version: Sequence,
    /// Where the payment is to be found.
    pub payment_reference: Option<String>,
    /// The carrier's number.
    pub tracking: Option<String>,
    /// Why it was given up.
    pub cancel_reason: Option<String>,
}

/// An order of a customer; collection `customer_orders`, grouped by customer, sorted by creation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CustomerOrderRow {
    /// The customer.
    pub customer_id: AggregateId,
    /// The order.
    pub order_id: AggregateId,
    /// How far it has gone.
    pub status: OrderStatus,
    /// Sum over the items, in minor units.
    pub total: i64,
    /// How many different products.
    pub item_count: u64,
    /// When it was begun.
    #[serde(with = "instant")]
    #[schemars(with = "DateTime<Utc>")]
    pub created_at: DateTime<Utc>,
    /// When its last event was recorded.
    #[serde(with = "instant")]
    #[schemars(with = "DateTime<Utc>")]
    pub updated_at: DateTime<Utc>,
}

/// An order that holds a product; collection `product_orders`, grouped by product, sorted by creation of the order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProductOrderRow {
    /// The product.
    pub product_id: AggregateId,
    /// The order.
    pub order_id: AggregateId,
    /// Who buys.
    pub customer_id: AggregateId,
    /// Pieces.
    pub quantity: i64,
    /// Price of one piece, in minor units.
    pub unit_price: i64,
    /// How far the order has gone.
    pub status: OrderStatus,
    /// When the order was begun.
    #[serde(with = "instant")]
    #[schemars(with = "DateTime<Utc>")]
    pub created_at: DateTime<Utc>,
}

/// What happened on one day (UTC); collection `daily`, sorted by date. Days on which nothing happened have no row.
///
/// Sales count on the day of the payment; a cancellation after it takes them back on its own day, so that a day that is
/// over never changes. On a day of cancellations `items_sold` and `revenue` may be negative.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DailyRow {
    /// The day.
    pub date: NaiveDate,
    /// Orders begun.
    pub orders_created: i64,
    /// Orders given up.
    pub orders_cancelled: i64,
    /// Pieces paid, less those of paid orders that were given up.
    pub items_sold: i64,
    /// Money paid, less that of paid orders that were given up, in minor units.
    pub revenue: i64,
}
