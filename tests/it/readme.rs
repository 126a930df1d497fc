//! The commands of the README and of docs/http.md, run as they stand there, answer what stands there.
//!
//! In its answers `…` stands for anything: a value, the rest of a list, or any part of a text.

use std::process::Command;

use serde_json::Value;

use crate::support::server::Server;

const README: &str = include_str!("../../README.md");
const HTTP: &str = include_str!("../../docs/http.md");
const ANYTHING: &str = "…";

/// Each command with the answer that follows it.
fn examples(document: &str) -> Vec<(String, String)> {
    let mut blocks = Vec::new();
    let mut lines = document.lines();
    while let Some(line) = lines.next() {
        if let Some(language) = line.strip_prefix("```").filter(|language| !language.is_empty()) {
            let block: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
            blocks.push((language, block.join("\n")));
        }
    }
    let pairs = blocks.windows(2).filter(|pair| pair[0].0 == "bash" && pair[1].0 == "json");
    pairs.map(|pair| (pair[0].1.clone(), pair[1].1.clone())).collect()
}

/// A `…` outside of a text is no JSON: it becomes a text.
fn parsed(template: &str) -> Value {
    let (mut json, mut is_in_text) = (String::new(), false);
    for character in template.chars() {
        is_in_text ^= character == '"';
        match character {
            '…' if !is_in_text => json.push_str("\"…\""),
            other => json.push(other),
        }
    }
    serde_json::from_str(&json).unwrap_or_else(|error| panic!("{error} in {template}"))
}

/// Where an answer differs from its template.
fn difference(path: &str, template: &Value, answer: &Value) -> Option<String> {
    let differs = || Some(format!("{path}: the document has {template}, the server answers {answer}"));
    match (template, answer) {
        (Value::String(any), _) if any == ANYTHING => None,
        (Value::String(pattern), Value::String(text)) if pattern.contains(ANYTHING) => {
            let (start, end) = pattern.split_once(ANYTHING)?;
            if text.starts_with(start) && text.ends_with(end) { None } else { differs() }
        }
        (Value::Object(wanted), Value::Object(members)) => {
            if !wanted.keys().eq(members.keys()) {
                return differs();
            }
            wanted.iter().find_map(|(name, value)| difference(&format!("{path}/{name}"), value, &members[name]))
        }
        (Value::Array(wanted), Value::Array(items)) => {
            let is_open = wanted.last().is_some_and(|last| last == ANYTHING);
            let count = wanted.len() - usize::from(is_open);
            if items.len() < count || (!is_open && items.len() > count) {
                return differs();
            }
            let mut pairs = wanted[..count].iter().zip(items).enumerate();
            pairs.find_map(|(index, (value, item))| difference(&format!("{path}/{index}"), value, item))
        }
        _ if template == answer => None,
        _ => differs(),
    }
}

#[test]
fn readme_answers_are_what_the_server_answers() {
    answers(README, 4);
}

#[test]
fn answers_of_the_http_guide_are_what_the_server_answers() {
    answers(HTTP, 8);
}

fn answers(document: &str, least: usize) {
    if Command::new("curl").arg("--version").output().is_err() {
        eprintln!("SKIPPED: no curl, which the commands are written for");
        return;
    }
    let examples = examples(document);
    assert!(examples.len() >= least, "the examples were not found");
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &[]);
    for (command, answer) in examples {
        let address = format!("127.0.0.1:{}", server.port);
        let command = command.replace("localhost:8000", &address).replace("curl ", "curl --silent --show-error ");
        let output = Command::new("bash").args(["-c", &command]).current_dir(folder.path()).output().unwrap();
        assert!(output.status.success(), "{command}: {output:?}");
        let given: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{command}: {output:?}"));
        if let Some(difference) = difference("", &parsed(&answer), &given) {
            panic!("{command}\n{difference}");
        }
    }
}

#[test]
fn answers_that_differ_are_noticed() {
    let differs = |template: &str, answer: &str| {
        difference("", &parsed(template), &serde_json::from_str(answer).unwrap()).is_some()
    };
    assert!(!differs(r#"{"a":"…","b":[1,…],"c":…,"d":"x…Z"}"#, r#"{"a":1,"b":[1,2,3],"c":{},"d":"x12Z"}"#));
    assert!(differs(r#"{"a":1}"#, r#"{"a":2}"#));
    assert!(differs(r#"{"a":1}"#, r#"{"a":1,"b":2}"#));
    assert!(differs(r#"{"a":1,"b":"…"}"#, r#"{"a":1}"#));
    assert!(differs("[1]", "[1,2]"));
    assert!(differs("[1,…]", "[]"));
    assert!(differs(r#""x…Z""#, r#""xZY""#));
}
