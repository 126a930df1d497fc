//! Connections: accepted here rather than by warp's own server, which bounds neither their number nor their heads and
//! whose graceful end waits for ever on one open event stream.

use std::{
    convert::Infallible,
    net::IpAddr,
    sync::{Arc, OnceLock},
    time::Duration,
};

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
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::{
    HttpContext, HttpOptions,
    connection::{Busy, Served, Timed},
    context::Server,
    metrics::HttpMetrics,
    routes,
};
use crate::auth::rate::Limiter;

/// How a server ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    /// Connections that were cut because their requests took longer than [`HttpOptions::drain`].
    pub connections_cut: usize,
}

/// Serves HTTP/1.1 on a bound listener until `shutdown`, then ends: no more connections, event streams end at once,
/// idle connections close, and requests in flight have [`HttpOptions::drain`] to finish.
///
/// Readiness is apart from this: call [`HttpContext::start_draining`] some seconds earlier, so that balancers leave
/// first. Dropping the future cuts all connections.
pub async fn serve(
    listener: TcpListener,
    context: Arc<HttpContext>,
    options: HttpOptions,
    shutdown: CancellationToken,
) -> Drained {
    let metrics = HttpMetrics::new(context.runtime.metrics());
    let limiter = options.quota.map(Limiter::new);
    let (openapi, shutdown_of_streams) = (OnceLock::new(), shutdown.clone());
    let server = Arc::new(Server { context, options, metrics, openapi, limiter, shutdown: shutdown_of_streams });
    let permits = Arc::new(Semaphore::new(server.options.connections_max.min(Semaphore::MAX_PERMITS)));
    let mut connections = JoinSet::new();
    while let Some(Some((stream, peer, permit))) = shutdown.run_until_cancelled(next(&listener, &permits)).await {
        connections.spawn(connection(stream, peer, permit, server.clone()));
        while connections.try_join_next().is_some() {}
    }
    drop(listener);
    let give_up = Instant::now() + server.options.drain;
    while let Ok(Some(_)) = tokio::time::timeout_at(give_up, connections.join_next()).await {}
    let connections_cut = connections.len();
    connections.shutdown().await;
    Drained { connections_cut }
}

/// The next connection, once there is room for it; `None` is never answered while the listener lives.
async fn next(listener: &TcpListener, permits: &Arc<Semaphore>) -> Option<(TcpStream, IpAddr, OwnedSemaphorePermit)> {
    let permit = permits.clone().acquire_owned().await.ok()?;
    let mut pause = Duration::from_millis(5);
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => return Some((stream, peer.ip(), permit)),
            // The peer's business: it went away before it was accepted.
            Err(error) if is_of_one_connection(&error) => {}
            // Ours, such as too many open files: wait until some are closed.
            Err(error) => {
                tracing::error!(%error, "a connection could not be accepted");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(1));
            }
        }
    }
}

fn is_of_one_connection(error: &std::io::Error) -> bool {
    use std::io::ErrorKind;
    matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset)
}

/// Serves one connection to its end.
async fn connection(stream: TcpStream, peer: IpAddr, permit: OwnedSemaphorePermit, server: Arc<Server>) {
    let _open = Open::new(&server);
    let _ = stream.set_nodelay(true);
    let (options, busy) = (&server.options, Busy::default());
    let stream = TokioIo::new(Timed::new(stream, busy.clone(), options));
    let routes = TowerToHyperService::new(warp::service(routes::filter(server.clone(), peer)));
    let service = service_fn(move |request| {
        let (answer, serving) = (routes.call(request), busy.begin());
        async move { Ok::<_, Infallible>(answer.await?.map(|body| Served { body, _serving: serving })) }
    });
    let mut builder = http1::Builder::new();
    builder
        // Only the last resort: `Timed` is stricter where it can be.
        .timer(TokioTimer::new())
        .header_read_timeout(options.keep_alive_idle.max(options.head_deadline))
        .max_buf_size(options.head_bytes_max.max(8 << 10))
        // A client that closes its half is gone: else a silent event stream would never notice.
        .half_close(false);
    let mut served = std::pin::pin!(builder.serve_connection(stream, service));
    let ended = tokio::select! {
        ended = &mut served => ended,
        () = server.shutdown.cancelled() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
    drop(permit);
}

/// Counts an open connection for as long as it lives.
struct Open(Option<prometheus::IntGauge>);

impl Open {
    fn new(server: &Server) -> Self {
        let gauge = server.metrics.connections.clone();
        if let Some(gauge) = &gauge {
            gauge.inc();
        }
        Self(gauge)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if let Some(gauge) = &self.0 {
            gauge.dec();
        }
    }
}
