//! Account: one owner's money in minor units. The balance is never negative; a closed account stays closed and empty.

mod command;
mod event;
mod rejection;
mod state;

pub use command::{AccountCommand, CloseAccount, CreateAccount, DepositMoney, WithdrawMoney};
pub(super) use event::register_upcasters;
pub use event::{AccountClosed, AccountCreated, AccountEvent, MoneyDeposited, MoneyWithdrawn};
pub use rejection::AccountRejection;
pub use state::{Account, AccountState, AccountStatus};

#[cfg(test)]
mod tests;
