//! One row as it is now on a branch: served from what is remembered, or made of what its stream has had since.

use std::num::NonZeroU32;

use tokio::time::Instant;

use super::{
    QueryAnswer, QueryError, QueryRequest, QueryResult,
    as_of::Made,
    plan::Planned,
    read_side::ReadSide,
    remembered::{Remembered, Row, Which},
};
use crate::{envelope::EventFilter, personal::KeyState, ports::StoreError, projection::Projection, version::Position};

/// Events one look reads to see which streams moved; when there are as many, all may have.
const LOOK_EVENTS: NonZeroU32 = NonZeroU32::MIN.saturating_add(63);

impl ReadSide {
    /// Answers as of now on a branch.
    pub(super) async fn on_branch(
        &self,
        plan: &Planned,
        request: &QueryRequest,
        remembered: &Remembered,
    ) -> QueryResult {
        let (which, projection) = self.single(plan, request)?;
        let token = request.min_position.unwrap_or_default();
        let stands = self.look(remembered, token.max(self.sources.publisher.head())).await?;
        if token > stands && !request.is_lenient {
            let projection = plan.projection().to_owned();
            return Err(QueryError::Behind { projection, position: stands, wanted: token });
        }
        let served = remembered.current(which).and_then(|(row, position)| {
            let data = row.open(which, &self.sources.past.vault)?;
            Some((data, position))
        });
        let cached = served.is_some();
        let (data, position) = match served {
            Some(served) => served,
            None => (self.make(remembered, which, projection, stands).await?, stands),
        };
        let head_position = position.max(self.sources.publisher.head());
        let stale = token > position;
        let Some(data) = data else {
            let detail = format!("{} on this branch", plan.plan.missing);
            return Err(QueryError::NotFound { detail, position, head_position, stale });
        };
        Ok(QueryAnswer {
            query_type: plan.query.name,
            projection: plan.query.projection.as_str().into(),
            data,
            position,
            head_position,
            stale,
            cached,
        })
    }

    /// Where the remembered rows stand: at `wanted` or later, if the branch has come so far, and a moment ago at most.
    ///
    /// Cancellation safe: what was read is then read again.
    async fn look(&self, remembered: &Remembered, wanted: Position) -> Result<Position, StoreError> {
        if let Some(stands) = remembered.standing(wanted, Instant::now()) {
            return Ok(stands);
        }
        let _alone = remembered.looking.lock().await;
        if let Some(stands) = remembered.standing(wanted, Instant::now()) {
            return Ok(stands);
        }
        let asked_at = Instant::now();
        if let Some(seen) = remembered.seen() {
            let page = self.sources.events.read_all(seen, &EventFilter::default(), LOOK_EVENTS).await?;
            if page.events.len() < LOOK_EVENTS.get() as usize {
                let stands = page.events.last().map_or(seen, |last| last.position);
                remembered.looked(page.events.iter().map(|event| &event.aggregate_id), stands, asked_at);
                return Ok(stands);
            }
        }
        let head = self.sources.events.head().await?;
        remembered.lost_track(head, asked_at);
        Ok(head)
    }

    /// Makes a row of its stream up to a position, and remembers it.
    async fn make(
        &self,
        remembered: &Remembered,
        which: Which<'_>,
        projection: &dyn Projection,
        position: Position,
    ) -> Result<Option<bytes::Bytes>, QueryError> {
        let held_before = self.sources.past.vault.held(which.stream);
        let mut made = remembered.take(which);
        self.fold(&mut made, projection, which.stream, position).await?;
        let data = made.memory.known(which.key).cloned().flatten();
        if !made.is_personal {
            remembered.put(which, Row::Plain(data.clone()), Some(made), position);
            return Ok(data);
        }
        // Only under the key that all of it was opened with.
        if let (Some(KeyState::Live(before)), Some(KeyState::Live(now))) =
            (held_before, self.sources.past.vault.held(which.stream))
            && before.id() == now.id()
            && let Some(row) = Row::sealed(which, data.as_ref(), &now)
        {
            remembered.put(which, row, None::<Made>, position);
        }
        Ok(data)
    }
}
