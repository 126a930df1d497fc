//! What filters have in common: pages, days and instants.

use std::fmt;

use chrono::{DateTime, NaiveDate, SubsecRound, TimeDelta, Utc};
use event_sourcing_actors::{
    FieldError,
    ports::Direction,
    query::{PageFilter, QueryPlan},
    view::{KEY_BYTES_MAX, ListRange},
};
use serde::{Deserialize, Deserializer, de};

/// A list, and which end of it comes first.
pub(super) struct List {
    pub(super) collection: &'static str,
    pub(super) group: String,
    pub(super) direction: Direction,
}

impl List {
    /// A list in its natural order.
    pub(super) fn new(collection: &'static str, group: impl Into<String>) -> Self {
        Self { collection, group: group.into(), direction: Direction::Forward }
    }

    /// The same list, newest first.
    pub(super) fn newest_first(self) -> Self {
        Self { direction: Direction::Backward, ..self }
    }

    /// One page of it.
    pub(super) fn page(self, limit: Option<u64>, cursor: Option<String>) -> Result<QueryPlan, Vec<FieldError>> {
        self.page_between(limit, cursor, (None, None))
    }

    /// One page of what lies between two sorts, both included.
    pub(super) fn page_between(
        self,
        limit: Option<u64>,
        cursor: Option<String>,
        (from, to): (Option<String>, Option<String>),
    ) -> Result<QueryPlan, Vec<FieldError>> {
        if cursor.as_ref().is_some_and(|cursor| cursor.len() > KEY_BYTES_MAX || cursor.contains('\0')) {
            return Err(vec![fault("/cursor", "must be the next_cursor of the page before")]);
        }
        let range = ListRange {
            from: from.map(Into::into),
            to: to.map(Into::into),
            direction: self.direction,
            ..ListRange::new(self.collection, self.group)
        };
        PageFilter { limit, cursor }.on(range).map(QueryPlan::list)
    }
}

pub(super) fn fault(pointer: &str, detail: impl Into<String>) -> FieldError {
    FieldError { pointer: pointer.to_owned(), detail: detail.into() }
}

/// `from` must not be after `to`.
pub(super) fn in_order<T: PartialOrd>(pointer: &str, from: Option<&T>, to: Option<&T>) -> Result<(), Vec<FieldError>> {
    match (from, to) {
        (Some(from), Some(to)) if from > to => {
            Err(vec![fault(pointer, format!("must not be after {}", pointer.replace("/from", "/to")))])
        }
        _ => Ok(()),
    }
}

/// As much of a wrong text as is repeated to its sender.
fn echo(text: &str) -> &str {
    text.char_indices().nth(40).map_or(text, |(end, _)| &text[..end])
}

/// A day in UTC, `YYYY-MM-DD`.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub(super) struct Day(NaiveDate);

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<'de> Deserialize<'de> for Day {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        // Ten digits and dashes: chrono alone would take 2024-1-2 and years beyond 9999, which sort elsewhere.
        let is_written_out = text.len() == 10 && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
        let day = text.parse().ok().filter(|_| is_written_out);
        day.map(Self).ok_or_else(|| {
            de::Error::custom(format!("must be a day that exists, as YYYY-MM-DD, not {:?}", echo(&text)))
        })
    }
}

/// An instant: RFC 3339 with an offset.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub(super) struct Instant(DateTime<Utc>);

impl Instant {
    /// The first recordable instant, in microseconds, that is not before it.
    pub(super) fn rounded_up(self) -> DateTime<Utc> {
        let whole = self.rounded_down();
        if whole == self.0 { whole } else { whole.checked_add_signed(TimeDelta::microseconds(1)).unwrap_or(whole) }
    }

    /// The last recordable instant, in microseconds, that is not after it.
    pub(super) fn rounded_down(self) -> DateTime<Utc> {
        self.0.trunc_subsecs(6)
    }
}

impl<'de> Deserialize<'de> for Instant {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let instant = DateTime::parse_from_rfc3339(&text).map_err(|_| {
            de::Error::custom(format!(
                "must be RFC 3339 with an offset, such as 2024-01-31T23:59:59Z, not {:?}",
                echo(&text)
            ))
        })?;
        Ok(Self(instant.to_utc()))
    }
}
