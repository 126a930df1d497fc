//! Branches are made, listed and forgotten.

use super::*;
use crate::ports::BRANCHES_LIVE_MAX;

listed! {
    a_branch_is_there_until_it_is_deleted,
    a_repeated_request_makes_one_branch,
    no_more_than_64_are_open,
}

async fn a_branch_is_there_until_it_is_deleted(store: Tested) {
    let mut stream = Stream::new("a");
    on_main(&store, stream.unit(3)).await;
    let (first, second) = (forked(&*store, Position(2)).await, forked(&*store, Position(3)).await);
    assert_eq!((first.fork, first.status, first.report.clone()), (Position(2), BranchStatus::Open, None));
    assert_eq!(store.branch(first.id).await.unwrap().as_ref(), Some(&first));
    let listed = |before, limit| store.branches(before, at_most(limit));
    assert_eq!(listed(None, 10).await.unwrap(), [second.clone(), first.clone()], "newest first");
    assert_eq!(listed(None, 1).await.unwrap(), std::slice::from_ref(&second));
    assert_eq!(listed(Some(second.id), 10).await.unwrap(), std::slice::from_ref(&first));

    let mut own = Stream::new("own");
    committed(&on(&store, &first, own.unit(2), &[]).await);
    assert!(store.delete_branch(first.id).await.unwrap());
    assert!(!store.delete_branch(first.id).await.unwrap());
    assert_eq!(store.branch(first.id).await.unwrap(), None);
    assert_eq!(store.head_on(first.id).await.unwrap(), None);
    assert!(store.read_stream_on(first.id, &own.id, whole(10)).await.unwrap().is_empty());
    assert!(store.commands_on(first.id, Position::ZERO, at_most(10)).await.unwrap().is_empty());
    let gone = on(&store, &first, Stream::new("own").unit(1), &[]).await;
    assert!(matches!(gone, UnitOutcome::Failed(StoreError::Closed { .. })), "{gone:?}");
    assert_eq!(listed(None, 10).await.unwrap(), [second]);
    assert_eq!(log_of(&store).await.len(), 3);
}

async fn a_repeated_request_makes_one_branch(store: Tested) {
    let key = |fingerprint| Some(BranchKey { principal: "alice".into(), key: "k".into(), fingerprint });
    let first = match store.create_branch(NewBranch { key: key([1; 32]), ..wish(Position(0)) }).await.unwrap() {
        BranchCreated::Created(branch) => branch,
        other => panic!("{other:?}"),
    };
    let again = store.create_branch(NewBranch { key: key([1; 32]), ..wish(Position(0)) }).await.unwrap();
    assert_eq!(again, BranchCreated::Known(first));
    let other = store.create_branch(NewBranch { key: key([2; 32]), ..wish(Position(0)) }).await.unwrap();
    assert_eq!(other, BranchCreated::KeyReused);
    let foreign = BranchKey { principal: "bob".into(), key: "k".into(), fingerprint: [2; 32] };
    let foreign = store.create_branch(NewBranch { key: Some(foreign), ..wish(Position(0)) }).await.unwrap();
    assert!(matches!(foreign, BranchCreated::Created(_)), "keys belong to their principal");
}

async fn no_more_than_64_are_open(store: Tested) {
    let first = forked(&*store, Position::ZERO).await;
    let wishes = (1..BRANCHES_LIVE_MAX + 8).map(|_| store.create_branch(wish(Position::ZERO)));
    let made = futures_util::future::join_all(wishes).await;
    let full = made.iter().filter(|made| matches!(made, Ok(BranchCreated::Full))).count();
    assert_eq!(full, 8, "at the same time as well");
    let merged = store.merge_branch(first.id, merge(Position::ZERO, AppendUnit::default())).await.unwrap();
    assert!(matches!(merged, MergeOutcome::Merged(_)), "{merged:?}");
    forked(&*store, Position::ZERO).await;
    assert_eq!(store.create_branch(wish(Position::ZERO)).await.unwrap(), BranchCreated::Full);
}
