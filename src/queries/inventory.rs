//! What can be asked of `inventory`.

use event_sourcing_actors::{
    AggregateId,
    query::{QueryPlan, QueryType},
    view::RowKey,
};
use serde::Deserialize;

use super::filters::List;
use crate::projections::inventory::{Inventory, LOW_STOCK, MOVEMENTS, STOCK};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct OneProduct {
    product_id: AggregateId,
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
struct Products {
    limit: Option<u64>,
    cursor: Option<String>,
}

/// All of them.
#[must_use]
pub fn all() -> Vec<QueryType> {
    let name = Inventory::NAME;
    vec![
        QueryType::new("GetStock", name, "The stock of a product.", |filters: OneProduct| {
            let id = filters.product_id;
            Ok(QueryPlan::row(RowKey::new(STOCK, "", id.as_str()), format!("product {:?}", id.as_str())).of_stream(id))
        }),
        QueryType::new(
            "GetStockMovements",
            name,
            "Everything that happened to the stock of a product, in order.",
            |filters: OfProduct| List::new(MOVEMENTS, filters.product_id.as_str()).page(filters.limit, filters.cursor),
        ),
        QueryType::new(
            "GetLowStock",
            name,
            "Products of which no more is available than their threshold, by id.",
            |filters: Products| List::new(LOW_STOCK, "").page(filters.limit, filters.cursor),
        ),
    ]
}
