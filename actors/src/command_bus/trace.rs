//! First link: a span, a measurement and, for faults and for what took long, one line of log.

use std::time::Instant;

use futures_util::future::BoxFuture;
use tracing::{Instrument, Span, field::Empty};

use super::{CommandRequest, CommandResult, Middleware, Next};
use crate::{
    catalog::Catalog, command_bus::Action, error::CommandError, id::AggregateType, observe::Metrics, slow::SlowLog,
};

#[derive(Debug)]
pub(crate) struct Trace {
    pub metrics: Metrics,
    pub slow: SlowLog,
}

impl Middleware for Trace {
    fn handle<'a>(&'a self, request: CommandRequest, next: Next<'a>) -> BoxFuture<'a, CommandResult> {
        let (name, span) = named(&request, &next.write_side.recovery.catalog);
        let is_traced = next.write_side.traces.is_on();
        let started = Instant::now();
        let measured = async move {
            let result = next.run(request).await;
            let outcome = match &result {
                Ok(accepted) if accepted.replayed => "replayed",
                Ok(_) => "accepted",
                Err(error) => error.outcome(),
            };
            let elapsed = started.elapsed();
            self.metrics.command_duration.with_label_values(&[name, outcome]).observe(elapsed.as_secs_f64());
            if let Some(untold) = self.slow.note(elapsed) {
                let duration_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
                tracing::warn!(command.name = name, outcome, duration_ms, untold, "a command took long");
            }
            match &result {
                Ok(accepted) => {
                    if is_traced {
                        Span::current().record("event.position", accepted.position.0);
                    }
                    tracing::debug!(event.position = %accepted.position, "accepted");
                }
                Err(error @ (CommandError::Internal { .. } | CommandError::OutcomeUnknown { .. })) => {
                    if is_traced {
                        Span::current().record("otel.status_code", "ERROR");
                    }
                    tracing::error!(%error, outcome, "command failed");
                }
                Err(error) => tracing::debug!(%error, outcome, "not accepted"),
            }
            result
        };
        // A span that nobody listens to costs as much as one that is heard.
        if span.is_disabled() { Box::pin(measured) } else { Box::pin(measured.instrument(span)) }
    }
}

/// The command's name as a label, and its span.
fn named(request: &CommandRequest, catalog: &Catalog) -> (&'static str, Span) {
    // Only known names become label values: a caller must not be able to make series.
    let (name, aggregate_type) = match &request.action {
        Action::Named { command_type, .. } => {
            let name = catalog.known_command(command_type).unwrap_or("unknown");
            (name, catalog.aggregate_type_of_command(name))
        }
        Action::Command(command) => (command.name, Some(&command.aggregate_type)),
        Action::Append(append) => ("AppendEvents", append.aggregate_type.as_ref()),
    };
    let span = tracing::info_span!(
        "command",
        command.name = name,
        command.id = %request.command_id,
        aggregate.r#type = aggregate_type.map(AggregateType::as_str),
        aggregate.id = %request.aggregate_id,
        correlation.id = %request.context.correlation_id,
        event.position = Empty,
        otel.status_code = Empty,
    );
    (name, span)
}
