//! `TransferSaga`: takes money from one account and puts it on another, or leaves both as they were.

use event_sourcing_actors::{
    AggregateId, FieldError,
    saga::{Call, SagaError, SagaRecord, Step, StepSaga},
};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use super::Policy;

/// What a transfer is started with.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Transfer {
    /// Who pays.
    from_account: AggregateId,
    /// Who receives; another one.
    to_account: AggregateId,
    /// In minor units; at least 1.
    #[schemars(range(min = 1))]
    amount: i64,
}

impl Transfer {
    fn faults(&self) -> Vec<FieldError> {
        let mut faults = Vec::new();
        if self.from_account == self.to_account {
            let detail = "must be another account than from_account".to_owned();
            faults.push(FieldError { pointer: "/to_account".to_owned(), detail });
        }
        faults.extend(FieldError::at_least("/amount", self.amount, 1).err());
        faults
    }

    fn movement(&self, account: &AggregateId, command_type: &str, saga: &SagaRecord) -> Result<Call, SagaError> {
        Call::new(account.as_str(), command_type, json!({ "amount": self.amount, "transfer_id": saga.saga_id }))
    }
}

/// The saga. The deposit is its pivot: once it is accepted the transfer has happened, and the receiver may have spent
/// the money; until then the withdrawal can be given back, also to an account that was closed meanwhile.
#[must_use]
pub fn transfer_saga(policy: Policy) -> StepSaga<Transfer> {
    StepSaga::new("TransferSaga")
        .check(Transfer::faults)
        .step(|transfer: &Transfer, saga| {
            let payer = &transfer.from_account;
            let withdraw = Step::command("withdraw", transfer.movement(payer, "WithdrawMoney", saga)?);
            Ok(withdraw.undo(transfer.movement(payer, "RefundTransfer", saga)?))
        })
        .step(|transfer, saga| {
            Ok(Step::command("deposit", transfer.movement(&transfer.to_account, "DepositMoney", saga)?).pivot())
        })
        .documented()
        .timeout(policy.timeout)
        .policy(policy.steps)
}

#[cfg(test)]
mod tests;
