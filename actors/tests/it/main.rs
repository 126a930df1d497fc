//! The write side over the memory store, and over stores with bad days.

#![allow(clippy::unwrap_used, reason = "a helper of tests may panic like a test")]

mod embedding;
mod faults;
mod queries;
mod review;
mod support;
mod write_side;
