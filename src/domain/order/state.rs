//! An order's state: decisions and folding.

use std::fmt;

use event_sourcing_actors::{Aggregate, AggregateId, DecisionContext, schema::SchemaOf};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    ORDER_ITEMS_MAX, OrderCancelled, OrderCommand, OrderConfirmed, OrderCreated, OrderDelivered, OrderEvent, OrderItem,
    OrderItemAdded, OrderItemRemoved, OrderPaid, OrderRejection, OrderShipped,
};

/// What a customer buys; `null` as JSON before its first event.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Order(Option<OrderState>);

/// An order that was begun.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OrderState {
    /// The order.
    pub order_id: AggregateId,
    /// Who buys.
    pub customer_id: AggregateId,
    /// What, in the order it was added; each product once.
    pub items: Vec<OrderItem>,
    /// Sum over the items, in minor units.
    #[schemars(range(min = 0))]
    pub total: i64,
    /// How far it has gone.
    pub status: OrderStatus,
}

/// How far an order has gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OrderStatus {
    /// Items may change.
    Created,
    /// The items are settled.
    Confirmed,
    /// The customer paid.
    Paid,
    /// The goods left.
    Shipped,
    /// The goods arrived.
    Delivered,
    /// It was given up.
    Cancelled,
}

impl fmt::Display for OrderStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Created => "created",
            Self::Confirmed => "confirmed",
            Self::Paid => "paid",
            Self::Shipped => "shipped",
            Self::Delivered => "delivered",
            Self::Cancelled => "cancelled",
        })
    }
}

/// The sum over the items, if 64 bits hold it.
fn total_of(items: &[OrderItem]) -> Option<i64> {
    items.iter().try_fold(0_i64, |sum, item| sum.checked_add(item.quantity.checked_mul(item.unit_price)?))
}

impl OrderState {
    fn item(&self, product_id: &AggregateId) -> Option<&OrderItem> {
        self.items.iter().find(|item| item.product_id == *product_id)
    }

    fn accepts(&self, added: &OrderItemAdded) -> Result<(), OrderRejection> {
        let overflow = OrderRejection::AmountOverflow { total: self.total };
        let sum = added.quantity.checked_mul(added.unit_price).and_then(|more| self.total.checked_add(more));
        match self.item(&added.product_id) {
            Some(item) if item.unit_price != added.unit_price => Err(OrderRejection::ItemPriceDiffers {
                product_id: added.product_id.clone(),
                unit_price: item.unit_price,
                requested: added.unit_price,
            }),
            Some(item) if item.quantity.checked_add(added.quantity).is_none() => Err(overflow),
            None if self.items.len() >= ORDER_ITEMS_MAX => Err(OrderRejection::OrderFull),
            _ if sum.is_none() => Err(overflow),
            _ => Ok(()),
        }
    }

    fn add(&mut self, added: &OrderItemAdded) {
        match self.items.iter_mut().find(|item| item.product_id == added.product_id) {
            Some(item) => item.quantity = item.quantity.saturating_add(added.quantity),
            None => self.items.push(OrderItem {
                product_id: added.product_id.clone(),
                quantity: added.quantity,
                unit_price: added.unit_price,
            }),
        }
        self.total = total_of(&self.items).unwrap_or(i64::MAX);
    }

    fn remove(&mut self, product_id: &AggregateId) {
        self.items.retain(|item| item.product_id != *product_id);
        self.total = total_of(&self.items).unwrap_or(i64::MAX);
    }
}

impl Order {
    /// The state, once the order was begun.
    #[must_use]
    pub fn get(&self) -> Option<&OrderState> {
        self.0.as_ref()
    }

    /// The order, if it is in one of these states.
    fn at(&self, required: &'static [OrderStatus]) -> Result<&OrderState, OrderRejection> {
        let order = self.0.as_ref().ok_or(OrderRejection::OrderNotFound)?;
        if required.contains(&order.status) {
            return Ok(order);
        }
        Err(OrderRejection::InvalidOrderState { current: order.status, required })
    }
}

impl Aggregate for Order {
    const TYPE: &'static str = "order";
    const ID_MEMBER: Option<&'static str> = Some("order_id");
    type Command = OrderCommand;
    type Event = OrderEvent;
    type Rejection = OrderRejection;

    fn decide(&self, command: &OrderCommand, context: &DecisionContext<'_>) -> Result<Vec<OrderEvent>, OrderRejection> {
        let event: OrderEvent = match command {
            OrderCommand::CreateOrder(create) => OrderCreated {
                order_id: context.aggregate_id.clone(),
                customer_id: create.customer_id.clone(),
                items: create.order_items(),
            }
            .into(),
            OrderCommand::AddOrderItem(add) => OrderItemAdded {
                product_id: add.product_id.clone(),
                quantity: add.quantity,
                unit_price: add.unit_price,
            }
            .into(),
            OrderCommand::RemoveOrderItem(remove) => OrderItemRemoved { product_id: remove.product_id.clone() }.into(),
            OrderCommand::ConfirmOrder(_) => OrderConfirmed {}.into(),
            OrderCommand::PayOrder(pay) => OrderPaid { payment_reference: pay.payment_reference.clone() }.into(),
            OrderCommand::ShipOrder(ship) => OrderShipped { tracking: ship.tracking.clone() }.into(),
            OrderCommand::DeliverOrder(_) => OrderDelivered {}.into(),
            OrderCommand::CancelOrder(cancel) => OrderCancelled { reason: cancel.reason.clone() }.into(),
        };
        self.admits(&event)?;
        Ok(vec![event])
    }

    fn state_schema() -> Option<SchemaOf> {
        Some(SchemaOf::type_of::<OrderState>())
    }

    fn apply(&mut self, event: &OrderEvent) {
        if let OrderEvent::OrderCreated(created) = event {
            self.0 = Some(OrderState {
                order_id: created.order_id.clone(),
                customer_id: created.customer_id.clone(),
                items: created.items.clone(),
                total: total_of(&created.items).unwrap_or(i64::MAX),
                status: OrderStatus::Created,
            });
            return;
        }
        let Some(order) = &mut self.0 else { return };
        match event {
            OrderEvent::OrderCreated(_) => {}
            OrderEvent::OrderItemAdded(added) => order.add(added),
            OrderEvent::OrderItemRemoved(removed) => order.remove(&removed.product_id),
            OrderEvent::OrderConfirmed(_) => order.status = OrderStatus::Confirmed,
            OrderEvent::OrderPaid(_) => order.status = OrderStatus::Paid,
            OrderEvent::OrderShipped(_) => order.status = OrderStatus::Shipped,
            OrderEvent::OrderDelivered(_) => order.status = OrderStatus::Delivered,
            OrderEvent::OrderCancelled(_) => order.status = OrderStatus::Cancelled,
        }
    }

    fn admits(&self, event: &OrderEvent) -> Result<(), OrderRejection> {
        use OrderStatus::{Confirmed, Created, Paid, Shipped};
        event.check()?;
        match event {
            OrderEvent::OrderCreated(_) if self.0.is_some() => Err(OrderRejection::OrderExists),
            OrderEvent::OrderCreated(created) => match total_of(&created.items) {
                Some(_) => Ok(()),
                None => Err(OrderRejection::AmountOverflow { total: 0 }),
            },
            OrderEvent::OrderItemAdded(added) => self.at(&[Created])?.accepts(added),
            OrderEvent::OrderItemRemoved(OrderItemRemoved { product_id }) => {
                match self.at(&[Created])?.item(product_id) {
                    Some(_) => Ok(()),
                    None => Err(OrderRejection::ItemNotFound { product_id: product_id.clone() }),
                }
            }
            OrderEvent::OrderConfirmed(_) if self.at(&[Created])?.items.is_empty() => Err(OrderRejection::OrderEmpty),
            OrderEvent::OrderConfirmed(_) => Ok(()),
            OrderEvent::OrderPaid(_) => self.at(&[Confirmed]).map(drop),
            OrderEvent::OrderShipped(_) => self.at(&[Paid]).map(drop),
            OrderEvent::OrderDelivered(_) => self.at(&[Shipped]).map(drop),
            OrderEvent::OrderCancelled(_) => self.at(&[Created, Confirmed, Paid]).map(drop),
        }
    }
}
