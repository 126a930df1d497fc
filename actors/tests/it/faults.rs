//! Stores with bad days.
