//! Broken bodies for every operation of the document, made from its own examples: each gets a problem that the document
//! foresees, and none a fault of the server.

use serde_json::{Value, json};

use super::{Judged, Whole};

const JSON: (&str, &str) = ("content-type", "application/json");

/// The path with something in place of its parameters.
pub(super) fn filled(path: &str) -> String {
    let part = |part: &str| match part {
        "{operation_id}" => "01890000-0000-7000-8000-000000000000".to_owned(),
        "{position}" => "1".to_owned(),
        "{code}" => "not-found".to_owned(),
        part if part.starts_with('{') => "none".to_owned(),
        part => part.to_owned(),
    };
    path.split('/').map(part).collect::<Vec<_>>().join("/")
}

/// Name, headers, bytes.
type Sent = (&'static str, Vec<(&'static str, &'static str)>, Vec<u8>);

/// What no route takes as a body.
fn never(bytes_max: usize) -> Vec<Sent> {
    let huge = format!("{{\"a\":\"{}\"}}", "x".repeat(bytes_max)).into_bytes();
    vec![
        ("half", vec![JSON], b"{".to_vec()),
        ("no json", vec![JSON], b"nul".to_vec()),
        ("a list", vec![JSON], b"[]".to_vec()),
        ("a text", vec![JSON], b"\"x\"".to_vec()),
        ("white space", vec![JSON], b" ".to_vec()),
        ("no utf-8", vec![JSON], b"{\"a\":\"\xff\xfe\"}".to_vec()),
        ("half a surrogate", vec![JSON], b"{\"a\":\"\\ud800\"}".to_vec()),
        ("nul", vec![JSON], b"{\"a\":1}\0".to_vec()),
        ("twice", vec![JSON], b"{\"a\":1,\"a\":2}".to_vec()),
        ("deep list", vec![JSON], format!("{{\"a\":{}", "[".repeat(100_000)).into_bytes()),
        ("deep object", vec![JSON], "{\"a\":".repeat(65).into_bytes()),
        ("huge number", vec![JSON], format!("{{\"a\":1{}}}", "0".repeat(10_000)).into_bytes()),
        ("too long", vec![JSON], huge),
        ("plain text", vec![("content-type", "text/plain")], b"{}".to_vec()),
        ("a form", vec![("content-type", "application/x-www-form-urlencoded")], b"a=1".to_vec()),
        ("no type", vec![], b"{}".to_vec()),
        ("other charset", vec![("content-type", "application/json; charset=utf-16")], b"{}".to_vec()),
        ("compressed", vec![JSON, ("content-encoding", "gzip")], b"\x1f\x8b\x08".to_vec()),
    ]
}

/// An example with one thing wrong at its top level, or perhaps not wrong at all.
fn bent(example: &Value) -> Vec<String> {
    let mut all = vec![String::new(), "{}".to_owned()];
    let mut strange = example.clone();
    strange["strange_member"] = json!(1);
    all.push(strange.to_string());
    for name in example.as_object().unwrap().keys() {
        let mut without = example.clone();
        without.as_object_mut().unwrap().remove(name);
        all.push(without.to_string());
        for wrong in [
            json!(null),
            json!(7),
            json!(-1),
            json!(1.5),
            json!(true),
            json!(""),
            json!("\u{0}"),
            json!([]),
            json!({}),
            json!([[[]]]),
        ] {
            let mut bent = example.clone();
            bent[name] = wrong;
            all.push(bent.to_string());
        }
        // Twice, which no tree can hold.
        let text = example.to_string();
        all.push(format!("{},{}:1}}", &text[..text.len() - 1], json!(name)));
    }
    all
}

#[tokio::test]
async fn every_operation_answers_every_broken_body_as_the_document_says() {
    let whole = Whole::start().await;
    let judged = Judged::new(whole.document().await);
    let (mut sent, mut refused) = (0, 0);
    for (path, item) in judged.document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let method = method.to_uppercase();
            let content = &operation["requestBody"]["content"]["application/json"];
            if content.is_null() {
                continue;
            }
            let at = filled(path);
            let bytes_max = if path == "/api/v1/events" { 4 << 20 } else { 1 << 20 };
            for (name, headers, body) in never(bytes_max) {
                let reply = whole.server.send(&method, &at, &headers, &body).await;
                let problem = [400, 413, 415].contains(&reply.status);
                assert!(problem, "{method} {path}, {name}: {} {}", reply.status, reply.text());
                judged.check(&method, path, &reply);
                (sent, refused) = (sent + 1, refused + 1);
            }
            let examples = content["examples"].as_object().into_iter().flat_map(serde_json::Map::values);
            for example in examples.map(|example| example["value"].clone()).chain([json!({})]) {
                for body in bent(&example) {
                    let reply = whole.server.send(&method, &at, &[JSON], body.as_bytes()).await;
                    assert!(reply.status < 500, "{method} {path} {body}: {}", reply.text());
                    judged.check(&method, path, &reply);
                    (sent, refused) = (sent + 1, refused + usize::from(reply.status >= 400));
                }
            }
        }
    }
    assert!(sent > 700 && refused > 500, "{sent} sent, {refused} refused");
}
