//! The door before there is a runtime behind it: health is told, everything else is asked to come again.
//!
//! A server that waits for its database is alive and not started, and whoever watches it must be able to tell that from a
//! server that hangs.

use std::{convert::Infallible, future::Future, sync::Arc, time::Duration};

use hyper::{
    server::conn::http1,
    service::{Service, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
    time::timeout,
};
use warp::{
    Filter,
    http::{HeaderMap, HeaderValue, Method, header},
    path::FullPath,
    reply::Response,
};

use super::{
    HttpOptions,
    accept::next,
    body,
    connection::{Busy, Served, Timed},
    error::{self, Problem},
    health::{self, Health},
    request::{Ids, Incoming},
    routes::incoming,
};

/// A start that is over sooner lets connections wait at the listener; they are answered as if it had been over before.
const QUIET: Duration = Duration::from_millis(500);

/// How long answers under way may take once the start is over.
const LEAVING: Duration = Duration::from_millis(500);

const WAITS: &str = "the server is starting: it waits for its database";

/// Waits for the end of a start and meanwhile answers at the listener: `/health/live` with 200, everything else with 503.
///
/// Each connection is good for one request, so that all are free when the real server takes the listener over.
pub async fn answer_while_starting<T>(
    listener: &TcpListener,
    options: &HttpOptions,
    start: impl Future<Output = T>,
) -> T {
    let mut start = std::pin::pin!(start);
    if let Ok(started) = timeout(QUIET, start.as_mut()).await {
        return started;
    }
    let options = Arc::new(options.clone());
    let permits = Arc::new(Semaphore::new(options.connections_max.min(Semaphore::MAX_PERMITS)));
    let mut connections = JoinSet::new();
    let started = loop {
        tokio::select! {
            biased;
            started = start.as_mut() => break started,
            accepted = next(listener, &permits) => {
                let Some((stream, _, permit)) = accepted else { continue };
                let options = options.clone();
                connections.spawn(async move {
                    connection(stream, options).await;
                    drop(permit);
                });
                while connections.try_join_next().is_some() {}
            }
        }
    };
    let _ = timeout(LEAVING, async { while connections.join_next().await.is_some() {} }).await;
    connections.shutdown().await;
    started
}

async fn connection(stream: TcpStream, options: Arc<HttpOptions>) {
    let _ = stream.set_nodelay(true);
    let busy = Busy::default();
    let stream = TokioIo::new(Timed::new(stream, busy.clone(), &options));
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(options.head_deadline)
        .max_buf_size(options.head_bytes_max.max(8 << 10))
        .keep_alive(false)
        .half_close(false);
    let routes = TowerToHyperService::new(warp::service(filter(options)));
    let service = service_fn(move |request| {
        let (answer, serving) = (routes.call(request), busy.begin());
        async move { Ok::<_, Infallible>(answer.await?.map(|body| Served { body, _serving: serving })) }
    });
    if let Err(error) = builder.serve_connection(stream, service).await {
        tracing::debug!(%error, "a connection ended early");
    }
}

fn filter(
    options: Arc<HttpOptions>,
) -> impl Filter<Extract = (Response,), Error = Infallible> + Clone + Send + Sync + 'static {
    warp::any()
        .map(move || options.clone())
        .and(warp::method())
        .and(warp::path::full())
        .and(warp::header::headers_cloned())
        .and(warp::body::stream())
        .then(|options: Arc<HttpOptions>, method, path: FullPath, headers, body| async move {
            answer(&options, &method, path.as_str(), &headers, incoming(body)).await
        })
        // The body is there exactly once; what is left of rejections cannot be met.
        .or(warp::any().map(|| health::simple(Health::fail(WAITS))))
        .unify()
}

async fn answer(
    options: &HttpOptions,
    method: &Method,
    path: &str,
    headers: &HeaderMap,
    mut body: Incoming,
) -> Response {
    body::discard(&mut body, headers, options).await;
    let ids = Ids::of(headers);
    let is_read = matches!(*method, Method::GET | Method::HEAD);
    let mut response = match path {
        "/health/live" if is_read => health::simple(Health::pass()),
        "/health" | "/health/ready" | "/health/startup" if is_read => health::simple(Health::fail(WAITS)),
        _ => Problem::new(error::STORE_UNAVAILABLE, format!("{WAITS}; nothing was done")).into_response(path, &ids),
    };
    let headers = response.headers_mut();
    ids.write(headers);
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}
