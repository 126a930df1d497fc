//! Named places at which tests end the process, to see that whoever comes after leads to the same end.
//!
//! `ES_FAILPOINT=saga-answered:3` ends it, without any cleaning up, the third time that place is passed. Only builds with the
//! feature `testing` look.

#[cfg(any(test, feature = "testing"))]
/// Every place a saga passes, in order.
pub const NAMES: [&str; 10] = [
    "saga-start-decided",
    "saga-started",
    "saga-command-sending",
    "saga-command-answered",
    "saga-read-done",
    "saga-answer-recorded",
    "saga-timer-firing",
    "saga-timer-fired",
    "saga-input-delivering",
    "saga-input-delivered",
];

/// Every place a merge of a branch passes, in order.
#[cfg(any(test, feature = "testing"))]
pub const MERGE_NAMES: [&str; 2] = ["merge-decided", "merge-committed"];

/// Passes a place.
#[cfg(any(test, feature = "testing"))]
pub(crate) fn pass(name: &'static str) {
    use std::sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    };

    static WANTED: LazyLock<Option<(String, AtomicU64)>> = LazyLock::new(|| {
        let wanted = std::env::var("ES_FAILPOINT").ok()?;
        let (name, count) = wanted.split_once(':').unwrap_or((&wanted, "1"));
        let is_known = NAMES.contains(&name) || MERGE_NAMES.contains(&name);
        assert!(is_known, "ES_FAILPOINT names no place: {name:?}; there are {NAMES:?} and {MERGE_NAMES:?}");
        Some((name.to_owned(), AtomicU64::new(count.parse().unwrap_or(1))))
    });
    if let Some((wanted, left)) = &*WANTED
        && wanted == name
        && left.fetch_sub(1, Ordering::AcqRel) == 1
    {
        std::process::abort();
    }
}

/// The control of the tests of sagas: `ES_SAGA_CONTROL=fresh-ids` sends each command under an id that was not recorded
/// before, as if it were dispatched first and persisted after.
#[cfg(any(test, feature = "testing"))]
pub(crate) fn has_fresh_ids() -> bool {
    static FRESH: std::sync::LazyLock<bool> =
        std::sync::LazyLock::new(|| std::env::var("ES_SAGA_CONTROL").is_ok_and(|control| control == "fresh-ids"));
    *FRESH
}

/// Only in tests.
#[cfg(not(any(test, feature = "testing")))]
pub(crate) fn has_fresh_ids() -> bool {
    false
}

/// Passes a place.
#[cfg(not(any(test, feature = "testing")))]
pub(crate) fn pass(_: &'static str) {}
