//! What the console weighs, and that nothing in it could run a payload.

use std::{io::Read, path::Path};

use flate2::read::GzDecoder;

use super::*;

/// What a browser loads on its first visit, in bytes.
const COMPRESSED_BYTES_MAX: usize = 150_000;

fn folder() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/http/console/assets")
}

#[test]
fn whole_console_is_small() {
    let files = CONSOLE.files.iter().map(|(_, file)| file.gzip.len()).sum::<usize>();
    let all = files + CONSOLE.page.gzip.len();
    assert!(all <= COMPRESSED_BYTES_MAX, "the console weighs {all} bytes compressed");
    assert!(all > 10_000, "{all} bytes cannot be all of it");
}

#[test]
fn compressed_files_are_the_files() {
    for (name, file) in &CONSOLE.files {
        let mut plain = Vec::new();
        GzDecoder::new(file.gzip.as_ref()).read_to_end(&mut plain).unwrap();
        assert!(plain == file.plain, "{name}");
        assert_ne!(file.media_type, "application/octet-stream", "{name}");
    }
}

#[test]
fn every_file_of_the_folder_is_embedded() {
    let mut there = Vec::new();
    for kind in std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()) {
        for file in std::fs::read_dir(&kind).unwrap().map(|entry| entry.unwrap().path()) {
            there.push(file.strip_prefix(folder()).unwrap().to_string_lossy().into_owned());
        }
    }
    there.sort();
    let mut embedded: Vec<_> = FILES.iter().map(|(name, _)| (*name).to_owned()).collect();
    embedded.sort();
    assert_eq!(there, embedded);
}

/// Everything that makes code or markup of a text.
const FORBIDDEN: &[&str] = &[
    "innerHTML",
    "outerHTML",
    "insertAdjacentHTML",
    "document.write",
    "DOMParser",
    "createContextualFragment",
    "setHTML",
    "srcdoc",
    "eval(",
    "new Function",
    "setAttribute('style'",
    "javascript:",
    "localStorage.setItem('token'",
];

#[test]
fn no_file_makes_markup_or_code_of_texts() {
    let texts = FILES.iter().map(|(name, content)| (*name, std::str::from_utf8(content).unwrap()));
    for (name, text) in texts.chain([("index.html", PAGE)]) {
        for word in FORBIDDEN {
            assert!(!text.contains(word), "{name} holds {word}");
        }
        assert!(text.lines().count() <= 500, "{name} is too long: split it by responsibility");
        for scheme in ["https://", "http://"] {
            let foreign = text.match_indices(scheme).map(|(at, _)| &text[at..]);
            let names_only = ["http://www.w3.org/2000/svg"];
            let foreign: Vec<_> = foreign.filter(|url| !names_only.iter().any(|name| url.starts_with(name))).collect();
            assert!(foreign.is_empty(), "{name} names another origin: {foreign:.60?}");
        }
    }
    assert!(!PAGE.contains("<script>") && !PAGE.contains("<style") && !PAGE.contains(" style="), "nothing is inline");
}

#[test]
fn codings_are_weighed() {
    let takes = |value: &'static str| {
        takes_gzip(&HeaderMap::from_iter([(header::ACCEPT_ENCODING, HeaderValue::from_static(value))]))
    };
    assert!(takes("gzip") && takes("br, gzip;q=0.5") && takes("GZIP"));
    assert!(!takes("gzip;q=0") && !takes("br") && !takes("gzip;q=x") && !takes_gzip(&HeaderMap::new()));
}
