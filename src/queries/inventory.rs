//! What can be asked of `inventory`.

use event_sourcing_actors::{
    AggregateId,
    query::{PAGE_ROWS_MAX, QueryPlan, QueryType, Rows},
    view::RowKey,
};
use schemars::JsonSchema;
use serde::Deserialize;

use super::filters::List;
use crate::projections::inventory::{Inventory, LOW_STOCK, MOVEMENTS, STOCK};
use crate::views::inventory::{MovementRow, StockRow};

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
struct OneProduct {
    product_id: AggregateId,
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
struct Products {
    #[schemars(range(min = 1, max = PAGE_ROWS_MAX))]
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
        })
        .documented::<OneProduct, StockRow>(),
        QueryType::new(
            "GetStockMovements",
            name,
            "Everything that happened to the stock of a product, in order.",
            |filters: OfProduct| List::new(MOVEMENTS, filters.product_id.as_str()).page(filters.limit, filters.cursor),
        )
        .documented::<OfProduct, Rows<MovementRow>>(),
        QueryType::new(
            "GetLowStock",
            name,
            "Products of which no more is available than their threshold, by id.",
            |filters: Products| List::new(LOW_STOCK, "").page(filters.limit, filters.cursor),
        )
        .documented::<Products, Rows<StockRow>>(),
    ]
}
