//! The test kit.

pub mod faults;
