//! `replay` and `diff`.

use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use clap::Args;
use event_sourcing_actors::{AggregateId, Position, Sequence, difference::Change, history::At};
use event_sourcing_cqrs::wire;
use indicatif::ProgressBar;
use serde_json::Value;

use super::{
    Context,
    exit::Failure,
    target::{ReplayQuery, Target},
    text::{count, event_line, event_title, harmless},
};

/// Fold an aggregate's events into its state.
#[derive(Debug, Args)]
pub(crate) struct Replay {
    /// The aggregate
    aggregate_id: AggregateId,
    /// List the events from this sequence on; the state is the full one whatever it is
    #[arg(long, value_name = "SEQUENCE")]
    from_sequence: Option<u64>,
    /// Fold up to this sequence
    #[arg(long, value_name = "SEQUENCE", value_parser = clap::value_parser!(u64).range(1..))]
    to_sequence: Option<u64>,
    /// Fold from the first event on
    #[arg(long)]
    no_snapshot: bool,
    #[command(flatten)]
    point: Point,
}

/// The state as it was at a point of the past.
#[derive(Debug, Args)]
#[group(multiple = false, conflicts_with_all = ["from_sequence", "to_sequence", "no_snapshot"])]
struct Point {
    /// The state after this event of the aggregate; 0 = before the first
    #[arg(long, value_name = "SEQUENCE")]
    at_sequence: Option<u64>,
    /// The state after everything recorded at or before this instant (RFC 3339 with an offset)
    #[arg(long, value_name = "TIME", value_parser = instant)]
    at_time: Option<DateTime<Utc>>,
    /// The state after this position of the log
    #[arg(long, value_name = "POSITION")]
    at_position: Option<u64>,
}

impl Point {
    fn at(&self) -> Option<At> {
        let sequence = self.at_sequence.map(|sequence| At::Sequence(Sequence(sequence)));
        let position = self.at_position.map(|position| At::Position(Position(position)));
        sequence.or(position).or(self.at_time.map(At::Time))
    }
}

/// Tell what changed in an aggregate's state between two of its events.
#[derive(Debug, Args)]
pub(crate) struct Diff {
    /// The aggregate
    aggregate_id: AggregateId,
    /// The first sequence; 0 = before the first event
    #[arg(long, value_name = "SEQUENCE", default_value_t = 0)]
    from_sequence: u64,
    /// The second one [default: the last]
    #[arg(long, value_name = "SEQUENCE")]
    to_sequence: Option<u64>,
}

impl Replay {
    /// Does it.
    pub(crate) async fn run(self, context: Context) -> Result<(), Failure> {
        let target = Target::open(&context).await?;
        if let Some(at) = self.point.at() {
            let state = spinning(&context, target.as_of(&self.aggregate_id, at)).await;
            target.close().await;
            let state = state?;
            return context.output.document(&state, || at_point(&state));
        }
        let query = ReplayQuery {
            from: self.from_sequence.unwrap_or(0),
            to: self.to_sequence,
            use_snapshot: !self.no_snapshot,
        };
        let replayed = spinning(&context, target.replay(&self.aggregate_id, query)).await;
        target.close().await;
        let replayed = replayed?;
        let with_events = self.from_sequence.is_some();
        context.output.document(&replayed, || human(&replayed, with_events))
    }
}

impl Diff {
    /// Does it.
    pub(crate) async fn run(self, context: Context) -> Result<(), Failure> {
        let target = Target::open(&context).await?;
        let (from, to) = (Sequence(self.from_sequence), self.to_sequence.map(Sequence));
        let found = spinning(&context, target.difference(&self.aggregate_id, from, to)).await;
        target.close().await;
        let found = found?;
        context.output.document(&found, || changed(&found))
    }
}

async fn spinning<T>(context: &Context, work: impl Future<Output = T>) -> T {
    let spinner = if context.output.may_show_progress() { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
    spinner.set_message("folding events");
    spinner.enable_steady_tick(Duration::from_millis(120));
    let done = work.await;
    spinner.finish_and_clear();
    done
}

fn instant(text: &str) -> Result<DateTime<Utc>, String> {
    let wrong = |_| "must be RFC 3339 with an offset, as in 2024-01-01T00:00:00Z".to_owned();
    DateTime::parse_from_rfc3339(text).map(|time| time.to_utc()).map_err(wrong)
}

fn at_point(state: &wire::State) -> String {
    let event = match (state.position, state.recorded_at) {
        (Some(position), Some(at)) => {
            format!(" (position {position}, recorded at {})", at.to_rfc3339_opts(SecondsFormat::Micros, true))
        }
        _ => " (before its first event)".to_owned(),
    };
    let as_of = state.as_of_position.map_or(String::new(), |position| format!(" as of position {position}"));
    let settled = if state.settled == Some(false) { ", not settled: the log has not gone past that point" } else { "" };
    let title =
        format!("{} {} at version {}{event}{as_of}{settled}", state.aggregate_type, state.aggregate_id, state.version);
    [harmless(&title), harmless(state.state.get())].join("\n")
}

fn changed(found: &wire::Changes) -> String {
    let title = format!(
        "{} {} from version {} to {}: {}",
        found.aggregate_type,
        found.aggregate_id,
        found.from_sequence,
        found.to_sequence,
        count(found.changes.len() as u64, "change"),
    );
    let value = |value: &Option<Value>| value.as_ref().map_or("(nothing)".to_owned(), Value::to_string);
    let line = |Change { path, from, to }: &Change| {
        let path = if path.is_empty() { "(all)" } else { path };
        harmless(&format!("{path}: {} -> {}", value(from), value(to)))
    };
    [harmless(&title)].into_iter().chain(found.changes.iter().map(line)).collect::<Vec<_>>().join("\n")
}

fn human(replayed: &wire::Replayed, with_events: bool) -> String {
    let snapshot = match replayed.snapshot_sequence {
        Some(sequence) => format!("after the snapshot at {sequence}"),
        None => "no snapshot".to_owned(),
    };
    let mut text = harmless(&format!(
        "{} {} at version {} ({} folded in {} ms, {snapshot})",
        replayed.aggregate_type,
        replayed.aggregate_id,
        replayed.version,
        count(replayed.events_replayed, "event"),
        replayed.duration_ms,
    ));
    text.push('\n');
    text.push_str(&harmless(replayed.state.get()));
    if with_events {
        let lines = replayed.events.iter().map(event_line);
        text = [text, event_title()].into_iter().chain(lines).collect::<Vec<_>>().join("\n");
    }
    text
}
