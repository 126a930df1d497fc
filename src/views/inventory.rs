//! Rows of `inventory`: stock, its movements and reservations, and what runs low.

use chrono::{DateTime, Utc};
use event_sourcing_actors::{AggregateId, Position, Sequence};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::instant;

/// The stock of one product; collections `stock` and, while it is low, `low_stock`, sorted by product id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StockRow {
    /// The product.
    pub product_id: AggregateId,
    /// Its name.
    pub name: String,
    /// Pieces in the house.
    pub on_hand: i64,
    /// Pieces set aside, over all orders.
    pub reserved: i64,
    /// Pieces that can be reserved: on hand and not reserved.
    pub available: i64,
    /// Stock is low when no more than this is available.
    pub low_stock_threshold: i64,
    /// Whether it is.
    pub low: bool,
    /// Sequence of the last event in it.
    pub version: Sequence,
    /// When that was recorded.
    #[serde(with = "instant")]
    #[schemars(with = "DateTime<Utc>")]
    pub updated_at: DateTime<Utc>,
}

/// What a movement did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MovementKind {
    /// Stock is kept from now on, beginning with `quantity`.
    Created,
    /// `quantity` came in.
    Received,
    /// `quantity` was set aside for an order.
    Reserved,
    /// The order's `quantity` is available again.
    Released,
    /// The order's `quantity` left.
    Shipped,
    /// The count was corrected by `quantity`, which may be negative.
    Adjusted,
}

/// One movement of stock; collection `movements`, grouped by product, sorted by sequence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MovementRow {
    /// The product.
    pub product_id: AggregateId,
    /// Place in the product's stream.
    pub sequence: Sequence,
    /// Place in the whole log.
    pub position: Position,
    /// What happened.
    pub kind: MovementKind,
    /// Pieces; negative only in a correction downwards.
    pub quantity: i64,
    /// Pieces in the house once it had happened.
    pub on_hand_after: i64,
    /// Pieces set aside once it had happened.
    pub reserved_after: i64,
    /// The order it was for.
    pub order_id: Option<AggregateId>,
    /// Why the count was corrected.
    pub reason: Option<String>,
    /// When it was recorded.
    #[serde(with = "instant")]
    #[schemars(with = "DateTime<Utc>")]
    pub at: DateTime<Utc>,
}

/// What is set aside for an order; collection `reservations`, grouped by product, sorted by order id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReservationRow {
    /// The product.
    pub product_id: AggregateId,
    /// The order.
    pub order_id: AggregateId,
    /// Pieces.
    pub quantity: i64,
}

/// Counts over all products; the one row of collection `totals`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct InventoryTotalsRow {
    /// Products whose stock is kept.
    pub products: i64,
    /// Those whose stock is low.
    pub low_stock: i64,
}
