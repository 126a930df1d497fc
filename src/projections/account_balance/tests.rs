//! Balances, history and transfers.

use std::collections::BTreeMap;

use event_sourcing_actors::Aggregate;
use serde_json::json;

use super::*;
use crate::{
    domain::{
        account::{AccountClosed, AccountState, MoneyDeposited, MoneyWithdrawn},
        tests::{Dice, id},
    },
    projections::tests::{ReadModel, members},
};

fn created(account: &str, initial_balance: i64) -> AccountCreated {
    AccountCreated { account_id: id(account), owner: "Ann".to_owned(), initial_balance }
}

fn in_(amount: i64, transfer: &str) -> MoneyDeposited {
    MoneyDeposited { amount, transfer_id: (!transfer.is_empty()).then(|| transfer.to_owned()) }
}

fn out(amount: i64, transfer: &str) -> MoneyWithdrawn {
    MoneyWithdrawn { amount, transfer_id: (!transfer.is_empty()).then(|| transfer.to_owned()) }
}

fn two_accounts() -> ReadModel<AccountBalance> {
    let mut model = ReadModel::new(AccountBalance);
    model.happens::<Account>("a", created("a", 100)).unwrap();
    model.happens::<Account>("b", created("b", 0)).unwrap();
    model
}

#[test]
fn every_event_changes_the_account_and_adds_a_transaction() {
    let mut model = two_accounts();
    model.happens::<Account>("a", in_(50, "")).unwrap();
    model.happens::<Account>("a", out(150, "")).unwrap();
    model.happens::<Account>("a", AccountClosed {}).unwrap();
    assert_eq!(
        model.row(ACCOUNTS, "", "a").unwrap(),
        json!({"account_id": "a", "owner": "Ann", "balance": 0, "status": "closed", "version": 4,
               "updated_at": "2024-01-01T12:00:05.000000Z"})
    );
    assert_eq!(model.column(TRANSACTIONS, "a", "kind"), json!(["opened", "deposited", "withdrawn", "closed"]));
    assert_eq!(model.column(TRANSACTIONS, "a", "amount"), json!([100, 50, 150, 0]));
    assert_eq!(model.column(TRANSACTIONS, "a", "balance_after"), json!([100, 150, 0, 0]));
    assert_eq!(model.column(TRANSACTIONS, "a", "sequence"), json!([1, 2, 3, 4]));
    assert_eq!(model.column(TRANSACTIONS, "a", "position"), json!([1, 3, 4, 5]));
    let first = &model.list(TRANSACTIONS, "a")[0];
    let known = ["account_id", "amount", "at", "balance_after", "kind", "position", "sequence", "transfer_id"];
    assert_eq!(members(first), known);
    assert_eq!(first["transfer_id"], json!(null));
    assert_eq!(model.column(ACCOUNTS, "", "account_id"), json!(["a", "b"]));
}

#[test]
fn a_transfer_is_followed_whichever_leg_comes_first() {
    for deposit_first in [false, true] {
        let mut model = two_accounts();
        if deposit_first {
            model.happens::<Account>("b", in_(30, "t")).unwrap();
        } else {
            model.happens::<Account>("a", out(30, "t")).unwrap();
        }
        assert_eq!(model.row(TRANSFER_TRACKING, "", "t").unwrap()["status"], json!("pending"));
        if deposit_first {
            model.happens::<Account>("a", out(30, "t")).unwrap();
        } else {
            model.happens::<Account>("b", in_(30, "t")).unwrap();
        }
        let whole = model.row(TRANSFER_TRACKING, "", "t").unwrap();
        assert_eq!((&whole["from_account"], &whole["to_account"]), (&json!("a"), &json!("b")));
        assert_eq!((&whole["status"], &whole["amount"]), (&json!("completed"), &json!(30)));
        assert!(whole["withdrawn_at"].is_string() && whole["deposited_at"].is_string(), "{whole}");
        let (paid, received) = (&model.list(TRANSFERS, "a")[0], &model.list(TRANSFERS, "b")[0]);
        assert_eq!((&paid["direction"], &paid["counterparty"]), (&json!("out"), &json!("b")));
        assert_eq!((&received["direction"], &received["counterparty"]), (&json!("in"), &json!("a")));
    }
}

#[test]
fn legs_that_are_undone_return_the_transfer() {
    let mut model = two_accounts();
    let status = |model: &ReadModel<AccountBalance>| model.row(TRANSFER_TRACKING, "", "t").unwrap()["status"].clone();
    model.happens::<Account>("a", out(30, "t")).unwrap();
    model.happens::<Account>("a", in_(30, "t")).unwrap();
    assert_eq!(status(&model), json!("returned"));
    assert_eq!(model.column(TRANSFERS, "a", "direction"), json!(["out", "in"]));
    assert_eq!(model.row(ACCOUNTS, "", "a").unwrap()["balance"], json!(100));
    // Tried again under the same id, then undone at both ends.
    model.happens::<Account>("a", out(30, "t")).unwrap();
    assert_eq!(status(&model), json!("pending"));
    model.happens::<Account>("b", in_(30, "t")).unwrap();
    assert_eq!(status(&model), json!("completed"));
    model.happens::<Account>("b", out(30, "t")).unwrap();
    assert_eq!(status(&model), json!("pending"));
    model.happens::<Account>("a", in_(30, "t")).unwrap();
    assert_eq!(status(&model), json!("returned"));
}

#[test]
fn a_refund_to_a_closed_account_opens_it_again() {
    let mut model = two_accounts();
    model.happens::<Account>("a", out(100, "t")).unwrap();
    model.happens::<Account>("a", AccountClosed {}).unwrap();
    model.happens::<Account>("a", in_(100, "t")).unwrap();
    let account = model.row(ACCOUNTS, "", "a").unwrap();
    assert_eq!(
        (&account["status"], &account["balance"], &account["version"]),
        (&json!("open"), &json!(100), &json!(4))
    );
    assert_eq!(model.column(TRANSACTIONS, "a", "kind"), json!(["opened", "withdrawn", "closed", "deposited"]));
    assert_eq!(model.row(TRANSFER_TRACKING, "", "t").unwrap()["status"], json!("returned"));
}

#[test]
fn legs_that_do_not_fit_make_a_transfer_inconsistent_for_ever() {
    let legs: [fn(&mut ReadModel<AccountBalance>); 3] = [
        |model| model.happens::<Account>("b", in_(29, "t")).unwrap(),
        |model| model.happens::<Account>("a", out(30, "t")).unwrap(),
        |model| {
            model.happens::<Account>("b", in_(30, "t")).unwrap();
            model.happens::<Account>("c", created("c", 0)).unwrap();
            model.happens::<Account>("c", in_(30, "t")).unwrap();
        },
    ];
    for leg in legs {
        let mut model = two_accounts();
        model.happens::<Account>("a", out(30, "t")).unwrap();
        leg(&mut model);
        model.happens::<Account>("a", in_(30, "t")).unwrap();
        assert_eq!(model.row(TRANSFER_TRACKING, "", "t").unwrap()["status"], json!("inconsistent"));
    }
}

#[test]
fn overflow_and_repetition_are_parked_and_change_nothing() {
    let mut model = two_accounts();
    model.happens::<Account>("a", in_(i64::MAX - 100, "")).unwrap();
    let before = model.stored.clone();
    let reason = model.happens::<Account>("a", in_(1, "t")).unwrap_err();
    assert!(reason.contains("balance would not fit"), "{reason}");
    let reason = model.happens::<Account>("a", created("a", 1)).unwrap_err();
    assert!(reason.contains("there is account \"a\" already"), "{reason}");
    assert_eq!(model.stored, before);
}

#[test]
fn balances_and_history_equal_the_folded_accounts() {
    for seed in 0..20 {
        let mut dice = Dice(seed);
        let (mut model, mut states) = (ReadModel::new(AccountBalance), BTreeMap::<String, (Account, u64)>::new());
        for _ in 0..150 {
            let name = format!("acc-{}", dice.below(4));
            let transfer = ["", "t-1", "t-2"][usize::try_from(dice.below(3)).unwrap()];
            let event: AccountEvent = match dice.below(8) {
                0 | 1 => created(&name, dice.number()).into(),
                2..=4 => in_(dice.number(), transfer).into(),
                5 | 6 => out(dice.number(), transfer).into(),
                _ => AccountClosed {}.into(),
            };
            let (state, version) = states.entry(name.clone()).or_default();
            if state.admits(&event).is_ok() {
                state.apply(&event);
                *version += 1;
                model.happens::<Account>(&name, event).unwrap();
            }
        }
        for (name, (state, version)) in &states {
            let row = model.row(ACCOUNTS, "", name);
            let Some(AccountState { account_id, owner, balance, status }) = state.get() else {
                assert_eq!(row, None);
                continue;
            };
            let mut row = row.unwrap();
            row.as_object_mut().unwrap().remove("updated_at");
            let folded = json!({"account_id": account_id, "owner": owner, "balance": balance, "status": status,
                                "version": version});
            assert_eq!(row, folded);
            let history = model.list(TRANSACTIONS, name);
            assert_eq!(history.len() as u64, *version);
            assert_eq!(history.last().unwrap()["balance_after"], json!(balance));
        }
    }
}
