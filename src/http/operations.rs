//! `/api/v1/operations`: long work, followed and given up.

use event_sourcing_actors::{
    ports::{self, OperationStatus},
    projections::ProjectionsError,
};
use uuid::Uuid;

use super::{
    error::{self, Answer, Problem},
    negotiate::{Media, negotiate},
    reply,
    request::Call,
};
use crate::wire::{Operation, Page};

/// Operations, newest first.
pub(super) async fn list(call: Call) -> Answer {
    negotiate(&call.headers, &[Media::Json])?;
    let mut query = call.query();
    let before: Option<Uuid> = query.parsed("cursor", "an operation id");
    let limit = query.limit();
    query.finish()?;
    let operations = call.runtime().projections().operations(before, limit).await?;
    let items = operations.into_iter().map(Operation::try_from).collect::<Result<Vec<_>, _>>()?;
    Ok(reply::json(&Page::new(items, limit.get(), |last| last.operation_id)))
}

/// One operation.
pub(super) async fn show(call: Call) -> Answer {
    negotiate(&call.headers, &[Media::Json])?;
    let operation = call.runtime().projections().operation(id(&call)?).await?;
    call.query().finish()?;
    Ok(reply::json(&Operation::try_from(operation)?))
}

/// Gives one up. One that was given up already is answered as it is; what ended otherwise cannot be undone here.
pub(super) async fn cancel(call: Call) -> Answer {
    negotiate(&call.headers, &[Media::Json])?;
    let id = id(&call)?;
    let projections = call.runtime().projections();
    let before = projections.operation(id).await?;
    call.query().finish()?;
    let operation = match before.status {
        OperationStatus::Running if before.kind == crate::integrity::KIND => given_up(&call, before).await?,
        OperationStatus::Running => match projections.cancel(id).await {
            Ok(operation) => operation,
            // It may have ended in between: then that is the reason.
            Err(error @ ProjectionsError::Refused { .. }) => match projections.operation(id).await? {
                running if running.status == OperationStatus::Running => return Err(error.into()),
                ended => ended,
            },
            Err(error) => return Err(error.into()),
        },
        _ => before,
    };
    match operation.status {
        OperationStatus::Succeeded | OperationStatus::Failed => {
            let ended = if operation.status == OperationStatus::Failed { "failed" } else { "succeeded" };
            let detail = format!("the operation has {ended} already");
            Err(Problem::new(error::OPERATION_ENDED, detail).with("operation_status", ended))
        }
        OperationStatus::Running | OperationStatus::Cancelled => Ok(reply::json(&Operation::try_from(operation)?)),
    }
}

/// A verification belongs to no projection.
async fn given_up(call: &Call, operation: ports::Operation) -> Result<ports::Operation, Box<Problem>> {
    if let Some(integrity) = &call.server.context.integrity {
        integrity.cancel_verification(&operation).await.map_err(|error| Problem::of_store(&error))?;
    }
    Ok(call.runtime().projections().operation(operation.id).await?)
}

fn id(call: &Call) -> Result<Uuid, Box<Problem>> {
    let text = call.decoded(0)?;
    text.parse().map_err(|_| Problem::new(error::INVALID_ID, format!("an operation id is a UUID, not {text:?}")))
}
