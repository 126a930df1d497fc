//! The whole table of routes, and the way of a request through it.
//!
//! Routes are data, so that `Allow`, the list at `/`, metrics and tests all come from the one table; warp takes the
//! request apart and runs `serve`.

use std::{convert::Infallible, panic::AssertUnwindSafe, sync::Arc, time::Instant};

use bytes::{Buf, Bytes};
use event_sourcing_actors::command_bus::Principal;
use futures_util::{FutureExt, Stream, StreamExt, future::BoxFuture};
use hyper::body::Body;
use warp::{
    Filter,
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    path::FullPath,
    reply::Response,
};

use super::{
    aggregates, body, commands, config,
    context::Server,
    docs,
    error::{self, Answer, Problem},
    events, health, index, integrity, metrics, openapi, operations, problems, projections, queries, replay, reply,
    request::{Call, Ids, Incoming},
    sagas, subjects, temporal, version,
};

type Handler = fn(Call) -> BoxFuture<'static, Answer>;

/// A path and what it does for each method.
#[derive(Debug)]
pub(super) struct Route {
    /// Segments in braces are parameters.
    pub path: &'static str,
    pub methods: &'static [(Method, Handler)],
}

macro_rules! routes {
    ($($path:literal $($method:ident $handler:path),+;)+) => {
        /// Every route.
        pub(super) static ROUTES: &[Route] = &[$(Route {
            path: $path,
            methods: &[$((Method::$method, |call| Box::pin($handler(call)))),+],
        }),+];
    };
}

routes! {
    "/"                                       GET index::show;
    "/docs"                                   GET docs::show;
    "/docs/{file}"                            GET docs::file;
    "/api/v1/openapi.json"                    GET openapi::show;
    "/api/v1/config"                          GET config::show;
    "/api/v1/log-level"                       PUT config::set_log_level;
    "/api/v1/commands"                        POST commands::send;
    "/api/v1/events"                          GET events::of_log, POST commands::append;
    "/api/v1/events/{aggregate_id}"           GET events::of_stream;
    "/api/v1/replay"                          POST replay::replay;
    "/api/v1/temporal-query"                  POST temporal::query;
    "/api/v1/aggregates"                      GET aggregates::list;
    "/api/v1/aggregates/{aggregate_id}"       GET aggregates::show;
    "/api/v1/aggregates/{aggregate_id}/diff"  GET temporal::diff;
    "/api/v1/aggregates/{aggregate_id}/verify" GET integrity::verify_stream;
    "/api/v1/integrity/checkpoint"            GET integrity::checkpoint;
    "/api/v1/integrity/key"                   GET integrity::key;
    "/api/v1/integrity/proof"                 GET integrity::proof;
    "/api/v1/integrity/consistency"           GET integrity::consistency;
    "/api/v1/integrity/verify"                POST integrity::verify;
    "/api/v1/queries"                         POST queries::ask;
    "/api/v1/projections"                     GET projections::list;
    "/api/v1/projections/{name}"              GET projections::show;
    "/api/v1/projections/{name}/rebuild"      POST projections::rebuild;
    "/api/v1/projections/{name}/rollback"     POST projections::rollback;
    "/api/v1/projections/{name}/pause"        POST projections::pause;
    "/api/v1/projections/{name}/resume"       POST projections::resume;
    "/api/v1/projections/{name}/parked"       GET projections::parked;
    "/api/v1/projections/{name}/parked/{position}/retry" POST projections::retry;
    "/api/v1/projections/{name}/parked/{position}/skip" POST projections::skip;
    "/api/v1/subjects/{subject_id}/erase"     POST subjects::erase;
    "/api/v1/operations"                      GET operations::list;
    "/api/v1/operations/{operation_id}"       GET operations::show, DELETE operations::cancel;
    "/api/v1/sagas"                           GET sagas::list, POST sagas::start;
    "/api/v1/sagas/{saga_id}"                 GET sagas::show;
    "/api/v1/sagas/{saga_id}/retry"           POST sagas::retry;
    "/api/v1/sagas/{saga_id}/cancel"          POST sagas::cancel;
    "/health"                                 GET health::show;
    "/health/live"                            GET health::live;
    "/health/ready"                           GET health::ready;
    "/health/startup"                         GET health::startup;
    "/metrics"                                GET metrics::show;
    "/version"                                GET version::show;
    "/problems/{code}"                        GET problems::show;
}

/// Every path with its methods, as documentation and tests want it.
pub fn route_table() -> impl Iterator<Item = (&'static str, Vec<&'static str>)> {
    ROUTES.iter().map(|route| (route.path, route.methods.iter().map(|(method, _)| method.as_str()).collect()))
}

impl Route {
    /// The parameters of a path that is this route's.
    fn parameters(&self, path: &str) -> Option<Vec<String>> {
        let (mut wanted, mut sent) = (self.path.split('/'), path.split('/'));
        let mut parameters = Vec::new();
        loop {
            match (wanted.next(), sent.next()) {
                (None, None) => return Some(parameters),
                (Some(wanted), Some(sent)) if wanted.starts_with('{') => parameters.push(sent.to_owned()),
                (Some(wanted), Some(sent)) if wanted == sent => {}
                _ => return None,
            }
        }
    }

    fn handler(&self, method: &Method) -> Option<Handler> {
        let method = if *method == Method::HEAD { &Method::GET } else { method };
        self.methods.iter().find(|(known, _)| known == method).map(|(_, handler)| *handler)
    }

    fn allow(&self) -> HeaderValue {
        let mut names: Vec<&str> = self.methods.iter().map(|(method, _)| method.as_str()).collect();
        if names.contains(&"GET") {
            names.push("HEAD");
        }
        names.push("OPTIONS");
        HeaderValue::from_str(&names.join(", ")).unwrap_or(HeaderValue::from_static("OPTIONS"))
    }
}

/// The warp filter of everything.
pub(super) fn filter(
    server: Arc<Server>,
) -> impl Filter<Extract = (Response,), Error = Infallible> + Clone + Send + Sync + 'static {
    let query = warp::query::raw().or(warp::any().map(String::new)).unify();
    warp::any()
        .map(move || server.clone())
        .and(warp::method())
        .and(warp::path::full())
        .and(query)
        .and(warp::header::headers_cloned())
        .and(warp::body::stream())
        .then(|server, method, path: FullPath, query, headers, body| {
            serve(server, method, path.as_str().to_owned(), query, headers, incoming(body))
        })
        // The body is there exactly once; what is left of rejections cannot be met.
        .or(warp::any().map(|| reply::empty(StatusCode::INTERNAL_SERVER_ERROR)))
        .unify()
}

fn incoming<B: Buf>(body: impl Stream<Item = Result<B, warp::Error>> + Send + Sync + 'static) -> Incoming {
    Box::pin(body.map(|chunk| chunk.map(|mut chunk| chunk.copy_to_bytes(chunk.remaining()))))
}

/// Answers one request, whatever happens.
async fn serve(
    server: Arc<Server>,
    method: Method,
    path: String,
    query: String,
    headers: HeaderMap,
    mut body: Incoming,
) -> Response {
    let started = Instant::now();
    let ids = Ids::of(&headers);
    let found = ROUTES.iter().find_map(|route| route.parameters(&path).map(|parameters| (route, parameters)));
    let handler = found.as_ref().and_then(|(route, _)| route.handler(&method));
    if handler.is_none() || is_without_body(&method) {
        body::discard(&mut body, &headers, &server.options).await;
    }
    let label = found.as_ref().map_or("unmatched", |(route, _)| route.path);
    let answer = match (found, handler) {
        (None, _) => Err(Problem::new(error::NOT_FOUND, "there is no such path; GET / lists all paths")),
        (Some((route, _)), None) => without_handler(route, &method),
        (Some((_, parameters)), Some(handler)) => {
            let (server, ids, path) = (server.clone(), ids.clone(), path.clone());
            let (principal, method) = (Principal::anonymous(), method.clone());
            let call = Call { server, ids, principal, method, path, query, headers, parameters, body };
            let caught = AssertUnwindSafe(async move { handler(call).await }).catch_unwind().await;
            caught.unwrap_or_else(|_| Err(panicked(label)))
        }
    };
    let mut response = answer.unwrap_or_else(|problem| problem.into_response(&path, &ids));
    finish(&server, &ids, &mut response);
    server.metrics.observe(method.as_str(), label, response.status(), started.elapsed().as_secs_f64());
    if method == Method::HEAD && response.body().size_hint().exact().is_none() {
        // hyper leaves out a body whose length it can tell; one without an end must not be started.
        *response.body_mut() = Bytes::new().into();
    }
    response
}

/// Whether handlers of this method never look at a body.
fn is_without_body(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::DELETE)
}

fn without_handler(route: &Route, method: &Method) -> Answer {
    if *method == Method::OPTIONS {
        let mut response = reply::empty(StatusCode::NO_CONTENT);
        response.headers_mut().insert(header::ALLOW, route.allow());
        return Ok(response);
    }
    let allow = route.allow();
    let detail = format!("{method} is not a method of this path; it takes {}", allow.to_str().unwrap_or_default());
    Err(Problem::new(error::METHOD_NOT_ALLOWED, detail).header(header::ALLOW, allow))
}

fn panicked(route: &str) -> Box<Problem> {
    tracing::error!(http.route = route, "a handler panicked");
    Problem::internal()
}

/// What every answer carries.
fn finish(server: &Server, ids: &Ids, response: &mut Response) {
    let headers = response.headers_mut();
    ids.write(headers);
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-cache"));
    if server.context.is_draining() || server.shutdown.is_cancelled() {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_single_segments() {
        let route = ROUTES.iter().find(|route| route.path == "/api/v1/events/{aggregate_id}").unwrap();
        assert_eq!(route.parameters("/api/v1/events/a%2Fb").unwrap(), ["a%2Fb"]);
        assert_eq!(route.parameters("/api/v1/events/a/b"), None);
        assert_eq!(route.parameters("/api/v1/events"), None);
    }
}
