//! Answers: what a decided command will be told once it is durable, as recorded under its idempotency key, and as
//! recalled from the log for a command that was seen before.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{
    aggregate::Refusal,
    command_bus::{Action, AppendedEvent, CommandAccepted, CommandRequest, CommandResult, Idempotency, RawEvent},
    envelope::RecordedEvent,
    error::CommandError,
    id::{AggregateId, AggregateType, CommandId, EventId},
    ports::{CommandProbe, Direction, EventStore, KeyRecord, StoreError, StreamRange},
    version::{Position, Sequence},
};

use std::num::NonZeroU32;

/// Events read at once.
const PAGE_EVENTS: u32 = 1_000;

/// The answer of a decision, to be given when the store has confirmed it.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    /// Accepted; positions are filled in when they are known.
    Accepted(CommandAccepted),
    /// Would be accepted: the answer of a dry run, which stores nothing.
    Tried(CommandAccepted),
    /// Not accepted.
    Refused(CommandError),
}

/// What is stored under an idempotency key: enough to give the same answer again from the log.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Recorded {
    Accepted {
        command_id: CommandId,
        aggregate_type: AggregateType,
        aggregate_id: AggregateId,
        version: Sequence,
        events: u64,
    },
    Rejected(Refusal),
    PreconditionFailed {
        current_version: Sequence,
    },
}

impl Answer {
    /// The bytes to record under a key; `None` for answers that are not repeated.
    pub(crate) fn recorded(&self) -> Option<Bytes> {
        let recorded = match self {
            Self::Accepted(accepted) => Recorded::Accepted {
                command_id: accepted.command_id,
                aggregate_type: accepted.aggregate_type.clone(),
                aggregate_id: accepted.aggregate_id.clone(),
                version: accepted.version,
                events: accepted.events.len() as u64,
            },
            Self::Refused(CommandError::Rejected { refusal, .. }) => Recorded::Rejected(refusal.clone()),
            Self::Refused(CommandError::PreconditionFailed { current_version, .. }) => {
                Recorded::PreconditionFailed { current_version: *current_version }
            }
            Self::Refused(_) | Self::Tried(_) => return None,
        };
        serde_json::to_vec(&recorded).ok().map(Bytes::from)
    }

    /// The final answer, once the first of its events is at `first`, or the stream's last event at `last`.
    pub(crate) fn settled(self, first: Position, last: Position) -> CommandResult {
        match self {
            Self::Accepted(mut accepted) => {
                for (offset, event) in accepted.events.iter_mut().enumerate() {
                    event.position = first.plus(offset as u64);
                }
                accepted.position = accepted.events.last().map_or(last, |event| event.position);
                Ok(accepted)
            }
            Self::Tried(accepted) => Ok(CommandAccepted { position: last, ..accepted }),
            Self::Refused(error) => Err(error),
        }
    }
}

/// How the store recognises a request it has seen.
pub(crate) fn probe(request: &CommandRequest, answer: &Answer) -> CommandProbe {
    let event_ids = match &request.action {
        Action::Append(append) => event_ids(request.command_id, &append.events).collect(),
        Action::Command(_) | Action::Named { .. } => vec![EventId::derived(request.command_id, 0)],
    };
    let key = request.idempotency.as_ref().filter(|_| !request.dry_run).and_then(|idempotency| {
        Some(KeyRecord {
            principal: request.principal.name.clone(),
            key: idempotency.key.clone(),
            fingerprint: idempotency.fingerprint,
            outcome: answer.recorded()?,
        })
    });
    CommandProbe { event_ids, key }
}

/// The ids of raw events: the client's own, else derived.
pub(crate) fn event_ids(command: CommandId, events: &[RawEvent]) -> impl Iterator<Item = EventId> {
    (0_u32..)
        .zip(events)
        .map(move |(ordinal, event)| event.event_id.unwrap_or_else(|| EventId::derived(command, ordinal)))
}

/// The answer of a request that the store has seen, from the log; never from a new decision.
///
/// # Errors
/// [`CommandError::Interrupted`] when it cannot be found or read now (the same command goes again: what was stored must
/// not be reported as not done), and whatever the recorded answer was.
pub(crate) async fn recall(store: &dyn EventStore, request: &CommandRequest) -> CommandResult {
    match look_up(store, request).await {
        Err(CommandError::StoreUnavailable { reason }) => {
            tracing::warn!(reason, "a recorded answer could not be read; the command goes again");
            Err(CommandError::Interrupted)
        }
        answer => answer,
    }
}

/// The answer recorded under a key; `None` if there is none.
///
/// # Errors
/// [`StoreError`].
pub(crate) async fn recorded_under(
    store: &dyn EventStore,
    principal: &str,
    idempotency: &Idempotency,
) -> Result<Option<CommandResult>, StoreError> {
    let Some(record) = store.find_key(principal, &idempotency.key).await? else { return Ok(None) };
    if record.fingerprint != idempotency.fingerprint {
        return Ok(Some(Err(CommandError::KeyReused)));
    }
    Ok(Some(from_record(store, &record).await))
}

async fn look_up(store: &dyn EventStore, request: &CommandRequest) -> CommandResult {
    if let Some(idempotency) = &request.idempotency
        && let Some(recorded) = recorded_under(store, &request.principal.name, idempotency).await?
    {
        return recorded;
    }
    match &request.action {
        Action::Append(append) => raw_again(store, request, &append.events).await,
        Action::Command(_) | Action::Named { .. } => command_again(store, request).await,
    }
}

async fn from_record(store: &dyn EventStore, record: &KeyRecord) -> CommandResult {
    let recorded = serde_json::from_slice(&record.outcome)
        .map_err(|error| CommandError::Internal { reason: format!("a recorded answer cannot be read: {error}") })?;
    match recorded {
        Recorded::Rejected(refusal) => Err(CommandError::Rejected { refusal, replayed: true }),
        Recorded::PreconditionFailed { current_version } => {
            Err(CommandError::PreconditionFailed { current_version, replayed: true })
        }
        Recorded::Accepted { command_id, aggregate_type, aggregate_id, version, events } => {
            // Without events the stream's last event of then is read, for its position; an empty stream has none.
            let first = Sequence((version.0 + 1).saturating_sub(events)).min(version);
            let stored = match version {
                Sequence::ZERO => Vec::new(),
                _ => read(store, &aggregate_id, first, version).await?,
            };
            let position = stored.last().map_or(Position::ZERO, |event| event.position);
            let events = if events == 0 { Vec::new() } else { stored.iter().map(appended).collect() };
            Ok(CommandAccepted { command_id, aggregate_type, aggregate_id, version, position, events, replayed: true })
        }
    }
}

async fn command_again(store: &dyn EventStore, request: &CommandRequest) -> CommandResult {
    let Some(first) = store.find_events(&[EventId::derived(request.command_id, 0)]).await?.into_iter().next() else {
        return Err(CommandError::Interrupted);
    };
    let mut events: Vec<RecordedEvent> = Vec::new();
    let mut next = first.sequence;
    // A command's events follow each other; the first that is not one of them is the end.
    for ordinal in (0_u32..).step_by(PAGE_EVENTS as usize) {
        let end = next.plus(u64::from(PAGE_EVENTS) - 1);
        let page = read(store, &first.aggregate_id, next, end).await?;
        let is_ours =
            |(event, ordinal): &(RecordedEvent, u32)| event.event_id == EventId::derived(request.command_id, *ordinal);
        let ours = page.into_iter().zip(ordinal..).take_while(is_ours).map(|(event, _)| event);
        let before = events.len();
        events.extend(ours);
        if events.len() - before < PAGE_EVENTS as usize {
            break;
        }
        next = end.next();
    }
    accepted(request.command_id, &events).ok_or(CommandError::Interrupted)
}

async fn raw_again(store: &dyn EventStore, request: &CommandRequest, raw: &[RawEvent]) -> CommandResult {
    let ids: Vec<EventId> = event_ids(request.command_id, raw).collect();
    let stored = store.find_events(&ids).await?;
    let Some(taken) = stored.first() else { return Err(CommandError::Interrupted) };
    let is_same = stored.len() == raw.len()
        && stored.iter().zip(raw).zip(&ids).zip(taken.sequence.0..).all(|(((event, raw), id), sequence)| {
            event.aggregate_id == request.aggregate_id
                && event.event_id == *id
                && event.sequence.0 == sequence
                && event.event_type == raw.event_type
                && is_same_json(event.payload(), raw.data.get().as_bytes())
        });
    if !is_same {
        return Err(CommandError::EventIdReused { event_id: taken.event_id });
    }
    let command = taken.parsed_metadata().map_or(request.command_id, |metadata| metadata.command_id);
    accepted(command, &stored).ok_or(CommandError::Interrupted)
}

/// Whether two documents differ in white space at most.
fn is_same_json(one: &[u8], other: &[u8]) -> bool {
    one == other || significant(one).eq(significant(other))
}

/// A document's bytes without the white space between its tokens.
fn significant(document: &[u8]) -> impl Iterator<Item = u8> {
    let (mut is_in_text, mut is_escaped) = (false, false);
    document.iter().copied().filter(move |byte| {
        if is_in_text {
            is_in_text = is_escaped || *byte != b'"';
            is_escaped = !is_escaped && *byte == b'\\';
            return true;
        }
        is_in_text = *byte == b'"';
        !byte.is_ascii_whitespace()
    })
}

fn appended(event: &RecordedEvent) -> AppendedEvent {
    AppendedEvent {
        event_id: event.event_id,
        event_type: event.event_type.clone(),
        sequence: event.sequence,
        position: event.position,
    }
}

fn accepted(command_id: CommandId, events: &[RecordedEvent]) -> Option<CommandAccepted> {
    let last = events.last()?;
    Some(CommandAccepted {
        command_id,
        aggregate_type: last.aggregate_type.clone(),
        aggregate_id: last.aggregate_id.clone(),
        version: last.sequence,
        position: last.position,
        events: events.iter().map(appended).collect(),
        replayed: true,
    })
}

/// Events of a stream, both ends inclusive, in as many pages as it takes.
async fn read(
    store: &dyn EventStore,
    id: &AggregateId,
    from: Sequence,
    to: Sequence,
) -> Result<Vec<RecordedEvent>, StoreError> {
    let limit = NonZeroU32::MIN.saturating_add(PAGE_EVENTS - 1);
    let (mut events, mut next) = (Vec::new(), from);
    while next <= to {
        let range = StreamRange { from: next, to, direction: Direction::Forward, limit };
        let page = store.read_stream(id, range).await?;
        let is_end = page.len() < PAGE_EVENTS as usize;
        next = next.plus(page.len() as u64);
        events.extend(page);
        if is_end {
            break;
        }
    }
    Ok(events)
}

#[cfg(test)]
mod tests {
    use super::is_same_json;

    #[test]
    fn only_white_space_between_tokens_is_insignificant() {
        assert!(is_same_json(br#"{"a": [1, 2]}"#, b"{\"a\":[1,\n2]}"));
        assert!(!is_same_json(br#"{"a":"x y"}"#, br#"{"a":"xy"}"#));
        assert!(!is_same_json(br#"{"a":"\" "}"#, br#"{"a":"\""}"#));
        assert!(!is_same_json(b"{\"a\":9007199254740993}", b"{\"a\":9007199254740992}"));
    }
}
