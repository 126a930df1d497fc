//! `/api/v1/subjects`: the people that personal members of events tell of.

use event_sourcing_actors::erasure::ErasureError;

use super::{
    body::Envelope,
    error::{self, Answer, Problem},
    reply,
    request::Call,
};
use crate::wire;

/// Erases a person's data, as an operation. Repeating it is harmless: while an erasure is under way it is answered with
/// that one, afterwards everything is looked through again. So its key is checked and not remembered.
pub(super) async fn erase(mut call: Call) -> Answer {
    let body = call.read_body(call.server.options.body_bytes_max).await?;
    Envelope::parse(&body, call.server.options.json_depth_max)?.finish()?;
    call.idempotency(&body)?;
    let subject = call.aggregate_id()?;
    call.query().finish()?;
    let begun = call.runtime().erasures().erase(subject, &call.principal().name).await?;
    Ok(reply::accepted(&wire::Operation::try_from(begun)?))
}

impl From<ErasureError> for Box<Problem> {
    fn from(error: ErasureError) -> Self {
        let detail = error.to_string();
        match error {
            ErasureError::UnknownSubject { .. } => Problem::new(error::UNKNOWN_SUBJECT, detail),
            ErasureError::Draining => Problem::new(error::DRAINING, detail),
            ErasureError::Store(error) => Problem::of_store(&error),
        }
    }
}
