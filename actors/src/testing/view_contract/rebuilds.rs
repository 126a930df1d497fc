//! Shadows: filled, compared, swapped in, given up, rolled back.

use super::*;
use crate::{
    digest::row_digest,
    ports::{Fault, OperationStatus, OperationUpdate, Tally},
};

listed!(
    rebuild_begins_an_empty_shadow,
    second_rebuild_is_refused_with_the_first,
    shadow_does_not_show,
    cancel_loses_the_step_under_way,
    cancel_of_another_rebuild_is_refused,
    dropped_shadow_is_gone,
    swap_needs_equal_positions,
    forced_swap_does_not,
    swap_without_a_shadow_is_lost,
    swap_replaces_everything_at_once,
    rollback_and_back,
    rollback_loses_the_step_under_way,
    rolled_back_rows_stand_still_until_a_swap,
    forgotten_previous_rows_are_up_for_removal,
    tally_is_what_a_naive_count_gives,
    tally_does_not_depend_on_order,
    generations_are_never_used_again,
);

async fn rebuild_begins_an_empty_shadow(store: Tested) {
    let mut owner = Owner::new(&store).await;
    owner.put("a", "1").await;
    let at = chrono::DateTime::UNIX_EPOCH;
    let fault = Fault { reason: "stopped".to_owned(), position: Position(1), at };
    owner.step(owner.with(Transition::Stop(fault))).await;
    let before = owner.state.clone();
    let operation = Uuid::now_v7();
    let after = owner.control(Control::Rebuild { operation, version: 9, accepts_difference: true }).await;
    let shadow = after.shadow.unwrap();
    assert_eq!((shadow.version, shadow.checkpoint, shadow.operation), (9, checkpoint(0), operation));
    assert!(shadow.accepts_difference && shadow.generation != before.generation);
    assert_eq!(*after, ProjectionState { shadow: after.shadow, fault: None, ..before });
    let recorded = store.operation(operation).await.unwrap().unwrap();
    assert_eq!((&*recorded.kind, &*recorded.subject), ("projection-rebuild", "p"));
    assert_eq!((recorded.status, recorded.done, recorded.total), (OperationStatus::Running, 0, 0));
}

async fn second_rebuild_is_refused_with_the_first(store: Tested) {
    let mut owner = Owner::new(&store).await;
    let first = owner.rebuild(1).await;
    let second = Uuid::now_v7();
    let control = Control::Rebuild { operation: second, version: 2, accepts_difference: false };
    assert_eq!(owner.refused(control).await, Some(first));
    assert_eq!(store.operation(second).await.unwrap(), None);
}

async fn shadow_does_not_show(store: Tested) {
    let mut owner = Owner::new(&store).await;
    owner.put("a", "served").await;
    owner.rebuild(1).await;
    let revision = owner.state.revision;
    owner.step(owner.shadow(puts(0, 1, vec![row("a", "shadow")]))).await;
    assert_eq!(one(&store, "a").await, Some(data("served")));
    assert_eq!(owner.state.revision, revision);
    let shadow = owner.state.shadow.unwrap();
    assert_eq!((shadow.checkpoint, owner.state.checkpoint), (checkpoint(1), checkpoint(1)));
    assert_eq!(store.rows(shadow.generation, &[key("a")]).await.unwrap(), [Some(data("shadow"))]);
}

async fn cancel_loses_the_step_under_way(store: Tested) {
    let mut owner = Owner::new(&store).await;
    let operation = owner.rebuild(1).await;
    let under_way = owner.both(puts(0, 1, vec![row("a", "1")]), puts(0, 1, vec![row("a", "1")]));
    let epoch = owner.state.epoch;
    let state = owner.control(Control::Cancel { operation }).await;
    assert_eq!((state.shadow, state.epoch), (None, epoch + 1));
    owner.lose(ViewCommit { shadow: None, ..under_way.clone() }).await;
    owner.lose(under_way).await;
    assert_eq!(store.operation(operation).await.unwrap().unwrap().status, OperationStatus::Cancelled);
    let renewed = store.acquire(claim("p", owner.id, LEASE)).await.unwrap().unwrap();
    assert_eq!(renewed.epoch, epoch + 1, "the owner is still the owner");
    owner.put("a", "1").await;
}

async fn cancel_of_another_rebuild_is_refused(store: Tested) {
    let mut owner = Owner::new(&store).await;
    let other = Uuid::now_v7();
    assert_eq!(owner.refused(Control::Cancel { operation: other }).await, None);
    let operation = owner.rebuild(1).await;
    assert_eq!(owner.refused(Control::Cancel { operation: other }).await, Some(operation));
}

async fn dropped_shadow_is_gone(store: Tested) {
    let mut owner = Owner::new(&store).await;
    let id = owner.rebuild(1).await;
    owner.step(owner.shadow(puts(0, 1, vec![row("a", "1")]))).await;
    let status = OperationStatus::Failed;
    let update = OperationUpdate { id, status, done: 1, total: 2, result: None, error: Some("no".to_owned()) };
    owner.step(ViewCommit { operation: Some(update), ..owner.with(Transition::DropShadow) }).await;
    assert_eq!(owner.state.shadow, None);
    assert_eq!(store.operation(id).await.unwrap().unwrap().status, OperationStatus::Failed);
}

async fn swap_needs_equal_positions(store: Tested) {
    let mut owner = Owner::new(&store).await;
    owner.put("a", "old").await;
    owner.rebuild(2).await;
    let swap = Transition::Swap { force: false };
    owner.lose(owner.with(swap.clone())).await;
    let step = ViewCommit { transition: Some(swap.clone()), ..owner.shadow(puts(0, 2, vec![row("a", "new")])) };
    owner.lose(step).await;
    owner.step(owner.shadow(puts(0, 1, vec![row("a", "new")]))).await;
    let step = owner.both(puts(1, 2, Vec::new()), puts(1, 2, Vec::new()));
    owner.step(ViewCommit { transition: Some(swap), ..step }).await;
    assert_eq!(one(&store, "a").await, Some(data("new")));
}

async fn forced_swap_does_not(store: Tested) {
    let mut owner = Owner::new(&store).await;
    owner.put("a", "old").await;
    owner.rebuild(2).await;
    owner.step(owner.shadow(puts(0, 8, vec![row("a", "new")]))).await;
    owner.step(owner.with(Transition::Swap { force: true })).await;
    assert_eq!(owner.state.checkpoint, checkpoint(8));
    assert_eq!(owner.state.previous.unwrap().checkpoint, checkpoint(1));
}

async fn swap_without_a_shadow_is_lost(store: Tested) {
    let owner = Owner::new(&store).await;
    owner.lose(owner.with(Transition::Swap { force: true })).await;
}

async fn swap_replaces_everything_at_once(store: Tested) {
    let mut owner = Owner::new(&store).await;
    owner.put("a", "old").await;
    let old = owner.state.clone();
    owner.rebuild(2).await;
    let new = owner.state.shadow.unwrap().generation;
    owner.step(owner.shadow(puts(0, 1, vec![row("b", "new")]))).await;
    owner.step(owner.with(Transition::Swap { force: false })).await;
    let state = &owner.state;
    assert_eq!((state.generation, state.version, state.shadow), (new, 2, None));
    let previous = state.previous.unwrap();
    assert_eq!((previous.generation, previous.version, previous.checkpoint), (old.generation, 1, old.checkpoint));
    assert_eq!(state.revision.0, old.revision.0 + 1);
    let news = store.changes(&[("p".to_owned(), old.revision)]).await.unwrap().remove(0);
    assert_eq!(news.changes.unwrap(), [(state.revision, Touched::Everything)]);
    assert_eq!((one(&store, "a").await, one(&store, "b").await), (None, Some(data("new"))));
}

/// A projection that was swapped once, from `old` to `new`.
async fn swapped(store: &Tested) -> Owner {
    let mut owner = Owner::new(store).await;
    owner.put("a", "old").await;
    owner.rebuild(2).await;
    owner.step(owner.shadow(puts(0, 1, vec![row("a", "new")]))).await;
    owner.step(owner.with(Transition::Swap { force: false })).await;
    owner
}

async fn rollback_and_back(store: Tested) {
    let mut owner = Owner::new(&store).await;
    assert_eq!(owner.refused(Control::Rollback).await, None);
    store.release("p", owner.id).await.unwrap();
    owner = swapped(&store).await;
    let new = owner.state.clone();
    let state = owner.control(Control::Rollback).await.clone();
    assert!(state.is_frozen);
    assert_eq!((state.version, state.epoch), (1, new.epoch + 1));
    assert!(state.revision > new.revision, "revisions never fall");
    assert_eq!(one(&store, "a").await, Some(data("old")));
    let news = store.changes(&[("p".to_owned(), new.revision)]).await.unwrap().remove(0);
    assert_eq!(news.changes.unwrap(), [(state.revision, Touched::Everything)]);
    let back = owner.control(Control::Rollback).await.clone();
    assert_eq!((back.generation, back.version, back.previous), (new.generation, 2, new.previous));
    assert!(back.is_frozen && back.revision > state.revision);
    assert_eq!(one(&store, "a").await, Some(data("new")));
    owner.rebuild(2).await;
    let under_way = owner.state.shadow.unwrap().operation;
    assert_eq!(owner.refused(Control::Rollback).await, Some(under_way), "a rebuild comes first");
}

async fn rollback_loses_the_step_under_way(store: Tested) {
    let mut owner = swapped(&store).await;
    let at = owner.state.checkpoint.position.0;
    let under_way = owner.served(puts(at, at + 1, vec![row("a", "late")]));
    owner.control(Control::Rollback).await;
    owner.lose(under_way).await;
}

async fn forgotten_previous_rows_are_up_for_removal(store: Tested) {
    let mut owner = swapped(&store).await;
    let before = owner.state.clone();
    let under_way = owner.served(puts(before.checkpoint.position.0, 7, vec![row("a", "newer")]));
    let state = owner.control(Control::ForgetPrevious).await.clone();
    assert_eq!((state.previous, state.revision, state.epoch), (None, before.revision, before.epoch));
    assert_eq!(owner.refused(Control::Rollback).await, None);
    owner.step(under_way).await;
    assert_eq!(one(&store, "a").await, Some(data("newer")), "what is served goes on");
    while store.prune(chrono::DateTime::UNIX_EPOCH, std::num::NonZeroU32::MIN).await.unwrap() > 0 {}
    assert_eq!(store.dump(before.previous.unwrap().generation, None, std::num::NonZeroU32::MIN).await.unwrap(), []);
    owner.control(Control::ForgetPrevious).await;
}

async fn rolled_back_rows_stand_still_until_a_swap(store: Tested) {
    let mut owner = swapped(&store).await;
    owner.control(Control::Rollback).await;
    let at = owner.state.checkpoint.position.0;
    owner.lose(owner.served(puts(at, at + 1, vec![row("a", "moved")]))).await;
    owner.rebuild(3).await;
    owner.step(owner.shadow(puts(0, 5, vec![row("a", "rebuilt")]))).await;
    assert!(owner.state.is_frozen);
    assert!(!owner.step(owner.with(Transition::Swap { force: true })).await.is_frozen);
    owner.put("a", "moves").await;
}

async fn tally_is_what_a_naive_count_gives(store: Tested) {
    let mut owner = Owner::new(&store).await;
    owner.put("a", "1").await;
    assert_eq!(store.tally("p").await.unwrap(), None, "no shadow");
    owner.rebuild(1).await;
    let rows: Vec<Row> = (0..2_500).map(|number| row(&format!("{number}"), "x")).collect();
    let step = Move { parked: vec![parked(3, "k"), parked(4, "k")], ..puts(0, 9, rows.clone()) };
    owner.step(owner.shadow(step)).await;
    let digest = |row: &Row| row_digest(&row.key.collection, &row.key.group, &row.key.sort, &row.data);
    let sum = rows.iter().map(digest).fold(0, u64::wrapping_add);
    let shadow = owner.state.shadow.unwrap().generation;
    let expected = (
        Tally {
            generation: owner.state.generation,
            position: Position(1),
            rows: 1,
            digest: digest(&row("a", "1")),
            parked: 0,
        },
        Tally { generation: shadow, position: Position(9), rows: 2_500, digest: sum, parked: 2 },
    );
    assert_eq!(store.tally("p").await.unwrap(), Some(expected));
}

async fn tally_does_not_depend_on_order(store: Tested) {
    let mut owner = Owner::new(&store).await;
    owner.rebuild(1).await;
    owner.put("a", "1").await;
    owner.put("b", "2").await;
    owner.step(owner.shadow(puts(0, 1, vec![row("b", "2"), row("a", "0")]))).await;
    let (served, shadow) = store.tally("p").await.unwrap().unwrap();
    assert!(served.rows == shadow.rows && served.digest != shadow.digest, "a difference shows");
    owner.step(owner.shadow(puts(1, 2, vec![row("a", "1")]))).await;
    let (served, shadow) = store.tally("p").await.unwrap().unwrap();
    assert_eq!((served.rows, served.digest, served.position), (shadow.rows, shadow.digest, shadow.position));
}

async fn generations_are_never_used_again(store: Tested) {
    let (mut p, mut q) = (Owner::new(&store).await, Owner::of(&store, "q").await);
    let mut seen = vec![p.state.generation, q.state.generation];
    for _ in 0..3 {
        for owner in [&mut p, &mut q] {
            let operation = owner.rebuild(1).await;
            seen.push(owner.state.shadow.unwrap().generation);
            owner.control(Control::Cancel { operation }).await;
        }
        let now = p.state.lease.unwrap().expires_at;
        while store.prune(now, at_most(100)).await.unwrap() > 0 {}
    }
    let count = seen.len();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), count);
}
