//! The key or token that words send to a server: never shown, and best kept out of the command line, which every process
//! of the machine can read.

use std::{fmt, str::FromStr};

/// A key or token.
#[derive(Clone)]
pub(crate) struct Secret(String);

impl Secret {
    /// The text, for the header.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(***)")
    }
}

impl FromStr for Secret {
    type Err = String;

    /// The text itself, or `@file`. What is wrong is told without the text.
    fn from_str(text: &str) -> Result<Self, String> {
        let text = match text.strip_prefix('@') {
            Some(path) => std::fs::read_to_string(path).map_err(|error| format!("{path} cannot be read: {error}"))?,
            None => text.to_owned(),
        };
        let text = text.trim();
        let is_sendable = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        if is_sendable {
            Ok(Self(text.to_owned()))
        } else {
            Err("a key or token is visible ASCII without blanks".to_owned())
        }
    }
}
