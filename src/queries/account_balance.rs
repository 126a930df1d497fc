//! What can be asked of `account_balance`.

use event_sourcing_actors::{
    AggregateId,
    query::{PAGE_ROWS_MAX, QueryPlan, QueryType, Rows},
    view::RowKey,
};
use schemars::JsonSchema;
use serde::Deserialize;

use super::filters::List;
use crate::projections::account_balance::{ACCOUNTS, AccountBalance, TRANSACTIONS, TRANSFERS};
use crate::views::account_balance::{AccountRow, TransactionRow, TransferRow};

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
struct OneAccount {
    account_id: AggregateId,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
struct OfAccount {
    account_id: AggregateId,
    #[schemars(range(min = 1, max = PAGE_ROWS_MAX))]
    limit: Option<u64>,
    cursor: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
struct Accounts {
    #[schemars(range(min = 1, max = PAGE_ROWS_MAX))]
    limit: Option<u64>,
    cursor: Option<String>,
}

/// All of them.
#[must_use]
pub fn all() -> Vec<QueryType> {
    let name = AccountBalance::NAME;
    vec![
        QueryType::new("GetAccountBalance", name, "The balance of an account.", |filters: OneAccount| {
            let id = filters.account_id;
            Ok(QueryPlan::row(RowKey::new(ACCOUNTS, "", id.as_str()), format!("account {:?}", id.as_str()))
                .of_stream(id))
        })
        .documented::<OneAccount, AccountRow>(),
        QueryType::new(
            "GetTransactionHistory",
            name,
            "Everything that happened to an account, newest first.",
            |filters: OfAccount| {
                List::new(TRANSACTIONS, filters.account_id.as_str()).newest_first().page(filters.limit, filters.cursor)
            },
        )
        .documented::<OfAccount, Rows<TransactionRow>>(),
        QueryType::new(
            "GetTransfers",
            name,
            "Money that went from or to other accounts, newest first.",
            |filters: OfAccount| {
                List::new(TRANSFERS, filters.account_id.as_str()).newest_first().page(filters.limit, filters.cursor)
            },
        )
        .documented::<OfAccount, Rows<TransferRow>>(),
        QueryType::new("ListAccounts", name, "All accounts, by id.", |filters: Accounts| {
            List::new(ACCOUNTS, "").page(filters.limit, filters.cursor)
        })
        .documented::<Accounts, Rows<AccountRow>>(),
    ]
}
