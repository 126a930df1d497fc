//! What the document says of operations alike, held against each of them: which go to branches, and which are counted.

use std::time::Duration;

use event_sourcing_cqrs::{auth::rate::Quota, http::HttpOptions};
use serde_json::{Value, json};

use super::{Judged, Whole, hostile::filled};

const JSON: (&str, &str) = ("content-type", "application/json");
const NO_BRANCH: &str = "01890000-0000-7000-8000-00000000beef";

/// Method, path, the operation, and a body that it takes.
fn all(document: &Value) -> Vec<(String, String, Value, String)> {
    let items = document["paths"].as_object().unwrap().iter();
    let all = items.flat_map(|(path, item)| {
        item.as_object().unwrap().iter().map(move |(method, operation)| {
            let content = &operation["requestBody"]["content"]["application/json"];
            let example = content["examples"].as_object().and_then(|examples| examples.values().next());
            let body = example.map_or(json!({}), |example| example["value"].clone()).to_string();
            let body = if operation["requestBody"].is_null() { String::new() } else { body };
            (method.to_uppercase(), path.clone(), operation.clone(), body)
        })
    });
    all.collect()
}

#[tokio::test]
async fn exactly_the_operations_that_show_a_branch_go_to_one() {
    let whole = Whole::start().await;
    let judged = Judged::new(whole.document().await);
    let mut going = 0;
    for (method, path, operation, body) in all(&judged.document) {
        let shown = operation["parameters"].as_array().into_iter().flatten().any(|shown| shown["name"] == "branch");
        let at = format!("{}?branch={NO_BRANCH}", filled(&path));
        let reply = whole.server.send(&method, &at, &[JSON], body.as_bytes()).await;
        let text = reply.text();
        let goes = reply.status == 404 && text.contains("\"unknown-branch\"") && text.contains(NO_BRANCH);
        assert_eq!(goes, shown, "{method} {path}: {} {text}", reply.status);
        going += usize::from(goes);
        judged.check(&method, &path, &reply);
        // What does not go there must not take the parameter without a word either.
        let is_of_api = path.starts_with("/api/v1/");
        assert!(!is_of_api || reply.status >= 400, "{method} {path} passes a branch over: {} {text}", reply.status);
    }
    assert!(going > 10, "{going}");
}

#[tokio::test]
async fn every_counted_operation_tells_of_its_quota() {
    let quota = Quota { requests: 1, window: Duration::from_secs(86_400) };
    let whole = Whole::with(HttpOptions { quota: Some(quota), ..HttpOptions::default() }).await;
    // It is the one request of the quota.
    let judged = Judged::new(whole.document().await);
    let (mut counted, mut free) = (0, 0);
    for (method, path, operation, body) in all(&judged.document) {
        let reply = whole.server.send(&method, &filled(&path), &[JSON], body.as_bytes()).await;
        let is_told = operation["responses"]["429"].is_object();
        assert_eq!(reply.status == 429, is_told, "{method} {path}: {}", reply.status);
        assert_eq!(reply.header("ratelimit").is_some(), is_told, "{method} {path}");
        judged.check(&method, &path, &reply);
        (counted, free) = (counted + usize::from(is_told), free + usize::from(!is_told));
    }
    assert!(counted > 40 && free > 4, "{counted} counted, {free} free");
}
