//! `projection list|show|rebuild|rollback|pause|resume|parked`.

use std::num::NonZeroU32;

use clap::{Args, Subcommand};
use event_sourcing_actors::{Position, ports::ParkedRequest};
use event_sourcing_cqrs::wire;

use super::{
    Context,
    exit::Failure,
    input,
    operation::finish,
    output::{Format, Output, line, talk},
    table::table,
    target::{Switch, Target},
    text::pairs,
};

/// Words about projections.
#[derive(Debug, Subcommand)]
pub(crate) enum Projection {
    /// List all with how far they have come
    List,
    /// Tell how one stands
    Show(Name),
    /// Build its rows anew beside the served ones, compare, and serve the new ones
    Rebuild(Rebuild),
    /// Serve the rows from before the last rebuild again
    Rollback(Name),
    /// Stop it until it is resumed; its rows are still served
    Pause(Name),
    /// Let it go on, also after it has stopped by itself
    Resume(Name),
    /// Look after events that could not be applied
    #[command(subcommand)]
    Parked(Parked),
}

/// A projection.
#[derive(Debug, Args)]
pub(crate) struct Name {
    /// The projection
    name: String,
}

/// Build a projection's rows anew.
#[derive(Debug, Args)]
pub(crate) struct Rebuild {
    /// The projection
    name: String,
    /// Serve the new rows also when they differ from the served ones
    #[arg(long)]
    accept_difference: bool,
    /// Return at once
    #[arg(long)]
    no_wait: bool,
}

/// Words about events that could not be applied.
#[derive(Debug, Subcommand)]
pub(crate) enum Parked {
    /// List them, with those that wait behind them
    List(ParkedList),
    /// Apply one again, and what waits behind it
    Retry(Settle),
    /// Leave one out, and apply what waits behind it; a rebuild tries it once more
    Skip(Settle),
}

/// List parked events.
#[derive(Debug, Args)]
pub(crate) struct ParkedList {
    /// The projection
    name: String,
    /// Only those after this position
    #[arg(long, value_name = "POSITION", default_value_t = 0)]
    after: u64,
    /// Events at most, 1 to 1000
    #[arg(long, value_name = "EVENTS", default_value = "100", value_parser = input::limit)]
    limit: NonZeroU32,
}

/// Settle a parked event.
#[derive(Debug, Args)]
pub(crate) struct Settle {
    /// The projection
    name: String,
    /// The event
    position: u64,
    /// Return at once
    #[arg(long)]
    no_wait: bool,
}

impl Projection {
    /// Does it.
    pub(crate) async fn run(self, context: Context) -> Result<(), Failure> {
        let target = Target::open_following(&context).await?;
        let result = self.done(&target, context.output).await;
        target.close().await;
        result
    }

    async fn done(self, target: &Target, output: Output) -> Result<(), Failure> {
        match self {
            Self::List => list(target, output).await,
            Self::Show(word) => print(output, &target.projection(&word.name).await?),
            Self::Rebuild(word) => {
                let begun = target.rebuild(&word.name, word.accept_difference).await?;
                finish(target, output, begun, !word.no_wait).await
            }
            Self::Rollback(word) => print(output, &target.switch(&word.name, Switch::Rollback).await?),
            Self::Pause(word) => print(output, &target.switch(&word.name, Switch::Pause).await?),
            Self::Resume(word) => print(output, &target.switch(&word.name, Switch::Resume).await?),
            Self::Parked(Parked::List(word)) => parked(target, output, &word).await,
            Self::Parked(Parked::Retry(word)) => settle(target, output, &word, ParkedRequest::Retry).await,
            Self::Parked(Parked::Skip(word)) => settle(target, output, &word, ParkedRequest::Skip).await,
        }
    }
}

async fn settle(target: &Target, output: Output, word: &Settle, request: ParkedRequest) -> Result<(), Failure> {
    let begun = target.settle(&word.name, Position(word.position), request).await?;
    finish(target, output, begun, !word.no_wait).await
}

async fn list(target: &Target, output: Output) -> Result<(), Failure> {
    let page = target.projections().await?;
    match output.format {
        Format::Json => output.document(&page, String::new),
        Format::Ndjson => page.items.iter().try_for_each(|one| output.text(&line(one)?)),
        Format::Human => {
            let row = |one: &wire::Projection| {
                vec![
                    one.name.clone(),
                    one.status.clone(),
                    one.version.to_string(),
                    one.checkpoint.to_string(),
                    one.lag_events.to_string(),
                    one.lag_seconds.to_string(),
                    one.parked.to_string(),
                ]
            };
            let rows: Vec<_> = page.items.iter().map(row).collect();
            let titles = ["PROJECTION", "STATUS", "VERSION", "CHECKPOINT", "EVENTS BEHIND", "SECONDS BEHIND", "PARKED"];
            output.text(&table(&titles, &rows))
        }
    }
}

fn print(output: Output, projection: &wire::Projection) -> Result<(), Failure> {
    output.document(projection, || {
        let one = projection;
        let owner = match one.owner {
            Some(owner) if one.owned_here => format!("{owner} (this process)"),
            Some(owner) => owner.to_string(),
            None => "-".to_owned(),
        };
        let mut rows = vec![
            ("projection", one.name.clone()),
            ("status", one.status.clone()),
            ("version", one.version.to_string()),
            ("checkpoint", one.checkpoint.to_string()),
            ("head", one.head.to_string()),
            ("events behind", one.lag_events.to_string()),
            ("seconds behind", one.lag_seconds.to_string()),
            ("parked", one.parked.to_string()),
            ("owner", owner),
            ("can roll back", if one.can_roll_back { "yes" } else { "no" }.to_owned()),
        ];
        rows.extend(one.rebuild.as_ref().map(|rebuild| {
            ("rebuild", format!("{} of {}, operation {}", rebuild.done, rebuild.total, rebuild.operation_id))
        }));
        rows.extend(one.last_error.as_ref().map(|error| {
            let place = error.position.map_or(String::new(), |position| format!(" at position {position}"));
            let event = error.event_type.as_ref().map_or(String::new(), |name| format!(", {name}"));
            let stream = error.aggregate_id.as_ref().map_or(String::new(), |id| format!(" of {id}"));
            ("last error", format!("{}{place}{event}{stream}", error.reason))
        }));
        pairs(&rows)
    })
}

async fn parked(target: &Target, output: Output, word: &ParkedList) -> Result<(), Failure> {
    let page = target.parked(&word.name, Position(word.after), word.limit).await?;
    match output.format {
        Format::Json => output.document(&page, String::new),
        Format::Ndjson => page.items.iter().try_for_each(|one| output.text(&line(one)?)),
        Format::Human if page.items.is_empty() => {
            talk("no parked events");
            Ok(())
        }
        Format::Human => {
            let rows: Vec<_> = page.items.iter().map(parked_row).collect();
            output.text(&table(&["POSITION", "STREAM", "EVENT", "ATTEMPTS", "STATE"], &rows))?;
            if let Some(cursor) = page.next_cursor {
                talk(&format!("there are more: --after {cursor}"));
            }
            Ok(())
        }
    }
}

fn parked_row(one: &wire::Parked) -> Vec<String> {
    let state = match (&one.skipped, &one.request) {
        (Some(skipped), _) => format!("skipped by {}", skipped.by),
        (None, Some(requested)) => {
            let wish = if requested.request == ParkedRequest::Retry { "retry" } else { "skip" };
            format!("{wish} asked for")
        }
        (None, None) => one.error.clone().or_else(|| one.waiting_for.clone()).unwrap_or_default(),
    };
    let (stream, event) = (one.aggregate_id.to_string(), one.event_type.to_string());
    vec![one.position.to_string(), stream, event, one.attempts.to_string(), state]
}
