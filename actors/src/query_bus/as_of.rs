//! One row as it was at a position of the log: made on the spot, by the projection's own function, of the events of the one
//! stream that makes it.

use std::{num::NonZeroU32, sync::Arc};

use super::{QueryAnswer, QueryError, QueryResult, plan::Planned, read_side::ReadSide};
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
}

impl Past {
    pub fn new(catalog: &Arc<Catalog>, projections: &[Arc<dyn Projection>]) -> Self {
        Self { catalog: catalog.clone(), projections: projections.to_vec() }
    }
}

impl ReadSide {
    /// Answers as of a position.
    pub(super) async fn as_of(&self, plan: &Planned, asked: Position) -> QueryResult {
        let Past { catalog, projections } = &self.sources.past;
        let projection = projections.iter().find(|projection| projection.name() == plan.projection());
        let (Selection::Row(key), Some(stream), Some(projection)) =
            (&plan.plan.selection, &plan.plan.stream, projection)
        else {
            let detail = "cannot be asked as of a position: more than the events of one stream make its answer";
            return Err(invalid(detail.to_owned()));
        };
        let head = self.sources.events.head().await?;
        let position = asked.min(head);
        let events = self.events(stream, position).await?;
        let interest = projection.interest();
        let mut memory = RowMemory::default();
        for event in events.iter().filter(|event| interest.matches(event)) {
            if !apply(&mut memory, &**projection, event, catalog) {
                // Where it is parked, everything later of its stream waits behind it.
                break;
            }
        }
        let Some(data) = memory.known(key).cloned().flatten() else {
            let detail = format!("{} as of position {position}", plan.plan.missing);
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

    /// A stream's events up to a position.
    async fn events(&self, stream: &AggregateId, position: Position) -> Result<Vec<RecordedEvent>, QueryError> {
        let mut events: Vec<RecordedEvent> = Vec::new();
        loop {
            let from = events.last().map_or(Sequence(1), |last| last.sequence.next());
            let range = StreamRange { from, to: Sequence(u64::MAX), direction: Direction::Forward, limit: PAGE };
            let page = self.sources.events.read_stream(stream, range).await?;
            let is_last = page.len() < PAGE.get() as usize || page.iter().any(|event| event.position > position);
            events.extend(page.into_iter().filter(|event| event.position <= position));
            if events.len() as u64 > AS_OF_EVENTS_MAX {
                let detail = format!(
                    "cannot be asked as of position {position}: {:?} has more than {AS_OF_EVENTS_MAX} events up to there",
                    stream.as_str(),
                );
                return Err(invalid(detail));
            }
            if is_last {
                return Ok(events);
            }
        }
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
