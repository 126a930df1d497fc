//! What can be asked of `order_summary`.

use chrono::NaiveDate;
use event_sourcing_actors::{
    AggregateId,
    query::{PAGE_ROWS_MAX, QueryPlan, QueryType, Rows},
    view::RowKey,
};
use schemars::JsonSchema;
use serde::Deserialize;

use super::filters::{Day, List, in_order};
use crate::projections::order_summary::{CUSTOMER_ORDERS, DAILY, ORDERS, OrderSummary, PRODUCT_ORDERS};
use crate::views::order_summary::{CustomerOrderRow, DailyRow, OrderRow, ProductOrderRow};

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
struct OneOrder {
    order_id: AggregateId,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
struct OfCustomer {
    customer_id: AggregateId,
    #[schemars(range(min = 1, max = PAGE_ROWS_MAX))]
    limit: Option<u64>,
    cursor: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
struct OfProduct {
    product_id: AggregateId,
    #[schemars(range(min = 1, max = PAGE_ROWS_MAX))]
    limit: Option<u64>,
    cursor: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
struct Days {
    #[schemars(with = "Option<NaiveDate>")]
    from_date: Option<Day>,
    #[schemars(with = "Option<NaiveDate>")]
    to_date: Option<Day>,
    #[schemars(range(min = 1, max = PAGE_ROWS_MAX))]
    limit: Option<u64>,
    cursor: Option<String>,
}

/// All of them.
#[must_use]
pub fn all() -> Vec<QueryType> {
    let name = OrderSummary::NAME;
    vec![
        QueryType::new("GetOrder", name, "An order with its items.", |filters: OneOrder| {
            let id = filters.order_id;
            Ok(QueryPlan::row(RowKey::new(ORDERS, "", id.as_str()), format!("order {:?}", id.as_str())).of_stream(id))
        })
        .documented::<OneOrder, OrderRow>(),
        QueryType::new("GetCustomerOrders", name, "The orders of a customer, newest first.", |filters: OfCustomer| {
            let list = List::new(CUSTOMER_ORDERS, filters.customer_id.as_str()).newest_first();
            list.page(filters.limit, filters.cursor)
        })
        .documented::<OfCustomer, Rows<CustomerOrderRow>>(),
        QueryType::new(
            "GetProductOrders",
            name,
            "The orders that hold a product, in the order they were begun.",
            |filters: OfProduct| {
                List::new(PRODUCT_ORDERS, filters.product_id.as_str()).page(filters.limit, filters.cursor)
            },
        )
        .documented::<OfProduct, Rows<ProductOrderRow>>(),
        QueryType::new(
            "GetDailyStatistics",
            name,
            "What was ordered, cancelled and sold, one item for each UTC day on which something happened.",
            |filters: Days| {
                in_order("/from_date", filters.from_date.as_ref(), filters.to_date.as_ref())?;
                let between =
                    (filters.from_date.map(|day| day.to_string()), filters.to_date.map(|day| day.to_string()));
                List::new(DAILY, "").page_between(filters.limit, filters.cursor, between)
            },
        )
        .documented::<Days, Rows<DailyRow>>(),
    ]
}
