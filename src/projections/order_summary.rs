//! `order_summary`: orders, whose they are, which products they hold, and what happened day by day.
//!
//! Sales count on the UTC day of the payment. Cancelling a paid order takes its pieces and its money back on the day of
//! the cancellation: what a day said when it was over stays true. A cancelled order keeps its items, and stays in the
//! lists of its customer and its products with the status `cancelled`.

use chrono::{DateTime, Utc};
use event_sourcing_actors::{
    AggregateId, EventFilter,
    projection::{ApplyError, ProjectedEvent, Projection, Rows},
    view::sort_of_instant,
};

use super::{expected, interest_in, unexpected, within};
use crate::{
    domain::order::{Order, OrderCreated, OrderEvent, OrderItem, OrderItemAdded, OrderStatus},
    views::order_summary::{CustomerOrderRow, DailyRow, OrderRow, ProductOrderRow},
};

/// Orders, by order id.
pub const ORDERS: &str = "orders";
/// Orders of a customer, by creation.
pub const CUSTOMER_ORDERS: &str = "customer_orders";
/// Orders that hold a product, by creation.
pub const PRODUCT_ORDERS: &str = "product_orders";
/// Days, by date.
pub const DAILY: &str = "daily";

/// The projection.
#[derive(Debug, Clone, Copy, Default)]
pub struct OrderSummary;

impl OrderSummary {
    /// Its name.
    pub const NAME: &'static str = "order_summary";
    /// Version of what it does.
    pub const VERSION: u64 = 1;
}

impl Projection for OrderSummary {
    fn name(&self) -> &str {
        Self::NAME
    }

    fn version(&self) -> u64 {
        Self::VERSION
    }

    fn interest(&self) -> EventFilter {
        interest_in::<Order>()
    }

    fn apply(&self, event: &ProjectedEvent<'_>, rows: &mut Rows<'_>) -> Result<(), ApplyError> {
        let change = event.domain::<OrderEvent>()?;
        let day = match change {
            OrderEvent::OrderCreated(_) | OrderEvent::OrderPaid(_) | OrderEvent::OrderCancelled(_) => {
                Some(daily(rows, event.recorded_at))
            }
            _ => None,
        };
        let known: Option<OrderRow> = rows.get(ORDERS, "", event.aggregate_id.as_str())?;
        let day = day.transpose()?;
        if let OrderEvent::OrderCreated(created) = change {
            unexpected(known, event)?;
            let day = day.unwrap_or_else(|| empty_day(event.recorded_at));
            let orders_created = within(day.orders_created.checked_add(1), "orders_created")?;
            put_day(rows, &DailyRow { orders_created, ..day })?;
            return put_order(rows, &begun(event, created)?);
        }
        let mut order = expected(known, event)?;
        if let Some(mut day) = day {
            count(&mut day, &order, &change)?;
            put_day(rows, &day)?;
        }
        if let OrderEvent::OrderItemRemoved(removed) = &change {
            rows.delete(PRODUCT_ORDERS, removed.product_id.as_str(), &place_of(&order));
        }
        turn(&mut order, change)?;
        order.updated_at = event.recorded_at;
        order.version = event.sequence;
        put_order(rows, &order)
    }
}

fn begun(event: &ProjectedEvent<'_>, created: OrderCreated) -> Result<OrderRow, ApplyError> {
    let mut order = OrderRow {
        order_id: event.aggregate_id.clone(),
        customer_id: created.customer_id,
        items: created.items,
        item_count: 0,
        total: 0,
        status: OrderStatus::Created,
        created_at: event.recorded_at,
        created_position: event.position,
        updated_at: event.recorded_at,
        version: event.sequence,
        payment_reference: None,
        tracking: None,
        cancel_reason: None,
    };
    sum_up(&mut order)?;
    Ok(order)
}

/// What the event does to the order itself.
fn turn(order: &mut OrderRow, change: OrderEvent) -> Result<(), ApplyError> {
    match change {
        OrderEvent::OrderCreated(_) => {}
        OrderEvent::OrderItemAdded(added) => {
            add_item(order, added)?;
            sum_up(order)?;
        }
        OrderEvent::OrderItemRemoved(removed) => {
            order.items.retain(|item| item.product_id != removed.product_id);
            sum_up(order)?;
        }
        OrderEvent::OrderConfirmed(_) => order.status = OrderStatus::Confirmed,
        OrderEvent::OrderPaid(paid) => {
            order.status = OrderStatus::Paid;
            order.payment_reference = paid.payment_reference;
        }
        OrderEvent::OrderShipped(shipped) => {
            order.status = OrderStatus::Shipped;
            order.tracking = shipped.tracking;
        }
        OrderEvent::OrderDelivered(_) => order.status = OrderStatus::Delivered,
        OrderEvent::OrderCancelled(cancelled) => {
            order.status = OrderStatus::Cancelled;
            order.cancel_reason = Some(cancelled.reason);
        }
    }
    Ok(())
}

fn add_item(order: &mut OrderRow, added: OrderItemAdded) -> Result<(), ApplyError> {
    match order.items.iter_mut().find(|item| item.product_id == added.product_id) {
        Some(item) => item.quantity = within(item.quantity.checked_add(added.quantity), "quantity")?,
        None => order.items.push(OrderItem {
            product_id: added.product_id,
            quantity: added.quantity,
            unit_price: added.unit_price,
        }),
    }
    Ok(())
}

fn sum_up(order: &mut OrderRow) -> Result<(), ApplyError> {
    let total =
        order.items.iter().try_fold(0_i64, |sum, item| sum.checked_add(item.quantity.checked_mul(item.unit_price)?));
    order.total = within(total, "total")?;
    order.item_count = order.items.len() as u64;
    Ok(())
}

/// What the event counts for on its day; `order` is as it was before.
fn count(day: &mut DailyRow, order: &OrderRow, change: &OrderEvent) -> Result<(), ApplyError> {
    let pieces = || {
        let sum = order.items.iter().try_fold(0_i64, |sum, item| sum.checked_add(item.quantity));
        within(sum, "items_sold")
    };
    match change {
        OrderEvent::OrderPaid(_) => {
            day.items_sold = within(day.items_sold.checked_add(pieces()?), "items_sold")?;
            day.revenue = within(day.revenue.checked_add(order.total), "revenue")?;
        }
        OrderEvent::OrderCancelled(_) => {
            day.orders_cancelled = within(day.orders_cancelled.checked_add(1), "orders_cancelled")?;
            if order.status == OrderStatus::Paid {
                day.items_sold = within(day.items_sold.checked_sub(pieces()?), "items_sold")?;
                day.revenue = within(day.revenue.checked_sub(order.total), "revenue")?;
            }
        }
        _ => {}
    }
    Ok(())
}

fn empty_day(at: DateTime<Utc>) -> DailyRow {
    DailyRow { date: at.date_naive(), orders_created: 0, orders_cancelled: 0, items_sold: 0, revenue: 0 }
}

fn daily(rows: &mut Rows<'_>, at: DateTime<Utc>) -> Result<DailyRow, ApplyError> {
    Ok(rows.get(DAILY, "", &at.date_naive().to_string())?.unwrap_or_else(|| empty_day(at)))
}

fn put_day(rows: &mut Rows<'_>, day: &DailyRow) -> Result<(), ApplyError> {
    rows.put(DAILY, "", &day.date.to_string(), day)
}

/// The order's place in lists: when it was begun.
fn place_of(order: &OrderRow) -> String {
    sort_of_instant(order.created_at, order.created_position)
}

/// Writes the order everywhere it stands.
fn put_order(rows: &mut Rows<'_>, order: &OrderRow) -> Result<(), ApplyError> {
    let place = place_of(order);
    rows.put(ORDERS, "", order.order_id.as_str(), order)?;
    let of_customer = CustomerOrderRow {
        customer_id: order.customer_id.clone(),
        order_id: order.order_id.clone(),
        status: order.status,
        total: order.total,
        item_count: order.item_count,
        created_at: order.created_at,
        updated_at: order.updated_at,
    };
    rows.put(CUSTOMER_ORDERS, order.customer_id.as_str(), &place, &of_customer)?;
    order.items.iter().try_for_each(|item| put_item(rows, order, &place, item))
}

fn put_item(rows: &mut Rows<'_>, order: &OrderRow, place: &str, item: &OrderItem) -> Result<(), ApplyError> {
    let product_id: &AggregateId = &item.product_id;
    let of_product = ProductOrderRow {
        product_id: product_id.clone(),
        order_id: order.order_id.clone(),
        customer_id: order.customer_id.clone(),
        quantity: item.quantity,
        unit_price: item.unit_price,
        status: order.status,
        created_at: order.created_at,
    };
    rows.put(PRODUCT_ORDERS, product_id.as_str(), place, &of_product)
}

#[cfg(test)]
mod tests;
