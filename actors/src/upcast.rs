//! Schema evolution: functions that lift stored payloads from one schema version to the next, on read only.

use std::{collections::BTreeMap, fmt};

use bytes::Bytes;
use serde_json::Value;

use crate::{codec::CodecError, envelope::RecordedEvent};

/// Lifts one payload by one or more schema versions; an error says why it cannot be lifted.
pub type Upcaster = Box<dyn Fn(Value) -> Result<Value, String> + Send + Sync>;

/// Registered upcasters: (event type, from version) → (to version, function).
#[derive(Default)]
pub struct Upcasters {
    steps: BTreeMap<(String, u32), (u32, Upcaster)>,
    twice: Vec<(String, u32)>,
}

impl fmt::Debug for Upcasters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.steps.iter().map(|((kind, from), (to, _))| (kind, from, to))).finish()
    }
}

/// A chain that does not lead from every old version to the current one, once and without holes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UpcastError {
    /// Two functions start at one version.
    #[error("two upcasters of {event_type} start at schema version {from}; keep one")]
    TwoWays {
        /// The event type.
        event_type: String,
        /// The version both start at.
        from: u32,
    },
    /// A function does not lead upwards, or leads past the current version.
    #[error("the upcaster of {event_type} from {from} to {to} does not lead towards the current version {current}")]
    WrongWay {
        /// The event type.
        event_type: String,
        /// Where it starts.
        from: u32,
        /// Where it leads.
        to: u32,
        /// The current version.
        current: u32,
    },
    /// An old version has no function.
    #[error("no upcaster leads {event_type} on from schema version {from} (current: {current})")]
    Hole {
        /// The event type.
        event_type: String,
        /// The version without a way on.
        from: u32,
        /// The current version.
        current: u32,
    },
    /// A function belongs to no known event type.
    #[error("an upcaster is registered for {event_type}, which no aggregate owns")]
    UnknownEventType {
        /// The event type.
        event_type: String,
    },
    /// A stored payload could not be lifted.
    #[error("{event_type} could not be lifted from schema version {from}: {reason}")]
    Failed {
        /// The event type.
        event_type: String,
        /// The version it could not leave.
        from: u32,
        /// What the function said.
        reason: String,
    },
}

impl Upcasters {
    /// Registers the function that lifts `event_type` payloads from `from_version` to `to_version`.
    pub fn register(
        &mut self,
        event_type: impl Into<String>,
        from_version: u32,
        to_version: u32,
        function: impl Fn(Value) -> Result<Value, String> + Send + Sync + 'static,
    ) {
        let key = (event_type.into(), from_version);
        if self.steps.insert(key.clone(), (to_version, Box::new(function))).is_some() {
            self.twice.push(key);
        }
    }

    /// Checks the whole set against the current versions: no hole, no two ways, no unknown event type.
    ///
    /// # Errors
    /// The first fault found.
    pub fn check(&self, current: &BTreeMap<&str, u32>) -> Result<(), UpcastError> {
        if let Some((event_type, from)) = self.twice.first() {
            return Err(UpcastError::TwoWays { event_type: event_type.clone(), from: *from });
        }
        for ((event_type, from), (to, _)) in &self.steps {
            let Some(&current) = current.get(event_type.as_str()) else {
                return Err(UpcastError::UnknownEventType { event_type: event_type.clone() });
            };
            if to <= from || *to > current {
                return Err(UpcastError::WrongWay { event_type: event_type.clone(), from: *from, to: *to, current });
            }
        }
        for (&event_type, &current) in current {
            for from in 1..current {
                if !self.steps.contains_key(&(event_type.to_owned(), from)) {
                    return Err(UpcastError::Hole { event_type: event_type.to_owned(), from, current });
                }
            }
        }
        Ok(())
    }

    /// A stored payload in its current shape; as it is if it has that shape already.
    ///
    /// # Errors
    /// [`CodecError::FutureVersion`], [`CodecError::Decode`] or [`CodecError::Upcast`].
    pub fn current(&self, event: &RecordedEvent, current: u32) -> Result<Bytes, CodecError> {
        let (event_type, stored) = (event.event_type.as_str(), event.schema_version);
        if stored == current {
            return Ok(event.payload().clone());
        }
        if stored > current {
            return Err(CodecError::FutureVersion { event_type: event_type.to_owned(), stored, current });
        }
        let payload = serde_json::from_slice(event.payload())
            .map_err(|error| CodecError::Decode { event_type: event_type.to_owned(), detail: error.to_string() })?;
        let lifted = self.lift(event_type, stored, current, payload)?;
        crate::codec::encode(&lifted).map(Bytes::from)
    }

    /// Lifts a payload to the current version.
    ///
    /// # Errors
    /// [`UpcastError::Hole`] or [`UpcastError::Failed`].
    pub fn lift(&self, event_type: &str, from: u32, current: u32, mut payload: Value) -> Result<Value, UpcastError> {
        let mut version = from;
        while version < current {
            let Some((to, step)) = self.steps.get(&(event_type.to_owned(), version)) else {
                return Err(UpcastError::Hole { event_type: event_type.to_owned(), from: version, current });
            };
            payload = step(payload).map_err(|reason| UpcastError::Failed {
                event_type: event_type.to_owned(),
                from: version,
                reason,
            })?;
            version = *to;
        }
        Ok(payload)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn add(member: &'static str) -> impl Fn(Value) -> Result<Value, String> {
        move |mut payload| {
            payload.as_object_mut().ok_or("not an object")?.insert(member.into(), json!(true));
            Ok(payload)
        }
    }

    #[test]
    fn chains_run_to_the_current_version() {
        let mut upcasters = Upcasters::default();
        upcasters.register("E", 1, 2, add("two"));
        upcasters.register("E", 2, 3, add("three"));
        assert_eq!(upcasters.check(&BTreeMap::from([("E", 3), ("F", 1)])), Ok(()));
        assert_eq!(upcasters.lift("E", 1, 3, json!({})).unwrap(), json!({"two": true, "three": true}));
        assert_eq!(upcasters.lift("E", 2, 3, json!({})).unwrap(), json!({"three": true}));
        assert!(matches!(upcasters.lift("E", 1, 3, json!(7)), Err(UpcastError::Failed { from: 1, .. })));
    }

    #[test]
    fn holes_forks_and_wrong_ways_are_found_at_start() {
        let current = BTreeMap::from([("E", 3)]);
        let mut upcasters = Upcasters::default();
        upcasters.register("E", 1, 2, add("two"));
        assert!(matches!(upcasters.check(&current), Err(UpcastError::Hole { from: 2, .. })));
        upcasters.register("E", 2, 4, add("four"));
        assert!(matches!(upcasters.check(&current), Err(UpcastError::WrongWay { to: 4, .. })));
        upcasters.register("E", 2, 3, add("three"));
        assert!(matches!(upcasters.check(&current), Err(UpcastError::TwoWays { from: 2, .. })));
        let mut stray = Upcasters::default();
        stray.register("X", 1, 2, add("two"));
        assert!(matches!(stray.check(&current), Err(UpcastError::UnknownEventType { .. })));
    }
}
