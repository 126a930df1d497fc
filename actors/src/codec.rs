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
        let message = message.rsplit_once(" at line ").map_or(message.as_str(), |(sentence, _)| sentence);
        let mut pointer = String::new();
        for segment in error.path() {
            match segment {
                Segment::Seq { index } => pointer += &format!("/{index}"),
                Segment::Map { key } => pointer += &format!("/{}", escaped(key)),
                Segment::Enum { .. } | Segment::Unknown => {}
            }
        }
        // A missing or repeated member is reported at its parent: name the member itself.
        for (lead, detail) in [("missing field `", "is missing"), ("duplicate field `", "occurs more than once")] {
            if let Some(member) = message.strip_prefix(lead).and_then(|rest| rest.strip_suffix('`')) {
                pointer += &format!("/{}", escaped(member));
                return FieldError { pointer, detail: detail.to_owned() };
            }
        }
        FieldError { pointer, detail: plain(message) }
    })
}

/// What serde says, in the words of JSON instead of those of Rust.
fn plain(message: &str) -> String {
    if message == "number out of range" {
        return "is a number out of range".to_owned();
    }
    let Some((fault, wanted)) = message.rsplit_once(", expected ") else { return message.to_owned() };
    if fault.starts_with("unknown field `") {
        let known = wanted.trim_start_matches("one of ").replace('`', "").replace(" or ", ", ");
        return format!("is not a known member; known are {known}");
    }
    let is_integer = matches!(wanted, "i8" | "i16" | "i32" | "i64" | "u8" | "u16" | "u32" | "u64");
    if let Some(found) = fault.strip_prefix("invalid value: ") {
        let wanted = match wanted {
            "i64" => format!("a whole number from {} to {}", i64::MIN, i64::MAX),
            "u64" => format!("a whole number from 0 to {}", u64::MAX),
            other => other.to_owned(),
        };
        return format!("must be {wanted}, not {}", named(found));
    }
    let Some(found) = fault.strip_prefix("invalid type: ") else { return message.to_owned() };
    let wanted = match wanted {
        // 1.0 and 1e2 are whole, but not as JSON libraries read them.
        _ if is_integer && found.starts_with("floating point ") => "a whole number without fraction or exponent",
        _ if is_integer => "a whole number",
        "a string" => "a text",
        "a sequence" => "a list",
        "a map" => "a JSON object",
        other if other.starts_with("struct ") => "a JSON object",
        other => other,
    };
    format!("must be {wanted}, not {}", named(found))
}

/// Characters of a wrong value that are repeated to its sender.
const ECHO_CHARS_MAX: usize = 80;

fn named(found: &str) -> String {
    let found = match found {
        "sequence" => "a list".to_owned(),
        "map" => "an object".to_owned(),
        other => match other.strip_prefix("string ") {
            Some(text) => format!("the text {text}"),
            None => other.split('`').nth(1).unwrap_or(other).to_owned(),
        },
    };
    match found.char_indices().nth(ECHO_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &found[..end]),
        None => found,
    }
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
    fn faults_are_told_in_the_words_of_json() {
        let detail = |quantity: &str| {
            decode_object::<Order>(&format!(r#"{{"items":[{{"quantity":{quantity}}}]}}"#)).unwrap_err().detail
        };
        assert_eq!(detail("\"5\""), "must be a whole number, not the text \"5\"");
        assert_eq!(detail("1e2"), "must be a whole number without fraction or exponent, not 100.0");
        assert_eq!(detail("null"), "must be a whole number, not null");
        assert_eq!(detail("true"), "must be a whole number, not true");
        assert_eq!(detail("[5]"), "must be a whole number, not a list");
        assert_eq!(detail("1e400"), "is a number out of range");
        let range = "must be a whole number from -9223372036854775808 to 9223372036854775807";
        assert_eq!(detail("9223372036854775808"), format!("{range}, not 9223372036854775808"));
        assert_eq!(detail("1,\"more\":2"), "is not a known member; known are quantity");
        assert_eq!(detail("1,\"quantity\":2"), "occurs more than once");
        assert_eq!(
            detail("\"a at line 1, expected b\""),
            "must be a whole number, not the text \"a at line 1, expected b\""
        );
        assert!(detail(&format!("{:?}", "long".repeat(100))).chars().count() < 150);
        assert_eq!(decode_object::<Order>(r#"{"items":5}"#).unwrap_err().detail, "must be a list, not 5");
        assert_eq!(decode_object::<Order>(r#"{"items":[5]}"#).unwrap_err().detail, "must be a JSON object, not 5");
    }

    #[test]
    fn compacting_drops_white_space_between_tokens_only() {
        let text = "{ \"a b\" :\n[1.50, 1e400,\t\"x \\\" \\\\\" , {} ] }".to_owned();
        let compacted = compact(&RawValue::from_string(text).unwrap());
        assert_eq!(compacted.get(), r#"{"a b":[1.50,1e400,"x \" \\",{}]}"#);
    }
}
