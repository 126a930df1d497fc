//! The commands of the README and of docs/concepts.md, http.md and migration.md, run as they stand there, answer what stands
//! there; and the README says the same in each language.
//!
//! In the answers `…` stands for anything: a value, the rest of a list, or any part of a text.

use std::process::Command;

use serde_json::Value;

use crate::support::server::Server;

const README: &str = include_str!("../../README.md");
const JAPANESE: &str = include_str!("../../README.ja.md");
const CONCEPTS: &str = include_str!("../../docs/concepts.md");
const HTTP: &str = include_str!("../../docs/http.md");
const MIGRATION: &str = include_str!("../../docs/migration.md");
const ANYTHING: &str = "…";

/// Each command with the answer that follows it.
fn examples(text: &str) -> Vec<(String, String)> {
    let mut blocks = Vec::new();
    let mut lines = text.lines();
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
    let differs = || Some(format!("{path}: written is {template}, the server answers {answer}"));
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

/// Runs each command of a text on one new server, and compares its answer.
fn assert_answers(text: &str, at_least: usize) {
    if Command::new("curl").arg("--version").output().is_err() {
        eprintln!("SKIPPED: no curl, which the commands are written for");
        return;
    }
    let examples = examples(text);
    assert!(examples.len() >= at_least, "only {} examples were found", examples.len());
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
fn readme_answers_are_what_the_server_answers() {
    assert_answers(README, 7);
}

#[test]
fn answers_of_the_concepts_are_what_the_server_answers() {
    assert_answers(CONCEPTS, 7);
}

#[test]
fn answers_of_the_http_guide_are_what_the_server_answers() {
    assert_answers(HTTP, 8);
}

#[test]
fn answers_to_events_from_elsewhere_are_what_the_server_answers() {
    assert_answers(MIGRATION, 2);
}

/// What a text has in every language: headings by depth and blocks of code in order, links and numbers in any order.
#[derive(Debug, Default, PartialEq)]
struct Bones {
    headings: Vec<usize>,
    blocks: Vec<String>,
    links: Vec<String>,
    numbers: Vec<String>,
}

fn bones(text: &str) -> Bones {
    let mut bones = Bones::default();
    let mut block: Option<String> = None;
    for line in text.lines() {
        if line.starts_with("```") {
            match block.take() {
                None => block = Some(line.to_owned()),
                Some(done) => bones.blocks.push(done),
            }
        } else if let Some(block) = &mut block {
            block.push('\n');
            block.push_str(line);
        } else {
            if line.starts_with('#') {
                bones.headings.push(line.len() - line.trim_start_matches('#').len());
            }
            bones.links.extend(links(line));
            bones.numbers.extend(numbers(line));
        }
    }
    assert_eq!(block, None, "a block of code has no end");
    bones.links.sort();
    bones.numbers.sort();
    bones
}

/// Where a line leads: `](target)` and `<https://…>`, but for the way to the other language.
fn links(line: &str) -> impl Iterator<Item = String> {
    let written = enclosed(line, "](", ')').chain(enclosed(line, "<http", '>'));
    written.filter(|target| !target.starts_with("README.")).map(str::to_owned)
}

/// What stands between an opening and the closing next to it.
fn enclosed<'a>(line: &'a str, opening: &'static str, closing: char) -> impl Iterator<Item = &'a str> {
    line.split(opening).skip(1).filter_map(move |rest| Some(rest.split_once(closing)?.0))
}

/// The numbers of a line: figures are told in every language alike.
fn numbers(line: &str) -> impl Iterator<Item = String> {
    let parts = line.split(|c: char| !c.is_ascii_digit() && c != '.' && c != ',');
    let trimmed = parts.map(|part| part.trim_matches(['.', ',']));
    trimmed.filter(|part| !part.is_empty()).map(str::to_owned)
}

#[test]
fn the_readme_says_the_same_in_each_language() {
    let (english, japanese) = (bones(README), bones(JAPANESE));
    assert!(english.headings.len() >= 6 && english.blocks.len() >= 15 && english.links.len() >= 20, "{english:?}");
    assert_eq!(english.headings, japanese.headings, "headings");
    for (number, (one, other)) in english.blocks.iter().zip(&japanese.blocks).enumerate() {
        assert_eq!(one, other, "block {number}");
    }
    assert_eq!(english.blocks.len(), japanese.blocks.len(), "blocks of code");
    assert_eq!(english.links, japanese.links, "links");
    assert_eq!(english.numbers, japanese.numbers, "numbers outside of code");
}

#[test]
fn readmes_that_differ_are_noticed() {
    let text = "# A\n\nSee [b](b.md) and <http://c>: 1,024.\n\n```sh\nd\n```\n";
    assert_eq!(bones(text), bones("# え\n\n<http://c> と [び](b.md)、1,024。[あ](README.md)\n\n```sh\nd\n```\n"));
    for other in [text.replace("# A", "## A"), text.replace("b.md", "x.md"), text.replace("//c", "//x")] {
        assert_ne!(bones(text), bones(&other), "{other}");
    }
    for other in [text.replace("1,024", "1,023"), text.replace("\nd\n", "\nx\n"), text.replace("```sh", "```bash")] {
        assert_ne!(bones(text), bones(&other), "{other}");
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
