//! `operation list|show|cancel`, and waiting for an operation that a word has begun.

use std::{
    num::NonZeroU32,
    time::{Duration, Instant},
};

use clap::{Args, Subcommand};
use event_sourcing_actors::{erasure, ports::OperationStatus};
use event_sourcing_cqrs::wire;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Deserialize;
use uuid::Uuid;

use super::{
    Context,
    exit::{Exit, Failure},
    input,
    output::{Format, Output, line, talk},
    table::table,
    target::Target,
    text::{harmless, pairs},
};
use crate::shutdown::Signals;

/// How often an operation is looked at while a word waits for it.
const LOOK: Duration = Duration::from_millis(250);
/// Pause between two lines of progress where there is no terminal.
const SAY: Duration = Duration::from_secs(2);

/// Words about long work.
#[derive(Debug, Subcommand)]
pub(crate) enum Operation {
    /// List operations, newest first
    List(List),
    /// Tell how one stands
    Show(One),
    /// Give one up
    Cancel(One),
}

/// List operations.
#[derive(Debug, Args)]
pub(crate) struct List {
    /// Operations at most, 1 to 1000
    #[arg(long, value_name = "OPERATIONS", default_value = "100", value_parser = input::limit)]
    limit: NonZeroU32,
    /// Only those before this one: `next_cursor` of the page before
    #[arg(long, value_name = "ID")]
    cursor: Option<Uuid>,
}

/// One operation.
#[derive(Debug, Args)]
pub(crate) struct One {
    /// As the word that began it told, or `operation list` does
    operation_id: Uuid,
}

impl Operation {
    /// Does it.
    pub(crate) async fn run(self, context: Context) -> Result<(), Failure> {
        let target = Target::open(&context).await?;
        let output = context.output;
        let result = match self {
            Self::List(word) => list(&target, output, &word).await,
            Self::Show(word) => target.operation(word.operation_id).await.and_then(|one| print(output, &one)),
            Self::Cancel(word) => target.cancel(word.operation_id).await.and_then(|one| print(output, &one)),
        };
        target.close().await;
        result
    }
}

async fn list(target: &Target, output: Output, word: &List) -> Result<(), Failure> {
    let page = target.operations(word.cursor, word.limit).await?;
    match output.format {
        Format::Json => output.document(&page, String::new),
        Format::Ndjson => page.items.iter().try_for_each(|one| output.text(&line(one)?)),
        Format::Human if page.items.is_empty() => {
            talk("no operations");
            Ok(())
        }
        Format::Human => {
            let row = |one: &wire::Operation| {
                let progress = format!("{} of {}", one.progress.done, one.progress.total);
                let at = one.updated_at.format("%Y-%m-%d %H:%M:%SZ").to_string();
                vec![
                    one.operation_id.to_string(),
                    one.kind.clone(),
                    one.subject.clone(),
                    status(one.status).to_owned(),
                    progress,
                    at,
                ]
            };
            let rows: Vec<_> = page.items.iter().map(row).collect();
            output.text(&table(&["OPERATION", "KIND", "SUBJECT", "STATUS", "PROGRESS", "UPDATED AT"], &rows))?;
            if let Some(cursor) = page.next_cursor {
                talk(&format!("there are more: --cursor {cursor}"));
            }
            Ok(())
        }
    }
}

/// Prints one operation.
pub(crate) fn print(output: Output, operation: &wire::Operation) -> Result<(), Failure> {
    output.document(operation, || {
        let instant = |at: chrono::DateTime<chrono::Utc>| at.format("%Y-%m-%d %H:%M:%S%.3fZ").to_string();
        let wire::OperationProgress { done, total } = operation.progress;
        let mut rows = vec![
            ("operation", operation.operation_id.to_string()),
            ("kind", operation.kind.clone()),
            ("subject", operation.subject.clone()),
            ("status", status(operation.status).to_owned()),
            ("progress", format!("{done} of {total}")),
            ("created at", instant(operation.created_at)),
            ("updated at", instant(operation.updated_at)),
        ];
        rows.extend(operation.result.as_ref().map(|result| ("result", result.get().to_owned())));
        rows.extend(operation.error.clone().map(|error| ("error", error)));
        pairs(&rows)
    })
}

fn status(status: OperationStatus) -> &'static str {
    match status {
        OperationStatus::Running => "running",
        OperationStatus::Succeeded => "succeeded",
        OperationStatus::Failed => "failed",
        OperationStatus::Cancelled => "cancelled",
    }
}

/// Prints the operation a word has begun: at once, or when it has ended.
pub(crate) async fn finish(
    target: &Target,
    output: Output,
    begun: wire::Operation,
    waits: bool,
) -> Result<(), Failure> {
    if !waits {
        talk(&hint(&begun));
        return print(output, &begun);
    }
    let ended = wait(target, begun).await?;
    match ended.status {
        OperationStatus::Failed | OperationStatus::Cancelled => {
            if output.format != Format::Human {
                print(output, &ended)?;
            }
            let reason = ended.error.unwrap_or_else(|| "an operator has given it up".to_owned());
            let (kind, subject) = (&ended.kind, &ended.subject);
            Err(Failure::new(Exit::Failed, format!("{kind} of {subject} {}: {reason}", status(ended.status))))
        }
        OperationStatus::Running | OperationStatus::Succeeded => print(output, &ended),
    }
}

/// Waits for the end, however long it takes; a signal ends the waiting, not the operation.
pub(crate) async fn wait(target: &Target, mut operation: wire::Operation) -> Result<wire::Operation, Failure> {
    let mut signals = Signals::take()?;
    let mut progress = Progress::new(&operation);
    while !operation.has_ended() {
        progress.show(&operation);
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            _ = signals.next() => {
                progress.end();
                let place = if target.is_server() { "in the server" } else { "in the server on this store, when there is one" };
                talk(&format!("it goes on {place}; {}", hint(&operation)));
                return Err(Failure::silent(Exit::Unavailable));
            }
        }
        let seen = target.operation(operation.operation_id).await;
        operation = seen.map_err(|failure| {
            progress.end();
            failure.and(format!("it may go on all the same; {}", hint(&operation)))
        })?;
    }
    progress.end();
    Ok(operation)
}

fn hint(operation: &wire::Operation) -> String {
    let id = operation.operation_id;
    format!("`operation show {id}` tells how it stands, `operation cancel {id}` gives it up")
}

/// The part of a result that tells what an operation waits for.
#[derive(Debug, Deserialize)]
struct Waiting {
    #[serde(default)]
    waiting_for: Vec<String>,
}

/// Progress on standard error: a bar on a terminal, lines now and then elsewhere.
#[derive(Debug)]
struct Progress {
    bar: ProgressBar,
    said: Option<(Instant, u64)>,
    /// What is counted.
    unit: &'static str,
    /// What it was last said to wait for.
    waiting_for: Vec<String>,
}

impl Progress {
    fn new(operation: &wire::Operation) -> Self {
        let unit = if operation.kind == erasure::KIND { "steps" } else { "events" };
        let rate = if operation.kind == erasure::KIND { "" } else { "  {per_sec}  {eta} left" };
        let template = format!("{{msg}}  {{pos}} of {{len}} {unit}  {{wide_bar}}{rate}");
        let style = ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar());
        // Draws to standard error, and nothing at all where that is no terminal.
        let bar = ProgressBar::new(operation.progress.total).with_style(style);
        bar.set_message(harmless(&format!("{} of {}", operation.kind, operation.subject)));
        Self { bar, said: None, unit, waiting_for: Vec::new() }
    }

    fn show(&mut self, operation: &wire::Operation) {
        let wire::OperationProgress { done, total } = operation.progress;
        self.bar.set_length(total);
        self.bar.set_position(done);
        let is_due = self.said.is_none_or(|(at, said)| at.elapsed() >= SAY && said != done);
        if self.bar.is_hidden() && is_due {
            self.said = Some((Instant::now(), done));
            let so_far = if total == 0 { "begun".to_owned() } else { format!("{done} of {total} {}", self.unit) };
            talk(&harmless(&format!("{} of {}: {so_far}", operation.kind, operation.subject)));
        }
        self.show_waiting(operation);
    }

    /// What it waits for, each time that changes: an operator may have to act.
    fn show_waiting(&mut self, operation: &wire::Operation) {
        let result = operation.result.as_ref().and_then(|result| serde_json::from_str::<Waiting>(result.get()).ok());
        let waiting_for = result.map(|result| result.waiting_for).unwrap_or_default();
        if waiting_for != self.waiting_for {
            for reason in &waiting_for {
                let words = harmless(&format!("{} of {} waits: {reason}", operation.kind, operation.subject));
                self.bar.suspend(|| talk(&words));
            }
            self.waiting_for = waiting_for;
        }
    }

    fn end(&self) {
        self.bar.finish_and_clear();
    }
}
