//! Words on a running server: a small HTTP client, one connection a request.

mod access;
mod branches;
mod integrity;
mod projections;
mod sagas;

use std::{future::Future, time::Duration};

use bytes::{Bytes, BytesMut};
use event_sourcing_actors::{
    AggregateId, BranchId, EventFilter, Expected, Position, Sequence, history::At, ports::Direction,
};
use event_sourcing_cqrs::wire;
use futures_util::{StreamExt, stream};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Method, Request, Response, Uri, body::Incoming, header};
use hyper_util::rt::TokioIo;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, value::RawValue};
use tokio::net::TcpStream;

use super::{
    exit::{Exit, Failure},
    secret::Secret,
    target::{Change, Events, LogQuery, ReplayQuery, StreamQuery, What},
};

/// RFC 3986: everything but unreserved characters.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// Longest answer: a page of 1000 events, each as long as a request may be, does not occur.
const ANSWER_BYTES_MAX: usize = 256 << 20;

/// A running server.
#[derive(Debug, Clone)]
pub(crate) struct Remote {
    /// `host:port`.
    authority: String,
    token: Option<Secret>,
    timeout: Duration,
    /// The timeline that words are about, if it is a branch.
    branch: Option<BranchId>,
}

/// One request.
#[derive(Debug, Default)]
struct Ask {
    path: String,
    /// POST with a body and GET without one, unless said otherwise.
    method: Option<Method>,
    body: Option<String>,
    headers: Vec<(header::HeaderName, String)>,
}

impl Remote {
    /// Reads the address; nothing is sent yet.
    pub(crate) fn new(url: &str, timeout: Duration) -> Result<Self, Failure> {
        let wrong = || Failure::usage("--url must be http://host:port; this client speaks no TLS and takes no path");
        let uri: Uri = url.parse().map_err(|_| wrong())?;
        let host = uri.host().filter(|_| uri.scheme_str() == Some("http") && uri.path() == "/").ok_or_else(wrong)?;
        let authority = format!("{host}:{}", uri.port_u16().unwrap_or(80));
        Ok(Self { authority, token: None, timeout, branch: None })
    }

    /// Says who asks.
    pub(crate) fn with_token(self, token: Option<Secret>) -> Self {
        Self { token, ..self }
    }

    pub(crate) async fn version(&self) -> Result<Value, Failure> {
        self.get("/version".to_owned()).await
    }

    pub(crate) async fn openapi(&self) -> Result<Value, Failure> {
        self.get("/api/v1/openapi.json".to_owned()).await
    }

    /// `host:port`.
    pub(crate) fn authority(&self) -> &str {
        &self.authority
    }

    /// The same on a branch.
    pub(crate) fn about(self, branch: Option<BranchId>) -> Self {
        Self { branch, ..self }
    }

    pub(crate) async fn log(&self, query: &LogQuery) -> Result<wire::LogPage, Failure> {
        let raw = if query.is_raw { "&raw=true" } else { "" };
        let path = format!("/api/v1/events?after={}&limit={}{}{raw}", query.after, query.limit, filter(&query.filter));
        self.get(path).await
    }

    pub(crate) async fn stream(&self, id: &AggregateId, query: &StreamQuery) -> Result<wire::StreamPage, Failure> {
        let direction = match query.direction {
            Direction::Forward => "forward",
            Direction::Backward => "backward",
        };
        let to = query.to.map_or(String::new(), |to| format!("&to_sequence={to}"));
        let (id, limit) = (encoded(id.as_str()), query.limit);
        let range = format!("from_sequence={}{to}&limit={limit}&direction={direction}", query.from);
        self.get(format!("/api/v1/events/{id}?{range}")).await
    }

    /// From the health check of the event store, the one answer that has it alone.
    pub(crate) async fn head(&self) -> Result<Position, Failure> {
        if let Some(id) = self.branch {
            return self.head_of_branch(id).await;
        }
        let (_, health) = self.document("/health").await?;
        let head = health.pointer("/checks/event_store/0/observedValue").and_then(Value::as_u64);
        head.map(Position).ok_or_else(|| Failure::new(Exit::Unavailable, "the server does not know its log's head"))
    }

    pub(crate) async fn follow(&self, after: Position, wanted: EventFilter) -> Result<Events, Failure> {
        let ask = Ask {
            path: format!("/api/v1/events?after={after}{}", filter(&wanted)),
            headers: vec![(header::ACCEPT, "application/x-ndjson".to_owned())],
            ..Ask::default()
        };
        // Only the head of the answer is waited for within the time-out: events may come much later.
        let answer = self.bounded(self.send(ask)).await?;
        if !answer.status().is_success() {
            let status = answer.status().as_u16();
            let body = self.bounded(whole(answer.into_body())).await?;
            return Err(refused(status, &body));
        }
        Ok(lines(answer.into_body()))
    }

    pub(crate) async fn change(&self, change: Change) -> Result<wire::Accepted, Failure> {
        #[derive(Serialize)]
        struct Body<'a> {
            aggregate_id: &'a AggregateId,
            #[serde(skip_serializing_if = "Option::is_none")]
            command_type: Option<&'a str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            aggregate_type: Option<&'a str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            event_type: Option<&'a str>,
            data: &'a RawValue,
        }
        let (path, command_type, event_type, aggregate_type) = match &change.what {
            What::Command(name) => ("/api/v1/commands", Some(name.as_str()), None, None),
            What::Event(event_type, of) => ("/api/v1/events", None, Some(event_type.as_str()), of.as_ref()),
        };
        let aggregate_type = aggregate_type.map(|of| of.as_str());
        let body =
            Body { aggregate_id: &change.aggregate_id, command_type, aggregate_type, event_type, data: &change.data };
        let mut headers = match change.expected {
            Expected::Any => Vec::new(),
            Expected::NoStream => vec![(header::IF_NONE_MATCH, "*".to_owned())],
            Expected::Exactly(version) => vec![(header::IF_MATCH, format!("\"{version}\""))],
        };
        headers.extend(keyed(change.idempotency_key.as_deref()));
        let path = if change.dry_run { format!("{path}?dry_run=true") } else { path.to_owned() };
        self.answer(Ask { path, body: Some(json(&body)?), headers, ..Ask::default() }).await
    }

    pub(crate) async fn replay(&self, id: &AggregateId, query: ReplayQuery) -> Result<wire::Replayed, Failure> {
        let mut body = serde_json::json!({
            "aggregate_id": id, "from_sequence": query.from, "use_snapshot": query.use_snapshot,
        });
        if let Some(to) = query.to {
            body["to_sequence"] = to.into();
        }
        let ask = Ask { path: "/api/v1/replay".to_owned(), body: Some(body.to_string()), ..Ask::default() };
        self.answer(ask).await
    }

    pub(crate) async fn as_of(&self, id: &AggregateId, at: At) -> Result<wire::State, Failure> {
        let point = match at {
            At::Sequence(sequence) => format!("at_sequence={sequence}"),
            At::Position(position) => format!("at_position={position}"),
            At::Time(instant) => format!("at_time={}", encoded(&instant.to_rfc3339())),
        };
        self.get(format!("/api/v1/aggregates/{}?{point}", encoded(id.as_str()))).await
    }

    pub(crate) async fn difference(
        &self,
        id: &AggregateId,
        from: Sequence,
        to: Option<Sequence>,
    ) -> Result<wire::Changes, Failure> {
        let to = to.map_or(String::new(), |to| format!("&to_sequence={to}"));
        self.get(format!("/api/v1/aggregates/{}/diff?from_sequence={from}{to}", encoded(id.as_str()))).await
    }

    /// A document and its status, whatever that is.
    pub(crate) async fn document(&self, path: &str) -> Result<(u16, Value), Failure> {
        let (status, body) = self.exchange(Ask { path: path.to_owned(), ..Ask::default() }).await?;
        match serde_json::from_slice(&body) {
            Ok(document) => Ok((status, document)),
            Err(_) => Err(refused(status, &body)),
        }
    }

    async fn get<T: DeserializeOwned>(&self, path: String) -> Result<T, Failure> {
        self.answer(Ask { path, ..Ask::default() }).await
    }

    async fn answer<T: DeserializeOwned>(&self, ask: Ask) -> Result<T, Failure> {
        let (status, body) = self.exchange(ask).await?;
        if !(200..300).contains(&status) {
            return Err(refused(status, &body));
        }
        serde_json::from_slice(&body)
            .map_err(|error| Failure::new(Exit::Failed, format!("the server's answer is not understood: {error}")))
    }

    async fn exchange(&self, ask: Ask) -> Result<(u16, Bytes), Failure> {
        self.bounded(async {
            let answer = self.send(ask).await?;
            Ok((answer.status().as_u16(), whole(answer.into_body()).await?))
        })
        .await
    }

    async fn bounded<T>(&self, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        match tokio::time::timeout(self.timeout, work).await {
            Ok(result) => result,
            Err(_) => {
                let message = format!("{} gave no answer within {:?}", self.authority, self.timeout);
                Err(Failure::new(Exit::Unavailable, message))
            }
        }
    }

    /// The path, on the branch that words are about. What tells of branches themselves is no part of one.
    fn on_branch(&self, path: String) -> String {
        match self.branch {
            Some(id) if !path.starts_with("/api/v1/branches/") => {
                let joint = if path.contains('?') { '&' } else { '?' };
                format!("{path}{joint}branch={id}")
            }
            _ => path,
        }
    }

    async fn send(&self, ask: Ask) -> Result<Response<Incoming>, Failure> {
        let away = |error: &dyn std::fmt::Display| {
            Failure::new(Exit::Unavailable, format!("{} cannot be reached: {error}", self.authority))
        };
        let stream = TcpStream::connect(&self.authority).await.map_err(|error| away(&error))?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| away(&error))?;
        // Ends with the answer, or when the answer is dropped; what goes wrong shows in the answer.
        tokio::spawn(connection);
        let usual = if ask.body.is_some() { Method::POST } else { Method::GET };
        let method = ask.method.unwrap_or(usual);
        let mut request =
            Request::builder().method(method).uri(self.on_branch(ask.path)).header(header::HOST, &self.authority);
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {}", token.expose()));
        }
        if ask.body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        for (name, value) in ask.headers {
            request = request.header(name, value);
        }
        let request = request
            .body(Full::new(Bytes::from(ask.body.unwrap_or_default())))
            .map_err(|error| Failure::usage(format!("this cannot be sent: {error}")))?;
        sender.send_request(request).await.map_err(|error| away(&error))
    }
}

/// The header that recognises a repetition.
fn keyed(key: Option<&str>) -> Option<(header::HeaderName, String)> {
    key.map(|key| (header::HeaderName::from_static("idempotency-key"), key.to_owned()))
}

async fn whole(body: Incoming) -> Result<Bytes, Failure> {
    let collected = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
    let broken = |error| Failure::new(Exit::Unavailable, format!("the server's answer broke off: {error}"));
    Ok(collected.map_err(broken)?.to_bytes())
}

fn refused(status: u16, body: &[u8]) -> Failure {
    Failure::from_problem(status, &serde_json::from_slice(body).unwrap_or_default())
}

fn json<T: Serialize>(body: &T) -> Result<String, Failure> {
    Ok(serde_json::to_string(body).map_err(std::io::Error::from)?)
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, SEGMENT).to_string()
}

/// A filter as the end of a URL.
fn filter(filter: &EventFilter) -> String {
    let types = filter.event_types.iter().map(|name| ("event_type", name.as_str()));
    let kinds = filter.aggregate_types.iter().map(|name| ("aggregate_type", name.as_str()));
    let correlation = filter.correlation_id.as_deref().map(|id| ("correlation_id", id));
    let texts = types.chain(kinds).chain(correlation).map(|(name, value)| format!("&{name}={}", encoded(value)));
    let times = [("from_time", filter.from_time), ("to_time", filter.to_time)];
    let times = times.into_iter().filter_map(|(name, time)| Some(format!("&{name}={}", encoded(&time?.to_rfc3339()))));
    texts.chain(times).collect()
}

/// Each line of a body as an event.
fn lines(body: Incoming) -> Events {
    let broken = |reason: String| Failure::new(Exit::Unavailable, format!("the events broke off: {reason}"));
    stream::try_unfold((body, BytesMut::new()), move |(mut body, mut buffer)| async move {
        loop {
            if let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
                let line = buffer.split_to(end + 1);
                if line.trim_ascii().is_empty() {
                    continue;
                }
                let event = serde_json::from_slice(&line).map_err(|error| broken(error.to_string()))?;
                return Ok(Some((event, (body, buffer))));
            }
            match body.frame().await {
                None => return Ok(None),
                Some(Err(error)) => return Err(broken(error.to_string())),
                Some(Ok(_)) if buffer.len() > ANSWER_BYTES_MAX => {
                    return Err(broken(format!("a line is longer than {ANSWER_BYTES_MAX} bytes")));
                }
                Some(Ok(frame)) => buffer.extend(frame.data_ref().into_iter().flatten()),
            }
        }
    })
    .boxed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_http_addresses_are_taken() {
        let authority = |url| Remote::new(url, Duration::from_secs(1)).map(|remote| remote.authority).ok();
        assert_eq!(authority("http://localhost:8000").as_deref(), Some("localhost:8000"));
        assert_eq!(authority("http://[::1]:8000/").as_deref(), Some("[::1]:8000"));
        assert_eq!(authority("http://example").as_deref(), Some("example:80"));
        for wrong in ["https://example", "example:80", "localhost", "http://host/path", "", "http://"] {
            assert_eq!(authority(wrong), None, "{wrong}");
        }
    }
}
