//! Fourth link: a query has so much time, beside the wait for its projection that it asked for.

use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::time::timeout;

use super::{Consistency, QueryError, QueryLimits, QueryMiddleware, QueryNext, QueryRequest, QueryResult};

#[derive(Debug)]
pub(super) struct Deadline;

impl QueryMiddleware for Deadline {
    fn handle<'a>(&'a self, mut request: QueryRequest, next: QueryNext<'a>) -> BoxFuture<'a, QueryResult> {
        let limits = &next.read_side.limits;
        let deadline = limits.deadline_of(&request.query_type);
        let wait = wait(&request, limits, next.plan.as_ref().map(|plan| plan.projection()));
        request.wait = Some(wait);
        Box::pin(async move {
            timeout(deadline + wait, next.run(request)).await.unwrap_or(Err(QueryError::Late { deadline }))
        })
    }
}

/// How long this query may wait for its projection.
pub(super) fn wait(request: &QueryRequest, limits: &QueryLimits, projection: Option<&str>) -> Duration {
    if request.min_position.is_some() {
        return request.wait.unwrap_or_else(|| limits.deadline_of(&request.query_type)).min(limits.wait_max);
    }
    match limits.consistency_of(projection.unwrap_or_default()) {
        Consistency::Eventual => Duration::ZERO,
        Consistency::Latest => request.wait.map_or(limits.latest_wait, |wait| wait.min(limits.latest_wait)),
    }
}
