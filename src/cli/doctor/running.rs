//! What the store and those who work on it say: log, evidence, read models, sagas, cache.

use std::num::NonZeroU32;

use event_sourcing_actors::{
    ports::{Clock, SystemClock},
    projections::{ProjectionReport, ProjectionStatus},
    saga::SagaStatus,
};

use super::{
    super::{Context, local::Local, saga::ListQuery},
    Check, machine,
};

/// An event from so far in the future says that a clock went back.
const AHEAD_SECONDS_MAX: f64 = 2.0;
/// Unsealed events that are older are worth a look.
const UNSEALED_SECONDS_MAX: f64 = 10.0;
/// Events behind, and seconds, from which on a read model is late.
const LAG_EVENTS_MAX: u64 = 1_000;
const LAG_SECONDS_MAX: f64 = 30.0;

/// Everything that needs the store open.
pub(super) async fn checks(context: &Context, local: &Local) -> Vec<Check> {
    let mut checks = Vec::new();
    checks.extend(evidence(context, local).await);
    let reports = local.bounded(local.app().runtime().projections().list()).await;
    match reports {
        Ok(reports) => {
            checks.push(servers(&reports));
            checks.push(projections(&reports));
        }
        Err(failure) => {
            checks.push(Check::fail("projections", failure.to_string(), "look at the database of the read models"));
        }
    }
    checks.push(sagas(local).await);
    checks.push(keys(local).await);
    checks.extend(cache(local).await);
    checks
}

fn age_s(micros: i64) -> f64 {
    SystemClock.now().timestamp_micros().saturating_sub(micros) as f64 / 1e6
}

async fn evidence(context: &Context, local: &Local) -> Vec<Check> {
    const LOG: &str = "log";
    let tree = local.app().storage().tree();
    let state = match local.bounded(tree.tree()).await {
        Ok(state) => state,
        Err(failure) => return vec![Check::fail(LOG, failure.to_string(), "look at the database")],
    };
    let mut checks = Vec::new();
    checks.push(if state.is_read_only {
        let next = "`event-sourcing-cqrs verify` tells what is wrong; docs/evidence.md what to do";
        Check::fail(LOG, "the log is read-only: it was found not to be what was signed", next)
    } else {
        Check::pass(LOG, format!("it takes appends; its head is position {}", state.head))
    });
    let micros = async |position: u64| {
        let position = i64::try_from(position).unwrap_or(i64::MAX);
        local.bounded(tree.rows(position, 1)).await.ok()?.iter().next().map(|row| row.recorded_at)
    };
    if let Some(ahead) = micros(state.head.max(1)).await.map(|micros| -age_s(micros)).filter(|_| state.head > 0) {
        checks.push(if ahead > AHEAD_SECONDS_MAX {
            let next = "set the clock right; new events get the last instant until the clock has passed it";
            Check::warn("clock", format!("the last event was recorded {ahead:.0} s in this machine's future"), next)
        } else {
            Check::pass("clock", "no event comes from the future")
        });
    }
    if !context.settings.integrity.enabled {
        checks.push(Check::warn("sealing", "no evidence is kept", "set integrity.enabled to true"));
        return checks;
    }
    let (unsealed, age) = (state.head.saturating_sub(state.size), micros(state.size + 1).await.map_or(0.0, age_s));
    checks.push(if unsealed > 0 && age > UNSEALED_SECONDS_MAX {
        let next = "start a server, which seals; if one runs, its log and /health say what keeps it";
        Check::warn("sealing", format!("{unsealed} events are not sealed yet, the oldest is {age:.0} s old"), next)
    } else {
        Check::pass("sealing", format!("sealed to position {}", state.size))
    });
    checks.extend(vault(context, local).await);
    checks
}

async fn vault(context: &Context, local: &Local) -> Vec<Check> {
    const NAME: &str = "checkpoints";
    let store_id = local.app().storage().id().unwrap_or_default();
    let (settings, folder) = (context.settings.clone(), context.settings.integrity_directory());
    let outside = tokio::task::spawn_blocking(move || event_sourcing_cqrs::app::vault(&settings, store_id).outside());
    let mut checks = vec![match outside.await {
        Ok(Ok(outside)) => match (outside.altered.first(), outside.troubles.first(), outside.newest()) {
            (Some(altered), ..) => {
                let next = "put back a copy (targets have one), then run `event-sourcing-cqrs verify`";
                Check::fail(NAME, format!("a checkpoint was altered: {altered}"), next)
            }
            (None, Some(trouble), _) => {
                let next = "mount what should be there, or take it out of integrity.targets";
                Check::warn(NAME, format!("a checkpoint cannot be read: {trouble}"), next)
            }
            (None, None, Some(newest)) => Check::pass(
                NAME,
                format!("the newest one outside of the database covers {}", newest.checkpoint.head.size),
            ),
            (None, None, None) => Check::pass(NAME, "none is signed yet"),
        },
        Ok(Err(error)) => {
            let next = "give this user the right to read the folder, or set integrity.directory";
            Check::fail(NAME, format!("{} cannot be read: {error}", folder.display()), next)
        }
        Err(error) => Check::fail(NAME, error.to_string(), "try again"),
    }];
    checks.extend(machine::key(&folder, &store_id.to_string()));
    checks
}

fn servers(reports: &[ProjectionReport]) -> Check {
    let owned = reports.iter().filter(|report| report.owner.is_some()).count();
    let said = match owned {
        0 => "no other process keeps read models of this store".to_owned(),
        owned => format!("others work on this store: they keep {owned} of its {} read models", reports.len()),
    };
    Check::pass("servers", said)
}

fn projections(reports: &[ProjectionReport]) -> Check {
    const NAME: &str = "projections";
    let has_owner = reports.iter().any(|report| report.owner.is_some());
    for report in reports {
        let name = &report.name;
        let reason = report.last_error.as_ref().map_or(String::new(), |error| format!(": {}", error.reason));
        if report.status == ProjectionStatus::Stopped {
            let next = format!("mend the cause, then `event-sourcing-cqrs projection rebuild {name}`");
            return Check::fail(NAME, format!("{name} has stopped{reason}"), next);
        }
    }
    for report in reports {
        let (name, lag) = (&report.name, report.lag_events);
        if report.parked > 0 {
            let next =
                format!("`projection parked list {name}` tells which; then `projection parked retry` or `skip` each");
            return Check::warn(NAME, format!("{name} has {} parked events", report.parked), next);
        }
        if report.is_paused {
            return Check::warn(NAME, format!("{name} is paused"), format!("`projection resume {name}` lets it go on"));
        }
        if !has_owner && lag > 0 {
            let next = "start a server, which keeps them";
            return Check::warn(NAME, format!("nobody keeps read models; {name} is {lag} events behind"), next);
        }
        if has_owner && lag > LAG_EVENTS_MAX && report.lag_seconds > LAG_SECONDS_MAX {
            let next =
                "look at the server's log and at `projection list`: it may be rebuilding, or too slow for the load";
            return Check::warn(NAME, format!("{name} is {lag} events and {:.0} s behind", report.lag_seconds), next);
        }
    }
    Check::pass(NAME, format!("{} read models, none stopped, parked or late", reports.len()))
}

async fn keys(local: &Local) -> Check {
    const NAME: &str = "personal data";
    match local.bounded(local.app().runtime().erasures().keyless()).await {
        Ok(found) if found.keyless > 0 => {
            let said = format!(
                "{} of {} people that were looked at have no key here, so what is sealed of them reads \"[sealed]\"",
                found.keyless, found.looked_at
            );
            let next = "stop the servers, put the master key file in its place, and `event-sourcing-cqrs keys restore` a \
                        key file of this store";
            Check::warn(NAME, said, next)
        }
        Ok(_) => Check::pass(NAME, "nobody's key is missing, as far as was looked"),
        Err(failure) => Check::warn(NAME, failure.to_string(), "look at the database"),
    }
}

async fn sagas(local: &Local) -> Check {
    const NAME: &str = "sagas";
    const LIMIT: NonZeroU32 = NonZeroU32::MIN.saturating_add(99);
    let failed = ListQuery { status: Some(SagaStatus::Failed), saga_type: None, limit: LIMIT, cursor: None };
    match local.sagas(&failed).await {
        Ok(page) if page.items.is_empty() => Check::pass(NAME, "none has failed"),
        Ok(page) => {
            let more = if page.next_cursor.is_some() { " or more" } else { "" };
            let next =
                "`saga list --status failed` lists them; `saga show` tells why; then `saga retry` or `saga cancel`";
            Check::warn(NAME, format!("{}{more} have failed and wait for an operator", page.items.len()), next)
        }
        Err(failure) => Check::warn(NAME, failure.to_string(), "start a server, which makes the list of sagas"),
    }
}

#[cfg(not(feature = "redis"))]
async fn cache(_: &Local) -> Option<Check> {
    None
}

#[cfg(feature = "redis")]
async fn cache(local: &Local) -> Option<Check> {
    use event_sourcing_cqrs::app::Cache;
    let Cache::Redis(redis) = local.app().cache() else { return None };
    // Its connection is made in the background, so the first answer may be that there is none yet.
    let mut answer = redis.ping().await;
    let give_up = tokio::time::Instant::now() + local.timeout();
    while answer.is_err() && tokio::time::Instant::now() < give_up {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        answer = redis.ping().await;
    }
    Some(match answer {
        Ok(()) => Check::pass("redis", "it answers"),
        Err(reason) => {
            let next = "start Redis, or correct REDIS_URL; without it queries are slower, and still right";
            Check::warn("redis", format!("it does not answer: {reason}"), next)
        }
    })
}
