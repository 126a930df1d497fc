//! Filters to rows, and what is wrong with filters.

use event_sourcing_actors::{
    FieldError,
    ports::Direction,
    query::{QueryCatalog, QueryPlan},
    view::{ListRange, RowKey, Selection, sort_of_number},
};
use serde_json::{Value, json, value::to_raw_value};

use super::{register, register_declared};

fn catalog() -> QueryCatalog {
    let mut catalog = QueryCatalog::default();
    register(&mut catalog).unwrap();
    register_declared(&mut catalog, "turnover").unwrap();
    catalog
}

fn plan(name: &str, filters: Value) -> Result<QueryPlan, Vec<FieldError>> {
    let catalog = catalog();
    let query = catalog.of_name(name).next().unwrap_or_else(|| panic!("there is no {name}"));
    query.plan(&to_raw_value(&filters).unwrap())
}

#[track_caller]
fn list(name: &str, filters: Value) -> ListRange {
    match plan(name, filters).unwrap().selection {
        Selection::List(range) => range,
        Selection::Row(key) => panic!("{name} reads the row {key}"),
    }
}

#[track_caller]
fn fault(name: &str, filters: Value, pointer: &str, detail: &str) {
    let faults = plan(name, filters).unwrap_err();
    assert_eq!(faults[0].pointer, pointer, "{faults:?}");
    assert!(faults[0].detail.contains(detail), "{faults:?}");
}

#[test]
fn the_query_types_are_the_products() {
    let catalog = catalog();
    let of = |projection: &str| -> Vec<&str> {
        catalog.iter().filter(|query| query.projection == projection).map(|query| query.name).collect()
    };
    assert_eq!(of("account_balance"), ["GetAccountBalance", "GetTransactionHistory", "GetTransfers", "ListAccounts"]);
    assert_eq!(of("order_summary"), ["GetCustomerOrders", "GetDailyStatistics", "GetOrder", "GetProductOrders"]);
    assert_eq!(of("inventory"), ["GetLowStock", "GetStock", "GetStockMovements"]);
    assert_eq!(of("user_activity"), ["GetUser", "GetUserActivity", "GetUserSessions"]);
    assert_eq!(of("turnover"), ["GetView", "ListView"]);
}

#[test]
fn settings_of_query_types_that_are_not_there_are_told() {
    assert_eq!(super::check_names(["GetStock", "GetView"], &catalog()), Ok(()));
    let told = super::check_names(["GetStok"], &catalog()).unwrap_err().to_string();
    assert_eq!(told, "queries.types.GetStok names no query type; did you mean \"GetStock\"?");
}

#[test]
fn single_rows_are_named_in_the_answer_when_they_are_missing() {
    for (name, member, key, missing) in [
        ("GetAccountBalance", "account_id", ("accounts", "x"), "there is no account \"x\""),
        ("GetOrder", "order_id", ("orders", "x"), "there is no order \"x\""),
        ("GetStock", "product_id", ("stock", "x"), "there is no product \"x\""),
        ("GetUser", "user_id", ("users", "x"), "there is no user \"x\""),
        ("GetView", "key", ("rows", "x"), "there is no row \"x\" in turnover"),
    ] {
        let plan = plan(name, json!({ member: "x" })).unwrap();
        assert_eq!(plan.selection, Selection::Row(RowKey::new(key.0, "", key.1)));
        assert_eq!(plan.missing, missing);
        fault(name, json!({}), &format!("/{member}"), "is missing");
        fault(name, json!({ member: 5 }), &format!("/{member}"), "text");
        fault(name, json!({ member: "x", "y": 1 }), "/y", "is not a known member");
    }
}

#[test]
fn lists_are_newest_first_where_the_product_says_so() {
    let (forward, backward) = (Direction::Forward, Direction::Backward);
    for (name, filters, collection, group, direction) in [
        ("GetTransactionHistory", json!({"account_id": "x"}), "transactions", "x", backward),
        ("GetTransfers", json!({"account_id": "x"}), "transfers", "x", backward),
        ("ListAccounts", json!({}), "accounts", "", forward),
        ("GetCustomerOrders", json!({"customer_id": "x"}), "customer_orders", "x", backward),
        ("GetProductOrders", json!({"product_id": "x"}), "product_orders", "x", forward),
        ("GetDailyStatistics", json!({}), "daily", "", forward),
        ("GetStockMovements", json!({"product_id": "x"}), "movements", "x", forward),
        ("GetLowStock", json!({}), "low_stock", "", forward),
        ("GetUserSessions", json!({"user_id": "x"}), "sessions", "x", backward),
        ("GetUserActivity", json!({"user_id": "x"}), "activity", "x", forward),
        ("ListView", json!({}), "rows", "", forward),
    ] {
        let range = list(name, filters.clone());
        assert_eq!((range.collection.as_ref(), &*range.group, range.direction), (collection, group, direction));
        assert_eq!((range.limit.get(), range.after), (100, None), "{name}");
        let mut paged = filters.clone();
        paged["limit"] = json!(7);
        paged["cursor"] = json!("c");
        let range = list(name, paged);
        assert_eq!((range.limit.get(), range.after.as_deref()), (7, Some("c")), "{name}");
        for (member, value, detail) in [
            ("limit", json!(0), "must be 1 to 1000"),
            ("limit", json!(1001), "must be 1 to 1000"),
            ("limit", json!("7"), "whole number"),
            ("cursor", json!("a\0b"), "next_cursor"),
            ("other", json!(1), "is not a known member"),
        ] {
            let mut wrong = filters.clone();
            wrong[member] = value;
            fault(name, wrong, &format!("/{member}"), detail);
        }
    }
}

#[test]
fn days_are_inclusive_optional_and_checked() {
    let name = "GetDailyStatistics";
    let range = list(name, json!({"from_date": "2024-02-29", "to_date": "2024-03-01"}));
    assert_eq!((range.from.as_deref(), range.to.as_deref()), (Some("2024-02-29"), Some("2024-03-01")));
    assert_eq!(list(name, json!({"from_date": null})).from, None);
    assert!(plan(name, json!({"from_date": "2024-03-01", "to_date": "2024-03-01"})).is_ok());
    fault(
        name,
        json!({"from_date": "2024-03-02", "to_date": "2024-03-01"}),
        "/from_date",
        "must not be after /to_date",
    );
    for wrong in ["2023-02-29", "2024-1-2", "2024-01-01T00:00:00Z", "+10000-01-01", "today", ""] {
        fault(name, json!({ "to_date": wrong }), "/to_date", "YYYY-MM-DD");
    }
    fault(name, json!({"from_date": 20240101}), "/from_date", "must be a text");
}

#[test]
fn instants_are_inclusive_to_the_microsecond_and_need_an_offset() {
    let name = "GetUserActivity";
    let at = |micros: u64| sort_of_number(1_704_067_200_000_000 + micros);
    let span = |from: &str, to: &str| {
        let range = list(name, json!({"user_id": "x", "from_time": from, "to_time": to}));
        (range.from.unwrap().to_string(), range.to.unwrap().to_string())
    };
    assert_eq!(span("2024-01-01T01:00:00+01:00", "2024-01-01T00:00:00.000002Z"), (at(0), at(2) + "~"));
    assert_eq!(span("2024-01-01T00:00:00.0000011Z", "2024-01-01T00:00:00.0000029Z"), (at(2), at(2) + "~"));
    let range =
        list(name, json!({"user_id": "x", "from_time": "2024-01-01T00:00:00Z", "to_time": "2024-01-01T00:00:00Z"}));
    assert!(range.contains(&(at(0) + "-00000000000000000007")) && !range.contains(&(at(1) + "-0")));
    let wrong = |member: &str, value: &str| json!({"user_id": "x", member: value});
    fault(name, wrong("from_time", "2024-01-01T00:00:00"), "/from_time", "with an offset");
    fault(name, wrong("to_time", "2024-01-01"), "/to_time", "RFC 3339");
    let turned = json!({"user_id": "x", "from_time": "2024-01-02T00:00:00Z", "to_time": "2024-01-01T00:00:00Z"});
    fault(name, turned, "/from_time", "must not be after /to_time");
}
