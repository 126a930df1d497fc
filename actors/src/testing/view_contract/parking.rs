//! Parked events, from the parking to the settlement.

use super::*;
use crate::ports::{OperationStatus, OperationUpdate, ParkedEvent, ParkedFilter, ParkedRequest};

listed!(
    parked_events_come_back_as_they_were,
    parked_events_are_counted,
    requests_are_shown_and_recorded,
    request_is_refused_where_nothing_waits,
    second_request_is_refused_with_the_first,
    released_events_are_forgotten,
    skipped_events_stay_on_record,
    retried_events_wait_again,
    filters_and_pages,
    keys_come_once,
    parking_of_the_shadow_is_its_own,
    swap_and_rollback_count_anew,
);

async fn all(owner: &Owner, which: ParkedFilter<'_>) -> Vec<ParkedEvent> {
    owner.store.parked(owner.state.generation, which, Position(0), at_most(100)).await.unwrap()
}

async fn positions(owner: &Owner, which: ParkedFilter<'_>) -> Vec<u64> {
    all(owner, which).await.into_iter().map(|parked| parked.event.position.0).collect()
}

/// An owner at position 10 with events parked at 3 (key a), 5 (key b) and 7 (key a).
async fn with_parked(store: &Tested) -> Owner {
    let mut owner = Owner::new(store).await;
    let parked = vec![parked(3, "a"), parked(5, "b"), parked(7, "a")];
    owner.step(owner.served(Move { parked, ..puts(0, 10, Vec::new()) })).await;
    owner
}

/// A step that stays where it is.
fn settled(owner: &Owner, step: Move) -> ViewCommit {
    let at = owner.state.checkpoint;
    owner.served(Move { from: at.position, to: at, ..step })
}

fn wish(position: u64, request: ParkedRequest) -> (Uuid, Control) {
    let operation = Uuid::now_v7();
    let principal = "olga".to_owned();
    (operation, Control::Settle { position: Position(position), request, operation, principal })
}

async fn parked_events_come_back_as_they_were(store: Tested) {
    let mut owner = Owner::new(&store).await;
    let odd = NewParked { error: "'\"日本\n".repeat(1_000), attempts: u32::MAX, ..parked(4, "日本/\"ü") };
    let parked = vec![odd.clone(), NewParked { attempts: 0, ..parked(9, "") }];
    owner.step(owner.served(Move { parked: parked.clone(), ..puts(0, 10, Vec::new()) })).await;
    let found = all(&owner, ParkedFilter::All).await;
    assert_eq!(found.iter().map(|parked| &parked.event).collect::<Vec<_>>(), parked.iter().collect::<Vec<_>>());
    assert!(found.iter().all(|parked| parked.request.is_none() && parked.skipped.is_none()));
    assert!(found.iter().all(|parked| parked.parked_at < owner.state.lease.unwrap().expires_at));
}

async fn parked_events_are_counted(store: Tested) {
    let mut owner = with_parked(&store).await;
    assert_eq!((owner.state.parked, owner.state.has_requests), (3, false));
    let more = Move { parked: vec![parked(11, "c")], ..puts(10, 12, vec![row("a", "1")]) };
    assert_eq!(owner.step(owner.served(more)).await.parked, 4);
    assert_eq!(owner.put("b", "1").await.parked, 4);
    let step = Move { released: vec![Position(3), Position(99)], skipped: vec![Position(5)], ..Move::default() };
    assert_eq!(owner.step(settled(&owner, step)).await.parked, 2);
}

async fn requests_are_shown_and_recorded(store: Tested) {
    let mut owner = with_parked(&store).await;
    let (retry, control) = wish(3, ParkedRequest::Retry);
    let state = owner.control(control).await;
    assert_eq!((state.parked, state.has_requests), (3, true));
    let (skip, control) = wish(5, ParkedRequest::Skip);
    owner.control(control).await;
    let requests: Vec<_> =
        all(&owner, ParkedFilter::Requested).await.into_iter().map(|parked| parked.request).collect();
    assert_eq!(requests, [Some((ParkedRequest::Retry, retry)), Some((ParkedRequest::Skip, skip))]);
    for (id, kind, subject) in [(retry, "parked-retry", "p/3"), (skip, "parked-skip", "p/5")] {
        let operation = store.operation(id).await.unwrap().unwrap();
        assert_eq!((&*operation.kind, &*operation.subject), (kind, subject));
        assert_eq!(operation.status, OperationStatus::Running);
    }
}

async fn request_is_refused_where_nothing_waits(store: Tested) {
    let mut owner = with_parked(&store).await;
    let (operation, control) = wish(4, ParkedRequest::Retry);
    assert_eq!(owner.refused(control).await, None);
    assert_eq!(store.operation(operation).await.unwrap(), None);
    owner.step(settled(&owner, Move { skipped: vec![Position(5)], ..Move::default() })).await;
    assert_eq!(owner.refused(wish(5, ParkedRequest::Retry).1).await, None);
}

async fn second_request_is_refused_with_the_first(store: Tested) {
    let mut owner = with_parked(&store).await;
    let (first, control) = wish(3, ParkedRequest::Retry);
    owner.control(control).await;
    assert_eq!(owner.refused(wish(3, ParkedRequest::Skip).1).await, Some(first));
}

async fn released_events_are_forgotten(store: Tested) {
    let mut owner = with_parked(&store).await;
    let (id, control) = wish(3, ParkedRequest::Retry);
    owner.control(control).await;
    let update =
        OperationUpdate { id, status: OperationStatus::Succeeded, done: 2, total: 2, result: None, error: None };
    let step = Move { released: vec![Position(3), Position(7)], puts: vec![row("a", "late")], ..Move::default() };
    let step = ViewCommit { operation: Some(update), ..settled(&owner, step) };
    let state = owner.step(step).await;
    assert_eq!((state.parked, state.has_requests, state.checkpoint), (1, false, checkpoint(10)));
    assert_eq!(positions(&owner, ParkedFilter::All).await, [5]);
    assert_eq!(store.operation(id).await.unwrap().unwrap().status, OperationStatus::Succeeded);
}

async fn skipped_events_stay_on_record(store: Tested) {
    let mut owner = with_parked(&store).await;
    owner.control(wish(3, ParkedRequest::Skip).1).await;
    owner.step(settled(&owner, Move { skipped: vec![Position(3)], ..Move::default() })).await;
    assert_eq!((owner.state.parked, owner.state.has_requests), (2, false));
    let found = all(&owner, ParkedFilter::All).await;
    assert_eq!(found.len(), 3);
    assert_eq!(found[0].request, None);
    assert_eq!(found[0].skipped.as_ref().map(|(_, by)| &**by), Some("olga"));
    assert_eq!(positions(&owner, ParkedFilter::Waiting).await, [5, 7]);
}

async fn retried_events_wait_again(store: Tested) {
    let mut owner = with_parked(&store).await;
    owner.control(wish(3, ParkedRequest::Retry).1).await;
    let again = NewParked { error: "again".to_owned(), attempts: 6, ..parked(3, "a") };
    let state = owner.step(settled(&owner, Move { retried: vec![again.clone()], ..Move::default() })).await;
    assert_eq!((state.parked, state.has_requests), (3, false));
    let found = all(&owner, ParkedFilter::All).await;
    assert_eq!((&found[0].event, &found[0].request), (&again, &None));
    owner.control(wish(3, ParkedRequest::Retry).1).await;
}

async fn filters_and_pages(store: Tested) {
    let mut owner = with_parked(&store).await;
    owner.step(settled(&owner, Move { skipped: vec![Position(7)], ..Move::default() })).await;
    owner.control(wish(5, ParkedRequest::Retry).1).await;
    assert_eq!(positions(&owner, ParkedFilter::All).await, [3, 5, 7]);
    assert_eq!(positions(&owner, ParkedFilter::Waiting).await, [3, 5]);
    assert_eq!(positions(&owner, ParkedFilter::Key("a")).await, [3]);
    assert_eq!(positions(&owner, ParkedFilter::Key("A")).await, [0; 0]);
    assert_eq!(positions(&owner, ParkedFilter::Key("\0")).await, [0; 0]);
    assert_eq!(positions(&owner, ParkedFilter::Requested).await, [5]);
    let generation = owner.state.generation;
    for which in [ParkedFilter::All, ParkedFilter::Waiting] {
        let page = store.parked(generation, which, Position(3), at_most(1)).await.unwrap();
        assert_eq!(page.iter().map(|parked| parked.event.position.0).collect::<Vec<_>>(), [5]);
    }
    assert_eq!(store.parked(generation, ParkedFilter::Key("a"), Position(3), at_most(9)).await.unwrap(), []);
    assert_eq!(store.parked(generation, ParkedFilter::Requested, Position(5), at_most(9)).await.unwrap(), []);
}

async fn keys_come_once(store: Tested) {
    let mut owner = with_parked(&store).await;
    let generation = owner.state.generation;
    assert_eq!(store.parked_keys(generation, at_most(9)).await.unwrap(), ["a", "b"]);
    assert_eq!(store.parked_keys(generation, at_most(1)).await.unwrap(), ["a"]);
    owner.step(settled(&owner, Move { skipped: vec![Position(5)], ..Move::default() })).await;
    assert_eq!(store.parked_keys(generation, at_most(9)).await.unwrap(), ["a"]);
    assert_eq!(store.parked_keys(Generation(generation.0 + 1), at_most(9)).await.unwrap(), [""; 0]);
}

async fn parking_of_the_shadow_is_its_own(store: Tested) {
    let mut owner = with_parked(&store).await;
    owner.rebuild(1).await;
    let step = Move { parked: vec![parked(3, "a"), parked(4, "a")], ..puts(0, 10, Vec::new()) };
    assert_eq!(owner.step(owner.shadow(step)).await.parked, 3);
    owner.step(settled(&owner, Move { released: vec![Position(3)], ..Move::default() })).await;
    let shadow = owner.state.shadow.unwrap().generation;
    let found = store.parked(shadow, ParkedFilter::All, Position(0), at_most(9)).await.unwrap();
    assert_eq!((found.len(), owner.state.parked), (2, 2));
}

async fn swap_and_rollback_count_anew(store: Tested) {
    let mut owner = with_parked(&store).await;
    owner.control(wish(3, ParkedRequest::Skip).1).await;
    owner.rebuild(2).await;
    owner.step(owner.shadow(Move { parked: vec![parked(8, "a")], ..puts(0, 10, Vec::new()) })).await;
    let state = owner.step(owner.with(Transition::Swap { force: false })).await;
    assert_eq!((state.parked, state.has_requests), (1, false));
    let state = owner.control(Control::Rollback).await;
    assert_eq!((state.parked, state.has_requests), (3, true));
}
