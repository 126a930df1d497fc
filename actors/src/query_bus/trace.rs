//! First link: a span, a measurement and, for faults and for what took long, one line of log.

use std::time::Instant;

use futures_util::future::BoxFuture;
use tracing::Instrument;

use super::{QueryError, QueryMiddleware, QueryNext, QueryRequest, QueryResult, plan::lookup};
use crate::{ports::StoreError, slow::SlowLog};

#[derive(Debug)]
pub(super) struct Trace {
    pub slow: SlowLog,
}

impl QueryMiddleware for Trace {
    fn handle<'a>(&'a self, request: QueryRequest, next: QueryNext<'a>) -> BoxFuture<'a, QueryResult> {
        let metrics = &next.read_side.sources.metrics;
        // Only known names become label values: a caller must not be able to make series.
        let (name, projection) = lookup(&request, &next.read_side.catalog)
            .map_or(("unknown", "unknown"), |query| (query.name, query.projection.as_str()));
        let span = tracing::info_span!(
            "query",
            query.name = name,
            projection,
            correlation.id = %request.context.correlation_id,
        );
        let started = Instant::now();
        let measured = async move {
            let result = next.run(request).await;
            let outcome = match &result {
                Ok(answer) if answer.stale => "stale",
                Ok(_) => "answered",
                Err(error) => error.outcome(),
            };
            let elapsed = started.elapsed();
            metrics.queries.duration.with_label_values(&[projection, outcome]).observe(elapsed.as_secs_f64());
            if let Some(untold) = self.slow.note(elapsed) {
                let duration_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
                tracing::warn!(query.name = name, outcome, duration_ms, untold, "a query took long");
            }
            match &result {
                Ok(answer) => tracing::debug!(%answer.position, answer.cached, "answered"),
                Err(QueryError::Store(StoreError::Unavailable { reason })) => {
                    tracing::warn!(reason, "the read models cannot be read");
                }
                Err(error @ (QueryError::Internal { .. } | QueryError::Store(_))) => {
                    tracing::error!(%error, outcome, "query failed");
                }
                Err(error) => tracing::debug!(%error, outcome, "not answered"),
            }
            result
        };
        // A span that nobody listens to costs as much as one that is heard.
        if span.is_disabled() { Box::pin(measured) } else { Box::pin(measured.instrument(span)) }
    }
}
