//! One request on its way through a handler: its ids, principal, path parameters and headers.

use std::{borrow::Cow, pin::Pin, sync::Arc};

use bytes::Bytes;
use event_sourcing_actors::{
    AggregateId, Expected, Position, Runtime, Sequence,
    command_bus::{Idempotency, Principal, RequestContext},
};
use futures_util::Stream;
use percent_encoding::percent_decode_str;
use sha2::{Digest, Sha256};
use uuid::Uuid;
use warp::http::{HeaderMap, HeaderName, HeaderValue, Method, header};

use super::{
    context::Server,
    error::{self, Problem},
    query::Query,
};
use crate::auth::Access;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const MIN_POSITION: HeaderName = HeaderName::from_static("es-min-position");
const AS_OF_POSITION: HeaderName = HeaderName::from_static("es-as-of-position");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const CORRELATION_ID: HeaderName = HeaderName::from_static("x-correlation-id");
const CAUSATION_ID: HeaderName = HeaderName::from_static("x-causation-id");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// A request's body as it arrives.
pub(super) type Incoming = Pin<Box<dyn Stream<Item = Result<Bytes, warp::Error>> + Send + Sync>>;

/// What names a request; made when the client sent none, and answered back.
#[derive(Debug, Clone)]
pub(super) struct Ids {
    request: Arc<str>,
    correlation: Arc<str>,
    causation: Arc<str>,
    traceparent: Arc<str>,
}

impl Ids {
    /// The client's ids where they are usable, own ones elsewhere.
    pub fn of(headers: &HeaderMap) -> Self {
        let made = Uuid::now_v7();
        let sent = |name: &HeaderName| headers.get(name).and_then(visible).map(Arc::<str>::from);
        let request = sent(&REQUEST_ID).unwrap_or_else(|| made.to_string().into());
        let traceparent = headers.get(&TRACEPARENT).and_then(|value| value.to_str().ok()).filter(|t| is_traceparent(t));
        // The second half of a UUID of version 7 is random.
        let span = &Uuid::now_v7().simple().to_string()[16..];
        Self {
            correlation: sent(&CORRELATION_ID).unwrap_or_else(|| made.to_string().into()),
            causation: sent(&CAUSATION_ID).unwrap_or_else(|| request.clone()),
            traceparent: traceparent.map_or_else(|| format!("00-{}-{span}-00", made.simple()).into(), Arc::from),
            request,
        }
    }

    /// The request's own id.
    pub fn request(&self) -> &str {
        &self.request
    }

    /// The trace's id, by which log lines are found.
    pub fn trace_id(&self) -> &str {
        self.traceparent.get(3..35).unwrap_or_default()
    }

    /// As recorded in events.
    pub fn context(&self) -> RequestContext {
        RequestContext {
            correlation_id: self.correlation.clone(),
            causation_id: Some(self.causation.clone()),
            traceparent: Some(self.traceparent.clone()),
        }
    }

    /// Answers them back.
    pub fn write(&self, headers: &mut HeaderMap) {
        let ids = [
            (REQUEST_ID, &self.request),
            (CORRELATION_ID, &self.correlation),
            (CAUSATION_ID, &self.causation),
            (TRACEPARENT, &self.traceparent),
        ];
        for (name, id) in ids {
            if let Ok(value) = HeaderValue::from_str(id) {
                headers.insert(name, value);
            }
        }
    }
}

/// A header's text if it is 1–255 visible ASCII characters.
fn visible(value: &HeaderValue) -> Option<&str> {
    let text = value.to_str().ok()?;
    ((1..=255).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())).then_some(text)
}

/// Whether a text is a trace context of W3C's version 00, or of a later one as far as it can be known.
fn is_traceparent(text: &str) -> bool {
    let is_hex = |part: &str| part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let is_zero = |part: &str| part.bytes().all(|byte| byte == b'0');
    let mut parts = text.split('-');
    let (Some(version), Some(trace), Some(span), Some(flags)) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return false;
    };
    let is_known = version == "00" && parts.next().is_none();
    let is_later = version.len() == 2 && is_hex(version) && version != "00" && version != "ff" && text.len() <= 255;
    (is_known || is_later)
        && trace.len() == 32
        && span.len() == 16
        && flags.len() == 2
        && [trace, span, flags].into_iter().all(is_hex)
        && !is_zero(trace)
        && !is_zero(span)
}

/// One request.
pub(super) struct Call {
    pub server: Arc<Server>,
    pub ids: Ids,
    pub access: Access,
    pub method: Method,
    /// As sent.
    pub path: String,
    /// As sent.
    pub query: String,
    pub headers: HeaderMap,
    /// Percent-encoded.
    pub parameters: Vec<String>,
    pub body: Incoming,
}

impl Call {
    pub fn runtime(&self) -> &Runtime {
        &self.server.context.runtime
    }

    /// In whose name.
    pub fn principal(&self) -> &Principal {
        &self.access.principal
    }

    /// A path parameter, decoded.
    pub fn decoded(&self, index: usize) -> Result<String, Box<Problem>> {
        let raw = self.parameters.get(index).map(String::as_str).unwrap_or_default();
        percent_decoded(raw).map(Cow::into_owned).map_err(|reason| Problem::new(error::INVALID_ID, reason))
    }

    /// The aggregate id in the path.
    pub fn aggregate_id(&self) -> Result<AggregateId, Box<Problem>> {
        AggregateId::new(self.decoded(0)?)
            .map_err(|reason| Problem::new(error::INVALID_ID, format!("the aggregate id {reason}")))
    }

    /// The URL's parameters, to be taken one by one.
    pub fn query(&self) -> Query {
        Query::parse(&self.query)
    }

    /// The version a command or an append demands.
    pub fn expected(&self) -> Result<Expected, Box<Problem>> {
        let wrong = |detail: &str| Problem::new(error::MALFORMED_HEADER, detail);
        let one = |name: HeaderName| {
            let mut values = self.headers.get_all(name).iter();
            (values.next().map(|value| value.to_str().unwrap_or_default().trim()), values.next().is_some())
        };
        let (if_match, is_repeated) = one(header::IF_MATCH);
        let (if_none_match, is_none_repeated) = one(header::IF_NONE_MATCH);
        if is_repeated || is_none_repeated || (if_match.is_some() && if_none_match.is_some()) {
            return Err(wrong("send one If-Match or one If-None-Match, not several"));
        }
        match (if_match, if_none_match) {
            (None, None) => Ok(Expected::Any),
            (None, Some("*")) => Ok(Expected::NoStream),
            (None, Some(_)) => Err(wrong("If-None-Match of a command is *: the aggregate must not exist yet")),
            (Some(text), _) => text
                .strip_prefix('"')
                .and_then(|text| text.strip_suffix('"'))
                .filter(|digits| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()))
                .and_then(|digits| digits.parse().ok())
                .map(|version| Expected::Exactly(Sequence(version)))
                .ok_or_else(|| wrong("If-Match names one version in quotes, as in \"17\"")),
        }
    }

    /// The least position a query's answer must rest on.
    pub fn min_position(&self) -> Result<Option<Position>, Box<Problem>> {
        self.position(&MIN_POSITION, "Es-Min-Position")
    }

    /// The position as of which a query is to be answered; it stands alone, since nothing need be waited for.
    pub fn as_of_position(&self) -> Result<Option<Position>, Box<Problem>> {
        let as_of = self.position(&AS_OF_POSITION, "Es-As-Of-Position")?;
        if as_of.is_some() && self.headers.contains_key(MIN_POSITION) {
            let detail = "send Es-Min-Position or Es-As-Of-Position, not both";
            return Err(Problem::new(error::MALFORMED_HEADER, detail));
        }
        Ok(as_of)
    }

    fn position(&self, header: &HeaderName, name: &str) -> Result<Option<Position>, Box<Problem>> {
        let mut values = self.headers.get_all(header).iter();
        let Some(value) = values.next() else { return Ok(None) };
        let text = value.to_str().unwrap_or_default().trim();
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let position = text.parse().ok().filter(|_| is_number && values.next().is_none());
        match position {
            // As in URLs: positions that no store can hold read as the last one.
            Some(position) => Ok(Some(Position(u64::min(position, i64::MAX as u64 - 1)))),
            None => {
                let detail = format!("{name} is one position of the log, a whole number from 0 on");
                Err(Problem::new(error::MALFORMED_HEADER, detail))
            }
        }
    }

    /// The idempotency key with the digest of this request.
    pub fn idempotency(&self, body: &[u8]) -> Result<Option<Idempotency>, Box<Problem>> {
        let mut keys = self.headers.get_all(IDEMPOTENCY_KEY).iter();
        let Some(key) = keys.next() else { return Ok(None) };
        let Some(key) = visible(key).filter(|_| keys.next().is_none()) else {
            let detail = "send one Idempotency-Key of 1 to 255 visible ASCII characters";
            return Err(Problem::new(error::MALFORMED_HEADER, detail));
        };
        let header = |name: HeaderName| self.headers.get(name).map(HeaderValue::as_bytes).unwrap_or_default();
        let mut hash = Sha256::new_with_prefix(b"event-sourcing-cqrs/request/v1");
        let parts = [
            self.method.as_str().as_bytes(),
            self.path.as_bytes(),
            self.query.as_bytes(),
            header(header::IF_MATCH),
            header(header::IF_NONE_MATCH),
            body,
        ];
        for part in parts {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        Ok(Some(Idempotency { key: key.into(), fingerprint: hash.finalize().into() }))
    }

    /// Refuses ids that would be recorded but are not usable; the others are replaced without a word.
    pub fn check_ids(&self) -> Result<(), Box<Problem>> {
        for name in [CORRELATION_ID, CAUSATION_ID] {
            if self.headers.get(&name).is_some_and(|value| visible(value).is_none()) {
                let detail = format!("{name} is 1 to 255 visible ASCII characters");
                return Err(Problem::new(error::MALFORMED_HEADER, detail));
            }
        }
        Ok(())
    }

    /// `problem`, unless the demanded version is not met: that is told before wrong input.
    pub async fn after_precondition(
        &self,
        id: &AggregateId,
        expected: Expected,
        problem: Box<Problem>,
    ) -> Box<Problem> {
        if expected == Expected::Any {
            return problem;
        }
        match self.runtime().feed().summary(id).await {
            Err(error) => Problem::of_store(&error),
            Ok(summary) => {
                let version = summary.map_or(Sequence::ZERO, |summary| summary.head.sequence);
                if expected.is_met_by(version) { problem } else { Problem::precondition_failed(version.0) }
            }
        }
    }
}

/// A percent-encoded text, or why it is none.
pub(super) fn percent_decoded(raw: &str) -> Result<Cow<'_, str>, &'static str> {
    let bytes = raw.as_bytes();
    let is_hex = |index: usize| bytes.get(index).is_some_and(u8::is_ascii_hexdigit);
    if bytes.iter().enumerate().any(|(index, byte)| *byte == b'%' && !(is_hex(index + 1) && is_hex(index + 2))) {
        return Err("a % must be followed by two hexadecimal digits");
    }
    percent_decode_str(raw).decode_utf8().map_err(|_| "the percent-encoded text is not UTF-8")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_valid_trace_contexts_are_taken() {
        assert!(is_traceparent("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"));
        assert!(is_traceparent("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what-comes-later"));
        for wrong in [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            assert!(!is_traceparent(wrong), "{wrong:?}");
        }
    }

    #[test]
    fn percent_encoding_is_checked() {
        assert_eq!(percent_decoded("a%2Fb%20%E6%97%A5+").as_deref(), Ok("a/b 日+"));
        assert!(percent_decoded("%").is_err());
        assert!(percent_decoded("%4").is_err());
        assert!(percent_decoded("%zz").is_err());
        assert!(percent_decoded("%ff").is_err());
    }
}
