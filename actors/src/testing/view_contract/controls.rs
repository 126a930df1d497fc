//! What operators want: pause and resume. (Rebuilds have a file of their own.)

use super::*;

listed!(unknown_projection_is_told, paused_rows_do_not_move, pausing_twice_is_no_fault, paused_owner_keeps_its_lease,);

async fn unknown_projection_is_told(store: Tested) {
    let operation = Uuid::now_v7();
    for control in [
        Control::Pause,
        Control::Resume,
        Control::Rollback,
        Control::Cancel { operation },
        Control::Rebuild { operation, version: 1, accepts_difference: false },
    ] {
        assert_eq!(store.control("p", control).await.unwrap(), Controlled::UnknownProjection);
    }
    assert_eq!(store.operation(operation).await.unwrap(), None);
}

async fn paused_rows_do_not_move(store: Tested) {
    let mut owner = Owner::new(&store).await;
    owner.rebuild(1).await;
    assert!(owner.control(Control::Pause).await.is_paused);
    let step = puts(0, 1, vec![row("a", "1")]);
    owner.lose(owner.served(step.clone())).await;
    owner.lose(owner.shadow(step.clone())).await;
    owner.lose(owner.both(step.clone(), step.clone())).await;
    owner.lose(owner.with(Transition::Swap { force: true })).await;
    assert!(!owner.control(Control::Resume).await.is_paused);
    owner.step(owner.both(step.clone(), step)).await;
}

async fn pausing_twice_is_no_fault(store: Tested) {
    let mut owner = Owner::new(&store).await;
    for _ in 0..2 {
        owner.control(Control::Pause).await;
    }
    for _ in 0..2 {
        assert!(!owner.control(Control::Resume).await.is_paused);
    }
}

async fn paused_owner_keeps_its_lease(store: Tested) {
    let mut owner = Owner::new(&store).await;
    owner.control(Control::Pause).await;
    owner.step(owner.idle()).await;
    assert!(store.acquire(claim("p", owner.id, LEASE)).await.unwrap().is_some());
    assert_eq!(store.acquire(claim("p", Uuid::now_v7(), LEASE)).await.unwrap(), None);
}
