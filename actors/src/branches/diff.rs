//! What differs between a branch and the log: per aggregate that the branch has changed, what happened on both sides since
//! the fork, and what changed in the state.

use std::num::NonZeroU32;

use serde_json::Value;

use super::{BranchError, Branches};
use crate::{
    difference::{Change, changes},
    envelope::RecordedEvent,
    history::{History, StateAt},
    id::{AggregateId, AggregateType, BranchId},
    ports::{Direction, EventStore, StoreError, StreamRange},
    version::Sequence,
};

/// Events of one side listed at most; the rest is read as the stream's.
pub const DIFF_EVENTS_MAX: NonZeroU32 = NonZeroU32::MIN.saturating_add(99);

/// One aggregate on both sides.
#[derive(Debug, Clone)]
pub struct BranchDifference {
    /// The stream.
    pub aggregate_id: AggregateId,
    /// Its type.
    pub aggregate_type: AggregateType,
    /// On the log.
    pub main: BranchSide,
    /// On the branch.
    pub branch: BranchSide,
    /// What leads from the log's state to the branch's.
    pub changes: Vec<Change>,
}

/// One aggregate on one side.
#[derive(Debug, Clone)]
pub struct BranchSide {
    /// Its version now.
    pub version: Sequence,
    /// What happened to it since the fork, up to [`DIFF_EVENTS_MAX`] events.
    pub events: Vec<RecordedEvent>,
    /// The sequence of the first event that is not listed, if there are more.
    pub next: Option<Sequence>,
}

impl Branches {
    /// What differs, by aggregate in order of id, after one; those that only the log has changed are not listed.
    ///
    /// # Errors
    /// [`BranchError::Unknown`], [`BranchError::Recovery`].
    pub async fn diff(
        &self,
        id: BranchId,
        after: Option<&AggregateId>,
        limit: NonZeroU32,
    ) -> Result<Vec<BranchDifference>, BranchError> {
        let (runtime, kept) = (self.enter(id).await?, self.kept()?);
        let (main, branch) = (History { write_side: kept.main.clone() }, runtime.history());
        let mut found = Vec::new();
        for stream in kept.own.streams_on(id, None, after, limit).await? {
            let stream_id = &stream.aggregate_id;
            let range = StreamRange {
                from: Sequence(1),
                to: stream.head.sequence,
                direction: Direction::Forward,
                limit: NonZeroU32::MIN,
            };
            // The branch's first own event of the stream comes right after the fork.
            let first = kept.own.read_stream_on(id, stream_id, range).await?;
            let since = first.first().map_or(Sequence(1), |event| event.sequence);
            let there = main.state_at(stream_id, Sequence(u64::MAX), true).await?;
            let here = branch.state_at(stream_id, Sequence(u64::MAX), true).await?;
            let changes = changes(&document(there.as_ref())?, &document(here.as_ref())?);
            found.push(BranchDifference {
                main: side(&**kept.log(), stream_id, there.as_ref(), since).await?,
                branch: side(&*branch.write_side.recovery.store, stream_id, here.as_ref(), since).await?,
                aggregate_id: stream.aggregate_id,
                aggregate_type: stream.aggregate_type,
                changes,
            });
        }
        Ok(found)
    }
}

async fn side(
    log: &dyn EventStore,
    id: &AggregateId,
    state: Option<&StateAt>,
    since: Sequence,
) -> Result<BranchSide, StoreError> {
    let version = state.map_or(Sequence::ZERO, |state| state.version);
    let range = StreamRange { from: since, to: version, direction: Direction::Forward, limit: DIFF_EVENTS_MAX };
    let events = if since > version { Vec::new() } else { log.read_stream(id, range).await? };
    let next = events.last().map(|last| last.sequence.next()).filter(|next| *next <= version);
    Ok(BranchSide { version, events, next })
}

fn document(state: Option<&StateAt>) -> Result<Value, StoreError> {
    let Some(state) = state else { return Ok(Value::Null) };
    let unreadable = |error| StoreError::Corrupt { reason: format!("the state of {}: {error}", state.aggregate_id) };
    serde_json::from_slice(&state.state).map_err(unreadable)
}
