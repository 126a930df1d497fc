//! A runtime over a [`Shelf`], and a cache that does as it is told.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use event_sourcing_actors::{
    FieldError, Position, Runtime, RuntimeBuilder,
    ports::{CacheUnavailable, CachedAnswer, QueryCache},
    query::{PageFilter, QueryPlan, QueryType},
    query_bus::{QueryLimits, QueryRequest},
    view::{ListRange, RowKey},
};
use futures_util::future::BoxFuture;
use serde::Deserialize;

use super::shelf::{PROJECTION, Shelf};
use crate::support::{builder, store};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct One {
    name: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Page {
    limit: Option<u64>,
    cursor: Option<String>,
}

pub fn get_purse(projection: &str) -> QueryType {
    QueryType::new("GetPurse", projection, "One purse.", |one: One| {
        if one.name == "panic" {
            panic!("as told");
        }
        Ok(QueryPlan::row(RowKey::new("purses", "", one.name.as_str()), format!("purse {:?}", one.name)))
    })
}

fn list_purses() -> QueryType {
    QueryType::new("ListPurses", PROJECTION, "All purses.", |page: Page| -> Result<QueryPlan, Vec<FieldError>> {
        let page = PageFilter { limit: page.limit, cursor: page.cursor };
        Ok(QueryPlan::list(page.on(ListRange::new("purses", ""))?))
    })
}

/// Answers in a map, and whatever a test wants to do to them.
#[derive(Debug, Default)]
pub struct Drawer {
    pub answers: Mutex<HashMap<String, CachedAnswer>>,
    pub is_broken: AtomicBool,
}

impl QueryCache for Drawer {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<CachedAnswer>, CacheUnavailable>> {
        Box::pin(async move {
            if self.is_broken.load(Ordering::Relaxed) {
                return Err(CacheUnavailable);
            }
            Ok(self.answers.lock().unwrap().get(key).cloned())
        })
    }
    fn sweep<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<(), CacheUnavailable>> {
        Box::pin(async move {
            self.answers.lock().unwrap().retain(|key, _| !key.starts_with(prefix));
            Ok(())
        })
    }
    fn put(&self, key: String, answer: CachedAnswer) {
        self.answers.lock().unwrap().insert(key, answer);
    }
}

pub struct Desk {
    pub shelf: Arc<Shelf>,
    pub drawer: Arc<Drawer>,
    pub runtime: Arc<Runtime>,
}

pub fn over(shelf: &Arc<Shelf>, limits: QueryLimits) -> RuntimeBuilder {
    let builder = builder(&store()).views(shelf.clone()).query_limits(limits);
    builder.query_type(get_purse(PROJECTION)).unwrap().query_type(list_purses()).unwrap()
}

impl Desk {
    pub async fn new() -> Self {
        Self::with(QueryLimits::default(), |builder| builder).await
    }

    pub async fn with(limits: QueryLimits, more: impl FnOnce(RuntimeBuilder) -> RuntimeBuilder) -> Self {
        let (shelf, drawer) = (Shelf::new(), Arc::new(Drawer::default()));
        let builder = more(over(&shelf, limits).query_cache(drawer.clone()));
        let runtime = Arc::new(builder.start().await.unwrap());
        Self { shelf, drawer, runtime }
    }

    /// What a counter of the cache says.
    pub fn counted(&self, result: &str) -> u64 {
        let families = self.runtime.metrics().registry().gather();
        let text = prometheus::TextEncoder::new().encode_to_string(&families).unwrap();
        let name = format!("es_cache_requests_total{{result=\"{result}\"}} ");
        text.lines().find_map(|line| line.strip_prefix(&name)).unwrap().parse().unwrap()
    }

    /// Waits until the follower has seen the shelf as it is.
    pub async fn settled(&self) {
        let now = self.shelf.lock().clone();
        let mut moves = self.runtime.freshness().subscribe(PROJECTION);
        // Asked by a query, so that the follower hurries.
        let _ = self.runtime.queries().ask(get("nobody")).await;
        let there = moves.wait_for(|is| is.position.0 == now.position && is.revision.0 == now.revision);
        tokio::time::timeout(Duration::from_secs(10), there).await.unwrap().unwrap();
        // The watch may have moved by a read; a poll comes within a tenth of a second.
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
}

pub fn get(name: &str) -> QueryRequest {
    QueryRequest::new("GetPurse", &format!(r#"{{"name":"{name}"}}"#)).unwrap()
}

pub fn get_at(name: &str, position: u64, wait_ms: u64) -> QueryRequest {
    let wait = Some(Duration::from_millis(wait_ms));
    QueryRequest { min_position: Some(Position(position)), wait, ..get(name) }
}

/// A commit of one row.
pub fn write(shelf: &Shelf, name: &str, sum: u64, position: u64) {
    shelf.put(&[(name, format!(r#"{{"sum":{sum}}}"#))], position);
}
