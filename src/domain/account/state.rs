//! An account's state: decisions and folding.

use event_sourcing_actors::{Aggregate, AggregateId, DecisionContext, schema::SchemaOf};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    AccountClosed, AccountCommand, AccountCreated, AccountEvent, AccountRejection, MoneyDeposited, MoneyWithdrawn,
    RefundTransfer,
};

/// One owner's money; `null` as JSON before its first event.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Account(Option<AccountState>);

/// An account that was opened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AccountState {
    /// The account.
    pub account_id: AggregateId,
    /// Whose money it is.
    pub owner: String,
    /// In minor units; never negative.
    #[schemars(range(min = 0))]
    pub balance: i64,
    /// Whether money can move.
    pub status: AccountStatus,
}

/// Whether money can move.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AccountStatus {
    /// It can.
    Open,
    /// It cannot, and there is none; the refund of a transfer opens the account again.
    Closed,
}

impl AccountState {
    fn takes_in(&self, requested: i64) -> Result<(), AccountRejection> {
        match self.balance.checked_add(requested) {
            Some(_) => Ok(()),
            None => Err(AccountRejection::AmountOverflow { balance: self.balance, requested }),
        }
    }
}

impl Account {
    /// The state, once the account was opened.
    #[must_use]
    pub fn get(&self) -> Option<&AccountState> {
        self.0.as_ref()
    }

    fn known(&self) -> Result<&AccountState, AccountRejection> {
        self.0.as_ref().ok_or(AccountRejection::AccountNotFound)
    }

    fn open(&self) -> Result<&AccountState, AccountRejection> {
        let account = self.known()?;
        match account.status {
            AccountStatus::Open => Ok(account),
            AccountStatus::Closed => Err(AccountRejection::AccountClosed),
        }
    }
}

impl Aggregate for Account {
    const TYPE: &'static str = "account";
    const ID_MEMBER: Option<&'static str> = Some("account_id");
    /// 2 since owners stand without white space around them: snapshots from before may hold others.
    const STATE_VERSION: u16 = 2;
    type Command = AccountCommand;
    type Event = AccountEvent;
    type Rejection = AccountRejection;

    fn decide(
        &self,
        command: &AccountCommand,
        context: &DecisionContext<'_>,
    ) -> Result<Vec<AccountEvent>, AccountRejection> {
        let event: AccountEvent = match command {
            AccountCommand::CreateAccount(create) => AccountCreated {
                account_id: context.aggregate_id.clone(),
                owner: create.owner.trim().to_owned(),
                initial_balance: create.initial_balance,
            }
            .into(),
            AccountCommand::DepositMoney(deposit) => {
                MoneyDeposited { amount: deposit.amount, transfer_id: deposit.transfer_id.clone() }.into()
            }
            AccountCommand::WithdrawMoney(withdraw) => {
                MoneyWithdrawn { amount: withdraw.amount, transfer_id: withdraw.transfer_id.clone() }.into()
            }
            // Not as a raw deposit is: an undo must not be refused because the account was closed meanwhile.
            AccountCommand::RefundTransfer(RefundTransfer { amount, transfer_id, .. }) => {
                self.known()?.takes_in(*amount)?;
                return Ok(vec![MoneyDeposited { amount: *amount, transfer_id: Some(transfer_id.clone()) }.into()]);
            }
            AccountCommand::CloseAccount(_) => AccountClosed {}.into(),
        };
        self.admits(&event)?;
        Ok(vec![event])
    }

    fn state_schema() -> Option<SchemaOf> {
        Some(SchemaOf::type_of::<AccountState>())
    }

    fn apply(&mut self, event: &AccountEvent) {
        if let AccountEvent::AccountCreated(created) = event {
            self.0 = Some(AccountState {
                account_id: created.account_id.clone(),
                owner: created.owner.clone(),
                balance: created.initial_balance,
                status: AccountStatus::Open,
            });
            return;
        }
        let Some(account) = &mut self.0 else { return };
        match event {
            AccountEvent::AccountCreated(_) => {}
            AccountEvent::MoneyDeposited(deposited) => {
                account.balance = account.balance.saturating_add(deposited.amount);
                account.status = AccountStatus::Open;
            }
            AccountEvent::MoneyWithdrawn(withdrawn) => {
                account.balance = account.balance.saturating_sub(withdrawn.amount);
            }
            AccountEvent::AccountClosed(_) => account.status = AccountStatus::Closed,
        }
    }

    fn admits(&self, event: &AccountEvent) -> Result<(), AccountRejection> {
        event.check()?;
        match event {
            AccountEvent::AccountCreated(_) if self.0.is_some() => Err(AccountRejection::AccountExists),
            AccountEvent::AccountCreated(_) => Ok(()),
            AccountEvent::MoneyDeposited(deposited) => self.open()?.takes_in(deposited.amount),
            AccountEvent::MoneyWithdrawn(withdrawn) => {
                let (balance, requested) = (self.open()?.balance, withdrawn.amount);
                if requested <= balance {
                    Ok(())
                } else {
                    Err(AccountRejection::InsufficientFunds { balance, requested })
                }
            }
            AccountEvent::AccountClosed(_) => match self.open()?.balance {
                0 => Ok(()),
                balance => Err(AccountRejection::BalanceNotZero { balance }),
            },
        }
    }
}
