//! The view store contract on every store, what only the ones on disk must do, and the views for analysts.

use std::{future::Future, num::NonZeroU32, path::Path, sync::Arc, time::Duration};

use event_sourcing_actors::{
    Position,
    ports::{Checkpoint, LeaseClaim, Move, ProjectionState, ViewCommit, ViewOutcome, ViewStore},
    testing::view_contract::{Case, cases},
    view::{Row, RowKey, Touched},
};
use event_sourcing_cqrs::store::{PostgresOptions, PostgresStore, SqliteOptions, SqliteStore};
use sqlx::{AssertSqlSafe, ConnectOptions, Row as _, SqliteConnection, sqlite::SqliteConnectOptions};
use uuid::Uuid;

use crate::support::{
    batches::{batch, committed},
    postgres::{self, Database},
    view_replicas::ViewReplicas,
};

async fn passes(case: Case, store: Arc<dyn ViewStore>) -> bool {
    let run = tokio::spawn(tokio::time::timeout(Duration::from_secs(60), (case.run)(store)));
    matches!(run.await, Ok(Ok(())))
}

/// Runs every case on a fresh store, and names those that fail.
async fn assert_meets_contract<F: Future<Output = Arc<dyn ViewStore>>>(kind: &str, fresh: impl Fn() -> F) {
    let mut failed = Vec::new();
    for case in cases() {
        if !passes(case, fresh().await).await {
            eprintln!("FAILED on {kind}: {}", case.name);
            failed.push(case.name);
        }
    }
    assert!(failed.is_empty(), "{kind} fails {} of {} cases: {failed:?}", failed.len(), cases().len());
}

async fn sqlite(path: &Path) -> SqliteStore {
    SqliteStore::open(SqliteOptions::new(path)).await.unwrap()
}

async fn connect(database: &Database) -> PostgresStore {
    let options = PostgresOptions { pool_connections_max: 4, ..PostgresOptions::new(&database.url) };
    PostgresStore::connect(options).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_meets_the_view_contract() {
    let folder = tempfile::tempdir().unwrap();
    assert_meets_contract("sqlite", || async {
        Arc::new(sqlite(&folder.path().join(format!("{}.db", Uuid::now_v7()))).await) as Arc<dyn ViewStore>
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_meets_the_view_contract() {
    if postgres::database().await.is_none() {
        return;
    }
    assert_meets_contract("postgres", || async {
        Arc::new(connect(&postgres::database().await.unwrap()).await) as Arc<dyn ViewStore>
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_postgres_replicas_meet_the_view_contract() {
    if postgres::database().await.is_none() {
        return;
    }
    assert_meets_contract("two replicas on postgres", || async {
        let database = postgres::database().await.unwrap();
        Arc::new(ViewReplicas::new([connect(&database).await, connect(&database).await])) as Arc<dyn ViewStore>
    })
    .await;
}

/// The control: the race is lost by a store whose steps are not tested.
#[tokio::test(flavor = "multi_thread")]
async fn owners_that_race_without_the_test_of_their_steps_count_twice() {
    let Some(database) = postgres::database().await else { return };
    let mut replicas = ViewReplicas::new([connect(&database).await, connect(&database).await]);
    replicas.is_forgiving = true;
    let case = cases().into_iter().find(|case| case.name == "two_owners_racing_make_one_chain").unwrap();
    assert!(!passes(case, Arc::new(replicas)).await, "the case does not notice double steps");
}

const LEASE: Duration = Duration::from_secs(600);

async fn owned(store: &dyn ViewStore, projection: &str) -> (Uuid, ProjectionState) {
    store.declare(projection, 1).await.unwrap();
    let owner = Uuid::now_v7();
    let claim = LeaseClaim { projection: projection.to_owned(), owner, lease: LEASE };
    (owner, store.acquire(claim).await.unwrap().unwrap())
}

/// The next step, which writes these rows.
fn step(owner: Uuid, state: &ProjectionState, puts: Vec<Row>) -> ViewCommit {
    let from = state.checkpoint.position;
    let to = Checkpoint { position: Position(from.0 + 1), leaf: None };
    let touched = Touched::rows(puts.iter().map(|row| &row.key));
    ViewCommit {
        projection: state.name.clone(),
        owner,
        epoch: state.epoch,
        lease: LEASE,
        served: Some((state.generation, Move { from, to, puts, ..Move::default() })),
        shadow: None,
        touched,
        transition: None,
        operation: None,
    }
}

fn row(collection: &'static str, sort: &str, data: &str) -> Row {
    Row { key: RowKey::new(collection, "", sort), data: data.to_owned().into() }
}

async fn done(store: &dyn ViewStore, commit: ViewCommit) -> ProjectionState {
    match store.commit(commit).await.unwrap() {
        ViewOutcome::Committed(state) => *state,
        ViewOutcome::Lost => panic!("the step was lost"),
    }
}

/// Steps whose futures are dropped at every stage; then one that is not.
async fn assert_dropped_steps_leave_nothing_open(store: &dyn ViewStore) {
    let (owner, _) = owned(store, "p").await;
    for round in 0..50 {
        let state = store.states().await.unwrap().remove(0);
        let rows = vec![row("c", "a", &format!("{round}"))];
        let _ = tokio::time::timeout(Duration::from_micros(round * 60), store.commit(step(owner, &state, rows))).await;
    }
    // A step that was dropped may still be ending, so the state may move once more.
    for _ in 0..100 {
        let state = store.states().await.unwrap().remove(0);
        let rows = vec![row("c", "a", "\"last\"")];
        if store.commit(step(owner, &state, rows)).await.unwrap() != ViewOutcome::Lost {
            return;
        }
    }
    panic!("no step gets through any more");
}

#[tokio::test]
async fn dropped_step_leaves_no_transaction_behind_in_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let store = sqlite(&folder.path().join("log.db")).await;
    assert_dropped_steps_leave_nothing_open(&store).await;
    committed(event_sourcing_actors::ports::EventStore::append(&store, batch(&["a"])).await);
}

#[tokio::test]
async fn dropped_step_leaves_no_transaction_behind_in_postgres() {
    let Some(database) = postgres::database().await else { return };
    assert_dropped_steps_leave_nothing_open(&connect(&database).await).await;
    let open = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in%'";
    let open: i64 = sqlx::query_scalar(open).fetch_one(&mut database.session().await).await.unwrap();
    assert_eq!(open, 0);
}

/// Appends, caches and steps of one process take turns: none meets a file that is locked.
#[tokio::test(flavor = "multi_thread")]
async fn writers_of_one_process_never_find_the_file_locked() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.db");
    let patient = sqlite(&path).await;
    let owners = [owned(&patient, "p").await, owned(&patient, "q").await, owned(&patient, "r").await];
    patient.close().await;
    let options = SqliteOptions { busy_timeout: Duration::ZERO, ..SqliteOptions::new(&path) };
    let store = SqliteStore::open(options).await.unwrap();
    let views = owners.map(|(owner, mut state)| {
        let store = store.clone();
        tokio::spawn(async move {
            for round in 0..100 {
                state = done(&store, step(owner, &state, vec![row("c", "a", &format!("{round}"))])).await;
            }
        })
    });
    let appends = (0..3).map(|number| {
        let store = store.clone();
        tokio::spawn(async move {
            let before = chrono::DateTime::UNIX_EPOCH;
            for round in 0..100 {
                let batch = batch(&[&format!("{number}-{round}")]);
                committed(event_sourcing_actors::ports::EventStore::append(&store, batch).await);
                let swept = event_sourcing_actors::ports::EventStore::sweep_keys(&store, before, NonZeroU32::MIN);
                assert_eq!(swept.await.unwrap(), 0);
            }
        })
    });
    for writer in futures_util::future::join_all(views.into_iter().chain(appends)).await {
        writer.unwrap();
    }
}

#[tokio::test]
async fn steps_wake_listeners_only_if_something_moved() {
    let Some(database) = postgres::database().await else { return };
    let store = connect(&database).await;
    let (owner, state) = owned(&store, "p").await;
    let mut listener = sqlx::postgres::PgListener::connect(&database.url).await.unwrap();
    listener.listen("es_views").await.unwrap();
    let idle = ViewCommit { served: None, touched: Touched::Tags(Vec::new()), ..step(owner, &state, Vec::new()) };
    done(&store, idle).await;
    store.acquire(LeaseClaim { projection: "p".to_owned(), owner, lease: LEASE }).await.unwrap();
    let (other, of_other) = owned(&store, "q").await;
    assert_eq!(listener.recv().await.unwrap().payload(), "q", "a new owner; nothing of p moved before");
    done(&store, step(other, &of_other, vec![row("c", "a", "1")])).await;
    done(&store, step(owner, &state, Vec::new())).await;
    let payloads = [listener.recv().await.unwrap(), listener.recv().await.unwrap()];
    assert_eq!(payloads.map(|it| it.payload().to_owned()), ["q", "p"]);
}

#[tokio::test]
async fn only_what_must_last_waits_for_the_disk() {
    let Some(database) = postgres::database().await else { return };
    let store = connect(&database).await;
    let mut session = database.session().await;
    // Looks into the session from inside: a trigger notes what holds while a projection's row moves.
    let spy = "CREATE TABLE seen (value text); \
         CREATE FUNCTION spy() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
             INSERT INTO seen VALUES (current_setting('synchronous_commit')); RETURN NULL; END $$; \
         CREATE TRIGGER spy AFTER UPDATE ON projections FOR EACH STATEMENT EXECUTE FUNCTION spy()";
    sqlx::raw_sql(spy).execute(&mut session).await.unwrap();
    let (owner, state) = owned(&store, "p").await;
    store.acquire(LeaseClaim { projection: "p".to_owned(), owner, lease: LEASE }).await.unwrap();
    let state = done(&store, step(owner, &state, vec![row("c", "a", "1")])).await;
    let dropping = Some(event_sourcing_actors::ports::Transition::DropShadow);
    done(&store, ViewCommit { transition: dropping, ..step(owner, &state, Vec::new()) }).await;
    store.control("p", event_sourcing_actors::ports::Control::Pause).await.unwrap();
    let seen: Vec<String> = sqlx::query_scalar("SELECT value FROM seen").fetch_all(&mut session).await.unwrap();
    assert_eq!(seen, ["on", "off", "off", "on", "on"], "a new owner, a renewal, a step, a transition, a wish");
}

/// One view, its projection and collection, a row of it, and some columns with what they show.
const READ_MODELS: [(&str, &str, &str, &str, &str); 14] = [
    (
        "account_balances",
        "account_balance",
        "accounts",
        r#"{"account_id":"a","balance":-5}"#,
        "account_id, balance, owner",
    ),
    ("account_transactions", "account_balance", "transactions", r#"{"kind":"deposit"}"#, "kind, amount, balance_after"),
    ("account_transfers", "account_balance", "transfers", r#"{"amount":7}"#, "transfer_id, direction, amount"),
    (
        "transfer_tracking",
        "account_balance",
        "transfer_tracking",
        r#"{"amount":7}"#,
        "transfer_id, from_account, status, returned_at",
    ),
    ("orders_summary", "order_summary", "orders", r#"{"items":[1]}"#, "items, total, created_at, cancel_reason"),
    ("customer_orders", "order_summary", "customer_orders", "{}", "customer_id, order_id, total"),
    ("product_orders", "order_summary", "product_orders", "{}", "product_id, order_id, unit_price"),
    ("daily_statistics", "order_summary", "daily", r#"{"date":"2024-01-01"}"#, "date, orders_created, revenue"),
    ("stock_levels", "inventory", "stock", r#"{"low":true}"#, "product_id, on_hand, low, updated_at"),
    ("stock_movements", "inventory", "movements", "{}", "sequence, quantity, reason, at"),
    ("low_stock", "inventory", "low_stock", "{}", "name, low_stock_threshold, low"),
    ("users_summary", "user_activity", "users", "{}", "user_id, email, last_seen_at, open_sessions"),
    ("user_sessions", "user_activity", "sessions", r#"{"open":false}"#, "session_id, opened_at, open"),
    ("user_activity", "user_activity", "activity", r#"{"at":"2024-01-01T12:00:01.000000Z"}"#, "kind, details, at"),
];

/// A row of every read model in the served rows, and one of the first in a shadow, which must not show.
async fn fill(store: &dyn ViewStore) {
    for projection in ["account_balance", "order_summary", "inventory", "user_activity"] {
        let (owner, state) = owned(store, projection).await;
        let mine = READ_MODELS.iter().filter(|(_, of, ..)| *of == projection);
        let mut rows: Vec<Row> = mine.map(|(_, _, collection, data, _)| row(collection, "1", data)).collect();
        if projection == "account_balance" {
            rows.push(row("accounts", "2", r#"{"account_id":"b","balance":9007199254740993,"owner":"\u0000日"}"#));
        }
        let state = done(store, step(owner, &state, rows)).await;
        let wish = event_sourcing_actors::ports::Control::Rebuild {
            operation: Uuid::now_v7(),
            version: 2,
            accepts_difference: false,
        };
        store.control(projection, wish).await.unwrap();
        let shadow =
            store.states().await.unwrap().into_iter().find(|it| it.name == projection).unwrap().shadow.unwrap();
        let to = Checkpoint { position: Position(1), leaf: None };
        let puts = vec![row("accounts", "3", "{}")];
        let of_shadow = Some((shadow.generation, Move { to, puts, ..Move::default() }));
        done(store, ViewCommit { served: None, shadow: of_shadow, ..step(owner, &state, Vec::new()) }).await;
    }
}

#[tokio::test]
async fn analysts_see_the_served_read_models_in_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.db");
    fill(&sqlite(&path).await).await;
    let mut session: SqliteConnection = SqliteConnectOptions::new().filename(&path).connect().await.unwrap();
    for (view, _, _, _, columns) in READ_MODELS {
        let query = format!("SELECT {columns} FROM {view} ORDER BY 1");
        let rows = sqlx::query(AssertSqlSafe(query)).fetch_all(&mut session).await.unwrap();
        assert_eq!(rows.len(), if view == "account_balances" { 2 } else { 1 }, "{view}");
    }
    let query = sqlx::query("SELECT account_id, balance, owner FROM account_balances ORDER BY balance DESC");
    let first = query.fetch_all(&mut session).await.unwrap().remove(0);
    assert_eq!((first.get::<String, _>(0), first.get::<i64, _>(1)), ("b".to_owned(), 9_007_199_254_740_993));
}

#[tokio::test]
async fn analysts_see_the_served_read_models_in_postgres() {
    let Some(database) = postgres::database().await else { return };
    fill(&connect(&database).await).await;
    let mut session = database.session().await;
    for (view, _, _, _, columns) in READ_MODELS {
        let query = format!("SELECT {columns} FROM {view}");
        let rows = sqlx::query(AssertSqlSafe(query)).fetch_all(&mut session).await.unwrap();
        assert_eq!(rows.len(), if view == "account_balances" { 2 } else { 1 }, "{view}");
    }
    let query = sqlx::query("SELECT account_id, balance, owner FROM account_balances ORDER BY balance DESC");
    let first = query.fetch_all(&mut session).await.unwrap().remove(0);
    assert_eq!((first.get::<String, _>(0), first.get::<i64, _>(1)), ("b".to_owned(), 9_007_199_254_740_993));
    assert_eq!(first.get::<String, _>(2), "\u{fffd}日", "an escaped U+0000 does not fail the query");
}
