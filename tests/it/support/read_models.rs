//! Read models held against the fold of the log.

use std::time::Duration;

use event_sourcing_actors::{
    ports::EventStore,
    testing::given_events::fold_of_log,
    view::{Row, RowKey},
};
use event_sourcing_cqrs::{app::App, projections};
use tokio::time::Instant;

use super::{batches::at_most, load::sound_log, settings_for};

/// Opens the store that faults were done to, lets its projections catch up, and holds each against the fold of the log.
pub async fn equal_the_fold_of(url: &str) {
    let app = App::builder().seal(false).settings(settings_for(url)).database_url(url).unwrap().start().await.unwrap();
    equal_the_fold(&app).await;
    app.shutdown().await;
}

/// Asserts that each projection of this crate, once it has caught up, equals the fold of the log byte for byte.
pub async fn equal_the_fold(app: &App) {
    let log = sound_log(&*app.storage().events() as &dyn EventStore).await;
    for projection in projections::all() {
        caught_up(app, projection.name()).await;
        let expected = fold_of_log(&*projection, app.runtime().catalog(), &log);
        let found = dump(app, projection.name()).await;
        for (found, expected) in found.iter().zip(&expected) {
            assert_eq!(found, expected, "{} differs", projection.name());
        }
        assert_eq!(found.len(), expected.len(), "{}: rows", projection.name());
    }
}

/// Waits until a projection has applied the whole log; an owner that was killed lets go of its lease only in time.
pub async fn caught_up(app: &App, projection: &str) {
    let give_up = Instant::now() + Duration::from_secs(30);
    loop {
        let report = app.runtime().projections().show(projection).await.unwrap();
        if report.lag_events == 0 {
            return;
        }
        assert!(Instant::now() < give_up, "{projection} has not caught up: {report:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The canonical dump of the served rows.
pub async fn dump(app: &App, projection: &str) -> Vec<Row> {
    let views = app.storage().views();
    let states = views.states().await.unwrap();
    let generation = states.iter().find(|state| state.name == projection).unwrap().generation;
    let mut rows: Vec<Row> = Vec::new();
    loop {
        let after: Option<RowKey> = rows.last().map(|row| row.key.clone());
        let page = views.dump(generation, after.as_ref(), at_most(1_000)).await.unwrap();
        if page.is_empty() {
            return rows;
        }
        rows.extend(page);
    }
}
