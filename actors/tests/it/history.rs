//! The past for embedders: points resolved to positions, and snapshots that grow back along a long stream.

use std::{num::NonZeroU32, sync::Arc};

use chrono::{DateTime, Duration, Utc};
use event_sourcing_actors::{
    EventId, NewEvent, Position, RuntimeBuilder, Sequence, StreamHead,
    envelope::EventBody,
    history::{At, Resolved, TimeRange},
    memory::MemoryStore,
    ports::{
        AppendBatch, AppendUnit, CommandProbe, EventStore, SNAPSHOT_GAP_EVENTS_MAX, SnapshotStore, StreamClaim,
        UnitOutcome,
    },
    testing::clock::ManualClock,
};
use uuid::Uuid;

use crate::{
    projected::until,
    support::{Purse, Put, builder, id, store},
};

fn start() -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + Duration::days(20_000)
}

/// What `Timeline` does by halving, done by looking at everything.
fn counted(instants: &[i64], passes: impl Fn(i64) -> bool) -> u64 {
    instants.iter().filter(|instant| passes(**instant)).count() as u64
}

#[tokio::test]
async fn every_point_of_every_small_log_means_what_counting_says() {
    // Logs of up to 9 events over two streams; bits say to which stream an event goes, and whether time goes on before it.
    for (length, shape) in (0..=9).flat_map(|length| [(length, 0b01_1010_0110), (length, 0b11_0000_1111), (length, 0)])
    {
        let clock = Arc::new(ManualClock::at(start()));
        let store = Arc::new(MemoryStore::new(clock.clone()));
        let runtime = RuntimeBuilder::new(store.clone(), store).aggregate::<Purse>().unwrap();
        let runtime = runtime.clock(clock.clone()).start().await.unwrap();
        let (mut now, mut instants, mut of_a) = (0, Vec::new(), Vec::new());
        for number in 0..length {
            let bit = (shape >> number) & 1 == 1;
            if bit {
                clock.advance(Duration::seconds(1));
                now += 1;
            }
            let name = if bit || number == 0 { "a" } else { "b" };
            runtime.execute::<Purse>(name, Put { amount: 1 }).await.unwrap();
            instants.push(now);
            if name == "a" {
                of_a.push(number as u64 + 1);
            }
        }
        for second in -1..=now + 1 {
            let instant = start() + Duration::seconds(second);
            let resolved = runtime.history().position_at(instant).await.unwrap();
            let settled = instants.last().is_some_and(|last| second < *last);
            let position = Position(counted(&instants, |at| at <= second));
            assert_eq!(resolved, Resolved { position, settled }, "{length} {shape:b} at {second}");
            let Some(found) = runtime.history().as_of(&id("a"), At::Time(instant)).await.unwrap() else {
                assert_eq!(length, 0);
                continue;
            };
            let version = of_a.iter().filter(|at| **at <= position.0).count() as u64;
            assert_eq!(
                found.state.as_ref().map_or(0, |state| state.version.0),
                version,
                "{length} {shape:b} at {second}"
            );
            assert_eq!(found.resolved, resolved);
            let again = runtime.history().as_of(&id("a"), At::Position(position)).await.unwrap().unwrap();
            assert_eq!(again.state.map(|state| state.state), found.state.map(|state| state.state));
        }
        for (from, to) in (0..=now).flat_map(|from| (from..=now).map(move |to| (from, to))) {
            let at = |second| start() + Duration::seconds(second);
            let range = TimeRange { from: at(from), to: at(to), cursor: None, limit: NonZeroU32::new(100).unwrap() };
            let Some(found) = runtime.history().between(&id("a"), range).await.unwrap() else { continue };
            let expected: Vec<u64> = (of_a.iter().copied())
                .filter(|position| (from..=to).contains(&instants[usize::try_from(position - 1).unwrap()]))
                .collect();
            let positions: Vec<u64> = found.events.iter().map(|event| event.position.0).collect();
            assert_eq!(positions, expected, "{length} {shape:b} from {from} to {to}");
        }
    }
}

/// A purse with this many events, stored at once.
async fn long_stream(store: &MemoryStore, count: u64) {
    let (stream, kind) = (id("long"), "purse".try_into().unwrap());
    let mut head = StreamHead::EMPTY;
    let events = (0..count).map(|_| {
        let body = EventBody {
            event_id: EventId(Uuid::now_v7()),
            event_type: "Added".try_into().unwrap(),
            schema_version: 1,
            data: r#"{"amount":1}"#.into(),
            metadata: "{}".into(),
        };
        NewEvent::following(&mut head, &stream, &kind, body)
    });
    let events: Vec<_> = events.collect();
    let unit = AppendUnit {
        streams: vec![StreamClaim { aggregate_id: id("long"), head: StreamHead::EMPTY, losses: 0 }],
        commands: vec![CommandProbe { event_ids: vec![events[0].event_id], key: None, record: None }],
        events,
    };
    let outcomes = store.append(AppendBatch { units: vec![unit] }).await.unwrap();
    assert!(matches!(outcomes[0], UnitOutcome::Committed(_)), "{outcomes:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_stream_without_snapshots_gets_some_while_it_is_folded() {
    let store = store();
    let gap = SNAPSHOT_GAP_EVENTS_MAX;
    long_stream(&store, gap + 10).await;
    let runtime = builder(&store).start().await.unwrap();
    let history = runtime.history();
    let first = history.state_at(&id("long"), Sequence(gap + 3), true).await.unwrap().unwrap();
    assert_eq!((first.events_replayed, first.snapshot_sequence), (gap + 3, None));
    let newest = async || store.latest(&id("long"), Sequence(u64::MAX)).await.unwrap().map(|found| found.sequence());
    until("a snapshot at the place passed", || async { newest().await == Some(Sequence(gap)) }).await;
    for to in [gap, gap + 9] {
        let state = history.state_at(&id("long"), Sequence(to), true).await.unwrap().unwrap();
        assert_eq!((state.snapshot_sequence, state.events_replayed), (Some(Sequence(gap)), to - gap));
        assert_eq!(&state.state[..], format!(r#"{{"sum":{to}}}"#).as_bytes());
    }
    assert!(runtime.shutdown().await, "a queue of snapshots keeps no runtime alive");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_snapshots_are_switched_off_none_is_made() {
    let store = store();
    long_stream(&store, SNAPSHOT_GAP_EVENTS_MAX + 1).await;
    let runtime = builder(&store).snapshot_frequency(|_| 0).start().await.unwrap();
    runtime.history().state_at(&id("long"), Sequence(u64::MAX), true).await.unwrap().unwrap();
    assert!(runtime.shutdown().await);
    assert_eq!(store.latest(&id("long"), Sequence(u64::MAX)).await.unwrap(), None);
}
