//! One row as it was at a position of the log: made on the spot, by the projection's own function, of the events of the one
//! stream that makes it.

use std::{
    collections::HashMap,
    num::NonZeroU32,
    sync::{Arc, Mutex, PoisonError},
};

use super::{QueryAnswer, QueryError, QueryRequest, QueryResult, plan::Planned, read_side::ReadSide};
use crate::{
    aggregate::FieldError,
    catalog::Catalog,
    envelope::RecordedEvent,
    id::AggregateId,
    ports::{Direction, StreamRange},
    projection::{Applied, Projection, RowMemory},
    version::{Position, Sequence},
    view::Selection,
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
    /// The timeline is a branch: no rows are kept for it, so all answers are made so.
    pub is_branch: bool,
    remembered: Remembered,
}

impl Past {
    pub fn new(catalog: &Arc<Catalog>, projections: &[Arc<dyn Projection>], is_branch: bool) -> Self {
        Self {
            catalog: catalog.clone(),
            projections: projections.to_vec(),
            is_branch,
            remembered: Remembered::default(),
        }
    }
}

/// The rows that a stream's events made, up to one of them.
#[derive(Debug, Default)]
struct Made {
    memory: RowMemory,
    /// The last event applied.
    version: Sequence,
    /// An event cannot be applied. Where it is parked, everything later of its stream waits behind it.
    is_stuck: bool,
    /// They tell of a person, so they are not remembered: an erasure on main does not reach them.
    is_personal: bool,
}

/// Rows of a branch that were made here. What has happened on a branch stays, so the next answer goes on from there.
#[derive(Debug, Default)]
pub(crate) struct Remembered(Mutex<HashMap<(String, AggregateId), Made>>);

/// Streams whose rows are remembered; when there are more, all are made anew.
const REMEMBERED_MAX: usize = 1_000;

impl Remembered {
    /// Takes it out: who comes meanwhile makes it anew.
    fn take(&self, projection: &str, stream: &AggregateId) -> Made {
        let mut made = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        made.remove(&(projection.to_owned(), stream.clone())).unwrap_or_default()
    }

    fn put(&self, projection: &str, stream: &AggregateId, new: Made) {
        let mut made = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if made.len() >= REMEMBERED_MAX {
            made.clear();
        }
        made.insert((projection.to_owned(), stream.clone()), new);
    }
}

impl ReadSide {
    /// Answers as of a position, or of now on a branch.
    pub(super) async fn as_of(&self, plan: &Planned, request: &QueryRequest) -> QueryResult {
        let Past { projections, is_branch, remembered, .. } = &self.sources.past;
        let projection = projections.iter().find(|projection| projection.name() == plan.projection());
        let (Selection::Row(key), Some(stream), Some(projection)) =
            (&plan.plan.selection, &plan.plan.stream, projection)
        else {
            let detail = match (request.as_of, is_branch) {
                (None, true) => {
                    "cannot be asked on a branch: more than the events of one stream make its answer; ask for single \
                     rows, or read the events of the branch"
                }
                _ => {
                    "cannot be asked as of a position: more than the events of one stream make its answer; ask for single \
                     rows, or for the states of aggregates at that position"
                }
            };
            return Err(invalid(detail.to_owned()));
        };
        let head = self.sources.events.head().await?;
        let asked = request.as_of.or(request.min_position).unwrap_or(head);
        if request.as_of.is_none() && asked > head && !request.is_lenient {
            let projection = plan.projection().to_owned();
            return Err(QueryError::Behind { projection, position: head, wanted: asked });
        }
        let position = request.as_of.map_or(head, |asked| asked.min(head));
        let is_kept = *is_branch && request.as_of.is_none();
        let mut made = if is_kept { remembered.take(plan.projection(), stream) } else { Made::default() };
        self.fold(&mut made, &**projection, stream, position).await?;
        let data = made.memory.known(key).cloned().flatten();
        if is_kept && !made.is_personal {
            remembered.put(plan.projection(), stream, made);
        }
        let Some(data) = data else {
            let detail = match request.as_of {
                Some(_) => format!("{} as of position {position}", plan.plan.missing),
                None => format!("{} on this branch", plan.plan.missing),
            };
            return Err(QueryError::NotFound { detail, position, head_position: head, stale: asked > head });
        };
        Ok(QueryAnswer {
            query_type: plan.query.name,
            projection: plan.query.projection.as_str().into(),
            data,
            position,
            head_position: head,
            stale: asked > head,
            cached: false,
        })
    }

    /// Applies a stream's events up to a position that are not applied yet.
    async fn fold(
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
                if interest.matches(event) && !apply(&mut made.memory, projection, event, &self.sources.past.catalog) {
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
fn apply(memory: &mut RowMemory, projection: &dyn Projection, event: &RecordedEvent, catalog: &Catalog) -> bool {
    loop {
        match memory.apply(projection, event, catalog) {
            Applied::Changes(changes) => {
                memory.take_over(&changes);
                return true;
            }
            // Each round makes at least one more row known, and an event asks for a few.
            Applied::NotLoaded(keys) => keys.into_iter().for_each(|key| memory.remember(key, None)),
            Applied::Failed(_) => return false,
        }
    }
}
