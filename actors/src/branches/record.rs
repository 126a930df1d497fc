//! A command as it was asked for on a branch, kept so that it can be decided again on the log.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};

use crate::{
    catalog::Catalog,
    command_bus::{Action, CommandRequest, DecodedCommand, Principal, RawAppend, RawEvent, RequestContext},
    error::CommandError,
    id::{AggregateType, BranchId, CommandId, EventType},
    ports::CommandRecord,
    saga::{Initiator, SAGA_TYPE, SagaCommand, SagaOrder, Slot, StartOrder},
};

/// What the store keeps of it.
#[derive(Debug, Serialize, Deserialize)]
struct Content {
    principal: Arc<str>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    roles: Vec<Arc<str>>,
    correlation_id: Arc<str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    causation_id: Option<Arc<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    traceparent: Option<Arc<str>>,
    asked: Asked,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Asked {
    /// A command by name.
    Command(Box<RawValue>),
    /// Events nobody decided.
    Append {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        aggregate_type: Option<AggregateType>,
        events: Vec<Raw>,
    },
    /// A saga.
    Start {
        saga_type: String,
        data: Value,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        timeout_ms: Option<u64>,
    },
}

#[derive(Debug, Serialize, Deserialize)]
struct Raw {
    event_type: EventType,
    data: Box<RawValue>,
}

/// Whether an action can be kept. What sagas are told by the runtime itself need not be.
pub(crate) fn is_recordable(action: &Action) -> bool {
    match action {
        Action::Command(command) => command.source.is_some() || command.aggregate_type.as_str() == SAGA_TYPE,
        Action::Append(_) | Action::Named { .. } => true,
    }
}

/// The record of a request; none for what follows from another one: the commands that a saga issues, and what it is told.
pub(crate) fn of(request: &CommandRequest) -> Option<CommandRecord> {
    if request.is_issued {
        return None;
    }
    let asked = match &request.action {
        Action::Command(DecodedCommand { source: Some(source), .. }) => Asked::Command((**source).to_owned()),
        Action::Command(command) => started(command)?,
        Action::Append(append) => {
            let raw = |event: &RawEvent| Raw { event_type: event.event_type.clone(), data: (*event.data).to_owned() };
            let events = append.events.iter().map(raw).collect();
            Asked::Append { aggregate_type: append.aggregate_type.clone(), events }
        }
        Action::Named { .. } => return None,
    };
    let content = Content {
        principal: request.principal.name.clone(),
        roles: request.principal.roles.to_vec(),
        correlation_id: request.context.correlation_id.clone(),
        causation_id: request.context.causation_id.clone(),
        traceparent: request.context.traceparent.clone(),
        asked,
    };
    Some(CommandRecord {
        command_id: request.command_id,
        aggregate_id: request.aggregate_id.clone(),
        command_type: request.action.name().into(),
        content: serde_json::to_vec(&content).map(Bytes::from).ok()?,
    })
}

/// The start of a saga by a caller; whatever else a saga is told follows from that.
fn started(command: &DecodedCommand) -> Option<Asked> {
    match &command.value.downcast_ref::<SagaCommand>()?.order {
        SagaOrder::Start(order) if order.trigger.is_none() => Some(Asked::Start {
            saga_type: order.saga_type.clone(),
            data: order.data.clone(),
            timeout_ms: order.timeout.map(|timeout| u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX)),
        }),
        _ => None,
    }
}

/// The request to decide on the log, under an id that derives from the branch and the command.
///
/// # Errors
/// What speaks against it before any state is looked at, as [`CommandError`]; [`CommandError::Internal`] when the record
/// cannot be read.
pub(crate) fn again(
    branch: BranchId,
    record: &CommandRecord,
    catalog: &Catalog,
    longest: Duration,
) -> Result<CommandRequest, CommandError> {
    let unreadable = |error: &dyn std::fmt::Display| CommandError::Internal {
        reason: format!("the record of command {} cannot be read: {error}", record.command_id),
    };
    let content: Content = serde_json::from_slice(&record.content).map_err(|error| unreadable(&error))?;
    let action = match content.asked {
        Asked::Command(data) => {
            let command = catalog.decode_command(&record.command_type, &data)?;
            let errors = catalog.validate(&command, &record.aggregate_id);
            if !errors.is_empty() {
                return Err(CommandError::Invalid { errors });
            }
            Action::Command(command)
        }
        Asked::Append { aggregate_type, events } => {
            // Without the ids their client chose: those are the branch's.
            let raw = |event: Raw| RawEvent { event_id: None, event_type: event.event_type, data: event.data.into() };
            Action::Append(RawAppend { aggregate_type, events: events.into_iter().map(raw).collect() })
        }
        Asked::Start { saga_type, data, timeout_ms } => {
            let initiator = Initiator { name: content.principal.clone(), roles: content.roles.clone() };
            let timeout = timeout_ms.map(Duration::from_millis);
            let order = StartOrder { saga_type, data, timeout, initiator, trigger: None, key: None };
            Action::Command(SagaCommand::decoded(SagaOrder::Start(order), Slot::default()))
        }
    };
    let mut request = CommandRequest::new(record.aggregate_id.clone(), action, longest);
    request.command_id = CommandId::on_merge(branch, record.command_id);
    request.principal = Principal { name: content.principal, roles: content.roles.into() };
    request.context = RequestContext {
        correlation_id: content.correlation_id,
        causation_id: content.causation_id,
        traceparent: content.traceparent,
    };
    Ok(request)
}
