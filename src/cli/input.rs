//! What words are given: sizes of pages, and JSON from an argument, a file or standard input.

use std::{io::Read, num::NonZeroU32};

use clap::Args;
use serde_json::value::RawValue;

use super::exit::Failure;

/// Longest JSON: what the HTTP door takes for events.
const DATA_BYTES_MAX: u64 = 4 << 20;

/// JSON from an argument; `@file` reads a file, `-` standard input, nothing is `{}`.
pub(crate) fn data(argument: Option<&str>) -> Result<Box<RawValue>, Failure> {
    let text = match argument {
        None => "{}".to_owned(),
        // Blocking is right: nothing else is going on before the data is there.
        Some("-") => read(std::io::stdin().lock())?,
        Some(text) => match text.strip_prefix('@') {
            Some(path) => {
                let wrong = |error| Failure::usage(format!("--data: {path} cannot be read: {error}"));
                std::fs::File::open(path).and_then(read).map_err(wrong)?
            }
            None => text.to_owned(),
        },
    };
    if text.len() as u64 > DATA_BYTES_MAX {
        return Err(Failure::usage(format!("--data must be at most {DATA_BYTES_MAX} bytes")));
    }
    serde_json::from_str(text.trim()).map_err(|error| Failure::usage(format!("--data is not JSON: {error}")))
}

fn read(from: impl Read) -> std::io::Result<String> {
    let mut text = String::new();
    from.take(DATA_BYTES_MAX + 1).read_to_string(&mut text)?;
    Ok(text)
}

/// A page's length, 1 to 1000.
pub(crate) fn limit(text: &str) -> Result<NonZeroU32, String> {
    let limit = text.parse().ok().filter(|limit: &NonZeroU32| limit.get() <= 1_000);
    limit.ok_or_else(|| format!("must be 1 to 1000, not {text:?}"))
}

/// What recognises a repetition.
#[derive(Debug, Clone, Args)]
pub(crate) struct Key {
    /// The same with the same key has its effect once (for 24 h; a branch: while it is there); a server's callers (--url) have keys of their own
    #[arg(long, value_name = "KEY", value_parser = key)]
    pub(crate) idempotency_key: Option<String>,
}

/// A key as the HTTP door takes it.
fn key(text: &str) -> Result<String, String> {
    let is_fine = (1..=255).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    is_fine.then(|| text.to_owned()).ok_or_else(|| "must be 1 to 255 visible ASCII characters".to_owned())
}
