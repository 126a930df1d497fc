//! Small batches for tests of one store.

use std::num::NonZeroU32;

use event_sourcing_actors::{
    AggregateId, AggregateType, EventId, EventType, NewEvent, StreamHead,
    envelope::EventBody,
    ports::{AppendBatch, AppendUnit, CommandProbe, Committed, StoreError, StreamClaim, UnitOutcome},
};
use uuid::Uuid;

/// A limit.
pub fn at_most(limit: u32) -> NonZeroU32 {
    NonZeroU32::new(limit).unwrap()
}

/// One unit with the first event of each of these streams.
pub fn batch(streams: &[&str]) -> AppendBatch {
    AppendBatch { units: streams.iter().map(|name| unit(name, StreamHead::EMPTY)).collect() }
}

/// One event that follows `head`.
pub fn unit(stream: &str, head: StreamHead) -> AppendUnit {
    let (id, kind) = (AggregateId::new(stream).unwrap(), AggregateType::new("test").unwrap());
    let body = EventBody {
        event_id: EventId(Uuid::now_v7()),
        event_type: EventType::new("Happened").unwrap(),
        schema_version: 1,
        data: r#"{"number":1}"#.into(),
        metadata: "{}".into(),
    };
    let event = NewEvent::following(&mut head.clone(), &id, &kind, body);
    AppendUnit {
        streams: vec![StreamClaim { aggregate_id: id, head, losses: 0 }],
        commands: vec![CommandProbe { event_ids: vec![event.event_id], key: None, record: None }],
        events: vec![event],
    }
}

/// Asserts that every unit was committed.
#[track_caller]
pub fn committed(outcomes: Result<Vec<UnitOutcome>, StoreError>) -> Vec<Committed> {
    let one = |outcome| match outcome {
        UnitOutcome::Committed(committed) => committed,
        other => panic!("expected a commit, got {other:?}"),
    };
    outcomes.unwrap().into_iter().map(one).collect()
}
