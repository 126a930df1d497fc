//! Bodies: media type, size, time, and the envelope of a JSON document. What is inside `data` is the bus's business.

use bytes::{Bytes, BytesMut};
use event_sourcing_actors::{FieldError, catalog::nearest, codec::escaped};
use futures_util::StreamExt;
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, MapAccess, Visitor},
};
use serde_json::value::RawValue;
use warp::http::{HeaderMap, HeaderValue, header};

use super::{
    HttpOptions,
    error::{self, ERRORS_MAX, Problem, hinted},
    negotiate::{Media, negotiate},
    request::{Call, Incoming},
};

impl Call {
    /// Reads the body of a JSON request: media types first, then size, then time.
    ///
    /// # Errors
    /// 406, 415, 413, 408; 400 when the client leaves half-way.
    pub async fn read_body(&mut self, bytes_max: usize) -> Result<Bytes, Box<Problem>> {
        let options = &self.server.options;
        let (deadline, discarded_max) = (options.body_deadline, options.discarded_bytes_max.max(bytes_max));
        let announced = self.headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        let has_body =
            self.headers.contains_key(header::TRANSFER_ENCODING) || announced.is_some_and(|length: u64| length > 0);
        let media = negotiate(&self.headers, &[Media::Json])
            .and_then(|_| if has_body { check_media_type(&self.headers) } else { Ok(()) });
        if let Err(problem) = media {
            discard(&mut self.body, &self.headers, &self.server.options).await;
            return Err(problem);
        }
        let is_over = announced.is_some_and(|length| length > bytes_max as u64);
        if is_over && self.headers.contains_key(header::EXPECT) {
            // The client waits for our word before it sends: it need not send at all.
            return Err(too_large(bytes_max));
        }
        match tokio::time::timeout(deadline, self.collect(bytes_max, discarded_max)).await {
            Ok(body) => body,
            Err(_) => {
                let detail = format!("the body did not arrive within {} s", deadline.as_secs());
                Err(closing(Problem::new(error::REQUEST_TIMEOUT, detail)))
            }
        }
    }

    async fn collect(&mut self, bytes_max: usize, discarded_max: usize) -> Result<Bytes, Box<Problem>> {
        let mut body = BytesMut::new();
        let mut total = 0;
        while let Some(chunk) = self.body.next().await {
            let chunk = chunk
                .map_err(|_| closing(Problem::new(error::MALFORMED_BODY, "the body ended before its announced end")))?;
            total += chunk.len();
            if total > discarded_max {
                return Err(too_large(bytes_max));
            }
            if total <= bytes_max {
                body.extend_from_slice(&chunk);
            } else {
                body = BytesMut::new();
            }
        }
        if total > bytes_max { Err(too_large(bytes_max)) } else { Ok(body.freeze()) }
    }
}

/// Reads a body that nobody wants and throws it away: a connection closed over unread bytes is reset, and with it
/// goes the answer.
pub(super) async fn discard(body: &mut Incoming, headers: &HeaderMap, options: &HttpOptions) {
    if headers.contains_key(header::EXPECT) {
        return; // it was not sent yet
    }
    let rest = async {
        let mut total = 0;
        while let Some(Ok(chunk)) = body.next().await {
            total += chunk.len();
            if total > options.discarded_bytes_max {
                return;
            }
        }
    };
    let _ = tokio::time::timeout(options.body_deadline, rest).await;
}

fn too_large(bytes_max: usize) -> Box<Problem> {
    let detail = format!("the body is longer than {bytes_max} bytes");
    closing(Problem::new(error::BODY_TOO_LARGE, detail).with("bytes_max", bytes_max))
}

/// What is left of the request must not be read as the next one.
fn closing(problem: Box<Problem>) -> Box<Problem> {
    problem.header(header::CONNECTION, HeaderValue::from_static("close"))
}

fn check_media_type(headers: &HeaderMap) -> Result<(), Box<Problem>> {
    let refuse = |detail: String| Err(Problem::new(error::UNSUPPORTED_MEDIA_TYPE, detail));
    if let Some(coding) = headers.get(header::CONTENT_ENCODING)
        && !coding.as_bytes().eq_ignore_ascii_case(b"identity")
    {
        return refuse("a content encoding is not supported".to_owned());
    }
    let Some(sent) = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()) else {
        return refuse("Content-Type: application/json is needed".to_owned());
    };
    let mut parts = sent.split(';').map(str::trim);
    if !parts.next().is_some_and(|media| media.eq_ignore_ascii_case("application/json")) {
        return refuse(format!("{sent:?} is not application/json"));
    }
    for (name, value) in parts.filter_map(|parameter| parameter.split_once('=')) {
        let value = value.trim().trim_matches('"');
        if name.trim().eq_ignore_ascii_case("charset")
            && !value.eq_ignore_ascii_case("utf-8")
            && !value.eq_ignore_ascii_case("utf8")
        {
            return refuse(format!("the charset {value:?} is not UTF-8"));
        }
    }
    Ok(())
}

/// The top-level members of a body, each to be taken under its name before [`Self::finish`].
pub(super) struct Envelope<'a> {
    members: Vec<(String, &'a RawValue)>,
    known: Vec<&'static str>,
    errors: Vec<FieldError>,
}

impl<'a> Envelope<'a> {
    /// Reads the top level; an empty body is `{}`.
    ///
    /// # Errors
    /// `malformed-body`.
    pub fn parse(body: &'a [u8], depth_max: usize) -> Result<Self, Box<Problem>> {
        let malformed = |detail: String| Problem::at(error::MALFORMED_BODY, "", detail);
        let text = std::str::from_utf8(body).map_err(|_| malformed("is not UTF-8".to_owned()))?;
        let text = if text.is_empty() { "{}" } else { text };
        scan(text, depth_max).map_err(malformed)?;
        if !text.trim_ascii_start().starts_with('{') {
            return Err(malformed("must be a JSON object".to_owned()));
        }
        let Members(members) =
            serde_json::from_str(text).map_err(|reason| malformed(format!("is not JSON: {reason}")))?;
        Ok(Self { members, known: Vec::new(), errors: Vec::new() })
    }

    /// A member as it was sent.
    pub fn raw(&mut self, name: &'static str) -> Option<&'a RawValue> {
        self.known.push(name);
        self.members.iter().find(|(known, _)| known == name).map(|(_, value)| *value)
    }

    /// An optional member.
    pub fn optional<T: DeserializeOwned>(&mut self, name: &'static str, expected: &str) -> Option<T> {
        let raw = self.raw(name)?;
        let value = serde_json::from_str(raw.get()).ok();
        if value.is_none() {
            self.note(name, format!("must be {expected}"));
        }
        value
    }

    /// A member that must be there. When it is not, the value means nothing: [`Self::finish`] fails.
    pub fn required<T: DeserializeOwned + Default>(&mut self, name: &'static str, expected: &str) -> T {
        if self.raw(name).is_none() {
            self.note(name, "is missing");
        }
        self.optional(name, expected).unwrap_or_default()
    }

    /// A member that is an object if it is there, and then `{}`.
    pub fn object(&mut self, name: &'static str) -> Box<RawValue> {
        let raw = self.raw(name);
        if raw.is_some_and(|raw| !raw.get().starts_with('{')) {
            self.note(name, "must be a JSON object");
        }
        raw.map_or_else(empty_object, ToOwned::to_owned)
    }

    /// Notes a fault of a member.
    pub fn note(&mut self, name: &str, detail: impl Into<String>) {
        self.errors.push(FieldError { pointer: format!("/{}", escaped(name)), detail: detail.into() });
    }

    /// Whatever is wrong with the envelope, unknown and repeated members included.
    pub fn finish(mut self) -> Result<(), Box<Problem>> {
        let mut seen: Vec<&str> = Vec::new();
        for (name, _) in &self.members {
            // Also a bound on `seen`: every name but the known ones is a fault.
            if self.errors.len() >= ERRORS_MAX {
                break;
            }
            let detail = if seen.contains(&name.as_str()) {
                "occurs more than once".to_owned()
            } else if !self.known.contains(&name.as_str()) {
                hinted("is not a member of this body".to_owned(), &nearest(name, self.known.iter().copied()))
            } else {
                seen.push(name);
                continue;
            };
            seen.push(name);
            self.errors.push(FieldError { pointer: format!("/{}", escaped(name)), detail });
        }
        if self.errors.is_empty() { Ok(()) } else { Err(Problem::invalid(error::MALFORMED_BODY, self.errors)) }
    }
}

/// `{}`.
pub(super) fn empty_object() -> Box<RawValue> {
    serde_json::value::to_raw_value(&serde_json::Map::new()).unwrap_or_default()
}

/// An object's members in order, repeated ones included.
pub(super) struct Members<'a>(pub Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Members<'de>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a JSON object")
            }
            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Members<'de>, M::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry::<String, &'de RawValue>()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

/// Refuses what nests too deeply, before anything recurses into it, and escapes that stand for no character: such a
/// text could be stored but never be read as UTF-8.
fn scan(text: &str, depth_max: usize) -> Result<(), String> {
    let bytes = text.as_bytes();
    let (mut depth, mut is_in_text, mut at) = (0_usize, false, 0);
    while let Some(byte) = bytes.get(at) {
        match (is_in_text, byte) {
            (true, b'\\') => {
                match (unit(bytes, at), unit(bytes, at + 6)) {
                    (Some(0xD800..0xDC00), Some(0xDC00..0xE000)) => at += 10,
                    (Some(0xD800..0xE000), _) => return Err("holds half of a surrogate pair".to_owned()),
                    _ => {}
                }
                at += 1;
            }
            (_, b'"') => is_in_text = !is_in_text,
            (false, b'{' | b'[') => {
                depth += 1;
                if depth > depth_max {
                    return Err(format!("nests deeper than {depth_max}"));
                }
            }
            (false, b'}' | b']') => depth = depth.saturating_sub(1),
            _ => {}
        }
        at += 1;
    }
    Ok(())
}

/// The UTF-16 unit of an escape `\uXXXX` at this place.
fn unit(bytes: &[u8], at: usize) -> Option<u16> {
    let escape = bytes.get(at..at + 6)?.strip_prefix(b"\\u")?;
    u16::from_str_radix(std::str::from_utf8(escape).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_counts_brackets_outside_of_texts() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(scan(&nested(64), 64).is_ok());
        assert!(scan(&nested(65), 64).is_err());
        assert!(scan(&format!(r#"["\"{}"]"#, "[".repeat(100)), 64).is_ok());
        assert!(scan(&"[]".repeat(100), 64).is_ok());
    }

    #[test]
    fn half_surrogate_pairs_are_refused() {
        assert!(scan(r#""\ud83d\ude00 \u00e9 \\ud83d""#, 64).is_ok());
        for wrong in [r#""\ud83d""#, r#""\ude00""#, r#""\ud83dx\ude00""#, r#""\\\ud83d""#] {
            assert!(scan(wrong, 64).is_err(), "{wrong}");
        }
    }
}
