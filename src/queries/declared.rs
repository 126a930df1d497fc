//! What can be asked of every declared projection.

use std::collections::BTreeMap;

use event_sourcing_actors::{
    FieldError,
    query::{PAGE_ROWS_MAX, QueryPlan, QueryType, Rows},
    view::RowKey,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::filters::{List, fault};
use crate::projections::declared::ROWS;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
struct OneRow {
    key: String,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
struct AllRows {
    #[schemars(range(min = 1, max = PAGE_ROWS_MAX))]
    limit: Option<u64>,
    cursor: Option<String>,
}

/// A row of a declared projection: its key, and the fields of its declaration that an event has set.
#[derive(Debug, Serialize, JsonSchema)]
struct DeclaredRow {
    /// Names the row.
    key: String,
    #[serde(flatten)]
    fields: BTreeMap<String, Value>,
}

/// `GetView` and `ListView` of one.
#[must_use]
pub fn all(projection: &str) -> Vec<QueryType> {
    let name = projection.to_owned();
    vec![
        QueryType::new("GetView", projection, "A row of a declared projection.", move |filters: OneRow| {
            let key = RowKey::new(ROWS, "", filters.key.as_str());
            let unkeepable = |problem| -> Vec<FieldError> { vec![fault("/key", problem)] };
            key.problem().map_or(Ok(()), |problem| Err(unkeepable(problem)))?;
            Ok(QueryPlan::row(key, format!("row {:?} in {name}", filters.key)))
        })
        .documented::<OneRow, DeclaredRow>(),
        QueryType::new("ListView", projection, "The rows of a declared projection, by key.", |filters: AllRows| {
            List::new(ROWS, "").page(filters.limit, filters.cursor)
        })
        .documented::<AllRows, Rows<DeclaredRow>>(),
    ]
}
