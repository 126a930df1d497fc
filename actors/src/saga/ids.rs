//! Identifiers that derive from a saga instance, so that whatever is done twice is recognised.

use chrono::{DateTime, Utc};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::id::{AggregateId, CommandId};

const COMMAND_TAG: &[u8] = b"event-sourcing-cqrs/saga-command/v1";
const INSTANCE_TAG: &[u8] = b"event-sourcing-cqrs/saga-instance/v1";

fn hash(tag: &[u8], parts: &[&str]) -> [u8; 32] {
    let mut hash = Sha256::new_with_prefix(tag);
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

/// The id of a command that an instance sends, or of an input that it takes (UUID version 8, RFC 9562).
///
/// The instant of the instance's start comes first, in 48 bits of milliseconds, so that event ids, which keep them, come
/// in order of time.
pub(crate) fn derived_command_id(saga: &AggregateId, started_at: DateTime<Utc>, label: &str) -> CommandId {
    let mut bytes = [0_u8; 16];
    let millis = u64::try_from(started_at.timestamp_millis()).unwrap_or(0).to_be_bytes();
    bytes[..6].copy_from_slice(&millis[2..]);
    bytes[6..].copy_from_slice(&hash(COMMAND_TAG, &[saga.as_str(), label])[..10]);
    CommandId(uuid::Builder::from_custom_bytes(bytes).into_uuid())
}

/// The instance of a saga that a key names: the same for every event that starts it.
pub(crate) fn started_by_key(saga_type: &str, key: &str) -> AggregateId {
    let digest = hash(INSTANCE_TAG, &[saga_type, key]);
    let mut bytes = [0_u8; 16];
    bytes.copy_from_slice(&digest[..16]);
    let id: Uuid = uuid::Builder::from_custom_bytes(bytes).into_uuid();
    AggregateId::from_uuid(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derived_ids_repeat_and_differ_by_label_and_instance() {
        let (one, other) = (AggregateId::new("saga-1").unwrap(), AggregateId::new("saga-2").unwrap());
        let at = DateTime::from_timestamp_millis(1_704_067_200_123).unwrap();
        let id = derived_command_id(&one, at, "withdraw/forward/1");
        assert_eq!(id, derived_command_id(&one, at, "withdraw/forward/1"));
        assert_ne!(id, derived_command_id(&one, at, "withdraw/undo/1"));
        assert_ne!(id, derived_command_id(&other, at, "withdraw/forward/1"));
        assert_eq!(id.0.get_version_num(), 8);
        assert_eq!(started_by_key("A", "k"), started_by_key("A", "k"));
        assert_ne!(started_by_key("A", "k"), started_by_key("Ak", ""));
    }
}
