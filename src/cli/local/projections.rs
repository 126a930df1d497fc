//! Queries, projections and operations on the configured store.

use std::{num::NonZeroU32, time::Duration};

use event_sourcing_actors::{
    AggregateId, Position,
    command_bus::{Principal, RequestContext},
    erasure::ErasureError,
    ports::{OperationStatus, ParkedRequest},
    projections::{ProjectionReport, ProjectionStatus, Projections, ProjectionsError},
    query_bus::{QueryError, QueryRequest},
};
use event_sourcing_cqrs::wire;
use uuid::Uuid;

use super::Local;
use crate::cli::{
    exit::{Exit, Failure, invalid},
    target::{Switch, Wanted},
};

/// How long a word waits for owners of projections; that of a process that died lets go only in time.
const OWNERS_WAIT: Duration = Duration::from_secs(1);
/// Pause between two looks.
const LOOK: Duration = Duration::from_millis(10);

impl Local {
    fn projections_handle(&self) -> &Projections {
        self.app.runtime().projections()
    }

    /// Waits a moment until each projection has an owner: this process, unless one beside it is. A word that comes
    /// before them would tell of projections that nobody keeps, which is true for some milliseconds only.
    pub(crate) async fn await_owners(&self) {
        let is_owned = |report: &ProjectionReport| report.status != ProjectionStatus::Unowned;
        let all_owned = async {
            // What cannot be read is told by the word itself.
            while self.projections_handle().list().await.is_ok_and(|reports| !reports.iter().all(is_owned)) {
                tokio::time::sleep(LOOK).await;
            }
        };
        let _ = tokio::time::timeout(self.timeout.min(OWNERS_WAIT), all_owned).await;
    }

    pub(crate) async fn query(&self, wanted: &Wanted) -> Result<wire::Answered, Failure> {
        let request = QueryRequest {
            query_type: wanted.query_type.clone(),
            projection: wanted.projection.clone(),
            filters: wanted.filters.clone().into(),
            min_position: wanted.min_position,
            as_of: wanted.as_of,
            wait: wanted.wait,
            is_lenient: wanted.is_lenient,
            principal: Principal::unguarded(),
            context: RequestContext::new(),
        };
        let time = self.timeout + wanted.wait.unwrap_or(Duration::ZERO);
        Ok(self.bounded_by(time, self.runtime().queries().ask(request)).await?.try_into()?)
    }

    pub(crate) async fn projections(&self) -> Result<wire::Page<wire::Projection, String>, Failure> {
        let reports = self.bounded(self.projections_handle().list()).await?;
        Ok(wire::Page::whole(reports.into_iter().map(Into::into).collect()))
    }

    pub(crate) async fn projection(&self, name: &str) -> Result<wire::Projection, Failure> {
        Ok(self.bounded(self.projections_handle().show(name)).await?.into())
    }

    pub(crate) async fn rebuild(&self, name: &str, accepts_difference: bool) -> Result<wire::Operation, Failure> {
        let begun = self.bounded(async {
            let begun = self.projections_handle().rebuild(name, accepts_difference).await;
            begun.map_err(|error| refused(error, "rebuild-in-progress", "projection-conflict"))
        });
        Ok(begun.await?.try_into()?)
    }

    pub(crate) async fn switch(&self, name: &str, switch: Switch) -> Result<wire::Projection, Failure> {
        let projections = self.projections_handle();
        let report = match switch {
            Switch::Rollback => {
                self.bounded(async {
                    let report = projections.rollback(name).await;
                    report.map_err(|error| refused(error, "rebuild-in-progress", "nothing-to-roll-back"))
                })
                .await?
            }
            Switch::Pause => self.bounded(projections.pause(name)).await?,
            Switch::Resume => self.bounded(projections.resume(name)).await?,
        };
        Ok(report.into())
    }

    pub(crate) async fn parked(
        &self,
        name: &str,
        after: Position,
        limit: NonZeroU32,
    ) -> Result<wire::Page<wire::Parked, Position>, Failure> {
        let parked = self.bounded(self.projections_handle().parked(name, after, limit)).await?;
        let items = parked.into_iter().map(Into::into).collect();
        Ok(wire::Page::new(items, limit.get(), |last: &wire::Parked| last.position))
    }

    pub(crate) async fn settle(
        &self,
        name: &str,
        position: Position,
        request: ParkedRequest,
    ) -> Result<wire::Operation, Failure> {
        // As whoever calls a server without authentication.
        let principal = Principal::unguarded().name;
        let settled = self.projections_handle().settle(name, position, request, &principal);
        Ok(self.bounded(settled).await?.try_into()?)
    }

    pub(crate) async fn erase(&self, subject: &AggregateId) -> Result<wire::Operation, Failure> {
        // As whoever calls a server without authentication.
        let principal = Principal::anonymous().name;
        let begun = self.app.runtime().erasures().erase(subject.clone(), &principal);
        Ok(self.bounded(begun).await?.try_into()?)
    }

    pub(crate) async fn operation(&self, id: Uuid) -> Result<wire::Operation, Failure> {
        Ok(self.bounded(self.projections_handle().operation(id)).await?.try_into()?)
    }

    pub(crate) async fn operations(
        &self,
        before: Option<Uuid>,
        limit: NonZeroU32,
    ) -> Result<wire::Page<wire::Operation, Uuid>, Failure> {
        let operations = self.bounded(self.projections_handle().operations(before, limit)).await?;
        let items = operations.into_iter().map(wire::Operation::try_from).collect::<Result<_, _>>()?;
        Ok(wire::Page::new(items, limit.get(), |last: &wire::Operation| last.operation_id))
    }

    pub(crate) async fn cancel(&self, id: Uuid) -> Result<wire::Operation, Failure> {
        let before = self.operation(id).await?;
        let operation = match before.status {
            OperationStatus::Running => self.bounded(self.projections_handle().cancel(id)).await?.try_into()?,
            _ => before,
        };
        match operation.status {
            OperationStatus::Running | OperationStatus::Cancelled => Ok(operation),
            OperationStatus::Succeeded => Err(conflict("the operation has succeeded already", "operation-ended")),
            OperationStatus::Failed => Err(conflict("the operation has failed already", "operation-ended")),
        }
    }
}

impl From<ErasureError> for Failure {
    fn from(error: ErasureError) -> Self {
        let detail = error.to_string();
        match error {
            ErasureError::UnknownSubject { .. } => Self::new(Exit::NotFound, sentence(detail, &[], "unknown-subject")),
            ErasureError::Draining => Self::new(Exit::Unavailable, sentence(detail, &[], "draining")),
            ErasureError::Store(error) => error.into(),
        }
    }
}

fn conflict(detail: &str, code: &str) -> Failure {
    Failure::new(Exit::Conflict, format!("{detail} ({code})"))
}

/// The sentence of the HTTP door, so that a word says the same with and without `--url`.
pub(super) fn sentence(detail: String, nearest: &[String], code: &str) -> String {
    let hint = if nearest.is_empty() { String::new() } else { format!("; did you mean {}?", nearest.join(", ")) };
    format!("{detail}{hint} ({code})")
}

impl From<QueryError> for Failure {
    fn from(error: QueryError) -> Self {
        let detail = error.to_string();
        let (exit, nearest, code) = match error {
            QueryError::Store(error) => return error.into(),
            QueryError::Invalid { errors } => return invalid(errors),
            QueryError::UnknownQueryType { nearest, .. } => (Exit::Failed, nearest, "unknown-query-type"),
            QueryError::UnknownProjection { nearest, .. } => (Exit::NotFound, nearest, "unknown-projection"),
            QueryError::NotFound { .. } => (Exit::NotFound, Vec::new(), "not-found"),
            QueryError::Behind { .. } => (Exit::Unavailable, Vec::new(), "projection-behind"),
            QueryError::Unauthenticated => (Exit::Denied, Vec::new(), "unauthenticated"),
            QueryError::Forbidden { .. } => (Exit::Denied, Vec::new(), "forbidden"),
            QueryError::Internal { .. } => (Exit::Failed, Vec::new(), "internal"),
            QueryError::Late { .. } | QueryError::Overloaded => (Exit::Unavailable, Vec::new(), "overloaded"),
        };
        Self::new(exit, sentence(detail, &nearest, code))
    }
}

impl From<ProjectionsError> for Failure {
    fn from(error: ProjectionsError) -> Self {
        refused(error, "projection-conflict", "projection-conflict")
    }
}

/// A refusal under the name the HTTP door gives it: `busy` where an operation is in the way, `otherwise` where none is.
fn refused(error: ProjectionsError, busy: &str, otherwise: &str) -> Failure {
    let detail = error.to_string();
    let (exit, nearest, code) = match error {
        ProjectionsError::Store(error) => return error.into(),
        ProjectionsError::UnknownProjection { nearest, .. } => (Exit::NotFound, nearest, "unknown-projection"),
        ProjectionsError::UnknownOperation => (Exit::NotFound, Vec::new(), "unknown-operation"),
        ProjectionsError::UnknownParked { .. } => (Exit::NotFound, Vec::new(), "not-found"),
        ProjectionsError::Refused { operation: Some(_), .. } => (Exit::Conflict, Vec::new(), busy),
        ProjectionsError::Refused { operation: None, .. } => (Exit::Conflict, Vec::new(), otherwise),
    };
    Failure::new(exit, sentence(detail, &nearest, code))
}
