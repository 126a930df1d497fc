//! Sagas as people read them.

use chrono::{DateTime, Utc};
use event_sourcing_cqrs::wire;

use crate::cli::{
    exit::Failure,
    output::Output,
    table::table,
    text::{harmless, pairs},
};

/// Prints the answer to a start, a retry or a cancellation.
pub(super) fn print_accepted(output: Output, accepted: &wire::SagaAccepted) -> Result<(), Failure> {
    output.document(accepted, || {
        harmless(&format!("{} {} is {}", accepted.saga_type, accepted.saga_id, accepted.status.as_str()))
    })
}

/// Prints one instance: what it is, its steps, timers and timeline.
pub(super) fn print(output: Output, saga: &wire::Saga) -> Result<(), Failure> {
    output.document(saga, || {
        let parts = [head(saga), steps(&saga.steps), timers(&saga.timers), timeline(&saga.timeline)];
        let parts: Vec<&str> = parts.iter().map(|part| part.trim_end()).filter(|part| !part.is_empty()).collect();
        parts.join("\n\n")
    })
}

/// Instances as a table.
pub(super) fn listed(sagas: &[wire::ListedSaga]) -> String {
    let row = |one: &wire::ListedSaga| {
        vec![
            one.saga_id.to_string(),
            one.saga_type.clone(),
            one.status.as_str().to_owned(),
            instant(one.started_at),
            maybe(one.ended_at),
            one.reason.as_ref().map_or(String::new(), |reason| reason.code.clone()),
        ]
    };
    let rows: Vec<_> = sagas.iter().map(row).collect();
    table(&["SAGA", "TYPE", "STATUS", "STARTED AT", "ENDED AT", "REASON"], &rows)
}

fn head(saga: &wire::Saga) -> String {
    let mut rows = vec![
        ("saga", saga.saga_id.to_string()),
        ("type", format!("{}, definition version {}", saga.saga_type, saga.definition_version)),
        ("status", saga.status.as_str().to_owned()),
        ("data", saga.data.to_string()),
        ("correlation id", saga.correlation_id.to_string()),
        ("started at", instant(saga.started_at)),
        ("updated at", instant(saga.updated_at)),
        ("ended at", maybe(saga.ended_at)),
    ];
    if let Some(reason) = &saga.reason {
        rows.insert(3, ("reason", format!("{} ({})", reason.message, reason.code)));
    }
    pairs(&rows)
}

fn steps(steps: &[wire::SagaStep]) -> String {
    if steps.is_empty() {
        return String::new();
    }
    let row = |step: &wire::SagaStep| {
        let undone = if step.undo_attempts > 0 { format!(" + {} undo", step.undo_attempts) } else { String::new() };
        vec![
            step.name.clone(),
            step.status.clone(),
            format!("{}{undone}", step.attempts),
            maybe(step.started_at),
            maybe(step.ended_at),
            step.error.as_ref().map_or(String::new(), |why| format!("{} ({})", why.message, why.code)),
        ]
    };
    let rows: Vec<_> = steps.iter().map(row).collect();
    table(&["STEP", "STATUS", "TRIES", "STARTED AT", "ENDED AT", "ERROR"], &rows)
}

fn timers(timers: &[wire::SagaTimer]) -> String {
    if timers.is_empty() {
        return String::new();
    }
    let row = |timer: &wire::SagaTimer| {
        let status = serde_json::to_value(timer.status).ok().and_then(|status| status.as_str().map(str::to_owned));
        let step = timer.step.clone().unwrap_or_else(|| "-".to_owned());
        vec![timer.name.clone(), step, status.unwrap_or_default(), instant(timer.due_at)]
    };
    let rows: Vec<_> = timers.iter().map(row).collect();
    table(&["TIMER", "STEP", "STATUS", "DUE AT"], &rows)
}

fn timeline(events: &[wire::TimelineEvent]) -> String {
    let row = |event: &wire::TimelineEvent| {
        vec![
            event.sequence.to_string(),
            event.position.to_string(),
            instant(event.at),
            event.step.clone().unwrap_or_else(|| "-".to_owned()),
            event.detail.clone().unwrap_or_else(|| event.event.to_string()),
        ]
    };
    let rows: Vec<_> = events.iter().map(row).collect();
    table(&["SEQUENCE", "POSITION", "AT", "STEP", "WHAT HAPPENED"], &rows)
}

fn instant(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M:%S%.3fZ").to_string()
}

fn maybe(at: Option<DateTime<Utc>>) -> String {
    at.map_or_else(|| "-".to_owned(), instant)
}
