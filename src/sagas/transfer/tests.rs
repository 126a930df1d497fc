//! Both happens or neither remains.

use event_sourcing_actors::{
    saga::{SagaStatus, StepStatus, TIMEOUT, TimerStatus},
    testing::given_saga::{Scenario, scenario},
};
use serde_json::{Value, json};

use super::*;
use crate::{
    domain::tests::{Dice, long},
    sagas::tests::{POLICY, World, live},
};

fn data() -> Value {
    json!({ "from_account": "ann", "to_account": "bob", "amount": 30 })
}

fn started() -> Scenario {
    scenario(transfer_saga(POLICY)).of("tra-1").start(data())
}

fn sent(command_type: &'static str, account: &'static str) -> [(&'static str, &'static str, Value); 1] {
    [(command_type, account, json!({ "amount": 30, "transfer_id": "tra-1" }))]
}

#[test]
fn money_is_withdrawn_then_deposited() {
    started()
        .then_known_steps(["withdraw", "deposit"])
        .then_commands(sent("WithdrawMoney", "ann"))
        .then_timers([(TIMEOUT, TimerStatus::Set), ("withdraw", TimerStatus::Set)])
        .answered("withdraw")
        .then_commands(sent("DepositMoney", "bob"))
        .answered("deposit")
        .then_nothing()
        .then_status(SagaStatus::Completed)
        .then_steps([("withdraw", StepStatus::Completed), ("deposit", StepStatus::Completed)]);
}

#[test]
fn a_refused_withdrawal_leaves_everything_as_it_was() {
    let refused = started().refused("withdraw", "insufficient-funds").then_nothing();
    refused.then_status(SagaStatus::Compensated).then_reason("insufficient-funds");
}

#[test]
fn a_refused_deposit_gives_the_money_back() {
    started()
        .answered("withdraw")
        .refused("deposit", "account-closed")
        .then_undo(sent("RefundTransfer", "ann"))
        .answered("withdraw")
        .then_status(SagaStatus::Compensated)
        .then_reason("account-closed")
        .then_steps([("withdraw", StepStatus::Compensated), ("deposit", StepStatus::Refused)]);
}

#[test]
fn a_withdrawal_whose_answer_is_late_is_given_back() {
    let turned = || started().timer_fires("withdraw").then_nothing().then_status(SagaStatus::Compensating);
    turned().answered("withdraw").then_undo(sent("RefundTransfer", "ann")).answered("withdraw");
    turned().refused("withdraw", "insufficient-funds").then_nothing().then_status(SagaStatus::Compensated);
    started().cancelled().answered("withdraw").then_undo(sent("RefundTransfer", "ann"));
    started().timer_fires(TIMEOUT).answered("withdraw").then_undo(sent("RefundTransfer", "ann"));
}

#[test]
fn a_deposit_whose_answer_is_late_decides() {
    let turned = || started().answered("withdraw").timer_fires("deposit").then_nothing();
    turned().answered("deposit").then_nothing().then_status(SagaStatus::Completed);
    turned().refused("deposit", "account-not-found").then_undo(sent("RefundTransfer", "ann"));
    started().answered("withdraw").cancelled().answered("deposit").then_status(SagaStatus::Completed);
}

#[test]
fn a_refund_that_is_refused_is_for_an_operator() {
    let undoing = started().answered("withdraw").refused("deposit", "account-closed");
    let failed = undoing.refused("withdraw", "amount-overflow").then_nothing().timer_fires("withdraw/undo-retry");
    let failed = failed.refused("withdraw", "amount-overflow").then_status(SagaStatus::Failed);
    let retried = failed.retried().then_undo(sent("RefundTransfer", "ann"));
    retried.answered("withdraw").then_status(SagaStatus::Compensated);
}

#[test]
fn data_that_is_wrong_is_told_with_pointers() {
    let faults = |member: &str, value: Value| {
        let mut data = data();
        data[member] = value;
        scenario(transfer_saga(POLICY)).start(data)
    };
    faults("to_account", json!("ann")).then_invalid(["/to_account"]);
    for amount in [json!(0), json!(-1), json!(1.5), json!("5"), json!(null), json!(1_u64 << 63)] {
        faults("amount", amount).then_invalid(["/amount"]);
    }
    for account in ["", "a\nb", &long(256)] {
        faults("from_account", json!(account)).then_invalid(["/from_account"]);
        faults("to_account", json!(account)).then_invalid(["/to_account"]);
    }
    faults("from_account", json!(5)).then_invalid(["/from_account"]);
    faults("colour", json!("red")).then_invalid(["/colour"]);
    let start = |data| scenario(transfer_saga(POLICY)).start(data);
    start(json!({ "from_account": "a", "to_account": "a", "amount": 0 })).then_invalid(["/to_account", "/amount"]);
    start(json!({})).then_invalid(["/from_account"]);
    start(json!({ "from_account": "a", "to_account": "b" })).then_invalid(["/amount"]);
    start(json!([])).then_invalid([""]);
    start(json!({ "from_account": long(255), "to_account": "é/ü", "amount": i64::MAX })).answered("withdraw");
}

/// A transfer while the accounts are emptied and closed at the worst moment: how it ended, which commands it had accepted
/// how often (withdraw, deposit, refund), and the money that came out of nothing.
fn life(seed: u64, saga: Scenario) -> (SagaStatus, [usize; 3], i64) {
    let (mut dice, mut world) = (Dice(seed), World::default());
    let balance = i64::try_from(20 + dice.below(30)).unwrap();
    for (account, balance) in [("ann", balance), ("bob", balance), ("shop", 0)] {
        world.tell(account, "CreateAccount", &json!({ "owner": "o", "initial_balance": balance })).unwrap();
    }
    let others = |dice: &mut Dice, world: &mut World| {
        if dice.below(4) > 0 {
            return;
        }
        let account = ["ann", "bob"][usize::from(dice.below(2) == 0)];
        let left = world.accounts[account].0.get().map_or(0, |account| account.balance);
        if left > 0 {
            world.tell("shop", "DepositMoney", &json!({ "amount": left })).unwrap();
            world.tell(account, "WithdrawMoney", &json!({ "amount": left })).unwrap();
        }
        let _ = world.tell(account, "CloseAccount", &json!({}));
    };
    let before = world.balances();
    let status = live(&mut dice, saga.of("tra-1").start(data()), &mut world, others);
    let happened = ["WithdrawMoney", "DepositMoney", "RefundTransfer"].map(|command| world.count(command));
    (status, happened, world.balances() - before)
}

#[test]
fn money_is_conserved_whatever_happens_when() {
    let mut ends = [0, 0];
    for seed in 0..120 {
        let (status, happened, made) = life(seed, scenario(transfer_saga(POLICY)));
        assert_eq!(made, 0, "seed {seed}: {happened:?}");
        match status {
            SagaStatus::Completed => assert_eq!(happened, [1, 1, 0], "seed {seed}"),
            SagaStatus::Compensated => assert_eq!((happened[0], happened[1]), (happened[2], 0), "seed {seed}"),
            other => panic!("seed {seed}: {other:?}"),
        }
        ends[usize::from(status == SagaStatus::Completed)] += 1;
    }
    assert!(ends.iter().all(|count| *count > 20), "{ends:?}: too little happened");
}

#[test]
fn control_a_deposit_that_is_no_pivot_makes_money() {
    let control = || {
        let steps = |transfer: &Transfer, saga: &SagaRecord| {
            let (payer, receiver) = (&transfer.from_account, &transfer.to_account);
            let withdraw = Step::command("withdraw", transfer.movement(payer, "WithdrawMoney", saga)?);
            Ok(vec![
                withdraw.undo(transfer.movement(payer, "RefundTransfer", saga)?),
                Step::command("deposit", transfer.movement(receiver, "DepositMoney", saga)?),
            ])
        };
        scenario(StepSaga::new("TransferSaga").steps(steps).timeout(POLICY.timeout).policy(POLICY.steps))
    };
    assert!((0..120).any(|seed| life(seed, control()).2 > 0), "the test above could not fail");
}
