//! Words on the configured store: this process opens it itself, beside a server or without one.

mod access;
mod branches;
mod projections;
mod sagas;

use std::{
    future::Future,
    num::NonZeroU32,
    sync::Arc,
    time::{Duration, Instant},
};

use event_sourcing_actors::{
    AggregateId, EventFilter, Expected, FieldError, Position, Runtime, Sequence,
    command_bus::{Action, CommandRequest, Idempotency, Principal, RawAppend, RawEvent},
    error::CommandError,
    history::{At, ReplayRequest},
    ports::{Direction, StreamRange},
};
use event_sourcing_cqrs::{app::App, settings::Database, wire};
use futures_util::StreamExt;
use sha2::{Digest, Sha256};

use super::{
    Context,
    exit::{Exit, Failure},
    target::{Change, Events, LogQuery, Part, ReplayQuery, StreamQuery, What},
};

/// Windows of the store one page looks through.
const WINDOWS_PER_PAGE: u32 = 10;
/// Events a replay lists.
const REPLAY_EVENTS_MAX: NonZeroU32 = NonZeroU32::MIN.saturating_add(99);

/// The store, opened by this process.
#[derive(Debug)]
pub(crate) struct Local {
    app: App,
    /// The timeline that words are about.
    runtime: Arc<Runtime>,
    timeout: Duration,
}

impl Local {
    /// Opens the store: makes no file, changes no schema. Read models of another version are not kept in any part: a
    /// word that looks must not rebuild them.
    pub(crate) async fn open(context: &Context, part: Part) -> Result<Self, Failure> {
        let database = &context.settings.event_store.database_url;
        if *database == Database::Memory {
            return Err(Failure::usage("memory: belongs to one process, so there is nothing to be found there")
                .and("--url talks to the server that holds it"));
        }
        let builder = App::builder().settings(context.settings.clone()).patience(context.timeout);
        let (follows, works) = (matches!(part, Part::Follows | Part::Works), part == Part::Works);
        let builder = builder.open_personal(part != Part::Inspects).guard(false);
        let builder =
            builder.create(false).migrate(false).follow(follows).work_on_sagas(works).upgrade(false).seal(false);
        let app = builder.start().await?;
        let runtime = match context.branch {
            None => app.runtime().clone(),
            Some(id) => match app.runtime().branches().enter(id).await {
                Ok(runtime) => runtime,
                Err(error) => {
                    app.shutdown().await;
                    return Err(error.into());
                }
            },
        };
        let local = Self { app, runtime, timeout: context.timeout };
        if follows {
            local.await_owners().await;
        }
        Ok(local)
    }

    /// The app.
    pub(crate) fn app(&self) -> &App {
        &self.app
    }

    /// How long words wait.
    #[cfg(feature = "redis")]
    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// The runtime of the timeline that words are about.
    pub(crate) fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// Ends what was started.
    pub(crate) async fn close(self) {
        self.app.shutdown().await;
    }

    /// Waits as long as `--timeout` says.
    pub(crate) async fn bounded<T, E: Into<Failure>>(
        &self,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, Failure> {
        self.bounded_by(self.timeout, work).await
    }

    async fn bounded_by<T, E: Into<Failure>>(
        &self,
        time: Duration,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, Failure> {
        match tokio::time::timeout(time, work).await {
            Ok(result) => result.map_err(Into::into),
            Err(_) => {
                let message = format!("the store gave no answer within {time:?}");
                Err(Failure::new(Exit::Unavailable, message).and("--timeout waits longer"))
            }
        }
    }

    pub(crate) async fn log(&self, query: &LogQuery) -> Result<wire::LogPage, Failure> {
        let feed = self.runtime().feed();
        let mut page = self.bounded(feed.page(query.after, &query.filter, query.limit, WINDOWS_PER_PAGE)).await?;
        if query.is_raw {
            page.events.iter_mut().for_each(|event| event.opened = None);
        }
        Ok(wire::LogPage { events: wire::events(&page.events)?, next_cursor: page.examined })
    }

    pub(crate) async fn stream(&self, id: &AggregateId, query: &StreamQuery) -> Result<wire::StreamPage, Failure> {
        let feed = self.runtime().feed();
        let summary = self.bounded(feed.summary(id)).await?.ok_or_else(|| unknown(id))?;
        let head = summary.head.sequence;
        let (from, to) = (query.from.max(1), query.to.unwrap_or(u64::MAX).min(head.0));
        let range =
            StreamRange { from: Sequence(from), to: Sequence(to), direction: query.direction, limit: query.limit };
        let events = if from > to { Vec::new() } else { self.bounded(feed.stream(id, range)).await? };
        let next = events.last().and_then(|last| match query.direction {
            Direction::Forward => Some(last.sequence.0 + 1).filter(|next| *next <= to),
            Direction::Backward => last.sequence.0.checked_sub(1).filter(|next| *next >= from),
        });
        Ok(wire::StreamPage {
            aggregate_id: id.clone(),
            aggregate_type: summary.aggregate_type,
            version: head,
            events: wire::events(&events)?,
            next_cursor: next.map(Sequence),
        })
    }

    pub(crate) async fn head(&self) -> Result<Position, Failure> {
        self.bounded(self.runtime().feed().head()).await
    }

    pub(crate) async fn follow(&self, after: Position, filter: EventFilter) -> Result<Events, Failure> {
        let events = self.runtime().feed().follow(after, filter);
        Ok(events.map(|event| Ok(wire::Event::try_from(&event?)?)).boxed())
    }

    pub(crate) async fn change(&self, change: Change) -> Result<wire::Accepted, Failure> {
        let idempotency = change
            .idempotency_key
            .as_deref()
            .map(|key| Idempotency { key: Arc::from(key), fingerprint: fingerprint_of(&change) });
        let data: Arc<_> = change.data.into();
        let is_event = matches!(change.what, What::Event(..));
        let (name, action) = match change.what {
            What::Command(command_type) => (command_type.clone(), Action::Named { command_type, data }),
            What::Event(event_type, aggregate_type) => {
                let events = vec![RawEvent { event_id: None, event_type, data }];
                (wire::APPEND.to_owned(), Action::Append(RawAppend { aggregate_type, events }))
            }
        };
        let mut request = CommandRequest::new(change.aggregate_id, action, self.timeout);
        // As whoever calls a server without authentication, so that both share their idempotency keys.
        request.principal = Principal::unguarded();
        request.expected = change.expected;
        request.idempotency = idempotency;
        request.dry_run = change.dry_run;
        let accepted = self.runtime().bus().send(request).await.map_err(|error| pointed(error, is_event))?;
        Ok(wire::Accepted::new(&name, &accepted, change.dry_run))
    }

    pub(crate) async fn replay(&self, id: &AggregateId, query: ReplayQuery) -> Result<wire::Replayed, Failure> {
        let started = Instant::now();
        let request = ReplayRequest {
            from_sequence: Sequence(query.from.max(1)),
            to_sequence: Sequence(query.to.unwrap_or(u64::MAX)),
            use_snapshot: query.use_snapshot,
            limit: REPLAY_EVENTS_MAX,
        };
        // Not bounded by --timeout: a long history takes its time, and Ctrl-C ends it.
        let replayed = self.runtime().history().replay(id, request).await?;
        let (state, events) = replayed.ok_or_else(|| unknown(id))?;
        Ok(wire::Replayed::new(&state, &events, started.elapsed())?)
    }

    // As above: not bounded by --timeout.
    pub(crate) async fn as_of(&self, id: &AggregateId, at: At) -> Result<wire::State, Failure> {
        let found = self.runtime().history().as_of(id, at).await?.ok_or_else(|| unknown(id))?;
        Ok(wire::State::as_of(id.clone(), found)?)
    }

    pub(crate) async fn difference(
        &self,
        id: &AggregateId,
        from: Sequence,
        to: Option<Sequence>,
    ) -> Result<wire::Changes, Failure> {
        let to = to.unwrap_or(Sequence(u64::MAX));
        let found = self.runtime().history().difference(id, from, to).await?.ok_or_else(|| unknown(id))?;
        Ok(wire::Changes::new(id.clone(), found))
    }
}

fn unknown(id: &AggregateId) -> Failure {
    Failure::not_found(format!("there is no aggregate {:?}: no event was ever recorded under this id", id.as_str()))
}

/// The bus's pointers as those of the HTTP API, so that a word says the same with and without `--url`.
fn pointed(error: CommandError, is_event: bool) -> CommandError {
    let CommandError::Invalid { errors } = error else { return error };
    let pointer = |within: String| match within.strip_prefix("/0") {
        Some(rest) if is_event => rest.to_owned(),
        _ if is_event => within,
        _ => format!("/data{within}"),
    };
    let errors = errors.into_iter().map(|error| FieldError { pointer: pointer(error.pointer), ..error });
    CommandError::Invalid { errors: errors.collect() }
}

/// What a repeated change must be equal in.
fn fingerprint_of(change: &Change) -> [u8; 32] {
    let (kind, name, of) = match &change.what {
        What::Command(name) => ("command", name.as_str(), None),
        What::Event(event_type, of) => ("event", event_type.as_str(), of.as_ref().map(|of| of.as_str())),
    };
    let expected = match change.expected {
        Expected::Any => String::new(),
        Expected::NoStream => "*".to_owned(),
        Expected::Exactly(version) => version.to_string(),
    };
    let id = change.aggregate_id.as_str();
    fingerprint(&[kind, name, of.unwrap_or_default(), id, &expected, change.data.get()])
}

/// The digest of what a word asks for, part by part.
fn fingerprint(parts: &[&str]) -> [u8; 32] {
    let mut hash = Sha256::new_with_prefix(b"event-sourcing-cqrs/word/v1");
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}
