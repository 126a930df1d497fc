//! A process that ends at any point between two steps of a saga, without any cleaning up: the next one leads to the same
//! end. And the control: commands under ids that were not recorded before are sent twice.
//!
//! The process is this test binary itself, run for [`work`] alone.

use std::{
    path::Path,
    process::{Command, Output},
    time::Duration,
};

use event_sourcing_actors::{
    EventType, Position, RecordedEvent,
    command_bus::Idempotency,
    saga::{Call, Route, SagaStatus, Step, StepPolicy, StepSaga},
    sagas::{SagaCaller, SagaFilter, StartSaga},
    testing::FAILPOINTS,
};
use event_sourcing_cqrs::{
    app::App,
    domain::{
        account::{Account, CreateAccount},
        inventory::{CreateInventoryItem, InventoryItem},
        order::{CreateOrder, Order, OrderLine},
        user::{RegisterUser, User},
    },
    store::{SqliteOptions, SqliteStore},
};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::support::{eventually, load::sound_log, transfers::ends_of};

/// The database of the child; this process is one if it is set.
const CHILD: &str = "ES_TEST_CHILD_DATABASE";
const TRANSFERS: usize = 12;
const ACCOUNTS: usize = 4;

/// Greets each new account once: started by its event.
fn greeting() -> StepSaga<Value> {
    StepSaga::<Value>::new("Greeting")
        .step(|data, _| {
            let data = json!({ "action": "greeted", "details": data });
            Ok(Step::command("greet", Call::new("greeter", "RecordUserAction", data)?))
        })
        .on(vec![EventType::new("AccountCreated").unwrap()], |event| {
            let key = event.aggregate_id.to_string();
            Ok(vec![Route::Start { data: json!({ "account": key }), key }])
        })
}

/// Tries what is always refused once more, after a timer.
fn trying() -> StepSaga<Value> {
    let pause = Duration::from_millis(50);
    let policy = StepPolicy { timeout: Some(Duration::from_secs(30)), attempts: 2, undo_attempts: 2, pause };
    StepSaga::<Value>::new("Trying")
        .step(|_, _| Ok(Step::command("withdraw", Call::new("nobody", "WithdrawMoney", json!({ "amount": 1 }))?)))
        .policy(policy)
}

fn caller(key: &str) -> SagaCaller {
    let idempotency = Idempotency { key: key.into(), fingerprint: [7; 32] };
    SagaCaller { idempotency: Some(idempotency), ..SagaCaller::system() }
}

async fn prepare(app: &App) {
    // What an earlier life has made is refused, and that is fine. Whoever greets must be there before the accounts.
    let user = RegisterUser { user_id: None, email: "g@example.org".to_owned(), name: "g".to_owned() };
    let _ = app.execute::<User>("greeter", user).await;
    for account in 0..ACCOUNTS {
        let create = CreateAccount { account_id: None, owner: "o".to_owned(), initial_balance: 50 };
        let _ = app.execute::<Account>(format!("acc-{account}"), create).await;
    }
    let item =
        CreateInventoryItem { product_id: None, name: "p".to_owned(), initial_quantity: 3, low_stock_threshold: 0 };
    let _ = app.execute::<InventoryItem>("product", item).await;
    for order in 0..2 {
        let line = OrderLine { product_id: "product".try_into().unwrap(), quantity: 2, unit_price: 1 };
        let create = CreateOrder { order_id: None, customer_id: "c".try_into().unwrap(), items: vec![line] };
        let _ = app.execute::<Order>(format!("order-{order}"), create).await;
    }
}

/// The whole work: safe to be done again, since everything has a key or is refused the second time.
#[tokio::test(flavor = "multi_thread")]
async fn work() {
    let Ok(path) = std::env::var(CHILD) else { return };
    let app = App::builder().database_url(&format!("sqlite://{path}")).unwrap();
    let app = app.saga(greeting()).unwrap().saga(trying()).unwrap().start().await.unwrap();
    let sagas = app.runtime().sagas();
    // A saga that is started by events sees those after its adoption, which is the first event of the log.
    eventually("sagas are worked on", || async {
        sagas.health().is_working_here && app.runtime().feed().head().await.unwrap() > Position::ZERO
    })
    .await;
    prepare(&app).await;
    let mut wishes = Vec::new();
    for turn in 0..TRANSFERS {
        let (from, to) = (turn % ACCOUNTS, (turn + 1 + turn / ACCOUNTS) % ACCOUNTS);
        let to = if to == from { (to + 1) % ACCOUNTS } else { to };
        // One in three is more than there is.
        let amount = if turn % 3 == 2 { 1_000 } else { 1 };
        let data =
            json!({ "from_account": format!("acc-{from}"), "to_account": format!("acc-{to}"), "amount": amount });
        wishes.push(("TransferSaga", data));
    }
    for order in 0..2 {
        wishes.push(("OrderFulfillmentSaga", json!({ "order_id": format!("order-{order}"), "account_id": "acc-0" })));
    }
    wishes.push(("Trying", json!({})));
    let until = Instant::now() + Duration::from_secs(40);
    let runs = wishes.into_iter().enumerate().map(|(number, (saga_type, data))| {
        let caller = caller(&format!("wish-{number}"));
        let start = StartSaga { saga_type: saga_type.to_owned(), data, timeout: None, caller };
        async move { sagas.run(start, until).await.unwrap() }
    });
    for report in futures_util::future::join_all(runs).await {
        let Ok(record) = serde_json::to_string(&report.record) else { continue };
        assert!(report.record.status.is_final(), "{record}");
    }
    let greeted = SagaFilter { saga_type: Some("Greeting".to_owned()), status: Some(SagaStatus::Completed) };
    eventually("all are greeted", || async {
        sagas.list(&greeted, None, 100.try_into().unwrap()).await.unwrap().items.len() == ACCOUNTS
    })
    .await;
    app.shutdown().await;
}

/// Runs [`work`] in a process of its own.
fn child(database: &Path, environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "faults::failpoints::work", "--nocapture"]);
    command.env(CHILD, database).envs(environment.iter().copied()).output().unwrap()
}

/// The log after the work, with everything that must hold whatever happened on the way.
async fn log_of(database: &Path) -> Vec<RecordedEvent> {
    let store = SqliteStore::open(SqliteOptions::new(database)).await.unwrap();
    let log = sound_log(&store).await;
    store.close().await;
    log
}

fn count(log: &[RecordedEvent], event_type: &str) -> usize {
    log.iter().filter(|event| event.event_type.as_str() == event_type).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_at_any_point_leads_to_the_same_end() {
    for name in FAILPOINTS {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("store.db");
        let mut crashes = 0;
        for times in ["1", "4"] {
            let output = child(&database, &[("ES_FAILPOINT", &format!("{name}:{times}"))]);
            // A place that is passed less often, once most of the work is done, ends nobody the second time.
            crashes += u32::from(!output.status.success());
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(output.status.code().is_none() || output.status.success(), "{name}: no crash but this: {said}");
        }
        assert!(crashes >= 1, "{name} was never passed");
        let output = child(&database, &[]);
        assert!(output.status.success(), "{name}: {output:?}");
        let log = log_of(&database).await;
        let ends = ends_of(&log);
        assert_eq!(ends.wrong, Vec::<String>::new(), "{name}: {ends:?}");
        assert_eq!((ends.open, ends.failed), (0, 0), "{name}: {ends:?}");
        // Of twelve transfers four ask for too much, of two orders one finds too little stock, and one was in vain.
        assert_eq!((ends.completed, ends.compensated), (8 + 1 + ACCOUNTS, 4 + 1 + 1), "{name}: {ends:?}");
        assert_eq!(count(&log, "UserActionRecorded"), ACCOUNTS, "{name}");
        assert_eq!((count(&log, "OrderPaid"), count(&log, "OrderCancelled")), (1, 1), "{name}");
        let starts = log.iter().filter(|event| event.event_type.as_str() == "SagaStarted").map(|event| event.position);
        assert_eq!(starts.collect::<Vec<Position>>().len(), TRANSFERS + 2 + 1 + ACCOUNTS, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn control_commands_under_ids_that_were_not_recorded_are_sent_twice() {
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("store.db");
    let control = ("ES_SAGA_CONTROL", "fresh-ids");
    for times in ["1", "3", "5"] {
        let output = child(&database, &[control, ("ES_FAILPOINT", &format!("saga-command-answered:{times}"))]);
        assert!(!output.status.success());
    }
    child(&database, &[control]);
    let log = log_of(&database).await;
    let doubled = !ends_of(&log).wrong.is_empty() || count(&log, "UserActionRecorded") > ACCOUNTS;
    assert!(doubled, "without recorded ids a crash must double something: {:?}", ends_of(&log));
}
