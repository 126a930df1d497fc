//! Clients for load: one connection each, kept; commands repeated under one key until they are answered.

use std::time::Duration;

use bytes::Bytes;
use event_sourcing_actors::{RecordedEvent, Sequence, StreamHead, envelope::EventFilter, ports::EventStore};
use http_body_util::{BodyExt, Full};
use hyper::{Request, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{net::TcpStream, time::Instant};

use super::batches::at_most;

/// One connection to a server on this machine; made when it is needed.
pub struct Client {
    port: u16,
    sender: Option<http1::SendRequest<Full<Bytes>>>,
}

/// Status, `Retry-After` and body of an answer.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub retry_after: Option<String>,
    pub body: Value,
}

impl Client {
    pub fn new(port: u16) -> Self {
        Self { port, sender: None }
    }

    /// Talks to another server from now on, if this is one.
    pub fn turn_to_if_moved(&mut self, port: u16) {
        if port != self.port {
            *self = Self::new(port);
        }
    }

    /// One request; an error means that nobody knows what became of it.
    pub async fn post(&mut self, path: &str, key: Option<&str>, body: &Value) -> Result<Answer, String> {
        let answer = tokio::time::timeout(Duration::from_secs(15), self.try_post(path, key, body)).await;
        let answer = answer.map_err(|_| "no answer in 15 s".to_owned()).and_then(|answer| answer);
        if answer.is_err() {
            self.sender = None;
        }
        answer
    }

    async fn try_post(&mut self, path: &str, key: Option<&str>, body: &Value) -> Result<Answer, String> {
        let text = |error: &dyn std::fmt::Display| error.to_string();
        if self.sender.as_ref().is_none_or(http1::SendRequest::is_closed) {
            let stream = TcpStream::connect(("127.0.0.1", self.port)).await.map_err(|error| text(&error))?;
            let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| text(&error))?;
            tokio::spawn(connection);
            self.sender = Some(sender);
        }
        let mut request = Request::post(path).header("host", "localhost").header("content-type", "application/json");
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        let request = request.body(Full::new(Bytes::from(body.to_string()))).map_err(|error| text(&error))?;
        let sender = self.sender.as_mut().ok_or("not connected")?;
        sender.ready().await.map_err(|error| text(&error))?;
        let (head, body) = sender.send_request(request).await.map_err(|error| text(&error))?.into_parts();
        let body = body.collect().await.map_err(|error| text(&error))?.to_bytes();
        let retry_after = head.headers.get("retry-after").and_then(|value| value.to_str().ok()).map(str::to_owned);
        let body = serde_json::from_slice(&body).map_err(|error| text(&error))?;
        Ok(Answer { status: head.status.as_u16(), retry_after, body })
    }

    /// Sends a command; under a key it is repeated while its outcome is open.
    pub async fn command(
        &mut self,
        key: Option<&str>,
        command_type: &str,
        id: &str,
        data: Value,
    ) -> Result<Answer, String> {
        let body = json!({ "command_type": command_type, "aggregate_id": id, "data": data });
        self.post("/api/v1/commands", key, &body).await
    }

    /// Deposits 1 under a key, again and again until the answer is there.
    pub async fn deposit(&mut self, key: &str, id: &str) -> Value {
        let give_up = Instant::now() + Duration::from_secs(60);
        loop {
            match self.command(Some(key), "DepositMoney", id, json!({ "amount": 1 })).await {
                Ok(answer) if answer.status == 200 => return answer.body,
                // What a client that was told to come back, or told nothing, would do.
                Ok(Answer { status: 409 | 503, .. }) | Err(_) if Instant::now() < give_up => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                other => panic!("{key}: {other:?}"),
            }
        }
    }
}

/// The whole log; panics at a hole in positions or sequences, at a broken chain, or an instant that goes back.
pub async fn sound_log(store: &dyn EventStore) -> Vec<RecordedEvent> {
    let mut log: Vec<RecordedEvent> = Vec::new();
    let mut heads: std::collections::HashMap<_, StreamHead> = std::collections::HashMap::new();
    loop {
        let after = log.last().map_or_else(Default::default, |event| event.position);
        let page = store.read_all(after, &EventFilter::default(), at_most(1_000)).await.unwrap();
        if page.events.is_empty() {
            return log;
        }
        for event in page.events {
            let head = heads.entry(event.aggregate_id.clone()).or_insert(StreamHead::EMPTY);
            assert_eq!(event.position.0, log.len() as u64 + 1, "a hole in the log");
            assert_eq!(event.sequence, Sequence(head.sequence.0 + 1), "a hole in {}", event.aggregate_id);
            assert!(event.is_intact() && event.chain == head.chain.then(event.checksum), "{event:?}");
            assert!(log.last().is_none_or(|last| last.recorded_at <= event.recorded_at), "{event:?}");
            *head = event.head();
            log.push(event);
        }
    }
}

/// Asserts that each answer is one stored event, and that there are no others of this type.
pub fn each_has_one_effect(log: &[RecordedEvent], event_type: &str, answers: &[Value]) {
    for answer in answers {
        let event = &answer["events"][0];
        let position = usize::try_from(event["position"].as_u64().unwrap()).unwrap();
        let stored = &log[position - 1];
        assert_eq!(event["event_id"], json!(stored.event_id), "{answer}");
        assert_eq!(event["sequence"], json!(stored.sequence), "{answer}");
        assert_eq!(answer["aggregate_id"], json!(stored.aggregate_id), "{answer}");
    }
    let stored = log.iter().filter(|event| event.event_type.as_str() == event_type).count();
    assert_eq!(stored, answers.len(), "effects and commands");
}
