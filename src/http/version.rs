//! `GET /version`: which program this is.

use super::{error::Answer, reply, request::Call};

/// Name and version.
pub(super) async fn show(_: Call) -> Answer {
    Ok(reply::json(&serde_json::json!({
        "name": env!("CARGO_PKG_NAME"),
        "version": env!("CARGO_PKG_VERSION"),
        "commit": option_env!("GIT_COMMIT"),
        "api": "v1",
    })))
}
