//! `replay`.

use std::time::Duration;

use clap::Args;
use event_sourcing_actors::AggregateId;
use event_sourcing_cqrs::wire;
use indicatif::ProgressBar;

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
}

impl Replay {
    /// Does it.
    pub(crate) async fn run(self, context: Context) -> Result<(), Failure> {
        let target = Target::open(&context).await?;
        let query = ReplayQuery {
            from: self.from_sequence.unwrap_or(0),
            to: self.to_sequence,
            use_snapshot: !self.no_snapshot,
        };
        let spinner =
            if context.output.may_show_progress() { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
        spinner.set_message("folding events");
        spinner.enable_steady_tick(Duration::from_millis(120));
        let replayed = target.replay(&self.aggregate_id, query).await;
        spinner.finish_and_clear();
        target.close().await;
        let replayed = replayed?;
        let with_events = self.from_sequence.is_some();
        context.output.document(&replayed, || human(&replayed, with_events))
    }
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
