//! What the stock of a product can be told.

use event_sourcing_actors::{AggregateId, CommandData, Violations, commands};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::domain::{TEXT_BYTES_MAX, texts::Text};

commands! {
    /// All the stock of a product can be told.
    pub enum InventoryCommand {
        CreateInventoryItem, ReceiveStock, ReserveStock, ReleaseStock, ShipStock, AdjustStock,
    }
}

/// Starts to keep stock of a product.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateInventoryItem {
    /// The aggregate's id, repeated.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<AggregateId>")]
    pub product_id: Option<String>,
    /// Name of the product.
    #[schemars(with = "Text")]
    pub name: String,
    /// Pieces on hand to start with; at least 0.
    #[schemars(range(min = 0))]
    pub initial_quantity: i64,
    /// Stock is low when no more than this is available; at least 0.
    #[schemars(range(min = 0))]
    pub low_stock_threshold: i64,
}

impl CommandData for CreateInventoryItem {
    fn validate(&self, check: &mut Violations<'_>) {
        check.same_id("/product_id", self.product_id.as_deref());
        check.text("/name", &self.name, TEXT_BYTES_MAX);
        check.at_least("/initial_quantity", self.initial_quantity, 0);
        check.at_least("/low_stock_threshold", self.low_stock_threshold, 0);
    }
}

/// Takes pieces into stock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReceiveStock {
    /// The aggregate's id, repeated.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<AggregateId>")]
    pub product_id: Option<String>,
    /// Pieces; at least 1.
    #[schemars(range(min = 1))]
    pub quantity: i64,
}

impl CommandData for ReceiveStock {
    fn validate(&self, check: &mut Violations<'_>) {
        check.same_id("/product_id", self.product_id.as_deref());
        check.at_least("/quantity", self.quantity, 1);
    }
}

/// Sets available pieces aside for an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReserveStock {
    /// The aggregate's id, repeated.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<AggregateId>")]
    pub product_id: Option<String>,
    /// The order they are for; one reservation each.
    pub order_id: AggregateId,
    /// Pieces; at least 1.
    #[schemars(range(min = 1))]
    pub quantity: i64,
}

impl CommandData for ReserveStock {
    fn validate(&self, check: &mut Violations<'_>) {
        check.same_id("/product_id", self.product_id.as_deref());
        check.at_least("/quantity", self.quantity, 1);
    }
}

/// Makes an order's pieces available again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReleaseStock {
    /// The aggregate's id, repeated.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<AggregateId>")]
    pub product_id: Option<String>,
    /// The order they were set aside for.
    pub order_id: AggregateId,
}

impl CommandData for ReleaseStock {
    fn validate(&self, check: &mut Violations<'_>) {
        check.same_id("/product_id", self.product_id.as_deref());
    }
}

/// Sends an order's pieces out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ShipStock {
    /// The aggregate's id, repeated.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<AggregateId>")]
    pub product_id: Option<String>,
    /// The order they were set aside for.
    pub order_id: AggregateId,
}

impl CommandData for ShipStock {
    fn validate(&self, check: &mut Violations<'_>) {
        check.same_id("/product_id", self.product_id.as_deref());
    }
}

/// Corrects the pieces on hand, after a stock-taking or a loss.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AdjustStock {
    /// The aggregate's id, repeated.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<AggregateId>")]
    pub product_id: Option<String>,
    /// Pieces more or fewer; not 0.
    pub delta: i64,
    /// Why.
    #[schemars(with = "Text")]
    pub reason: String,
}

impl CommandData for AdjustStock {
    fn validate(&self, check: &mut Violations<'_>) {
        check.same_id("/product_id", self.product_id.as_deref());
        if self.delta == 0 {
            check.add("/delta", "must not be 0");
        }
        check.text("/reason", &self.reason, TEXT_BYTES_MAX);
    }
}
