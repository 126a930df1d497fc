//! The write side over the memory store, and over stores with bad days.

#![allow(clippy::unwrap_used, reason = "a helper of tests may panic like a test")]

mod branches;
mod embedding;
mod faults;
mod following;
mod history;
mod projected;
mod projections;
mod projections_faults;
mod projections_parked;
mod projections_rebuild;
mod queries;
mod review;
mod review_read_side;
mod sagas;
mod sagas_review;
mod support;
mod views;
mod write_side;
