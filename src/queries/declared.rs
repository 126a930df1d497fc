//! What can be asked of every declared projection.

use event_sourcing_actors::{
    FieldError,
    query::{QueryPlan, QueryType},
    view::RowKey,
};
use serde::Deserialize;

use super::filters::{List, fault};
use crate::projections::declared::ROWS;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct OneRow {
    key: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct AllRows {
    limit: Option<u64>,
    cursor: Option<String>,
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
        }),
        QueryType::new("ListView", projection, "The rows of a declared projection, by key.", |filters: AllRows| {
            List::new(ROWS, "").page(filters.limit, filters.cursor)
        }),
    ]
}
