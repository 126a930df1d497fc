//! `POST /api/v1/queries`: read models over HTTP, after a command and never before it.

use serde_json::{Value, json};

use crate::support::http::{Reply, TestServer};

/// The specification's call, word for word.
const BALANCE: &str = r#"{
    "query_type": "GetAccountBalance",
    "filters": {
      "account_id": "acc-123"
    },
    "projection": "account_balance"
  }"#;

async fn ask(server: &TestServer, query_type: &str, filters: Value) -> Reply {
    let body = json!({ "query_type": query_type, "filters": filters });
    server.post("/api/v1/queries", &body.to_string()).await
}

/// The data of a query that is answered.
async fn data(server: &TestServer, query_type: &str, filters: Value) -> Value {
    let reply = ask(server, query_type, filters).await;
    assert_eq!(reply.status, 200, "{query_type}: {}", reply.text());
    reply.json()["data"].clone()
}

async fn done(server: &TestServer, command_type: &str, id: &str, data: Value) {
    let reply = server.command(command_type, id, data).await;
    assert_eq!(reply.status, 200, "{command_type}: {}", reply.text());
}

#[tokio::test]
async fn the_specifications_query_works_verbatim() {
    let server = TestServer::with_views().await;
    done(&server, "CreateAccount", "acc-123", json!({ "owner": "John Doe", "initial_balance": 1000 })).await;
    done(&server, "DepositMoney", "acc-123", json!({ "amount": 500 })).await;
    let reply = server.post("/api/v1/queries", BALANCE).await;
    assert_eq!((reply.status, reply.header("content-type")), (200, Some("application/json")), "{}", reply.text());
    let body = reply.json();
    assert_eq!((&body["query_type"], &body["projection"]), (&json!("GetAccountBalance"), &json!("account_balance")));
    let data = &body["data"];
    assert_eq!((&data["balance"], &data["owner"], &data["version"]), (&json!(1500), &json!("John Doe"), &json!(2)));
    assert_eq!((&data["account_id"], &data["status"]), (&json!("acc-123"), &json!("open")));
    assert!(data["updated_at"].as_str().unwrap().ends_with('Z'));
    assert_eq!((&body["position"], &body["head_position"], &body["stale"]), (&json!(2), &json!(2), &json!(false)));
    assert!(body["cached"].is_boolean());
    assert_eq!(reply.header("preference-applied"), None);
}

#[tokio::test]
async fn every_query_type_is_answered() {
    let server = TestServer::with_views().await;
    for (id, amount) in [("acc-1", 100), ("acc-2", 0)] {
        done(&server, "CreateAccount", id, json!({ "owner": "O", "initial_balance": amount })).await;
    }
    done(&server, "WithdrawMoney", "acc-1", json!({ "amount": 30, "transfer_id": "t-1" })).await;
    done(&server, "DepositMoney", "acc-2", json!({ "amount": 30, "transfer_id": "t-1" })).await;
    let item = json!({ "product_id": "p-1", "name": "Pen", "initial_quantity": 5, "low_stock_threshold": 4 });
    done(&server, "CreateInventoryItem", "p-1", item).await;
    done(&server, "ReserveStock", "p-1", json!({ "order_id": "o-1", "quantity": 2 })).await;
    let lines = json!([{ "product_id": "p-1", "quantity": 2, "unit_price": 7 }]);
    done(&server, "CreateOrder", "o-1", json!({ "order_id": "o-1", "customer_id": "c-1", "items": lines })).await;
    done(&server, "RegisterUser", "u-1", json!({ "user_id": "u-1", "email": "u@example.org", "name": "U" })).await;
    done(&server, "LogInUser", "u-1", json!({ "session_id": "s-1" })).await;

    let history = data(&server, "GetTransactionHistory", json!({ "account_id": "acc-1" })).await;
    assert_eq!(history["items"][0]["balance_after"], 70, "newest first: {history}");
    assert_eq!(history["items"].as_array().unwrap().len(), 2);
    let transfers = data(&server, "GetTransfers", json!({ "account_id": "acc-2" })).await;
    assert_eq!(transfers["items"][0]["transfer_id"], "t-1", "{transfers}");
    let accounts = data(&server, "ListAccounts", json!({})).await;
    assert_eq!(accounts["items"].as_array().unwrap().len(), 2);
    let stock = data(&server, "GetStock", json!({ "product_id": "p-1" })).await;
    assert_eq!((&stock["available"], &stock["low"]), (&json!(3), &json!(true)), "{stock}");
    let order = data(&server, "GetOrder", json!({ "order_id": "o-1" })).await;
    assert_eq!((&order["order_id"], &order["total"]), (&json!("o-1"), &json!(14)), "{order}");
    let user = data(&server, "GetUser", json!({ "user_id": "u-1" })).await;
    assert_eq!((&user["user_id"], &user["name"]), (&json!("u-1"), &json!("U")), "{user}");
    for (query_type, filters, count) in [
        ("GetStockMovements", json!({ "product_id": "p-1" }), 2),
        ("GetLowStock", json!({}), 1),
        ("GetCustomerOrders", json!({ "customer_id": "c-1" }), 1),
        ("GetProductOrders", json!({ "product_id": "p-1" }), 1),
        ("GetDailyStatistics", json!({ "from_date": "2020-01-01" }), 1),
        ("GetUserSessions", json!({ "user_id": "u-1" }), 1),
        ("GetUserActivity", json!({ "user_id": "u-1", "from_time": "2020-01-01T00:00:00Z" }), 2),
    ] {
        let list = data(&server, query_type, filters).await;
        assert_eq!(list["items"].as_array().unwrap().len(), count, "{query_type}: {list}");
        assert_eq!(list["next_cursor"], Value::Null, "{query_type}");
    }
}

#[tokio::test]
async fn lists_are_read_in_pages() {
    let server = TestServer::with_views().await;
    for number in 0..5 {
        server.account(&format!("acc-{number}"), number).await;
    }
    let mut seen = Vec::new();
    let mut filters = json!({ "limit": 2 });
    loop {
        let page = data(&server, "ListAccounts", filters.clone()).await;
        let items = page["items"].as_array().unwrap();
        assert!(items.len() <= 2);
        seen.extend(items.iter().map(|item| item["account_id"].as_str().unwrap().to_owned()));
        if page["next_cursor"].is_null() {
            break;
        }
        filters["cursor"] = page["next_cursor"].clone();
    }
    assert_eq!(seen, ["acc-0", "acc-1", "acc-2", "acc-3", "acc-4"]);
}

#[tokio::test]
async fn each_mistake_has_its_code_and_its_place() {
    let server = TestServer::with_views().await;
    let get = |filters: Value| json!({ "query_type": "GetAccountBalance", "filters": filters });
    let list = |filters: Value| json!({ "query_type": "ListAccounts", "filters": filters });
    let of = |projection: &str| json!({ "query_type": "ListAccounts", "projection": projection });
    let cases = [
        (json!({}), 400, "malformed-body", Some("/query_type")),
        (json!({ "query_type": 1 }), 400, "malformed-body", Some("/query_type")),
        (get(json!([])), 400, "malformed-body", Some("/filters")),
        (json!({ "query_type": "ListAccounts", "filter": {} }), 400, "malformed-body", Some("/filter")),
        (json!({ "query_type": "ListAccounts", "projection": 1 }), 400, "malformed-body", Some("/projection")),
        (json!({ "query_type": "GetAcountBalance" }), 422, "unknown-query-type", Some("/query_type")),
        (of("account_balances"), 404, "unknown-projection", Some("/projection")),
        (of("inventory"), 422, "validation-failed", Some("/projection")),
        (get(json!({})), 422, "validation-failed", Some("/filters/account_id")),
        (get(json!({ "account_id": "a", "x": 1 })), 422, "validation-failed", Some("/filters/x")),
        (get(json!({ "account_id": 1 })), 422, "validation-failed", Some("/filters/account_id")),
        (list(json!({ "limit": 0 })), 422, "validation-failed", Some("/filters/limit")),
        (list(json!({ "limit": 1001 })), 422, "validation-failed", Some("/filters/limit")),
        (get(json!({ "account_id": "nobody" })), 404, "not-found", None),
    ];
    for (body, status, code, pointer) in cases {
        let reply = server.post("/api/v1/queries", &body.to_string()).await;
        let answer = reply.json();
        assert_eq!((reply.status, answer["code"].as_str()), (status, Some(code)), "{body}: {answer}");
        assert_eq!(answer["errors"][0]["pointer"].as_str(), pointer, "{body}: {answer}");
        assert_eq!(reply.header("content-type"), Some("application/problem+json"));
    }
    let near = ask(&server, "GetAcountBalance", json!({})).await.json();
    assert_eq!(near["nearest"][0], "GetAccountBalance");
    let missing = ask(&server, "GetAccountBalance", json!({ "account_id": "nobody" })).await.json();
    assert_eq!((&missing["position"], missing["detail"].as_str().unwrap().contains("nobody")), (&json!(0), true));
    let media = server.send("POST", "/api/v1/queries", &[("content-type", "text/plain")], BALANCE.as_bytes()).await;
    assert_eq!(media.status, 415);
    assert_eq!(server.post("/api/v1/queries?limit=1", BALANCE).await.json()["errors"][0]["pointer"], "/query/limit");
    assert_eq!(server.get("/api/v1/queries").await.status, 405);
}

#[tokio::test]
async fn a_reader_sees_its_own_write() {
    let server = TestServer::with_views().await;
    server.account("acc-1", 0).await;
    let body = json!({ "query_type": "GetAccountBalance", "filters": { "account_id": "acc-1" } }).to_string();
    for amount in 1..=20 {
        let written = server.command("DepositMoney", "acc-1", json!({ "amount": 1 })).await.json();
        let token = written["position"].to_string();
        let reply = server.post_with("/api/v1/queries", &[("es-min-position", &token)], &body).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        let answer = reply.json();
        assert_eq!((&answer["data"]["balance"], &answer["stale"]), (&json!(amount), &json!(false)));
        assert!(answer["position"].as_u64() >= written["position"].as_u64());
    }
}

#[tokio::test]
async fn a_position_that_does_not_come_is_told_in_time_unless_stale_rows_will_do() {
    let server = TestServer::with_views().await;
    server.account("acc-123", 7).await;
    let late = [("es-min-position", "1000"), ("prefer", "wait=0")];
    let reply = server.post_with("/api/v1/queries", &late, BALANCE).await;
    assert_eq!((reply.status, reply.header("retry-after")), (503, Some("1")), "{}", reply.text());
    let problem = reply.json();
    assert_eq!((&problem["code"], &problem["projection"]), (&json!("projection-behind"), &json!("account_balance")));
    assert_eq!((&problem["wanted"], problem["position"].is_u64()), (&json!(1000), true));
    assert_eq!(reply.header("preference-applied"), Some("wait=0"));

    let lenient = [("es-min-position", "1000"), ("prefer", "respond-async, wait=0; x=y, handling=lenient")];
    let reply = server.post_with("/api/v1/queries", &lenient, BALANCE).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(reply.header("preference-applied"), Some("wait=0, handling=lenient"));
    let answer = reply.json();
    assert_eq!(answer["stale"], true);
    assert!(answer["position"].as_u64().unwrap() < 1000);

    for wrong in ["", "-1", "1.5", "x", "18446744073709551616"] {
        let reply = server.post_with("/api/v1/queries", &[("es-min-position", wrong)], BALANCE).await;
        assert_eq!((reply.status, &reply.json()["code"]), (400, &json!("malformed-header")), "{wrong:?}");
    }
    let twice = [("es-min-position", "1"), ("es-min-position", "2")];
    assert_eq!(server.post_with("/api/v1/queries", &twice, BALANCE).await.status, 400);
}
