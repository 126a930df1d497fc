//! `saga start|show|list|retry|cancel`.

mod shown;

use std::{num::NonZeroU32, time::Duration};

use clap::{Args, Subcommand, builder::PossibleValuesParser};
use event_sourcing_actors::{AggregateId, saga::SagaStatus};
use event_sourcing_cqrs::wire;
use serde_json::value::RawValue;
use tokio::time::Instant;

use super::{
    Context,
    exit::{Exit, Failure},
    input::{self, Key},
    output::{Format, Output, line, talk},
    target::{Part, SagaChange, Target},
    text::harmless,
};
use crate::shutdown::Signals;

/// How often an instance is looked at while a word waits for it.
const LOOK: Duration = Duration::from_millis(100);
/// Longest `--wait`, in seconds.
const WAIT_SECONDS_MAX: u64 = 86_400;
/// Longest `--timeout-ms`: a year of 365 days.
const TIMEOUT_MS_MAX: u64 = 31_536_000_000;

/// Words about sagas.
#[derive(Debug, Subcommand)]
pub(crate) enum Saga {
    /// Start one; it is recorded when the answer comes, and goes on in a server, or here with --wait
    Start(Start),
    /// Tell how one stands: its steps, timers and timeline
    Show(One),
    /// List them, newest first
    List(List),
    /// Let one go on that was set aside
    Retry(Change),
    /// Have one undo what it did
    Cancel(Change),
}

/// Start a saga.
#[derive(Debug, Args)]
pub(crate) struct Start {
    /// Such as `TransferSaga`
    saga_type: String,
    /// What it works on; `@file` reads a file, `-` standard input [default: {}]
    #[arg(long, value_name = "JSON", allow_hyphen_values = true)]
    data: Option<String>,
    /// How long it may take, in milliseconds, instead of its own time
    #[arg(long, value_name = "MILLISECONDS", value_parser = clap::value_parser!(u64).range(1..=TIMEOUT_MS_MAX))]
    timeout_ms: Option<u64>,
    #[command(flatten)]
    key: Key,
    #[command(flatten)]
    wait: Wait,
}

/// How long a word waits.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Wait {
    /// Seconds to wait for the end; where no server works on the store, this process does meanwhile
    #[arg(long = "wait", value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(..=WAIT_SECONDS_MAX))]
    seconds: Option<u64>,
}

/// A saga.
#[derive(Debug, Args)]
pub(crate) struct One {
    /// As `saga start` and `saga list` tell it
    saga_id: AggregateId,
}

/// Change a saga.
#[derive(Debug, Args)]
pub(crate) struct Change {
    /// As `saga start` and `saga list` tell it
    saga_id: AggregateId,
    #[command(flatten)]
    key: Key,
    #[command(flatten)]
    wait: Wait,
}

/// List sagas.
#[derive(Debug, Args)]
pub(crate) struct List {
    /// Only those with this status
    #[arg(long, value_parser = PossibleValuesParser::new(SagaStatus::ALL.map(SagaStatus::as_str)))]
    status: Option<String>,
    /// Only those of this type, such as `TransferSaga`
    #[arg(long = "type", value_name = "TYPE")]
    saga_type: Option<String>,
    /// Sagas at most, 1 to 1000
    #[arg(long, value_name = "SAGAS", default_value = "100", value_parser = input::limit)]
    limit: NonZeroU32,
    /// Where the list goes on: `next_cursor` of the page before
    #[arg(long, value_name = "CURSOR")]
    cursor: Option<String>,
}

/// What is to be started.
#[derive(Debug, Clone)]
pub(crate) struct NewSaga {
    /// Which saga.
    pub(crate) saga_type: String,
    /// What it works on: an object.
    pub(crate) data: Box<RawValue>,
    /// How long it may take.
    pub(crate) timeout_ms: Option<u64>,
    /// Recognises a repetition.
    pub(crate) key: Option<String>,
}

/// Which part of the list.
#[derive(Debug, Clone)]
pub(crate) struct ListQuery {
    /// With this status.
    pub(crate) status: Option<SagaStatus>,
    /// Of this saga.
    pub(crate) saga_type: Option<String>,
    /// How many at most.
    pub(crate) limit: NonZeroU32,
    /// After this place.
    pub(crate) cursor: Option<String>,
}

/// What a word wants of an instance; it decides which ends are a success.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wish {
    /// That everything is done.
    Done,
    /// That it ends, one way or the other.
    Ended,
    /// That no effect remains.
    Undone,
}

impl Saga {
    /// Does it.
    pub(crate) async fn run(self, context: Context) -> Result<(), Failure> {
        let output = context.output;
        match self {
            Self::Start(word) => word.run(&context).await,
            Self::Show(word) => {
                on(&context, Part::Looks, async |target| shown::print(output, &target.saga(&word.saga_id).await?)).await
            }
            // The list is kept by whoever follows the log: without a server, this process.
            Self::List(word) => on(&context, Part::Follows, async |target| list(target, output, word).await).await,
            Self::Retry(word) => word.run(&context, SagaChange::Retry, Wish::Ended).await,
            Self::Cancel(word) => word.run(&context, SagaChange::Cancel, Wish::Undone).await,
        }
    }
}

/// Opens the target for a word and closes it, whatever became of that.
async fn on<T>(
    context: &Context,
    part: Part,
    word: impl AsyncFnOnce(&Target) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let target = Target::open_as(context, part).await?;
    let result = word(&target).await;
    target.close().await;
    result
}

impl Wait {
    /// Who waits works meanwhile.
    fn part(self) -> Part {
        if self.seconds.is_some() { Part::Works } else { Part::Looks }
    }
}

impl Change {
    /// The change is recorded before anything is worked on: this process shall not complete what it is told to undo.
    async fn run(self, context: &Context, change: SagaChange, wish: Wish) -> Result<(), Failure> {
        let key = self.key.idempotency_key.as_deref();
        let begun =
            on(context, Part::Looks, async |target| target.change_saga(&self.saga_id, change, key).await).await?;
        on(context, self.wait.part(), async |target| finish(target, context.output, begun, self.wait, wish).await).await
    }
}

impl Start {
    async fn run(self, context: &Context) -> Result<(), Failure> {
        // Before anything is opened: what is wrong with the word is told at once.
        let data = self.object()?;
        let key = self.key.idempotency_key;
        let new = NewSaga { saga_type: self.saga_type, data, timeout_ms: self.timeout_ms, key };
        on(context, self.wait.part(), async |target| {
            let begun = target.start_saga(&new).await?;
            finish(target, context.output, begun, self.wait, Wish::Done).await
        })
        .await
    }

    fn object(&self) -> Result<Box<RawValue>, Failure> {
        let data = input::data(self.data.as_deref())?;
        if data.get().starts_with('{') { Ok(data) } else { Err(Failure::usage("--data must be a JSON object")) }
    }
}

async fn list(target: &Target, output: Output, word: List) -> Result<(), Failure> {
    let List { status, saga_type, limit, cursor } = word;
    let status = SagaStatus::ALL.into_iter().find(|known| Some(known.as_str()) == status.as_deref());
    let page = target.sagas(&ListQuery { status, saga_type, limit, cursor }).await?;
    match output.format {
        Format::Json => output.document(&page, String::new),
        Format::Ndjson => page.items.iter().try_for_each(|one| output.text(&line(one)?)),
        Format::Human if page.items.is_empty() => {
            talk("no sagas");
            Ok(())
        }
        Format::Human => {
            output.text(&shown::listed(&page.items))?;
            if let Some(cursor) = page.next_cursor {
                talk(&harmless(&format!("there are more: --cursor {cursor}")));
            }
            Ok(())
        }
    }
}

/// Prints what a word has begun: at once, with who goes on with it, or when it has ended.
async fn finish(
    target: &Target,
    output: Output,
    begun: wire::SagaAccepted,
    wait: Wait,
    wish: Wish,
) -> Result<(), Failure> {
    let Some(seconds) = wait.seconds else {
        if begun.status.is_open() {
            talk(&goes_on(target, &begun.saga_id).await);
        }
        return shown::print_accepted(output, &begun);
    };
    let saga = awaited(target, &begun.saga_id, Duration::from_secs(seconds)).await?;
    shown::print(output, &saga)?;
    match verdict(&saga, wish) {
        Some(exit @ Exit::Unavailable) => {
            let hint = goes_on(target, &saga.saga_id).await;
            Err(Failure::new(exit, format!("the saga is still {} after {seconds} s", saga.status.as_str())).and(hint))
        }
        Some(exit) => {
            let reason = saga.reason.map_or(String::new(), |why| format!(": {} ({})", why.message, why.code));
            Err(Failure::new(exit, format!("the saga is {}{reason}", saga.status.as_str())))
        }
        None => Ok(()),
    }
}

/// Waits for the end, at most so long; a signal ends the waiting, not the saga.
async fn awaited(target: &Target, id: &AggregateId, wait: Duration) -> Result<wire::Saga, Failure> {
    let until = Instant::now() + wait;
    let mut signals = Signals::take()?;
    loop {
        let saga = target.saga(id).await?;
        if !saga.status.is_open() || Instant::now() >= until {
            return Ok(saga);
        }
        tokio::select! {
            () = tokio::time::sleep_until(until.min(Instant::now() + LOOK)) => {}
            _ = signals.next() => {
                talk(&goes_on(target, id).await);
                return Err(Failure::silent(Exit::Unavailable));
            }
        }
    }
}

/// What an instance as it stands means for the word; none: what was wished for.
fn verdict(saga: &wire::Saga, wish: Wish) -> Option<Exit> {
    match (saga.status, wish) {
        (SagaStatus::Running | SagaStatus::Compensating, _) => Some(Exit::Unavailable),
        (SagaStatus::Failed, _) | (SagaStatus::Compensated, Wish::Done) | (SagaStatus::Completed, Wish::Undone) => {
            Some(Exit::Failed)
        }
        (SagaStatus::Completed | SagaStatus::Compensated, _) => None,
    }
}

/// Who goes on with an instance when this word has ended.
async fn goes_on(target: &Target, id: &AggregateId) -> String {
    let who = if target.is_server() {
        "it goes on in the server"
    } else if target.has_saga_worker_beside().await {
        "it goes on in the server on this store"
    } else {
        "no server works on this store: it goes on with the next one, or while a word with `--wait` runs here"
    };
    format!("{who}; `saga show {id}` tells how it stands")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn saga(status: SagaStatus) -> wire::Saga {
        let at = "2026-01-01T00:00:00.000000Z";
        serde_json::from_value(json!({
            "saga_id": "s", "saga_type": "T", "status": status, "data": {}, "steps": [], "timers": [], "reason": null,
            "definition_version": 1, "correlation_id": "c", "started_at": at, "updated_at": at, "ended_at": null,
            "version": 1, "timeline": [],
        }))
        .unwrap()
    }

    #[test]
    fn an_end_that_was_not_wished_for_is_a_failure() {
        let told = |wish| SagaStatus::ALL.map(|status| verdict(&saga(status), wish));
        let (late, failed) = (Some(Exit::Unavailable), Some(Exit::Failed));
        // running, compensating, completed, compensated, failed
        assert_eq!(told(Wish::Done), [late, late, None, failed, failed]);
        assert_eq!(told(Wish::Ended), [late, late, None, None, failed]);
        assert_eq!(told(Wish::Undone), [late, late, failed, None, failed]);
    }
}
