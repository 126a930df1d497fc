//! The middleware chain: each link may answer, change the request, or pass it on and look at the answer.

use std::{fmt::Debug, sync::Arc};

use futures_util::future::BoxFuture;

use super::{QueryRequest, QueryResult, ReadSide, plan::Planned};

/// One link of the chain. Embedders add their own with
/// [`RuntimeBuilder::query_middleware`](crate::runtime::RuntimeBuilder::query_middleware).
pub trait QueryMiddleware: Debug + Send + Sync + 'static {
    /// Handles a request; `next.run(request)` passes it on. The future is dropped when the caller goes away.
    fn handle<'a>(&'a self, request: QueryRequest, next: QueryNext<'a>) -> BoxFuture<'a, QueryResult>;
}

/// The rest of the chain.
#[derive(Debug, Clone)]
pub struct QueryNext<'a> {
    pub(super) rest: &'a [Arc<dyn QueryMiddleware>],
    pub(super) read_side: &'a ReadSide,
    /// What validation found out; used as long as the request is still the one it looked at.
    pub(super) plan: Option<Arc<Planned>>,
}

impl<'a> QueryNext<'a> {
    /// Passes a request on.
    #[must_use]
    pub fn run(mut self, request: QueryRequest) -> BoxFuture<'a, QueryResult> {
        match self.rest.split_first() {
            Some((link, rest)) => {
                self.rest = rest;
                link.handle(request, self)
            }
            None => Box::pin(self.read_side.answer(request, self.plan)),
        }
    }
}
