//! Schema evolution: functions that lift stored payloads from one schema version to the next, on read only.
//!
//! Stored bytes are never rewritten: the log, its digests and every proof stay as they are. Whoever looks at a payload as an
//! event of a domain (aggregates, projections, sagas, and the retry of a parked event) gets it lifted, by
//! [`Catalog::current_data`](crate::catalog::Catalog::current_data) or the same function below it; whoever shows events
//! shows what is stored, with its `schema_version`.
//!
//! ```
//! use event_sourcing_actors::upcast::Upcasters;
//! use serde::{Deserialize, Serialize};
//! use serde_json::json;
//!
//! let mut upcasters = Upcasters::default();
//! // On raw JSON: members that this program does not know are kept.
//! upcasters.register("Named", 1, 2, |mut payload| {
//!     let name = payload.as_object_mut().and_then(|members| members.remove("title")).ok_or("title is missing")?;
//!     payload["name"] = name;
//!     Ok(payload)
//! });
//! // Typed: a struct for each shape, the compiler checks the step.
//! #[derive(Deserialize)]
//! struct NamedV2 { name: String }
//! #[derive(Serialize)]
//! struct NamedV3 { name: String, length: usize }
//! upcasters.register_typed("Named", 2, 3, |old: NamedV2| Ok(NamedV3 { length: old.name.len(), name: old.name }));
//!
//! let lifted = upcasters.lift("Named", 1, 3, json!({ "title": "A" }));
//! assert_eq!(lifted.unwrap(), json!({ "name": "A", "length": 1 }));
//! ```

use std::{
    collections::BTreeMap,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
};

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};
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

    /// The same with a type for the payload before and one for it after. Members that `Old` does not name are not seen
    /// above this step; those that must be, `Old` and `New` hold in a flattened map.
    pub fn register_typed<Old: DeserializeOwned, New: Serialize>(
        &mut self,
        event_type: impl Into<String>,
        from_version: u32,
        to_version: u32,
        function: impl Fn(Old) -> Result<New, String> + Send + Sync + 'static,
    ) {
        self.register(event_type, from_version, to_version, move |payload| {
            let old = serde_json::from_value(payload).map_err(|error| error.to_string())?;
            serde_json::to_value(function(old)?).map_err(|error| error.to_string())
        });
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
    /// [`UpcastError::Hole`] or [`UpcastError::Failed`]; the latter also when a function panics.
    pub fn lift(&self, event_type: &str, from: u32, current: u32, mut payload: Value) -> Result<Value, UpcastError> {
        let mut version = from;
        while version < current {
            let Some((to, step)) = self.steps.get(&(event_type.to_owned(), version)) else {
                return Err(UpcastError::Hole { event_type: event_type.to_owned(), from: version, current });
            };
            let lifted = catch_unwind(AssertUnwindSafe(|| step(payload)));
            payload = lifted
                .unwrap_or_else(|_| Err("the upcaster panicked".to_owned()))
                .map_err(|reason| UpcastError::Failed { event_type: event_type.to_owned(), from: version, reason })?;
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
    fn a_typed_step_names_the_member_that_does_not_fit() {
        #[derive(serde::Deserialize)]
        struct Old {
            cents: i64,
        }
        let mut upcasters = Upcasters::default();
        upcasters.register_typed("E", 1, 2, |old: Old| Ok(json!({ "amount": old.cents })));
        assert_eq!(upcasters.lift("E", 1, 2, json!({ "cents": 5 })).unwrap(), json!({ "amount": 5 }));
        let failed = upcasters.lift("E", 1, 2, json!({})).unwrap_err().to_string();
        assert!(failed.contains("missing field `cents`"), "{failed}");
    }

    #[test]
    fn an_upcaster_that_panics_has_failed() {
        let mut upcasters = Upcasters::default();
        upcasters.register("E", 1, 2, |_| panic!("as told"));
        assert!(matches!(upcasters.lift("E", 1, 2, json!({})), Err(UpcastError::Failed { from: 1, .. })));
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
