//! The settings of a server, and its log level, as the outside sees them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use crate::settings::Explained as Setting;

/// A change of the log level.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LogLevelWanted {
    /// `off`, `error`, `warn`, `info`, `debug` or `trace`; in any case.
    #[schemars(regex(
        pattern = "^([Oo][Ff][Ff]|[Ee][Rr][Rr][Oo][Rr]|[Ww][Aa][Rr][Nn]([Ii][Nn][Gg])?|[Ii][Nn][Ff][Oo]|[Dd][Ee][Bb][Uu][Gg]|[Tt][Rr][Aa][Cc][Ee])$"
    ))]
    pub level: String,
}

/// The log level before and after.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LogLevelChanged {
    /// The level in force.
    pub level: String,
    /// The one before.
    pub previous_level: String,
}
