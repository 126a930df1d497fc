//! The domains: account, order, inventory, user.
