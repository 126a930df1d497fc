//! What happens to the stock of a product.

use event_sourcing_actors::{AggregateId, FieldError, events};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::domain::{TEXT_BYTES_MAX, texts::Text};

events! {
    /// All that happens to the stock of a product.
    pub enum InventoryEvent {
        InventoryItemCreated = 1,
        StockReceived = 1,
        StockReserved = 1,
        StockReleased = 1,
        StockShipped = 1,
        StockAdjusted = 1,
    }
}

/// A product's stock is kept from now on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct InventoryItemCreated {
    /// The product.
    pub product_id: AggregateId,
    /// Its name.
    #[schemars(with = "Text")]
    pub name: String,
    /// Pieces on hand to start with; at least 0.
    #[schemars(range(min = 0))]
    pub initial_quantity: i64,
    /// Stock is low when no more than this is available; at least 0.
    #[schemars(range(min = 0))]
    pub low_stock_threshold: i64,
}

/// Pieces came in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StockReceived {
    /// Pieces; at least 1.
    #[schemars(range(min = 1))]
    pub quantity: i64,
}

/// Pieces were set aside for an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StockReserved {
    /// The order they are for.
    pub order_id: AggregateId,
    /// Pieces; at least 1.
    #[schemars(range(min = 1))]
    pub quantity: i64,
}

/// An order's pieces are available again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StockReleased {
    /// The order they were set aside for.
    pub order_id: AggregateId,
}

/// An order's pieces left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StockShipped {
    /// The order they were set aside for.
    pub order_id: AggregateId,
}

/// The pieces on hand were corrected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StockAdjusted {
    /// Pieces more or fewer; not 0.
    pub delta: i64,
    /// Why.
    #[schemars(with = "Text")]
    pub reason: String,
}

impl InventoryEvent {
    /// Checks what can be checked without state, as validation does for commands.
    pub(super) fn check(&self) -> Result<(), FieldError> {
        match self {
            Self::InventoryItemCreated(created) => {
                FieldError::text("/name", &created.name, TEXT_BYTES_MAX)?;
                FieldError::at_least("/initial_quantity", created.initial_quantity, 0)?;
                FieldError::at_least("/low_stock_threshold", created.low_stock_threshold, 0)
            }
            Self::StockReceived(received) => FieldError::at_least("/quantity", received.quantity, 1),
            Self::StockReserved(reserved) => FieldError::at_least("/quantity", reserved.quantity, 1),
            Self::StockReleased(_) | Self::StockShipped(_) => Ok(()),
            Self::StockAdjusted(StockAdjusted { delta: 0, .. }) => {
                Err(FieldError { pointer: "/delta".to_owned(), detail: "must not be 0".to_owned() })
            }
            Self::StockAdjusted(adjusted) => FieldError::text("/reason", &adjusted.reason, TEXT_BYTES_MAX),
        }
    }
}
