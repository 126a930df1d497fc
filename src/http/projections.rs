//! `/api/v1/projections`: how read models stand, and what an operator can do about it.
//!
//! What is begun here is long work with an operation of its own (rebuilds, parked events), or a switch that may be set
//! again without harm (pause, resume). A repeated rebuild meets the one under way: 409, with its operation.

use event_sourcing_actors::{
    Position,
    ports::{Operation, ParkedRequest},
    projections::{ProjectionReport, Projections, ProjectionsError},
};
use warp::http::header;

use super::{
    body::Envelope,
    error::{self, Answer, Code, Problem, hinted},
    negotiate::{Media, negotiate},
    reply,
    request::Call,
};
use crate::wire::{self, Page};

/// All projections, by name.
pub(super) async fn list(call: Call) -> Answer {
    negotiate(&call.headers, &[Media::Json])?;
    call.query().finish()?;
    let reports = call.projections().list().await?;
    let items: Vec<wire::Projection> = reports.into_iter().map(Into::into).collect();
    Ok(reply::json(&Page::<_, String>::whole(items)))
}

/// One projection.
pub(super) async fn show(call: Call) -> Answer {
    negotiate(&call.headers, &[Media::Json])?;
    let name = call.projection()?;
    reported(Ok(call.projections().show(&name).await?))
}

/// Builds its rows anew beside the served ones.
pub(super) async fn rebuild(mut call: Call) -> Answer {
    let body = call.read_body(call.server.options.body_bytes_max).await?;
    let mut envelope = Envelope::parse(&body, call.server.options.json_depth_max)?;
    let accepts_difference = envelope.optional("accept_difference", "true or false").unwrap_or(false);
    envelope.finish()?;
    let name = call.begin(&body)?;
    let begun = call.projections().rebuild(&name, accepts_difference).await;
    accepted(begun.map_err(|error| refused(error, error::REBUILD_IN_PROGRESS, error::PROJECTION_CONFLICT)))
}

/// Serves the rows from before the last rebuild again.
pub(super) async fn rollback(mut call: Call) -> Answer {
    let name = call.switch().await?;
    let report = call.projections().rollback(&name).await;
    reported(report.map_err(|error| refused(error, error::REBUILD_IN_PROGRESS, error::NOTHING_TO_ROLL_BACK)))
}

/// Stops it until it is resumed.
pub(super) async fn pause(mut call: Call) -> Answer {
    let name = call.switch().await?;
    reported(Ok(call.projections().pause(&name).await?))
}

/// Lets it go on, also after a fault.
pub(super) async fn resume(mut call: Call) -> Answer {
    let name = call.switch().await?;
    reported(Ok(call.projections().resume(&name).await?))
}

/// The events it could not apply, with those that wait behind them.
pub(super) async fn parked(call: Call) -> Answer {
    negotiate(&call.headers, &[Media::Json])?;
    let name = call.decoded(0)?;
    let mut query = call.query();
    let (after, cursor, limit) = (query.place("after"), query.place("cursor"), query.limit());
    let wrong = query.finish();
    let after = Position(cursor.or(after).unwrap_or(0));
    let parked = call.projections().parked(&name, after, limit).await?;
    // Told after 404.
    wrong?;
    let items: Vec<wire::Parked> = parked.into_iter().map(Into::into).collect();
    Ok(reply::json(&Page::new(items, limit.get(), |last| last.position)))
}

/// Applies a parked event again, and what waits behind it.
pub(super) async fn retry(call: Call) -> Answer {
    settle(call, ParkedRequest::Retry).await
}

/// Leaves a parked event out for good, and applies what waits behind it.
pub(super) async fn skip(call: Call) -> Answer {
    settle(call, ParkedRequest::Skip).await
}

async fn settle(mut call: Call, request: ParkedRequest) -> Answer {
    let name = call.switch().await?;
    let position = call.decoded(1)?.parse().map_err(|_| {
        Problem::new(error::INVALID_ID, "a parked event is named by its position, a whole number".to_owned())
    })?;
    let principal = call.principal().name.clone();
    accepted(Ok(call.projections().settle(&name, Position(position), request, &principal).await?))
}

impl Call {
    fn projections(&self) -> &Projections {
        self.runtime().projections()
    }

    /// The projection in the path of a request without members.
    async fn switch(&mut self) -> Result<String, Box<Problem>> {
        let body = self.read_body(self.server.options.body_bytes_max).await?;
        Envelope::parse(&body, self.server.options.json_depth_max)?.finish()?;
        self.begin(&body)
    }

    /// The projection in the path of a request that changes something. Its key is checked and not remembered: see the
    /// head of this file.
    fn begin(&self, body: &[u8]) -> Result<String, Box<Problem>> {
        self.idempotency(body)?;
        self.projection()
    }

    /// The projection in the path of a request that takes no parameters.
    fn projection(&self) -> Result<String, Box<Problem>> {
        let name = self.decoded(0)?;
        // Of two mistakes the unknown name is told first, by whoever looks it up.
        if self.projections().names().any(|known| known == name) {
            self.query().finish()?;
        }
        Ok(name)
    }
}

fn reported(outcome: Result<ProjectionReport, Box<Problem>>) -> Answer {
    Ok(reply::json(&wire::Projection::from(outcome?)))
}

fn accepted(outcome: Result<Operation, Box<Problem>>) -> Answer {
    Ok(reply::accepted(&wire::Operation::try_from(outcome?)?))
}

/// A refusal told by the code of what was asked: `busy` where an operation is in the way, `otherwise` where none is.
fn refused(error: ProjectionsError, busy: &'static Code, otherwise: &'static Code) -> Box<Problem> {
    let code = match &error {
        ProjectionsError::Refused { operation: Some(_), .. } => busy,
        ProjectionsError::Refused { operation: None, .. } => otherwise,
        _ => return error.into(),
    };
    let mut problem = Box::<Problem>::from(error);
    problem.code = code;
    problem
}

impl From<ProjectionsError> for Box<Problem> {
    fn from(error: ProjectionsError) -> Self {
        let detail = error.to_string();
        match error {
            ProjectionsError::UnknownProjection { nearest, .. } => {
                Problem::new(error::UNKNOWN_PROJECTION, hinted(detail, &nearest)).with("nearest", nearest)
            }
            ProjectionsError::UnknownOperation => Problem::new(error::UNKNOWN_OPERATION, detail),
            ProjectionsError::UnknownParked { .. } => Problem::new(error::NOT_FOUND, detail),
            ProjectionsError::Refused { operation: Some(operation), .. } => {
                Problem::new(error::PROJECTION_CONFLICT, detail)
                    .with("operation_id", operation.to_string())
                    .header(header::LOCATION, reply::operation_location(operation))
            }
            ProjectionsError::Refused { operation: None, .. } => Problem::new(error::PROJECTION_CONFLICT, detail),
            ProjectionsError::Store(error) => Problem::of_store(&error),
        }
    }
}

#[cfg(test)]
mod tests {
    use event_sourcing_actors::ports::StoreError;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn every_refusal_has_its_code() {
        let (text, nearest) = (String::new, Vec::new);
        let cases = [
            (ProjectionsError::UnknownProjection { projection: text(), nearest: nearest() }, 404, "unknown-projection"),
            (ProjectionsError::UnknownOperation, 404, "unknown-operation"),
            (ProjectionsError::UnknownParked { position: Position(1) }, 404, "not-found"),
            (ProjectionsError::Refused { reason: text(), operation: Some(Uuid::nil()) }, 409, "rebuild-in-progress"),
            (ProjectionsError::Refused { reason: text(), operation: None }, 409, "nothing-to-roll-back"),
            (ProjectionsError::Store(StoreError::Unavailable { reason: text() }), 503, "store-unavailable"),
        ];
        for (error, status, code) in cases {
            let problem = refused(error, error::REBUILD_IN_PROGRESS, error::NOTHING_TO_ROLL_BACK);
            assert_eq!((problem.code.status.as_u16(), problem.code.name), (status, code));
        }
        let other = ProjectionsError::Refused { reason: text(), operation: None };
        assert_eq!(Box::<Problem>::from(other).code, error::PROJECTION_CONFLICT);
    }
}
