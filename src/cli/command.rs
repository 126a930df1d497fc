//! `command send|list`.

use clap::{Args, Subcommand};
use event_sourcing_actors::{AggregateId, Expected, Sequence};
use event_sourcing_cqrs::wire;

use super::{
    Context,
    exit::Failure,
    input::{self, Key},
    known::{self, Kind},
    output::Output,
    target::{Change, Target, What},
    text::{count, harmless},
};

/// Words about commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Send a command; its events are durable when the answer comes
    Send(Send),
    /// List the command types, what each takes and does
    List,
}

/// Send a command.
#[derive(Debug, Args)]
pub(crate) struct Send {
    /// Such as `DepositMoney`
    command_type: String,
    /// The aggregate
    aggregate_id: AggregateId,
    /// The command's members; `@file` reads a file, `-` standard input [default: {}]
    #[arg(long, value_name = "JSON", allow_hyphen_values = true)]
    data: Option<String>,
    #[command(flatten)]
    key: Key,
    /// Refuse unless the aggregate is at this version; 0 = new
    #[arg(long, value_name = "VERSION")]
    expected_version: Option<u64>,
    /// Decide, but store nothing
    #[arg(long)]
    dry_run: bool,
}

impl Command {
    /// Does it.
    pub(crate) async fn run(self, context: Context) -> Result<(), Failure> {
        let Self::Send(word) = self else { return known::list(&context, Kind::Command).await };
        let name = word.command_type.clone();
        let change = Change {
            aggregate_id: word.aggregate_id,
            what: What::Command(word.command_type),
            data: input::data(word.data.as_deref())?,
            expected: word.expected_version.map_or(Expected::Any, |version| Expected::Exactly(Sequence(version))),
            idempotency_key: word.key.idempotency_key,
            dry_run: word.dry_run,
        };
        match send(&context, change).await {
            Err(failure) => Err(known::helped(&context, Kind::Command, &name, failure).await),
            Ok(()) => Ok(()),
        }
    }
}

/// Makes a change and prints the answer.
pub(crate) async fn send(context: &Context, change: Change) -> Result<(), Failure> {
    let target = Target::open(context).await?;
    let answer = target.change(change).await;
    target.close().await;
    print_accepted(context.output, &answer?)
}

fn print_accepted(output: Output, accepted: &wire::Accepted) -> Result<(), Failure> {
    output.document(accepted, || {
        let wire::Accepted { aggregate_type, aggregate_id, version, events, dry_run, .. } = accepted;
        let would = if *dry_run { "would be" } else { "is" };
        let events_count = count(events.len() as u64, "event");
        let mut text =
            harmless(&format!("{aggregate_type} {aggregate_id} {would} at version {version}: {events_count}"));
        for event in events {
            let place = event.position.map_or(String::new(), |position| format!("  at position {position}"));
            text.push('\n');
            text.push_str(&harmless(&format!("{:>8}  {}{place}", event.sequence.0, event.event_type)));
        }
        text
    })
}
