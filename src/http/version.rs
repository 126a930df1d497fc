//! `GET /version`: which program this is.

use schemars::JsonSchema;
use serde::Serialize;

use super::{error::Answer, reply, request::Call};

/// Which program this is.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Version {
    name: &'static str,
    version: &'static str,
    /// The commit it was built from, if the build said so.
    commit: Option<&'static str>,
    /// The version of the API, as in its paths.
    api: &'static str,
}

/// Name and version.
pub(super) async fn show(call: Call) -> Answer {
    call.query().finish()?;
    Ok(reply::json(&Version {
        name: env!("CARGO_PKG_NAME"),
        version: env!("CARGO_PKG_VERSION"),
        commit: option_env!("GIT_COMMIT"),
        api: "v1",
    }))
}
