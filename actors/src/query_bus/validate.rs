//! Third link: looks the names up and plans the filters, so that later links see only queries that can be answered.

use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::{QueryMiddleware, QueryNext, QueryRequest, QueryResult, plan::Planned};

#[derive(Debug)]
pub(super) struct Validate;

impl QueryMiddleware for Validate {
    fn handle<'a>(&'a self, request: QueryRequest, mut next: QueryNext<'a>) -> BoxFuture<'a, QueryResult> {
        match Planned::of(&request, &next.read_side.catalog) {
            Ok(plan) => {
                next.plan = Some(Arc::new(plan));
                next.run(request)
            }
            Err(error) => Box::pin(async move { Err(error) }),
        }
    }
}
