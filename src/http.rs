//! The HTTP door: warp in front of the actors' buses, feed and history.
//!
//! A request meets, in this order: `accept` (connections and their deadlines), `routes` (path and method), one
//! resource (`commands`, `events`, …), and leaves through `reply` or `error`. Everything that goes wrong is an answer of
//! type `application/problem+json`, never a warp rejection: a rejection would fall through to other routes. A head
//! that is no HTTP at all is refused by hyper itself; `unreadable` makes a problem of that, too.
//!
//! This module holds no store and no actor: it speaks to [`Runtime`](event_sourcing_actors::Runtime) alone.

mod accept;
mod aggregates;
mod audit;
mod body;
mod branches;
mod codes;
mod commands;
mod config;
mod connection;
#[cfg(feature = "console")]
mod console;
mod context;
mod cors;
mod docs;
mod error;
mod events;
mod forwarded;
mod gate;
mod health;
mod index;
mod integrity;
mod live;
mod metrics;
mod negotiate;
mod openapi;
mod operations;
mod prefer;
mod problems;
mod projections;
mod queries;
mod query;
mod replay;
mod reply;
mod request;
mod routes;
mod sagas;
mod starting;
mod subjects;
mod temporal;
mod tokens;
mod trace;
mod unreadable;
mod version;

use std::time::Duration;

use crate::auth::{proxies::TrustedProxies, rate::Quota};

pub use accept::{Drained, serve};
pub use context::HttpContext;
pub use health::{Health, HealthCheck, HealthStatus};
pub use openapi::{Registered, documented_operations, openapi};
pub use routes::{RouteAccess, access_table, route_table};
pub use starting::answer_while_starting;

/// Bounds of the HTTP door, units in the names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpOptions {
    /// Connections served at once. When all are taken, further ones wait in the kernel's queue until one ends; slow
    /// ones end by their deadlines.
    pub connections_max: usize,
    /// Time from a request's first byte to the end of its head; then the connection is closed.
    pub head_deadline: Duration,
    /// Time a kept-alive connection may stay without a request; longer than a usual balancer's 60 s, so that it is
    /// the balancer who closes.
    pub keep_alive_idle: Duration,
    /// Time a client may leave an answer unread; then the connection is closed.
    pub write_stall: Duration,
    /// Time from the head of a request to the end of its body; then 408.
    pub body_deadline: Duration,
    /// Longest body, in bytes, but for events; then 413.
    pub body_bytes_max: usize,
    /// Longest body of `POST /api/v1/events`, in bytes.
    pub events_body_bytes_max: usize,
    /// Bytes of an over-long body read and thrown away, so that the client gets to read the 413.
    pub discarded_bytes_max: usize,
    /// Levels of nesting a JSON body may have.
    pub json_depth_max: usize,
    /// Longest head, in bytes.
    pub head_bytes_max: usize,
    /// Bound of each health check.
    pub health_check_deadline: Duration,
    /// Longest wait for the end of a saga, whatever `Prefer: wait` says.
    pub wait_max: Duration,
    /// Pause between two comments on a silent event stream.
    pub stream_comment: Duration,
    /// How long shutdown waits for requests in flight.
    pub drain: Duration,
    /// Origins whose pages may read answers; `*` for all.
    pub cors_origins: Vec<String>,
    /// Proxies that are believed when they say for whom they ask.
    pub trusted_proxies: TrustedProxies,
    /// Requests of one caller; as many as they like, if absent.
    pub quota: Option<Quota>,
}

impl Default for HttpOptions {
    fn default() -> Self {
        Self {
            connections_max: 10_000,
            head_deadline: Duration::from_secs(10),
            keep_alive_idle: Duration::from_secs(75),
            write_stall: Duration::from_secs(30),
            body_deadline: Duration::from_secs(30),
            body_bytes_max: 1 << 20,
            events_body_bytes_max: 4 << 20,
            discarded_bytes_max: 8 << 20,
            json_depth_max: 64,
            head_bytes_max: 64 << 10,
            health_check_deadline: Duration::from_secs(2),
            wait_max: Duration::from_secs(30),
            stream_comment: Duration::from_secs(15),
            drain: Duration::from_secs(20),
            cors_origins: Vec::new(),
            trusted_proxies: TrustedProxies::default(),
            quota: None,
        }
    }
}
