//! The span of a request: what its log lines carry, and the root of what it sets off in this process.

use event_sourcing_actors::ports::Traces;
use tracing::{Span, field::Empty};
use warp::http::{HeaderMap, Method, StatusCode};

use super::{context::Server, request::Ids};

/// The ids of a request and its span, which goes on with the trace that the client names.
///
/// A client that names none hears of the span itself, where somebody listens to spans, and of made-up ids elsewhere.
pub(super) fn begin(server: &Server, method: &Method, route: &'static str, headers: &HeaderMap) -> (Ids, Span) {
    let mut ids = Ids::of(headers);
    if is_of_machines(route) {
        return (ids, Span::none());
    }
    let traces = traces(server);
    let is_named = ids.sent_traceparent().is_some() || !traces.is_on();
    let span = tracing::info_span!(
        "request",
        request.id = ids.request_id(),
        correlation.id = ids.correlation_id(),
        trace.id = is_named.then(|| ids.trace_id()),
        http.request.method = %method,
        http.route = route,
        http.response.status_code = Empty,
        otel.name = Empty,
        otel.kind = traces.is_on().then_some("server"),
        otel.status_code = Empty,
    );
    if traces.is_on() && !span.is_disabled() {
        span.record("otel.name", format!("{method} {route}"));
        match ids.sent_traceparent() {
            Some(traceparent) => traces.continue_from(&span, traceparent),
            None => {
                ids.name_trace(traces.traceparent(&span));
                span.record("trace.id", ids.trace_id());
            }
        }
    }
    (ids, span)
}

/// Notes how it went.
pub(super) fn end(server: &Server, span: &Span, status: StatusCode) {
    // Only for those who listen: the log would have to write the span's fields anew.
    if traces(server).is_on() && !span.is_disabled() {
        span.record("http.response.status_code", status.as_u16());
        if status.is_server_error() {
            span.record("otel.status_code", "ERROR");
        }
    }
}

fn traces(server: &Server) -> &dyn Traces {
    &**server.context.runtime.traces()
}

/// Whether a route is asked by machines every few seconds: nobody wants to find that among what people did.
fn is_of_machines(route: &str) -> bool {
    route == "/metrics" || route == "/health" || route.starts_with("/health/")
}
