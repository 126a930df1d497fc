//! Why an account refuses.

use event_sourcing_actors::{FieldError, Rejection};
use serde_json::{Value, json};

/// Why an account refuses a command or a raw event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AccountRejection {
    /// It was opened before, perhaps with equal data.
    #[error("the account exists already")]
    AccountExists,
    /// It was never opened.
    #[error("the account does not exist")]
    AccountNotFound,
    /// It is closed.
    #[error("the account is closed")]
    AccountClosed,
    /// More is to be withdrawn than there is.
    #[error("insufficient funds: the balance is {balance}, {requested} was requested")]
    InsufficientFunds {
        /// What there is.
        balance: i64,
        /// What was to be withdrawn.
        requested: i64,
    },
    /// Only an empty account can be closed.
    #[error("the balance is {balance}; an account can only be closed at 0")]
    BalanceNotZero {
        /// What there is.
        balance: i64,
    },
    /// The balance would exceed 64 bits.
    #[error("the balance of {balance} and {requested} together exceed {}", i64::MAX)]
    AmountOverflow {
        /// What there is.
        balance: i64,
        /// What was to be added.
        requested: i64,
    },
    /// A raw event's member is out of bounds.
    #[error("{} {}", .0.pointer, .0.detail)]
    InvalidEvent(FieldError),
}

impl From<FieldError> for AccountRejection {
    fn from(error: FieldError) -> Self {
        Self::InvalidEvent(error)
    }
}

impl Rejection for AccountRejection {
    fn code(&self) -> &'static str {
        match self {
            Self::AccountExists => "account-exists",
            Self::AccountNotFound => "account-not-found",
            Self::AccountClosed => "account-closed",
            Self::InsufficientFunds { .. } => "insufficient-funds",
            Self::BalanceNotZero { .. } => "balance-not-zero",
            Self::AmountOverflow { .. } => "amount-overflow",
            Self::InvalidEvent(_) => "invalid-event",
        }
    }

    fn field(&self) -> Option<&FieldError> {
        match self {
            Self::InvalidEvent(error) => Some(error),
            _ => None,
        }
    }

    fn details(&self) -> Option<Value> {
        match self {
            Self::AccountExists | Self::AccountNotFound | Self::AccountClosed => None,
            Self::InsufficientFunds { balance, requested } => {
                Some(json!({ "balance": balance, "requested": requested }))
            }
            Self::BalanceNotZero { balance } => Some(json!({ "balance": balance })),
            Self::AmountOverflow { balance, requested } => {
                Some(json!({ "balance": balance, "requested": requested, "maximum": i64::MAX }))
            }
            Self::InvalidEvent(error) => Some(json!(error)),
        }
    }
}
