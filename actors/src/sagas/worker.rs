//! Works on one instance: tells it what came in, sends what it has issued, records the answers, until it waits for
//! nothing but the world.
//!
//! The stream decides, this only carries. Everything it sends has an id that derives from the instance, so a worker that
//! died, and one that does not know yet that another process has taken over, do no harm: what was done is recognised, and
//! of two answers the first counts.

use std::{collections::HashSet, sync::Arc, time::Duration};

use futures_util::future::join_all;
use rand::RngExt;
use serde_json::{Value, value::to_raw_value};
use sha2::{Digest, Sha256};

use super::{
    desk::{Desk, Known, Telling, Told},
    inbox,
};
use crate::{
    answer::{recall, recorded_under},
    command_bus::{Action, CommandRequest, CommandResult, Idempotency, Principal, RequestContext},
    error::CommandError,
    failpoint,
    id::{AggregateId, CommandId, EventId},
    recovery::RecoveryError,
    saga::{
        CommandOutcome, DEFINITION_UNKNOWN, Delivery, PendingCommand, PendingRead, ReadRecord, Reason, SagaOrder,
        SagaRecord, derived_command_id,
    },
    version::{Expected, Sequence},
};

/// How a round ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rest {
    /// There is nothing to do until something comes in.
    Done,
    /// It is to be tried again then.
    Later(Duration),
}

/// Why a round is given up.
#[derive(Debug)]
pub(super) enum Setback {
    /// Something does not answer; that tells nothing.
    Silence(String),
    /// The code of the saga or of a target fails.
    Fault(String),
    /// Other processes have this saga's definition.
    Foreign,
}

/// Tries in one round; after that the place is given up.
const TRIES: u32 = 4;

/// No header can hold it, so no caller takes such a key before the saga does.
const KEY_PREFIX: &str = "\u{1f}saga-command/";

/// Before an instance is looked at again whose definition is not here.
const FOREIGN_PAUSE: Duration = Duration::from_secs(30);

impl From<CommandError> for Setback {
    fn from(error: CommandError) -> Self {
        match error {
            CommandError::Rejected { refusal, .. } if refusal.code == DEFINITION_UNKNOWN => Self::Foreign,
            CommandError::Internal { reason } => Self::Fault(reason),
            CommandError::Rejected { refusal, .. } => Self::Fault(refusal.message),
            error @ (CommandError::Invalid { .. }
            | CommandError::TypeMismatch { .. }
            | CommandError::Forbidden { .. }) => Self::Fault(error.to_string()),
            error => Self::Silence(error.to_string()),
        }
    }
}

impl From<RecoveryError> for Setback {
    fn from(error: RecoveryError) -> Self {
        match error {
            RecoveryError::Store(error) => Self::Silence(error.to_string()),
            other => Self::Fault(other.to_string()),
        }
    }
}

/// Works until there is nothing to do; on the instance as it stands, if that is known.
pub(super) async fn run(desk: &Arc<Desk>, id: &AggregateId, known: Option<Known>) -> Rest {
    match rounds(desk, id, known).await {
        Ok(()) => {
            desk.is_well(id);
            Rest::Done
        }
        Err(Setback::Foreign) => Rest::Later(FOREIGN_PAUSE),
        Err(Setback::Silence(reason)) => {
            let trouble = desk.trouble(id, |trouble| {
                trouble.silences += 1;
                trouble.reason = reason;
            });
            tracing::debug!(saga.id = %id, reason = trouble.reason, "a saga waits");
            Rest::Later(pause_after(trouble.silences, desk.limits.retry_pause_max))
        }
        Err(Setback::Fault(reason)) => failed(desk, id, reason).await,
    }
}

/// Counts a fault; too many in a row set the instance aside, alone.
pub(super) async fn failed(desk: &Arc<Desk>, id: &AggregateId, reason: String) -> Rest {
    let trouble = desk.trouble(id, |trouble| {
        trouble.faults += 1;
        trouble.reason = reason;
    });
    tracing::warn!(saga.id = %id, faults = trouble.faults, reason = trouble.reason, "a saga's step failed");
    // Whoever works on the sagas now may be luckier.
    if trouble.faults >= desk.limits.attempts_max && desk.may_work() {
        let reason = Reason::new("fault", trouble.reason);
        match desk.set_aside(id, RequestContext::new(), reason).await {
            Ok(()) => return Rest::Done,
            Err(error) => tracing::error!(saga.id = %id, %error, "a saga could not be set aside"),
        }
    }
    Rest::Later(pause_after(trouble.faults, desk.limits.retry_pause_max))
}

/// 50 ms, then twice as long each time, at random so that many do not come at once.
fn pause_after(times: u32, longest: Duration) -> Duration {
    let pause = Duration::from_millis(50) * 2_u32.saturating_pow(times.saturating_sub(1).min(10));
    pause.min(longest).mul_f64(rand::rng().random_range(0.7..1.3))
}

async fn rounds(desk: &Arc<Desk>, id: &AggregateId, mut next: Option<Known>) -> Result<(), Setback> {
    let mut delivered = HashSet::new();
    while desk.may_work() {
        let known = match next.take() {
            Some(known) => Some(known),
            None => desk.load(id).await?,
        };
        if let Some(known) = &known {
            desk.saw(id, known.position);
        }
        let known = known.map(|known| known.record);
        if known.as_ref().is_some_and(|known| !known.status.is_open()) {
            desk.bus.write_side.registry.let_go(id);
            return Ok(());
        }
        if inbox::concerns(desk, known.as_deref())
            && let Some(told) = inbox::deliver_next(desk, id, known.as_deref(), &mut delivered).await?
        {
            desk.is_well(id);
            next = told.known();
            continue;
        }
        let Some(known) = known else { return Ok(()) };
        if known.is_quiet() {
            // It costs no actor while it waits.
            desk.bus.write_side.registry.let_go(id);
            return Ok(());
        }
        next = answers(desk, &known).await?;
    }
    Ok(())
}

/// Gets every answer the instance waits for, and records it. The instance after that, if it is known.
async fn answers(desk: &Arc<Desk>, known: &SagaRecord) -> Result<Option<Known>, Setback> {
    if let ([command], []) = (&*known.pending, &*known.pending_reads) {
        return Ok(send(desk, known, command).await?.known());
    }
    let commands = join_all(known.pending.iter().map(|command| send(desk, known, command)));
    let reads = join_all(known.pending_reads.iter().map(|pending| read(desk, known, pending)));
    let (commands, reads) = futures_util::future::join(commands, reads).await;
    for told in commands.into_iter().chain(reads) {
        told?;
    }
    Ok(None)
}

async fn send(desk: &Arc<Desk>, known: &SagaRecord, command: &PendingCommand) -> Result<Told, Setback> {
    let mut tries = 0;
    let (outcome, cause) = loop {
        failpoint::pass("saga-command-sending");
        let request = request(desk, known, command)?;
        let mut sent = desk.bus.send(request.clone()).await;
        if is_unconfirmed(&sent)
            && let Some(stored) = stored(desk, &request).await?
        {
            sent = stored;
        }
        tries += 1;
        match answer_of(sent) {
            Ok(answer) => break answer,
            Err(Setback::Silence(_)) if tries < TRIES && desk.may_work() => {
                tokio::time::sleep(pause_after(tries, Duration::from_millis(200))).await;
            }
            Err(setback) => return Err(setback),
        }
    };
    failpoint::pass("saga-command-answered");
    let label = format!("answer/{}", command.command_id);
    let delivery = Delivery::Outcome { command_id: command.command_id, outcome };
    let told = deliver(desk, known, &label, delivery, cause).await?;
    failpoint::pass("saga-answer-recorded");
    Ok(told)
}

/// Tells an instance what came in, under an id that repeats.
async fn deliver(
    desk: &Arc<Desk>,
    known: &SagaRecord,
    label: &str,
    delivery: Delivery,
    cause: Option<Arc<str>>,
) -> Result<Told, Setback> {
    let id = derived_command_id(&known.saga_id, known.started_at, label);
    let context =
        RequestContext { correlation_id: known.correlation_id.clone(), causation_id: cause, traceparent: None };
    let told = desk.tell(&known.saga_id, SagaOrder::Deliver(delivery), Telling::internal(id, context)).await?;
    desk.is_well(&known.saga_id);
    Ok(told)
}

/// A command as it goes to its target: in the initiator's name, under its own id, with the outcome recorded under a key.
fn request(desk: &Desk, known: &SagaRecord, command: &PendingCommand) -> Result<CommandRequest, Setback> {
    let data = to_raw_value(&command.data).map_err(|error| Setback::Fault(error.to_string()))?;
    let action = Action::Named { command_type: command.command_type.clone(), data: data.into() };
    let longest = desk.bus.write_side.limits.command_deadline;
    let mut request = CommandRequest::new(command.aggregate_id.clone(), action, longest);
    request.command_id = command.command_id;
    request.expected = match command.expected_version {
        None => Expected::Any,
        Some(version) => Expected::Exactly(version),
    };
    let initiator = &known.initiator;
    request.principal = Principal { name: initiator.name.clone(), roles: initiator.roles.clone().into() };
    request.context = RequestContext {
        correlation_id: known.correlation_id.clone(),
        causation_id: Some(Arc::from(command.issued_by.to_string())),
        traceparent: None,
    };
    // A refusal too is found again by whoever repeats the command: of two workers both must hear the same.
    request.idempotency = Some(Idempotency {
        key: Arc::from(format!("{KEY_PREFIX}{}", command.command_id)),
        fingerprint: Sha256::digest(command.command_id.0.as_bytes()).into(),
    });
    if failpoint::has_fresh_ids() {
        (request.command_id, request.idempotency) = (CommandId::generate(), None);
    }
    Ok(request)
}

/// Whether this is a refusal that may have been given without asking the store, which may have taken the command before:
/// under other roles, or by a program that understood it.
fn is_unconfirmed(sent: &CommandResult) -> bool {
    matches!(
        sent,
        Err(CommandError::Invalid { .. }
            | CommandError::PreconditionFailed { replayed: false, .. }
            | CommandError::UnknownCommandType { .. }
            | CommandError::TypeMismatch { .. }
            | CommandError::ReservedStream { .. }
            | CommandError::Forbidden { .. }
            | CommandError::Unauthenticated)
    )
}

/// The answer that is stored for a command, if it was taken or refused before.
async fn stored(desk: &Desk, request: &CommandRequest) -> Result<Option<CommandResult>, Setback> {
    if let Some(key) = &request.idempotency
        && let Some(recorded) = recorded_under(&*desk.events, &request.principal.name, key).await?
    {
        return Ok(Some(recorded));
    }
    let first = [EventId::derived(request.command_id, 0)];
    match desk.events.find_events(&first).await?.is_empty() {
        true => Ok(None),
        false => Ok(Some(recall(&*desk.events, request).await)),
    }
}

/// What a target said, and the event that says so. Unknown is not an answer, nor is a refusal of the transport.
fn answer_of(sent: CommandResult) -> Result<(CommandOutcome, Option<Arc<str>>), Setback> {
    let refused =
        |code: &str, error: &CommandError| Ok((CommandOutcome::Refused(Reason::new(code, error.to_string())), None));
    match sent {
        Ok(accepted) => {
            let cause = accepted.events.last().map(|event| Arc::from(event.event_id.to_string()));
            Ok((CommandOutcome::Accepted { version: accepted.version, position: accepted.position }, cause))
        }
        Err(CommandError::Rejected { refusal, .. }) => {
            let reason = Reason { code: refusal.code, message: refusal.message, details: refusal.details };
            Ok((CommandOutcome::Refused(reason), None))
        }
        Err(CommandError::Invalid { errors }) => {
            let details = serde_json::to_value(&errors).ok();
            let message = match errors.first() {
                Some(first) => format!("the command is not valid: {} {}", first.pointer, first.detail),
                None => "the command is not valid".to_owned(),
            };
            Ok((CommandOutcome::Refused(Reason { code: "validation-failed".to_owned(), message, details }), None))
        }
        Err(ref error @ CommandError::PreconditionFailed { .. }) => refused("precondition-failed", error),
        Err(ref error @ CommandError::UnknownCommandType { .. }) => refused("unknown-command-type", error),
        Err(ref error @ CommandError::TypeMismatch { .. }) => refused("aggregate-type-mismatch", error),
        Err(ref error @ CommandError::ReservedStream { .. }) => refused("reserved-stream", error),
        Err(ref error @ CommandError::SubjectErased { .. }) => refused("subject-erased", error),
        Err(ref error @ CommandError::Forbidden { .. }) => refused("forbidden", error),
        Err(ref error @ CommandError::Unauthenticated) => refused("unauthenticated", error),
        Err(CommandError::Internal { reason }) => Err(Setback::Fault(reason)),
        Err(error @ CommandError::KeyReused) => Err(Setback::Fault(error.to_string())),
        Err(error) => Err(Setback::Silence(error.to_string())),
    }
}

async fn read(desk: &Arc<Desk>, known: &SagaRecord, pending: &PendingRead) -> Result<Told, Setback> {
    let id = &pending.aggregate_id;
    let recovered = desk.bus.write_side.load(id).await?;
    let read = match recovered {
        None => {
            ReadRecord { aggregate_id: id.clone(), aggregate_type: None, version: Sequence::ZERO, state: Value::Null }
        }
        Some(recovered) => ReadRecord {
            aggregate_id: id.clone(),
            aggregate_type: Some(recovered.model.aggregate_type().clone()),
            version: recovered.head.sequence,
            state: recovered
                .instance
                .state()
                .and_then(|state| serde_json::from_slice(&state))
                .map_err(|error| Setback::Fault(format!("the state of {id} cannot be read: {error}")))?,
        },
    };
    failpoint::pass("saga-read-done");
    let label = format!("read/{}/{}", pending.step, pending.issued_at.timestamp_micros());
    let told = deliver(desk, known, &label, Delivery::Read { step: pending.step.clone(), read }, None).await?;
    failpoint::pass("saga-answer-recorded");
    Ok(told)
}
