//! The test kit for embedders; behind the feature `testing`.

pub mod given;
