//! `GET /metrics`, and the measurements of the HTTP door itself.

use event_sourcing_actors::observe::Metrics;
use prometheus::{Encoder, HistogramOpts, HistogramVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder};
use warp::http::{HeaderValue, Method, StatusCode, header};

use super::{
    error::{Answer, Problem},
    reply,
    request::Call,
    routes::ROUTES,
};

/// Bounds in seconds: from a quarter of a millisecond to beyond the command deadline.
const SECONDS: [f64; 13] = [0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5, 10.0];

/// Measurements of requests.
#[derive(Debug, Clone)]
pub(super) struct HttpMetrics {
    duration: Option<HistogramVec>,
    pub connections: Option<IntGauge>,
}

impl HttpMetrics {
    /// Registers the series, those of known labels at once. A second server over one runtime measures nothing: its
    /// names are taken.
    pub fn new(metrics: &Metrics) -> Self {
        let registry = metrics.registry();
        let duration = HistogramVec::new(
            HistogramOpts::new(
                "es_http_request_duration_seconds",
                "Time from a request's head to the head of its answer, by route.",
            )
            .buckets(SECONDS.to_vec()),
            &["method", "route", "status"],
        )
        .ok()
        .filter(|metric| registry.register(Box::new(metric.clone())).is_ok());
        let connections = IntGauge::new("es_http_connections", "Open connections.")
            .ok()
            .filter(|metric| registry.register(Box::new(metric.clone())).is_ok());
        if let Some(duration) = &duration {
            for (route, method) in
                ROUTES.iter().flat_map(|route| route.methods.iter().map(move |entry| (route, &entry.method)))
            {
                let _ = duration.with_label_values(&[method.as_str(), route.path, usual(route.path, method)]);
            }
        }
        of_the_process(registry);
        Self { duration, connections }
    }

    /// Notes one answer. Labels are of closed sets: a caller must not be able to make series.
    pub fn observe(&self, method: &str, route: &str, status: StatusCode, seconds: f64) {
        let method = match method {
            known @ ("GET" | "HEAD" | "POST" | "PUT" | "DELETE" | "PATCH" | "OPTIONS") => known,
            _ => "other",
        };
        if let Some(duration) = &self.duration {
            duration.with_label_values(&[method, route, status.as_str()]).observe(seconds);
        }
    }
}

/// The status of a request that went well.
fn usual(route: &str, method: &Method) -> &'static str {
    match (method, route) {
        (&Method::POST, "/api/v1/events") => "201",
        (&Method::POST, "/api/v1/sagas" | "/api/v1/integrity/verify") => "202",
        (&Method::POST, route) if ["/rebuild", "/retry", "/skip", "/cancel"].iter().any(|end| route.ends_with(end)) => {
            "202"
        }
        _ => "200",
    }
}

/// What this program is, and what the process takes; once a registry, so a second server's attempt is no mistake.
fn of_the_process(registry: &Registry) {
    let options = Opts::new("es_build_info", "1; what was built, in the labels.");
    let Ok(build) = IntGaugeVec::new(options, &["version", "features"]) else { return };
    build.with_label_values(&[env!("CARGO_PKG_VERSION"), &features()]).set(1);
    let _ = registry.register(Box::new(build));
    #[cfg(target_os = "linux")]
    let _ = registry.register(Box::new(prometheus::process_collector::ProcessCollector::for_self()));
}

/// The features this program was built with, in the order of the alphabet.
fn features() -> String {
    let features = [
        ("console", cfg!(feature = "console")),
        ("http", cfg!(feature = "http")),
        ("jwt", cfg!(feature = "jwt")),
        ("otlp", cfg!(feature = "otlp")),
        ("postgres", cfg!(feature = "postgres")),
        ("redis", cfg!(feature = "redis")),
        ("sqlite", cfg!(feature = "sqlite")),
    ];
    features.into_iter().filter(|(_, is_on)| *is_on).map(|(name, _)| name).collect::<Vec<_>>().join(",")
}

/// All series as Prometheus reads them.
pub(super) async fn show(call: Call) -> Answer {
    let families = call.runtime().metrics().registry().gather();
    let mut text = Vec::with_capacity(16 << 10);
    TextEncoder::new().encode(&families, &mut text).map_err(|error| {
        tracing::error!(%error, "the metrics could not be written");
        Problem::internal()
    })?;
    let mut response = reply::bytes(text, "text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}
