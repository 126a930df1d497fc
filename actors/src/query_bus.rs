//! The query bus: a chain of middleware in front of the read models.
//!
//! trace → authorise → validate → (the embedder's own) → deadline → admission → cache, wait, read.
//!
//! A query never touches an aggregate or the log's events. What it answers rests on one read of the view store, rows and
//! position of one instant, or on a cached copy of such a read that is provably as good (see
//! [`freshness`](crate::freshness)).

mod admission;
mod as_of;
mod authorise;
mod deadline;
mod flights;
mod limits;
mod middleware;
mod on_branch;
mod plan;
mod read_side;
mod remembered;
mod render;
mod request;
mod trace;
mod validate;

use std::sync::Arc;

use tokio::{
    sync::{Semaphore, watch},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

pub use as_of::AS_OF_EVENTS_MAX;
pub(crate) use as_of::Past;
pub use authorise::QueryAuthorizer;
pub use limits::{Consistency, QueryLimits};
pub use middleware::{QueryMiddleware, QueryNext};
use read_side::ReadSide;
pub(crate) use read_side::Sources;
pub use request::{QueryAnswer, QueryError, QueryRequest, QueryResult};

use crate::{command_bus::AllowAll, freshness::Follower, ports::QueryCache, query::QueryCatalog, slow::SlowLog};

/// What an embedder says about queries; the builder of a runtime collects it.
#[derive(Debug)]
pub(crate) struct QueryParts {
    pub catalog: QueryCatalog,
    pub authorizer: Arc<dyn QueryAuthorizer>,
    pub middleware: Vec<Arc<dyn QueryMiddleware>>,
    pub limits: QueryLimits,
    pub cache: Option<Arc<dyn QueryCache>>,
}

impl Default for QueryParts {
    fn default() -> Self {
        Self {
            catalog: QueryCatalog::default(),
            authorizer: Arc::new(AllowAll),
            middleware: Vec::new(),
            limits: QueryLimits::default(),
            cache: None,
        }
    }
}

impl QueryParts {
    /// The bus, and the task that follows what changes in the view store. `wake` moves when another process says that
    /// read models moved.
    pub fn start(
        self,
        sources: Sources,
        wake: Option<watch::Receiver<u64>>,
        stop: CancellationToken,
    ) -> (QueryBus, JoinHandle<()>) {
        let follower = Follower {
            freshness: sources.freshness.clone(),
            views: sources.views.clone(),
            projections: self.catalog.projections().into_iter().map(str::to_owned).collect(),
            wake,
            fence_age: self.limits.cache_ttl * 2,
            stop,
        };
        let read_side = ReadSide::new(self.catalog, self.limits, self.cache, sources);
        let bus = QueryBus::new(Arc::new(read_side), self.authorizer, self.middleware);
        (bus, tokio::spawn(follower.run()))
    }
}

/// Where queries enter. Cloning shares it.
#[derive(Debug, Clone)]
pub struct QueryBus {
    chain: Arc<[Arc<dyn QueryMiddleware>]>,
    read_side: Arc<ReadSide>,
    permits: Arc<Semaphore>,
}

impl QueryBus {
    fn new(read_side: Arc<ReadSide>, authorizer: Arc<dyn QueryAuthorizer>, own: Vec<Arc<dyn QueryMiddleware>>) -> Self {
        let permits = Arc::new(Semaphore::new(read_side.limits.in_flight_max));
        let trace = trace::Trace { slow: SlowLog::new(read_side.limits.slow) };
        let mut chain: Vec<Arc<dyn QueryMiddleware>> =
            vec![Arc::new(trace), Arc::new(authorise::Authorise { authorizer }), Arc::new(validate::Validate)];
        chain.extend(own);
        chain.push(Arc::new(deadline::Deadline));
        chain.push(Arc::new(admission::Admission { permits: permits.clone() }));
        Self { chain: chain.into(), read_side, permits }
    }

    /// Asks, and waits for the answer.
    ///
    /// Cancellation safe: a query changes nothing.
    ///
    /// # Errors
    /// [`QueryError`].
    pub async fn ask(&self, request: QueryRequest) -> QueryResult {
        QueryNext { rest: &self.chain, read_side: &self.read_side, plan: None }.run(request).await
    }

    /// Every query type.
    #[must_use]
    pub fn catalog(&self) -> &QueryCatalog {
        &self.read_side.catalog
    }

    /// Queries that wait or read at the moment.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.read_side.limits.in_flight_max.saturating_sub(self.permits.available_permits())
    }

    /// From now on every query is refused.
    pub(crate) fn close(&self) {
        self.permits.close();
    }
}
