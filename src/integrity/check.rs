//! One event after the other held against its own digests and its predecessor's. Pure, but for what a caller looks up.

use std::collections::HashMap;

use event_sourcing_actors::digest::{ChainDigest, Checksum, LeafHash, StoredParts};

use super::{port::StoredRow, tree::Hash};

/// Streams of one half of the memory. When a half is full the older one is forgotten: what was forgotten is looked up.
const STREAMS_MAX: usize = 500_000;

/// What is wrong with the log at a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// The first position where it is not what it was.
    pub position: u64,
    /// What is wrong there.
    pub reason: &'static str,
}

/// What became of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checked {
    /// All is well; this is its leaf in the tree.
    Leaf(Hash),
    /// Something is wrong.
    Fault(Fault),
    /// The chain cannot be judged: the caller looks the predecessor up and asks [`Checker::check_after`].
    PredecessorUnknown,
}

/// Checks the events of the log in order.
#[derive(Debug)]
pub struct Checker {
    next: u64,
    recorded_at: i64,
    /// Whether every stream's last event is remembered, so that what is not remembered is not there.
    knows_all: bool,
    young: HashMap<Box<[u8]>, (u64, ChainDigest)>,
    old: HashMap<Box<[u8]>, (u64, ChainDigest)>,
}

impl Checker {
    /// Of the events after a position.
    #[must_use]
    pub fn after(position: u64) -> Self {
        Self {
            next: position + 1,
            recorded_at: i64::MIN,
            knows_all: position == 0,
            young: HashMap::new(),
            old: HashMap::new(),
        }
    }

    /// Of the events of one stream, whose positions have gaps.
    #[must_use]
    pub fn of_stream() -> Self {
        Self::after(0)
    }

    /// Checks the next event of one stream.
    pub fn check_in_stream(&mut self, row: &StoredRow<'_>) -> Checked {
        match u64::try_from(row.position) {
            Ok(position) if position >= self.next => self.next = position,
            _ => return self.fault(row, "its position does not follow its predecessor's"),
        }
        self.check(row)
    }

    /// The sequence that comes next in the one stream that was looked at.
    #[must_use]
    pub fn next_in_stream(&self) -> u64 {
        self.young.values().next().map_or(1, |(sequence, _)| sequence + 1)
    }

    /// The position that comes next.
    #[must_use]
    pub fn next(&self) -> u64 {
        self.next
    }

    /// What is wrong when there is no event any more where there should be one.
    #[must_use]
    pub fn missing(&self) -> Fault {
        Fault { position: self.next, reason: "the event is missing" }
    }

    /// Checks the next event.
    pub fn check(&mut self, row: &StoredRow<'_>) -> Checked {
        let known = self.young.get(row.aggregate_id).or_else(|| self.old.get(row.aggregate_id)).copied();
        match known {
            Some(known) => self.judged(row, Some(known)),
            None if self.knows_all || row.sequence == 1 => self.judged(row, None),
            None => match self.content(row) {
                Ok(_) => Checked::PredecessorUnknown,
                Err(reason) => self.fault(row, reason),
            },
        }
    }

    /// The same with a predecessor that was looked up.
    pub fn check_after(&mut self, row: &StoredRow<'_>, predecessor: Option<ChainDigest>) -> Checked {
        let sequence = u64::try_from(row.sequence.saturating_sub(1)).unwrap_or(0);
        self.judged(row, predecessor.map(|chain| (sequence, chain)))
    }

    /// The same where nobody can look the predecessor up: its chain is believed, everything else is checked.
    pub fn check_unfollowed(&mut self, row: &StoredRow<'_>) -> Checked {
        let checksum = match self.content(row) {
            Ok(checksum) => checksum,
            Err(reason) => return self.fault(row, reason),
        };
        let Some(chain) = ChainDigest::from_slice(row.chain) else { return self.fault(row, "its chain is no digest") };
        if row.recorded_at < self.recorded_at {
            return self.fault(row, "it was recorded before its predecessor");
        }
        self.recorded_at = row.recorded_at;
        self.remember(row.aggregate_id, row.sequence.cast_unsigned(), chain);
        self.next += 1;
        Checked::Leaf(LeafHash::of_parts(self.next - 1, row.recorded_at, checksum).0)
    }

    fn fault(&self, row: &StoredRow<'_>, reason: &'static str) -> Checked {
        // A row where none should be is the first bad one, if it comes first.
        let own = u64::try_from(row.position).unwrap_or(0);
        Checked::Fault(Fault { position: own.min(self.next), reason })
    }

    /// What needs no other event: the checksum, or why it is none.
    fn content(&self, row: &StoredRow<'_>) -> Result<Checksum, &'static str> {
        match u64::try_from(row.position) {
            Ok(position) if position == self.next => {}
            Ok(position) if position > self.next => return Err("the event is missing"),
            _ => return Err("an event lies where none can be"),
        }
        let checksum = Checksum::from_slice(row.checksum).ok_or("its checksum is no digest")?;
        let parts = StoredParts {
            aggregate_id: row.aggregate_id,
            aggregate_type: row.aggregate_type,
            sequence: u64::try_from(row.sequence).map_err(|_| "its sequence is no sequence")?,
            event_id: row.event_id.try_into().map_err(|_| "its id is no id")?,
            event_type: row.event_type,
            schema_version: u32::try_from(row.schema_version).map_err(|_| "its schema version is none")?,
            data: row.data,
            metadata: row.metadata,
        };
        if parts.checksum() != checksum {
            return Err("its checksum is not the digest of its content");
        }
        Ok(checksum)
    }

    fn judged(&mut self, row: &StoredRow<'_>, predecessor: Option<(u64, ChainDigest)>) -> Checked {
        let checksum = match self.content(row) {
            Ok(checksum) => checksum,
            Err(reason) => return self.fault(row, reason),
        };
        let (last, chain) = predecessor.unwrap_or((0, ChainDigest::EMPTY));
        let sequence = row.sequence.cast_unsigned();
        if sequence != last + 1 {
            return self.fault(row, "its sequence does not follow its predecessor's");
        }
        let chain = chain.then(checksum);
        if chain.0 != row.chain {
            return self.fault(row, "its chain does not continue its predecessor's");
        }
        if row.recorded_at < self.recorded_at {
            return self.fault(row, "it was recorded before its predecessor");
        }
        self.recorded_at = row.recorded_at;
        self.remember(row.aggregate_id, sequence, chain);
        self.next += 1;
        Checked::Leaf(LeafHash::of_parts(self.next - 1, row.recorded_at, checksum).0)
    }

    fn remember(&mut self, stream: &[u8], sequence: u64, chain: ChainDigest) {
        if let Some(known) = self.young.get_mut(stream) {
            *known = (sequence, chain);
            return;
        }
        if self.young.len() >= STREAMS_MAX {
            self.knows_all &= self.old.is_empty();
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(stream.into(), (sequence, chain));
    }
}

/// The leaf of a row by what is stored, whether or not it is intact; `None` if it has none.
#[must_use]
pub fn leaf(row: &StoredRow<'_>) -> Option<Hash> {
    let position = u64::try_from(row.position).ok()?;
    Some(LeafHash::of_parts(position, row.recorded_at, Checksum::from_slice(row.checksum)?).0)
}
