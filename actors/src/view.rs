//! Rows of read models: how they are named ([`RowKey`]), asked for ([`Selection`]) and told apart when they change
//! ([`Tag`]).
//!
//! A projection's rows lie in *collections*; within a collection, rows of one *group* lie side by side, ordered by the
//! bytes of their *sort*. One row is collection, group and sort; a list is a group. So a list of any length is read page
//! by page, and a counter is a row like any other.

use std::{borrow::Cow, fmt, num::NonZeroU32};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{ports::Direction, version::Position};

/// Longest group, and longest sort, in bytes of UTF-8: both together must fit an index page of every store.
pub const KEY_BYTES_MAX: usize = 1_000;

/// Names one row of a projection.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RowKey {
    /// Kind of row, such as `accounts`.
    pub collection: Cow<'static, str>,
    /// The list it stands in; empty for the collection's one list.
    pub group: Box<str>,
    /// Its place in the list, by bytes.
    pub sort: Box<str>,
}

impl RowKey {
    /// A row's name.
    #[must_use]
    pub fn new(collection: &'static str, group: impl Into<Box<str>>, sort: impl Into<Box<str>>) -> Self {
        Self { collection: Cow::Borrowed(collection), group: group.into(), sort: sort.into() }
    }

    /// Why no store could keep it; `None` if every one can.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        [("group", &self.group), ("sort", &self.sort)].into_iter().find_map(|(name, text)| {
            if text.len() > KEY_BYTES_MAX {
                return Some(format!("the {name} of a row has {} bytes; {KEY_BYTES_MAX} are allowed", text.len()));
            }
            text.contains('\0').then(|| format!("the {name} of a row holds U+0000, which not every database can store"))
        })
    }

    /// What changes with this row: the row itself, and the list it stands in.
    #[must_use]
    pub fn tags(&self) -> [Tag; 2] {
        [Tag::of(&self.collection, &self.group, Some(&self.sort)), Tag::of(&self.collection, &self.group, None)]
    }
}

impl fmt::Display for RowKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.collection, self.group, self.sort)
    }
}

/// A row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Its name.
    pub key: RowKey,
    /// A JSON object, byte for byte as the projection wrote it.
    pub data: Bytes,
}

/// Names a row or a list in 64 bits. Two that share a tag only cost each other a cache miss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Tag(pub u64);

impl Tag {
    fn of(collection: &str, group: &str, sort: Option<&str>) -> Self {
        let mut hash = Sha256::new_with_prefix(if sort.is_some() { b"row" } else { b"lst" });
        for part in [collection, group, sort.unwrap_or_default()] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        let digest: [u8; 32] = hash.finalize().into();
        Self(digest.iter().take(8).fold(0, |number, byte| (number << 8) | u64::from(*byte)))
    }
}

/// What one commit of a projection touched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Touched {
    /// These rows and lists, ascending, each once.
    Tags(Vec<Tag>),
    /// Too many to name, or another generation altogether.
    Everything,
}

impl Touched {
    /// Tags named by one commit before it says [`Touched::Everything`].
    pub const TAGS_MAX: usize = 4_096;

    /// What touching these rows touches.
    #[must_use]
    pub fn rows<'a>(keys: impl Iterator<Item = &'a RowKey>) -> Self {
        let mut tags: Vec<Tag> = keys.flat_map(RowKey::tags).collect();
        tags.sort_unstable();
        tags.dedup();
        if tags.len() > Self::TAGS_MAX { Self::Everything } else { Self::Tags(tags) }
    }

    /// Whether nothing was touched.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        matches!(self, Self::Tags(tags) if tags.is_empty())
    }
}

/// What a query reads: one row, or part of one list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// One row.
    Row(RowKey),
    /// Part of a list.
    List(ListRange),
}

/// Part of a list, in order of sort.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListRange {
    /// The collection.
    pub collection: Cow<'static, str>,
    /// The list.
    pub group: Box<str>,
    /// The least sort, inclusive.
    pub from: Option<Box<str>>,
    /// The greatest sort, inclusive.
    pub to: Option<Box<str>>,
    /// The last sort of the page before; in the direction of reading this page begins after it.
    pub after: Option<Box<str>>,
    /// Which end first.
    pub direction: Direction,
    /// At most so many rows.
    pub limit: NonZeroU32,
}

impl ListRange {
    /// The first hundred rows of a list, in order.
    #[must_use]
    pub fn new(collection: &'static str, group: impl Into<Box<str>>) -> Self {
        Self {
            collection: Cow::Borrowed(collection),
            group: group.into(),
            from: None,
            to: None,
            after: None,
            direction: Direction::Forward,
            limit: NonZeroU32::MIN.saturating_add(99),
        }
    }

    /// Whether a sort lies in it.
    #[must_use]
    pub fn contains(&self, sort: &str) -> bool {
        let after = self.after.as_deref().is_none_or(|after| match self.direction {
            Direction::Forward => sort > after,
            Direction::Backward => sort < after,
        });
        after && self.from.as_deref().is_none_or(|from| sort >= from) && self.to.as_deref().is_none_or(|to| sort <= to)
    }
}

impl Selection {
    /// What has to change for the answer to change.
    #[must_use]
    pub fn tag(&self) -> Tag {
        match self {
            Self::Row(key) => Tag::of(&key.collection, &key.group, Some(&key.sort)),
            Self::List(list) => Tag::of(&list.collection, &list.group, None),
        }
    }
}

/// A number as a sort: 20 digits, so that the order of bytes is the order of numbers.
#[must_use]
pub fn sort_of_number(number: u64) -> String {
    format!("{number:020}")
}

/// An instant and the position of its event as a sort; events of one instant stay apart.
#[must_use]
pub fn sort_of_instant(at: DateTime<Utc>, position: Position) -> String {
    format!("{}-{}", instant_prefix(at), sort_of_number(position.0))
}

/// What every sort of this instant begins with, for bounds: `prefix` is the least, `prefix~` is above all of them.
#[must_use]
pub fn instant_prefix(at: DateTime<Utc>) -> String {
    // Before 1970 nothing was recorded; i64 microseconds reach beyond the year 200,000.
    sort_of_number(u64::try_from(at.timestamp_micros()).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_and_its_list_have_different_tags_and_queries_meet_them() {
        let key = RowKey::new("transactions", "acc-1", sort_of_number(7));
        let [row, list] = key.tags();
        assert_ne!(row, list);
        assert_eq!(Selection::Row(key).tag(), row);
        assert_eq!(Selection::List(ListRange::new("transactions", "acc-1")).tag(), list);
        assert_ne!(Selection::List(ListRange::new("transactions", "acc-2")).tag(), list);
        // Not the same text cut at another place.
        assert_ne!(RowKey::new("a", "bc", "d").tags(), RowKey::new("a", "b", "cd").tags());
    }

    #[test]
    fn ranges_keep_their_bounds_in_both_directions() {
        let range = ListRange { from: Some("b".into()), to: Some("d".into()), ..ListRange::new("c", "") };
        let within = |range: &ListRange| ["a", "b", "c", "d", "e"].iter().filter(|sort| range.contains(sort)).count();
        assert_eq!(within(&range), 3);
        assert_eq!(within(&ListRange { after: Some("b".into()), ..range.clone() }), 2);
        let backward = ListRange { after: Some("c".into()), direction: Direction::Backward, ..range };
        assert_eq!(within(&backward), 1);
    }

    #[test]
    fn sorts_follow_numbers_and_instants() {
        assert!(sort_of_number(9) < sort_of_number(10));
        let (early, late) = (DateTime::from_timestamp(1, 0).unwrap(), DateTime::from_timestamp(2, 0).unwrap());
        assert!(sort_of_instant(early, Position(9)) < sort_of_instant(early, Position(10)));
        assert!(sort_of_instant(early, Position(u64::MAX)) < instant_prefix(late));
        assert!(sort_of_instant(late, Position(u64::MAX)) < instant_prefix(late) + "~");
    }

    #[test]
    fn keys_that_a_database_could_not_keep_are_told() {
        assert_eq!(RowKey::new("c", "g", "s").problem(), None);
        assert!(RowKey::new("c", "g", "\0").problem().is_some());
        assert!(RowKey::new("c", "g".repeat(KEY_BYTES_MAX + 1), "s").problem().is_some());
    }
}
