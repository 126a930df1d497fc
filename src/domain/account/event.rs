//! What happens to an account.

use event_sourcing_actors::{AggregateId, FieldError, events, upcast::Upcasters};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::domain::{
    REFERENCE_BYTES_MAX, TEXT_BYTES_MAX,
    texts::{Reference, Text},
};

events! {
    /// All that happens to an account.
    pub enum AccountEvent { AccountCreated = 2, MoneyDeposited = 1, MoneyWithdrawn = 1, AccountClosed = 1 }
}

/// An account was opened.
///
/// Version 1 recorded the owner as it was typed. Since version 2 it stands without white space around it, so that equal
/// owners are equal texts; the members are the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AccountCreated {
    /// The account.
    pub account_id: AggregateId,
    /// Whose money it is; without white space around it.
    #[schemars(with = "Text")]
    pub owner: String,
    /// Balance to start with, in minor units; at least 0.
    #[schemars(range(min = 0))]
    pub initial_balance: i64,
}

/// Money came in. A closed account is open again with it; only the refund of a transfer gets there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MoneyDeposited {
    /// In minor units; at least 1.
    #[schemars(range(min = 1))]
    pub amount: i64,
    /// The transfer it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Reference>")]
    pub transfer_id: Option<String>,
}

/// Money went out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MoneyWithdrawn {
    /// In minor units; at least 1.
    #[schemars(range(min = 1))]
    pub amount: i64,
    /// The transfer it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Reference>")]
    pub transfer_id: Option<String>,
}

/// The account was closed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AccountClosed {}

/// How accounts' older events are read.
pub(in crate::domain) fn register_upcasters(upcasters: &mut Upcasters) {
    upcasters.register("AccountCreated", 1, 2, without_margins);
}

/// `AccountCreated` from 1 to 2. An owner of nothing but white space, which version 1 took, stays as it is: there is
/// nothing else to call it.
fn without_margins(mut payload: Value) -> Result<Value, String> {
    let owner = payload.get_mut("owner").ok_or("owner is missing")?;
    let trimmed = owner.as_str().ok_or("owner is no text")?.trim();
    if !trimmed.is_empty() {
        *owner = Value::from(trimmed);
    }
    Ok(payload)
}

impl AccountEvent {
    /// Checks what can be checked without state, as validation does for commands.
    pub(super) fn check(&self) -> Result<(), FieldError> {
        match self {
            Self::AccountCreated(created) => {
                FieldError::text("/owner", &created.owner, TEXT_BYTES_MAX)?;
                if created.owner.trim() != created.owner {
                    let detail = "must not begin or end with white space".to_owned();
                    return Err(FieldError { pointer: "/owner".to_owned(), detail });
                }
                FieldError::at_least("/initial_balance", created.initial_balance, 0)
            }
            Self::MoneyDeposited(deposited) => movement(deposited.amount, deposited.transfer_id.as_deref()),
            Self::MoneyWithdrawn(withdrawn) => movement(withdrawn.amount, withdrawn.transfer_id.as_deref()),
            Self::AccountClosed(_) => Ok(()),
        }
    }
}

fn movement(amount: i64, transfer_id: Option<&str>) -> Result<(), FieldError> {
    FieldError::at_least("/amount", amount, 1)?;
    transfer_id.map_or(Ok(()), |id| FieldError::text("/transfer_id", id, REFERENCE_BYTES_MAX))
}
