//! What all handlers share: [`HttpContext`], made by whoever starts the server, and [`Server`], made by `serve`.

use std::{
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use event_sourcing_actors::Runtime;
use tokio_util::sync::CancellationToken;

use super::{HttpOptions, health::HealthCheck, integrity::IntegrityCheck, metrics::HttpMetrics};
use crate::{
    auth::{Auth, rate::Limiter},
    integrity::Integrity,
    telemetry::LogControl,
    wire::Setting,
};

/// The runtime behind the door, its health checks, and whether the process wants traffic.
pub struct HttpContext {
    pub(super) runtime: Arc<Runtime>,
    pub(super) checks: Vec<Arc<dyn HealthCheck>>,
    pub(super) integrity: Option<Arc<Integrity>>,
    pub(super) settings: Option<Vec<Setting>>,
    pub(super) log: Option<LogControl>,
    pub(super) auth: Option<Arc<Auth>>,
    is_draining: AtomicBool,
    is_starting: AtomicBool,
}

impl fmt::Debug for HttpContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpContext").field("checks", &self.checks).finish_non_exhaustive()
    }
}

impl HttpContext {
    /// A door to this runtime.
    #[must_use]
    pub fn new(runtime: Arc<Runtime>) -> Self {
        Self {
            runtime,
            checks: Vec::new(),
            integrity: None,
            settings: None,
            log: None,
            auth: None,
            is_draining: AtomicBool::new(false),
            is_starting: AtomicBool::new(false),
        }
    }

    /// Adds a health check; `/health` shows it under its name. `event_store`, `aggregates`, `sagas` and the
    /// projections are there by themselves.
    #[must_use]
    pub fn health_check(mut self, check: Arc<dyn HealthCheck>) -> Self {
        self.checks.push(check);
        self
    }

    /// Answers `/api/v1/integrity` and shows a health check `integrity`.
    #[must_use]
    pub fn integrity(mut self, integrity: Arc<Integrity>) -> Self {
        self.checks.push(Arc::new(IntegrityCheck(integrity.clone())));
        self.integrity = Some(integrity);
        self
    }

    /// Shows these settings at `/api/v1/config`; secrets must be masked in them already.
    #[must_use]
    pub fn settings(self, settings: Vec<Setting>) -> Self {
        Self { settings: Some(settings), ..self }
    }

    /// Lets `/api/v1/log-level` change the level of this log.
    #[must_use]
    pub fn log(self, log: LogControl) -> Self {
        Self { log: Some(log), ..self }
    }

    /// Lets in whom `auth` lets in, keeps its audit, and answers `/api/v1/tokens` and `/api/v1/audit`. Without it everybody
    /// may do everything.
    #[must_use]
    pub fn auth(self, auth: Arc<Auth>) -> Self {
        Self { auth: Some(auth), ..self }
    }

    /// Turns readiness off and asks clients to leave their connections; requests are still served.
    pub fn start_draining(&self) {
        self.is_draining.store(true, Ordering::Release);
    }

    /// Whether [`Self::start_draining`] was called.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.is_draining.load(Ordering::Acquire)
    }

    /// Says whether the process is still starting: then `/health/startup` and `/health/ready` answer 503.
    pub fn set_starting(&self, is_starting: bool) {
        self.is_starting.store(is_starting, Ordering::Release);
    }

    /// What [`Self::set_starting`] said last; false at first.
    #[must_use]
    pub fn is_starting(&self) -> bool {
        self.is_starting.load(Ordering::Acquire)
    }
}

/// One running server.
#[derive(Debug)]
pub(super) struct Server {
    pub context: Arc<HttpContext>,
    pub options: HttpOptions,
    pub metrics: HttpMetrics,
    /// The OpenAPI document, made when it is first asked for.
    pub openapi: OnceLock<Bytes>,
    /// Counts requests, if there is a quota.
    pub limiter: Option<Limiter>,
    /// Ends the streams that would go on for ever.
    pub shutdown: CancellationToken,
}
