//! `GET /`: where to go from here.

use schemars::JsonSchema;
use serde::Serialize;

use super::{error::Answer, reply, request::Call, routes::ROUTES};

/// Where to go from here.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Index {
    name: &'static str,
    version: &'static str,
    /// The API as a page for people.
    docs: &'static str,
    /// The API as an OpenAPI document.
    openapi: &'static str,
    routes: Vec<ListedRoute>,
}

/// A path with its methods.
#[derive(Debug, Serialize, JsonSchema)]
struct ListedRoute {
    path: &'static str,
    methods: Vec<&'static str>,
}

/// Every path with its methods.
pub(super) async fn show(_: Call) -> Answer {
    let routes = ROUTES.iter().map(|route| ListedRoute {
        path: route.path,
        methods: route.methods.iter().map(|entry| entry.method.as_str()).collect(),
    });
    Ok(reply::json(&Index {
        name: env!("CARGO_PKG_NAME"),
        version: env!("CARGO_PKG_VERSION"),
        docs: "/docs",
        openapi: "/api/v1/openapi.json",
        routes: routes.collect(),
    }))
}
