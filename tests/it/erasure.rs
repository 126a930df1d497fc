//! Erasure: what was personal is found nowhere afterwards, and what was recorded still verifies.
//!
//! Each test of a sweep looks before too, where the canaries have to be found: else it could not fail.

mod canaries;
mod lives;
mod nowhere;
mod returns;
#[cfg(feature = "postgres")]
mod shared;
mod words;
