//! Removal of what nobody reaches, and operations.

use super::*;
use crate::ports::{Operation, OperationStatus, OperationUpdate, OperationsKept};

listed!(
    prune_removes_only_what_nobody_reaches,
    prune_goes_in_bounded_steps,
    operations_come_newest_first,
    operation_comes_back_as_it_was,
    ended_operation_stays_as_it_ended,
    unknown_operation_is_no_fault,
    operation_on_record_is_not_begun_again,
    silent_operations_of_a_kind_fail_and_no_others,
    ended_operations_leave_by_age_and_by_number_and_running_ones_stay,
);

async fn gone(store: &Tested, generation: Generation) -> bool {
    store.dump(generation, None, at_most(1)).await.unwrap().is_empty()
}

/// Removes all that can go; how much that was. No change is old enough.
async fn prune(store: &Tested) -> u64 {
    let mut count = 0;
    loop {
        match store.prune(chrono::DateTime::UNIX_EPOCH, at_most(2)).await.unwrap() {
            0 => return count,
            removed => {
                assert!(removed <= 2);
                count += removed;
            }
        }
    }
}

async fn prune_removes_only_what_nobody_reaches(store: Tested) {
    let (mut owner, mut other) = (Owner::new(&store).await, Owner::of(&store, "q").await);
    other.put("a", "of another").await;
    let mut generations = Vec::new();
    for text in ["first", "second", "third"] {
        owner.rebuild(1).await;
        let parked = vec![parked(1, "k")];
        owner.step(owner.shadow(Move { parked, ..puts(0, 1, vec![row("a", text)]) })).await;
        owner.step(owner.with(Transition::Swap { force: true })).await;
        generations.push(owner.state.generation);
    }
    owner.rebuild(1).await;
    owner.step(owner.shadow(puts(0, 1, vec![row("a", "shadow")]))).await;
    generations.push(owner.state.shadow.unwrap().generation);
    assert_eq!(prune(&store).await, 2, "a row and a parked event of the first swap");
    assert!(gone(&store, generations[0]).await);
    for generation in &generations[1..] {
        assert!(!gone(&store, *generation).await, "{generation:?} is the previous, the served or the shadow");
    }
    assert!(!gone(&store, other.state.generation).await);
    owner.step(owner.with(Transition::DropShadow)).await;
    assert_eq!(prune(&store).await, 1);
    assert!(gone(&store, generations[3]).await);
    assert_eq!(one(&store, "a").await, Some(data("third")));
}

async fn prune_goes_in_bounded_steps(store: Tested) {
    let mut owner = Owner::new(&store).await;
    let operation = owner.rebuild(1).await;
    let rows = (0..25).map(|number| row(&format!("{number}"), "x")).collect();
    owner.step(owner.shadow(puts(0, 1, rows))).await;
    owner.control(Control::Cancel { operation }).await;
    let mut steps = Vec::new();
    while steps.last() != Some(&0) {
        steps.push(store.prune(chrono::DateTime::UNIX_EPOCH, at_most(10)).await.unwrap());
    }
    assert!(steps.iter().all(|count| *count <= 10) && steps.iter().sum::<u64>() == 25, "{steps:?}");
}

fn operation(number: u128) -> Operation {
    let at = chrono::DateTime::from_timestamp(1_700_000_000, 123_456_000).unwrap();
    Operation {
        id: Uuid::from_u128(number),
        kind: "backup".to_owned(),
        subject: "日本".to_owned(),
        status: OperationStatus::Running,
        done: 1,
        total: u64::from(u32::MAX),
        result: Some(r#"{"a": 1}"#.into()),
        error: Some("none yet".to_owned()),
        created_at: at,
        updated_at: at,
    }
}

fn news(number: u128, status: OperationStatus, done: u64) -> OperationUpdate {
    OperationUpdate { id: Uuid::from_u128(number), status, done, total: 9, result: None, error: None }
}

async fn operations_come_newest_first(store: Tested) {
    for number in [2, 1, 4, 3] {
        store.begin_operation(operation(number)).await.unwrap();
    }
    let ids = |page: Vec<Operation>| page.into_iter().map(|it| it.id.as_u128()).collect::<Vec<_>>();
    assert_eq!(ids(store.operations(None, at_most(3)).await.unwrap()), [4, 3, 2]);
    assert_eq!(ids(store.operations(Some(Uuid::from_u128(2)), at_most(3)).await.unwrap()), [1]);
    assert_eq!(ids(store.operations(Some(Uuid::from_u128(1)), at_most(3)).await.unwrap()), [0; 0]);
}

async fn operation_comes_back_as_it_was(store: Tested) {
    store.begin_operation(operation(1)).await.unwrap();
    assert_eq!(store.operation(Uuid::from_u128(1)).await.unwrap(), Some(operation(1)));
}

async fn ended_operation_stays_as_it_ended(store: Tested) {
    let ends = [OperationStatus::Succeeded, OperationStatus::Failed, OperationStatus::Cancelled];
    for (number, end) in (1..).zip(ends) {
        store.begin_operation(operation(number)).await.unwrap();
        store.update_operation(news(number, OperationStatus::Running, 5)).await.unwrap();
        store.update_operation(news(number, end, 9)).await.unwrap();
        for late in [OperationStatus::Running, OperationStatus::Succeeded] {
            store.update_operation(news(number, late, 7)).await.unwrap();
        }
        let stored = store.operation(Uuid::from_u128(number)).await.unwrap().unwrap();
        assert_eq!((stored.status, stored.done, stored.total, stored.result), (end, 9, 9, None));
        assert!(stored.updated_at > stored.created_at);
    }
}

async fn unknown_operation_is_no_fault(store: Tested) {
    store.update_operation(news(1, OperationStatus::Succeeded, 1)).await.unwrap();
    assert_eq!(store.operation(Uuid::from_u128(1)).await.unwrap(), None);
}

async fn operation_on_record_is_not_begun_again(store: Tested) {
    store.begin_operation(operation(1)).await.unwrap();
    store.update_operation(news(1, OperationStatus::Succeeded, 1)).await.unwrap();
    store.begin_operation(operation(1)).await.unwrap();
    assert_eq!(store.operation(Uuid::from_u128(1)).await.unwrap().unwrap().status, OperationStatus::Succeeded);
}

/// By the store's clock, which is that of the machine or a manual one: told of long ago, or yet to be told of.
fn told_at(number: u128, kind: &str, is_recent: bool) -> Operation {
    let of_long_ago = operation(number);
    let ahead = chrono::Duration::days(if is_recent { 365_000 } else { 0 });
    Operation { kind: kind.to_owned(), updated_at: of_long_ago.updated_at + ahead, error: None, ..of_long_ago }
}

async fn silent_operations_of_a_kind_fail_and_no_others(store: Tested) {
    for told in [told_at(1, "verify", false), told_at(2, "verify", true), told_at(3, "erase", false)] {
        store.begin_operation(told).await.unwrap();
    }
    store.begin_operation(told_at(4, "verify", false)).await.unwrap();
    store.update_operation(news(4, OperationStatus::Succeeded, 9)).await.unwrap();
    let (silence, id) = (Duration::from_secs(3_600), Uuid::from_u128);
    assert_eq!(store.end_silent("verify", silence, "cut off").await.unwrap(), [id(1)]);
    assert_eq!(store.end_silent("verify", silence, "again").await.unwrap(), [] as [Uuid; 0]);
    let status = async |number| store.operation(id(number)).await.unwrap().map(|it| (it.status, it.error));
    assert_eq!(status(1).await, Some((OperationStatus::Failed, Some("cut off".to_owned()))));
    for running in [2, 3] {
        assert_eq!(status(running).await, Some((OperationStatus::Running, None)));
    }
    assert_eq!(status(4).await, Some((OperationStatus::Succeeded, None)));
    store.update_operation(news(1, OperationStatus::Succeeded, 9)).await.unwrap();
    assert_eq!(status(1).await.map(|it| it.0), Some(OperationStatus::Failed), "whoever comes back is too late");
}

async fn ended_operations_leave_by_age_and_by_number_and_running_ones_stay(store: Tested) {
    let ids = async || {
        let all = store.operations(None, at_most(100)).await.unwrap();
        all.into_iter().map(|it| it.id.as_u128()).collect::<Vec<_>>()
    };
    for number in 1..=6 {
        // Those that have ended as it was recorded: an update would make their end a recent one.
        let status = if number == 2 { OperationStatus::Running } else { OperationStatus::Failed };
        store.begin_operation(Operation { status, ..told_at(number, "verify", number >= 4) }).await.unwrap();
    }
    let kept = |newest_max| OperationsKept { age: Duration::from_secs(3_600), newest_max };
    assert_eq!(store.prune_operations(kept(100), at_most(1)).await.unwrap(), 1, "in bounded steps");
    assert_eq!(ids().await, [6, 5, 4, 3, 2]);
    assert_eq!(store.prune_operations(kept(100), at_most(9)).await.unwrap(), 1);
    assert_eq!(store.prune_operations(kept(100), at_most(9)).await.unwrap(), 0);
    assert_eq!(ids().await, [6, 5, 4, 2]);
    assert_eq!(store.prune_operations(kept(2), at_most(9)).await.unwrap(), 1);
    assert_eq!(ids().await, [6, 5, 2], "the one that runs is kept beyond the number");
    assert_eq!(store.prune_operations(kept(3), at_most(9)).await.unwrap(), 0);
}
