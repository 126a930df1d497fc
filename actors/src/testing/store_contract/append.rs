//! Appending: heads, conflicts, order, atomicity.

use futures_util::future::join_all;

use super::*;

listed!(
    append_to_a_new_stream_starts_at_one,
    append_to_an_existing_stream_continues,
    append_many_at_once_keeps_their_order,
    append_of_an_empty_batch_is_nothing,
    wrong_expected_number_is_stale_and_stores_nothing,
    claim_of_an_empty_stream_that_has_events_is_stale,
    claim_of_a_head_that_does_not_exist_is_stale,
    right_number_with_other_content_is_stale,
    empty_stream_claimed_with_a_digest_is_stale,
    concurrent_appends_have_one_winner,
    concurrent_writers_leave_no_hole,
    conflicting_member_fails_alone_and_leaves_no_hole,
    unit_over_several_streams_is_stored_whole,
    unit_over_several_streams_with_one_stale_stores_nothing,
    batch_of_two_hundred_units_is_stored_in_order,
    recorded_at_is_one_instant_per_batch_and_never_goes_back,
    confirmation_of_the_head_commits_and_stores_nothing,
    confirmation_of_an_old_head_is_stale,
    confirmation_of_an_absent_stream_commits,
    confirmation_beside_appends_names_the_running_head,
    hole_in_the_sequence_is_refused_alone,
    event_of_an_unclaimed_stream_is_refused_alone,
    stream_claimed_by_two_units_is_refused_in_the_second,
    stale_unit_can_be_sent_again_after_reloading,
);

async fn append_to_a_new_stream_starts_at_one(store: Tested) {
    let mut stream = Stream::new("a");
    let done = commit(&store, stream.unit(1)).await;
    assert_eq!(done.first_position, Position(1));
    assert_eq!(sequences(&store, "a", range(0, WHOLE, 10)).await, [1]);
    assert_lawful(&store, 1).await;
}

async fn append_to_an_existing_stream_continues(store: Tested) {
    let (mut stream, _) = seeded(&store, "a", 3).await;
    let done = commit(&store, stream.unit(2)).await;
    assert_eq!(done.first_position, Position(4));
    assert_eq!(sequences(&store, "a", range(0, WHOLE, 10)).await, [1, 2, 3, 4, 5]);
    assert_lawful(&store, 5).await;
}

async fn append_many_at_once_keeps_their_order(store: Tested) {
    let (_, events) = seeded(&store, "a", 1_000).await;
    let stored = read(&store, "a", range(0, WHOLE, 1_000)).await;
    assert_eq!(stored.into_iter().map(|event| event.event).collect::<Vec<_>>(), events);
    assert_lawful(&store, 1_000).await;
}

async fn append_of_an_empty_batch_is_nothing(store: Tested) {
    assert!(append(&store, Vec::new()).await.is_empty());
    assert_eq!(store.head().await.unwrap(), Position(0));
}

async fn wrong_expected_number_is_stale_and_stores_nothing(store: Tested) {
    let (stream, _) = seeded(&store, "a", 2).await;
    let mut behind = stream.clone();
    commit(&store, stream.clone().unit(1)).await;
    assert_stale(&append_one(&store, behind.unit(1)).await);
    assert_lawful(&store, 3).await;
}

async fn claim_of_an_empty_stream_that_has_events_is_stale(store: Tested) {
    seeded(&store, "a", 1).await;
    assert_stale(&append_one(&store, Stream::new("a").unit(1)).await);
    assert_lawful(&store, 1).await;
}

async fn claim_of_a_head_that_does_not_exist_is_stale(store: Tested) {
    let mut ahead = Stream::new("a");
    let _ = ahead.unit(4);
    assert_stale(&append_one(&store, ahead.unit(1)).await);
    assert_lawful(&store, 0).await;
}

async fn right_number_with_other_content_is_stale(store: Tested) {
    seeded(&store, "a", 2).await;
    let mut imagined = Stream::new("a");
    let _ = imagined.unit(2);
    assert_stale(&append_one(&store, imagined.unit(1)).await);
    assert_stale(&append_one(&store, imagined.confirmation()).await);
    assert_lawful(&store, 2).await;
}

async fn empty_stream_claimed_with_a_digest_is_stale(store: Tested) {
    let mut other = Stream::new("a");
    let _ = other.unit(1);
    other.head.sequence = Sequence::ZERO;
    assert_stale(&append_one(&store, other.unit(1)).await);
    assert_lawful(&store, 0).await;
}

async fn concurrent_appends_have_one_winner(store: Tested) {
    let (stream, _) = seeded(&store, "a", 1).await;
    let rivals = (0..8).map(|_| {
        let (store, mut stream) = (store.clone(), stream.clone());
        tokio::spawn(async move { append_one(&store, stream.unit(1)).await })
    });
    let outcomes: Vec<_> = join_all(rivals).await.into_iter().map(Result::unwrap).collect();
    let wins = outcomes.iter().filter(|outcome| matches!(outcome, UnitOutcome::Committed(_))).count();
    let losses = outcomes.iter().filter(|outcome| matches!(outcome, UnitOutcome::Stale)).count();
    assert_eq!((wins, losses), (1, 7), "{outcomes:?}");
    assert_lawful(&store, 2).await;
}

async fn concurrent_writers_leave_no_hole(store: Tested) {
    let writers = (0..8).map(|writer| {
        let store = store.clone();
        tokio::spawn(async move {
            let mut stream = Stream::new(&format!("writer-{writer}"));
            for round in 1..=10 {
                let before = store.head().await.unwrap();
                let done = commit(&store, stream.unit(round % 3 + 1)).await;
                assert!(done.first_position > before, "what was visible before lies below");
            }
            stream.head.sequence.0
        })
    });
    let stored: u64 = join_all(writers).await.into_iter().map(Result::unwrap).sum();
    assert_lawful(&store, usize::try_from(stored).unwrap()).await;
}

async fn conflicting_member_fails_alone_and_leaves_no_hole(store: Tested) {
    seeded(&store, "b", 1).await;
    let (mut a, mut b, mut c) = (Stream::new("a"), Stream::new("b"), Stream::new("c"));
    let outcomes = append(&store, vec![a.unit(2), b.unit(3), c.unit(1)]).await;
    assert_eq!(committed(&outcomes[0]).first_position, Position(2));
    assert_stale(&outcomes[1]);
    assert_eq!(committed(&outcomes[2]).first_position, Position(4));
    assert_eq!(sequences(&store, "b", range(0, WHOLE, 9)).await, [1]);
    assert_lawful(&store, 4).await;
}

async fn unit_over_several_streams_is_stored_whole(store: Tested) {
    let (mut a, _) = seeded(&store, "a", 1).await;
    let mut b = Stream::new("b");
    let claims = vec![a.claim(), b.claim()];
    let events = vec![a.event("1"), b.event("2"), a.event("3"), b.event("4")];
    let done = commit(&store, unit(claims, events.clone())).await;
    assert_eq!(done.first_position, Position(2));
    let stored = whole_log(&store, &EventFilter::default(), 10).await;
    assert_eq!(stored[1..].iter().map(|event| event.event.clone()).collect::<Vec<_>>(), events);
    assert_lawful(&store, 5).await;
}

async fn unit_over_several_streams_with_one_stale_stores_nothing(store: Tested) {
    let (mut a, _) = seeded(&store, "a", 1).await;
    seeded(&store, "b", 1).await;
    let mut b = Stream::new("b");
    let claims = vec![a.claim(), b.claim()];
    let events = vec![a.event("1"), b.event("2")];
    assert_stale(&append_one(&store, unit(claims, events)).await);
    assert_lawful(&store, 2).await;
}

async fn batch_of_two_hundred_units_is_stored_in_order(store: Tested) {
    let mut streams: Vec<_> = (0..200).map(|number| Stream::new(&format!("stream-{number}"))).collect();
    let units: Vec<_> = (1..).zip(&mut streams).map(|(number, stream)| stream.unit(number % 2 + 1)).collect();
    let expected: Vec<_> = units.iter().flat_map(|unit| unit.events.clone()).collect();
    let outcomes = append(&store, units.clone()).await;
    let mut next = Position(1);
    for (unit, outcome) in units.iter().zip(&outcomes) {
        assert_eq!(committed(outcome).first_position, next);
        next = next.plus(unit.events.len() as u64);
    }
    let log = whole_log(&store, &EventFilter::default(), 1_000).await;
    assert_eq!(log.into_iter().map(|event| event.event).collect::<Vec<_>>(), expected);
    assert_lawful(&store, expected.len()).await;
}

async fn recorded_at_is_one_instant_per_batch_and_never_goes_back(store: Tested) {
    let (mut a, mut b) = (Stream::new("a"), Stream::new("b"));
    let mut last = chrono::DateTime::UNIX_EPOCH;
    for _ in 0..5 {
        let outcomes = append(&store, vec![a.unit(2), b.unit(1)]).await;
        let (first, second) = (committed(&outcomes[0]), committed(&outcomes[1]));
        assert_eq!(first.recorded_at, second.recorded_at);
        assert!(first.recorded_at >= last);
        assert_eq!(first.recorded_at.timestamp_subsec_nanos() % 1_000, 0, "whole microseconds");
        last = first.recorded_at;
        let stored = read(&store, "a", StreamRange { direction: Direction::Backward, ..range(0, WHOLE, 1) }).await;
        assert_eq!(stored[0].recorded_at, last, "the answer names the stored instant");
    }
    assert_lawful(&store, 15).await;
}

async fn confirmation_of_the_head_commits_and_stores_nothing(store: Tested) {
    let (stream, _) = seeded(&store, "a", 2).await;
    let done = commit(&store, stream.confirmation()).await;
    assert_eq!(done.first_position, Position(2));
    assert_lawful(&store, 2).await;
}

async fn confirmation_of_an_old_head_is_stale(store: Tested) {
    let (stream, _) = seeded(&store, "a", 2).await;
    commit(&store, stream.clone().unit(1)).await;
    assert_stale(&append_one(&store, stream.confirmation()).await);
}

async fn confirmation_of_an_absent_stream_commits(store: Tested) {
    assert_eq!(commit(&store, Stream::new("a").confirmation()).await.first_position, Position(0));
    assert!(store.stream(&id("a")).await.unwrap().is_none());
}

async fn confirmation_beside_appends_names_the_running_head(store: Tested) {
    let (mut a, b) = (Stream::new("a"), Stream::new("b"));
    let outcomes = append(&store, vec![a.unit(3), b.confirmation()]).await;
    assert_eq!(committed(&outcomes[1]).first_position, Position(3));
}

async fn hole_in_the_sequence_is_refused_alone(store: Tested) {
    let (mut a, mut b) = (Stream::new("a"), Stream::new("b"));
    let mut holed = b.unit(3);
    holed.events.remove(1);
    let result = store.append(AppendBatch { units: vec![a.unit(1), holed] }).await;
    assert_refused(&result);
    assert_lawful(&store, result.map_or(0, |_| 1)).await;
}

async fn event_of_an_unclaimed_stream_is_refused_alone(store: Tested) {
    let (mut a, mut b) = (Stream::new("a"), Stream::new("b"));
    let mut foreign = b.unit(1);
    foreign.streams.clear();
    let result = store.append(AppendBatch { units: vec![a.unit(1), foreign] }).await;
    assert_refused(&result);
    assert_lawful(&store, result.map_or(0, |_| 1)).await;
}

async fn stream_claimed_by_two_units_is_refused_in_the_second(store: Tested) {
    let (mut first, mut second) = (Stream::new("a"), Stream::new("a"));
    let result = store.append(AppendBatch { units: vec![first.unit(1), second.unit(1)] }).await;
    assert_refused(&result);
    assert_lawful(&store, result.map_or(0, |_| 1)).await;
}

async fn stale_unit_can_be_sent_again_after_reloading(store: Tested) {
    let (stream, _) = seeded(&store, "a", 1).await;
    let mut behind = stream.clone();
    commit(&store, stream.clone().unit(1)).await;
    assert_stale(&append_one(&store, behind.unit(1)).await);
    let head = store.stream(&id("a")).await.unwrap().unwrap().head;
    let mut reloaded = Stream { head, ..Stream::new("a") };
    assert_eq!(commit(&store, reloaded.unit(1)).await.first_position, Position(3));
    assert_lawful(&store, 3).await;
}
