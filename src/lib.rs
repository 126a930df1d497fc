//! Server.

pub mod domain;
pub mod settings;
pub mod store;
pub mod telemetry;
