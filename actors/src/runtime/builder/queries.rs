//! What an embedder says about queries.

use std::sync::Arc;

use super::RuntimeBuilder;
use crate::{
    ports::QueryCache,
    query::{QueryCatalog, QueryType, QueryTypeTaken},
    query_bus::{QueryAuthorizer, QueryLimits, QueryMiddleware},
};

impl RuntimeBuilder {
    /// Adds a query type.
    ///
    /// # Errors
    /// [`QueryTypeTaken`] when its projection has one of this name.
    pub fn query_type(mut self, query: QueryType) -> Result<Self, QueryTypeTaken> {
        self.queries.catalog.register(query)?;
        Ok(self)
    }

    /// Takes query types collected elsewhere instead of those added so far.
    #[must_use]
    pub fn query_catalog(mut self, catalog: QueryCatalog) -> Self {
        self.queries.catalog = catalog;
        self
    }

    /// Sets who may ask what.
    #[must_use]
    pub fn query_authorizer(mut self, authorizer: Arc<dyn QueryAuthorizer>) -> Self {
        self.queries.authorizer = authorizer;
        self
    }

    /// Adds a link to the query bus, after validation; several run in the order they were added.
    #[must_use]
    pub fn query_middleware(mut self, link: Arc<dyn QueryMiddleware>) -> Self {
        self.queries.middleware.push(link);
        self
    }

    /// Sets the bounds of queries.
    #[must_use]
    pub fn query_limits(mut self, limits: QueryLimits) -> Self {
        self.queries.limits = limits;
        self
    }

    /// Sets where answers are kept for a while; without it every query reads the view store.
    #[must_use]
    pub fn query_cache(mut self, cache: Arc<dyn QueryCache>) -> Self {
        self.queries.cache = Some(cache);
        self
    }
}
