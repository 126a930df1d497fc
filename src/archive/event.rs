//! An event as CloudEvents 1.0 in JSON, one a line (<https://github.com/cloudevents/spec>).
//!
//! `id`, `type`, `subject` (the stream) and `time` are what CloudEvents says; the rest are extensions, whose names may have
//! lower-case letters and digits only and whose numbers only 32 bits, so that positions and sequences are text.

use std::borrow::Cow;

use base64::{Engine, engine::general_purpose::STANDARD};
use chrono::{DateTime, SecondsFormat, Utc};
use event_sourcing_actors::{
    AggregateId, AggregateType, CommandId, EventId, EventType, Sequence,
    digest::Covered,
    envelope::{EventBody, Metadata},
};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::wire;

const SPEC_VERSION: &str = "1.0";
const JSON: &str = "application/json";

/// Why a line is no event that can be imported.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct LineError(pub String);

fn wrong(reason: impl std::fmt::Display) -> LineError {
    LineError(reason.to_string())
}

/// A CloudEvent as it is written.
#[derive(Debug, Serialize)]
struct Written<'a> {
    specversion: &'static str,
    id: String,
    source: &'a str,
    #[serde(rename = "type")]
    event_type: &'a str,
    subject: &'a str,
    time: String,
    datacontenttype: &'static str,
    aggregatetype: &'a str,
    aggregatesequence: String,
    logposition: String,
    schemaversion: u32,
    /// Covers the payload as it is stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    checksum: Option<&'a str>,
    /// The stored metadata, byte for byte, which the checksum covers.
    metadata: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    correlationid: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    causationid: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    traceparent: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a RawValue>,
    /// A payload whose white space holds ends of lines, which a line cannot.
    #[serde(skip_serializing_if = "Option::is_none")]
    data_base64: Option<String>,
}

/// A CloudEvent as it is read. Members that are not known are left alone.
#[derive(Debug, Deserialize)]
struct Read<'a> {
    #[serde(borrow)]
    specversion: Cow<'a, str>,
    id: Cow<'a, str>,
    #[serde(rename = "type")]
    event_type: Cow<'a, str>,
    subject: Option<Cow<'a, str>>,
    aggregatetype: Option<Cow<'a, str>>,
    aggregatesequence: Option<Cow<'a, str>>,
    schemaversion: Option<u32>,
    checksum: Option<Cow<'a, str>>,
    metadata: Option<Cow<'a, str>>,
    correlationid: Option<Cow<'a, str>>,
    causationid: Option<Cow<'a, str>>,
    traceparent: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "present")]
    data: Option<&'a RawValue>,
    data_base64: Option<Cow<'a, str>>,
}

/// `null` is a payload like any other, and not an absent one.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// What a line asks for.
#[derive(Debug, Clone)]
pub struct Incoming {
    /// The stream.
    pub aggregate_id: AggregateId,
    /// Its type.
    pub aggregate_type: AggregateType,
    /// The place in the stream it must get, if it names one.
    pub sequence: Option<Sequence>,
    /// The event.
    pub body: EventBody,
    /// The digest it must have, if it names one.
    pub checksum: Option<String>,
}

/// Whether an event that came over the wire has the checksum that it says.
#[must_use]
pub fn is_intact(event: &wire::Event) -> bool {
    let covered = Covered {
        aggregate_id: &event.aggregate_id,
        aggregate_type: &event.aggregate_type,
        sequence: event.sequence,
        event_id: event.event_id,
        event_type: &event.event_type,
        schema_version: event.schema_version,
        data: event.data.get().as_bytes(),
        metadata: event.metadata.get().as_bytes(),
    };
    covered.checksum().to_string() == event.checksum
}

/// An event as a line, without its end.
///
/// # Errors
/// [`LineError`] when it cannot be written, which does not happen with what the log holds.
pub fn line(event: &wire::Event, source: &str) -> Result<String, LineError> {
    written(event, source, Some(&event.checksum))
}

/// The same of an event whose personal members are opened: without checksum, as that covers the stored form.
///
/// # Errors
/// [`LineError`], as above.
pub fn opened_line(event: &wire::Event, source: &str) -> Result<String, LineError> {
    written(event, source, None)
}

fn written(event: &wire::Event, source: &str, checksum: Option<&str>) -> Result<String, LineError> {
    let metadata: Option<Metadata> = serde_json::from_str(event.metadata.get()).ok();
    let metadata = metadata.as_ref();
    let is_one_line = !event.data.get().contains(['\n', '\r']);
    let written = Written {
        specversion: SPEC_VERSION,
        id: event.event_id.to_string(),
        source,
        event_type: event.event_type.as_str(),
        subject: event.aggregate_id.as_str(),
        time: event.recorded_at.to_rfc3339_opts(SecondsFormat::Micros, true),
        datacontenttype: JSON,
        aggregatetype: event.aggregate_type.as_str(),
        aggregatesequence: event.sequence.to_string(),
        logposition: event.position.to_string(),
        schemaversion: event.schema_version,
        checksum,
        metadata: event.metadata.get(),
        correlationid: metadata.map(|metadata| &*metadata.correlation_id),
        causationid: metadata.and_then(|metadata| metadata.causation_id.as_deref()),
        traceparent: metadata.and_then(|metadata| metadata.traceparent.as_deref()),
        data: is_one_line.then_some(&*event.data),
        data_base64: (!is_one_line).then(|| STANDARD.encode(event.data.get())),
    };
    serde_json::to_string(&written).map_err(wrong)
}

/// Position and instant that a line says its event had.
#[must_use]
pub fn place(line: &str) -> Option<(u64, DateTime<Utc>)> {
    #[derive(Deserialize)]
    struct Place {
        logposition: String,
        time: DateTime<Utc>,
    }
    let place: Place = serde_json::from_str(line).ok()?;
    Some((place.logposition.parse().ok()?, place.time))
}

/// Reads a line.
///
/// # Errors
/// [`LineError`] says what is wrong with it.
pub fn parse(line: &str) -> Result<Incoming, LineError> {
    let read: Read<'_> = serde_json::from_str(line).map_err(|error| wrong(format!("it is no CloudEvent: {error}")))?;
    if read.specversion != SPEC_VERSION {
        return Err(wrong(format!("specversion must be \"1.0\", not {:?}", read.specversion)));
    }
    let named = |name: &str, error: &dyn std::fmt::Display| wrong(format!("{name} {error}"));
    let subject = read.subject.as_deref().ok_or_else(|| wrong("subject is missing: it names the stream"))?;
    let kind =
        read.aggregatetype.as_deref().ok_or_else(|| wrong("aggregatetype is missing: the type of the stream"))?;
    let id: Uuid = read.id.parse().map_err(|_| wrong(format!("id must be a UUID, not {:?}", read.id)))?;
    let sequence = read.aggregatesequence.as_deref().map(|text| match text.parse() {
        Ok(number @ 1..) => Ok(Sequence(number)),
        _ => Err(wrong(format!("aggregatesequence must be a number from 1 on, not {text:?}"))),
    });
    let schema_version = match read.schemaversion {
        Some(0) => return Err(wrong("schemaversion must be at least 1")),
        given => given.unwrap_or(1),
    };
    Ok(Incoming {
        aggregate_id: AggregateId::new(subject).map_err(|error| named("subject", &error))?,
        aggregate_type: AggregateType::new(kind).map_err(|error| named("aggregatetype", &error))?,
        sequence: sequence.transpose()?,
        body: EventBody {
            event_id: EventId(id),
            event_type: EventType::new(&*read.event_type).map_err(|error| named("type", &error))?,
            schema_version,
            data: payload(&read)?.into(),
            metadata: metadata(&read)?.into(),
        },
        checksum: read.checksum.map(Cow::into_owned),
    })
}

fn payload(read: &Read<'_>) -> Result<Vec<u8>, LineError> {
    match (read.data, &read.data_base64) {
        (Some(data), None) => Ok(data.get().as_bytes().to_vec()),
        (None, Some(text)) => {
            let data = STANDARD.decode(&**text).map_err(|error| wrong(format!("data_base64: {error}")))?;
            serde_json::from_slice::<&RawValue>(&data).map_err(|_| wrong("data_base64 holds no JSON"))?;
            Ok(data)
        }
        (None, None) => Ok(b"{}".to_vec()),
        (Some(_), Some(_)) => Err(wrong("it has both data and data_base64")),
    }
}

/// The metadata as they were, or made of what other programs know.
fn metadata(read: &Read<'_>) -> Result<Vec<u8>, LineError> {
    if let Some(text) = &read.metadata {
        serde_json::from_str::<Metadata>(text).map_err(|error| wrong(format!("metadata: {error}")))?;
        return Ok(text.as_bytes().to_vec());
    }
    let shared = |text: &Option<Cow<'_, str>>| text.as_deref().map(Into::into);
    let made = Metadata {
        command_id: CommandId(Uuid::now_v7()),
        correlation_id: read.correlationid.as_deref().unwrap_or(&read.id).into(),
        causation_id: shared(&read.causationid),
        traceparent: shared(&read.traceparent),
        actor: None,
    };
    serde_json::to_vec(&made).map_err(wrong)
}

#[cfg(test)]
mod tests {
    use event_sourcing_actors::{NewEvent, Position, RecordedEvent, StreamHead};

    use super::*;

    fn event(data: &'static str) -> wire::Event {
        let (id, kind) = (AggregateId::new("ü/1").unwrap(), AggregateType::new("note").unwrap());
        let metadata = Metadata {
            command_id: CommandId(Uuid::nil()),
            correlation_id: "c".into(),
            causation_id: None,
            traceparent: None,
            actor: Some("a".into()),
        };
        let body = EventBody {
            event_id: EventId(Uuid::from_u128(7)),
            event_type: EventType::new("Noted").unwrap(),
            schema_version: 3,
            data: data.into(),
            metadata: serde_json::to_vec(&metadata).unwrap().into(),
        };
        let event = NewEvent::following(&mut StreamHead::EMPTY.clone(), &id, &kind, body);
        let recorded = RecordedEvent::new(Position(9), DateTime::UNIX_EPOCH, event);
        wire::Event::try_from(&recorded).unwrap()
    }

    #[test]
    fn line_comes_back_byte_for_byte() {
        for data in [r#"{"a":1.50,"b":"\n\u001b"}"#, "{\"a\":\r\n [1,\n2]}", "null"] {
            let event = event(data);
            assert!(is_intact(&event));
            let line = line(&event, "urn:uuid:x").unwrap();
            assert!(!line.contains(['\n', '\r']), "{line}");
            assert_eq!(place(&line), Some((9, DateTime::UNIX_EPOCH)));
            let read = parse(&line).unwrap();
            assert_eq!(
                (&read.body.data[..], &read.body.metadata[..]),
                (data.as_bytes(), event.metadata.get().as_bytes())
            );
            assert_eq!((read.sequence, read.checksum.as_deref()), (Some(Sequence(1)), Some(event.checksum.as_str())));
        }
    }

    #[test]
    fn foreign_events_need_only_what_a_stream_needs() {
        let least = r#"{"specversion":"1.0","id":"00000000-0000-0000-0000-000000000007","source":"/x","type":"T",
            "subject":"s","aggregatetype":"note","data":{"a":1},"someextension":true}"#;
        let read = parse(&least.replace('\n', " ")).unwrap();
        assert_eq!((read.sequence, read.body.schema_version), (None, 1));
        let metadata: Metadata = serde_json::from_slice(&read.body.metadata).unwrap();
        assert_eq!(&*metadata.correlation_id, "00000000-0000-0000-0000-000000000007");
        for (from, to) in [
            ("\"1.0\"", "\"0.3\""),
            ("00000007\"", "7\""),
            ("\"subject\":\"s\",", ""),
            ("\"subject\":\"s\"", "\"subject\":\"\""),
            ("\"aggregatetype\":\"note\",", ""),
            ("\"data\"", "\"data_base64\":\"e30=\",\"data\""),
            ("\"someextension\":true", "\"aggregatesequence\":\"0\""),
            ("\"someextension\":true", "\"metadata\":\"{}\""),
            ("\"someextension\":true", "\"schemaversion\":0"),
        ] {
            assert!(least.contains(from), "{from}");
            assert!(parse(&least.replace(from, to)).is_err(), "{to}");
        }
    }
}
