//! Orders, their lists, and the days.

use std::collections::BTreeMap;

use event_sourcing_actors::Aggregate;
use serde_json::{Value, json};

use super::*;
use crate::{
    domain::{
        order::{OrderCancelled, OrderConfirmed, OrderDelivered, OrderItemRemoved, OrderPaid, OrderShipped},
        tests::{Dice, id},
    },
    projections::tests::{ReadModel, instant},
};

fn item(product: &str, quantity: i64, unit_price: i64) -> OrderItem {
    OrderItem { product_id: id(product), quantity, unit_price }
}

fn created(order: &str, items: Vec<OrderItem>) -> OrderCreated {
    OrderCreated { order_id: id(order), customer_id: id("c"), items }
}

fn added(product: &str, quantity: i64, unit_price: i64) -> OrderItemAdded {
    OrderItemAdded { product_id: id(product), quantity, unit_price }
}

fn cancelled() -> OrderCancelled {
    OrderCancelled { reason: "late".to_owned() }
}

fn day(date: &str, created: i64, cancelled: i64, sold: i64, revenue: i64) -> Value {
    json!({"date": date, "orders_created": created, "orders_cancelled": cancelled, "items_sold": sold,
           "revenue": revenue})
}

#[test]
fn every_event_turns_the_order_and_its_rows() {
    let mut model = ReadModel::new(OrderSummary);
    model.happens::<Order>("o-1", created("o-1", vec![item("p", 2, 10), item("q", 1, 5)])).unwrap();
    model.happens::<Order>("o-1", added("p", 1, 10)).unwrap();
    model.happens::<Order>("o-1", added("r", 1, 7)).unwrap();
    assert_eq!(model.column(PRODUCT_ORDERS, "p", "quantity"), json!([3]));
    model.happens::<Order>("o-1", OrderItemRemoved { product_id: id("q") }).unwrap();
    assert_eq!(model.list(PRODUCT_ORDERS, "q"), Vec::<Value>::new());
    model.happens::<Order>("o-1", OrderConfirmed {}).unwrap();
    model.happens::<Order>("o-1", OrderPaid { payment_reference: Some("pay".to_owned()) }).unwrap();
    model.happens::<Order>("o-1", OrderShipped { tracking: Some("box".to_owned()) }).unwrap();
    model.happens::<Order>("o-1", OrderDelivered {}).unwrap();
    assert_eq!(
        model.row(ORDERS, "", "o-1").unwrap(),
        json!({"order_id": "o-1", "customer_id": "c", "item_count": 2, "total": 37, "status": "delivered",
               "items": [{"product_id": "p", "quantity": 3, "unit_price": 10},
                         {"product_id": "r", "quantity": 1, "unit_price": 7}],
               "created_at": "2024-01-01T12:00:01.000000Z", "created_position": 1,
               "updated_at": "2024-01-01T12:00:08.000000Z", "version": 8,
               "payment_reference": "pay", "tracking": "box", "cancel_reason": null})
    );
    assert_eq!(
        model.list(CUSTOMER_ORDERS, "c"),
        [json!({"customer_id": "c", "order_id": "o-1", "status": "delivered", "total": 37, "item_count": 2,
                "created_at": "2024-01-01T12:00:01.000000Z", "updated_at": "2024-01-01T12:00:08.000000Z"})]
    );
    assert_eq!(
        model.list(PRODUCT_ORDERS, "r"),
        [json!({"product_id": "r", "order_id": "o-1", "customer_id": "c", "quantity": 1, "unit_price": 7,
                "status": "delivered", "created_at": "2024-01-01T12:00:01.000000Z"})]
    );
    assert_eq!(model.list(DAILY, ""), [day("2024-01-01", 1, 0, 4, 37)]);
}

#[test]
fn lists_follow_the_creation_of_orders() {
    let mut model = ReadModel::new(OrderSummary);
    for order in ["z", "a", "m"] {
        model.happens::<Order>(order, created(order, vec![item("p", 1, 1)])).unwrap();
    }
    model.happens::<Order>("z", OrderConfirmed {}).unwrap();
    assert_eq!(model.column(CUSTOMER_ORDERS, "c", "order_id"), json!(["z", "a", "m"]));
    assert_eq!(model.column(PRODUCT_ORDERS, "p", "order_id"), json!(["z", "a", "m"]));
}

#[test]
fn sales_count_on_the_day_of_payment_and_are_taken_back_on_the_day_of_cancellation() {
    let mut model = ReadModel::new(OrderSummary);
    model.now = instant("2024-02-28T23:59:58Z");
    model.happens::<Order>("o-1", created("o-1", vec![item("p", 2, 10)])).unwrap();
    model.happens::<Order>("o-1", OrderConfirmed {}).unwrap();
    model.happens::<Order>("o-1", OrderPaid { payment_reference: None }).unwrap();
    model.happens::<Order>("o-2", created("o-2", vec![])).unwrap();
    model.happens::<Order>("o-2", cancelled()).unwrap();
    model.now = instant("2024-03-01T00:00:00Z");
    model.happens::<Order>("o-1", cancelled()).unwrap();
    assert_eq!(
        model.list(DAILY, ""),
        [day("2024-02-28", 1, 0, 0, 0), day("2024-02-29", 1, 1, 2, 20), day("2024-03-01", 0, 1, -2, -20)]
    );
    let order = model.row(ORDERS, "", "o-1").unwrap();
    assert_eq!((&order["status"], &order["cancel_reason"]), (&json!("cancelled"), &json!("late")));
    assert_eq!(model.column(PRODUCT_ORDERS, "p", "status"), json!(["cancelled"]));
}

#[test]
fn overflow_and_repetition_are_parked_and_change_nothing() {
    let mut model = ReadModel::new(OrderSummary);
    model.happens::<Order>("o-1", created("o-1", vec![item("p", i64::MAX, 0), item("q", 1, i64::MAX)])).unwrap();
    let before = model.stored.clone();
    let refused = |model: &mut ReadModel<OrderSummary>, event: OrderEvent, reason: &str| {
        let told = model.happens::<Order>("o-1", event).unwrap_err();
        assert!(told.contains(reason), "{told}");
    };
    refused(&mut model, added("p", 1, 0).into(), "quantity would not fit");
    refused(&mut model, added("q", 1, i64::MAX).into(), "total would not fit");
    refused(&mut model, OrderPaid { payment_reference: None }.into(), "items_sold would not fit");
    refused(&mut model, created("o-1", vec![]).into(), "there is order \"o-1\" already");
    assert_eq!(model.stored, before);
}

#[test]
fn orders_and_days_equal_the_folded_orders() {
    for seed in 0..20 {
        let mut dice = Dice(seed);
        let (mut model, mut states) = (ReadModel::new(OrderSummary), BTreeMap::<String, Order>::new());
        let (mut sold, mut revenue, mut begun, mut given_up) = (0, 0, 0, 0);
        for _ in 0..300 {
            let name = format!("o-{}", dice.below(4));
            let (quantity, price) = (dice.number().clamp(-1, 20), dice.number().clamp(-1, 20));
            let product = dice.id();
            let event: OrderEvent = match dice.below(16) {
                0..=2 => created(&name, vec![item(product.as_str(), quantity, price)]).into(),
                3..=6 => added(product.as_str(), quantity, price).into(),
                7 | 8 => OrderItemRemoved { product_id: product }.into(),
                9 | 10 => OrderConfirmed {}.into(),
                11 | 12 => OrderPaid { payment_reference: None }.into(),
                13 => OrderShipped { tracking: None }.into(),
                14 => OrderDelivered {}.into(),
                _ => cancelled().into(),
            };
            let state = states.entry(name.clone()).or_default();
            if state.admits(&event).is_err() {
                continue;
            }
            let was_paid = state.get().is_some_and(|order| order.status == OrderStatus::Paid);
            state.apply(&event);
            let order = state.get().unwrap();
            let pieces: i64 = order.items.iter().map(|item| item.quantity).sum();
            match &event {
                OrderEvent::OrderCreated(_) => begun += 1,
                OrderEvent::OrderPaid(_) => (sold, revenue) = (sold + pieces, revenue + order.total),
                OrderEvent::OrderCancelled(_) => {
                    given_up += 1;
                    if was_paid {
                        (sold, revenue) = (sold - pieces, revenue - order.total);
                    }
                }
                _ => {}
            }
            model.happens::<Order>(&name, event).unwrap();
        }
        let sum = |member: &str| -> i64 { model.list(DAILY, "").iter().map(|row| row[member].as_i64().unwrap()).sum() };
        let counted = (sum("orders_created"), sum("orders_cancelled"), sum("items_sold"), sum("revenue"));
        assert_eq!(counted, (begun, given_up, sold, revenue));
        let mut listed = 0;
        for (name, state) in &states {
            let Some(order) = state.get() else { continue };
            let row = model.row(ORDERS, "", name).unwrap();
            let folded = [
                ("items", json!(order.items)),
                ("total", json!(order.total)),
                ("status", json!(order.status)),
                ("item_count", json!(order.items.len())),
            ];
            for (member, folded) in folded {
                assert_eq!(row[member], folded, "{member} of {name}");
            }
            listed += order.items.len();
        }
        let of_products = model.stored.keys().filter(|key| key.collection == PRODUCT_ORDERS).count();
        assert_eq!(of_products, listed);
    }
}
