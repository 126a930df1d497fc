//! What the journal's session knows of the streams it appended to, so that the database need not look them up again.

use std::collections::HashMap;

use event_sourcing_actors::{
    AggregateId, Position, StreamHead,
    ports::{AppendBatch, StreamClaim, UnitOutcome},
};

/// Streams remembered; when there are more, all are forgotten.
const STREAMS_MAX: usize = 16_384;

/// Heads as they stood when the log ended at one position.
///
/// The log only grows. If under its lock it still ends where this session left it, nobody else has appended, so every
/// head left then is the head now; otherwise none of this counts, and the database looks all of them up. The knowledge
/// lives and dies with one session: another one may meet another log (a restore, a failover).
#[derive(Debug, Default)]
pub(super) struct Heads {
    left_at: Option<Position>,
    streams: HashMap<AggregateId, StreamHead>,
}

impl Heads {
    /// Where the log ended after this session's last append.
    pub(super) fn left_at(&self) -> Option<i64> {
        self.left_at.map(Position::as_i64)
    }

    /// Whether a claim names the head that this session left.
    pub(super) fn trusts(&self, claim: &StreamClaim) -> bool {
        self.streams.get(&claim.aggregate_id) == Some(&claim.head)
    }

    /// Notes what an append confirmed and stored; `before` is where the log ended before it.
    pub(super) fn learn(&mut self, batch: &AppendBatch, before: Position, outcomes: &[UnitOutcome]) {
        if self.left_at != Some(before) || self.streams.len() > STREAMS_MAX {
            self.streams.clear();
        }
        let mut end = before;
        let committed = batch.units.iter().zip(outcomes);
        for (unit, _) in committed.filter(|(_, outcome)| matches!(outcome, UnitOutcome::Committed(_))) {
            end = end.plus(unit.events.len() as u64);
            for claim in &unit.streams {
                self.note(&claim.aggregate_id, claim.head);
            }
            for event in &unit.events {
                self.note(&event.aggregate_id, StreamHead { sequence: event.sequence, chain: event.chain });
            }
        }
        self.left_at = Some(end);
    }

    fn note(&mut self, id: &AggregateId, head: StreamHead) {
        match self.streams.get_mut(id) {
            Some(known) => *known = head,
            None => {
                self.streams.insert(id.clone(), head);
            }
        }
    }
}
