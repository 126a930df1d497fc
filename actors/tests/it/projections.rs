//! Projections follow the log: live, paused, with another version, on a log that went back, and beside bad neighbours.

use std::{sync::Arc, time::Duration};

use event_sourcing_actors::{
    Position,
    limits::ProjectionLimits,
    ports::{EventStore, ViewStore},
    projections::{ProjectionStatus, ProjectionsError},
};

use crate::{
    projected::{
        SUMS, Sum, Sums, Writer, assert_exact, caught_up, dump, quick, small_pages, start, state, status, until,
    },
    support::{Purse, Put, builder, store},
};

#[tokio::test(flavor = "multi_thread")]
async fn commands_show_in_rows_and_rows_equal_the_fold() {
    let store = store();
    let runtime = start(&store, store.clone(), Sums::default(), small_pages(7)).await;
    for turn in 0..60 {
        runtime.execute::<Purse>(format!("p{}", turn % 4), Put { amount: turn }).await.unwrap();
    }
    caught_up(&*store, &store).await;
    assert_exact(&*store, &store, &Sums::default()).await;
    let report = runtime.projections().show(SUMS).await.unwrap();
    assert_eq!((report.status, report.lag_events, report.parked), (ProjectionStatus::Live, 0, 12), "{report:?}");
    assert!(report.is_owned_here && !report.can_roll_back);
    let shown = |name: &str| {
        let families = runtime.metrics().registry().gather();
        let family = families.iter().find(|family| family.name() == name);
        family.unwrap().get_metric()[0].get_gauge().get_value()
    };
    until("the metrics follow", || async { shown("es_projection_parked_events") == 12.0 }).await;
    let all: Sum = serde_json::from_slice(&dump(&*store).await.last().unwrap().data).unwrap();
    assert_eq!(shown("test_sum_of_all"), all.sum as f64);
    // Thirteen is not welcome: it and what comes after it in its stream waits.
    assert_eq!(report.last_error.unwrap().reason, "thirteen is not welcome");
    runtime.shutdown().await;
    assert_eq!(state(&*store, SUMS).await.unwrap().lease, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_owners_hardly_write() {
    let store = store();
    let views = event_sourcing_actors::testing::view_faults::FaultViews::new(store.clone());
    let runtime = start(&store, views.clone(), Sums::default(), quick()).await;
    Writer::new(&store).fill(3, 3).await;
    caught_up(&*views, &store).await;
    let (commits, acquires) = (views.commits(), views.acquires());
    let epoch = state(&*views, SUMS).await.unwrap().epoch;
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(views.commits(), commits);
    assert!((1..=6).contains(&(views.acquires() - acquires)), "renewals: {}", views.acquires() - acquires);
    let after = state(&*views, SUMS).await.unwrap();
    assert_eq!(after.epoch, epoch, "the lease was renewed in time");
    runtime.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_projection_stands_still_until_it_is_resumed() {
    let store = store();
    let runtime = start(&store, store.clone(), Sums::default(), quick()).await;
    let mut writer = Writer::new(&store);
    writer.fill(3, 3).await;
    caught_up(&*store, &store).await;
    let paused = runtime.projections().pause(SUMS).await.unwrap();
    assert!(paused.is_paused && paused.status == ProjectionStatus::Paused, "{paused:?}");
    writer.fill(3, 3).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(state(&*store, SUMS).await.unwrap().checkpoint.position, Position(9));
    let resumed = runtime.projections().resume(SUMS).await.unwrap();
    assert!(!resumed.is_paused);
    caught_up(&*store, &store).await;
    assert_exact(&*store, &store, &Sums::default()).await;
    runtime.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_process_pauses_too() {
    let store = store();
    let owner = start(&store, store.clone(), Sums::default(), quick()).await;
    let reader =
        builder(&store).views(store.clone()).projection(Sums::default()).follow(false).limits(quick()).start().await;
    let reader = reader.unwrap();
    Writer::new(&store).fill(2, 2).await;
    caught_up(&*store, &store).await;
    // A reader with a newer version must not begin what nobody here could go on with.
    let second = Sums { version: 2, ..Sums::default() };
    let newer = builder(&store).views(store.clone()).projection(second).follow(false).limits(quick()).start().await;
    let newer = newer.unwrap();
    let refused = newer.projections().rebuild(SUMS, false).await;
    assert!(matches!(refused, Err(ProjectionsError::Refused { .. })), "{refused:?}");
    newer.shutdown().await;
    reader.projections().pause(SUMS).await.unwrap();
    until("the owner hears of it", || async { owner.projections().health()[0].status == ProjectionStatus::Paused })
        .await;
    assert!(!reader.projections().show(SUMS).await.unwrap().is_owned_here);
    reader.shutdown().await;
    owner.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_went_back_stops_the_projection_and_a_rebuild_mends_it() {
    let (long, short, views) = (store(), store(), store());
    let runtime = start(&long, views.clone(), Sums::default(), quick()).await;
    Writer::new(&long).fill(3, 10).await;
    caught_up(&*views, &long).await;
    runtime.shutdown().await;
    let mut writer = Writer::new(&short);
    writer.fill(3, 2).await;
    let runtime = start(&short, views.clone(), Sums::default(), quick()).await;
    until("it stops", || async { status(&runtime).await == ProjectionStatus::Stopped }).await;
    let report = runtime.projections().show(SUMS).await.unwrap();
    assert!(report.last_error.as_ref().unwrap().reason.contains("rebuild"), "{report:?}");
    // Other events at the same place are not the same log either; resuming does not help.
    writer.fill(3, 18).await;
    runtime.projections().resume(SUMS).await.unwrap();
    until("it stops again", || async { status(&runtime).await == ProjectionStatus::Stopped }).await;
    let operation = runtime.projections().rebuild(SUMS, false).await.unwrap();
    let operation = crate::projected::ended(&runtime, &operation).await;
    assert_eq!(operation.error, None);
    caught_up(&*views, &short).await;
    assert_exact(&*views, &short, &Sums::default()).await;
    assert_eq!(status(&runtime).await, ProjectionStatus::Live);
    runtime.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panicking_projection_parks_and_its_neighbour_stays_live() {
    let store = store();
    let calm = Sums { name: "calm", ..Sums::default() };
    let nervous = Sums { is_nervous: true, ..Sums::default() };
    let runtime = builder(&store).views(store.clone()).projection(calm).projection(nervous).limits(quick());
    let runtime = runtime.start().await.unwrap();
    let mut writer = Writer::new(&store);
    writer.fill(3, 3).await;
    writer.add(&[("p1", 99), ("p2", 1)]).await;
    writer.add(&[("p1", 1), ("p2", 1)]).await;
    caught_up(&*store, &store).await;
    until("both are live", || async {
        let reports = runtime.projections().list().await.unwrap();
        reports.iter().all(|report| report.status == ProjectionStatus::Live)
    })
    .await;
    let reports = runtime.projections().list().await.unwrap();
    assert_eq!(reports.iter().map(|report| report.name.as_str()).collect::<Vec<_>>(), ["calm", SUMS]);
    assert_eq!((reports[0].parked, reports[1].parked), (0, 2));
    assert!(reports[1].last_error.as_ref().unwrap().reason.contains("ninety-nine"));
    runtime.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_actor_that_keeps_failing_is_reported_and_leaves_the_others_alone() {
    let store = store();
    let calm = Sums { name: "calm", ..Sums::default() };
    let broken = Sums { breaks_at: Some("p1"), ..Sums::default() };
    let runtime = builder(&store).views(store.clone()).projection(calm).projection(broken).limits(quick());
    let runtime = runtime.start().await.unwrap();
    Writer::new(&store).fill(3, 3).await;
    until("it has failed twice", || async { runtime.projections().health()[1].restarts >= 2 }).await;
    let health = runtime.projections().health();
    assert!(health[1].last_error.as_ref().unwrap().reason.contains("failed"), "{health:?}");
    until("the other is live", || async {
        let report = runtime.projections().show("calm").await.unwrap();
        report.status == ProjectionStatus::Live && report.checkpoint == Position(9)
    })
    .await;
    assert!(runtime.health().is_alive);
    runtime.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_cannot_be_read_for_a_while_only_delays() {
    let inner = store();
    let log = event_sourcing_actors::testing::faults::FaultStore::new((*inner).clone());
    let runtime = builder(&log).views(inner.clone()).projection(Sums::default()).limits(small_pages(10));
    let runtime = runtime.start().await.unwrap();
    let mut writer = Writer::new(&inner);
    for turn in 0..6 {
        log.darken(turn % 2 == 0);
        writer.fill(5, 5).await;
        tokio::time::sleep(Duration::from_millis(40)).await;
    }
    caught_up(&*inner, &inner).await;
    assert_exact(&*inner, &inner, &Sums::default()).await;
    runtime.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_version_rebuilds_by_itself_and_an_older_one_stands_by() {
    let store = store();
    let runtime = start(&store, store.clone(), Sums::default(), quick()).await;
    let mut writer = Writer::new(&store);
    writer.fill(3, 50).await;
    caught_up(&*store, &store).await;
    let old = state(&*store, SUMS).await.unwrap().generation;
    runtime.shutdown().await;
    let second = Sums { version: 2, bonus: 1, ..Sums::default() };
    let newer = start(&store, store.clone(), second.clone(), quick()).await;
    until("it is swapped", || async { state(&*store, SUMS).await.unwrap().version == 2 }).await;
    writer.fill(3, 5).await;
    caught_up(&*store, &store).await;
    assert_exact(&*store, &store, &second).await;
    let state = state(&*store, SUMS).await.unwrap();
    assert_ne!(state.generation, old);
    assert_eq!(state.previous.unwrap().version, 1);
    let older = start(&store, store.clone(), Sums::default(), quick()).await;
    until("the old one is told", || async { status(&older).await == ProjectionStatus::Outdated }).await;
    let refused = older.projections().rebuild(SUMS, false).await;
    assert!(matches!(refused, Err(ProjectionsError::Refused { .. })), "{refused:?}");
    newer.shutdown().await;
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert_eq!(crate::projected::state(&*store, SUMS).await.unwrap().lease, None);
    older.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_without_order_that_starts_later_has_its_way() {
    let store = store();
    let hash = |version, bonus| Sums { version, bonus, is_ordered: false, ..Sums::default() };
    let first = start(&store, store.clone(), hash(700, 0), quick()).await;
    let mut writer = Writer::new(&store);
    writer.fill(3, 50).await;
    caught_up(&*store, &store).await;
    let second = start(&store, store.clone(), hash(300, 1), quick()).await;
    until("the second is swapped in", || async { state(&*store, SUMS).await.unwrap().version == 300 }).await;
    writer.fill(3, 5).await;
    caught_up(&*store, &store).await;
    assert_exact(&*store, &store, &hash(300, 1)).await;
    assert_eq!(status(&first).await, ProjectionStatus::Outdated);
    second.shutdown().await;
    first.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_of_another_version_leaves_everything_as_it_is() {
    for is_ordered in [true, false] {
        let store = store();
        let sums = |version| Sums { version, is_ordered, ..Sums::default() };
        let host = start(&store, store.clone(), sums(1), quick()).await;
        let mut writer = Writer::new(&store);
        writer.fill(3, 50).await;
        caught_up(&*store, &store).await;
        let before = state(&*store, SUMS).await.unwrap();
        let guest = builder(&store).views(store.clone()).projection(sums(2)).limits(quick()).upgrade(false);
        let guest = guest.start().await.unwrap();
        until("the guest stands by", || async { status(&guest).await == ProjectionStatus::Outdated }).await;
        writer.fill(3, 5).await;
        caught_up(&*store, &store).await;
        let after = state(&*store, SUMS).await.unwrap();
        assert_eq!((after.epoch, after.version, after.shadow), (before.epoch, 1, None));
        assert_eq!(host.projections().operations(None, std::num::NonZeroU32::MIN).await.unwrap(), []);
        guest.shutdown().await;
        host.shutdown().await;
    }
}

#[tokio::test]
async fn names_are_checked_at_start() {
    let start = |projections: Vec<Sums>, limits: Option<&'static str>| async move {
        let store = store();
        let mut builder = builder(&store).views(store.clone());
        for projection in projections {
            builder = builder.projection(projection);
        }
        if let Some(name) = limits {
            builder = builder.projection_limits(name, ProjectionLimits::default());
        }
        builder.start().await.map(|_| ()).map_err(|error| error.to_string())
    };
    let none = Sums { name: "", ..Sums::default() };
    assert!(start(vec![none], None).await.unwrap_err().contains("1 to 255"));
    assert!(start(vec![Sums::default(), Sums::default()], None).await.unwrap_err().contains("two projections"));
    assert!(start(vec![Sums::default()], Some("summs")).await.unwrap_err().contains("summs"));
    assert!(start(vec![Sums::default()], Some(SUMS)).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_there_from_the_first_scrape_and_unknown_names_have_neighbours() {
    let store = store();
    let runtime = start(&store, store.clone(), Sums::default(), quick()).await;
    let text: Vec<String> =
        runtime.metrics().registry().gather().iter().map(|family| family.name().to_owned()).collect();
    for name in [
        "es_projection_lag_events",
        "es_projection_lag_seconds",
        "es_projection_last_event_timestamp_seconds",
        "es_projection_rebuild_progress_ratio",
        "es_projection_parked_events",
        "es_projection_applied_events_total",
        "es_projection_commit_duration_seconds",
        "es_projection_restarts_total",
    ] {
        assert!(text.iter().any(|known| known == name), "{name}");
    }
    let unknown = runtime.projections().show("summs").await.unwrap_err();
    assert!(
        matches!(&unknown, ProjectionsError::UnknownProjection { nearest, .. } if nearest == &[SUMS]),
        "{unknown:?}"
    );
    assert_eq!(store.head().await.unwrap(), Position::ZERO);
    let _: Arc<dyn ViewStore> = store.clone();
    runtime.shutdown().await;
}
