//! Declaring and leasing.

use super::*;
use crate::ports::REVISION_LEAP;

listed!(
    declared_twice_is_one_projection,
    projections_get_generations_of_their_own,
    states_come_by_name,
    nobody_leases_an_unknown_projection,
    first_lease_raises_epoch_and_revision,
    lease_of_another_is_respected,
    renewing_raises_nothing,
    expired_lease_goes_to_the_next,
    expired_lease_is_still_its_owners_until_somebody_takes_it,
    released_lease_goes_to_the_next_at_once,
    owner_that_released_comes_back_as_a_new_one,
    releasing_the_lease_of_another_does_nothing,
    commits_renew_the_lease,
    incarnation_stays,
);

async fn declared_twice_is_one_projection(store: Tested) {
    let first = store.declare("p", 3).await.unwrap();
    assert_eq!(first, ProjectionState::declared("p", 3, first.generation));
    let mut owner = Owner::new(&store).await;
    owner.put("a", "1").await;
    let again = store.declare("p", 4).await.unwrap();
    assert_eq!((again.version, again.checkpoint, again.generation), (3, checkpoint(1), first.generation));
    assert_eq!(store.states().await.unwrap(), [again]);
}

async fn projections_get_generations_of_their_own(store: Tested) {
    let declared = ["a", "b", "c", "a", "b"].map(|name| store.declare(name, 1));
    let states = futures_util::future::join_all(declared).await;
    let of = |index: usize| states[index].as_ref().unwrap().generation;
    assert!(of(0) != of(1) && of(1) != of(2) && of(0) != of(2));
    assert_eq!((of(0), of(1)), (of(3), of(4)));
}

async fn states_come_by_name(store: Tested) {
    assert_eq!(store.states().await.unwrap(), []);
    for name in ["b", "a", "B", "ü"] {
        store.declare(name, u64::MAX).await.unwrap();
    }
    let states = store.states().await.unwrap();
    assert_eq!(states.iter().map(|state| &*state.name).collect::<Vec<_>>(), ["B", "a", "b", "ü"]);
    assert!(states.iter().all(|state| state.version == u64::MAX));
}

async fn nobody_leases_an_unknown_projection(store: Tested) {
    assert_eq!(store.acquire(claim("p", Uuid::now_v7(), LEASE)).await.unwrap(), None);
    store.release("p", Uuid::now_v7()).await.unwrap();
}

async fn first_lease_raises_epoch_and_revision(store: Tested) {
    let before = store.declare("p", 1).await.unwrap();
    let owner = Owner::new(&store).await;
    assert_eq!(owner.state.epoch, before.epoch + 1);
    assert_eq!(owner.state.revision.0, before.revision.0 + REVISION_LEAP);
    assert_eq!(owner.state.lease.unwrap().owner, owner.id);
}

async fn lease_of_another_is_respected(store: Tested) {
    let owner = Owner::new(&store).await;
    assert_eq!(store.acquire(claim("p", Uuid::now_v7(), LEASE)).await.unwrap(), None);
    assert_eq!(owner.stored().await.unwrap(), owner.state);
}

async fn renewing_raises_nothing(store: Tested) {
    let owner = Owner::new(&store).await;
    let renewed = store.acquire(claim("p", owner.id, LEASE * 2)).await.unwrap().unwrap();
    assert!(renewed.lease.unwrap().expires_at > owner.state.lease.unwrap().expires_at);
    assert_eq!(ProjectionState { lease: owner.state.lease, ..renewed }, owner.state);
}

/// Takes the lease as soon as it is free.
async fn patient(store: &Tested, owner: Uuid) -> ProjectionState {
    let taken = async {
        loop {
            if let Some(state) = store.acquire(claim("p", owner, LEASE)).await.unwrap() {
                return state;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), taken).await.expect("the lease ends")
}

async fn expired_lease_goes_to_the_next(store: Tested) {
    store.declare("p", 1).await.unwrap();
    let (first, second) = (Uuid::now_v7(), Uuid::now_v7());
    let before = store.acquire(claim("p", first, Duration::from_millis(20))).await.unwrap().unwrap();
    let taken = patient(&store, second).await;
    assert_eq!((taken.epoch, taken.revision.0), (before.epoch + 1, before.revision.0 + REVISION_LEAP));
    assert_eq!(taken.lease.unwrap().owner, second);
    let late = Owner { store: store.clone(), id: first, state: before };
    late.lose(late.served(puts(0, 1, vec![row("a", "late")]))).await;
}

async fn expired_lease_is_still_its_owners_until_somebody_takes_it(store: Tested) {
    let mut owner = Owner::new(&store).await;
    let short = ViewCommit { lease: Duration::ZERO, ..owner.idle() };
    owner.step(short).await;
    owner.put("a", "1").await;
    let short = ViewCommit { lease: Duration::ZERO, ..owner.idle() };
    owner.step(short).await;
    let renewed = store.acquire(claim("p", owner.id, LEASE)).await.unwrap().unwrap();
    assert_eq!((renewed.epoch, renewed.revision), (owner.state.epoch, owner.state.revision));
}

async fn released_lease_goes_to_the_next_at_once(store: Tested) {
    let owner = Owner::new(&store).await;
    store.release("p", owner.id).await.unwrap();
    assert_eq!(owner.stored().await.unwrap().lease, None);
    owner.lose(owner.served(puts(0, 1, vec![row("a", "late")]))).await;
    let next = Owner::new(&store).await;
    assert_eq!(next.state.epoch, owner.state.epoch + 1);
}

async fn owner_that_released_comes_back_as_a_new_one(store: Tested) {
    let owner = Owner::new(&store).await;
    store.release("p", owner.id).await.unwrap();
    let back = store.acquire(claim("p", owner.id, LEASE)).await.unwrap().unwrap();
    assert_eq!((back.epoch, back.revision.0), (owner.state.epoch + 1, owner.state.revision.0 + REVISION_LEAP));
}

async fn releasing_the_lease_of_another_does_nothing(store: Tested) {
    let owner = Owner::new(&store).await;
    store.release("p", Uuid::now_v7()).await.unwrap();
    assert_eq!(owner.stored().await.unwrap(), owner.state);
}

async fn commits_renew_the_lease(store: Tested) {
    let mut owner = Owner::new(&store).await;
    let before = owner.state.lease.unwrap().expires_at;
    let longer = ViewCommit { lease: LEASE * 2, ..owner.idle() };
    assert!(owner.step(longer).await.lease.unwrap().expires_at > before);
}

async fn incarnation_stays(store: Tested) {
    let before = store.incarnation();
    Owner::new(&store).await.put("a", "1").await;
    assert_eq!(store.incarnation(), before);
}
