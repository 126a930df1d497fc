//! What can be asked of `order_summary`.

use event_sourcing_actors::{
    AggregateId,
    query::{QueryPlan, QueryType},
    view::RowKey,
};
use serde::Deserialize;

use super::filters::{Day, List, in_order};
use crate::projections::order_summary::{CUSTOMER_ORDERS, DAILY, ORDERS, OrderSummary, PRODUCT_ORDERS};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct OneOrder {
    order_id: AggregateId,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct OfCustomer {
    customer_id: AggregateId,
    limit: Option<u64>,
    cursor: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct OfProduct {
    product_id: AggregateId,
    limit: Option<u64>,
    cursor: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Days {
    from_date: Option<Day>,
    to_date: Option<Day>,
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
        }),
        QueryType::new("GetCustomerOrders", name, "The orders of a customer, newest first.", |filters: OfCustomer| {
            let list = List::new(CUSTOMER_ORDERS, filters.customer_id.as_str()).newest_first();
            list.page(filters.limit, filters.cursor)
        }),
        QueryType::new(
            "GetProductOrders",
            name,
            "The orders that hold a product, in the order they were begun.",
            |filters: OfProduct| {
                List::new(PRODUCT_ORDERS, filters.product_id.as_str()).page(filters.limit, filters.cursor)
            },
        ),
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
        ),
    ]
}
