//! The long-running transactions of this crate: [`register`] adds them to a runtime's.

use event_sourcing_actors::{
    AggregateId, FieldError,
    saga::{Call, SagaDefinitions, SagaTwice, Step, StepSaga},
};
use serde::Deserialize;
use serde_json::json;

/// What a transfer works on.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Transfer {
    from_account: String,
    to_account: String,
    amount: i64,
}

/// Adds them.
///
/// # Errors
/// [`SagaTwice`] when one of these names is taken.
pub fn register(sagas: &mut SagaDefinitions) -> Result<(), SagaTwice> {
    sagas.register(transfer())
}

/// Moves money from one account to another.
fn transfer() -> StepSaga<Transfer> {
    StepSaga::<Transfer>::new("TransferSaga")
        .step(|transfer, saga| {
            let data = json!({ "amount": transfer.amount, "transfer_id": saga.saga_id });
            let withdraw = Call::new(&transfer.from_account, "WithdrawMoney", data.clone())?;
            Ok(Step::command("withdraw", withdraw).undo(Call::new(&transfer.from_account, "DepositMoney", data)?))
        })
        .step(|transfer, saga| {
            let data = json!({ "amount": transfer.amount, "transfer_id": saga.saga_id });
            Ok(Step::command("deposit", Call::new(&transfer.to_account, "DepositMoney", data)?))
        })
        .check(checked)
        .timeout(std::time::Duration::from_secs(60))
}

fn checked(transfer: &Transfer) -> Vec<FieldError> {
    let fault = |pointer: &str, detail: &str| FieldError { pointer: pointer.to_owned(), detail: detail.to_owned() };
    let mut errors = Vec::new();
    for (pointer, id) in [("/from_account", &transfer.from_account), ("/to_account", &transfer.to_account)] {
        if let Err(error) = AggregateId::new(id) {
            errors.push(fault(pointer, &error.to_string()));
        }
    }
    if transfer.from_account == transfer.to_account {
        errors.push(fault("/to_account", "must be another account than from_account"));
    }
    if transfer.amount < 1 {
        errors.push(fault("/amount", "must be at least 1"));
    }
    errors
}
