//! Parameters of a URL. What is wrong with them is collected, so that an answer names all of it at once.

use std::str::FromStr;

use chrono::{DateTime, Utc};
use event_sourcing_actors::{FieldError, catalog::nearest, codec::escaped};

use super::{
    error::{self, ERRORS_MAX, Problem, hinted},
    request::percent_decoded,
};

/// Entries of a page when the caller names no number.
const LIMIT_DEFAULT: u32 = 100;
/// Entries of a page at most.
const LIMIT_MAX: u32 = 1_000;

/// The parameters, each to be taken under its name before [`Self::finish`].
#[derive(Debug)]
pub(super) struct Query {
    pairs: Vec<(String, String)>,
    known: Vec<&'static str>,
    errors: Vec<FieldError>,
}

impl Query {
    /// Splits and decodes (`application/x-www-form-urlencoded`).
    pub fn parse(raw: &str) -> Self {
        let mut query = Self { pairs: Vec::new(), known: Vec::new(), errors: Vec::new() };
        for pair in raw.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            if query.errors.len() >= ERRORS_MAX {
                break;
            }
            let decode = |text: &str| percent_decoded(&text.replace('+', " ")).map(|text| text.into_owned());
            match (decode(name), decode(value)) {
                (Ok(name), Ok(value)) => query.pairs.push((name, value)),
                (Err(reason), _) | (_, Err(reason)) => query.note("", reason),
            }
        }
        query
    }

    /// Notes a fault of a parameter.
    pub fn note(&mut self, name: &str, detail: impl Into<String>) {
        let pointer = if name.is_empty() { "/query".to_owned() } else { format!("/query/{}", escaped(name)) };
        self.errors.push(FieldError { pointer, detail: detail.into() });
    }

    /// All values of a parameter that may be repeated.
    pub fn all(&mut self, name: &'static str) -> Vec<String> {
        self.known.push(name);
        self.pairs.iter().filter(|(known, _)| known == name).map(|(_, value)| value.clone()).collect()
    }

    /// The value of a parameter.
    pub fn text(&mut self, name: &'static str) -> Option<String> {
        let values = self.all(name);
        if values.len() > 1 {
            self.note(name, "occurs more than once");
        }
        values.into_iter().next()
    }

    /// A value that must be of some type; `expected` says which.
    pub fn parsed<T: FromStr>(&mut self, name: &'static str, expected: &str) -> Option<T> {
        let text = self.text(name)?;
        let value = text.parse().ok();
        if value.is_none() {
            self.note(name, format!("must be {expected}, not {text:?}"));
        }
        value
    }

    /// A place in a stream or in the log. Places that no store can hold read as the last one.
    pub fn place(&mut self, name: &'static str) -> Option<u64> {
        let place: u64 = self.parsed(name, "a whole number from 0 on")?;
        Some(place.min(i64::MAX as u64 - 1))
    }

    /// A claim.
    pub fn flag(&mut self, name: &'static str) -> Option<bool> {
        self.parsed(name, "true or false")
    }

    /// Repeated identifiers.
    pub fn ids<T: FromStr<Err: std::fmt::Display>>(&mut self, name: &'static str) -> Vec<T> {
        let values = self.all(name);
        let parsed: Vec<_> = values.iter().map(|text| text.parse::<T>()).collect();
        parsed.into_iter().filter_map(|id| id.map_err(|error| self.note(name, error.to_string())).ok()).collect()
    }

    /// The size of a page.
    pub fn limit(&mut self) -> std::num::NonZeroU32 {
        let limit = self.parsed("limit", "a whole number from 1 to 1000").unwrap_or(LIMIT_DEFAULT);
        if limit > LIMIT_MAX {
            self.note("limit", format!("must be at most {LIMIT_MAX}, not {limit}"));
        }
        std::num::NonZeroU32::new(limit).unwrap_or_else(|| {
            self.note("limit", "must be at least 1");
            std::num::NonZeroU32::MIN
        })
    }

    /// An instant.
    ///
    /// # Errors
    /// `invalid-time`, at once: the envelope is judged before what it holds.
    pub fn time(&mut self, name: &'static str) -> Result<Option<DateTime<Utc>>, Box<Problem>> {
        let Some(text) = self.text(name) else { return Ok(None) };
        // In a URL the + of an offset reads as a blank unless it was encoded.
        let text = match text.len().checked_sub(6).and_then(|at| text.split_at_checked(at)) {
            Some((instant, offset)) if offset.starts_with(' ') => format!("{instant}+{}", &offset[1..]),
            _ => text,
        };
        instant(&text, format!("/query/{name}")).map(Some)
    }

    /// Whatever is wrong with the parameters, unknown ones included.
    pub fn finish(mut self) -> Result<(), Box<Problem>> {
        let unknown: Vec<String> = self
            .pairs
            .iter()
            .filter(|(name, _)| !self.known.contains(&name.as_str()))
            .map(|(name, _)| name.clone())
            .take(ERRORS_MAX)
            .collect();
        let mut all_near = Vec::new();
        for name in &unknown {
            let near = nearest(name, self.known.iter().copied());
            self.note(name, unknown_parameter(&self.known, &near));
            all_near.extend(near);
        }
        if self.errors.is_empty() {
            return Ok(());
        }
        let problem = Problem::invalid(error::VALIDATION_FAILED, self.errors);
        Err(if unknown.is_empty() { problem } else { problem.with("nearest", all_near) })
    }
}

/// An instant from its text.
///
/// # Errors
/// `invalid-time`, also for a time that does not say of which place it is.
pub(super) fn instant(text: &str, pointer: String) -> Result<DateTime<Utc>, Box<Problem>> {
    DateTime::parse_from_rfc3339(text).map(|time| time.to_utc()).map_err(|_| {
        let detail = format!("must be RFC 3339 with an offset, as in 2024-01-01T00:00:00Z, not {text:?}");
        Problem::at(error::INVALID_TIME, pointer, detail)
    })
}

/// What to do about a parameter that is not known: an event stream takes others than a page of the same route.
fn unknown_parameter(known: &[&str], near: &[String]) -> String {
    match (near, known) {
        ([], []) => "is not a parameter here; there are none".to_owned(),
        ([], known) => format!("is not a parameter here; known are {}", known.join(", ")),
        (near, _) => hinted("is not a parameter here".to_owned(), near),
    }
}
