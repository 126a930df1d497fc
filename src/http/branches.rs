//! `/api/v1/branches`: alternative timelines made, listed, compared, merged and forgotten; and `?branch=`, which sends a
//! request to one of them.

use event_sourcing_actors::{
    AggregateId, BranchId, Position, Sequence,
    branches::{BranchError, ForkAt, MergeReport, NewFork},
    ports::BranchKey,
};
use warp::{
    http::{HeaderValue, StatusCode, header},
    reply::Response,
};

use super::{
    body::Envelope,
    error::{self, Answer, Problem},
    negotiate::{Media, negotiate},
    query::{Query, instant},
    reply,
    request::Call,
};
use crate::wire::{Branch, BranchChanges, Page};

/// The parameter that names a branch.
const BRANCH: &str = "branch";

/// Makes a branch.
pub(super) async fn create(mut call: Call) -> Answer {
    let body = call.read_body(call.server.options.body_bytes_max).await?;
    let mut envelope = Envelope::parse(&body, call.server.options.json_depth_max)?;
    let name: String = envelope.required("name", "a text");
    let at = fork_at(envelope)?;
    let key = call.idempotency(&body)?.map(|key| BranchKey {
        principal: call.principal().name.clone(),
        key: key.key,
        fingerprint: key.fingerprint,
    });
    call.query().finish()?;
    let (branch, replayed) = call.runtime().branches().create(NewFork { name, at, key }).await?;
    let mut response = reply::json(&Branch::from(branch.clone()));
    *response.status_mut() = StatusCode::CREATED;
    let location = format!("/api/v1/branches/{}", branch.id);
    if let Ok(location) = HeaderValue::from_str(&location) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(marked(response, replayed))
}

/// Takes the fork out of the envelope: a sequence of an aggregate, an instant, or a position.
fn fork_at(mut envelope: Envelope<'_>) -> Result<ForkAt, Box<Problem>> {
    let number = "a whole number from 0 on";
    let named = ["aggregate_id", "from_sequence", "at_time", "at_position"];
    let [has_id, has_sequence, has_time, has_position] = named.map(|name| envelope.raw(name).is_some());
    let id: Option<String> = envelope.optional("aggregate_id", "a text");
    let sequence: Option<u64> = envelope.optional("from_sequence", number);
    let time: Option<String> = envelope.optional("at_time", "a text");
    let position: Option<u64> = envelope.optional("at_position", number);
    let ways = [has_id || has_sequence, has_time, has_position].into_iter().filter(|way| *way).count();
    match (ways, has_id, has_sequence) {
        (0, ..) => envelope.note("at_position", "is missing; send it, at_time, or aggregate_id and from_sequence"),
        (1, true, false) => envelope.note("from_sequence", "is missing; with aggregate_id it names the fork"),
        (1, false, true) => envelope.note("aggregate_id", "is missing; with from_sequence it names the fork"),
        (1, ..) => {}
        _ => {
            let second = if has_position { "at_position" } else { "at_time" };
            envelope.note(second, "must stand alone: a branch forks at one place");
        }
    }
    envelope.finish()?;
    // As in URLs: places that no store can hold read as the last one.
    let place = |place: u64| place.min(i64::MAX as u64 - 1);
    Ok(match (id, time, position) {
        (Some(id), ..) => {
            let id = AggregateId::new(id)
                .map_err(|reason| Problem::at(error::INVALID_ID, "/aggregate_id", reason.to_string()))?;
            ForkAt::Sequence(id, Sequence(place(sequence.unwrap_or_default())))
        }
        (None, Some(time), _) => ForkAt::Time(instant(&time, "/at_time".to_owned())?),
        (None, None, position) => ForkAt::Position(Position(place(position.unwrap_or_default()))),
    })
}

/// Branches, newest first.
pub(super) async fn list(call: Call) -> Answer {
    negotiate(&call.headers, &[Media::Json])?;
    let mut query = call.query();
    let before = query.parsed("cursor", "a branch id").map(BranchId);
    let limit = query.limit();
    query.finish()?;
    let branches = call.runtime().branches().list(before, limit).await?;
    let items = branches.into_iter().map(Branch::from).collect();
    Ok(reply::json(&Page::new(items, limit.get(), |last: &Branch| last.branch_id)))
}

/// One branch.
pub(super) async fn show(call: Call) -> Answer {
    negotiate(&call.headers, &[Media::Json])?;
    let branch = call.runtime().branches().show(call.branch_id()?).await?;
    call.query().finish()?;
    Ok(reply::json(&Branch::from(branch)))
}

/// Forgets a branch.
pub(super) async fn delete(call: Call) -> Answer {
    let id = call.branch_id()?;
    let branches = call.runtime().branches();
    if let Err(wrong) = call.query().finish() {
        branches.show(id).await?;
        return Err(wrong);
    }
    branches.delete(id).await?;
    Ok(reply::empty(StatusCode::NO_CONTENT))
}

/// What the branch has changed, aggregate by aggregate.
pub(super) async fn diff(call: Call) -> Answer {
    negotiate(&call.headers, &[Media::Json])?;
    let id = call.branch_id()?;
    let branches = call.runtime().branches();
    branches.show(id).await?;
    let mut query = call.query();
    let after: Option<AggregateId> = query.parsed("cursor", "an aggregate id");
    let limit = query.limit();
    query.finish()?;
    let found = branches.diff(id, after.as_ref(), limit).await?;
    let items = found.into_iter().map(BranchChanges::try_from).collect::<Result<Vec<_>, _>>()?;
    Ok(reply::json(&Page::new(items, limit.get(), |last| last.aggregate_id.clone())))
}

/// Runs a branch's commands on the log, all or none.
pub(super) async fn merge(mut call: Call) -> Answer {
    let body = call.read_body(call.server.options.body_bytes_max).await?;
    let mut envelope = Envelope::parse(&body, call.server.options.json_depth_max)?;
    let dry_run = envelope.optional("dry_run", "true or false").unwrap_or(false);
    envelope.finish()?;
    call.idempotency(&body)?;
    let id = call.branch_id()?;
    let branches = call.runtime().branches();
    if let Err(wrong) = call.query().finish() {
        branches.show(id).await?;
        return Err(wrong);
    }
    let merging = branches.merge(id, dry_run).await?;
    Ok(marked(reply::json(&merging.report), merging.replayed))
}

fn marked(mut response: Response, is_replayed: bool) -> Response {
    if is_replayed {
        response.headers_mut().insert(reply::IDEMPOTENCY_REPLAYED, HeaderValue::from_static("true"));
    }
    response
}

impl Call {
    /// The branch in the path.
    fn branch_id(&self) -> Result<BranchId, Box<Problem>> {
        named(&self.decoded(0)?)
    }

    /// Goes to the timeline that `?branch=` names; the log itself if there is none. To be called where 404 is due: once
    /// the envelope is judged.
    pub async fn enter_branch(&mut self) -> Result<(), Box<Problem>> {
        self.takes_branch = true;
        if let Some(text) = Query::parse(&self.query).all(BRANCH).first() {
            let id = named(text)?;
            self.branch = Some((id, self.server.context.runtime.branches().enter(id).await?));
        }
        Ok(())
    }

    /// A location is one on the branch.
    pub fn located(&self, mut response: Response) -> Response {
        if let Some((id, _)) = &self.branch
            && let Some(location) = response.headers_mut().get_mut(header::LOCATION)
            && let Ok(text) = location.to_str()
            && let Ok(there) = HeaderValue::from_str(&format!("{text}?{BRANCH}={id}"))
        {
            *location = there;
        }
        response
    }
}

/// What is no id names no branch.
fn named(text: &str) -> Result<BranchId, Box<Problem>> {
    text.parse().map(BranchId).map_err(|_| BranchError::Unknown { branch: text.to_owned() }.into())
}

/// A report of a merge that was refused, as members of the problem.
fn refused(report: &MergeReport, detail: String) -> Box<Problem> {
    let commands = serde_json::to_value(&report.commands).unwrap_or_default();
    Problem::new(error::MERGE_CONFLICT, detail).with("merged", false).with("commands", commands)
}

impl From<BranchError> for Box<Problem> {
    fn from(error: BranchError) -> Self {
        let detail = error.to_string();
        match error {
            BranchError::Unknown { .. } => Problem::new(error::UNKNOWN_BRANCH, detail),
            BranchError::Unsupported => Problem::new(error::NOT_FOUND, detail),
            BranchError::Full => Problem::new(error::TOO_MANY_BRANCHES, detail),
            BranchError::Crowded => Problem::new(error::OVERLOADED, detail),
            BranchError::Draining => Problem::new(error::DRAINING, detail),
            BranchError::KeyReused => Problem::new(error::IDEMPOTENCY_KEY_REUSED, detail),
            BranchError::Invalid { errors } => Problem::invalid(error::VALIDATION_FAILED, errors),
            BranchError::UnknownAggregate { .. } => Problem::new(error::UNKNOWN_AGGREGATE, detail),
            BranchError::Refused { report } => refused(&report, detail),
            BranchError::Contended => Problem::new(error::MERGE_CONFLICT, detail),
            BranchError::TooLarge { .. } => Problem::new(error::MERGE_TOO_LARGE, detail),
            BranchError::Store(error) => Problem::of_store(&error),
            BranchError::Recovery(error) => Problem::of_recovery(error),
            BranchError::Start(_) | BranchError::Internal { .. } => {
                tracing::error!(error = detail, "a branch failed");
                Problem::internal()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use event_sourcing_actors::ports::StoreError;

    use super::*;

    #[test]
    fn every_fault_of_a_branch_has_its_code() {
        let report = MergeReport { merged: false, commands: Vec::new() };
        let aggregate_id = AggregateId::new("a").unwrap();
        let unavailable = StoreError::Unavailable { reason: String::new() };
        let cases = [
            (BranchError::Unknown { branch: "b".to_owned() }, 404, "unknown-branch"),
            (BranchError::Unsupported, 404, "not-found"),
            (BranchError::Full, 409, "too-many-branches"),
            (BranchError::Crowded, 503, "overloaded"),
            (BranchError::Draining, 503, "draining"),
            (BranchError::KeyReused, 422, "idempotency-key-reused"),
            (BranchError::Invalid { errors: Vec::new() }, 422, "validation-failed"),
            (BranchError::UnknownAggregate { aggregate_id }, 404, "unknown-aggregate"),
            (BranchError::Refused { report }, 409, "merge-conflict"),
            (BranchError::Contended, 409, "merge-conflict"),
            (BranchError::TooLarge { what: String::new() }, 422, "merge-too-large"),
            (BranchError::Store(unavailable), 503, "store-unavailable"),
            (BranchError::Internal { reason: String::new() }, 500, "internal"),
        ];
        for (error, status, code) in cases {
            let problem = Box::<Problem>::from(error);
            assert_eq!((problem.code.status.as_u16(), problem.code.name), (status, code));
        }
    }
}
