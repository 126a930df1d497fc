//! The test kit, behind the feature `testing`.

pub mod clock;
pub mod faults;
pub mod given;
pub mod given_events;
pub mod given_saga;
pub mod key_contract;
pub mod store_contract;
pub mod view_contract;
pub mod view_faults;

pub use crate::failpoint::NAMES as FAILPOINTS;
