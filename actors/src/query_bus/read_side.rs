//! The end of the chain: cache, wait for the projection, read.

use std::sync::Arc;

use tokio::time::{Instant, sleep_until, timeout_at};

use super::{
    Consistency, QueryAnswer, QueryError, QueryLimits, QueryRequest, QueryResult,
    as_of::Past,
    deadline::wait,
    flights::{Fetched, Flights},
    plan::Planned,
    render,
};
use crate::{
    freshness::{Freshness, Progress, Standing},
    observe::Metrics,
    ports::{CachedAnswer, EventStore, QueryCache, StoreError, ViewStore},
    pubsub::Publisher,
    query::QueryCatalog,
    version::Position,
    view::{ListRange, Selection},
};

/// The parts of a runtime that queries need.
#[derive(Debug)]
pub(crate) struct Sources {
    pub views: Arc<dyn ViewStore>,
    pub events: Arc<dyn EventStore>,
    pub publisher: Publisher,
    pub freshness: Freshness,
    pub metrics: Metrics,
    pub past: Past,
}

impl Sources {
    pub fn new(
        views: Arc<dyn ViewStore>,
        events: Arc<dyn EventStore>,
        publisher: Publisher,
        freshness: Freshness,
        metrics: &Metrics,
        past: Past,
    ) -> Self {
        Self { views, events, publisher, freshness, metrics: metrics.clone(), past }
    }
}

/// What queries are answered from.
#[derive(Debug)]
pub(crate) struct ReadSide {
    pub catalog: QueryCatalog,
    pub limits: QueryLimits,
    pub cache: Option<Arc<dyn QueryCache>>,
    pub sources: Sources,
    flights: Flights,
}

/// What one query asks of its answer.
#[derive(Debug, Clone, Copy)]
struct Demand {
    /// The position it must rest on.
    wanted: Position,
    /// Whether less will do, marked as stale, when time is up.
    is_lenient: bool,
    until: Instant,
    /// Whether it waits for the head for the whole time that the bounds give it.
    waits_fully: bool,
    head: Position,
}

/// Between two reads, when rows are not where they were said to be.
const REREAD: std::time::Duration = std::time::Duration::from_millis(20);

impl ReadSide {
    pub fn new(
        catalog: QueryCatalog,
        limits: QueryLimits,
        cache: Option<Arc<dyn QueryCache>>,
        sources: Sources,
    ) -> Self {
        sources.metrics.queries.prepare(catalog.projections().into_iter());
        Self { catalog, limits, cache, sources, flights: Flights::default() }
    }

    /// Answers a query.
    pub(super) async fn answer(&self, request: QueryRequest, plan: Option<Arc<Planned>>) -> QueryResult {
        let plan = match plan.filter(|plan| plan.is_of(&request)) {
            Some(plan) => plan,
            None => Arc::new(Planned::of(&request, &self.catalog)?),
        };
        if let Some(asked) = request.as_of {
            return self.as_of(&plan, &request, asked).await;
        }
        if let Some(remembered) = &self.sources.past.on_branch {
            return self.on_branch(&plan, &request, remembered).await;
        }
        let views = &self.sources.views;
        self.sources.freshness.query_came();
        let demand = self.demand(&request, &plan).await;
        let key = plan.cache_key(views.incarnation());
        let mut moves = self.sources.freshness.subscribe(plan.projection());
        let at_first = *moves.borrow_and_update();
        let mut entry = self.look_up(plan.projection(), &key).await;
        loop {
            let is_over = Instant::now() >= demand.until;
            if let Some(cached) = &entry
                && let Some(position) = self.worth(&plan, cached, demand, is_over)
            {
                self.count("hit");
                let made_of = Progress { position, revision: cached.revision };
                self.note_stuck(&plan, demand, position, at_first, *moves.borrow());
                return finish(&plan, demand, &Fetched { made_of, data: Some(cached.data.clone()) }, true);
            }
            if !is_over && moves.borrow_and_update().position < demand.wanted {
                let _waiting = self.sources.freshness.waiting();
                let _ = timeout_at(demand.until, moves.wait_for(|now| now.position >= demand.wanted)).await;
                continue;
            }
            if entry.take().is_some() {
                self.count("refused");
            }
            let (fetched, is_shared) = self.flights.fetch(&key, || self.read(&**views, &plan, &key)).await;
            let fetched = fetched?;
            self.sources.freshness.heard(plan.projection(), fetched.made_of);
            if fetched.made_of.position >= demand.wanted || is_over {
                self.note_stuck(&plan, demand, fetched.made_of.position, at_first, *moves.borrow());
                return finish(&plan, demand, &fetched, false);
            }
            if !is_shared {
                // Somebody said more than the store does; the next look may be at an earlier state of a moving thing.
                sleep_until(demand.until.min(Instant::now() + REREAD)).await;
            }
        }
    }

    /// Notes that the head was waited for in vain while nothing moved, so that the next query need not wait as well.
    fn note_stuck(&self, plan: &Planned, demand: Demand, position: Position, at_first: Progress, now: Progress) {
        if demand.waits_fully && position < demand.wanted && now == at_first {
            self.sources.freshness.stuck(plan.projection(), now);
        }
    }

    /// What is asked of the answer.
    async fn demand(&self, request: &QueryRequest, plan: &Planned) -> Demand {
        let came = Instant::now();
        let head = self.head(request.min_position).await;
        let wait = wait(request, &self.limits, Some(plan.projection()));
        let Some(wanted) = request.min_position else {
            let is_eventual = self.limits.consistency_of(plan.projection()) == Consistency::Eventual;
            let wanted = if is_eventual { Position::ZERO } else { head };
            let is_stuck = self.sources.freshness.is_stuck(plan.projection());
            let until = if is_stuck { came } else { came + wait };
            let waits_fully = !is_stuck && wait >= self.limits.latest_wait;
            return Demand { wanted, is_lenient: true, until, waits_fully, head };
        };
        Demand { wanted, is_lenient: request.is_lenient, until: came + wait, waits_fully: false, head }
    }

    /// The head of the log as this process knows it; the store is asked if it knows none, or less than the token.
    async fn head(&self, token: Option<Position>) -> Position {
        let known = self.sources.publisher.head();
        if known > Position::ZERO && token.is_none_or(|token| token <= known) {
            return known;
        }
        match self.sources.events.head().await {
            Ok(head) => {
                self.sources.publisher.raise(head);
                head.max(known)
            }
            // The rows may be readable all the same.
            Err(_) => known,
        }
    }

    /// What the cache has, if it can be judged.
    async fn look_up(&self, projection: &str, key: &str) -> Option<CachedAnswer> {
        let cache = self.cache.as_ref()?;
        if !self.sources.freshness.is_confirmed(projection) {
            self.count("bypass");
            return None;
        }
        match cache.get(key).await {
            Ok(Some(entry)) => return Some(entry),
            Ok(None) => self.count("miss"),
            Err(_) => self.count("error"),
        }
        None
    }

    /// The position a cached answer rests on, if it will do.
    fn worth(&self, plan: &Planned, cached: &CachedAnswer, demand: Demand, is_over: bool) -> Option<Position> {
        let made_of = Progress { position: cached.position, revision: cached.revision };
        match self.sources.freshness.judge(plan.projection(), plan.plan.selection.tag(), made_of) {
            Standing::Good(position) if position >= demand.wanted || (is_over && demand.is_lenient) => Some(position),
            Standing::Good(_) | Standing::Refused | Standing::Unconfirmed => None,
        }
    }

    /// Reads the rows and offers what they make to the cache.
    async fn read(&self, views: &dyn ViewStore, plan: &Planned, key: &str) -> Result<Fetched, StoreError> {
        let selection = &plan.plan.selection;
        let page = match selection {
            Selection::Row(_) => views.read(plan.projection(), selection).await?,
            Selection::List(list) => {
                // One more tells whether there is a next page.
                let further = Selection::List(ListRange { limit: list.limit.saturating_add(1), ..list.clone() });
                views.read(plan.projection(), &further).await?
            }
        };
        // A projection that nobody has declared yet has applied nothing.
        let (made_of, rows) = page.map_or_else(Default::default, |page| {
            (Progress { position: page.position, revision: page.revision }, page.rows)
        });
        let data = render::data(selection, rows);
        if let (Some(cache), Some(data)) = (&self.cache, &data)
            && made_of.revision.0 > 0
        {
            let Progress { position, revision } = made_of;
            cache.put(key.to_owned(), CachedAnswer { revision, position, data: data.clone() });
        }
        Ok(Fetched { made_of, data })
    }

    fn count(&self, result: &str) {
        self.sources.metrics.queries.cache_requests.with_label_values(&[result]).inc();
    }
}

/// From rows to an answer.
fn finish(plan: &Planned, demand: Demand, fetched: &Fetched, cached: bool) -> QueryResult {
    let position = fetched.made_of.position;
    let stale = position < demand.wanted;
    if stale && !demand.is_lenient {
        let projection = plan.projection().to_owned();
        return Err(QueryError::Behind { projection, position, wanted: demand.wanted });
    }
    let Some(data) = fetched.data.clone() else {
        let (detail, head_position) = (plan.plan.missing.clone(), demand.head.max(position));
        return Err(QueryError::NotFound { detail, position, head_position, stale });
    };
    Ok(QueryAnswer {
        query_type: plan.query.name,
        projection: plan.query.projection.as_str().into(),
        data,
        position,
        head_position: demand.head.max(position),
        stale,
        cached,
    })
}
