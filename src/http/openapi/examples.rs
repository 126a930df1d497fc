//! Examples of bodies: the calls of the specification, and one for each other kind of body. An example whose type is not
//! registered is left out.

use serde_json::{Map, Value, json};

use super::Registered;

/// The examples of an operation, by name.
pub(super) fn of(operation: &str, registered: Registered<'_>) -> Map<String, Value> {
    let known = |body: &Value| match operation {
        "sendCommand" => {
            body["command_type"].as_str().is_some_and(|name| registered.catalog.known_command(name).is_some())
        }
        "ask" => body["query_type"].as_str().is_some_and(|name| registered.queries.of_name(name).next().is_some()),
        "startSaga" => {
            body["saga_type"].as_str().is_some_and(|name| registered.sagas.names().any(|known| known == name))
        }
        _ => true,
    };
    let examples = all(operation).into_iter().filter(|(_, _, body)| known(body));
    examples.map(|(name, summary, body)| (name.to_owned(), json!({ "summary": summary, "value": body }))).collect()
}

fn all(operation: &str) -> Vec<(&'static str, &'static str, Value)> {
    match operation {
        "sendCommand" => vec![
            (
                "createAccount",
                "Create account",
                json!({
                    "command_type": "CreateAccount", "aggregate_id": "acc-123",
                    "data": { "account_id": "acc-123", "owner": "John Doe", "initial_balance": 1000 },
                }),
            ),
            (
                "depositMoney",
                "Deposit money",
                json!({
                    "command_type": "DepositMoney", "aggregate_id": "acc-123",
                    "data": { "account_id": "acc-123", "amount": 500 },
                }),
            ),
        ],
        "ask" => vec![(
            "accountBalance",
            "Query account balance",
            json!({
                "query_type": "GetAccountBalance", "filters": { "account_id": "acc-123" }, "projection": "account_balance",
            }),
        )],
        "appendEvents" => vec![
            (
                "one",
                "One event of a stream without an aggregate",
                json!({
                    "aggregate_id": "sensor-7", "aggregate_type": "sensor", "event_type": "TemperatureMeasured",
                    "data": { "celsius": 21.5 },
                }),
            ),
            (
                "several",
                "Several events, all or none",
                json!({
                    "aggregate_id": "sensor-7", "aggregate_type": "sensor",
                    "events": [
                        { "event_type": "TemperatureMeasured", "data": { "celsius": 21.7 } },
                        { "event_type": "BatteryLow", "data": { "percent": 4 } },
                    ],
                }),
            ),
        ],
        "setLogLevel" => vec![("debug", "Say more", json!({ "level": "debug" }))],
        _ => of_time_and_sagas(operation),
    }
}

fn of_time_and_sagas(operation: &str) -> Vec<(&'static str, &'static str, Value)> {
    match operation {
        "replay" => vec![(
            "replay",
            "Replay events",
            json!({
                "aggregate_id": "acc-123", "from_sequence": 0, "use_snapshot": true,
            }),
        )],
        "temporalQuery" => vec![
            (
                "between",
                "What happened in a month",
                json!({
                    "aggregate_id": "acc-123", "from_time": "2024-01-01T00:00:00Z", "to_time": "2024-01-31T23:59:59Z",
                }),
            ),
            ("at", "The state at an instant", json!({ "aggregate_id": "acc-123", "at": "2024-01-31T23:59:59Z" })),
        ],
        "startSaga" => vec![
            (
                "transfer",
                "Transfer money",
                json!({
                    "saga_type": "TransferSaga", "data": { "from_account": "acc-123", "to_account": "acc-456", "amount": 200 },
                }),
            ),
            (
                "fulfil",
                "Fulfil an order",
                json!({
                    "saga_type": "OrderFulfillmentSaga", "data": { "order_id": "order-1", "account_id": "acc-123" },
                }),
            ),
        ],
        _ => Vec::new(),
    }
}
