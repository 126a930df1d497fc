//! The record of changes.

use super::*;
use crate::ports::{REVISION_LEAP, VIEW_CHANGES_MAX, ViewChanges};

listed!(
    changes_follow_the_chain,
    unknown_projections_have_no_changes,
    change_of_owner_touches_everything_and_keeps_the_chain,
    broken_chain_is_told,
    revision_that_never_was_is_told,
    pruned_changes_break_the_chain,
    too_many_changes_are_told_as_everything,
);

async fn since(store: &Tested, revision: Revision) -> ViewChanges {
    store.changes(&[("p".to_owned(), revision)]).await.unwrap().remove(0)
}

fn of(sort: &str) -> Touched {
    Touched::rows([&key(sort)].into_iter())
}

async fn changes_follow_the_chain(store: Tested) {
    let mut owner = Owner::new(&store).await;
    let start = owner.state.revision;
    let expected = [(Revision(start.0 + 1), of("a")), (Revision(start.0 + 2), of("b"))];
    owner.put("a", "1").await;
    owner.put("b", "1").await;
    owner.step(owner.served(puts(2, 8, Vec::new()))).await;
    let news = since(&store, start).await;
    assert_eq!((news.position, news.revision), (Position(8), owner.state.revision));
    assert_eq!(news.changes.unwrap(), expected);
    assert_eq!(since(&store, expected[0].0).await.changes.unwrap(), expected[1..]);
    assert_eq!(since(&store, owner.state.revision).await.changes.unwrap(), []);
}

async fn unknown_projections_have_no_changes(store: Tested) {
    let (p, mut q) = (Owner::new(&store).await, Owner::of(&store, "q").await);
    q.put("a", "1").await;
    let asked = [("q", q.state.revision), ("unknown", Revision(0)), ("p", p.state.revision)];
    let news = store.changes(&asked.map(|(name, revision)| (name.to_owned(), revision))).await.unwrap();
    assert_eq!(news.iter().map(|news| &*news.projection).collect::<Vec<_>>(), ["q", "p"]);
    assert!(news.iter().all(|news| news.changes.as_deref() == Some(&[])));
    assert_eq!(store.changes(&[]).await.unwrap(), []);
}

async fn change_of_owner_touches_everything_and_keeps_the_chain(store: Tested) {
    let first = Owner::new(&store).await;
    store.release("p", first.id).await.unwrap();
    let mut second = Owner::new(&store).await;
    second.put("a", "1").await;
    let leap = Revision(first.state.revision.0 + REVISION_LEAP);
    let expected = [(leap, Touched::Everything), (second.state.revision, of("a"))];
    assert_eq!(since(&store, first.state.revision).await.changes.unwrap(), expected);
    assert_eq!(since(&store, Revision(0)).await.changes.unwrap().len(), 3);
}

async fn broken_chain_is_told(store: Tested) {
    let mut owner = Owner::new(&store).await;
    owner.put("a", "1").await;
    // As after a crash that undid commits: the asker knows a revision that is no more.
    let undone = Revision(owner.state.revision.0 + 1);
    store.release("p", owner.id).await.unwrap();
    let next = Owner::new(&store).await;
    assert!(next.state.revision > undone);
    let news = since(&store, undone).await;
    assert_eq!((news.changes, news.revision), (None, next.state.revision));
}

async fn revision_that_never_was_is_told(store: Tested) {
    let owner = Owner::new(&store).await;
    assert_eq!(since(&store, Revision(owner.state.revision.0 - 1)).await.changes, None);
    assert_eq!(since(&store, Revision(owner.state.revision.0 + 1)).await.changes, None);
}

async fn pruned_changes_break_the_chain(store: Tested) {
    let mut owner = Owner::new(&store).await;
    let mut revisions = vec![owner.state.revision];
    for text in ["1", "2", "3"] {
        revisions.push(owner.put("a", text).await.revision);
    }
    let later = owner.state.lease.unwrap().expires_at;
    assert_eq!(store.prune(later, at_most(1)).await.unwrap(), 1, "the change of owner");
    assert_eq!(since(&store, Revision(0)).await.changes, None);
    assert_eq!(since(&store, revisions[0]).await.changes.unwrap().len(), 3);
    assert_eq!(store.prune(later, at_most(10)).await.unwrap(), 2, "the newest stays");
    assert_eq!(store.prune(later, at_most(10)).await.unwrap(), 0);
    assert_eq!(since(&store, revisions[1]).await.changes, None);
    assert_eq!(since(&store, revisions[2]).await.changes.unwrap(), [(revisions[3], of("a"))]);
    let early = later - chrono::Duration::days(1);
    owner.put("a", "4").await;
    assert_eq!(store.prune(early, at_most(10)).await.unwrap(), 0, "young changes stay");
}

async fn too_many_changes_are_told_as_everything(store: Tested) {
    let mut owner = Owner::new(&store).await;
    let start = owner.state.revision;
    for count in 1..=VIEW_CHANGES_MAX + 1 {
        let step = ViewCommit { touched: of("a"), ..owner.idle() };
        let ViewOutcome::Committed(state) = store.commit(step).await.unwrap() else { panic!("lost") };
        owner.state = *state;
        if count == VIEW_CHANGES_MAX {
            assert_eq!(since(&store, start).await.changes.map(|it| it.len()), Some(VIEW_CHANGES_MAX));
        }
    }
    assert_eq!(since(&store, start).await.changes, None);
    assert!(since(&store, Revision(start.0 + 1)).await.changes.is_some());
}
