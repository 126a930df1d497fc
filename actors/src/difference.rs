//! What distinguishes two JSON documents: the paths that changed, as JSON pointers (RFC 6901).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::codec::escaped;

/// One path whose value differs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Change {
    /// A JSON pointer; empty for the whole document.
    pub path: String,
    /// The value before; absent when the path is new, so that it can be told from `null`.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    pub from: Option<Value>,
    /// The value after; absent when the path is gone.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    pub to: Option<Value>,
}

/// A member that is there is a value, also when it is `null`.
fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

/// The changes that lead from one document to another, in order of path: the innermost values that differ. Members of
/// objects are compared by name, elements of arrays by place.
#[must_use]
pub fn changes(from: &Value, to: &Value) -> Vec<Change> {
    let mut found = Vec::new();
    compare(String::new(), Some(from), Some(to), &mut found);
    found
}

fn compare(path: String, from: Option<&Value>, to: Option<&Value>, found: &mut Vec<Change>) {
    match (from, to) {
        (Some(from), Some(to)) if from == to => {}
        (Some(Value::Object(before)), Some(Value::Object(after))) => {
            let added = after.keys().filter(|name| !before.contains_key(*name));
            let mut names: Vec<&String> = before.keys().chain(added).collect();
            names.sort_unstable();
            for name in names {
                compare(format!("{path}/{}", escaped(name)), before.get(name), after.get(name), found);
            }
        }
        (Some(Value::Array(before)), Some(Value::Array(after))) => {
            for index in 0..before.len().max(after.len()) {
                compare(format!("{path}/{index}"), before.get(index), after.get(index), found);
            }
        }
        (from, to) => found.push(Change { path, from: from.cloned(), to: to.cloned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn told(from: &Value, to: &Value) -> Value {
        json!(changes(from, to))
    }

    #[test]
    fn equal_documents_have_no_changes() {
        assert_eq!(told(&json!({ "a": [1, { "b": null }] }), &json!({ "a": [1, { "b": null }] })), json!([]));
    }

    #[test]
    fn innermost_values_are_named() {
        let from = json!({ "balance": 1, "owner": { "name": "A", "a/b~c": 1 }, "items": [1, 2, 3], "gone": null });
        let to = json!({ "balance": 2, "owner": { "name": "A", "a/b~c": 2 }, "items": [1, 5], "new": null });
        assert_eq!(
            told(&from, &to),
            json!([
                { "path": "/balance", "from": 1, "to": 2 },
                { "path": "/gone", "from": null },
                { "path": "/items/1", "from": 2, "to": 5 },
                { "path": "/items/2", "from": 3 },
                { "path": "/new", "to": null },
                { "path": "/owner/a~1b~0c", "from": 1, "to": 2 },
            ])
        );
    }

    #[test]
    fn values_of_another_kind_are_one_change() {
        assert_eq!(told(&json!(null), &json!({ "a": 1 })), json!([{ "path": "", "from": null, "to": { "a": 1 } }]));
        assert_eq!(told(&json!([1]), &json!({ "0": 1 })), json!([{ "path": "", "from": [1], "to": { "0": 1 } }]));
    }

    #[test]
    fn null_and_absent_survive_the_round_trip() {
        let told = changes(&json!({ "a": null }), &json!({ "b": null }));
        let read: Vec<Change> = serde_json::from_value(json!(told)).unwrap();
        assert_eq!(read, told);
    }
}
