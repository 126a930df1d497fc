//! Health: `/health` for people and dashboards, `/health/live`, `/health/ready` and `/health/startup` for machines.
//!
//! The answers follow draft-inadarei-api-health-check-06: each key of `checks` holds a list of one.

use std::{collections::BTreeMap, fmt::Debug, sync::Arc, time::Duration};

use event_sourcing_actors::{
    Runtime,
    projections::{ProjectionReport, ProjectionStatus},
    sagas::SagaHealth,
};
use futures_util::future::{BoxFuture, join_all, join3};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value, json};
use warp::{
    http::{HeaderValue, StatusCode, header},
    reply::Response,
};

use super::{error::Answer, reply, request::Call};

/// A projection that is further behind is worth a look.
const LAG_SECONDS_MAX: f64 = 10.0;

/// How something is; the worst of all checks is the whole's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum HealthStatus {
    /// Fine.
    Pass,
    /// Serving, but somebody should look.
    Warn,
    /// Not serving.
    Fail,
}

/// The outcome of one check.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Health {
    /// How it is.
    pub status: HealthStatus,
    /// Why it is not fine; no secrets, `/health` needs no authentication.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    /// What was measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_value: Option<Value>,
    /// Its unit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_unit: Option<&'static str>,
}

impl Health {
    /// Fine.
    #[must_use]
    pub fn pass() -> Self {
        Self { status: HealthStatus::Pass, output: None, observed_value: None, observed_unit: None }
    }

    /// Serving, but somebody should look.
    #[must_use]
    pub fn warn(output: impl Into<String>) -> Self {
        Self { status: HealthStatus::Warn, output: Some(output.into()), ..Self::pass() }
    }

    /// Not serving.
    #[must_use]
    pub fn fail(output: impl Into<String>) -> Self {
        Self { status: HealthStatus::Fail, output: Some(output.into()), ..Self::pass() }
    }

    /// Adds a measurement.
    #[must_use]
    pub fn observed(self, value: impl Into<Value>, unit: &'static str) -> Self {
        Self { observed_value: Some(value.into()), observed_unit: Some(unit), ..self }
    }
}

/// Looks at something the server needs.
pub trait HealthCheck: Debug + Send + Sync + 'static {
    /// The key under `checks`, such as `database` or `cache`.
    fn name(&self) -> &str;

    /// Looks. Dropped, and counted as failed, after [`HttpOptions::health_check_deadline`](super::HttpOptions).
    fn check(&self) -> BoxFuture<'_, Health>;
}

/// Everything.
pub(super) async fn show(call: Call) -> Answer {
    let (context, deadline) = (&call.server.context, call.server.options.health_check_deadline);
    let given = join_all(context.checks.iter().map(|check| looked_at(check, deadline)));
    let (event_store, projections) = (event_store(&context.runtime, deadline), projections(&context.runtime, deadline));
    let (event_store, projections, given) = join3(event_store, projections, given).await;
    let own = [
        ("event_store".to_owned(), event_store),
        ("aggregates".to_owned(), aggregates(&context.runtime)),
        ("sagas".to_owned(), sagas(&context.runtime.sagas().health())),
    ];
    let all: Vec<(String, Health)> = own.into_iter().chain(given).chain(projections).collect();
    let mut status = all.iter().map(|(_, health)| health.status).max().unwrap_or(HealthStatus::Pass);
    let mut output = None;
    if context.is_draining() || !context.runtime.health().is_accepting {
        status = status.max(HealthStatus::Warn);
        output = Some("the server is shutting down");
    }
    let checks: Map<String, Value> = all.into_iter().map(|(name, health)| (name, json!([health]))).collect();
    Ok(report(status, json!({ "output": output, "checks": checks })))
}

/// Whether the process works at all; no I/O.
pub(super) async fn live(call: Call) -> Answer {
    let is_alive = call.runtime().health().is_alive;
    Ok(simple(if is_alive { Health::pass() } else { Health::fail("the journal or the supervisor has ended") }))
}

/// Whether requests should come here.
pub(super) async fn ready(call: Call) -> Answer {
    let context = &call.server.context;
    let runtime = context.runtime.health();
    if context.is_starting() {
        return Ok(simple(Health::fail("the server is starting")));
    }
    if context.is_draining() || !runtime.is_accepting {
        return Ok(simple(Health::fail("the server is shutting down")));
    }
    if !runtime.is_alive {
        return Ok(simple(Health::fail("the journal or the supervisor has ended")));
    }
    Ok(simple(event_store(&context.runtime, call.server.options.health_check_deadline).await))
}

/// Whether the start is over.
pub(super) async fn startup(call: Call) -> Answer {
    let is_starting = call.server.context.is_starting();
    Ok(simple(if is_starting { Health::fail("the server is starting") } else { Health::pass() }))
}

async fn looked_at(check: &Arc<dyn HealthCheck>, deadline: Duration) -> (String, Health) {
    let health = tokio::time::timeout(deadline, check.check()).await;
    let health = health.unwrap_or_else(|_| Health::fail(format!("no answer within {} ms", deadline.as_millis())));
    (check.name().to_owned(), health)
}

async fn event_store(runtime: &Runtime, deadline: Duration) -> Health {
    match tokio::time::timeout(deadline, runtime.feed().head()).await {
        Ok(Ok(head)) => Health::pass().observed(head.0, "position"),
        // The store's own words may name hosts and users.
        Ok(Err(error)) => {
            tracing::warn!(%error, "the event store failed its health check");
            Health::fail("the event store does not answer")
        }
        Err(_) => Health::fail(format!("the event store gave no answer within {} ms", deadline.as_millis())),
    }
}

fn aggregates(runtime: &Runtime) -> Health {
    let health = runtime.health();
    if !health.is_alive {
        return Health::fail("the journal or the supervisor has ended: the process must be started again");
    }
    match health.parked.len() {
        0 => Health::pass().observed(health.live_aggregates, "live"),
        parked => Health::warn("some aggregates fail again and again and are parked").observed(parked, "parked"),
    }
}

/// What only the process that works on the sagas knows; the others pass. Ids, but no reasons: those may name hosts.
fn sagas(health: &SagaHealth) -> Health {
    if health.failed > 0 {
        let detail = "some sagas are set aside until an operator acts: GET /api/v1/sagas?status=failed lists them with \
                      their reasons; POST /api/v1/sagas/{saga_id}/retry or /cancel when the cause is mended";
        return Health::warn(detail).observed(health.failed, "failed");
    }
    match health.troubled.first() {
        Some((id, _)) => {
            let detail = format!(
                "some sagas do not get on and are tried again by themselves, {id} among them: the log says why, \
                 GET /api/v1/sagas/{{saga_id}} how far one has come"
            );
            Health::warn(detail).observed(health.troubled.len(), "troubled")
        }
        None => Health::pass().observed(0, "failed"),
    }
}

/// One check per projection. Reads are served whatever they say, so nothing here is a failure of the server.
async fn projections(runtime: &Runtime, deadline: Duration) -> Vec<(String, Health)> {
    let projections = runtime.projections();
    match tokio::time::timeout(deadline, projections.list()).await {
        Ok(Ok(reports)) => reports.iter().map(|report| (key(&report.name), reported(report))).collect(),
        // The store does not tell: what this process itself knows has to do.
        outcome => {
            if let Ok(Err(error)) = outcome {
                tracing::warn!(%error, "the projections could not be asked how they stand");
            }
            let known = projections.health().into_iter();
            known.map(|health| (key(&health.name), standing(health.status).unwrap_or_else(Health::pass))).collect()
        }
    }
}

fn key(projection: &str) -> String {
    format!("projection:{projection}")
}

fn reported(report: &ProjectionReport) -> Health {
    let health = standing(report.status).or_else(|| {
        if report.parked > 0 {
            let detail = "events that could not be applied wait for an operator";
            return Some(Health::warn(detail).observed(report.parked, "parked"));
        }
        let is_late = report.lag_seconds > LAG_SECONDS_MAX;
        is_late.then(|| Health::warn(format!("the log is more than {LAG_SECONDS_MAX} s ahead")))
    });
    match health.unwrap_or_else(Health::pass) {
        measured @ Health { observed_value: Some(_), .. } => measured,
        health => health.observed(report.lag_events, "events behind"),
    }
}

/// What a status means, unless all is well.
fn standing(status: ProjectionStatus) -> Option<Health> {
    let detail = match status {
        ProjectionStatus::Live | ProjectionStatus::CatchingUp | ProjectionStatus::Rebuilding => return None,
        ProjectionStatus::Paused => "an operator has paused it",
        ProjectionStatus::RolledBack => "it serves earlier rows, which do not follow the log, until it is rebuilt",
        ProjectionStatus::Stopped => "it has stopped by itself; its last error says why",
        ProjectionStatus::Outdated => {
            "another version of it is kept; give all processes the same one, then start this one again"
        }
        ProjectionStatus::Unowned => "no process keeps it at the moment",
    };
    Some(Health::warn(detail))
}

fn simple(health: Health) -> Response {
    report(health.status, json!(health))
}

/// The whole answer, as documents show it.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct HealthReport {
    status: HealthStatus,
    /// Of this format.
    version: String,
    /// Of the program.
    release_id: String,
    /// Why it is not fine.
    #[serde(skip_serializing_if = "Option::is_none")]
    output: Option<String>,
    /// By name.
    #[serde(skip_serializing_if = "Option::is_none")]
    checks: Option<BTreeMap<String, Vec<Health>>>,
    /// What was measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    observed_value: Option<Value>,
    /// Its unit.
    #[serde(skip_serializing_if = "Option::is_none")]
    observed_unit: Option<String>,
}

fn report(status: HealthStatus, mut document: Value) -> Response {
    if let Some(members) = document.as_object_mut() {
        members.retain(|_, value| !value.is_null());
        members.insert("status".to_owned(), json!(status));
        members.insert("version".to_owned(), json!("1"));
        members.insert("releaseId".to_owned(), json!(env!("CARGO_PKG_VERSION")));
    }
    let mut response = reply::bytes(document.to_string(), "application/health+json");
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if status == HealthStatus::Fail {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

#[cfg(test)]
mod tests {
    use event_sourcing_actors::Position;

    use super::*;

    fn report(status: ProjectionStatus) -> ProjectionReport {
        ProjectionReport {
            name: "p".to_owned(),
            status,
            version: 1,
            checkpoint: Position(7),
            head: Position(9),
            lag_events: 2,
            lag_seconds: 0.5,
            last_error: None,
            parked: 0,
            rebuild: None,
            is_paused: false,
            owner: None,
            is_owned_here: false,
            can_roll_back: false,
        }
    }

    #[test]
    fn sagas_that_need_a_look_are_a_warning_that_names_the_next_step() {
        let well = SagaHealth { is_working_here: true, failed: 0, troubled: Vec::new() };
        assert_eq!(sagas(&well).status, HealthStatus::Pass);
        assert_eq!(sagas(&SagaHealth { is_working_here: false, ..well.clone() }).status, HealthStatus::Pass);
        let id = event_sourcing_actors::AggregateId::new("s-1").unwrap();
        let troubled = SagaHealth { troubled: vec![(id, "db.example said no".to_owned())], ..well.clone() };
        let health = sagas(&troubled);
        assert_eq!((health.status, health.observed_unit), (HealthStatus::Warn, Some("troubled")));
        let said = health.output.unwrap();
        assert!(said.contains("s-1") && said.contains("the log says why") && !said.contains("db.example"), "{said}");
        let health = sagas(&SagaHealth { failed: 2, ..troubled });
        assert_eq!((health.status, health.observed_value), (HealthStatus::Warn, Some(json!(2))));
        assert!(health.output.unwrap().contains("/api/v1/sagas?status=failed"));
    }

    #[test]
    fn projection_that_needs_a_look_is_a_warning_and_never_a_failure() {
        for (status, expected) in [
            (ProjectionStatus::Live, HealthStatus::Pass),
            (ProjectionStatus::CatchingUp, HealthStatus::Pass),
            (ProjectionStatus::Rebuilding, HealthStatus::Pass),
            (ProjectionStatus::Paused, HealthStatus::Warn),
            (ProjectionStatus::RolledBack, HealthStatus::Warn),
            (ProjectionStatus::Stopped, HealthStatus::Warn),
            (ProjectionStatus::Outdated, HealthStatus::Warn),
            (ProjectionStatus::Unowned, HealthStatus::Warn),
        ] {
            let health = reported(&report(status));
            assert_eq!((health.status, health.observed_value), (expected, Some(json!(2))), "{status:?}");
        }
        let late = ProjectionReport { lag_seconds: 10.5, ..report(ProjectionStatus::CatchingUp) };
        assert_eq!(reported(&late).status, HealthStatus::Warn);
        let parked = reported(&ProjectionReport { parked: 3, ..report(ProjectionStatus::Live) });
        assert_eq!((parked.status, parked.observed_unit), (HealthStatus::Warn, Some("parked")));
    }
}
