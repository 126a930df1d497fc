//! All is done, or everything of it is undone, and nobody else's order is cancelled.

use event_sourcing_actors::{
    saga::{SagaStatus, TIMEOUT},
    testing::given_saga::{Scenario, scenario},
};
use serde_json::{Value, json};

use super::*;
use crate::{
    domain::tests::{Dice, long},
    sagas::tests::{Accepted, POLICY, World, live},
};

const VERSION: u64 = 3;

fn order(status: &str, items: &Value, total: i64) -> Value {
    json!({ "order_id": "ord-1", "customer_id": "cus-1", "items": items, "total": total, "status": status })
}

/// Two books and a pen: 520.
fn two_lines() -> Value {
    let book = json!({ "product_id": "book", "quantity": 2, "unit_price": 250 });
    order("created", &json!([book, { "product_id": "pen", "quantity": 1, "unit_price": 20 }]), 520)
}

fn started() -> Scenario {
    scenario(order_fulfillment_saga(POLICY)).of("saga-1").start(json!({ "order_id": "ord-1", "account_id": "ann" }))
}

fn reserving() -> Scenario {
    started().then_reads([("order", "ord-1")]).read("order", "order", VERSION, two_lines())
}

fn withdrawing() -> Scenario {
    reserving().answered("reserve:book").answered("reserve:pen")
}

fn paying() -> Scenario {
    withdrawing().answered("withdraw").answered("confirm")
}

type Sent = [(&'static str, &'static str, Value); 1];

fn reserve(product: &'static str, quantity: i64) -> Sent {
    [("ReserveStock", product, json!({ "order_id": "ord-1", "quantity": quantity }))]
}

fn release(product: &'static str) -> Sent {
    [("ReleaseStock", product, json!({ "order_id": "ord-1" }))]
}

fn movement(command_type: &'static str) -> Sent {
    [(command_type, "ann", json!({ "amount": 520, "transfer_id": "saga-1" }))]
}

fn cancel() -> Sent {
    [("CancelOrder", "ord-1", json!({ "reason": "it could not be fulfilled, see saga saga-1" }))]
}

#[test]
fn an_order_is_reserved_withdrawn_confirmed_and_paid() {
    started()
        .then_commands([])
        .then_known_steps(["order"])
        .read("order", "order", VERSION, two_lines())
        .then_known_steps(["order", "reserve:book", "reserve:pen", "withdraw", "confirm", "pay"])
        .then_commands(reserve("book", 2))
        .answered("reserve:book")
        .then_commands(reserve("pen", 1))
        .answered("reserve:pen")
        .then_commands(movement("WithdrawMoney"))
        .answered("withdraw")
        .then_commands([("ConfirmOrder", "ord-1", json!({}))])
        .then_versions([Some(VERSION)])
        .answered("confirm")
        .then_commands([("PayOrder", "ord-1", json!({ "payment_reference": "saga-1" }))])
        .then_versions([None])
        .answered("pay")
        .then_nothing()
        .then_status(SagaStatus::Completed);
}

#[test]
fn an_order_that_costs_nothing_takes_no_money() {
    let free = order("created", &json!([{ "product_id": "pen", "quantity": 1, "unit_price": 0 }]), 0);
    let free = started().read("order", "order", 1, free).then_known_steps(["order", "reserve:pen", "confirm", "pay"]);
    free.answered("reserve:pen").then_commands([("ConfirmOrder", "ord-1", json!({}))]);
}

#[test]
fn an_order_that_is_not_there_or_not_to_be_fulfilled_is_left_alone() {
    let left_alone = |read: Scenario, reason: &str| {
        read.then_nothing().then_status(SagaStatus::Compensated).then_reason(reason);
    };
    left_alone(started().read_nothing("order"), "order-not-found");
    left_alone(started().read("order", "order", 0, Value::Null), "order-not-found");
    left_alone(started().read("order", "account", 4, json!({ "balance": 1 })), "aggregate-type-mismatch");
    for status in ["confirmed", "paid", "shipped", "delivered", "cancelled"] {
        let items = &two_lines()["items"];
        left_alone(started().read("order", "order", 5, order(status, items, 520)), "invalid-order-state");
    }
    let paid = started().read("order", "order", 5, order("paid", &json!([]), 0)).record().reason.unwrap();
    assert_eq!(paid.details, Some(json!({ "current": "paid", "required": ["created"] })));
}

#[test]
fn an_order_without_items_cannot_be_fulfilled_and_is_cancelled() {
    let empty = started().read("order", "order", VERSION, order("created", &json!([]), 0)).then_reason("order-empty");
    empty.then_undo(cancel()).then_versions([Some(VERSION)]).answered("order").then_status(SagaStatus::Compensated);
}

#[test]
fn a_state_that_is_no_order_is_a_fault_of_the_code() {
    started().read("order", "order", VERSION, json!({ "status": "odd" })).then_error("cannot be read");
}

#[test]
fn missing_stock_releases_what_was_reserved_and_cancels_the_order() {
    reserving().refused("reserve:book", "item-not-found").then_undo(cancel()).answered("order");
    reserving()
        .answered("reserve:book")
        .refused("reserve:pen", "insufficient-stock")
        .then_undo(release("book"))
        .answered("reserve:book")
        .then_undo(cancel())
        .then_versions([Some(VERSION)])
        .answered("order")
        .then_status(SagaStatus::Compensated)
        .then_reason("insufficient-stock");
}

#[test]
fn missing_money_releases_the_stock_and_cancels_the_order() {
    for refusal in ["insufficient-funds", "account-closed", "account-not-found", "aggregate-type-mismatch"] {
        let undoing = withdrawing().refused("withdraw", refusal).then_undo(release("pen")).answered("reserve:pen");
        let undoing = undoing.then_undo(release("book")).answered("reserve:book").then_undo(cancel());
        undoing.answered("order").then_status(SagaStatus::Compensated).then_reason(refusal);
    }
}

#[test]
fn stock_that_somebody_shipped_or_released_needs_no_release() {
    let undoing =
        withdrawing().refused("withdraw", "insufficient-funds").refused("reserve:pen", "reservation-not-found");
    undoing.then_undo(release("book")).refused("reserve:book", "item-not-found").then_nothing();
}

#[test]
fn an_order_that_changed_since_it_was_read_is_left_to_whoever_changed_it() {
    let confirming = withdrawing().answered("withdraw").refused("confirm", "precondition-failed");
    let undoing = confirming.then_undo(movement("RefundTransfer")).answered("withdraw").then_undo(release("pen"));
    let undoing = undoing.answered("reserve:pen").answered("reserve:book").then_undo(cancel());
    let undoing = undoing.then_versions([Some(VERSION)]).refused("order", "precondition-failed");
    undoing.then_nothing().then_status(SagaStatus::Compensated).then_reason("precondition-failed");
}

#[test]
fn an_order_that_another_fulfilment_works_on_is_left_to_it() {
    let left = reserving().refused("reserve:book", "already-reserved").then_nothing();
    left.then_status(SagaStatus::Compensated).then_reason("already-reserved");
}

#[test]
fn a_payment_that_is_refused_cancels_the_confirmed_order_first() {
    let undoing = paying().refused("pay", "invalid-order-state").then_undo(cancel());
    let undoing = undoing.then_versions([Some(VERSION + 1)]).answered("confirm");
    let undoing = undoing.then_undo(movement("RefundTransfer")).answered("withdraw").answered("reserve:pen");
    let undoing = undoing.then_undo(release("book")).answered("reserve:book").then_nothing();
    undoing.then_status(SagaStatus::Compensated);
}

#[test]
fn a_confirmed_order_that_somebody_paid_or_cancelled_is_left_to_them() {
    let refused = paying().refused("pay", "invalid-order-state").refused("confirm", "precondition-failed");
    let undone = refused.then_undo(movement("RefundTransfer")).answered("withdraw").answered("reserve:pen");
    undone.answered("reserve:book").then_nothing().then_status(SagaStatus::Compensated);
}

#[test]
fn an_undo_tolerates_a_cancelled_order_and_no_other_state() {
    let state = |current: &str| Reason {
        details: Some(json!({ "current": current })),
        ..Reason::new("invalid-order-state", "the order is in another state")
    };
    let undoing = || reserving().refused("reserve:book", "insufficient-stock").then_undo(cancel());
    undoing().refused_for("order", state("cancelled")).then_status(SagaStatus::Compensated);
    undoing().refused("order", "order-not-found").then_status(SagaStatus::Compensated);
    undoing().refused_for("order", state("shipped")).then_nothing().then_status(SagaStatus::Compensating);
    undoing().refused("order", "invalid-order-state").then_nothing().then_status(SagaStatus::Compensating);
}

#[test]
fn an_answer_that_comes_after_the_time_is_undone_and_that_of_the_payment_decides() {
    let turned = reserving().timer_fires("reserve:book").then_nothing();
    turned.answered("reserve:book").then_undo(release("book")).answered("reserve:book").then_undo(cancel());
    let turned = withdrawing().timer_fires(TIMEOUT).then_nothing().answered("withdraw");
    turned.then_undo(movement("RefundTransfer"));
    let turned = withdrawing().answered("withdraw").cancelled().then_nothing().answered("confirm");
    turned.then_undo(cancel()).then_versions([Some(VERSION + 1)]);
    paying().timer_fires("pay").then_nothing().answered("pay").then_nothing().then_status(SagaStatus::Completed);
    paying().cancelled().refused("pay", "invalid-order-state").then_undo(cancel());
}

#[test]
fn cancelling_before_anything_was_done_cancels_the_order() {
    let read = started().cancelled().then_nothing().read("order", "order", VERSION, two_lines());
    read.then_undo(cancel()).answered("order").then_status(SagaStatus::Compensated).then_reason("cancelled");
    started().cancelled().read_nothing("order").then_nothing().then_status(SagaStatus::Compensated);
}

#[test]
fn data_that_is_wrong_is_told_with_pointers() {
    let start = |data| scenario(order_fulfillment_saga(POLICY)).start(data);
    start(json!({ "account_id": "ann" })).then_invalid(["/order_id"]);
    start(json!({ "order_id": "ord-1" })).then_invalid(["/account_id"]);
    start(json!({ "order_id": "", "account_id": "ann" })).then_invalid(["/order_id"]);
    start(json!({ "order_id": "ord-1", "account_id": long(256) })).then_invalid(["/account_id"]);
    start(json!({ "order_id": "ord-1", "account_id": "ord-1" })).then_invalid(["/account_id"]);
    start(json!({ "order_id": "ord-1", "account_id": "ann", "colour": 1 })).then_invalid(["/colour"]);
    start(json!(null)).then_invalid([""]);
}

fn others(dice: &mut Dice, world: &mut World) {
    let _ = match dice.below(50) {
        0 => world.tell("ord-1", "AddOrderItem", &json!({ "product_id": "ink", "quantity": 1, "unit_price": 1 })),
        1 => world.tell("ord-1", "ConfirmOrder", &json!({})),
        2 => world.tell("ord-1", "PayOrder", &json!({})),
        3 => world.tell("ord-1", "ShipOrder", &json!({})),
        4 => world.tell("ord-1", "CancelOrder", &json!({ "reason": "changed my mind" })),
        5 => world.tell("pen", "ReserveStock", &json!({ "order_id": "ord-2", "quantity": 1 })),
        6 => world.tell("pen", "ReserveStock", &json!({ "order_id": "ord-1", "quantity": 1 })),
        7 => world.tell("ann", "WithdrawMoney", &json!({ "amount": 480 })),
        8 => world.tell("ann", "CloseAccount", &json!({})),
        _ => Ok(()),
    };
}

fn shop(dice: &mut Dice) -> World {
    let mut world = World::default();
    let balance = [0, 520, 1_000][usize::try_from(dice.below(3)).unwrap()];
    world.tell("ann", "CreateAccount", &json!({ "owner": "Ann", "initial_balance": balance })).unwrap();
    for product in ["book", "pen"] {
        let item = json!({ "name": "n", "initial_quantity": 1 + dice.below(5), "low_stock_threshold": 0 });
        world.tell(product, "CreateInventoryItem", &item).unwrap();
    }
    let items = two_lines()["items"].clone();
    world.tell("ord-1", "CreateOrder", &json!({ "customer_id": "cus-1", "items": items })).unwrap();
    world
}

#[test]
fn whatever_others_do_when_all_is_done_or_all_is_undone_and_no_order_of_theirs_is_cancelled() {
    let (mut ends, mut cancelled) = ([0, 0], 0);
    for seed in 0..100 {
        let mut dice = Dice(seed);
        let mut world = shop(&mut dice);
        let status = live(&mut dice, started(), &mut world, others);
        let done = |command: &str| world.count(command);
        let (taken, back) = (done("WithdrawMoney"), done("RefundTransfer"));
        let after_read = &world.accepted[world.read_at..];
        let is_theirs = |one: &Accepted| !one.by_saga && one.target == "ord-1";
        match status {
            SagaStatus::Completed => {
                assert_eq!((taken, back, done("ReserveStock"), done("ReleaseStock")), (1, 0, 2, 0), "seed {seed}");
                assert_eq!((done("ConfirmOrder"), done("PayOrder"), done("CancelOrder")), (1, 1, 0), "seed {seed}");
            }
            SagaStatus::Compensated => {
                assert_eq!((taken, done("ReserveStock")), (back, done("ReleaseStock")), "seed {seed}");
                assert_eq!(done("PayOrder"), 0, "seed {seed}");
                if done("CancelOrder") == 1 {
                    let at = after_read.iter().position(|one| one.by_saga && one.command_type == "CancelOrder");
                    let before = &after_read[..at.expect("after the read")];
                    assert!(!before.iter().any(is_theirs), "seed {seed}: {before:#?}");
                    cancelled += 1;
                }
            }
            other => panic!("seed {seed}: {other:?}"),
        }
        ends[usize::from(status == SagaStatus::Completed)] += 1;
    }
    assert!(ends.iter().all(|count| *count > 10) && cancelled > 10, "{ends:?}, {cancelled}: too little happened");
}
