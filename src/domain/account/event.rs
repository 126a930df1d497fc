//! What happens to an account.

use event_sourcing_actors::{AggregateId, FieldError, events};
use serde::{Deserialize, Serialize};

use crate::domain::{REFERENCE_BYTES_MAX, TEXT_BYTES_MAX};

events! {
    /// All that happens to an account.
    pub enum AccountEvent { AccountCreated = 1, MoneyDeposited = 1, MoneyWithdrawn = 1, AccountClosed = 1 }
}

/// An account was opened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountCreated {
    /// The account.
    pub account_id: AggregateId,
    /// Whose money it is.
    pub owner: String,
    /// Balance to start with, in minor units; at least 0.
    pub initial_balance: i64,
}

/// Money came in. A closed account is open again with it; only the refund of a transfer gets there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MoneyDeposited {
    /// In minor units; at least 1.
    pub amount: i64,
    /// The transfer it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transfer_id: Option<String>,
}

/// Money went out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MoneyWithdrawn {
    /// In minor units; at least 1.
    pub amount: i64,
    /// The transfer it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transfer_id: Option<String>,
}

/// The account was closed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountClosed {}

impl AccountEvent {
    /// Checks what can be checked without state, as validation does for commands.
    pub(super) fn check(&self) -> Result<(), FieldError> {
        match self {
            Self::AccountCreated(created) => {
                FieldError::text("/owner", &created.owner, TEXT_BYTES_MAX)?;
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
