//! Putting the server together: the only file that sees every layer.

use std::{io, sync::Arc, time::Duration};

use event_sourcing_actors::{Runtime, ports::Traces};
use event_sourcing_cqrs::{
    app::{self, App, AppError, Cache, Presence, Storage},
    auth::{proxies::TrustedProxies, rate::Quota},
    http::{self, Health, HealthCheck, HttpContext, HttpOptions},
    settings::{Database, ListenAddress, Settings},
    telemetry::{LogControl, Tracing},
};
use futures_util::future::BoxFuture;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::shutdown::{Ending, Signals, StopError};

/// How often it is looked whether the runtime is alive.
const WATCH: Duration = Duration::from_millis(500);

/// Why a server did not start, or did not end well.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServeError {
    /// The name of the address stands for none.
    #[error(
        "cannot listen on {address}: this machine does not know that name ({source}); set BIND_ADDRESS or --bind-address \
         to an IP address, such as 127.0.0.1:{}", address.port()
    )]
    Name {
        /// As set.
        address: ListenAddress,
        /// The resolver's answer.
        source: io::Error,
    },
    /// The address is taken, or not ours.
    #[error("cannot listen on {address}: {}", bind_problem(source))]
    Bind {
        /// As set, and what its name stands for.
        address: String,
        /// The system's answer.
        source: io::Error,
    },
    /// The system refuses something else.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The app does not start.
    #[error(transparent)]
    App(#[from] AppError),
    /// A part that everything rests on has ended.
    #[error("{0} has ended by itself; start the process again")]
    Died(&'static str),
    /// The end was not a clean one.
    #[error(transparent)]
    Stop(#[from] StopError),
}

fn bind_problem(source: &io::Error) -> String {
    match source.kind() {
        io::ErrorKind::AddrInUse => {
            "another program listens there; stop it, or choose another address with --bind-address or BIND_ADDRESS"
                .to_owned()
        }
        io::ErrorKind::AddrNotAvailable => "this machine has no such address".to_owned(),
        io::ErrorKind::PermissionDenied => "this user may not; ports from 1024 on are free to everyone".to_owned(),
        _ => source.to_string(),
    }
}

/// Serves until told to stop, or until a part of it dies.
///
/// The address comes first: if it is taken, nothing is made in the database. While a database is waited for, health is
/// told and everything else is asked to come again.
pub(crate) async fn serve(settings: Settings, log: LogControl, tracing: Tracing) -> Result<(), ServeError> {
    let ended = Box::pin(served(settings, log, tracing.traces())).await;
    tracing.close().await;
    ended
}

async fn served(settings: Settings, log: LogControl, traces: Arc<dyn Traces>) -> Result<(), ServeError> {
    let mut signals = Signals::take()?;
    let listener = listen(&settings.http.bind_address).await?;
    let address = listener.local_addr()?;
    let mut listening = settings.clone();
    listening.http.bind_address = address.into();
    for warning in listening.warnings() {
        tracing::warn!("{warning}");
    }
    let patience = Duration::from_secs(settings.event_store.connect_retry_s);
    let (options, builder) = (options(&settings), App::builder().settings(settings.clone()).traces(traces));
    let start = builder.patience(patience).start();
    let app = tokio::select! {
        app = http::answer_while_starting(&listener, &options, start) => app?,
        signal = signals.next() => {
            tracing::info!(signal, "told to stop before the database answered");
            return Ok(());
        }
    };
    let _presence = presence(&settings).await;
    if app.auth().has_no_key() {
        tracing::warn!(
            "auth.mode is api_key and there is no key, so nobody can come in: `event-sourcing-cqrs token create --role admin` \
             on this store makes the first one, also while the server runs"
        );
    }
    let context = HttpContext::new(app.runtime().clone()).auth(app.auth().clone());
    let context = context.health_check(Arc::new(DatabaseCheck(app.storage().clone())));
    let context = context.settings(settings.explain()).log(log);
    let context = app.integrity().cloned().into_iter().fold(context, HttpContext::integrity);
    let context = Arc::new(cache_check(app.cache()).into_iter().fold(context, HttpContext::health_check));
    let stop = CancellationToken::new();
    let mut server = tokio::spawn(http::serve(listener, context.clone(), options, stop.clone()));
    let (store, database) = (app.storage().kind(), settings.event_store.database_url.to_string());
    let version = env!("CARGO_PKG_VERSION");
    tracing::info!(%address, store, database, version, "serving http://{address}");

    let died = tokio::select! {
        signal = signals.next() => {
            tracing::info!(signal, "told to stop");
            None
        }
        () = death(app.runtime()) => Some("the journal or the supervisor"),
        _ = &mut server => Some("the HTTP server"),
    };
    if let Some(part) = died {
        // Nothing in flight can be answered any more, so nothing is waited for.
        return Err(ServeError::Died(part));
    }
    let (grace, drain) = (settings.http.shutdown_grace_ms, settings.http.drain_ms);
    let (grace, drain) = (Duration::from_millis(grace), Duration::from_millis(drain));
    Ending { context, server, stop, app, grace, drain }.run(&mut signals).await?;
    tracing::info!("stopped");
    Ok(())
}

/// The listener: on the first address that a name stands for.
async fn listen(set: &ListenAddress) -> Result<TcpListener, ServeError> {
    let unknown = |source| ServeError::Name { address: set.clone(), source };
    let addresses = app::addresses(set).await.map_err(unknown)?;
    // Never empty.
    let Some((first, others)) = addresses.split_first() else { return Err(unknown(io::ErrorKind::NotFound.into())) };
    let address = if set.numbers().is_some() { set.to_string() } else { format!("{set} ({first})") };
    let listener = TcpListener::bind(first).await.map_err(|source| ServeError::Bind { address, source })?;
    if !others.is_empty() {
        tracing::info!(%first, ?others, "{set} stands for several addresses: listening on {first} alone");
    }
    Ok(listener)
}

/// Makes this server known beside a database that is a file, and tells of another one that works on it.
async fn presence(settings: &Settings) -> Option<Presence> {
    let Database::Sqlite { path } = &settings.event_store.database_url else { return None };
    let presence = match Presence::announce(path).await {
        Ok(presence) => presence,
        Err(error) => {
            tracing::info!(%error, "whether another server works on the same file cannot be told");
            return None;
        }
    };
    if presence.has_others() {
        tracing::warn!(
            database = %path.display(),
            "another server works on the same SQLite file. Both may: the file lets one of them write at a time, nothing is \
             lost or doubled, and each finds what the other wrote within {} ms. Read models, sagas and the seal are kept by \
             one of them while the other stands by, so two are no faster than one. If that was not meant, stop one; for \
             replicas use PostgreSQL",
            settings.projections.poll_ms
        );
    }
    Some(presence)
}

/// Resolves when the runtime can no longer do its work.
async fn death(runtime: &Runtime) {
    while runtime.health().is_alive {
        tokio::time::sleep(WATCH).await;
    }
}

fn options(settings: &Settings) -> HttpOptions {
    let wait_max = Duration::from_millis(settings.queries.wait_max_ms);
    let settings = &settings.http;
    let limit = &settings.rate_limit;
    let quota = Quota { requests: limit.requests, window: Duration::from_secs(limit.window_s) };
    HttpOptions {
        trusted_proxies: TrustedProxies {
            networks: settings.trusted_proxies.clone(),
            header: settings.forwarded_header,
        },
        cors_origins: settings.cors.allowed_origins.clone(),
        quota: (limit.requests > 0).then_some(quota),
        wait_max,
        connections_max: settings.connections_max,
        head_deadline: Duration::from_millis(settings.head_timeout_ms),
        body_deadline: Duration::from_millis(settings.body_timeout_ms),
        body_bytes_max: settings.body_bytes_max,
        events_body_bytes_max: settings.events_body_bytes_max,
        json_depth_max: settings.json_depth_max,
        drain: Duration::from_millis(settings.drain_ms),
        ..HttpOptions::default()
    }
}

/// Whether the database answers at all.
#[derive(Debug)]
struct DatabaseCheck(Storage);

impl HealthCheck for DatabaseCheck {
    fn name(&self) -> &str {
        "database"
    }

    fn check(&self) -> BoxFuture<'_, Health> {
        Box::pin(async {
            match self.0.ping().await {
                Ok(()) => Health::pass().observed(self.0.kind(), "store"),
                // The store's own words may name hosts and users.
                Err(error) => {
                    tracing::warn!(%error, "the database failed its health check");
                    Health::fail("the database does not answer")
                }
            }
        })
    }
}

#[cfg(not(feature = "redis"))]
fn cache_check(_: &Cache) -> Option<Arc<dyn HealthCheck>> {
    None
}

#[cfg(feature = "redis")]
fn cache_check(cache: &Cache) -> Option<Arc<dyn HealthCheck>> {
    use event_sourcing_cqrs::cache::redis::RedisCache;

    /// Whether the Redis answers. Nothing rests on it, so its silence is a warning.
    #[derive(Debug)]
    struct CacheCheck(Arc<RedisCache>);

    impl HealthCheck for CacheCheck {
        fn name(&self) -> &str {
            "cache"
        }

        fn check(&self) -> BoxFuture<'_, Health> {
            Box::pin(async {
                match self.0.ping().await {
                    Ok(()) => Health::pass(),
                    Err(error) => Health::warn(error.to_string()),
                }
            })
        }
    }

    let Cache::Redis(redis) = cache else { return None };
    Some(Arc::new(CacheCheck(redis.clone())))
}
