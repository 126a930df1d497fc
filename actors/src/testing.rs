//! The test kit, behind the feature `testing`.

pub mod clock;
pub mod store_contract;
