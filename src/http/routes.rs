//! The whole table of routes, and the way of a request through it.
//!
//! Routes are data, so that `Allow`, the list at `/`, metrics and tests all come from the one table; warp takes the
//! request apart and runs `serve`.

use std::{convert::Infallible, net::IpAddr, panic::AssertUnwindSafe, sync::Arc, time::Instant};

use bytes::{Buf, Bytes};
use futures_util::{FutureExt, Stream, StreamExt, future::BoxFuture};
use hyper::body::Body;
use tracing::Instrument;
use warp::{
    Filter,
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    path::FullPath,
    reply::Response,
};

use super::{
    aggregates, audit, body, branches, commands, config,
    context::Server,
    cors, docs,
    error::{self, Answer, Problem},
    events, forwarded,
    gate::{self, Asking, Passage},
    health, index, integrity, metrics, openapi, operations, problems, projections, queries, replay, reply,
    request::{Call, Ids, Incoming},
    sagas, subjects, temporal, tokens, trace, version,
};
use crate::auth::Role;

#[cfg(feature = "console")]
use super::console;

type Handler = fn(Call) -> BoxFuture<'static, Answer>;

/// A path and what it does for each method.
#[derive(Debug)]
pub(super) struct Route {
    /// Segments in braces are parameters.
    pub path: &'static str,
    pub methods: &'static [Entry],
}

/// What a path does for one method, and for whom.
#[derive(Debug)]
pub(super) struct Entry {
    pub method: Method,
    /// Who may.
    pub demand: Demand,
    /// Whether it is an administrative act: it is recorded in the audit before it is begun, and how it ended.
    pub is_audited: bool,
    /// Whether it is not counted against any quota.
    pub is_exempt: bool,
    handler: Handler,
}

/// Who may use a route, where callers have to prove who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Demand {
    /// Everybody: it holds no data.
    Open,
    /// Whoever has this role.
    Role(Role),
}

macro_rules! demand {
    (open) => {
        Demand::Open
    };
    (exempt) => {
        Demand::Open
    };
    (reader) => {
        Demand::Role(Role::Reader)
    };
    (writer) => {
        Demand::Role(Role::Writer)
    };
    (operator) => {
        Demand::Role(Role::Operator)
    };
    (auditor) => {
        Demand::Role(Role::Auditor)
    };
    (admin) => {
        Demand::Role(Role::Admin)
    };
}

/// `METHOD who => handler`; `who` is a role, `open`, or `exempt`, which is open and not counted. `METHOD who audited =>
/// handler` is an administrative act.
macro_rules! routes {
    ($($(#[$condition:meta])? $path:literal $($method:ident $who:ident $($audited:ident)? => $handler:path),+;)+) => {
        /// Every route.
        pub(super) static ROUTES: &[Route] = &[$($(#[$condition])? Route {
            path: $path,
            methods: &[$(Entry {
                method: Method::$method,
                demand: demand!($who),
                is_audited: routes!(@audited $($audited)?),
                is_exempt: matches!(stringify!($who).as_bytes(), b"exempt"),
                handler: |call| Box::pin($handler(call)),
            }),+],
        }),+];
    };
    (@audited) => { false };
    (@audited audited) => { true };
}

routes! {
    "/"                                       GET open => index::show;
    "/docs"                                   GET open => docs::show;
    "/docs/{file}"                            GET open => docs::file;
    #[cfg(feature = "console")]
    "/console"                                GET exempt => console::page;
    #[cfg(feature = "console")]
    "/console/"                               GET exempt => console::with_slash;
    #[cfg(feature = "console")]
    "/console/assets/{release}/{folder}/{name}" GET exempt => console::asset;
    "/api/v1/openapi.json"                    GET open => openapi::show;
    "/api/v1/config"                          GET operator => config::show;
    "/api/v1/log-level"                       PUT operator audited => config::set_log_level;
    "/api/v1/commands"                        POST writer => commands::send;
    "/api/v1/events"                          GET reader => events::of_log, POST writer => commands::append;
    "/api/v1/events/{aggregate_id}"           GET reader => events::of_stream;
    "/api/v1/replay"                          POST reader => replay::replay;
    "/api/v1/temporal-query"                  POST reader => temporal::query;
    "/api/v1/aggregates"                      GET reader => aggregates::list;
    "/api/v1/aggregates/{aggregate_id}"       GET reader => aggregates::show;
    "/api/v1/aggregates/{aggregate_id}/diff"  GET reader => temporal::diff;
    "/api/v1/aggregates/{aggregate_id}/verify" GET auditor => integrity::verify_stream;
    "/api/v1/integrity/checkpoint"            GET reader => integrity::checkpoint;
    "/api/v1/integrity/key"                   GET reader => integrity::key;
    "/api/v1/integrity/proof"                 GET reader => integrity::proof;
    "/api/v1/integrity/consistency"           GET reader => integrity::consistency;
    "/api/v1/integrity/verify"                POST auditor => integrity::verify;
    "/api/v1/queries"                         POST reader => queries::ask;
    "/api/v1/projections"                     GET reader => projections::list;
    "/api/v1/projections/{name}"              GET reader => projections::show;
    "/api/v1/projections/{name}/rebuild"      POST operator audited => projections::rebuild;
    "/api/v1/projections/{name}/rollback"     POST operator audited => projections::rollback;
    "/api/v1/projections/{name}/pause"        POST operator audited => projections::pause;
    "/api/v1/projections/{name}/resume"       POST operator audited => projections::resume;
    "/api/v1/projections/{name}/parked"       GET reader => projections::parked;
    "/api/v1/projections/{name}/parked/{position}/retry" POST operator audited => projections::retry;
    "/api/v1/projections/{name}/parked/{position}/skip" POST operator audited => projections::skip;
    "/api/v1/subjects/{subject_id}/erase"     POST admin audited => subjects::erase;
    "/api/v1/operations"                      GET reader => operations::list;
    "/api/v1/operations/{operation_id}"       GET reader => operations::show, DELETE operator audited => operations::cancel;
    "/api/v1/sagas"                           GET reader => sagas::list, POST writer => sagas::start;
    "/api/v1/sagas/{saga_id}"                 GET reader => sagas::show;
    "/api/v1/sagas/{saga_id}/retry"           POST operator audited => sagas::retry;
    "/api/v1/sagas/{saga_id}/cancel"          POST operator audited => sagas::cancel;
    "/api/v1/branches"                        GET reader => branches::list, POST writer => branches::create;
    "/api/v1/branches/{branch_id}"            GET reader => branches::show, DELETE operator audited => branches::delete;
    "/api/v1/branches/{branch_id}/diff"       GET reader => branches::diff;
    "/api/v1/branches/{branch_id}/merge"      POST operator audited => branches::merge;
    "/api/v1/tokens"                          GET admin => tokens::list, POST admin audited => tokens::create;
    "/api/v1/tokens/{token_id}"               DELETE admin audited => tokens::revoke;
    "/api/v1/audit"                           GET auditor => audit::list;
    "/health"                                 GET exempt => health::show;
    "/health/live"                            GET exempt => health::live;
    "/health/ready"                           GET exempt => health::ready;
    "/health/startup"                         GET exempt => health::startup;
    "/metrics"                                GET exempt => metrics::show;
    "/version"                                GET reader => version::show;
    "/problems/{code}"                        GET open => problems::show;
}

/// Every path with its methods, as documentation and tests want it.
pub fn route_table() -> impl Iterator<Item = (&'static str, Vec<&'static str>)> {
    ROUTES.iter().map(|route| (route.path, route.methods.iter().map(|entry| entry.method.as_str()).collect()))
}

/// One line of the table of who may do what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RouteAccess {
    /// Segments in braces are parameters.
    pub path: &'static str,
    /// The method; HEAD is as GET.
    pub method: &'static str,
    /// The role that it demands; `None` if everybody may.
    pub role: Option<Role>,
    /// Whether it is recorded in the audit.
    pub is_audited: bool,
    /// Whether it is not counted against any quota.
    pub is_exempt: bool,
}

/// Every path and method with the role it demands.
pub fn access_table() -> impl Iterator<Item = RouteAccess> {
    ROUTES.iter().flat_map(|Route { path, methods }| {
        methods.iter().map(|entry| RouteAccess {
            path,
            method: entry.method.as_str(),
            role: match entry.demand {
                Demand::Open => None,
                Demand::Role(role) => Some(role),
            },
            is_audited: entry.is_audited,
            is_exempt: entry.is_exempt,
        })
    })
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

    fn entry(&self, method: &Method) -> Option<&'static Entry> {
        let method = if *method == Method::HEAD { &Method::GET } else { method };
        self.methods.iter().find(|entry| entry.method == method)
    }

    fn allow(&self) -> HeaderValue {
        let mut names: Vec<&str> = self.methods.iter().map(|entry| entry.method.as_str()).collect();
        if names.contains(&"GET") {
            names.push("HEAD");
        }
        names.push("OPTIONS");
        HeaderValue::from_str(&names.join(", ")).unwrap_or(HeaderValue::from_static("OPTIONS"))
    }
}

/// The warp filter of everything that one peer sends.
pub(super) fn filter(
    server: Arc<Server>,
    peer: IpAddr,
) -> impl Filter<Extract = (Response,), Error = Infallible> + Clone + Send + Sync + 'static {
    let query = warp::query::raw().or(warp::any().map(String::new)).unify();
    warp::any()
        .map(move || server.clone())
        .and(warp::method())
        .and(warp::path::full())
        .and(query)
        .and(warp::header::headers_cloned())
        .and(warp::body::stream())
        .then(move |server, method, path: FullPath, query, headers, body| {
            serve(server, peer, method, path.as_str().to_owned(), query, headers, incoming(body))
        })
        // The body is there exactly once; what is left of rejections cannot be met.
        .or(warp::any().map(|| reply::empty(StatusCode::INTERNAL_SERVER_ERROR)))
        .unify()
}

pub(super) fn incoming<B: Buf>(body: impl Stream<Item = Result<B, warp::Error>> + Send + Sync + 'static) -> Incoming {
    Box::pin(body.map(|chunk| chunk.map(|mut chunk| chunk.copy_to_bytes(chunk.remaining()))))
}

/// Answers one request, whatever happens.
async fn serve(
    server: Arc<Server>,
    peer: IpAddr,
    method: Method,
    path: String,
    query: String,
    headers: HeaderMap,
    mut body: Incoming,
) -> Response {
    let started = Instant::now();
    let peer = forwarded::client(&server.options.trusted_proxies, peer, &headers);
    let origin = cors::allowed(&server.options.cors_origins, &headers);
    let found = ROUTES.iter().find_map(|route| route.parameters(&path).map(|parameters| (route, parameters)));
    let entry = found.as_ref().and_then(|(route, _)| route.entry(&method));
    let label = found.as_ref().map_or("unmatched", |(route, _)| route.path);
    let (ids, span) = trace::begin(&server, &method, label, &headers);
    let mut passage = match entry {
        Some(entry) => gate::pass(&server, entry, peer, &method, &headers).instrument(span.clone()).await,
        None => Passage::none(),
    };
    if entry.is_none() || passage.outcome.is_err() || is_without_body(&method) {
        body::discard(&mut body, &headers, &server.options).await;
    }
    let asking = || Asking { server: &server, peer, ids: &ids, act: format!("{method} {label}"), path: &path };
    let access = std::mem::replace(&mut passage.outcome, Ok(crate::auth::Access::unguarded()));
    let answer = match (found, entry, access) {
        (None, ..) => Err(Problem::new(error::NOT_FOUND, "there is no such path; GET / lists all paths")),
        (Some((route, _)), None, _) => without_handler(route, &method, origin.as_ref(), &headers),
        (Some(_), Some(_), Err(problem)) => Err(problem),
        (Some((_, parameters)), Some(entry), Ok(access)) => {
            let (server, ids, path, method) = (server.clone(), ids.clone(), path.clone(), method.clone());
            let (branch, takes_branch) = (None, false);
            let call =
                Call { server, ids, access, method, path, query, headers, parameters, body, branch, takes_branch };
            handled(entry, label, call, asking).instrument(span.clone()).await
        }
    };
    let mut response = answer.unwrap_or_else(|problem| problem.into_response(&path, &ids));
    if matches!(response.status(), StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
        asking().refused(&passage, response.status());
    }
    finish(&server, &ids, &mut response);
    passage.write(response.headers_mut());
    cors::write(origin.as_ref(), !server.options.cors_origins.is_empty(), &mut response);
    trace::end(&server, &span, response.status());
    server.metrics.observe(method.as_str(), label, response.status(), started.elapsed().as_secs_f64());
    if method == Method::HEAD && response.body().size_hint().exact().is_none() {
        // hyper leaves out a body whose length it can tell; one without an end must not be started.
        *response.body_mut() = Bytes::new().into();
    }
    response
}

/// What the handler answers; of an administrative act, not before it is recorded.
async fn handled<'a>(entry: &Entry, label: &str, mut call: Call, asking: impl Fn() -> Asking<'a>) -> Answer {
    let begun = if entry.is_audited { asking().begin(call.principal()).await } else { Ok(None) };
    let act = match begun {
        Ok(act) => act,
        Err(problem) => {
            body::discard(&mut call.body, &call.headers, &call.server.options).await;
            return Err(problem);
        }
    };
    let caught = AssertUnwindSafe(async move { (entry.handler)(call).await }).catch_unwind().await;
    let answer = caught.unwrap_or_else(|_| Err(panicked(label)));
    if let Some(act) = act {
        let status = answer.as_ref().map_or_else(|problem| problem.code.status, Response::status);
        act.end(gate::outcome(status), Some(status.as_u16()));
    }
    answer
}

/// Whether handlers of this method never look at a body.
fn is_without_body(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::DELETE)
}

fn without_handler(route: &Route, method: &Method, origin: Option<&cors::Origin>, request: &HeaderMap) -> Answer {
    if *method == Method::OPTIONS {
        let mut response = reply::empty(StatusCode::NO_CONTENT);
        response.headers_mut().insert(header::ALLOW, route.allow());
        cors::preflight(origin, request, &route.allow(), &mut response);
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
