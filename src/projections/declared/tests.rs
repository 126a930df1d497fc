//! Declarations: what they do, and which mistakes stop the start.

use serde_json::json;

use super::*;
use crate::{
    domain::{
        account::{Account, AccountClosed, AccountCreated, MoneyDeposited, MoneyWithdrawn},
        tests::id,
    },
    projections::tests::ReadModel,
};

const EVENT_TYPES: [&str; 4] = ["AccountClosed", "AccountCreated", "MoneyDeposited", "MoneyWithdrawn"];

fn read(declarations: Value) -> Result<Vec<Arc<Declared>>, DeclarationError> {
    let declarations = serde_json::from_value(declarations).unwrap();
    let place = |pointer: &str| format!("file:{pointer}");
    let projections = ["account_balance", "inventory"];
    declare(&declarations, Known { projections: &projections, event_types: &EVENT_TYPES, place: &place })
}

/// A read model of one declaration, given its rules.
fn model(on: Value) -> ReadModel<Declared> {
    let all = read(json!({ "view": { "on": on } })).unwrap_or_else(|error| panic!("{error}"));
    ReadModel::new(Declared::clone(&all[0]))
}

/// A read model of one field that changes with each `Told` of stream `x`.
fn field(operation: Value) -> ReadModel<Declared> {
    model(json!({"Told": {"key": "$aggregate_id", "fields": {"field": operation}}}))
}

fn tell(model: &mut ReadModel<Declared>, payload: &str) -> Result<(), String> {
    model.records("notes", "x", "Told", payload.as_bytes().to_vec())
}

/// The field's bytes.
fn now(model: &ReadModel<Declared>) -> Option<String> {
    let row: BTreeMap<String, Box<RawValue>> = serde_json::from_slice(model.stored.values().next()?).unwrap();
    row.get("field").map(|value| value.get().to_owned())
}

#[test]
fn an_account_is_followed_from_its_opening_to_its_end() {
    let mut model = model(json!({
        "AccountCreated": {"key": "$aggregate_id", "fields": {
            "owner": {"set": "/owner"}, "status": {"set": {"value": "open"}}, "opened_on": {"set": "$recorded_on"},
            "moved": {"add": "/initial_balance"}}},
        "MoneyDeposited": {"key": "$aggregate_id", "fields": {
            "deposits": "count", "moved": {"add": "/amount"}, "largest": {"max": "/amount"},
            "transfers": {"append": "/transfer_id", "optional": true, "elements_max": 2}}},
        "MoneyWithdrawn": {"key": "$aggregate_id", "fields": {"moved": {"subtract": "/amount"}}},
        "AccountClosed": {"key": "$aggregate_id", "remove": true},
    }));
    let created = AccountCreated { account_id: id("a"), owner: "Ann".to_owned(), initial_balance: 5 };
    model.happens::<Account>("a", created).unwrap();
    for (amount, transfer) in [(7, Some("t-1")), (9, None), (3, Some("t-2")), (1, Some("t-3"))] {
        let transfer_id = transfer.map(str::to_owned);
        model.happens::<Account>("a", MoneyDeposited { amount, transfer_id }).unwrap();
    }
    model.happens::<Account>("a", MoneyWithdrawn { amount: 30, transfer_id: None }).unwrap();
    assert_eq!(
        model.list(ROWS, ""),
        [json!({"key": "a", "owner": "Ann", "status": "open", "opened_on": "2024-01-01", "deposits": 4, "moved": -5,
                "largest": 9, "transfers": ["t-2", "t-3"]})]
    );
    model.happens::<Account>("a", AccountClosed {}).unwrap();
    assert_eq!(model.list(ROWS, ""), Vec::<Value>::new());
}

#[test]
fn values_come_from_payload_envelope_and_metadata() {
    let sources = [
        ("/a~1b/0", "1.10"),
        ("/a~1b/1/~0", "{\"x\":[1,2]}"),
        ("$aggregate_id", "\"x\""),
        ("$aggregate_type", "\"notes\""),
        ("$event_type", "\"Told\""),
        ("$event_id", "\"00000000-0000-0000-0000-000000000001\""),
        ("$position", "1"),
        ("$sequence", "1"),
        ("$recorded_at", "\"2024-01-01T12:00:01.000000Z\""),
        ("$recorded_on", "\"2024-01-01\""),
        ("$metadata/correlation_id", "\"c-1\""),
    ];
    for (source, expected) in sources {
        let mut model = field(json!({ "set": source }));
        tell(&mut model, r#"{"a/b": [1.10, {"~": { "x": [1, 2] }}]}"#).unwrap();
        assert_eq!(now(&model).as_deref(), Some(expected), "{source}");
    }
    for constant in [json!(null), json!(1.5), json!("open"), json!([1]), json!({"a": true})] {
        let mut model = field(json!({"set": {"value": constant}}));
        tell(&mut model, "{}").unwrap();
        assert_eq!(now(&model), Some(constant.to_string()));
    }
}

#[test]
fn operations_do_what_they_say() {
    let cases: [(Value, &[&str], Option<&str>); 14] = [
        (json!("count"), &["{}", "{}"], Some("2")),
        (json!({"add": "/n"}), &["{\"n\":5}", "{\"n\":-7}"], Some("-2")),
        (json!({"subtract": "/n"}), &["{\"n\":5}"], Some("-5")),
        (json!({"min": "/n"}), &["{\"n\":5}", "{\"n\":-7}", "{\"n\":0}"], Some("-7")),
        (json!({"max": "/n"}), &["{\"n\":10}", "{\"n\":9}"], Some("10")),
        (json!({"max": "/n"}), &["{\"n\":\"10\"}", "{\"n\":\"9\"}"], Some("\"9\"")),
        (json!({"append": "/n"}), &["{\"n\":1.0}", "{\"n\":{ \"a\": null }}"], Some("[1.0,{\"a\":null}]")),
        (json!({"remove": "/n"}), &["{\"n\":1}"], Some("[]")),
        (json!("remove"), &["{}"], None),
        (json!({"set": "/n"}), &["{\"n\":1}", "{\"n\":null}"], Some("null")),
        (json!({"set": "/n", "optional": true}), &["{\"n\":1}", "{}"], Some("1")),
        (json!({"set": "/n", "optional": true}), &["{\"n\":1}", "{\"n\":null}"], Some("null")),
        (json!({"add": "/n", "optional": true}), &["{\"n\":1}", "{\"n\":null}", "{}"], Some("1")),
        (json!({"append": "/n", "elements_max": 1}), &["{\"n\":1}", "{\"n\":2}"], Some("[2]")),
    ];
    for (operation, payloads, expected) in cases {
        let mut model = field(operation.clone());
        payloads.iter().for_each(|payload| tell(&mut model, payload).unwrap());
        assert_eq!(now(&model).as_deref(), expected, "{operation}");
    }
    let mut model = model(json!({
        "Opened": {"key": "/user", "fields": {"open": {"append": "/id"}, "last": {"set": "/id"}}},
        "Ended": {"key": "/user", "fields": {"open": {"remove": "/id"}, "last": "remove"}},
    }));
    for (event_type, session) in [("Opened", 1), ("Opened", 2), ("Ended", 1)] {
        let payload = json!({"user": 7, "id": session}).to_string().into_bytes();
        model.records("sessions", &format!("s-{session}"), event_type, payload).unwrap();
    }
    assert_eq!(model.row(ROWS, "", "7").unwrap(), json!({"key": "7", "open": [2]}));
    let mut model = field(json!({"append": "/n"}));
    (0..101).for_each(|n| tell(&mut model, &json!({ "n": n }).to_string()).unwrap());
    assert_eq!(model.list(ROWS, "")[0]["field"], (1..101).collect::<Value>());
}

#[test]
fn values_of_the_wrong_kind_park_the_event_and_change_nothing() {
    let cases = [
        (json!({"add": "/n"}), "{\"n\":1}", "{\"n\":\"5\"}", "/n must be a whole number of 64 bits, not \"5\""),
        (json!({"add": "/n"}), "{\"n\":1}", "{\"n\":1.0}", "not 1.0"),
        (json!({"add": "/n"}), "{\"n\":1}", "{\"n\":null}", "not null"),
        (json!({"add": "/n"}), "{\"n\":1}", "{}", "/n is missing"),
        (json!({"add": "/n"}), "{\"n\":1}", "{\"n\":9223372036854775807}", "do not fit into 64 bits"),
        (json!({"subtract": "/n"}), "{\"n\":2}", "{\"n\":9223372036854775807}", "do not fit into 64 bits"),
        (json!({"max": "/n"}), "{\"n\":1}", "{\"n\":\"a\"}", "cannot be compared with 1"),
        (json!({"max": "/n"}), "{\"n\":1}", "{\"n\":[]}", "must be a whole number of 64 bits or a text"),
        (json!({"set": "/n"}), "{\"n\":1}", "{}", "/n is missing"),
        (json!({"set": "/n"}), "{\"n\":1}", "[]", "/n is missing"),
    ];
    for (operation, first, second, reason) in cases {
        let mut model = field(operation);
        tell(&mut model, first).unwrap();
        let before = model.stored.clone();
        let told = tell(&mut model, second).unwrap_err();
        assert!(told.contains(reason) && told.starts_with("view of Told: field \"field\":"), "{told}");
        assert_eq!(model.stored, before);
    }
    let mut mixed = model(json!({
        "A": {"key": "$aggregate_id", "fields": {"f": {"set": "/n"}}},
        "B": {"key": "$aggregate_id", "fields": {"f": "count"}},
        "C": {"key": "$aggregate_id", "fields": {"f": {"append": "/n"}}},
        "D": {"key": "/n", "remove": true},
    }));
    let mut told = |event_type: &str, payload: &str| {
        mixed
            .records("notes", "x", event_type, payload.as_bytes().to_vec())
            .map_or_else(|error| error, |()| String::new())
    };
    assert_eq!(told("A", "{\"n\":\"text\"}"), "");
    assert!(told("B", "{}").contains("it holds \"text\", which is no whole number"));
    assert!(told("C", "{\"n\":1}").contains("it holds \"text\", which is no list"));
    assert!(told("D", "{}").contains("key /n is missing"));
    for value in ["null", "{}", "[1]"] {
        assert!(told("D", &format!("{{\"n\":{value}}}")).contains("key /n must be a text, a number or true or false"));
    }
    assert!(told("D", &format!("{{\"n\":\"{}\"}}", "x".repeat(10))).is_empty());
}

#[test]
fn keys_no_store_could_keep_park_the_event() {
    let mut model = model(json!({"Told": {"key": "/n", "fields": {"times": "count"}}}));
    let told = tell(&mut model, &json!({"n": "x".repeat(1_001)}).to_string()).unwrap_err();
    assert!(told.contains("1000 are allowed"), "{told}");
    tell(&mut model, "{\"n\":true}").unwrap();
    assert_eq!(model.list(ROWS, ""), [json!({"key": "true", "times": 1})]);
}

#[test]
fn every_edit_is_another_version_and_what_means_the_same_is_the_same() {
    let of = |operation: Value| {
        read(json!({"view": {"on": {"Told": {"key": "/k", "fields": {"f": operation}}}}})).unwrap()[0].version()
    };
    let all = [
        of(json!("count")),
        of(json!({"add": "/n"})),
        of(json!({"add": "/m"})),
        of(json!({"subtract": "/n"})),
        of(json!({"add": "/n", "optional": true})),
        of(json!({"append": "/n"})),
        of(json!({"append": "/n", "elements_max": 7})),
    ];
    let mut different = all.to_vec();
    different.sort_unstable();
    different.dedup();
    assert_eq!(different.len(), all.len());
    assert!(all.iter().all(|version| (1..=(1_u64 << 53) - 1).contains(version)));
    assert_eq!(of(json!({"append": "/n"})), of(json!({"append": "/n", "elements_max": 100, "optional": false})));
    // Stored beside the rows: it must not change by itself, or every declared read model is built anew.
    assert_eq!(of(json!("count")), 7180513160937542);
    let declared = read(json!({"view": {"on": {"Told": {"key": "/k", "remove": true}}}})).unwrap();
    assert!(!declared[0].is_version_ordered());
    assert_eq!(declared[0].interest().event_types, [EventType::new("Told").unwrap()]);
}

#[test]
fn mistakes_are_told_with_place_and_nearest_word() {
    let told = |at: &str, error: DeclarationError, parts: &[&str]| {
        assert_eq!(error.place, format!("file:{at}"), "{error}");
        assert!(error.path.starts_with("projections.declarations."), "{error}");
        for part in parts {
            assert!(error.to_string().contains(part), "{error} does not say {part}");
        }
    };
    let rules = |on: Value| read(json!({"view": {"on": on}})).unwrap_err();
    let fields = |fields: Value| rules(json!({"Told": {"key": "/k", "fields": fields}}));
    let operation = |operation: Value| fields(json!({ "f": operation }));

    told("/inventory", read(json!({"inventory": {}})).unwrap_err(), &["there is a projection \"inventory\" already"]);
    for name in ["View", "", "1st", "a-b", &"x".repeat(65)] {
        told(&format!("/{name}"), read(json!({ name: {} })).unwrap_err(), &["lower-case letter"]);
    }
    told("/view", read(json!({"view": null})).unwrap_err(), &["must be a mapping of on; it is empty"]);
    told("/view/onn", read(json!({"view": {"onn": {}}})).unwrap_err(), &["\"onn\"", "did you mean on?"]);
    told("/view/on", rules(json!(["MoneyDeposited"])), &["must be a mapping of event types, not"]);
    for typo in ["MoneyDepositd", "moneyDeposited", "money_deposited", "AccountCreate"] {
        told(
            &format!("/view/on/{typo}"),
            rules(json!({ typo: {} })),
            &["no aggregate has an event type", "did you mean"],
        );
    }
    told("/view/on/A~1\n", rules(json!({"A/\n": {}})), &["no event type"]);

    let told_at = "/view/on/Told";
    told(told_at, rules(json!({"Told": {"remove": true}})), &["key is missing"]);
    told(told_at, rules(json!({"Told": {"key": "/k"}})), &["fields is missing"]);
    told(told_at, rules(json!({"Told": 5})), &["must be a mapping of key, fields, remove, not 5"]);
    told("/view/on/Told/feilds", rules(json!({"Told": {"feilds": {}}})), &["did you mean fields?"]);
    told("/view/on/Told/remove", rules(json!({"Told": {"key": "/k", "remove": false}})), &["must be true"]);
    let both = json!({"Told": {"key": "/k", "remove": true, "fields": {"f": "count"}}});
    told("/view/on/Told/remove", rules(both), &["as a whole"]);
    told("/view/on/Told/fields", fields(json!({})), &["it is empty"]);
    told("/view/on/Told/fields/key", fields(json!({"key": "count"})), &["choose another name"]);

    let key = |key: Value| rules(json!({"Told": {"key": key, "remove": true}}));
    told("/view/on/Told/key", key(json!("owner")), &["did you mean /owner?"]);
    told("/view/on/Told/key", key(json!("/a~2")), &["no JSON pointer"]);
    told("/view/on/Told/key", key(json!("$agregate_id")), &["did you mean $aggregate_id?"]);
    told("/view/on/Told/key", key(json!("$metadata")), &["$metadata"]);
    told("/view/on/Told/key", key(json!(5)), &["must be a JSON pointer into the payload", "not 5"]);

    let f = "/view/on/Told/fields/f";
    told(f, operation(json!("cuont")), &["there is no operation \"cuont\"; did you mean count?"]);
    told(f, operation(json!("add")), &["add needs a value"]);
    told(f, operation(json!(null)), &["the operation is missing"]);
    told(f, operation(json!(7)), &["must be an operation"]);
    told(f, operation(json!({"add": "/a", "set": "/b"})), &["one operation", "add and set"]);
    told(f, operation(json!({"optional": true})), &["the operation is missing"]);
    told(&format!("{f}/ad"), operation(json!({"ad": "/a"})), &["did you mean add?"]);
    told(&format!("{f}/count"), operation(json!({"count": "/a"})), &["takes no value"]);
    told(&format!("{f}/optional"), operation(json!({"add": "/a", "optional": "yes"})), &["true or false"]);
    told(&format!("{f}/set/vlaue"), operation(json!({"set": {"vlaue": 1}})), &["did you mean value?"]);
    told(&format!("{f}/elements_max"), operation(json!({"append": "/a", "elements_max": 0})), &["1 to 1000, not 0"]);
    told(&format!("{f}/elements_max"), operation(json!({"add": "/a", "elements_max": 5})), &["belongs to append"]);
}

#[test]
fn event_types_of_generic_streams_are_no_mistake() {
    for event_type in ["Told", "invoice.sent", "AccountFrozen", "MoneyLent"] {
        read(json!({"view": {"on": {event_type: {"key": "/k", "remove": true}}}})).unwrap();
    }
}
