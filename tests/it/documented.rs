//! What documents and advice name is there: words of the command line with their flags, settings, variables, routes.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use serde_json::Value;

use crate::support::words::expect;

const NAME: &str = env!("CARGO_PKG_NAME");
/// The sections that settings are named by.
const SECTIONS: [&str; 14] = [
    "event_store",
    "auth",
    "integrity",
    "erasure",
    "projections",
    "read_models",
    "cache",
    "commands",
    "queries",
    "aggregates",
    "branches",
    "sagas",
    "http",
    "log",
];
/// Keys under which operators have names of their own.
const OPEN: [&str; 6] = [
    "event_store.aggregates",
    "projections.definitions",
    "projections.declarations",
    "commands.types",
    "queries.types",
    "sagas.definitions",
];

/// What the real program has.
struct Known {
    /// `saga start` and the like, with what its page says; the empty one is the program's own.
    pages: Vec<(String, String)>,
    settings: BTreeSet<String>,
    /// `GET /api/v1/events` and the like.
    routes: BTreeSet<String>,
}

impl Known {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        std::fs::create_dir(path.join("man")).unwrap();
        expect(0, path, &[], &["manual", "man"]);
        let pages = std::fs::read_dir(path.join("man")).unwrap().map(|entry| {
            let file = entry.unwrap();
            let name = file.file_name().into_string().unwrap();
            let word = name.trim_end_matches(".1").trim_start_matches(NAME).trim_start_matches('-').replace('-', " ");
            (word, std::fs::read_to_string(file.path()).unwrap().replace("\\-", "-"))
        });
        let shown = expect(0, path, &[], &["config", "show", "--format", "json"]).json();
        let keys = shown["items"].as_array().unwrap().iter().map(|item| item["key"].as_str().unwrap().to_owned());
        let document = expect(0, path, &[], &["openapi"]).json();
        let paths = document["paths"].as_object().unwrap().iter();
        let routes = paths.flat_map(|(path, methods)| {
            let path: String = Value::as_object(methods)
                .unwrap()
                .keys()
                .map(|method| method.to_uppercase() + " " + path + "\n")
                .collect();
            path.lines().map(str::to_owned).collect::<Vec<_>>()
        });
        Self { pages: pages.collect(), settings: keys.collect(), routes: routes.collect() }
    }

    fn page(&self, word: &str) -> Option<&str> {
        self.pages.iter().find(|(known, _)| known == word).map(|(_, text)| text.as_str())
    }

    /// What is wrong with a command line, if it is one.
    fn wrong_with_line(&self, line: &str) -> Option<String> {
        let end = |part: &&str| ["|", ">", "#", "&&", "&", "…"].contains(part);
        let parts: Vec<&str> = line.split_whitespace().take_while(|part| !end(part)).collect();
        let is_variable = |part: &str| part.split_once('=').is_some_and(|(name, _)| name == name.to_uppercase());
        let parts = parts.into_iter().skip_while(|part| is_variable(part) || *part == NAME);
        let (mut word, mut flags) = (String::new(), Vec::new());
        let mut is_named = false;
        for part in parts {
            if let Some(flag) = part.strip_prefix("--") {
                flags.push(flag.split(['=', ')', ',']).next().unwrap_or_default());
            } else if !is_named {
                let longer = format!("{word} {part}").trim().to_owned();
                let is_group = self.pages.iter().any(|(known, _)| known.starts_with(&format!("{word} ")));
                match self.page(&longer) {
                    Some(_) => word = longer,
                    // Values of global flags may stand before the word.
                    None if word.is_empty() => {}
                    None if is_group => return Some(format!("there is no `{longer}`")),
                    None => is_named = true,
                }
            }
        }
        let page = self.page(&word).filter(|_| !word.is_empty())?;
        let root = self.page("").unwrap_or_default();
        let has = |flag: &str| [page, root].iter().any(|text| text.contains(&format!("--{flag}")));
        flags.into_iter().find(|flag| !has(flag)).map(|flag| format!("`{word}` has no --{flag}"))
    }

    fn wrong_with_setting(&self, name: &str) -> Option<String> {
        let section = name.split('.').next().unwrap_or_default();
        let is_key = |name: &str| name.bytes().all(|byte| byte.is_ascii_lowercase() || b"_.".contains(&byte));
        if !name.contains('.') || !SECTIONS.contains(&section) || !is_key(name) || name.ends_with(".yaml") {
            return None;
        }
        let is_known = self.settings.iter().any(|known| known == name || known.starts_with(&format!("{name}.")));
        let is_open = OPEN.iter().any(|open| name.starts_with(open));
        if is_known || is_open { None } else { Some(format!("there is no setting {name}")) }
    }

    fn wrong_with_variable(&self, name: &str) -> Option<String> {
        let name = name.split(['=', ' ']).next().unwrap_or_default();
        let key = name.strip_prefix("ES__")?.to_lowercase().replace("__", ".");
        // `ES__SECTION__KEY` tells the form.
        if key.starts_with("section.") { None } else { self.wrong_with_setting(&key) }
    }

    /// A method and a path, whose values may stand for parameters.
    fn wrong_with_route(&self, text: &str) -> Option<String> {
        let (method, path) = text.split_once(' ')?;
        if !["GET", "POST", "PUT", "DELETE"].contains(&method)
            || !path.starts_with('/')
            || path.contains(['…', ' ', '['])
        {
            return None;
        }
        let path = path.split('?').next().unwrap_or_default();
        let asked: Vec<&str> = path.split('/').collect();
        let fits = |route: &String| {
            let Some((known_method, known)) = route.split_once(' ') else { return false };
            let known: Vec<&str> = known.split('/').collect();
            let same = |(known, asked): (&&str, &&str)| known == asked || known.starts_with('{');
            known_method == method && known.len() == asked.len() && known.iter().zip(&asked).all(same)
        };
        if self.routes.iter().any(fits) { None } else { Some(format!("there is no {method} {path}")) }
    }

    /// What is wrong with a piece of text that is set as code.
    fn wrong_with(&self, text: &str) -> Option<String> {
        let first = text.split_whitespace().next().unwrap_or_default();
        let is_line = first == NAME || (text.contains(' ') && self.page(first).is_some() && !first.is_empty());
        // `create|list|show` tells several at once, and `{}` is filled in.
        let is_line = is_line && !text.contains('|');
        let line = if is_line { self.wrong_with_line(text) } else { None };
        line.or_else(|| self.wrong_with_setting(text))
            .or_else(|| self.wrong_with_variable(text))
            .or_else(|| self.wrong_with_route(text))
    }

    fn wrong_in(&self, text: &str) -> Vec<String> {
        let (blocks, rest) = blocks(text);
        let lines = blocks.iter().flat_map(|block| block.lines()).filter_map(|line| {
            let is_ours = line.contains(&format!("{NAME} "))
                && ["docker", "kubectl", "cargo", "git"].iter().all(|other| !line.trim().starts_with(other));
            if is_ours { self.wrong_with_line(&line[line.find(NAME)?..]) } else { None }
        });
        lines.chain(spans(&rest).filter_map(|span| self.wrong_with(span))).collect()
    }
}

/// The blocks of code for a shell, with continued lines joined, and everything outside of blocks.
fn blocks(text: &str) -> (Vec<String>, String) {
    let (mut blocks, mut rest, mut inside) = (Vec::new(), String::new(), None);
    for line in text.lines() {
        match (line.trim_start().strip_prefix("```"), &mut inside) {
            (Some(_), Some(_)) => {
                blocks.extend(inside.take().filter(|(is_shell, _)| *is_shell).map(|(_, block): (bool, String)| block))
            }
            (Some(language), None) => inside = Some((["sh", "bash"].contains(&language), String::new())),
            (None, Some((_, block))) => {
                block.push_str(&line.strip_suffix('\\').map_or_else(|| format!("{line}\n"), str::to_owned))
            }
            (None, None) => rest.push_str(&format!("{line}\n")),
        }
    }
    (blocks, rest)
}

/// What stands between back ticks within a line.
fn spans(text: &str) -> impl Iterator<Item = &str> {
    text.lines().flat_map(|line| line.split('`').skip(1).step_by(2))
}

fn files(below: &str, ending: &str) -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut found, mut folders) = (Vec::new(), vec![root.join(below)]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.to_string_lossy().ends_with(ending) {
                found.push((path.clone(), std::fs::read_to_string(&path).unwrap()));
            }
        }
    }
    assert!(!found.is_empty(), "no {ending} below {below}");
    found
}

#[test]
fn words_settings_and_routes_that_documents_name_are_there() {
    let known = Known::new();
    let mut documents = files("docs", ".md");
    for readme in ["README.md", "README.ja.md"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(readme);
        documents.push((path.clone(), std::fs::read_to_string(path).unwrap()));
    }
    for (path, text) in documents {
        assert_eq!(known.wrong_in(&text), [""; 0], "{}", path.display());
    }
}

#[test]
fn words_that_the_program_advises_are_there() {
    let known = Known::new();
    for (path, text) in files("src", ".rs").into_iter().chain(files("actors/src", ".rs")) {
        let said: String =
            text.lines().filter(|line| !line.trim_start().starts_with("//")).map(|line| format!("{line}\n")).collect();
        let wrong: Vec<_> =
            spans(&said).filter(|span| span.contains(' ')).filter_map(|span| known.wrong_with(span)).collect();
        assert_eq!(wrong, [""; 0], "{}", path.display());
    }
}

#[test]
fn what_is_not_there_is_noticed() {
    let known = Known::new();
    for (text, said) in [
        ("try `projection parked NAME`", Some("there is no `projection parked NAME`")),
        ("try `projection parked list NAME`", None),
        (
            "```sh\nES_TOKEN=x event-sourcing-cqrs --database-url a saga \\\n  start T --dta '{}' | cat\n```",
            Some("`saga start` has no --dta"),
        ),
        ("```json\nevent-sourcing-cqrs nothing --dta\n```", None),
        ("set `http.drain_s`", Some("there is no setting http.drain_s")),
        ("set `http.drain_ms` in `http.rate_limit`", None),
        ("set `ES__HTTP__DRAIN=1`", Some("there is no setting http.drain")),
        ("`GET /api/v1/event`", Some("there is no GET /api/v1/event")),
        ("`GET /api/v1/events/a?x=1` and `POST /api/v1/sagas/{id}/retry`", None),
        ("`DELETE /api/v1/sagas/{id}`", Some("there is no DELETE /api/v1/sagas/{id}")),
    ] {
        assert_eq!(known.wrong_in(text), said.into_iter().collect::<Vec<_>>(), "{text}");
    }
}
