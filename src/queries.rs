//! The query types: what can be asked of the read models.
//!
//! Each one is a name, the projection it reads, and a pure function from filters to rows; filters that are wrong are
//! told by pointer. Lists take `limit` and `cursor` beside their own filters.

pub mod account_balance;
pub mod declared;
mod filters;
pub mod inventory;
pub mod order_summary;
#[cfg(test)]
mod tests;
pub mod user_activity;

use event_sourcing_actors::{
    catalog::nearest,
    query::{QueryCatalog, QueryTypeTaken},
};

/// Adds the query types of the four built-in projections.
///
/// # Errors
/// [`QueryTypeTaken`] when one of their names is taken.
pub fn register(catalog: &mut QueryCatalog) -> Result<(), QueryTypeTaken> {
    let all = account_balance::all().into_iter();
    let mut all = all.chain(order_summary::all()).chain(inventory::all()).chain(user_activity::all());
    all.try_for_each(|query| catalog.register(query))
}

/// Adds `GetView` and `ListView` of a declared projection.
///
/// # Errors
/// [`QueryTypeTaken`] when the projection has them already.
pub fn register_declared(catalog: &mut QueryCatalog, projection: &str) -> Result<(), QueryTypeTaken> {
    declared::all(projection).into_iter().try_for_each(|query| catalog.register(query))
}

/// The settings name a query type that there is not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "queries.types.{name} names no query type{}",
    nearest.first().map(|near| format!("; did you mean {near:?}?")).unwrap_or_default()
)]
pub struct UnknownQueryType {
    /// As set.
    pub name: String,
    /// Known names close to it.
    pub nearest: Vec<String>,
}

/// Checks that the settings of single query types are about query types that there are.
///
/// # Errors
/// [`UnknownQueryType`] for the first that is not.
pub fn check_names<'a>(set: impl IntoIterator<Item = &'a str>, catalog: &QueryCatalog) -> Result<(), UnknownQueryType> {
    match set.into_iter().find(|name| !catalog.names().any(|known| known == *name)) {
        Some(name) => Err(UnknownQueryType { name: name.to_owned(), nearest: nearest(name, catalog.names()) }),
        None => Ok(()),
    }
}
