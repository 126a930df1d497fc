//! A process that had the store open before a backup was restored into it: it changes nothing there any more.

use std::{future::Future, sync::Arc, time::Duration};

use event_sourcing_actors::{
    AggregateId,
    ports::{
        EventStore, LeaseClaim, StoreError, SubjectKeys, Tombstone, UnitOutcome, ViewCommit, ViewOutcome, ViewStore,
        WrappedKey,
    },
    view::Touched,
};
use event_sourcing_cqrs::{
    archive::{Refused, RestoreEnd, RestoreMark, RestoreStore},
    integrity::port::TreeStore,
    store::{PostgresOptions, PostgresStore, SqliteOptions, SqliteStore},
};
use uuid::Uuid;

use crate::support::{
    batches::{batch, committed},
    postgres,
};

const LEASE: Duration = Duration::from_secs(600);

/// `early` was opened on the empty store; `restoring` restores, and `late` was opened after it began, as a server is that
/// starts when it is done.
async fn early_one_changes_nothing<S, F>(early: Arc<S>, restoring: Arc<S>, late: impl FnOnce() -> F)
where
    S: EventStore + RestoreStore + TreeStore + SubjectKeys + ViewStore,
    F: Future<Output = S>,
{
    let (name, owner) = ("kept-by-early", Uuid::now_v7());
    let claim = |owner, lease| LeaseClaim { projection: name.to_owned(), owner, lease };
    early.declare(name, 1).await.unwrap();
    let held = early.acquire(claim(owner, Duration::from_millis(1))).await.unwrap().unwrap();
    let mark = RestoreMark { backup_id: Uuid::now_v7(), store_id: Uuid::now_v7(), head_position: 0 };
    let give_up = tokio::time::Instant::now() + Duration::from_secs(60);
    while let Err(error) = restoring.begin_restore(mark).await {
        // Its lease is over in a moment, and it does not know that yet.
        assert!(matches!(error, Refused::InUse) && tokio::time::Instant::now() < give_up, "{error}");
    }
    assert!(early.acquire_tree(Uuid::now_v7(), LEASE).await.unwrap().is_none(), "it seals what is being restored");

    // One that came up meanwhile under the new id is seen, when it goes on and at the end.
    let late = late().await;
    let owner = Uuid::now_v7();
    late.acquire_tree(owner, LEASE).await.unwrap().expect("the control: nothing else keeps it away");
    assert!(matches!(restoring.begin_restore(mark).await, Err(Refused::InUse)));
    assert!(matches!(restoring.finish_restore(&[]).await, Err(Refused::CameUp)));
    late.release_tree(owner).await.unwrap();
    assert_eq!(restoring.begin_restore(mark).await.unwrap(), 0);
    restoring.seal_restore(RestoreEnd { size: 0, acceptances: 0, checkpoint: None }).await.unwrap();
    // Whoever the log says was erased has no key from the first moment on.
    let bo = Tombstone { destroyed_at: chrono::DateTime::UNIX_EPOCH, subject: AggregateId::new("bo").unwrap() };
    restoring.finish_restore(std::slice::from_ref(&bo)).await.unwrap();
    assert_eq!(SubjectKeys::destroy(&late, &bo.subject).await.unwrap(), bo.destroyed_at);

    // Alone, and with others in one batch: both ways of appending. Confirmations are refused as well.
    let mut confirmation = batch(&["a"]);
    confirmation.units[0].events.clear();
    for batch in [batch(&["a"]), batch(&["a", "b"]), confirmation] {
        for outcome in early.append(batch).await.unwrap() {
            let UnitOutcome::Failed(StoreError::ReadOnly { reason }) = &outcome else { panic!("{outcome:?}") };
            assert!(reason.contains("restart"), "{reason}");
        }
    }
    assert!(early.acquire_tree(Uuid::now_v7(), LEASE).await.unwrap().is_none());
    early.refuse_appends(0).await.unwrap();
    // Nor does it keep read models, under a new name or by the lease that it had.
    let again = early.acquire(claim(Uuid::now_v7(), LEASE)).await.unwrap_err();
    assert!(matches!(&again, StoreError::ReadOnly { reason } if reason.contains("restart")), "{again}");
    let step = ViewCommit {
        projection: name.to_owned(),
        owner,
        epoch: held.epoch,
        lease: LEASE,
        served: None,
        shadow: None,
        touched: Touched::Everything,
        transition: None,
        operation: None,
    };
    assert_eq!(early.commit(step).await.unwrap(), ViewOutcome::Lost);
    // It destroys nobody's key, and knows that it is not to read.
    let ann = AggregateId::new("ann").unwrap();
    assert!(matches!(SubjectKeys::destroy(&*early, &ann).await, Err(StoreError::ReadOnly { .. })));
    assert!(matches!(early.head().await, Err(StoreError::ReadOnly { .. })));
    let key = |name: &str| {
        let key = WrappedKey { id: Uuid::now_v7(), master: "of early".to_owned(), wrapped: vec![1] };
        [(AggregateId::new(name).unwrap(), key)]
    };
    let none = SubjectKeys::create(&*early, &key("ann")).await.unwrap_err();
    assert!(none.to_string().contains("is not there"), "{none}");
    assert_eq!(late.head().await.unwrap().0, 0);
    assert!(!late.tree().await.unwrap().is_read_only, "nor does it close the log to others");

    // The control: the same by one that knows the log that is there now.
    committed(late.append(batch(&["a"])).await);
    committed(late.append(batch(&["b", "c"])).await);
    assert!(late.acquire_tree(Uuid::now_v7(), LEASE).await.unwrap().is_some());
    assert_eq!(SubjectKeys::create(&late, &key("ann")).await.unwrap().len(), 1);
    assert!(late.acquire(claim(Uuid::now_v7(), LEASE)).await.unwrap().is_some());
    assert_eq!(late.head().await.unwrap().0, 3);
    assert_eq!(
        early.stream(&AggregateId::new("c").unwrap()).await.unwrap().unwrap().head.sequence.0,
        1,
        "the same database"
    );
    SubjectKeys::destroy(&late, &ann).await.unwrap();
}

#[tokio::test]
async fn sqlite_store_opened_before_a_restoration_changes_nothing_after_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.db");
    let open = |unfinished| SqliteStore::open(SqliteOptions { unfinished, ..SqliteOptions::new(&path) });
    let (early, restoring) = (open(false).await.unwrap(), open(true).await.unwrap());
    early_one_changes_nothing(early.into(), restoring.into(), || async { open(true).await.unwrap() }).await;
}

#[tokio::test]
async fn postgres_store_opened_before_a_restoration_changes_nothing_after_it() {
    let Some(database) = postgres::database().await else { return };
    let open =
        |unfinished| PostgresStore::connect(PostgresOptions { unfinished, ..PostgresOptions::new(&database.url) });
    let (early, restoring) = (open(false).await.unwrap(), open(true).await.unwrap());
    early_one_changes_nothing(early.into(), restoring.into(), || async { open(true).await.unwrap() }).await;
}
