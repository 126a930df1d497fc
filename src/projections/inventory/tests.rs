//! Stock, movements, reservations, what runs low.

use std::collections::BTreeMap;

use event_sourcing_actors::Aggregate;
use serde_json::{Value, json};

use super::*;
use crate::{
    domain::{
        inventory::{StockAdjusted, StockReceived, StockReleased, StockReserved, StockShipped},
        tests::{Dice, id},
    },
    projections::tests::ReadModel,
};

fn created(product: &str, initial_quantity: i64, low_stock_threshold: i64) -> InventoryItemCreated {
    InventoryItemCreated { product_id: id(product), name: "Pen".to_owned(), initial_quantity, low_stock_threshold }
}

fn reserved(order: &str, quantity: i64) -> StockReserved {
    StockReserved { order_id: id(order), quantity }
}

fn totals(model: &ReadModel<Inventory>) -> (Value, Value) {
    let row = model.row(TOTALS, "", "").unwrap();
    (row["products"].clone(), row["low_stock"].clone())
}

#[test]
fn every_event_changes_the_stock_and_adds_a_movement() {
    let mut model = ReadModel::new(Inventory);
    model.happens::<InventoryItem>("p", created("p", 10, 3)).unwrap();
    model.happens::<InventoryItem>("p", StockReceived { quantity: 5 }).unwrap();
    model.happens::<InventoryItem>("p", reserved("o-1", 4)).unwrap();
    model.happens::<InventoryItem>("p", reserved("o-2", 6)).unwrap();
    assert_eq!(model.column(RESERVATIONS, "p", "quantity"), json!([4, 6]));
    model.happens::<InventoryItem>("p", StockReleased { order_id: id("o-1") }).unwrap();
    model.happens::<InventoryItem>("p", StockShipped { order_id: id("o-2") }).unwrap();
    model.happens::<InventoryItem>("p", StockAdjusted { delta: -1, reason: "lost".to_owned() }).unwrap();
    assert_eq!(model.list(RESERVATIONS, "p"), Vec::<Value>::new());
    assert_eq!(
        model.row(STOCK, "", "p").unwrap(),
        json!({"product_id": "p", "name": "Pen", "on_hand": 8, "reserved": 0, "available": 8,
               "low_stock_threshold": 3, "low": false, "version": 7, "updated_at": "2024-01-01T12:00:07.000000Z"})
    );
    let column = |member| model.column(MOVEMENTS, "p", member);
    let kinds = json!(["created", "received", "reserved", "reserved", "released", "shipped", "adjusted"]);
    assert_eq!(column("kind"), kinds);
    assert_eq!(column("quantity"), json!([10, 5, 4, 6, 4, 6, -1]));
    assert_eq!(column("on_hand_after"), json!([10, 15, 15, 15, 15, 9, 8]));
    assert_eq!(column("reserved_after"), json!([0, 0, 4, 10, 6, 0, 0]));
    assert_eq!(column("order_id"), json!([null, null, "o-1", "o-2", "o-1", "o-2", null]));
    assert_eq!(column("reason"), json!([null, null, null, null, null, null, "lost"]));
    assert_eq!(column("sequence"), json!([1, 2, 3, 4, 5, 6, 7]));
}

#[test]
fn low_stock_is_listed_only_while_it_is_low() {
    let mut model = ReadModel::new(Inventory);
    model.happens::<InventoryItem>("p", created("p", 4, 3)).unwrap();
    model.happens::<InventoryItem>("q", created("q", 0, 0)).unwrap();
    assert_eq!(totals(&model), (json!(2), json!(1)));
    model.happens::<InventoryItem>("p", reserved("o-1", 1)).unwrap();
    assert_eq!((totals(&model), model.column(LOW_STOCK, "", "product_id")), ((json!(2), json!(2)), json!(["p", "q"])));
    model.happens::<InventoryItem>("p", reserved("o-2", 1)).unwrap();
    assert_eq!(model.row(LOW_STOCK, "", "p"), model.row(STOCK, "", "p"), "a low row follows the stock");
    model.happens::<InventoryItem>("p", StockReceived { quantity: 2 }).unwrap();
    assert_eq!((totals(&model), model.column(LOW_STOCK, "", "product_id")), ((json!(2), json!(1)), json!(["q"])));
    let [gauge] = Inventory.gauges() else { panic!("one gauge") };
    let (collection, group, sort) = gauge.row;
    assert_eq!(model.row(collection, group, sort).unwrap()[gauge.member], json!(1));
}

#[test]
fn overflow_and_reservations_nobody_made_are_parked() {
    let mut model = ReadModel::new(Inventory);
    model.happens::<InventoryItem>("p", created("p", i64::MAX, 3)).unwrap();
    let before = model.stored.clone();
    let reason = model.happens::<InventoryItem>("p", StockReceived { quantity: 1 }).unwrap_err();
    assert!(reason.contains("on_hand would not fit"), "{reason}");
    let reason = model.happens::<InventoryItem>("p", StockShipped { order_id: id("o-9") }).unwrap_err();
    assert!(reason.contains("nothing of \"p\" is reserved for order \"o-9\""), "{reason}");
    let reason = model.happens::<InventoryItem>("p", created("p", 1, 1)).unwrap_err();
    assert!(reason.contains("there is inventory \"p\" already"), "{reason}");
    assert_eq!(model.stored, before);
}

#[test]
fn stock_and_totals_equal_the_folded_items() {
    for seed in 0..20 {
        let mut dice = Dice(seed);
        let (mut model, mut states) = (ReadModel::new(Inventory), BTreeMap::<String, InventoryItem>::new());
        for _ in 0..200 {
            let name = format!("p-{}", dice.below(4));
            let event: InventoryEvent = match dice.below(10) {
                0 | 1 => created(&name, dice.number(), dice.number()).into(),
                2 => StockReceived { quantity: dice.number() }.into(),
                3..=5 => StockReserved { order_id: dice.id(), quantity: dice.number() }.into(),
                6 => StockReleased { order_id: dice.id() }.into(),
                7 => StockShipped { order_id: dice.id() }.into(),
                _ => StockAdjusted { delta: dice.number(), reason: "count".to_owned() }.into(),
            };
            let state = states.entry(name.clone()).or_default();
            if state.admits(&event).is_ok() {
                state.apply(&event);
                model.happens::<InventoryItem>(&name, event).unwrap();
            }
        }
        let (mut products, mut low_stock) = (0, 0);
        for (name, state) in &states {
            let Some(state) = state.get() else { continue };
            let low = state.available() <= state.low_stock_threshold;
            (products, low_stock) = (products + 1, low_stock + i64::from(low));
            let row = model.row(STOCK, "", name).unwrap();
            for (member, folded) in [
                ("on_hand", json!(state.on_hand)),
                ("reserved", json!(state.reserved)),
                ("available", json!(state.available())),
                ("low", json!(low)),
            ] {
                assert_eq!(row[member], folded, "{member} of {name}");
            }
            let reservations: BTreeMap<String, i64> = model
                .list(RESERVATIONS, name)
                .into_iter()
                .map(|row| (row["order_id"].as_str().unwrap().to_owned(), row["quantity"].as_i64().unwrap()))
                .collect();
            let folded = state.reservations.iter().map(|(order, quantity)| (order.to_string(), *quantity)).collect();
            assert_eq!(reservations, folded);
            assert_eq!(model.row(LOW_STOCK, "", name), low.then_some(row));
        }
        assert_eq!(totals(&model), (json!(products), json!(low_stock)));
    }
}
