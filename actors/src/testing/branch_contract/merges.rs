//! A merge appends to the log and closes the branch: both or neither.

use super::*;

listed! {
    a_merge_appends_and_closes_at_once,
    a_merge_that_does_not_pass_changes_nothing,
    of_merges_at_once_one_has_an_effect,
}

async fn a_merge_appends_and_closes_at_once(store: Tested) {
    let (mut a, mut b) = (Stream::new("a"), Stream::new("b"));
    on_main(&store, a.unit(1)).await;
    let branch = forked(&*store, Position(1)).await;
    committed(&on(&store, &branch, Stream::new("own").unit(2), &[]).await);
    let (of_a, of_b) = (a.unit(2), b.unit(1));
    let unit = AppendUnit {
        streams: [of_a.streams, of_b.streams].concat(),
        commands: [of_a.commands, of_b.commands].concat(),
        events: [of_a.events, of_b.events].concat(),
    };
    let merged = store.merge_branch(branch.id, merge(Position(3), unit.clone())).await.unwrap();
    let MergeOutcome::Merged(committed) = merged else { panic!("{merged:?}") };
    assert_eq!(committed.first_position, Position(2));
    let expected = [(1, "a", 1), (2, "a", 2), (3, "a", 3), (4, "b", 1)];
    let expected = expected.map(|(position, stream, sequence)| (position, stream.to_owned(), sequence));
    assert_eq!(log_of(&store).await, expected);
    assert_eq!(store.stream(&b.id).await.unwrap().unwrap().head, b.head, "streams that begin by it are listed");

    let closed = store.branch(branch.id).await.unwrap().unwrap();
    assert_eq!((closed.status, closed.report.as_deref()), (BranchStatus::Merged, Some(&b"{\"merged\":true}"[..])));
    let again = store.merge_branch(branch.id, merge(Position(3), unit)).await.unwrap();
    assert!(matches!(&again, MergeOutcome::Closed(branch) if *branch == closed), "{again:?}");
    let late = on(&store, &branch, Stream::new("late").unit(1), &[]).await;
    assert!(matches!(late, UnitOutcome::Failed(StoreError::Closed { .. })), "{late:?}");
    assert_eq!(store.read_stream_on(branch.id, &id("own"), whole(10)).await.unwrap().len(), 2, "it can still be read");
    let unknown = store.merge_branch(BranchId::generate(), merge(Position(1), AppendUnit::default())).await.unwrap();
    assert!(matches!(unknown, MergeOutcome::Unknown), "{unknown:?}");
    assert_eq!(log_of(&store).await.len(), 4);
}

async fn a_merge_that_does_not_pass_changes_nothing(store: Tested) {
    let mut a = Stream::new("a");
    on_main(&store, a.unit(1)).await;
    let branch = forked(&*store, Position(1)).await;
    committed(&on(&store, &branch, Stream::new("own").unit(1), &[]).await);
    let before = (log_of(&store).await, store.branch(branch.id).await.unwrap());
    let stale = AppendUnit {
        streams: [Stream::new("a").unit(0).streams, Stream::new("b").unit(0).streams].concat(),
        events: Stream::new("b").unit(1).events,
        ..AppendUnit::default()
    };
    let outcome = store.merge_branch(branch.id, merge(Position(2), stale)).await.unwrap();
    assert!(matches!(outcome, MergeOutcome::Unit(UnitOutcome::Stale)), "{outcome:?}");
    let behind = store.merge_branch(branch.id, merge(Position(1), a.clone().unit(1))).await.unwrap();
    assert!(matches!(behind, MergeOutcome::Behind), "{behind:?}");
    assert_eq!((log_of(&store).await, store.branch(branch.id).await.unwrap()), before);
    committed(&on(&store, &branch, Stream::new("more").unit(1), &[]).await);
    // The control: what is right passes.
    let merged = store.merge_branch(branch.id, merge(Position(3), a.unit(1))).await.unwrap();
    assert!(matches!(merged, MergeOutcome::Merged(_)), "{merged:?}");
    assert_eq!(log_of(&store).await.len(), 2);
}

async fn of_merges_at_once_one_has_an_effect(store: Tested) {
    let mut a = Stream::new("a");
    on_main(&store, a.unit(1)).await;
    let branch = forked(&*store, Position(1)).await;
    // Each with events of its own: only the branch tells that they are the same merge.
    let merges = (0..6).map(|_| store.merge_branch(branch.id, merge(Position(1), a.clone().unit(1))));
    let outcomes = futures_util::future::join_all(merges).await;
    let merged = outcomes.iter().filter(|outcome| matches!(outcome, Ok(MergeOutcome::Merged(_)))).count();
    let closed = outcomes.iter().filter(|outcome| matches!(outcome, Ok(MergeOutcome::Closed(_)))).count();
    assert_eq!((merged, closed), (1, 5), "{outcomes:?}");
    assert_eq!(log_of(&store).await.len(), 2);
}
