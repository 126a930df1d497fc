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

use event_sourcing_actors::query::{QueryCatalog, QueryType, QueryTypeTaken};

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
    declared::all(projection).into_iter().try_for_each(|query: QueryType| catalog.register(query))
}
