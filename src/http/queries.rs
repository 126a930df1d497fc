//! `POST /api/v1/queries`: read models, through the query bus.

use event_sourcing_actors::query_bus::{QueryError, QueryRequest};
use warp::http::{HeaderValue, header};

use super::{
    body::Envelope,
    error::{self, Answer, Problem, hinted},
    prefer::Preferences,
    reply,
    request::Call,
};
use crate::wire::Answered;

/// Answers a query.
pub(super) async fn ask(mut call: Call) -> Answer {
    let body = call.read_body(call.server.options.body_bytes_max).await?;
    let mut envelope = Envelope::parse(&body, call.server.options.json_depth_max)?;
    let query_type: String = envelope.required("query_type", "a text");
    let filters = envelope.object("filters");
    let projection: Option<String> = envelope.optional("projection", "a text");
    envelope.finish()?;
    let (min_position, as_of) = (call.min_position()?, call.as_of_position()?);
    call.query().finish()?;
    let preferences = Preferences::of(&call.headers);
    let request = QueryRequest {
        query_type,
        projection,
        filters: filters.into(),
        min_position,
        as_of,
        wait: preferences.wait,
        is_lenient: preferences.is_lenient.unwrap_or(false),
        principal: call.principal().clone(),
        context: call.ids.context(),
    };
    let answered = call.runtime().queries().ask(request).await;
    let answer = match answered {
        Ok(answer) => Ok(reply::json(&Answered::try_from(answer)?)),
        Err(error) => Err(Problem::of_query(error)),
    };
    preferences.told(answer)
}

impl Problem {
    /// Why a query is not answered.
    pub fn of_query(error: QueryError) -> Box<Self> {
        let detail = error.to_string();
        match error {
            QueryError::UnknownQueryType { nearest, .. } => {
                Self::new(error::UNKNOWN_QUERY_TYPE, hinted(detail, &nearest))
                    .naming("/query_type".to_owned(), "is not a known query type")
                    .with("nearest", nearest)
            }
            QueryError::UnknownProjection { nearest, .. } => {
                Self::new(error::UNKNOWN_PROJECTION, hinted(detail, &nearest))
                    .naming("/projection".to_owned(), "is not a known projection")
                    .with("nearest", nearest)
            }
            QueryError::Invalid { errors } => Self::invalid(error::VALIDATION_FAILED, errors),
            // The position tells a caller who has just written whether the row may still come.
            QueryError::NotFound { position, head_position, stale, .. } => Self::new(error::NOT_FOUND, detail)
                .with("position", position.0)
                .with("head_position", head_position.0)
                .with("stale", stale),
            QueryError::Behind { projection, position, wanted } => Self::new(error::PROJECTION_BEHIND, detail)
                .with("projection", projection)
                .with("position", position.0)
                .with("wanted", wanted.0),
            QueryError::Unauthenticated => Self::new(error::UNAUTHENTICATED, detail)
                .header(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")),
            QueryError::Forbidden { .. } => Self::new(error::FORBIDDEN, detail),
            QueryError::Late { .. } | QueryError::Overloaded => Self::new(error::OVERLOADED, detail),
            QueryError::Store(error) => Self::of_store(&error),
            // The bus has logged it; its words may name what is not the caller's to know.
            QueryError::Internal { .. } => Self::internal(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use event_sourcing_actors::{Position, ports::StoreError};

    use super::*;

    #[test]
    fn every_outcome_of_a_query_has_its_code() {
        let (text, nearest) = (String::new, Vec::new);
        let cases = [
            (QueryError::UnknownQueryType { query_type: text(), nearest: nearest() }, 422, "unknown-query-type"),
            (QueryError::UnknownProjection { projection: text(), nearest: nearest() }, 404, "unknown-projection"),
            (QueryError::Invalid { errors: Vec::new() }, 422, "validation-failed"),
            (
                QueryError::NotFound { detail: text(), position: Position(1), head_position: Position(2), stale: true },
                404,
                "not-found",
            ),
            (
                QueryError::Behind { projection: text(), position: Position(1), wanted: Position(2) },
                503,
                "projection-behind",
            ),
            (QueryError::Unauthenticated, 401, "unauthenticated"),
            (QueryError::Forbidden { role: text() }, 403, "forbidden"),
            (QueryError::Late { deadline: Duration::from_secs(1) }, 503, "overloaded"),
            (QueryError::Overloaded, 503, "overloaded"),
            (QueryError::Internal { reason: text() }, 500, "internal"),
            (QueryError::Store(StoreError::Unavailable { reason: text() }), 503, "store-unavailable"),
        ];
        for (error, status, code) in cases {
            let problem = Problem::of_query(error);
            assert_eq!((problem.code.status.as_u16(), problem.code.name), (status, code));
        }
    }
}
