//! One connection that is kept: requests one after the other, and a new connection when it broke.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Request, client::conn::http1::SendRequest, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::super::secret::Secret;

/// Answers to commands and queries are small.
const ANSWER_BYTES_MAX: usize = 8 << 20;

/// Why a request has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Trouble {
    /// No connection.
    Connect,
    /// It broke.
    Broken,
    /// It took too long.
    Timeout,
}

impl Trouble {
    /// As errors are counted.
    pub fn name(self) -> &'static str {
        match self {
            Self::Connect => "cannot-connect",
            Self::Broken => "connection-broken",
            Self::Timeout => "timeout",
        }
    }
}

/// A connection.
#[derive(Debug)]
pub(super) struct Connection {
    authority: String,
    token: Option<Secret>,
    timeout: Duration,
    sender: Option<SendRequest<Full<Bytes>>>,
}

impl Connection {
    pub fn new(authority: &str, token: Option<Secret>, timeout: Duration) -> Self {
        Self { authority: authority.to_owned(), token, timeout, sender: None }
    }

    /// Sends a body and returns the status and what was answered.
    pub async fn post(&mut self, path: &str, body: String) -> Result<(u16, Bytes), Trouble> {
        let result = match tokio::time::timeout(self.timeout, self.exchange(path, body)).await {
            Ok(result) => result,
            Err(_) => Err(Trouble::Timeout),
        };
        if result.is_err() {
            // What is on its way belongs to a request that was given up.
            self.sender = None;
        }
        result
    }

    async fn exchange(&mut self, path: &str, body: String) -> Result<(u16, Bytes), Trouble> {
        let mut sender = match self.sender.take() {
            Some(sender) if !sender.is_closed() => sender,
            _ => self.connect().await?,
        };
        sender.ready().await.map_err(|_| Trouble::Broken)?;
        let mut request = Request::post(path);
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {}", token.expose()));
        }
        let request = request
            .header(header::HOST, &self.authority)
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body)))
            .map_err(|_| Trouble::Broken)?;
        let answer = sender.send_request(request).await.map_err(|_| Trouble::Broken)?;
        let status = answer.status().as_u16();
        let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await.map_err(|_| Trouble::Broken)?;
        self.sender = Some(sender);
        Ok((status, body.to_bytes()))
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, Trouble> {
        let stream = TcpStream::connect(&self.authority).await.map_err(|_| Trouble::Connect)?;
        stream.set_nodelay(true).map_err(|_| Trouble::Connect)?;
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (sender, connection) = handshake.map_err(|_| Trouble::Connect)?;
        // Ends with its sender; what goes wrong shows in the answer.
        tokio::spawn(connection);
        Ok(sender)
    }
}
