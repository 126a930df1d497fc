//! First link: a span, a measurement and, for faults, one line of log.

use std::time::Instant;

use futures_util::future::BoxFuture;
use tracing::Instrument;

use super::{CommandRequest, CommandResult, Middleware, Next};
use crate::{command_bus::Action, error::CommandError, observe::Metrics};

#[derive(Debug)]
pub(crate) struct Trace {
    pub metrics: Metrics,
}

impl Middleware for Trace {
    fn handle<'a>(&'a self, request: CommandRequest, next: Next<'a>) -> BoxFuture<'a, CommandResult> {
        let catalog = &next.write_side.recovery.catalog;
        // Only known names become label values: a caller must not be able to make series.
        let name = match &request.action {
            Action::Named { command_type, .. } => catalog.known_command(command_type).unwrap_or("unknown"),
            Action::Command(command) => command.name,
            Action::Append(_) => "AppendEvents",
        };
        let span = tracing::debug_span!(
            "command",
            command.name = name,
            command.id = %request.command_id,
            aggregate.id = %request.aggregate_id,
            correlation.id = %request.context.correlation_id,
        );
        let started = Instant::now();
        let measured = async move {
            let result = next.run(request).await;
            let outcome = match &result {
                Ok(accepted) if accepted.replayed => "replayed",
                Ok(_) => "accepted",
                Err(error) => error.outcome(),
            };
            self.metrics.command_duration.with_label_values(&[name, outcome]).observe(started.elapsed().as_secs_f64());
            match &result {
                Ok(accepted) => tracing::debug!(event.position = %accepted.position, "accepted"),
                Err(error @ (CommandError::Internal { .. } | CommandError::OutcomeUnknown { .. })) => {
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
