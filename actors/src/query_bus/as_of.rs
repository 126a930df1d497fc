//! One row as it was at a position of the log: made on the spot, by the projection's own function, of the events of the one
//! stream that makes it.

use std::{num::NonZeroU32, sync::Arc};

use bytes::Bytes;

use super::{
    QueryAnswer, QueryError, QueryRequest, QueryResult,
    plan::Planned,
    read_side::ReadSide,
    remembered::{Remembered, Which},
};
use crate::{
    aggregate::FieldError,
    catalog::Catalog,
    envelope::RecordedEvent,
    id::AggregateId,
    limits::BranchLimits,
    ports::{Direction, StreamRange},
    projection::{Applied, Projection, RowMemory},
    vault::Vault,
    version::{Position, Sequence},
    view::{RowKey, Selection},
};

/// Events one such answer may be made of: a bound on its time and on the rows kept in memory for it.
pub const AS_OF_EVENTS_MAX: u64 = 10_000;

/// Events read at once.
const PAGE: NonZeroU32 = NonZeroU32::MIN.saturating_add(999);

/// What makes rows anew.
#[derive(Debug)]
pub(crate) struct Past {
    pub catalog: Arc<Catalog>,
    pub projections: Vec<Arc<dyn Projection>>,
    /// Says whose personal data can still be read.
    pub vault: Arc<Vault>,
    /// The timeline is a branch: no read models are kept for it, so all answers are made so, and remembered here.
    pub on_branch: Option<Remembered>,
}

impl Past {
    pub fn new(
        catalog: &Arc<Catalog>,
        projections: &[Arc<dyn Projection>],
        vault: Arc<Vault>,
        on_branch: Option<&BranchLimits>,
    ) -> Self {
        let on_branch = on_branch.map(Remembered::new);
        Self { catalog: catalog.clone(), projections: projections.to_vec(), vault, on_branch }
    }
}

/// The rows that a stream's events made, up to one of them.
#[derive(Debug, Default)]
pub(super) struct Made {
    pub memory: RowMemory,
    /// The last event applied.
    version: Sequence,
    /// An event cannot be applied. Where it is parked, everything later of its stream waits behind it.
    is_stuck: bool,
    /// They tell of a person, whose erasure on main does not reach them.
    pub is_personal: bool,
    bytes: usize,
}

impl Made {
    /// What its rows take.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

/// What a row takes beside its data, roughly.
const ROW_BYTES: usize = 96;

impl ReadSide {
    /// The one row that is asked for, and what makes it.
    pub(super) fn single<'a>(
        &'a self,
        plan: &'a Planned,
        request: &QueryRequest,
    ) -> Result<(Which<'a>, &'a dyn Projection), QueryError> {
        let mut projections = self.sources.past.projections.iter();
        let projection = projections.find(|projection| projection.name() == plan.projection());
        if let (Selection::Row(key), Some(stream), Some(projection)) =
            (&plan.plan.selection, &plan.plan.stream, projection)
        {
            return Ok((Which { stream, projection: plan.projection(), key }, &**projection));
        }
        let detail = match request.as_of {
            None => {
                "cannot be asked on a branch: more than the events of one stream make its answer; ask for single \
                 rows, or read the events of the branch"
            }
            Some(_) => {
                "cannot be asked as of a position: more than the events of one stream make its answer; ask for single \
                 rows, or for the states of aggregates at that position"
            }
        };
        Err(invalid(detail.to_owned()))
    }

    /// Answers as of a position.
    pub(super) async fn as_of(&self, plan: &Planned, request: &QueryRequest, asked: Position) -> QueryResult {
        let (which, projection) = self.single(plan, request)?;
        let head = self.sources.events.head().await?;
        let position = asked.min(head);
        let mut made = Made::default();
        self.fold(&mut made, projection, which.stream, position).await?;
        let stale = asked > head;
        let Some(data) = made.memory.known(which.key).cloned().flatten() else {
            let detail = format!("{} as of position {position}", plan.plan.missing);
            return Err(QueryError::NotFound { detail, position, head_position: head, stale });
        };
        Ok(QueryAnswer {
            query_type: plan.query.name,
            projection: plan.query.projection.as_str().into(),
            data,
            position,
            head_position: head,
            stale,
            cached: false,
        })
    }

    /// Applies a stream's events up to a position that are not applied yet.
    pub(super) async fn fold(
        &self,
        made: &mut Made,
        projection: &dyn Projection,
        stream: &AggregateId,
        position: Position,
    ) -> Result<(), QueryError> {
        let interest = projection.interest();
        while !made.is_stuck {
            let (from, direction) = (made.version.next(), Direction::Forward);
            let range = StreamRange { from, to: Sequence(u64::MAX), direction, limit: PAGE };
            let page = self.sources.events.read_stream(stream, range).await?;
            let is_last = page.len() < PAGE.get() as usize || page.iter().any(|event| event.position > position);
            for event in page.iter().filter(|event| event.position <= position) {
                made.is_personal |= self.sources.past.catalog.personal(&event.event_type).is_some();
                if interest.matches(event) && !apply(made, projection, event, &self.sources.past.catalog) {
                    made.is_stuck = true;
                    break;
                }
                made.version = event.sequence;
            }
            if made.version.0 > AS_OF_EVENTS_MAX {
                let detail = format!(
                    "cannot be asked as of position {position}: {:?} has more than {AS_OF_EVENTS_MAX} events up to there; ask for \
                     the state of the aggregate at that position",
                    stream.as_str(),
                );
                return Err(invalid(detail));
            }
            if is_last {
                break;
            }
        }
        Ok(())
    }
}

fn invalid(detail: String) -> QueryError {
    QueryError::Invalid { errors: vec![FieldError { pointer: "/query_type".to_owned(), detail }] }
}

/// Applies one event; rows that were not made here are not there. `false`: it cannot be applied.
fn apply(made: &mut Made, projection: &dyn Projection, event: &RecordedEvent, catalog: &Catalog) -> bool {
    loop {
        match made.memory.apply(projection, event, catalog) {
            Applied::Changes(changes) => {
                for (key, data) in &changes {
                    let before = made.memory.known(key).map_or(0, |data| row_bytes(key, data.as_ref()));
                    made.bytes = (made.bytes + row_bytes(key, data.as_ref())).saturating_sub(before);
                }
                made.memory.take_over(&changes);
                return true;
            }
            // Each round makes at least one more row known, and an event asks for a few.
            Applied::NotLoaded(keys) => {
                for key in keys {
                    made.bytes += row_bytes(&key, None);
                    made.memory.remember(key, None);
                }
            }
            Applied::Failed(_) => return false,
        }
    }
}

fn row_bytes(key: &RowKey, data: Option<&Bytes>) -> usize {
    ROW_BYTES + key.collection.len() + key.group.len() + key.sort.len() + data.map_or(0, Bytes::len)
}
