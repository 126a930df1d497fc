//! Why an order refuses.

use event_sourcing_actors::{AggregateId, FieldError, Rejection};
use serde_json::{Value, json};

use super::{ORDER_ITEMS_MAX, OrderStatus};

/// Why an order refuses a command or a raw event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OrderRejection {
    /// It was begun before, perhaps with equal data.
    #[error("the order exists already")]
    OrderExists,
    /// It was never begun.
    #[error("the order does not exist")]
    OrderNotFound,
    /// It has gone too far, or not far enough.
    #[error("the order is {current}; this needs it to be {}", listed(required))]
    InvalidOrderState {
        /// Where it is.
        current: OrderStatus,
        /// Where it has to be: any of these.
        required: &'static [OrderStatus],
    },
    /// The product is not in the order.
    #[error("product {product_id:?} is not in the order")]
    ItemNotFound {
        /// The product.
        product_id: AggregateId,
    },
    /// The product is in the order at another price.
    #[error("product {product_id:?} is in the order at {unit_price}, not {requested}")]
    ItemPriceDiffers {
        /// The product.
        product_id: AggregateId,
        /// Its price in the order.
        unit_price: i64,
        /// The price it was to be added at.
        requested: i64,
    },
    /// There is nothing to confirm.
    #[error("the order has no items")]
    OrderEmpty,
    /// There is no room for another product.
    #[error("the order has {ORDER_ITEMS_MAX} items, the most there can be")]
    OrderFull,
    /// The total or a quantity would exceed 64 bits.
    #[error("with this, the order's total of {total} or a quantity would exceed {}", i64::MAX)]
    AmountOverflow {
        /// The total so far.
        total: i64,
    },
    /// A raw event's member is out of bounds.
    #[error("{} {}", .0.pointer, .0.detail)]
    InvalidEvent(FieldError),
}

fn listed(states: &[OrderStatus]) -> String {
    states.iter().map(OrderStatus::to_string).collect::<Vec<_>>().join(" or ")
}

impl From<FieldError> for OrderRejection {
    fn from(error: FieldError) -> Self {
        Self::InvalidEvent(error)
    }
}

impl Rejection for OrderRejection {
    fn code(&self) -> &'static str {
        match self {
            Self::OrderExists => "order-exists",
            Self::OrderNotFound => "order-not-found",
            Self::InvalidOrderState { .. } => "invalid-order-state",
            Self::ItemNotFound { .. } => "item-not-found",
            Self::ItemPriceDiffers { .. } => "item-price-differs",
            Self::OrderEmpty => "order-empty",
            Self::OrderFull => "order-full",
            Self::AmountOverflow { .. } => "amount-overflow",
            Self::InvalidEvent(_) => "invalid-event",
        }
    }

    fn field(&self) -> Option<&FieldError> {
        match self {
            Self::InvalidEvent(error) => Some(error),
            _ => None,
        }
    }

    fn details(&self) -> Option<Value> {
        match self {
            Self::OrderExists | Self::OrderNotFound | Self::OrderEmpty => None,
            Self::InvalidOrderState { current, required } => Some(json!({ "current": current, "required": required })),
            Self::ItemNotFound { product_id } => Some(json!({ "product_id": product_id })),
            Self::ItemPriceDiffers { product_id, unit_price, requested } => {
                Some(json!({ "product_id": product_id, "unit_price": unit_price, "requested": requested }))
            }
            Self::OrderFull => Some(json!({ "maximum": ORDER_ITEMS_MAX })),
            Self::AmountOverflow { total } => Some(json!({ "total": total, "maximum": i64::MAX })),
            Self::InvalidEvent(error) => Some(json!(error)),
        }
    }
}
