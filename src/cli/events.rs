//! `events list|get|append|tail`.

use std::num::NonZeroU32;

use chrono::{DateTime, FixedOffset};
use clap::{Args, Subcommand, ValueEnum};
use event_sourcing_actors::{AggregateId, AggregateType, EventFilter, EventType, Expected, Position, ports};
use event_sourcing_cqrs::wire;
use futures_util::StreamExt;
use indicatif::{ProgressBar, ProgressStyle};

use super::{
    Context,
    command::send,
    exit::{Exit, Failure},
    input,
    output::{Format, Output, line, talk},
    target::{Change, LogQuery, StreamQuery, Target, What},
    text::{count, event_line, event_title},
};
use crate::shutdown::Signals;

/// Events of one page of `--all`.
const PAGE: NonZeroU32 = NonZeroU32::MIN.saturating_add(999);

/// Words about events.
#[derive(Debug, Subcommand)]
pub(crate) enum Events {
    /// List the log
    List(List),
    /// List one aggregate's events
    Get(Get),
    /// Append an event as it is, without a command
    Append(Append),
    /// Follow the log as it grows, until Ctrl-C
    Tail(Tail),
}

/// Which events.
#[derive(Debug, Args)]
pub(crate) struct Filter {
    /// Only this event type; may be repeated
    #[arg(long, value_name = "TYPE")]
    event_type: Vec<EventType>,
    /// Only streams of this aggregate type; may be repeated
    #[arg(long, value_name = "TYPE")]
    aggregate_type: Vec<AggregateType>,
    /// Only what this request set off
    #[arg(long, value_name = "ID")]
    correlation_id: Option<String>,
    /// Only events recorded at this instant or later, RFC 3339 with an offset
    #[arg(long, value_name = "INSTANT")]
    from_time: Option<DateTime<FixedOffset>>,
    /// Only events recorded at this instant or earlier
    #[arg(long, value_name = "INSTANT")]
    to_time: Option<DateTime<FixedOffset>>,
}

/// List the log.
#[derive(Debug, Args)]
pub(crate) struct List {
    /// Only events after this position
    #[arg(long, value_name = "POSITION", default_value_t = 0)]
    after: u64,
    #[command(flatten)]
    filter: Filter,
    /// Events at most, 1 to 1000
    #[arg(long, value_name = "EVENTS", default_value = "100", value_parser = input::limit, conflicts_with = "all")]
    limit: NonZeroU32,
    /// To the end of the log
    #[arg(long)]
    all: bool,
}

/// List one aggregate's events.
#[derive(Debug, Args)]
pub(crate) struct Get {
    /// The aggregate
    aggregate_id: AggregateId,
    /// The first sequence
    #[arg(long, value_name = "SEQUENCE", default_value_t = 1)]
    from_sequence: u64,
    /// The last sequence
    #[arg(long, value_name = "SEQUENCE")]
    to_sequence: Option<u64>,
    /// Events at most, 1 to 1000
    #[arg(long, value_name = "EVENTS", default_value = "100", value_parser = input::limit)]
    limit: NonZeroU32,
    /// Which end first
    #[arg(long, value_enum, default_value_t)]
    direction: Direction,
}

/// Which end first.
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum Direction {
    /// Oldest first
    #[default]
    Forward,
    /// Newest first
    Backward,
}

/// Append an event as it is.
#[derive(Debug, Args)]
pub(crate) struct Append {
    /// The aggregate
    aggregate_id: AggregateId,
    /// The event's type
    event_type: EventType,
    /// The stream's type; needed for a new stream of events that no aggregate owns
    #[arg(long, value_name = "TYPE")]
    aggregate_type: Option<AggregateType>,
    /// The event's payload; `@file` reads a file, `-` standard input [default: {}]
    #[arg(long, value_name = "JSON", allow_hyphen_values = true)]
    data: Option<String>,
    #[command(flatten)]
    key: input::Key,
}

/// Follow the log.
#[derive(Debug, Args)]
pub(crate) struct Tail {
    /// Start after this position; else with what comes from now on
    #[arg(long, value_name = "POSITION")]
    after: Option<u64>,
    /// Start with the first event
    #[arg(long, conflicts_with = "after")]
    from_start: bool,
    #[command(flatten)]
    filter: Filter,
}

impl Events {
    /// Does it.
    pub(crate) async fn run(self, context: Context) -> Result<(), Failure> {
        let output = context.output;
        if let Self::Append(word) = self {
            return send(&context, word.change()?).await;
        }
        let target = Target::open(&context).await?;
        let result = match &self {
            Self::List(word) => word.run(&target, output).await,
            Self::Get(word) => word.run(&target, output).await,
            Self::Tail(word) => word.run(&target, output).await,
            Self::Append(_) => Ok(()),
        };
        target.close().await;
        result
    }
}

impl Filter {
    /// As the log takes it.
    pub(crate) fn parsed(&self) -> EventFilter {
        EventFilter {
            event_types: self.event_type.clone(),
            aggregate_types: self.aggregate_type.clone(),
            correlation_id: self.correlation_id.as_deref().map(Into::into),
            from_time: self.from_time.map(Into::into),
            to_time: self.to_time.map(Into::into),
        }
    }
}

impl List {
    async fn run(&self, target: &Target, output: Output) -> Result<(), Failure> {
        let limit = if self.all { PAGE } else { self.limit };
        let query = LogQuery { after: Position(self.after), filter: self.filter.parsed(), limit, is_raw: false };
        if self.all {
            return list_all(target, output, query).await;
        }
        let page = target.log(&query).await?;
        match output.format {
            Format::Json => output.document(&page, String::new)?,
            Format::Ndjson => print_lines(output, &page.events)?,
            Format::Human => {
                print_table(output, &page.events)?;
                if page.events.len() >= limit.get() as usize {
                    talk(&format!("there may be more: --after {}", page.next_cursor));
                }
            }
        }
        Ok(())
    }
}

/// The whole log, page by page: never more than one page is held.
async fn list_all(target: &Target, output: Output, mut query: LogQuery) -> Result<(), Failure> {
    let head = if output.may_show_progress() { Some(target.head().await?) } else { None };
    let progress = head.map_or_else(ProgressBar::hidden, |head| ProgressBar::new(head.0).with_style(style()));
    let mut listed = 0_u64;
    if output.format == Format::Json {
        output.part("{\"events\":[")?;
    }
    loop {
        let page = target.log(&query).await?;
        let mut text = String::new();
        for event in &page.events {
            let (is_first, shown) =
                (listed == 0, if output.format == Format::Human { event_line(event) } else { line(event)? });
            listed += 1;
            match output.format {
                Format::Json => text.push_str(if is_first { "\n" } else { ",\n" }),
                Format::Human if is_first => text.push_str(&(event_title() + "\n")),
                Format::Human | Format::Ndjson => {}
            }
            text.push_str(&shown);
            text.push_str(if output.format == Format::Json { "" } else { "\n" });
        }
        output.part(&text)?;
        progress.set_position(page.next_cursor.0);
        if page.next_cursor == query.after {
            break;
        }
        query.after = page.next_cursor;
    }
    progress.finish_and_clear();
    match output.format {
        Format::Json => output.text(&format!("],\"next_cursor\":{}}}", query.after))?,
        Format::Human => talk(&count(listed, "event")),
        Format::Ndjson => {}
    }
    Ok(())
}

fn style() -> ProgressStyle {
    let template = "{pos} of {len} positions  {wide_bar}  {per_sec}  {eta} left";
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

impl Get {
    async fn run(&self, target: &Target, output: Output) -> Result<(), Failure> {
        let direction = match self.direction {
            Direction::Forward => ports::Direction::Forward,
            Direction::Backward => ports::Direction::Backward,
        };
        let (from, to, limit) = (self.from_sequence, self.to_sequence, self.limit);
        let page = target.stream(&self.aggregate_id, &StreamQuery { from, to, direction, limit }).await?;
        match output.format {
            Format::Json => output.document(&page, String::new),
            Format::Ndjson => print_lines(output, &page.events),
            Format::Human => {
                print_table(output, &page.events)?;
                if let Some(next) = page.next_cursor {
                    let flag = if matches!(self.direction, Direction::Forward) { "from" } else { "to" };
                    talk(&format!("there are more: --{flag}-sequence {next}"));
                }
                Ok(())
            }
        }
    }
}

impl Append {
    /// Reads the payload, which may take its time, before anything is opened.
    fn change(self) -> Result<Change, Failure> {
        Ok(Change {
            aggregate_id: self.aggregate_id,
            what: What::Event(self.event_type, self.aggregate_type),
            data: input::data(self.data.as_deref())?,
            expected: Expected::Any,
            idempotency_key: self.key.idempotency_key,
            dry_run: false,
        })
    }
}

impl Tail {
    async fn run(&self, target: &Target, output: Output) -> Result<(), Failure> {
        let filter = self.filter.parsed();
        let after = match (self.after, self.from_start) {
            (Some(after), _) => Position(after),
            (None, true) => Position::ZERO,
            (None, false) => target.head().await?,
        };
        let mut events = target.follow(after, filter).await?;
        talk(&format!("following the log after position {after}; Ctrl-C ends"));
        let mut signals = Signals::take()?;
        loop {
            let next = tokio::select! {
                next = events.next() => next,
                _ = signals.next() => return Ok(()),
            };
            match next {
                Some(Ok(event)) if output.format == Format::Human => output.text(&event_line(&event))?,
                Some(Ok(event)) => output.text(&line(&event)?)?,
                Some(Err(failure)) => return Err(failure),
                None => return Err(Failure::new(Exit::Unavailable, "the server ended the stream")),
            }
        }
    }
}

fn print_lines(output: Output, events: &[wire::Event]) -> Result<(), Failure> {
    events.iter().try_for_each(|event| output.text(&line(event)?))
}

fn print_table(output: Output, events: &[wire::Event]) -> Result<(), Failure> {
    if events.is_empty() {
        talk("no events");
        return Ok(());
    }
    output.text(&event_title())?;
    events.iter().try_for_each(|event| output.text(&event_line(event)))
}
