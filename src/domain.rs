//! The domains: account, order, inventory, user. Pure: no clock, no storage, no waiting.
//!
//! Each one's rules stand once, in its state's `admits`: a decision turns the command into the event it would be and
//! asks whether that event may follow. So a command and a raw append are judged alike, and everything that is ever
//! stored leads from one valid state to the next. The one exception is the refund of a transfer, see [`account`].

pub mod account;
pub mod inventory;
pub mod order;
mod texts;
pub mod user;

use event_sourcing_actors::catalog::{Catalog, CatalogError};

/// Longest name, title or reason, in bytes of UTF-8.
pub const TEXT_BYTES_MAX: usize = 1024;
/// Longest reference to something that is not ours, such as a session or a parcel, in bytes of UTF-8.
pub const REFERENCE_BYTES_MAX: usize = 255;

/// Adds the four domains to a catalog.
///
/// # Errors
/// [`CatalogError::Twice`] when one of their names is taken.
pub fn register(catalog: &mut Catalog) -> Result<(), CatalogError> {
    catalog.register::<account::Account>()?;
    account::register_upcasters(catalog.upcasters_mut());
    catalog.register::<order::Order>()?;
    catalog.register::<inventory::InventoryItem>()?;
    catalog.register::<user::User>()
}

#[cfg(test)]
pub(crate) mod tests;
