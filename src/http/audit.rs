//! `/api/v1/audit`: administrative and refused acts.

use super::{
    error::Answer,
    negotiate::{Media, negotiate},
    reply,
    request::Call,
    tokens::auth,
};
use crate::{auth::port::AuditRecord, wire::Page};

/// Lines, newest first.
pub(super) async fn list(call: Call) -> Answer {
    negotiate(&call.headers, &[Media::Json])?;
    let auth = auth(&call)?;
    let mut query = call.query();
    let before = query.parsed("cursor", "an audit id");
    let limit = query.limit();
    query.finish()?;
    let lines = auth.audit().list(before, limit).await?;
    Ok(reply::json(&Page::new(lines, limit.get(), |last: &AuditRecord| last.id)))
}
