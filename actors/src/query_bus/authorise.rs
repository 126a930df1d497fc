//! Second link: may this principal ask this? The hook is the embedder's; by default everybody may.

use std::{fmt::Debug, sync::Arc};

use futures_util::future::BoxFuture;

use super::{QueryError, QueryMiddleware, QueryNext, QueryRequest, QueryResult};
use crate::command_bus::AllowAll;

/// Decides whether a principal may ask a query.
pub trait QueryAuthorizer: Debug + Send + Sync + 'static {
    /// # Errors
    /// [`QueryError::Unauthenticated`] or [`QueryError::Forbidden`] with the role that is missing.
    fn authorize(&self, request: &QueryRequest) -> Result<(), QueryError>;
}

impl QueryAuthorizer for AllowAll {
    fn authorize(&self, _: &QueryRequest) -> Result<(), QueryError> {
        Ok(())
    }
}

#[derive(Debug)]
pub(super) struct Authorise {
    pub authorizer: Arc<dyn QueryAuthorizer>,
}

impl QueryMiddleware for Authorise {
    fn handle<'a>(&'a self, request: QueryRequest, next: QueryNext<'a>) -> BoxFuture<'a, QueryResult> {
        match self.authorizer.authorize(&request) {
            Ok(()) => next.run(request),
            Err(error) => Box::pin(async move { Err(error) }),
        }
    }
}
