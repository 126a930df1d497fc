//! Inventory: the stock of one product. What is reserved never exceeds what is on hand; a reservation belongs to one
//! order and is released or shipped as a whole.

mod command;
mod event;
mod rejection;
mod state;

pub use command::{
    AdjustStock, CreateInventoryItem, InventoryCommand, ReceiveStock, ReleaseStock, ReserveStock, ShipStock,
};
pub use event::{
    InventoryEvent, InventoryItemCreated, StockAdjusted, StockReceived, StockReleased, StockReserved, StockShipped,
};
pub use rejection::InventoryRejection;
pub use state::{InventoryItem, InventoryState};

#[cfg(test)]
mod tests;
