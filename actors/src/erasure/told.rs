//! What the log itself says of erasures: enough to keep a key from coming back, wherever the log has been taken.

use chrono::{DateTime, Utc};
use serde::Deserialize;

use crate::{envelope::RecordedEvent, id::AggregateId, personal::SUBJECT_ERASED, ports::Tombstone};

#[derive(Deserialize)]
struct Told {
    key_destroyed_at: Option<DateTime<Utc>>,
}

/// Whose key an event says was destroyed, by its type and payload; `None`: it says nothing of the kind. The instant is the
/// one from which the event's own id was made, or else that of the event.
#[must_use]
pub fn told_by(
    event_type: &str,
    subject: impl FnOnce() -> Option<AggregateId>,
    data: &[u8],
    recorded_at: DateTime<Utc>,
) -> Option<Tombstone> {
    if event_type != SUBJECT_ERASED {
        return None;
    }
    let told = serde_json::from_slice::<Told>(data).ok().and_then(|told| told.key_destroyed_at);
    Some(Tombstone { destroyed_at: told.unwrap_or(recorded_at), subject: subject()? })
}

/// The same of a recorded event.
#[must_use]
pub fn told(event: &RecordedEvent) -> Option<Tombstone> {
    let subject = || Some(event.aggregate_id.clone());
    told_by(event.event_type.as_str(), subject, &event.data, event.recorded_at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn event_tells_when_the_key_was_destroyed_and_others_tell_nothing() {
        let (at, recorded): (DateTime<Utc>, DateTime<Utc>) =
            ("2026-11-26T12:00:00.000001Z".parse().unwrap(), "2026-11-26T12:00:09Z".parse().unwrap());
        let ann = AggregateId::new("ann").unwrap();
        let told = |kind: &str, data: &str| told_by(kind, || Some(ann.clone()), data.as_bytes(), recorded);
        let tombstone = |destroyed_at| Some(Tombstone { destroyed_at, subject: ann.clone() });
        let data = r#"{"key_destroyed_at":"2026-11-26T12:00:00.000001Z"}"#;
        assert_eq!(told(SUBJECT_ERASED, data), tombstone(at));
        assert_eq!(told(SUBJECT_ERASED, r#"{"key_destroyed_at":null}"#), tombstone(recorded));
        assert_eq!(told(SUBJECT_ERASED, "not JSON"), tombstone(recorded), "who is said to be erased is erased");
        assert_eq!(told("UserRegistered", data), None);
    }
}
