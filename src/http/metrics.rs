//! `GET /metrics`, and the measurements of the HTTP door itself.

use event_sourcing_actors::observe::Metrics;
use prometheus::{Encoder, HistogramOpts, HistogramVec, IntGauge, TextEncoder};
use warp::http::{HeaderValue, StatusCode, header};

use super::{
    error::{Answer, Problem},
    reply,
    request::Call,
    routes::ROUTES,
};

/// Bounds in seconds: from half a millisecond to beyond the command deadline.
const SECONDS: [f64; 12] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5, 10.0];

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
                let _ = duration.with_label_values(&[method.as_str(), route.path, "200"]);
            }
        }
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
