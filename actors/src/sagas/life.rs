//! How the sagas of a runtime begin and end.

use std::{
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::FutureExt;
use tokio::{
    task::JoinHandle,
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;

use super::{
    Sagas,
    desk::{Desk, DeskParts},
    index::{INDEX, SagaIndex},
    news::News,
    router::Router,
};
use crate::{
    command_bus::CommandBus,
    freshness::Freshness,
    observe::SagaMetrics,
    ports::{EventStore, ViewStore},
    projections::life::ProjectionsSetup,
    saga::SagaDefinitions,
};

/// Before the router is started again that panicked.
const RESTART_PAUSE: Duration = Duration::from_secs(1);

/// What the builder is told of sagas.
#[derive(Debug, Default)]
pub(crate) struct SagasSetup {
    pub definitions: Arc<SagaDefinitions>,
    /// This process only looks on.
    pub is_onlooker: bool,
    /// The timeline is a branch.
    pub is_branch: bool,
    /// What the index tells, once it is among the projections.
    news: Option<Arc<News>>,
}

/// The running sagas of a runtime.
#[derive(Debug)]
pub(crate) struct SagasLife {
    pub handle: Sagas,
    desk: Arc<Desk>,
    router: Mutex<Option<JoinHandle<()>>>,
}

impl SagasSetup {
    /// Adds the index to the projections.
    pub fn prepare(&mut self, projections: &mut ProjectionsSetup, metrics: &SagaMetrics) {
        let names = self.definitions.names().map(ToOwned::to_owned).collect();
        let news = Arc::new(News::new(metrics.clone(), names));
        metrics.prepare(self.definitions.names());
        if !self.definitions.is_empty() {
            projections
                .projections
                .push(Arc::new(SagaIndex { definitions: self.definitions.clone(), is_branch: self.is_branch }));
            projections.audiences.insert(INDEX.to_owned(), news.clone());
        }
        self.news = Some(news);
    }

    /// Starts the router, unless there is nothing for it to do.
    pub fn start(
        self,
        bus: CommandBus,
        views: Arc<dyn ViewStore>,
        events: Arc<dyn EventStore>,
        freshness: Freshness,
    ) -> SagasLife {
        let news = self.news.unwrap_or_else(|| Arc::new(News::new(bus.write_side.metrics.sagas.clone(), Vec::new())));

        let stop = CancellationToken::new();
        let is_idle = self.definitions.is_empty() || self.is_onlooker;
        let parts = DeskParts { bus, views, events, definitions: self.definitions, news };
        let desk = Arc::new(Desk::new(parts, stop));
        let handle = Sagas { desk: desk.clone(), freshness: freshness.clone() };
        let router = (!is_idle).then(|| tokio::spawn(supervise(desk.clone(), freshness)));
        SagasLife { handle, desk, router: Mutex::new(router) }
    }
}

/// Runs the router; one that panics is started again.
async fn supervise(desk: Arc<Desk>, freshness: Freshness) {
    while !desk.stop.is_cancelled() {
        let router = Router::new(desk.clone(), freshness.clone());
        if AssertUnwindSafe(router.run()).catch_unwind().await.is_err() {
            tracing::error!("the router of the sagas panicked; it is started again");
            desk.bus.write_side.metrics.actor_restarts.inc();
            let _ = desk.stop.run_until_cancelled(tokio::time::sleep(RESTART_PAUSE)).await;
        }
    }
}

impl SagasLife {
    /// Whether the router runs, if there is to be one.
    pub fn is_alive(&self) -> bool {
        let router = self.router.lock().unwrap_or_else(PoisonError::into_inner);
        router.as_ref().is_none_or(|router| !router.is_finished())
    }

    /// Begins nothing new, and waits for the steps under way; what is not done is the next owner's.
    pub async fn shutdown(&self) {
        self.desk.stop.cancel();
        let router = self.router.lock().unwrap_or_else(PoisonError::into_inner).take();
        let give_up = Instant::now() + self.desk.limits.drain;
        if let Some(mut router) = router
            && timeout_at(give_up, &mut router).await.is_err()
        {
            router.abort();
        }
        self.desk.tasks.close();
        let _ = timeout_at(give_up, self.desk.tasks.wait()).await;
    }
}
