//! Keys of subjects as both databases hold them.

use chrono::{DateTime, Utc};
use event_sourcing_actors::{
    AggregateId,
    master_keys::MasterKeys,
    ports::{KeyCensus, StoreError, StoredKey, StoredKeyState, Tombstone, WrappedKey},
};
use uuid::Uuid;

/// A row of `subject_keys`.
pub(super) struct RawKey {
    pub subject: String,
    pub key_id: Option<Uuid>,
    pub master: Option<String>,
    pub wrapped: Option<Vec<u8>>,
    pub destroyed_at: Option<DateTime<Utc>>,
}

impl RawKey {
    pub(super) fn checked(self) -> Result<StoredKey, StoreError> {
        let corrupt = |what: &str| StoreError::Corrupt { reason: format!("a row of subject_keys {what}") };
        let subject = AggregateId::new(self.subject.as_str()).map_err(|_| corrupt("names no subject"))?;
        let state = match (self.destroyed_at, self.key_id, self.master, self.wrapped) {
            (Some(at), ..) => StoredKeyState::Destroyed(at),
            (None, Some(id), Some(master), Some(wrapped)) => {
                StoredKeyState::Wrapped(WrappedKey { id, master, wrapped })
            }
            _ => return Err(corrupt("has neither a key nor an end")),
        };
        Ok(StoredKey { subject, state })
    }
}

/// What was found, in the order it was asked for.
pub(super) fn in_order(found: Vec<StoredKey>, subjects: &[AggregateId]) -> Vec<Option<StoredKey>> {
    let found: std::collections::HashMap<AggregateId, StoredKey> =
        found.into_iter().map(|key| (key.subject.clone(), key)).collect();
    subjects.iter().map(|subject| found.get(subject).cloned()).collect()
}

/// Those that were destroyed.
pub(super) fn tombstones(
    found: impl Iterator<Item = Result<StoredKey, StoreError>>,
) -> Result<Vec<Tombstone>, StoreError> {
    let tombstone = |key: StoredKey| match key.state {
        StoredKeyState::Destroyed(destroyed_at) => Some(Tombstone { destroyed_at, subject: key.subject }),
        StoredKeyState::Wrapped(_) => None,
    };
    found.filter_map(|key| key.map(tombstone).transpose()).collect()
}

/// The master keys whose text the database keeps.
pub(super) fn kept_master(text: Option<String>) -> Result<Option<MasterKeys>, StoreError> {
    let corrupt =
        |problem| StoreError::Corrupt { reason: format!("subject_key_master keeps no master key: {problem}") };
    text.map(|text| MasterKeys::parse(&text).map_err(corrupt)).transpose()
}

/// Keys by master key; those without one were destroyed.
pub(super) fn census(current: Option<String>, rows: Vec<(Option<String>, i64)>) -> KeyCensus {
    let mut census = KeyCensus { current, ..KeyCensus::default() };
    for (master, count) in rows {
        match master {
            Some(master) => census.wrapped.push((master, count.cast_unsigned())),
            None => census.destroyed = count.cast_unsigned(),
        }
    }
    census
}

/// What stands after keys were stored; each has a row then.
pub(super) fn standing(found: Vec<Option<StoredKey>>) -> Result<Vec<StoredKey>, StoreError> {
    let gone = || StoreError::Corrupt { reason: "a key that was just stored is not there".to_owned() };
    found.into_iter().map(|key| key.ok_or_else(gone)).collect()
}
