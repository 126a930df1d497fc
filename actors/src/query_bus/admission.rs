//! Fifth link: a bound on the queries that wait or read.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::sync::Semaphore;

use super::{QueryError, QueryMiddleware, QueryNext, QueryRequest, QueryResult};

#[derive(Debug)]
pub(super) struct Admission {
    /// Closed when the runtime shuts down.
    pub permits: Arc<Semaphore>,
}

impl QueryMiddleware for Admission {
    fn handle<'a>(&'a self, request: QueryRequest, next: QueryNext<'a>) -> BoxFuture<'a, QueryResult> {
        Box::pin(async move {
            let _permit = self.permits.try_acquire().map_err(|_| QueryError::Overloaded)?;
            next.run(request).await
        })
    }
}
