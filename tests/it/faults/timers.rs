//! Two thousand timers that fall due while nobody is there: all fire once, soon after the return.

use std::{collections::HashMap, time::Duration};

use event_sourcing_actors::{
    ports::EventStore,
    saga::{Call, SagaStatus, Step, StepPolicy, StepSaga, TIMEOUT},
    sagas::{SagaCaller, SagaFilter, StartSaga},
};
use event_sourcing_cqrs::{
    app::App,
    store::{PostgresOptions, PostgresStore, SqliteOptions, SqliteStore},
};
use futures_util::{StreamExt, stream};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::support::{load::sound_log, postgres, settings_for};

const TIMERS: usize = 2_000;

/// Waits for what never comes, until its time is over.
fn waiting() -> StepSaga<Value> {
    let policy = StepPolicy { attempts: 1_000, pause: Duration::from_secs(3_600), ..StepPolicy::default() };
    StepSaga::<Value>::new("Waiting")
        .step(|_, saga| {
            let data = json!({ "amount": 1 });
            Ok(Step::command("withdraw", Call::new(&format!("none-{}", saga.saga_id), "WithdrawMoney", data)?))
        })
        .policy(policy)
}

async fn start(url: &str) -> App {
    App::builder()
        .settings(settings_for(url))
        .database_url(url)
        .unwrap()
        .seal(false)
        .saga(waiting())
        .unwrap()
        .start()
        .await
        .unwrap()
}

async fn overdue_timers_fire_once(url: &str) {
    let app = start(url).await;
    let began = Instant::now();
    let due = Duration::from_secs(20);
    stream::iter(0..TIMERS)
        .map(|_| async {
            let data = json!({});
            let start =
                StartSaga { saga_type: "Waiting".to_owned(), data, timeout: Some(due), caller: SagaCaller::system() };
            app.runtime().sagas().start(start).await.unwrap();
        })
        .buffer_unordered(64)
        .for_each(|()| async {})
        .await;
    assert!(began.elapsed() < due, "this machine is too slow for the test: {:?}", began.elapsed());
    app.shutdown().await;
    // The last one is due when the last start is so long ago.
    tokio::time::sleep(due + Duration::from_secs(1)).await;
    let app = start(url).await;
    let returned = Instant::now();
    let running = SagaFilter { saga_type: None, status: Some(SagaStatus::Running) };
    loop {
        let page = app.runtime().sagas().list(&running, None, 1.try_into().unwrap()).await.unwrap();
        if page.items.is_empty() {
            break;
        }
        assert!(returned.elapsed() < Duration::from_secs(60), "timers that never fire: {page:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    println!("{TIMERS} timers that fell due meanwhile fired {:?} after the return", returned.elapsed());
    app.shutdown().await;
}

async fn each_fired_once(store: &dyn EventStore) {
    let mut fired: HashMap<String, u32> = HashMap::new();
    for event in sound_log(store).await {
        let data: Value = serde_json::from_slice(&event.data).unwrap();
        if event.event_type.as_str() == "SagaTimerFired" && data["timer"] == TIMEOUT {
            *fired.entry(event.aggregate_id.to_string()).or_default() += 1;
        }
    }
    assert_eq!(fired.len(), TIMERS);
    assert!(fired.values().all(|times| *times == 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn timers_due_while_the_server_is_down_fire_once_on_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    overdue_timers_fire_once(&format!("sqlite://{}", path.display())).await;
    each_fired_once(&SqliteStore::open(SqliteOptions::new(path)).await.unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn timers_due_while_the_server_is_down_fire_once_on_postgres() {
    let Some(database) = postgres::database().await else { return };
    overdue_timers_fire_once(&database.url).await;
    each_fired_once(&PostgresStore::connect(PostgresOptions::new(&database.url)).await.unwrap()).await;
}
