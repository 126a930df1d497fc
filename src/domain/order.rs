//! Order: what a customer buys. created → confirmed → paid → shipped → delivered; items change only while created, and
//! it can be cancelled until it is shipped.

mod command;
mod event;
mod rejection;
mod state;

pub use command::{
    AddOrderItem, CancelOrder, ConfirmOrder, CreateOrder, DeliverOrder, OrderCommand, OrderLine, PayOrder,
    RemoveOrderItem, ShipOrder,
};
pub use event::{
    OrderCancelled, OrderConfirmed, OrderCreated, OrderDelivered, OrderEvent, OrderItem, OrderItemAdded,
    OrderItemRemoved, OrderPaid, OrderShipped,
};
pub use rejection::OrderRejection;
pub use state::{Order, OrderState, OrderStatus};

/// Most products in one order.
pub const ORDER_ITEMS_MAX: usize = 1000;

#[cfg(test)]
mod tests;
