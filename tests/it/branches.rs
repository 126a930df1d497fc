//! What branches must not do to the log's world, and what a crash in a merge leaves.

use std::{
    path::Path,
    process::{Command, Output},
    sync::Arc,
    time::Duration,
};

use chrono::DateTime;
use event_sourcing_actors::{
    AggregateId, BranchId, CommandId, Position, Runtime, RuntimeBuilder,
    branches::{BranchError, ForkAt, NewFork},
    catalog::Catalog,
    command_bus::{Action, CommandRequest, RequestContext},
    error::CommandError,
    ports::{BranchStatus, EventStore},
    query_bus::QueryRequest,
    testing::{MERGE_FAILPOINTS, clock::ManualClock},
};
use event_sourcing_cqrs::{
    app::App,
    domain, projections, queries,
    settings::Settings,
    store::{SqliteOptions, SqliteStore},
};
use serde_json::{Value, json, value::to_raw_value};
use sqlx::{ConnectOptions, Row, sqlite::SqliteConnectOptions};
use uuid::Uuid;

use crate::support::{eventually, load::sound_log};

/// The database of the child; this process is one if it is set.
const CHILD: &str = "ES_TEST_MERGE_DATABASE";
const TIME: Duration = Duration::from_secs(30);

fn request(id: &str, command_type: &str, data: Value) -> CommandRequest {
    let data = to_raw_value(&data).unwrap().into();
    let action = Action::Named { command_type: command_type.to_owned(), data };
    CommandRequest::new(AggregateId::new(id).unwrap(), action, TIME)
}

/// What main is told: enough that every projection has rows.
fn history() -> Vec<(&'static str, &'static str, Value)> {
    let items = json!([{ "product_id": "p", "quantity": 2, "unit_price": 7 }]);
    let mut history = vec![
        ("a", "CreateAccount", json!({ "owner": "A", "initial_balance": 100 })),
        ("b", "CreateAccount", json!({ "owner": "B", "initial_balance": 0 })),
        ("p", "CreateInventoryItem", json!({ "name": "Pen", "initial_quantity": 50, "low_stock_threshold": 4 })),
        ("o", "CreateOrder", json!({ "customer_id": "c", "items": items })),
        ("u", "RegisterUser", json!({ "email": "u@example.org", "name": "U" })),
    ];
    for _ in 0..8 {
        history.push(("a", "WithdrawMoney", json!({ "amount": 2 })));
        history.push(("b", "DepositMoney", json!({ "amount": 2 })));
        history.push(("p", "AdjustStock", json!({ "delta": -1, "reason": "sold" })));
        history.push(("u", "RecordUserAction", json!({ "action": "look", "details": {} })));
    }
    history
}

/// Main's life in a new file, with so many branches busy beside it: everything that is stored of main.
async fn life(folder: &Path, branches: usize) -> Vec<String> {
    let path = folder.join(format!("{branches}.db"));
    let clock = Arc::new(ManualClock::at(DateTime::from_timestamp(1_700_000_000, 0).unwrap()));
    let options = SqliteOptions { clock: clock.clone(), ..SqliteOptions::new(&path) };
    let store = Arc::new(SqliteStore::open(options).await.unwrap());
    let (mut catalog, mut types) = (Catalog::default(), event_sourcing_actors::query::QueryCatalog::default());
    domain::register(&mut catalog).unwrap();
    queries::register(&mut types).unwrap();
    let builder = RuntimeBuilder::new(store.clone(), store.clone()).branches(store.clone()).views(store.clone());
    let builder = builder.catalog(catalog).projections(projections::all()).query_catalog(types).clock(clock.clone());
    let builder = builder.throwaway_keys();
    let runtime = Arc::new(builder.start().await.unwrap());

    let (mut worlds, mut did) = (Vec::new(), 0);
    for (number, (id, command_type, data)) in (1..).zip(history()) {
        clock.advance(chrono::Duration::seconds(1));
        let mut request = request(id, command_type, data);
        request.command_id = CommandId(Uuid::from_u128(number));
        request.context = RequestContext { correlation_id: "c".into(), causation_id: None, traceparent: None };
        runtime.bus().send(request).await.unwrap();
        if worlds.len() < branches && number > 5 {
            let at = ForkAt::Position(Position(u64::try_from(number).unwrap()));
            let fork = NewFork { name: format!("branch {number}"), at, key: None };
            worlds.push(runtime.branches().create(fork).await.unwrap().0.id);
        }
        did += futures_util::future::join_all(worlds.iter().map(|id| busy(&runtime, *id))).await.iter().sum::<usize>();
    }
    assert!(did >= branches * 5, "the branches were busy: {did}");
    let head = store.head().await.unwrap();
    eventually("the projections have caught up", || async {
        let all = projections::all();
        let shown = all.iter().map(|projection| runtime.projections().show(projection.name()));
        futures_util::future::join_all(shown).await.iter().all(|report| report.as_ref().unwrap().checkpoint == head)
    })
    .await;
    runtime.shutdown().await;
    store.close().await;
    dump(&path).await
}

/// Things happen on a branch to the very streams that main works on.
async fn busy(runtime: &Arc<Runtime>, id: BranchId) -> usize {
    let branch = runtime.branches().enter(id).await.unwrap();
    let mut done = 0;
    for request in [
        request("a", "WithdrawMoney", json!({ "amount": 1 })),
        request("b", "DepositMoney", json!({ "amount": 1 })),
        request("only here", "CreateAccount", json!({ "owner": "X", "initial_balance": 1 })),
        request("p", "AdjustStock", json!({ "delta": -1, "reason": "what if" })),
    ] {
        done += usize::from(branch.bus().send(request).await.is_ok());
    }
    done
}

async fn dump(path: &Path) -> Vec<String> {
    let mut connection = SqliteConnectOptions::new().filename(path).connect().await.unwrap();
    let mut all = Vec::new();
    for table in [
        "SELECT collection || '|' || grp || '|' || sort || '|' || data FROM view_rows ORDER BY 1",
        "SELECT name || '|' || checkpoint FROM projections ORDER BY 1",
        // What is sealed is so under a nonce drawn anew, in each life.
        "SELECT position || '|' || aggregate_id || '|' || recorded_at || '|' || CASE WHEN data LIKE '%$enc%' THEN 'sealed' \
             ELSE data || '|' || checksum END FROM events_text ORDER BY position",
        "SELECT aggregate_id FROM streams ORDER BY 1",
        "SELECT principal || key FROM idempotency ORDER BY 1",
    ] {
        let rows = sqlx::query(table).fetch_all(&mut connection).await.unwrap();
        all.extend(rows.iter().map(|row| row.get::<String, _>(0)));
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn busy_branches_leave_everything_of_main_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let (alone, beside_8) = (life(folder.path(), 0).await, life(folder.path(), 8).await);
    assert!(alone.len() > 80, "{} rows", alone.len());
    for (alone, beside_8) in alone.iter().zip(&beside_8) {
        assert_eq!(alone, beside_8);
    }
    assert_eq!(alone.len(), beside_8.len());
}

/// Merges the only branch of the database.
#[tokio::test(flavor = "multi_thread")]
async fn work() {
    let Ok(path) = std::env::var(CHILD) else { return };
    let app = open(Path::new(&path)).await;
    let branch = only_branch(&app).await;
    let merging = app.runtime().branches().merge(branch, false).await.unwrap();
    println!("{}", serde_json::to_string(&merging.report).unwrap());
    app.shutdown().await;
}

async fn open(database: &Path) -> App {
    let mut settings = Settings::default();
    settings.integrity.enabled = false;
    let app = App::builder().settings(settings).database_url(&format!("sqlite://{}", database.display()));
    app.unwrap().start().await.unwrap()
}

/// The balance as a row says it, where it stands, and whether it came from memory.
async fn row(branch: &Runtime, account: &str, token: Option<Position>) -> (i64, Position, bool) {
    let filters = json!({ "account_id": account }).to_string();
    let mut ask = QueryRequest::new("GetAccountBalance", &filters).unwrap();
    ask.min_position = token;
    let answer = branch.queries().ask(ask).await.unwrap();
    let data: Value = serde_json::from_slice(&answer.data).unwrap();
    (data["balance"].as_i64().unwrap(), answer.position, answer.cached)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_on_a_branch_is_never_behind_what_was_answered() {
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("store.db");
    let (here, there) = (open(&database).await, open(&database).await);
    for account in ["a", "b"] {
        let create = request(account, "CreateAccount", json!({ "owner": "A", "initial_balance": 0 }));
        here.runtime().bus().send(create).await.unwrap();
    }
    let fork = NewFork { name: "b".to_owned(), at: ForkAt::Position(Position(2)), key: None };
    let (branch, _) = here.runtime().branches().create(fork).await.unwrap();
    let (one, other) = (
        here.runtime().branches().enter(branch.id).await.unwrap(),
        there.runtime().branches().enter(branch.id).await.unwrap(),
    );
    let deposit = |account: &str| request(account, "DepositMoney", json!({ "amount": 1 }));
    let (mut served, mut head) = (0, Position(2));
    for balance in 1..=100 {
        // What this process has written, without a token; what another one has, with it.
        one.bus().send(deposit("a")).await.unwrap();
        assert_eq!(row(&one, "a", None).await.0, balance);
        let answer = other.bus().send(deposit("b")).await.unwrap();
        head = answer.position;
        let (there, stands, _) = row(&one, "b", Some(head)).await;
        assert!(there == balance && stands >= head, "{there} of {balance} at {stands}, after {head}");
        let (again, _, cached) = row(&one, "b", None).await;
        assert_eq!(again, balance);
        served += usize::from(cached);
    }
    assert!(served > 0, "what has not moved is not made again");
    // Without a token, what another process has written comes by itself.
    assert_eq!(row(&other, "a", Some(head)).await.0, 100);
    one.bus().send(deposit("a")).await.unwrap();
    eventually("the other process sees it", || async { row(&other, "a", None).await.0 == 101 }).await;
    drop((one, other));
    here.shutdown().await;
    there.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_branch_that_another_process_deletes_is_gone_here_too() {
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("store.db");
    let (here, there) = (open(&database).await, open(&database).await);
    let fork = NewFork { name: "b".to_owned(), at: ForkAt::Position(Position(0)), key: None };
    let (branch, _) = here.runtime().branches().create(fork).await.unwrap();
    let create = request("a", "CreateAccount", json!({ "owner": "A", "initial_balance": 0 }));
    here.runtime().branches().enter(branch.id).await.unwrap().bus().send(create).await.unwrap();
    there.runtime().branches().delete(branch.id).await.unwrap();
    // It takes nothing from then on, and is not found a moment later, however often it is asked for.
    if let Ok(late) = here.runtime().branches().enter(branch.id).await {
        let refused = late.bus().send(request("a", "DepositMoney", json!({ "amount": 1 }))).await;
        assert!(matches!(refused, Err(CommandError::BranchClosed { .. })), "{refused:?}");
    }
    let is_unknown =
        || async { matches!(here.runtime().branches().enter(branch.id).await, Err(BranchError::Unknown { .. })) };
    eventually("nobody enters it", is_unknown).await;
    here.shutdown().await;
    there.shutdown().await;
}

async fn only_branch(app: &App) -> BranchId {
    app.runtime().branches().list(None, std::num::NonZeroU32::MIN).await.unwrap()[0].id
}

/// Runs [`work`] in a process of its own.
fn child(database: &Path, environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "branches::work", "--nocapture"]);
    command.env(CHILD, database).envs(environment.iter().copied()).output().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_in_a_merge_leaves_all_or_nothing() {
    for name in MERGE_FAILPOINTS {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("store.db");
        let app = open(&database).await;
        let create = request("a", "CreateAccount", json!({ "owner": "A", "initial_balance": 100 }));
        app.runtime().bus().send(create).await.unwrap();
        let fork = NewFork { name: "m".to_owned(), at: ForkAt::Position(Position(1)), key: None };
        let (branch, _) = app.runtime().branches().create(fork).await.unwrap();
        let there = app.runtime().branches().enter(branch.id).await.unwrap();
        for amount in 1..=10 {
            there.bus().send(request("a", "DepositMoney", json!({ "amount": amount }))).await.unwrap();
            let id = format!("new-{amount}");
            there
                .bus()
                .send(request(&id, "CreateAccount", json!({ "owner": "N", "initial_balance": 1 })))
                .await
                .unwrap();
        }
        drop(there);
        app.shutdown().await;

        let crashed = child(&database, &[("ES_FAILPOINT", name)]);
        assert_eq!(crashed.status.code(), None, "{name} ends the process: {crashed:?}");
        let (events, status) = stands(&database).await;
        let is_all = (events, status) == (21, BranchStatus::Merged);
        assert!(is_all || (events, status) == (1, BranchStatus::Open), "{name}: {events} events, {status:?}");
        assert_eq!(is_all, name == "merge-committed");
        // Whoever merges again hears what was done, and does it only if it was not.
        let again = child(&database, &[]);
        assert!(again.status.success(), "{name}: {again:?}");
        assert!(String::from_utf8_lossy(&again.stdout).contains("\"merged\":true"), "{again:?}");
        assert_eq!(stands(&database).await, (21, BranchStatus::Merged), "{name}");
    }
}

/// Events of main's log, which must be sound, and how the branch stands.
async fn stands(database: &Path) -> (usize, BranchStatus) {
    let app = open(database).await;
    let branch = only_branch(&app).await;
    let status = app.runtime().branches().show(branch).await.unwrap().status;
    let events = sound_log(&*app.storage().events() as &dyn EventStore).await.len();
    app.shutdown().await;
    (events, status)
}
