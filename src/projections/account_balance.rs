//! `account_balance`: the balance of each account, its history, and transfers followed from one account to the other.
//!
//! A transfer is what shares a `transfer_id`. Its legs may come in either order. A leg back on an account that already
//! has one undoes it; when no leg is in effect any more, the transfer is `returned`.

use event_sourcing_actors::{
    AggregateId, EventFilter,
    projection::{ApplyError, ProjectedEvent, Projection, Rows},
    view::sort_of_number,
};

use super::{expected, interest_in, unexpected, within};
use crate::{
    domain::account::{Account, AccountCreated, AccountEvent, AccountStatus},
    views::account_balance::{
        AccountRow, Direction, TransactionKind, TransactionRow, TransferRow, TransferStatus, TransferTrackingRow,
    },
};

/// Accounts, by account id.
pub const ACCOUNTS: &str = "accounts";
/// Transactions of an account, by sequence.
pub const TRANSACTIONS: &str = "transactions";
/// Legs of transfers of an account, by sequence.
pub const TRANSFERS: &str = "transfers";
/// Transfers, by transfer id.
pub const TRANSFER_TRACKING: &str = "transfer_tracking";

/// The projection.
#[derive(Debug, Clone, Copy, Default)]
pub struct AccountBalance;

impl AccountBalance {
    /// Its name.
    pub const NAME: &'static str = "account_balance";
    /// Version of what it does.
    pub const VERSION: u64 = 1;
}

impl Projection for AccountBalance {
    fn name(&self) -> &str {
        Self::NAME
    }

    fn version(&self) -> u64 {
        Self::VERSION
    }

    fn interest(&self) -> EventFilter {
        interest_in::<Account>()
    }

    fn apply(&self, event: &ProjectedEvent<'_>, rows: &mut Rows<'_>) -> Result<(), ApplyError> {
        match event.domain::<AccountEvent>()? {
            AccountEvent::AccountCreated(created) => open(event, rows, created),
            AccountEvent::MoneyDeposited(deposited) => {
                let (amount, transfer_id) = (deposited.amount, deposited.transfer_id);
                move_money(event, rows, Movement { direction: Direction::In, amount, transfer_id })
            }
            AccountEvent::MoneyWithdrawn(withdrawn) => {
                let (amount, transfer_id) = (withdrawn.amount, withdrawn.transfer_id);
                move_money(event, rows, Movement { direction: Direction::Out, amount, transfer_id })
            }
            AccountEvent::AccountClosed(_) => close(event, rows),
        }
    }
}

/// Money that came or went.
struct Movement {
    direction: Direction,
    amount: i64,
    transfer_id: Option<String>,
}

fn open(event: &ProjectedEvent<'_>, rows: &mut Rows<'_>, created: AccountCreated) -> Result<(), ApplyError> {
    let id = &event.aggregate_id;
    unexpected(rows.get::<AccountRow>(ACCOUNTS, "", id.as_str())?, event)?;
    let account = AccountRow {
        account_id: id.clone(),
        owner: created.owner,
        balance: created.initial_balance,
        status: AccountStatus::Open,
        version: event.sequence,
        updated_at: event.recorded_at,
    };
    rows.put(ACCOUNTS, "", id.as_str(), &account)?;
    put_transaction(event, rows, &account, TransactionKind::Opened, created.initial_balance, None)
}

fn close(event: &ProjectedEvent<'_>, rows: &mut Rows<'_>) -> Result<(), ApplyError> {
    let id = &event.aggregate_id;
    let account: AccountRow = expected(rows.get(ACCOUNTS, "", id.as_str())?, event)?;
    let account =
        AccountRow { status: AccountStatus::Closed, version: event.sequence, updated_at: event.recorded_at, ..account };
    rows.put(ACCOUNTS, "", id.as_str(), &account)?;
    put_transaction(event, rows, &account, TransactionKind::Closed, 0, None)
}

fn move_money(event: &ProjectedEvent<'_>, rows: &mut Rows<'_>, movement: Movement) -> Result<(), ApplyError> {
    let id = &event.aggregate_id;
    let account = rows.get(ACCOUNTS, "", id.as_str());
    // Asked for before the first `?`, so that both are loaded at once.
    if let Some(transfer_id) = &movement.transfer_id {
        follow(event, rows, transfer_id, &movement)?;
    }
    let account: AccountRow = expected(account?, event)?;
    let (kind, balance, status) = match movement.direction {
        // A refund that reached a closed account opened it again.
        Direction::In => {
            (TransactionKind::Deposited, account.balance.checked_add(movement.amount), AccountStatus::Open)
        }
        Direction::Out => (TransactionKind::Withdrawn, account.balance.checked_sub(movement.amount), account.status),
    };
    let account = AccountRow {
        balance: within(balance, "balance")?,
        status,
        version: event.sequence,
        updated_at: event.recorded_at,
        ..account
    };
    rows.put(ACCOUNTS, "", id.as_str(), &account)?;
    put_transaction(event, rows, &account, kind, movement.amount, movement.transfer_id)
}

fn put_transaction(
    event: &ProjectedEvent<'_>,
    rows: &mut Rows<'_>,
    account: &AccountRow,
    kind: TransactionKind,
    amount: i64,
    transfer_id: Option<String>,
) -> Result<(), ApplyError> {
    let transaction = TransactionRow {
        account_id: account.account_id.clone(),
        sequence: event.sequence,
        position: event.position,
        kind,
        amount,
        balance_after: account.balance,
        transfer_id,
        at: event.recorded_at,
    };
    rows.put(TRANSACTIONS, event.aggregate_id.as_str(), &sort_of_number(event.sequence.0), &transaction)
}

/// Takes a leg into the transfer as a whole, and tells both accounts who the other is once that is known.
fn follow(
    event: &ProjectedEvent<'_>,
    rows: &mut Rows<'_>,
    transfer_id: &str,
    movement: &Movement,
) -> Result<(), ApplyError> {
    let known: Option<TransferTrackingRow> = rows.get(TRANSFER_TRACKING, "", transfer_id)?;
    let is_first = known.is_none();
    let mut transfer = known.unwrap_or_else(|| TransferTrackingRow {
        transfer_id: transfer_id.to_owned(),
        from_account: None,
        to_account: None,
        amount: movement.amount,
        status: TransferStatus::Pending,
        withdrawn_at: None,
        deposited_at: None,
        returned_at: None,
        is_withdrawn: false,
        is_deposited: false,
        first_sequence: event.sequence,
    });
    let was_paired = transfer.from_account.is_some() && transfer.to_account.is_some();
    take_leg(&mut transfer, event, movement);
    let counterparty = other_end(&transfer, &event.aggregate_id);
    let is_paired = transfer.from_account.is_some() && transfer.to_account.is_some();
    if let Some(first) = counterparty.as_ref().filter(|_| !is_first && !was_paired && is_paired) {
        let sort = sort_of_number(transfer.first_sequence.0);
        if let Some(leg) = rows.get::<TransferRow>(TRANSFERS, first.as_str(), &sort)? {
            let leg = TransferRow { counterparty: Some(event.aggregate_id.clone()), ..leg };
            rows.put(TRANSFERS, first.as_str(), &sort, &leg)?;
        }
    }
    rows.put(TRANSFER_TRACKING, "", transfer_id, &transfer)?;
    let leg = TransferRow {
        account_id: event.aggregate_id.clone(),
        transfer_id: transfer_id.to_owned(),
        direction: movement.direction,
        amount: movement.amount,
        counterparty,
        sequence: event.sequence,
        position: event.position,
        at: event.recorded_at,
    };
    rows.put(TRANSFERS, event.aggregate_id.as_str(), &sort_of_number(event.sequence.0), &leg)
}

fn other_end(transfer: &TransferTrackingRow, account_id: &AggregateId) -> Option<AggregateId> {
    let ends = [(&transfer.from_account, &transfer.to_account), (&transfer.to_account, &transfer.from_account)];
    ends.into_iter().find(|(own, _)| own.as_ref() == Some(account_id)).and_then(|(_, other)| other.clone())
}

fn take_leg(transfer: &mut TransferTrackingRow, event: &ProjectedEvent<'_>, movement: &Movement) {
    let (id, at) = (&event.aggregate_id, event.recorded_at);
    let (pays, receives) = (transfer.from_account.as_ref() == Some(id), transfer.to_account.as_ref() == Some(id));
    let is_new = match movement.direction {
        Direction::Out if transfer.from_account.is_none() && !receives => {
            transfer.from_account = Some(id.clone());
            true
        }
        Direction::In if transfer.to_account.is_none() && !pays => {
            transfer.to_account = Some(id.clone());
            true
        }
        _ => false,
    };
    // Whether the leg is one the transfer can have now: out of the payer, into the receiver, or either undone.
    let fits = match movement.direction {
        Direction::Out if (pays || is_new) && !transfer.is_withdrawn => {
            transfer.is_withdrawn = true;
            transfer.withdrawn_at = Some(at);
            true
        }
        Direction::In if (receives || is_new) && !transfer.is_deposited => {
            transfer.is_deposited = true;
            transfer.deposited_at = Some(at);
            true
        }
        Direction::In if pays && transfer.is_withdrawn => {
            transfer.is_withdrawn = false;
            transfer.returned_at = Some(at);
            true
        }
        Direction::Out if receives && transfer.is_deposited => {
            transfer.is_deposited = false;
            transfer.returned_at = Some(at);
            true
        }
        _ => false,
    };
    let is_sound = fits && movement.amount == transfer.amount && transfer.status != TransferStatus::Inconsistent;
    transfer.status = match (is_sound, transfer.is_withdrawn, transfer.is_deposited) {
        (false, ..) => TransferStatus::Inconsistent,
        (true, true, true) => TransferStatus::Completed,
        (true, false, false) => TransferStatus::Returned,
        (true, ..) => TransferStatus::Pending,
    };
}

#[cfg(test)]
mod tests;
