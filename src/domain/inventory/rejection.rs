//! Why the stock of a product refuses.

use event_sourcing_actors::{AggregateId, FieldError, Rejection};
use serde_json::{Value, json};

/// Why the stock of a product refuses a command or a raw event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InventoryRejection {
    /// Its stock is kept already, perhaps with equal data.
    #[error("the inventory item exists already")]
    ItemExists,
    /// No stock of it is kept.
    #[error("the inventory item does not exist")]
    ItemNotFound,
    /// More is to be taken than is available.
    #[error("insufficient stock: {available} available, {requested} requested")]
    InsufficientStock {
        /// On hand and not reserved.
        available: i64,
        /// What was to be taken.
        requested: u64,
    },
    /// The order has a reservation.
    #[error("order {order_id:?} has {quantity} reserved already")]
    AlreadyReserved {
        /// The order.
        order_id: AggregateId,
        /// What it has.
        quantity: i64,
    },
    /// The order has no reservation, or no longer.
    #[error("order {order_id:?} has nothing reserved")]
    ReservationNotFound {
        /// The order.
        order_id: AggregateId,
    },
    /// The stock would exceed 64 bits.
    #[error("the stock of {on_hand} and {requested} together exceed {}", i64::MAX)]
    QuantityOverflow {
        /// What there is.
        on_hand: i64,
        /// What was to be added.
        requested: i64,
    },
    /// A raw event's member is out of bounds.
    #[error("{} {}", .0.pointer, .0.detail)]
    InvalidEvent(FieldError),
}

impl From<FieldError> for InventoryRejection {
    fn from(error: FieldError) -> Self {
        Self::InvalidEvent(error)
    }
}

impl Rejection for InventoryRejection {
    fn code(&self) -> &'static str {
        match self {
            Self::ItemExists => "item-exists",
            Self::ItemNotFound => "item-not-found",
            Self::InsufficientStock { .. } => "insufficient-stock",
            Self::AlreadyReserved { .. } => "already-reserved",
            Self::ReservationNotFound { .. } => "reservation-not-found",
            Self::QuantityOverflow { .. } => "quantity-overflow",
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
            Self::ItemExists | Self::ItemNotFound => None,
            Self::InsufficientStock { available, requested } => {
                Some(json!({ "available": available, "requested": requested }))
            }
            Self::AlreadyReserved { order_id, quantity } => Some(json!({ "order_id": order_id, "quantity": quantity })),
            Self::ReservationNotFound { order_id } => Some(json!({ "order_id": order_id })),
            Self::QuantityOverflow { on_hand, requested } => {
                Some(json!({ "on_hand": on_hand, "requested": requested, "maximum": i64::MAX }))
            }
            Self::InvalidEvent(error) => Some(json!(error)),
        }
    }
}
