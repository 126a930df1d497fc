//! Server.

pub mod domain;
#[cfg(feature = "http")]
pub mod http;
pub mod settings;
pub mod store;
