//! Where data and talk go: data to standard output in the chosen format, talk to standard error.

use std::io::{self, IsTerminal, Write};

use serde::Serialize;

use super::exit::Failure;

/// How data is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// Short text for people
    #[default]
    Human,
    /// One JSON document, as the HTTP API answers it
    Json,
    /// One JSON document a line; of lists, one line an item
    Ndjson,
}

/// Standard output.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    /// The chosen format.
    pub(crate) format: Format,
}

impl Output {
    /// Writes in this format.
    pub(crate) fn new(format: Format) -> Self {
        Self { format }
    }

    /// Writes one document; people get `human`.
    pub(crate) fn document<T: Serialize>(self, document: &T, human: impl FnOnce() -> String) -> Result<(), Failure> {
        let text = match self.format {
            Format::Human => human(),
            Format::Json => serde_json::to_string_pretty(document).map_err(io::Error::from)?,
            Format::Ndjson => line(document)?,
        };
        self.text(&text)
    }

    /// Writes text as it is, with a line's end.
    pub(crate) fn text(self, text: &str) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        out.write_all(text.trim_end_matches('\n').as_bytes())?;
        out.write_all(b"\n")?;
        Ok(out.flush()?)
    }

    /// Writes text without a line's end; the rest follows.
    pub(crate) fn part(self, text: &str) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        Ok(out.flush()?)
    }

    /// Whether a moving line on standard error makes sense: it is a terminal, and data does not run over it.
    pub(crate) fn may_show_progress(self) -> bool {
        io::stderr().is_terminal() && !io::stdout().is_terminal()
    }
}

/// A document as one line. Stored payloads keep their white space, which may hold ends of lines; outside of text, where
/// JSON has them escaped, a space means the same.
pub(crate) fn line<T: Serialize>(document: &T) -> Result<String, Failure> {
    let line = serde_json::to_string(document).map_err(io::Error::from)?;
    Ok(if line.contains(['\n', '\r']) { line.replace(['\n', '\r'], " ") } else { line })
}

/// Says something on standard error. Nobody listening there is no failure.
pub(crate) fn talk(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::*;

    #[test]
    fn line_has_no_line_end_and_keeps_numbers() {
        let raw = RawValue::from_string("{\"a\":\r\n [1.50,\n9007199254740993]}".to_owned()).unwrap();
        assert_eq!(line(&raw).unwrap(), "{\"a\":   [1.50, 9007199254740993]}");
    }
}
