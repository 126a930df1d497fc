//! The write side over the memory store, and over stores with bad days.

mod faults;
mod support;
mod write_side;
