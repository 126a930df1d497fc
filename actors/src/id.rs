//! Identifiers: of a stream (`AggregateId`), of what it holds (`AggregateType`, `EventType`), of commands and events.
//!
//! Text identifiers are 1–255 bytes of UTF-8 without control characters and cheap to clone.

use std::{
    borrow::{Borrow, Cow},
    fmt,
    sync::Arc,
};

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::schema::text_schema;

/// Longest text identifier, in bytes of UTF-8.
pub const ID_BYTES_MAX: usize = 255;

/// Why a text is no identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// The text has no characters.
    #[error("must not be empty")]
    Empty,
    /// The text is longer than [`ID_BYTES_MAX`].
    #[error("must be at most {ID_BYTES_MAX} bytes of UTF-8, not {bytes}")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// The text holds a control character.
    #[error("must not contain control characters (found U+{code_point:04X})")]
    ControlCharacter {
        /// The first one.
        code_point: u32,
    },
}

fn checked(text: &str) -> Result<Arc<str>, IdError> {
    if text.is_empty() {
        return Err(IdError::Empty);
    }
    if text.len() > ID_BYTES_MAX {
        return Err(IdError::TooLong { bytes: text.len() });
    }
    if let Some(control) = text.chars().find(|c| c.is_control()) {
        return Err(IdError::ControlCharacter { code_point: control as u32 });
    }
    Ok(Arc::from(text))
}

macro_rules! text_id {
    ($(#[doc = $doc:literal])+ $name:ident) => {
        $(#[doc = $doc])+
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks the text: 1–255 bytes of UTF-8 without control characters.
            ///
            /// # Errors
            /// [`IdError`] says what is wrong with it.
            pub fn new(text: impl AsRef<str>) -> Result<Self, IdError> {
                checked(text.as_ref()).map(Self)
            }

            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                text_schema(concat!($($doc),+).trim(), ID_BYTES_MAX)
            }
        }

        impl std::str::FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::new(text)
            }
        }

        impl TryFrom<&str> for $name {
            type Error = IdError;
            fn try_from(text: &str) -> Result<Self, IdError> {
                Self::new(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                Self::new(text)
            }
        }

        impl From<&$name> for $name {
            fn from(id: &$name) -> Self {
                id.clone()
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                Self::new(text).map_err(serde::de::Error::custom)
            }
        }
    };
}

text_id! {
    /// Names one stream, unique in the whole store.
    AggregateId
}
text_id! {
    /// The kind of an aggregate, or of a generic stream; a stream has the type of its first event.
    AggregateType
}
text_id! {
    /// The kind of an event, such as `MoneyDeposited`.
    EventType
}

impl AggregateId {
    /// A UUID as an identifier.
    #[must_use]
    pub fn from_uuid(id: Uuid) -> Self {
        Self(Arc::from(id.hyphenated().to_string()))
    }
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

uuid_id! {
    /// Names one command for ever: sent again under the same id, it has the same single effect.
    CommandId
}
uuid_id! {
    /// Names one event, unique in the whole store.
    EventId
}

impl CommandId {
    /// A new identifier, time-ordered (UUID version 7, RFC 9562).
    #[must_use]
    pub fn generate() -> Self {
        Self(Uuid::now_v7())
    }
}

impl EventId {
    /// The identifier of a command's event number `ordinal` (from 0): the same for every attempt of the command.
    ///
    /// The command id's 48 bits of time come first, so that the index over event ids grows at its end; the rest is a
    /// hash of command id and ordinal (UUID version 8, RFC 9562).
    #[must_use]
    pub fn derived(command: CommandId, ordinal: u32) -> Self {
        let digest = Sha256::new().chain_update(command.0.as_bytes()).chain_update(ordinal.to_be_bytes()).finalize();
        let mut bytes = [0_u8; 16];
        bytes[..6].copy_from_slice(&command.0.as_bytes()[..6]);
        bytes[6..].copy_from_slice(&digest[..10]);
        Self(uuid::Builder::from_custom_bytes(bytes).into_uuid())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_ids_refuse_what_is_empty_long_or_unprintable() {
        assert_eq!(AggregateId::new(""), Err(IdError::Empty));
        assert_eq!(AggregateId::new("é".repeat(128)), Err(IdError::TooLong { bytes: 256 }));
        assert_eq!(AggregateId::new("a\nb"), Err(IdError::ControlCharacter { code_point: 10 }));
        assert_eq!(AggregateId::new("日本/ü").unwrap().as_str(), "日本/ü");
        assert_eq!(AggregateId::new("x".repeat(255)).unwrap().as_str().len(), 255);
    }

    #[test]
    fn derived_event_ids_repeat_and_keep_the_commands_time() {
        let command = CommandId::generate();
        let first = EventId::derived(command, 0);
        assert_eq!(first, EventId::derived(command, 0));
        assert_ne!(first, EventId::derived(command, 1));
        assert_eq!(first.0.as_bytes()[..6], command.0.as_bytes()[..6]);
        assert_eq!(first.0.get_version_num(), 8);
    }
}
