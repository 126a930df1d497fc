//! The house rules as tests: which layer may name which, sizes, paired migrations, nothing left for later.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file with this ending below a folder, with its path from the root.
fn files(below: &str, ending: &str) -> Vec<(String, String)> {
    let (mut found, mut folders) = (Vec::new(), vec![root().join(below)]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path: PathBuf = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.to_string_lossy().ends_with(ending) {
                let name = path.strip_prefix(root()).unwrap().to_string_lossy().replace('\\', "/");
                found.push((name, std::fs::read_to_string(&path).unwrap()));
            }
        }
    }
    found.sort();
    assert!(!found.is_empty(), "no {ending} below {below}");
    found
}

/// Lines of code: no comments, no documentation.
fn code(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).filter(|line| !line.starts_with("//"))
}

/// Whether a line names something: the word stands alone or begins a path.
fn names(line: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word)
        .any(|(at, _)| !line[..at].ends_with(is_part) && !line[at + word.len()..].starts_with(is_part))
}

/// What projections, their rows, the queries over them and sagas must not name: they are pure.
const PURE: &[&str] = &[
    "tokio",
    "sqlx",
    "redis",
    "warp",
    "crate::store",
    "crate::http",
    "crate::settings",
    "crate::app",
    "crate::cache",
    "Utc::now",
];

#[test]
fn layers_name_only_what_they_may() {
    // (who, what it must not name)
    let rules: &[(&str, &[&str])] = &[
        ("actors/src", &["sqlx", "warp", "redis", "hyper", "clap"]),
        ("src/domain", &["tokio", "sqlx", "warp", "crate::store", "crate::http", "crate::settings", "Utc::now"]),
        ("src/projections", PURE),
        ("src/queries", PURE),
        ("src/views", PURE),
        ("src/sagas", PURE),
        ("src/store", &["crate::domain", "crate::http", "crate::settings", "crate::app", "warp"]),
        ("src/http", &["crate::store", "crate::app", "crate::settings", "sqlx", "ractor"]),
        ("src/auth", &["sqlx", "redis", "warp", "crate::store", "crate::http", "crate::settings", "crate::app"]),
        ("src/integrity", &["sqlx", "redis", "warp", "crate::store", "crate::http", "crate::settings", "crate::app"]),
        ("src/archive", &["sqlx", "redis", "warp", "crate::store", "crate::http", "crate::settings", "crate::app"]),
        ("src/cli", &["crate::store", "sqlx", "ractor"]),
        ("src/settings", &["crate::store", "crate::http", "crate::app", "crate::domain", "sqlx", "tokio"]),
    ];
    for (layer, forbidden) in rules {
        for (name, text) in files(layer, ".rs") {
            // Test modules may stand on anything.
            if name.ends_with("tests.rs") || name.contains("/tests/") {
                continue;
            }
            for line in code(&text) {
                for word in *forbidden {
                    assert!(!names(line, word), "{name} must not name {word}: {line}");
                }
            }
        }
    }
}

#[test]
fn files_stay_readable() {
    for below in ["src", "actors/src", "tests", "actors/tests", "benches"] {
        for (name, text) in files(below, ".rs") {
            let lines = text.lines().count();
            assert!(lines <= 500, "{name} has {lines} lines: split it by responsibility");
            assert!(text.starts_with("//!") || name.ends_with("main.rs"), "{name} opens with what it owns");
        }
    }
}

#[test]
fn nothing_is_left_for_later() {
    for below in ["src", "actors", "tests", "benches"] {
        for (name, text) in files(below, ".rs") {
            if name == "tests/it/tidy.rs" || name.contains("/target/") {
                continue;
            }
            for word in ["todo!", "unimplemented!", "TODO", "FIXME", "#[ignore", "dbg!"] {
                assert!(!text.contains(word), "{name} holds {word}");
            }
        }
    }
}

#[test]
fn migrations_come_in_pairs() {
    let list = |backend: &str| -> BTreeSet<String> {
        files(&format!("migrations/{backend}"), ".sql")
            .into_iter()
            .map(|(name, _)| name.rsplit('/').next().unwrap().to_owned())
            .collect()
    };
    assert_eq!(list("sqlite"), list("postgres"));
}

#[test]
fn every_file_of_the_map_exists() {
    // Paths in back quotes in the architecture document must be there.
    let text = std::fs::read_to_string(root().join("docs/architecture.md")).unwrap();
    let paths: Vec<&str> = text
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|quoted| quoted.contains('/') && (quoted.ends_with(".rs") || quoted.ends_with(".sql")))
        .collect();
    assert!(paths.len() > 20, "the map names {} files", paths.len());
    for path in paths {
        for one in path.split(", ") {
            assert!(root().join(one).exists(), "docs/architecture.md names {one}, which is not there");
        }
    }
}

#[test]
fn every_document_is_in_the_index() {
    let index = std::fs::read_to_string(root().join("docs/README.md")).unwrap();
    for (name, _) in files("docs", ".md") {
        let linked = name.strip_prefix("docs/").unwrap();
        // A folder with an index of its own counts by that.
        let is_listed = linked.split_once('/').map_or(linked, |(folder, _)| folder);
        assert!(is_listed == "README.md" || index.contains(&format!("]({is_listed}")), "docs/README.md lacks {name}");
    }
}
