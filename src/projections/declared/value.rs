//! Values of an event: found by pointer, byte for byte as they were recorded.

use std::collections::HashMap;

use event_sourcing_actors::{
    codec::{compact, escaped},
    projection::ProjectedEvent,
};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use super::declaration::{Envelope, Source};
use crate::views::instant;

/// Bytes of a wrong value that are repeated to the operator.
const ECHO_CHARS_MAX: usize = 80;

/// Reads one event.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'a> {
    pub(super) event: &'a ProjectedEvent<'a>,
    pub(super) payload: &'a RawValue,
}

impl Reader<'_> {
    /// A row's key: a text, or a number or truth value as it is written.
    pub(super) fn key(&self, source: &Source) -> Result<String, String> {
        let value = self.value(source)?.ok_or_else(|| missing(source))?;
        match first(&value) {
            b'"' => text(&value).ok_or_else(|| format!("{} is no text", named(source))),
            b'{' | b'[' | b'n' => {
                Err(format!("{} must be a text, a number or true or false, not {}", named(source), echo(&value)))
            }
            _ => Ok(value.get().to_owned()),
        }
    }

    /// A value, if the event has it.
    pub(super) fn value(&self, source: &Source) -> Result<Option<Box<RawValue>>, String> {
        Ok(match source {
            Source::Payload(tokens) => find(self.payload, tokens).map(compact),
            Source::Metadata(tokens) => {
                let metadata: &RawValue = serde_json::from_slice(&self.event.metadata)
                    .map_err(|error| format!("the metadata are no JSON: {error}"))?;
                find(metadata, tokens).map(compact)
            }
            Source::Envelope(word) => Some(self.envelope(*word)),
            Source::Constant(value) => Some(raw(value)),
        })
    }

    fn envelope(&self, word: Envelope) -> Box<RawValue> {
        let event = self.event;
        match word {
            Envelope::AggregateId => raw(&event.aggregate_id),
            Envelope::AggregateType => raw(&event.aggregate_type),
            Envelope::EventId => raw(&event.event_id),
            Envelope::EventType => raw(&event.event_type),
            Envelope::Position => raw(&event.position),
            Envelope::RecordedAt => raw(&instant::text(event.recorded_at)),
            Envelope::RecordedOn => raw(&event.recorded_at.date_naive()),
            Envelope::Sequence => raw(&event.sequence),
        }
    }
}

/// A value of ours as JSON; none of them can fail to have such a form.
pub(super) fn raw<T: Serialize>(value: &T) -> Box<RawValue> {
    to_raw_value(value).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

pub(super) fn is_null(value: &RawValue) -> bool {
    value.get() == "null"
}

pub(super) fn whole_number(value: &RawValue) -> Option<i64> {
    serde_json::from_str(value.get()).ok()
}

pub(super) fn text(value: &RawValue) -> Option<String> {
    serde_json::from_str(value.get()).ok()
}

/// The source as it is written.
pub(super) fn named(source: &Source) -> String {
    let pointer = |tokens: &[String]| tokens.iter().map(|token| format!("/{}", escaped(token))).collect::<String>();
    match source {
        Source::Payload(tokens) => pointer(tokens),
        Source::Metadata(tokens) => format!("$metadata{}", pointer(tokens)),
        Source::Envelope(word) => {
            let known = Envelope::WORDS.iter().find(|(_, known)| known == word);
            known.map_or_else(String::new, |(text, _)| (*text).to_owned())
        }
        Source::Constant(value) => value.to_string(),
    }
}

pub(super) fn missing(source: &Source) -> String {
    format!("{} is missing", named(source))
}

/// As much of a value as belongs in a sentence.
pub(super) fn echo(value: &RawValue) -> String {
    let value = value.get();
    match value.char_indices().nth(ECHO_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &value[..end]),
        None => value.to_owned(),
    }
}

fn first(value: &RawValue) -> u8 {
    value.get().bytes().next().unwrap_or(b'n')
}

/// Follows a JSON pointer (RFC 6901).
fn find<'a>(value: &'a RawValue, tokens: &[String]) -> Option<&'a RawValue> {
    tokens.iter().try_fold(value, |value, token| match first(value) {
        b'{' => serde_json::from_str::<HashMap<String, &RawValue>>(value.get()).ok()?.remove(token),
        b'[' if token == "0" || !token.starts_with('0') => {
            let index: usize = token.parse().ok()?;
            serde_json::from_str::<Vec<&RawValue>>(value.get()).ok()?.get(index).copied()
        }
        _ => None,
    })
}
