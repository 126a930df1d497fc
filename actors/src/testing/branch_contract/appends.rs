//! What is appended to a branch follows the fork, and is the branch's alone.

use super::*;

listed! {
    own_events_follow_the_fork,
    a_claim_must_name_the_branchs_head,
    branches_know_nothing_of_each_other,
    commands_are_kept_with_their_events,
    pages_of_own_events_are_filtered,
}

async fn own_events_follow_the_fork(store: Tested) {
    let mut main = Stream::new("a");
    on_main(&store, main.unit(2)).await;
    let at_fork = main.clone();
    let later = DateTime::from_timestamp(4_000_000_000, 0).unwrap();
    let made = store.create_branch(NewBranch { fork_at: later, ..wish(Position(2)) }).await.unwrap();
    let BranchCreated::Created(branch) = made else { panic!("{made:?}") };
    on_main(&store, main.unit(3)).await;

    let mut own = at_fork.clone();
    let first = committed(&on(&store, &branch, own.unit(2), &[&at_fork]).await);
    assert_eq!(first.first_position, Position(3));
    assert!(first.recorded_at >= later, "nothing is recorded before the fork");
    let mut new = Stream::new("b");
    let second = committed(&on(&store, &branch, new.unit(1), &[]).await);
    assert_eq!(second.first_position, Position(5));
    assert!(second.recorded_at >= first.recorded_at);
    let confirmed = AppendUnit { events: Vec::new(), ..own.clone().unit(0) };
    assert_eq!(committed(&on(&store, &branch, confirmed, &[&at_fork]).await).first_position, Position(5));

    assert_eq!(store.head_on(branch.id).await.unwrap(), Some(Position(5)));
    let events = store.read_stream_on(branch.id, &own.id, whole(10)).await.unwrap();
    let places: Vec<_> = events.iter().map(|event| (event.position.0, event.sequence.0)).collect();
    assert_eq!(places, [(3, 3), (4, 4)]);
    assert!(events.iter().all(|event| event.is_intact()));
    let back = StreamRange { direction: crate::ports::Direction::Backward, ..whole(1) };
    assert_eq!(store.read_stream_on(branch.id, &own.id, back).await.unwrap()[0].sequence, Sequence(4));
    let summary = store.stream_on(branch.id, &own.id).await.unwrap().unwrap();
    assert_eq!((summary.head, summary.position), (own.head, Position(4)));
    let streams = store.streams_on(branch.id, None, None, at_most(10)).await.unwrap();
    assert_eq!(streams.iter().map(|it| it.aggregate_id.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    let after = store.streams_on(branch.id, None, Some(&own.id), at_most(10)).await.unwrap();
    assert_eq!(after.len(), 1);
    let other = AggregateType::new("other").unwrap();
    assert!(store.streams_on(branch.id, Some(&other), None, at_most(10)).await.unwrap().is_empty());

    // Nothing of it is in the log.
    assert_eq!(store.head().await.unwrap(), Position(5));
    assert!(store.stream(&new.id).await.unwrap().is_none());
    assert_eq!(store.list_streams(None, None, at_most(10)).await.unwrap().len(), 1);
    let ids: Vec<EventId> = events.iter().map(|event| event.event_id).collect();
    assert!(store.find_events(&ids).await.unwrap().is_empty());
    assert_eq!(store.find_events_on(branch.id, &ids).await.unwrap().len(), 2);
}

async fn a_claim_must_name_the_branchs_head(store: Tested) {
    let mut main = Stream::new("a");
    on_main(&store, main.unit(2)).await;
    let at_fork = main.clone();
    let branch = forked(&*store, Position(2)).await;
    on_main(&store, main.unit(1)).await;
    let stale = |outcome: UnitOutcome| assert!(matches!(outcome, UnitOutcome::Stale), "{outcome:?}");
    stale(on(&store, &branch, main.clone().unit(1), &[&at_fork]).await);
    stale(on(&store, &branch, Stream::new("a").unit(1), &[&at_fork]).await);
    stale(on(&store, &branch, at_fork.clone().unit(1), &[]).await);
    let mut own = at_fork.clone();
    let unit = own.unit(1);
    committed(&on(&store, &branch, unit.clone(), &[&at_fork]).await);
    stale(on(&store, &branch, at_fork.clone().unit(1), &[&at_fork]).await);
    let known = on(&store, &branch, unit, &[&at_fork]).await;
    assert!(matches!(&known, UnitOutcome::Known { commands } if commands == &[0]), "{known:?}");
    // Units that fail leave no hole.
    let batch = AppendBatch { units: vec![Stream::new("a").unit(1), Stream::new("b").unit(2)] };
    let bases = HashMap::from([(at_fork.id.clone(), at_fork.head)]);
    let outcomes = store.append_on(branch.id, BranchAppend { batch, bases }).await.unwrap();
    assert!(matches!(outcomes[0], UnitOutcome::Stale), "{outcomes:?}");
    assert_eq!(committed(&outcomes[1]).first_position, Position(4));
    assert_eq!(store.commands_on(branch.id, Position::ZERO, at_most(10)).await.unwrap().len(), 3);
}

async fn branches_know_nothing_of_each_other(store: Tested) {
    let (one, other) = (forked(&*store, Position::ZERO).await, forked(&*store, Position::ZERO).await);
    let mut unit = Stream::new("a").unit(1);
    unit.commands[0].key = Some(key("k"));
    for branch in [&one, &other] {
        let first = committed(&on(&store, branch, unit.clone(), &[]).await);
        assert_eq!(first.first_position, Position(1), "the same ids and keys are new on each");
        assert_eq!(store.find_key_on(branch.id, "alice", "k").await.unwrap(), Some(key("k")));
        assert_eq!(store.find_key_on(branch.id, "bob", "k").await.unwrap(), None);
    }
    assert_eq!(store.find_key("alice", "k").await.unwrap(), None);
    assert!(log_of(&store).await.is_empty());
    on_main(&store, unit.clone()).await;
    let mut again = Stream::new("b").unit(1);
    again.commands[0].key = Some(key("k"));
    let known = on(&store, &one, again, &[]).await;
    assert!(matches!(known, UnitOutcome::Known { .. }), "{known:?}");

    let far = DateTime::from_timestamp(4_100_000_000, 0).unwrap();
    assert_eq!(store.sweep_keys_on(one.id, far, at_most(10)).await.unwrap(), 1);
    assert_eq!(store.find_key_on(one.id, "alice", "k").await.unwrap(), None);
    assert!(store.find_key_on(other.id, "alice", "k").await.unwrap().is_some(), "each sweeps its own");
    assert!(store.find_key("alice", "k").await.unwrap().is_some());
}

async fn commands_are_kept_with_their_events(store: Tested) {
    let branch = forked(&*store, Position::ZERO).await;
    let mut stream = Stream::new("a");
    let mut unit = stream.unit(3);
    // Two events of one command, and a command that led to nothing.
    unit.commands.remove(1);
    let nothing = EventId(Uuid::now_v7());
    unit.commands.push(CommandProbe { event_ids: vec![nothing], key: None, record: Some(record(&stream.id, nothing)) });
    let expected = [(1, unit.events[0].event_id), (3, unit.events[2].event_id)];
    let expected = expected.map(|(position, event)| (Position(position), record(&stream.id, event)));
    committed(&on(&store, &branch, unit, &[]).await);
    let kept = store.commands_on(branch.id, Position::ZERO, at_most(10)).await.unwrap();
    let kept: Vec<_> = kept.into_iter().map(|command| (command.position, command.record)).collect();
    assert_eq!(kept, expected);
    assert_eq!(store.commands_on(branch.id, Position(1), at_most(10)).await.unwrap().len(), 1);
    assert_eq!(store.commands_on(branch.id, Position::ZERO, at_most(1)).await.unwrap().len(), 1);
}

async fn pages_of_own_events_are_filtered(store: Tested) {
    on_main(&store, Stream::new("m").unit(4)).await;
    let branch = forked(&*store, Position(4)).await;
    for name in ["a", "b", "c"] {
        committed(&on(&store, &branch, Stream::new(name).unit(2), &[]).await);
    }
    let page = |after, filter: EventFilter, limit| {
        let (store, id) = (store.clone(), branch.id);
        async move { store.read_all_on(id, Position(after), &filter, at_most(limit)).await.unwrap() }
    };
    let places = |page: &LogPage| page.events.iter().map(|event| event.position.0).collect::<Vec<_>>();
    let first = page(4, EventFilter::default(), 4).await;
    assert_eq!((places(&first), first.examined), (vec![5, 6, 7, 8], Position(8)));
    let last = page(8, EventFilter::default(), 4).await;
    assert_eq!((places(&last), last.examined), (vec![9, 10], Position(10)));
    let end = page(10, EventFilter::default(), 4).await;
    assert_eq!((places(&end), end.examined), (Vec::new(), Position(10)));
    let none = EventFilter { event_types: vec![EventType::new("Never").unwrap()], ..EventFilter::default() };
    let none = page(4, none, 4).await;
    assert_eq!((places(&none), none.examined), (Vec::new(), Position(10)));
    let by_type = EventFilter { aggregate_types: vec![AggregateType::new("test").unwrap()], ..EventFilter::default() };
    assert_eq!(places(&page(6, by_type, 2).await), [7, 8]);
    let by_context = EventFilter { correlation_id: Some("c".into()), ..EventFilter::default() };
    assert_eq!(places(&page(4, by_context, 10).await).len(), 6);
}
