//! `GET /`: where to go from here.

use super::{error::Answer, reply, request::Call, routes::ROUTES};

/// Every path with its methods.
pub(super) async fn show(_: Call) -> Answer {
    let routes: Vec<_> = ROUTES
        .iter()
        .map(|route| {
            let methods: Vec<&str> = route.methods.iter().map(|entry| entry.method.as_str()).collect();
            serde_json::json!({ "path": route.path, "methods": methods })
        })
        .collect();
    Ok(reply::json(&serde_json::json!({
        "name": env!("CARGO_PKG_NAME"),
        "version": env!("CARGO_PKG_VERSION"),
        "routes": routes,
    })))
}
