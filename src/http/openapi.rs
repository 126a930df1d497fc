//! `GET /api/v1/openapi.json`: the API as an OpenAPI 3.1 document, made from what is registered.
//!
//! Three things come together: the table of operations (`operations`, one entry per route and method, which a test
//! holds against the table of routes), the schemas of this crate's own bodies (`crate::wire`), and what this runtime has
//! registered, an embedder's own aggregates, projections and sagas included (`registered`). `components` collects the
//! schemas, `write` puts all of it into one document.

mod components;
mod examples;
mod operation;
mod operations;
mod registered;
mod write;

use event_sourcing_actors::{Runtime, catalog::Catalog, query::QueryCatalog, saga::SagaDefinitions};
use serde_json::Value;

use super::{
    error::Answer,
    negotiate::{Media, negotiate},
    reply,
    request::Call,
};

/// What a document is about.
#[derive(Debug, Clone, Copy)]
pub struct Registered<'a> {
    /// Aggregates with their commands and events.
    pub catalog: &'a Catalog,
    /// Query types.
    pub queries: &'a QueryCatalog,
    /// Sagas.
    pub sagas: &'a SagaDefinitions,
    /// Whether callers have to prove who they are.
    pub is_guarded: bool,
}

impl<'a> From<&'a Runtime> for Registered<'a> {
    fn from(runtime: &'a Runtime) -> Self {
        let (catalog, queries) = (runtime.catalog(), runtime.queries().catalog());
        Self { catalog, queries, sagas: runtime.sagas().definitions(), is_guarded: true }
    }
}

/// The OpenAPI 3.1 document of a server with these aggregates, query types and sagas.
#[must_use]
pub fn openapi(registered: Registered<'_>) -> Value {
    write::document(registered)
}

/// Every operation of the document, as its method and path.
#[must_use]
pub fn documented_operations() -> Vec<(&'static str, &'static str)> {
    operations::all().map(|operation| (operation.method, operation.path)).collect()
}

/// The document. Nothing can be registered once a runtime runs, so it is made once.
pub(super) async fn show(call: Call) -> Answer {
    negotiate(&call.headers, &[Media::Json])?;
    call.query().finish()?;
    let is_guarded = call.server.context.auth.as_ref().is_some_and(|auth| auth.is_guarded());
    let made = || openapi(Registered { is_guarded, ..call.runtime().into() }).to_string().into();
    Ok(reply::bytes(call.server.openapi.get_or_init(made).clone(), "application/json"))
}
