//! Domain values to stored bytes and back; what is wrong with a document is told with a JSON pointer.

use serde::{Serialize, de::DeserializeOwned};
use serde_json::value::RawValue;
use serde_path_to_error::Segment;

use crate::{aggregate::FieldError, upcast::UpcastError};

/// Why stored bytes are no event, or an event no bytes.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// The value has no JSON form.
    #[error("event cannot be written as JSON: {0}")]
    Encode(#[source] serde_json::Error),
    /// The bytes are not the event they claim to be.
    #[error("stored {event_type} cannot be read: {detail}")]
    Decode {
        /// The event type.
        event_type: String,
        /// What is wrong with which member.
        detail: String,
    },
    /// Nobody owns this event type.
    #[error("event type {event_type} is not known here")]
    UnknownEventType {
        /// The event type.
        event_type: String,
    },
    /// The event was written by newer code.
    #[error("{event_type} has schema version {stored}, newer than this program's {current}: run the newer program")]
    FutureVersion {
        /// The event type.
        event_type: String,
        /// As stored.
        stored: u32,
        /// As known here.
        current: u32,
    },
    /// An old payload could not be lifted.
    #[error(transparent)]
    Upcast(#[from] UpcastError),
}

/// Writes a payload.
///
/// # Errors
/// [`CodecError::Encode`].
pub fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, CodecError> {
    serde_json::to_vec(value).map_err(CodecError::Encode)
}

/// Reads a payload.
///
/// # Errors
/// [`CodecError::Decode`] with the first wrong member.
pub fn decode<T: DeserializeOwned>(event_type: &str, data: &[u8]) -> Result<T, CodecError> {
    let text = std::str::from_utf8(data)
        .map_err(|error| CodecError::Decode { event_type: event_type.to_owned(), detail: error.to_string() })?;
    decode_object(text).map_err(|error| CodecError::Decode {
        event_type: event_type.to_owned(),
        detail: format!("{}: {}", error.pointer, error.detail),
    })
}

/// Reads the members of a command.
///
/// # Errors
/// The first wrong member.
pub fn decode_members<T: DeserializeOwned>(data: &RawValue) -> Result<T, Vec<FieldError>> {
    decode_object(data.get()).map_err(|error| vec![error])
}

/// Reads a struct from a JSON object; serde alone would take an array too.
///
/// # Errors
/// The first wrong member.
pub fn decode_object<T: DeserializeOwned>(text: &str) -> Result<T, FieldError> {
    if !text.trim_start().starts_with('{') {
        return Err(FieldError { pointer: String::new(), detail: "must be a JSON object".to_owned() });
    }
    let mut reader = serde_json::Deserializer::from_str(text);
    serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let message = error.inner().to_string();
        // serde_json ends its sentences with the place in the text; the pointer says it better.
        let detail = message.split(" at line ").next().unwrap_or(&message).to_owned();
        let mut pointer = String::new();
        for segment in error.path() {
            match segment {
                Segment::Seq { index } => pointer += &format!("/{index}"),
                Segment::Map { key } => pointer += &format!("/{}", escaped(key)),
                Segment::Enum { .. } | Segment::Unknown => {}
            }
        }
        // A missing member is reported at its parent: name the member itself.
        if let Some(member) = detail.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`')) {
            pointer += &format!("/{}", escaped(member));
            return FieldError { pointer, detail: "is missing".to_owned() };
        }
        FieldError { pointer, detail }
    })
}

/// A member's name as a token of a JSON pointer (RFC 6901).
#[must_use]
pub fn escaped(member: &str) -> String {
    member.replace('~', "~0").replace('/', "~1")
}

/// A JSON text without the white space between its tokens; numbers and strings keep their bytes.
#[must_use]
pub fn compact(value: &RawValue) -> Box<RawValue> {
    let (mut in_string, mut after_backslash) = (false, false);
    let text: String = value
        .get()
        .chars()
        .filter(|character| {
            let keep = in_string || !character.is_ascii_whitespace();
            if *character == '"' && !after_backslash {
                in_string = !in_string;
            }
            after_backslash = *character == '\\' && !after_backslash;
            keep
        })
        .collect();
    RawValue::from_string(text).unwrap_or_else(|_| value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Line {
        quantity: i64,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Order {
        items: Vec<Line>,
    }

    fn pointer_of(text: &str) -> String {
        decode_object::<Order>(text).unwrap_err().pointer
    }

    #[test]
    fn faults_are_named_by_pointer() {
        assert_eq!(pointer_of(r#"{"items":[{"quantity":1},{"quantity":1.5}]}"#), "/items/1/quantity");
        assert_eq!(pointer_of(r#"{"items":[{}]}"#), "/items/0/quantity");
        assert_eq!(pointer_of(r#"{"items":[],"more":1}"#), "/more");
        assert_eq!(pointer_of("[[]]"), "");
        assert_eq!(pointer_of(r#"{"items":[{"quantity":9223372036854775808}]}"#), "/items/0/quantity");
    }

    #[test]
    fn compacting_drops_white_space_between_tokens_only() {
        let text = "{ \"a b\" :\n[1.50, 1e400,\t\"x \\\" \\\\\" , {} ] }".to_owned();
        let compacted = compact(&RawValue::from_string(text).unwrap());
        assert_eq!(compacted.get(), r#"{"a b":[1.50,1e400,"x \" \\",{}]}"#);
    }
}
