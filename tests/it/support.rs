//! What tests share.

pub mod http;
