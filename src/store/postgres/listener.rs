//! The session that listens: `NOTIFY` of other replicas, heard on a connection of its own.
//!
//! The append function tells the log's new head on `es_events`, read models tell on `es_views` that they have moved. A
//! session that is lost is made again with growing pauses; until then nobody misses more than the next look at the log.

use std::{fmt, time::Duration};

use event_sourcing_actors::{
    Position,
    ports::{Wakeup, Wakeups},
};
use futures_util::{
    FutureExt, StreamExt,
    stream::{self, BoxStream},
};
use sqlx::{
    Error,
    postgres::{PgConnectOptions, PgListener, PgNotification, PgPoolOptions},
};
use tokio::time::{Instant, sleep, timeout};

use super::PostgresStore;

const EVENTS: &str = "es_events";
const VIEWS: &str = "es_views";

/// It is silent by trade, so the server must not end it for that; a dead peer is noticed from both ends.
const SESSION: &str = "SELECT set_config('idle_session_timeout', '0', false), \
     set_config('tcp_keepalives_idle', '10', false), set_config('tcp_keepalives_interval', '5', false), \
     set_config('tcp_keepalives_count', '2', false)";
/// After so much silence the server is asked for a sign of life: a host that is gone says nothing either.
const SILENCE: Duration = Duration::from_secs(15);
const SIGN_OF_LIFE: &str = "SELECT 1";
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// Hears of other replicas. Each stream of wake-ups is one session, made when it is first asked and ended with it.
#[derive(Clone)]
pub struct PostgresListener {
    options: PgConnectOptions,
    /// How long each step of making a session may take, and each sign of life.
    limit: Duration,
}

impl fmt::Debug for PostgresListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never the options: they may hold a password.
        f.debug_struct("PostgresListener").field("limit", &self.limit).finish_non_exhaustive()
    }
}

impl PostgresStore {
    /// Hears of other replicas on this log; connects when it is asked to listen.
    #[must_use]
    pub fn listener(&self) -> PostgresListener {
        let options = self.pool.connect_options().as_ref().clone();
        PostgresListener {
            options: options.application_name("event-sourcing-cqrs listener"),
            limit: self.pool.options().get_acquire_timeout(),
        }
    }
}

impl Wakeups for PostgresListener {
    fn listen(&self) -> BoxStream<'static, Wakeup> {
        let listening = Listening { door: self.clone(), session: None, pause: Duration::ZERO, is_told: false };
        stream::unfold(listening, |mut listening| async move { Some((listening.next().await, listening)) }).boxed()
    }
}

/// One stream of wake-ups.
struct Listening {
    door: PostgresListener,
    session: Option<Session>,
    /// Before the next session.
    pause: Duration,
    /// Whether the trouble is in the log already.
    is_told: bool,
}

struct Session {
    listener: PgListener,
    since: Instant,
}

impl Listening {
    async fn next(&mut self) -> Wakeup {
        loop {
            let Some(session) = &mut self.session else {
                sleep(self.pause).await;
                match self.door.session().await {
                    Ok(session) => {
                        self.session = Some(session);
                        if std::mem::take(&mut self.is_told) {
                            tracing::info!("hears of other replicas again");
                        }
                        return Wakeup::Resync;
                    }
                    Err(error) => self.rest(&error, Duration::ZERO),
                }
                continue;
            };
            match session.heard(self.door.limit).await {
                Ok(Some(wakeup)) => return wakeup,
                Ok(None) => {}
                Err(error) => {
                    let age = session.since.elapsed();
                    self.session = None;
                    self.rest(&error, age);
                }
            }
        }
    }

    /// Sets the pause before the next session: short when the last one lived long, else longer each time.
    fn rest(&mut self, error: &Error, age: Duration) {
        self.pause = if age > PAUSE_MAX { PAUSE_MIN } else { (self.pause * 2).clamp(PAUSE_MIN, PAUSE_MAX) };
        if !std::mem::replace(&mut self.is_told, true) {
            tracing::warn!(%error, "cannot hear of other replicas for now; their events come a little later");
        }
    }
}

impl PostgresListener {
    async fn session(&self) -> Result<Session, Error> {
        let made = timeout(self.limit, async {
            // A pool only because the driver's listener wants one: a single session, neither replaced nor shared.
            let pool = PgPoolOptions::new().max_connections(1).max_lifetime(None).idle_timeout(None);
            let pool = pool.acquire_timeout(self.limit).connect_lazy_with(self.options.clone());
            let mut listener = PgListener::connect_with(&pool).await?;
            // To connect again is our business: with pauses, and told to the reader.
            listener.eager_reconnect(false);
            listener.ignore_pool_close_event(true);
            sqlx::query(SESSION).execute(&mut listener).await?;
            listener.listen_all([EVENTS, VIEWS]).await?;
            Ok(Session { listener, since: Instant::now() })
        });
        made.await.unwrap_or_else(|_| Err(timed_out()))
    }
}

impl Session {
    /// The next wake-up, or none after a silence that the server could explain.
    async fn heard(&mut self, limit: Duration) -> Result<Option<Wakeup>, Error> {
        match timeout(SILENCE, self.listener.try_recv()).await {
            Ok(Ok(Some(notification))) => Ok(wakeup(&notification)),
            Ok(Ok(None)) => Err(std::io::Error::from(std::io::ErrorKind::ConnectionAborted).into()),
            Ok(Err(error)) => Err(error),
            Err(_) => {
                let sign = sqlx::query(SIGN_OF_LIFE).execute(&mut self.listener).map(|result| result.map(|_| None));
                timeout(limit, sign).await.unwrap_or_else(|_| Err(timed_out()))
            }
        }
    }
}

/// What a notification means; nothing if somebody else has sent it and it cannot be read.
fn wakeup(notification: &PgNotification) -> Option<Wakeup> {
    match notification.channel() {
        EVENTS => {
            let head = notification.payload().parse::<i64>().ok().filter(|head| *head > 0)?;
            Some(Wakeup::Log(Position::from_i64(head)))
        }
        VIEWS => Some(Wakeup::Views),
        _ => None,
    }
}

fn timed_out() -> Error {
    std::io::Error::from(std::io::ErrorKind::TimedOut).into()
}
