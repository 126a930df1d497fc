//! Account: one owner's money in minor units. The balance is never negative, and a closed account is empty.
//!
//! A closed account refuses everything but the refund of a transfer, which opens it again. So a transfer that was under
//! way when its payer closed the account can always be undone, and closing needs to know nothing of transfers.

mod command;
mod event;
mod rejection;
mod state;

pub use command::{AccountCommand, CloseAccount, CreateAccount, DepositMoney, RefundTransfer, WithdrawMoney};
pub use event::{AccountClosed, AccountCreated, AccountEvent, MoneyDeposited, MoneyWithdrawn};
pub use rejection::AccountRejection;
pub use state::{Account, AccountState, AccountStatus};

#[cfg(test)]
mod tests;
