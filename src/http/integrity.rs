//! `/api/v1/integrity`: checkpoints, proofs and verifications; and `GET /api/v1/aggregates/{id}/verify`.

use std::sync::Arc;

use event_sourcing_actors::{Position, ports::StoreError};
use futures_util::future::BoxFuture;
use warp::http::{HeaderValue, header};

use super::{
    aggregates::unknown,
    body::Envelope,
    error::{self, Answer, Problem},
    health::{Health, HealthCheck},
    negotiate::{Media, negotiate},
    reply,
    request::Call,
};
use crate::{
    integrity::{BeginError, Integrity, ProofError, Standing},
    wire,
};

const TEXT: &str = "text/plain; charset=utf-8";

/// The last signed checkpoint: a note.
pub(super) async fn checkpoint(call: Call) -> Answer {
    call.query().finish()?;
    let checkpoint = evidence(&call)?.checkpoint().ok_or(ProofError::NoCheckpoint)?;
    Ok(reply::bytes(checkpoint.note, TEXT))
}

/// The public keys, one a line, the one in use last.
pub(super) async fn key(call: Call) -> Answer {
    call.query().finish()?;
    let keys = evidence(&call)?.keys().await.map_err(|error| unreadable(&error))?;
    Ok(reply::bytes(keys.iter().map(|key| format!("{key}\n")).collect::<String>(), TEXT))
}

/// Why an event is in the tree of the last checkpoint.
pub(super) async fn proof(call: Call) -> Answer {
    negotiate(&call.headers, &[Media::Json])?;
    let mut query = call.query();
    let position = query.place("position");
    if position.is_none() {
        query.note("position", "is missing: name the event's position");
    }
    query.finish()?;
    let position = position.unwrap_or(0);
    let found = evidence(&call)?.inclusion(position).await?;
    Ok(reply::json(&wire::InclusionProof {
        position: Position(position),
        tree_size: found.checkpoint.checkpoint.head.size,
        leaf_hash: hex::encode(found.leaf),
        hashes: found.hashes.iter().map(hex::encode).collect(),
        checkpoint: found.checkpoint.note,
    }))
}

/// Why an earlier tree is the beginning of a later one.
pub(super) async fn consistency(call: Call) -> Answer {
    negotiate(&call.headers, &[Media::Json])?;
    let mut query = call.query();
    let (from, to) = (query.place("from"), query.place("to"));
    if from.is_none() {
        query.note("from", "is missing: name the size of the earlier tree");
    }
    query.finish()?;
    let from = from.unwrap_or(0);
    let (to, hashes, checkpoint) = evidence(&call)?.consistency(from, to).await?;
    let hashes = hashes.iter().map(hex::encode).collect();
    Ok(reply::json(&wire::ConsistencyProof { from, to, hashes, checkpoint: checkpoint.note }))
}

/// Begins to verify the log, from its beginning or from a checkpoint on.
pub(super) async fn verify(mut call: Call) -> Answer {
    let body = call.read_body(call.server.options.body_bytes_max).await?;
    let mut envelope = Envelope::parse(&body, call.server.options.json_depth_max)?;
    let checkpoint: Option<String> = envelope.optional("checkpoint", "a text: a signed note");
    envelope.finish()?;
    call.query().finish()?;
    let begun = evidence(&call)?.begin_verification(checkpoint.as_deref()).await.map_err(|error| match error {
        BeginError::Checkpoint(reason) => Problem::at(error::VALIDATION_FAILED, "/checkpoint", reason),
        BeginError::Folder(error) => unreadable(&error),
        BeginError::Store(error) => Problem::of_store(&error),
    })?;
    Ok(reply::accepted(&wire::Operation::try_from(begun)?))
}

/// Verifies one stream at once.
pub(super) async fn verify_stream(call: Call) -> Answer {
    negotiate(&call.headers, &[Media::Json])?;
    let id = call.aggregate_id()?;
    call.query().finish()?;
    let report = evidence(&call)?.verify_stream(id.as_str()).await;
    match report.map_err(|error: StoreError| Problem::of_store(&error))? {
        Some(report) => Ok(reply::json(&report)),
        None => Err(unknown(&id)),
    }
}

fn evidence(call: &Call) -> Result<&Arc<Integrity>, Box<Problem>> {
    let none = || Problem::new(error::NOT_FOUND, "this server keeps no evidence: integrity.enabled is false");
    call.server.context.integrity.as_ref().ok_or_else(none)
}

fn unreadable(error: &std::io::Error) -> Box<Problem> {
    tracing::error!(%error, "the folder of the evidence failed a request");
    Problem::internal()
}

impl From<ProofError> for Box<Problem> {
    fn from(error: ProofError) -> Self {
        let detail = error.to_string();
        match error {
            ProofError::NoCheckpoint | ProofError::NotSealed { .. } => {
                Problem::new(error::NOT_FOUND, detail).header(header::RETRY_AFTER, HeaderValue::from_static("1"))
            }
            ProofError::NoEvent(_) => Problem::new(error::NOT_FOUND, detail),
            ProofError::Sizes(_) => Problem::at(error::VALIDATION_FAILED, "/query/from", detail),
            ProofError::Violation => Problem::new(error::INTEGRITY_VIOLATION, detail),
            ProofError::Store(error) => Problem::of_store(&error),
        }
    }
}

/// Whether the log is what was signed.
#[derive(Debug)]
pub(super) struct IntegrityCheck(pub Arc<Integrity>);

impl HealthCheck for IntegrityCheck {
    fn name(&self) -> &str {
        "integrity"
    }

    fn check(&self) -> BoxFuture<'_, Health> {
        Box::pin(async {
            let health = self.0.health();
            let detail = health.detail.unwrap_or_default();
            let told = match health.standing {
                Standing::Sound => Health::pass(),
                Standing::Doubtful => Health::warn(detail),
                Standing::Violated => Health::fail(detail),
            };
            told.observed(health.sealed_position, "sealed position")
        })
    }
}
