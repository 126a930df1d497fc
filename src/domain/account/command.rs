//! What an account can be told.

use event_sourcing_actors::{AggregateId, CommandData, Violations, commands};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::domain::{
    REFERENCE_BYTES_MAX, TEXT_BYTES_MAX,
    texts::{Reference, Text},
};

commands! {
    /// All an account can be told.
    pub enum AccountCommand { CreateAccount, DepositMoney, WithdrawMoney, RefundTransfer, CloseAccount }
}

/// Opens an account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateAccount {
    /// The aggregate's id, repeated.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<AggregateId>")]
    pub account_id: Option<String>,
    /// Whose money it is; white space around it is not recorded.
    #[schemars(with = "Text")]
    pub owner: String,
    /// Balance to start with, in minor units; at least 0.
    #[schemars(range(min = 0))]
    pub initial_balance: i64,
}

impl CommandData for CreateAccount {
    fn validate(&self, check: &mut Violations<'_>) {
        check.same_id("/account_id", self.account_id.as_deref());
        check.text("/owner", &self.owner, TEXT_BYTES_MAX);
        if !self.owner.is_empty() && self.owner.trim().is_empty() {
            check.add("/owner", "must not be blank");
        }
        check.at_least("/initial_balance", self.initial_balance, 0);
    }
}

/// Puts money in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DepositMoney {
    /// The aggregate's id, repeated.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<AggregateId>")]
    pub account_id: Option<String>,
    /// In minor units; at least 1.
    #[schemars(range(min = 1))]
    pub amount: i64,
    /// The transfer it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Reference>")]
    pub transfer_id: Option<String>,
}

impl CommandData for DepositMoney {
    fn validate(&self, check: &mut Violations<'_>) {
        movement(check, self.account_id.as_deref(), self.amount, self.transfer_id.as_deref());
    }
}

/// Takes money out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WithdrawMoney {
    /// The aggregate's id, repeated.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<AggregateId>")]
    pub account_id: Option<String>,
    /// In minor units; at least 1.
    #[schemars(range(min = 1))]
    pub amount: i64,
    /// The transfer it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Reference>")]
    pub transfer_id: Option<String>,
}

impl CommandData for WithdrawMoney {
    fn validate(&self, check: &mut Violations<'_>) {
        movement(check, self.account_id.as_deref(), self.amount, self.transfer_id.as_deref());
    }
}

/// Gives back what a transfer withdrew. A closed account takes it too, and is open again: the money is its owner's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RefundTransfer {
    /// The aggregate's id, repeated.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<AggregateId>")]
    pub account_id: Option<String>,
    /// In minor units; at least 1.
    #[schemars(range(min = 1))]
    pub amount: i64,
    /// The transfer that is undone.
    #[schemars(with = "Reference")]
    pub transfer_id: String,
}

impl CommandData for RefundTransfer {
    fn validate(&self, check: &mut Violations<'_>) {
        movement(check, self.account_id.as_deref(), self.amount, Some(&self.transfer_id));
    }
}

/// Closes an empty account.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CloseAccount {
    /// The aggregate's id, repeated.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<AggregateId>")]
    pub account_id: Option<String>,
}

impl CommandData for CloseAccount {
    fn validate(&self, check: &mut Violations<'_>) {
        check.same_id("/account_id", self.account_id.as_deref());
    }
}

fn movement(check: &mut Violations<'_>, account_id: Option<&str>, amount: i64, transfer_id: Option<&str>) {
    check.same_id("/account_id", account_id);
    check.at_least("/amount", amount, 1);
    if let Some(transfer_id) = transfer_id {
        check.text("/transfer_id", transfer_id, REFERENCE_BYTES_MAX);
    }
}
