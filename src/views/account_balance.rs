//! Rows of `account_balance`: accounts, their transactions, and transfers between them.

use chrono::{DateTime, Utc};
use event_sourcing_actors::{AggregateId, Position, Sequence};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::instant;
use crate::domain::account::AccountStatus;

/// One account; collection `accounts`, sorted by account id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AccountRow {
    /// The account.
    pub account_id: AggregateId,
    /// Whose money it is.
    pub owner: String,
    /// In minor units.
    pub balance: i64,
    /// Whether money can move.
    pub status: AccountStatus,
    /// Sequence of the last event in it.
    pub version: Sequence,
    /// When that was recorded.
    #[serde(with = "instant")]
    #[schemars(with = "DateTime<Utc>")]
    pub updated_at: DateTime<Utc>,
}

/// What a transaction did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TransactionKind {
    /// The account was opened, with `amount` in it.
    Opened,
    /// `amount` came in.
    Deposited,
    /// `amount` went out.
    Withdrawn,
    /// The account was closed; `amount` is 0.
    Closed,
}

/// One line of an account's history; collection `transactions`, grouped by account, sorted by sequence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TransactionRow {
    /// The account.
    pub account_id: AggregateId,
    /// Place in the account's stream.
    pub sequence: Sequence,
    /// Place in the whole log.
    pub position: Position,
    /// What happened.
    pub kind: TransactionKind,
    /// How much moved, in minor units; never negative.
    pub amount: i64,
    /// The balance once it had happened.
    pub balance_after: i64,
    /// The transfer it belongs to.
    pub transfer_id: Option<String>,
    /// When it was recorded.
    #[serde(with = "instant")]
    #[schemars(with = "DateTime<Utc>")]
    pub at: DateTime<Utc>,
}

/// Which way money went, seen from the account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Into the account.
    In,
    /// Out of the account.
    Out,
}

/// One leg of a transfer, seen from its account; collection `transfers`, grouped by account, sorted by sequence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TransferRow {
    /// The account.
    pub account_id: AggregateId,
    /// The transfer.
    pub transfer_id: String,
    /// Which way the money went.
    pub direction: Direction,
    /// How much, in minor units.
    pub amount: i64,
    /// The account at the other end, once its leg has happened too.
    pub counterparty: Option<AggregateId>,
    /// Place in the account's stream.
    pub sequence: Sequence,
    /// Place in the whole log.
    pub position: Position,
    /// When it was recorded.
    #[serde(with = "instant")]
    #[schemars(with = "DateTime<Utc>")]
    pub at: DateTime<Utc>,
}

/// How far a transfer has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TransferStatus {
    /// One leg is in effect and the other is not: money is on its way.
    Pending,
    /// Both legs are in effect.
    Completed,
    /// Every leg that happened was undone.
    Returned,
    /// The legs do not fit together: other amounts, a third account, or one leg twice.
    Inconsistent,
}

/// A transfer as a whole; collection `transfer_tracking`, sorted by transfer id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TransferTrackingRow {
    /// The transfer.
    pub transfer_id: String,
    /// The account that pays, once its leg has happened.
    pub from_account: Option<AggregateId>,
    /// The account that receives, once its leg has happened.
    pub to_account: Option<AggregateId>,
    /// Amount of the first leg, in minor units.
    pub amount: i64,
    /// How far it has come.
    pub status: TransferStatus,
    /// When the money left.
    #[serde(with = "instant::option")]
    #[schemars(with = "Option<DateTime<Utc>>")]
    pub withdrawn_at: Option<DateTime<Utc>>,
    /// When the money arrived.
    #[serde(with = "instant::option")]
    #[schemars(with = "Option<DateTime<Utc>>")]
    pub deposited_at: Option<DateTime<Utc>>,
    /// When the last leg was undone.
    #[serde(with = "instant::option")]
    #[schemars(with = "Option<DateTime<Utc>>")]
    pub returned_at: Option<DateTime<Utc>>,
    /// Whether the paying leg is in effect.
    pub is_withdrawn: bool,
    /// Whether the receiving leg is in effect.
    pub is_deposited: bool,
    /// Sequence of the first leg in its account's stream.
    pub first_sequence: Sequence,
}
