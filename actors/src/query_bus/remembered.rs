//! Rows of a branch, remembered in memory, and the rule by which one may be served without asking the store.
//!
//! # Why a served row is right
//! All rows stand at one position: `seen`, the last of the branch that was looked at, asked for at an instant. An entry is
//! *current* if its row is made of every event of its stream up to `seen`.
//! 1. Each look (one at a time) reads what came after `seen`, as the log gives it: without holes, in order. The entries of
//!    the streams it finds are current no more; only then `seen` moves. When too much came, none is current any more.
//! 2. A row that was made up to a position is current only if `seen` still stands there: what a look found meanwhile counts.
//! 3. Serve iff the entry is current, `seen` has reached the token and everything that this process knows of, and was asked
//!    for no longer than [`CONFIRMED_AGE_MAX`] ago. So a row is never below the token nor below an own write that was
//!    answered, and never later than a cached answer of the log's read models may be, whatever other processes do.
//!
//! # Persons
//! A row that tells of a person is kept encrypted under the person's key, and opened only with a key that events would be
//! opened with at that moment. Once the key is destroyed the row says nothing any more, to nobody; the rows that it was
//! made of are not kept at all.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use tokio::time::Instant;
use uuid::Uuid;

use super::as_of::Made;
use crate::{
    freshness::CONFIRMED_AGE_MAX,
    id::AggregateId,
    limits::BranchLimits,
    personal::{KeyState, SubjectKey, decrypt, encrypt},
    vault::Vault,
    version::Position,
    view::RowKey,
};

/// What an entry takes beside its rows, roughly.
const ENTRY_BYTES: usize = 256;

/// Which row: of a projection, made by one stream.
#[derive(Debug, Clone, Copy)]
pub(super) struct Which<'a> {
    pub stream: &'a AggregateId,
    pub projection: &'a str,
    pub key: &'a RowKey,
}

impl Which<'_> {
    fn is(&self, entry: &Entry) -> bool {
        entry.key == *self.key && entry.projection == self.projection
    }

    /// A ciphertext opens in its own place only.
    fn bound_to(&self) -> Vec<u8> {
        let mut bytes = b"event-sourcing-cqrs/row-of-branch/v1".to_vec();
        let RowKey { collection, group, sort } = self.key;
        for part in [self.stream.as_str(), self.projection, collection, group, sort] {
            bytes.extend((part.len() as u64).to_be_bytes());
            bytes.extend(part.as_bytes());
        }
        bytes
    }
}

/// A row as it is kept; `None`: there is none.
#[derive(Debug, Clone)]
pub(super) enum Row {
    Plain(Option<Bytes>),
    Sealed { key: Uuid, nonce: [u8; 24], bytes: Bytes },
}

impl Row {
    /// A person's row under the person's key; `None`: it cannot be kept.
    pub fn sealed(which: Which<'_>, data: Option<&Bytes>, key: &SubjectKey) -> Option<Self> {
        let (nonce, bytes) = encrypt(key.secret(), data?, &which.bound_to())?;
        Some(Self::Sealed { key: key.id(), nonce, bytes: bytes.into() })
    }

    /// What it says; `None`: it cannot be read any more.
    pub fn open(&self, which: Which<'_>, vault: &Vault) -> Option<Option<Bytes>> {
        match self {
            Self::Plain(data) => Some(data.clone()),
            Self::Sealed { key, nonce, bytes } => {
                let Some(KeyState::Live(held)) = vault.held(which.stream) else { return None };
                let plain = (held.id() == *key).then(|| decrypt(held.secret(), nonce, bytes, &which.bound_to()));
                plain.flatten().map(|plain| Some(Bytes::copy_from_slice(&plain)))
            }
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Plain(data) => data.as_ref().map_or(0, Bytes::len),
            Self::Sealed { bytes, .. } => bytes.len(),
        }
    }
}

#[derive(Debug)]
struct Entry {
    projection: String,
    key: RowKey,
    row: Row,
    /// What it was made of, so that it need not be made from the first event again.
    made: Option<Made>,
    is_current: bool,
    /// Rises with each use.
    used: u64,
    bytes: usize,
}

/// Up to where the branch was looked at.
#[derive(Debug, Clone, Copy)]
struct Seen {
    position: Position,
    /// The instant before the store was asked.
    at: Instant,
}

#[derive(Debug, Default)]
struct State {
    streams: HashMap<AggregateId, Vec<Entry>>,
    entries: usize,
    bytes: usize,
    uses: u64,
    seen: Option<Seen>,
}

/// The rows of one branch.
#[derive(Debug)]
pub(crate) struct Remembered {
    state: Mutex<State>,
    rows_max: usize,
    bytes_max: usize,
    /// Held by the one that looks at the store, for all.
    pub(super) looking: tokio::sync::Mutex<()>,
}

impl Remembered {
    pub fn new(limits: &BranchLimits) -> Self {
        Self {
            state: Mutex::default(),
            rows_max: limits.rows_max.max(1),
            bytes_max: limits.rows_bytes_max,
            looking: tokio::sync::Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change is whole when the lock is let go.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the rows stand, if that reaches `wanted` and was asked for a moment ago.
    pub fn standing(&self, wanted: Position, now: Instant) -> Option<Position> {
        let seen = self.lock().seen?;
        let is_good = seen.position >= wanted && now.saturating_duration_since(seen.at) <= CONFIRMED_AGE_MAX;
        is_good.then_some(seen.position)
    }

    /// The last position that was looked at, however long ago.
    pub fn seen(&self) -> Option<Position> {
        self.lock().seen.map(|seen| seen.position)
    }

    /// A look that began at an instant found these streams moved, and nothing else up to this position.
    pub fn looked<'a>(&self, moved: impl Iterator<Item = &'a AggregateId>, position: Position, at: Instant) {
        let mut state = self.lock();
        for stream in moved {
            state.streams.get_mut(stream).into_iter().flatten().for_each(|entry| entry.is_current = false);
        }
        state.seen = Some(Seen { position, at });
    }

    /// A look that began at an instant found the branch at this position; what moved is not known.
    pub fn lost_track(&self, position: Position, at: Instant) {
        let mut state = self.lock();
        state.streams.values_mut().flatten().for_each(|entry| entry.is_current = false);
        state.seen = Some(Seen { position, at });
    }

    /// A row that is current, and where it stands.
    pub(super) fn current(&self, which: Which<'_>) -> Option<(Row, Position)> {
        let state = &mut *self.lock();
        let entry = state.streams.get_mut(which.stream)?.iter_mut().find(|entry| which.is(entry))?;
        state.uses += 1;
        entry.used = state.uses;
        let position = state.seen?.position;
        entry.is_current.then(|| (entry.row.clone(), position))
    }

    /// What a row was made of, to go on from there. Taken out: who comes meanwhile makes it anew.
    pub(super) fn take(&self, which: Which<'_>) -> Made {
        let state = &mut *self.lock();
        let entries = state.streams.get_mut(which.stream);
        let Some(entry) = entries.and_then(|all| all.iter_mut().find(|entry| which.is(entry))) else {
            return Made::default();
        };
        let Some(made) = entry.made.take() else { return Made::default() };
        entry.bytes = entry.bytes.saturating_sub(made.bytes());
        state.bytes = state.bytes.saturating_sub(made.bytes());
        made
    }

    /// Takes a row that was made of its stream up to a position.
    pub(super) fn put(&self, which: Which<'_>, row: Row, made: Option<Made>, position: Position) {
        // What would push out many others is made from the first event again, when it has moved.
        let made = made.filter(|made| made.bytes() <= self.bytes_max / 16);
        let bytes = ENTRY_BYTES + which.stream.as_str().len() + row.len() + made.as_ref().map_or(0, Made::bytes);
        let state = &mut *self.lock();
        state.remove(which);
        state.uses += 1;
        let is_current = state.seen.is_some_and(|seen| seen.position == position);
        let (projection, key) = (which.projection.to_owned(), which.key.clone());
        let entry = Entry { projection, key, row, made, is_current, used: state.uses, bytes };
        state.streams.entry(which.stream.clone()).or_default().push(entry);
        (state.entries, state.bytes) = (state.entries + 1, state.bytes + bytes);
        if state.entries > self.rows_max || state.bytes > self.bytes_max {
            state.shrink(self.rows_max, self.bytes_max);
        }
    }

    /// How many rows are kept, and how much they take.
    #[cfg(test)]
    fn size(&self) -> (usize, usize) {
        let state = self.lock();
        (state.entries, state.bytes)
    }
}

impl State {
    fn remove(&mut self, which: Which<'_>) {
        self.retain_of(which.stream, |entry| !which.is(entry));
    }

    fn retain_of(&mut self, stream: &AggregateId, stays: impl Fn(&Entry) -> bool) {
        let Some(entries) = self.streams.get_mut(stream) else { return };
        for gone in entries.extract_if(.., |entry| !stays(entry)) {
            self.entries -= 1;
            self.bytes = self.bytes.saturating_sub(gone.bytes);
        }
        if entries.is_empty() {
            self.streams.remove(stream);
        }
    }

    /// Lets those go that were not used for longest, until a quarter is free again.
    fn shrink(&mut self, rows_max: usize, bytes_max: usize) {
        let mut by_use: Vec<(u64, AggregateId)> = Vec::with_capacity(self.entries);
        for (stream, entries) in &self.streams {
            by_use.extend(entries.iter().map(|entry| (entry.used, stream.clone())));
        }
        by_use.sort_unstable_by_key(|(used, _)| *used);
        for (used, stream) in by_use {
            if self.entries <= rows_max - rows_max / 4 && self.bytes <= bytes_max - bytes_max / 4 {
                return;
            }
            self.retain_of(&stream, |entry| entry.used != used);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn id(number: usize) -> AggregateId {
        AggregateId::new(format!("s{number}")).unwrap()
    }

    fn key() -> RowKey {
        RowKey::new("rows", "", "k")
    }

    fn row(text: &'static str) -> Row {
        Row::Plain(Some(Bytes::from_static(text.as_bytes())))
    }

    fn remembered(rows_max: usize, rows_bytes_max: usize) -> Remembered {
        let remembered = Remembered::new(&BranchLimits { rows_max, rows_bytes_max, ..BranchLimits::default() });
        remembered.lost_track(Position(10), Instant::now());
        remembered
    }

    #[test]
    fn what_moved_is_served_no_more_and_everything_else_is() {
        let (remembered, key) = (remembered(100, 1 << 20), key());
        let (one, two) = (id(1), id(2));
        let [first, second] = [&one, &two].map(|stream| Which { stream, projection: "p", key: &key });
        remembered.put(first, row("one"), None, Position(10));
        remembered.put(second, row("two"), None, Position(10));
        let other = Which { projection: "q", ..first };
        assert!(remembered.current(other).is_none(), "a row of another projection");
        remembered.looked([&one].into_iter(), Position(12), Instant::now());
        assert!(remembered.current(first).is_none());
        assert!(matches!(remembered.current(second), Some((Row::Plain(Some(_)), Position(12)))));
        remembered.lost_track(Position(90), Instant::now());
        assert!(remembered.current(second).is_none());
    }

    #[test]
    fn a_row_made_while_the_branch_moved_on_is_not_served() {
        let (remembered, key, one) = (remembered(100, 1 << 20), key(), id(1));
        let which = Which { stream: &one, projection: "p", key: &key };
        // Its stream moved at 11, before anything was remembered that could have been marked.
        remembered.looked([&one].into_iter(), Position(11), Instant::now());
        remembered.put(which, row("as of 10"), None, Position(10));
        assert!(remembered.current(which).is_none());
        remembered.put(which, row("as of 11"), None, Position(11));
        assert!(remembered.current(which).is_some());
    }

    #[test]
    fn nothing_is_served_below_what_is_wanted_or_after_a_moment() {
        let remembered = remembered(100, 1 << 20);
        let asked_at = Instant::now();
        remembered.looked(std::iter::empty(), Position(10), asked_at);
        assert_eq!(remembered.standing(Position(10), asked_at), Some(Position(10)));
        assert_eq!(remembered.standing(Position(11), asked_at), None);
        let late = CONFIRMED_AGE_MAX + Duration::from_millis(1);
        assert_eq!(remembered.standing(Position(10), asked_at + late), None);
    }

    #[test]
    fn rows_are_bounded_in_number_and_bytes_and_those_in_use_stay() {
        let key = key();
        for (rows_max, bytes_max) in [(64, 1 << 20), (1_000, 32 << 10)] {
            let remembered = remembered(rows_max, bytes_max);
            let loved = id(0);
            let in_use = Which { stream: &loved, projection: "p", key: &key };
            remembered.put(in_use, row("in use"), None, Position(10));
            for number in 1..2_000 {
                let stream = id(number);
                let which = Which { stream: &stream, projection: "p", key: &key };
                remembered.put(which, row("a row like any other"), None, Position(10));
                assert!(remembered.current(in_use).is_some(), "{number}");
                let (rows, bytes) = remembered.size();
                assert!(rows <= rows_max && bytes <= bytes_max, "{rows} rows, {bytes} bytes");
            }
            // Put twice, it counts once; what is counted is what is there.
            let before = remembered.size();
            remembered.put(in_use, row("in use"), None, Position(10));
            assert_eq!(remembered.size(), before);
        }
    }

    #[test]
    fn a_persons_row_opens_in_its_place_with_the_persons_key_only() {
        let (one, two, key) = (id(1), id(2), key());
        let which = Which { stream: &one, projection: "p", key: &key };
        let secret = SubjectKey::random();
        let data = Bytes::from_static(b"{\"name\":\"Ada\"}");
        let Some(Row::Sealed { key: under, nonce, bytes }) = Row::sealed(which, Some(&data), &secret) else {
            panic!("it is sealed");
        };
        assert_eq!(under, secret.id());
        assert!(!bytes.windows(3).any(|three| three == b"Ada"));
        let open = |which: Which<'_>, key: &SubjectKey| decrypt(key.secret(), &nonce, &bytes, &which.bound_to());
        assert_eq!(open(which, &secret).unwrap().as_slice(), &data[..]);
        assert!(open(Which { stream: &two, ..which }, &secret).is_none());
        assert!(open(which, &SubjectKey::random()).is_none());
    }
}
