//! Every query type on every store and cache: the same history gives the same answers, page by page, from the store and
//! from the cache.

use event_sourcing_actors::{
    AggregateId, Position,
    command_bus::{Action, CommandRequest},
    query_bus::{QueryAnswer, QueryRequest},
};
use event_sourcing_cqrs::{
    app::App,
    settings::{SecretUrl, Settings},
};
use serde_json::{Value, json};

use crate::support::{eventually, postgres, settings_for};

/// A history with something in it for each query type: command type, aggregate, data.
fn history() -> Vec<(&'static str, &'static str, Value)> {
    let line = |product: &str, quantity: i64| json!({ "product_id": product, "quantity": quantity, "unit_price": 7 });
    vec![
        ("CreateAccount", "acc-1", json!({ "owner": "One", "initial_balance": 100 })),
        ("CreateAccount", "acc-2", json!({ "owner": "Two", "initial_balance": 0 })),
        ("WithdrawMoney", "acc-1", json!({ "amount": 30, "transfer_id": "t-1" })),
        ("DepositMoney", "acc-2", json!({ "amount": 30, "transfer_id": "t-1" })),
        ("CreateInventoryItem", "p-1", json!({ "name": "Pen", "initial_quantity": 5, "low_stock_threshold": 4 })),
        ("CreateInventoryItem", "p-2", json!({ "name": "Ink", "initial_quantity": 90, "low_stock_threshold": 4 })),
        ("ReserveStock", "p-1", json!({ "order_id": "o-1", "quantity": 2 })),
        ("AdjustStock", "p-2", json!({ "delta": -3, "reason": "spilt" })),
        ("CreateOrder", "o-1", json!({ "customer_id": "c-1", "items": [line("p-1", 2), line("p-2", 1)] })),
        ("CreateOrder", "o-2", json!({ "customer_id": "c-1", "items": [line("p-2", 5)] })),
        ("RemoveOrderItem", "o-1", json!({ "product_id": "p-2" })),
        ("ConfirmOrder", "o-1", json!({})),
        ("PayOrder", "o-1", json!({ "payment_reference": "r-1" })),
        ("CancelOrder", "o-2", json!({ "reason": "changed mind" })),
        ("RegisterUser", "u-1", json!({ "email": "u@example.org", "name": "U" })),
        ("LogInUser", "u-1", json!({ "session_id": "s-1" })),
        ("RecordUserAction", "u-1", json!({ "action": "search", "details": { "n": 1.50, "text": "日本" } })),
        ("LogOutUser", "u-1", json!({ "session_id": "s-1" })),
        ("LogInUser", "u-1", json!({ "session_id": "s-2" })),
    ]
}

/// Every query type, with filters; lists in pages of one row.
fn questions() -> Vec<(&'static str, Value)> {
    vec![
        ("GetAccountBalance", json!({ "account_id": "acc-1" })),
        ("GetTransactionHistory", json!({ "account_id": "acc-1", "limit": 1 })),
        ("GetTransfers", json!({ "account_id": "acc-2", "limit": 1 })),
        ("ListAccounts", json!({ "limit": 1 })),
        ("GetOrder", json!({ "order_id": "o-1" })),
        ("GetCustomerOrders", json!({ "customer_id": "c-1", "limit": 1 })),
        ("GetProductOrders", json!({ "product_id": "p-2", "limit": 1 })),
        ("GetDailyStatistics", json!({ "from_date": "2020-01-01", "to_date": "2999-12-31", "limit": 1 })),
        ("GetStock", json!({ "product_id": "p-1" })),
        ("GetStockMovements", json!({ "product_id": "p-1", "limit": 1 })),
        ("GetLowStock", json!({ "limit": 1 })),
        ("GetUser", json!({ "user_id": "u-1" })),
        ("GetUserSessions", json!({ "user_id": "u-1", "limit": 1 })),
        ("GetUserActivity", json!({ "user_id": "u-1", "from_time": "2020-01-01T00:00:00Z", "limit": 1 })),
    ]
}

async fn live_through(app: &App) -> Position {
    let mut head = Position::ZERO;
    for (command_type, id, data) in history() {
        let data = serde_json::value::to_raw_value(&data).unwrap().into();
        let action = Action::Named { command_type: command_type.to_owned(), data };
        let deadline = app.runtime().limits().command_deadline;
        let request = CommandRequest::new(AggregateId::new(id).unwrap(), action, deadline);
        head =
            app.runtime().bus().send(request).await.unwrap_or_else(|error| panic!("{command_type}: {error}")).position;
    }
    head
}

async fn ask(app: &App, query_type: &str, filters: &Value, token: Position) -> QueryAnswer {
    let mut request = QueryRequest::new(query_type, &filters.to_string()).unwrap();
    request.min_position = Some(token);
    let answer = app.query(request).await.unwrap_or_else(|error| panic!("{query_type} {filters}: {error:?}"));
    assert!(answer.position >= token && !answer.stale, "{query_type}: {answer:?}");
    answer
}

/// The whole answer, all pages of it; instants are left out, for they differ from run to run.
async fn whole(app: &App, query_type: &str, mut filters: Value, token: Position) -> Value {
    let mut pages = Vec::new();
    loop {
        let answer = ask(app, query_type, &filters, token).await;
        let page: Value = serde_json::from_slice(&answer.data).unwrap();
        let again = ask(app, query_type, &filters, token).await;
        assert_eq!(again.data, answer.data, "{query_type}: an answer of one state is always the same");
        let cursor = page["next_cursor"].clone();
        pages.push(timeless(page));
        if cursor.is_null() {
            return pages.into();
        }
        filters["cursor"] = cursor;
    }
}

/// Whether a text is an instant, or a place in a list that is ordered by instants.
fn is_of_its_time(text: &str) -> bool {
    let is_sort = text.len() == 41 && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
    is_sort || (text.len() > 20 && text.ends_with('Z') && text.as_bytes()[10] == b'T')
}

fn timeless(value: Value) -> Value {
    match value {
        Value::String(text) if is_of_its_time(&text) => json!("…"),
        Value::Array(items) => items.into_iter().map(timeless).collect(),
        Value::Object(members) => members.into_iter().map(|(name, member)| (name, timeless(member))).collect(),
        other => other,
    }
}

/// Lives through the history and asks everything.
async fn answers(mut settings: Settings, database_url: &str) -> Vec<(&'static str, Value)> {
    settings.erasure = settings_for(database_url).erasure;
    let has_cache = settings.cache.enabled;
    let app = App::builder().settings(settings).seal(false).database_url(database_url).unwrap().start().await.unwrap();
    let known: Vec<&str> = app.runtime().queries().catalog().names().collect();
    let asked = questions();
    assert_eq!(known.len(), asked.len(), "each query type is asked: {known:?}");
    let token = live_through(&app).await;
    let mut all = Vec::new();
    for (query_type, filters) in asked {
        if has_cache {
            let (app, filters) = (&app, &filters);
            eventually("the cache answers", || async move { ask(app, query_type, filters, token).await.cached }).await;
        }
        let answer = whole(&app, query_type, filters, token).await;
        all.push((query_type, answer));
    }
    app.shutdown().await;
    all
}

fn without_cache() -> Settings {
    let mut settings = Settings::default();
    settings.cache.enabled = false;
    settings
}

#[tokio::test(flavor = "multi_thread")]
async fn each_query_type_answers_alike_on_every_store_and_cache() {
    let expected = answers(without_cache(), "memory:").await;
    let of = |query_type: &str| expected.iter().find(|(name, _)| *name == query_type).unwrap().1.clone();
    assert_eq!(of("GetAccountBalance")[0]["balance"], 70);
    assert_eq!(of("GetTransactionHistory").as_array().unwrap().len(), 2);
    assert_eq!(of("GetCustomerOrders").as_array().unwrap().len(), 2);
    assert_eq!(of("GetDailyStatistics")[0]["items"][0]["revenue"], 14);
    assert_eq!(of("GetLowStock")[0]["items"][0]["product_id"], "p-1");
    assert_eq!(of("GetUserActivity").as_array().unwrap().len(), 5);
    assert_eq!(answers(Settings::default(), "memory:").await, expected, "with the cache of the process");

    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| format!("sqlite://{}", folder.path().join(name).display());
    assert_eq!(answers(without_cache(), &file("bare.db")).await, expected, "SQLite");
    let mut apart = Settings::default();
    apart.read_models.database_url = Some(file("views.db").parse().unwrap());
    assert_eq!(answers(apart, &file("events.db")).await, expected, "SQLite, read models in a file of their own");

    let Some(database) = postgres::database().await else { return };
    assert_eq!(answers(without_cache(), &database.url).await, expected, "PostgreSQL");
    #[cfg(all(unix, feature = "redis"))]
    if let Some(redis) = crate::support::redis::Redis::start().await {
        let database = postgres::database().await.unwrap();
        let mut settings = Settings::default();
        settings.cache.redis_url = Some(SecretUrl::new(redis.url()));
        assert_eq!(answers(settings, &database.url).await, expected, "PostgreSQL and Redis");
    }
}
