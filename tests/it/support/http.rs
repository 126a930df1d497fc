//! A whole server over the memory store on a free port, and a small client.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use event_sourcing_actors::{
    Limits, Runtime, RuntimeBuilder, catalog::Catalog, memory::MemoryStore, ports::SystemClock, projection::Projection,
    query::QueryCatalog,
};
use event_sourcing_cqrs::{
    domain,
    http::{Drained, HttpContext, HttpOptions, serve},
    projections, queries,
};
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, body::Incoming, client::conn::http1, header::HeaderMap};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

/// A served runtime.
pub struct TestServer {
    pub address: SocketAddr,
    pub runtime: Arc<Runtime>,
    pub context: Arc<HttpContext>,
    pub shutdown: CancellationToken,
    pub serving: JoinHandle<Drained>,
}

/// An answer.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Reply {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error} in {:?}", String::from_utf8_lossy(&self.body)))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

impl TestServer {
    pub async fn start() -> Self {
        Self::start_with(HttpOptions::default(), |context| context).await
    }

    pub async fn start_with(options: HttpOptions, with: impl FnOnce(HttpContext) -> HttpContext) -> Self {
        let mut catalog = Catalog::default();
        domain::register(&mut catalog).unwrap();
        let store = Arc::new(MemoryStore::new(Arc::new(SystemClock)));
        let builder = RuntimeBuilder::new(store.clone(), store).catalog(catalog).throwaway_keys();
        Self::over(builder.limits(Limits::default()), options, with).await
    }

    /// With this crate's projections and query types.
    pub async fn with_views() -> Self {
        Self::with_projections(projections::all()).await
    }

    /// With these projections, and this crate's query types.
    pub async fn with_projections(projections: Vec<Arc<dyn Projection>>) -> Self {
        let (mut catalog, mut queries) = (Catalog::default(), QueryCatalog::default());
        domain::register(&mut catalog).unwrap();
        queries::register(&mut queries).unwrap();
        let store = Arc::new(MemoryStore::new(Arc::new(SystemClock)));
        let builder = RuntimeBuilder::new(store.clone(), store).catalog(catalog).throwaway_keys();
        let builder = builder.projections(projections).query_catalog(queries);
        Self::over(builder, HttpOptions::default(), |context| context).await
    }

    pub async fn over(
        builder: RuntimeBuilder,
        options: HttpOptions,
        with: impl FnOnce(HttpContext) -> HttpContext,
    ) -> Self {
        let runtime = Arc::new(builder.start().await.unwrap());
        let context = Arc::new(with(HttpContext::new(runtime.clone())));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let serving = tokio::spawn(serve(listener, context.clone(), options, shutdown.clone()));
        Self { address, runtime, context, shutdown, serving }
    }

    /// One request on a connection of its own, up to the head of its answer.
    pub async fn open(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Response<Incoming> {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let mut request = Request::builder().method(method).uri(path).header("host", "test");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(Bytes::copy_from_slice(body))).unwrap();
        sender.send_request(request).await.unwrap()
    }

    /// One request and its whole answer.
    pub async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        let answer = tokio::time::timeout(Duration::from_secs(20), async {
            let (head, body) = self.open(method, path, headers, body).await.into_parts();
            (head, body.collect().await.unwrap().to_bytes())
        });
        let (head, body) = answer.await.expect("an answer within 20 s");
        Reply { status: head.status.as_u16(), headers: head.headers, body }
    }

    pub async fn get(&self, path: &str) -> Reply {
        self.send("GET", path, &[], b"").await
    }

    pub async fn post(&self, path: &str, body: &str) -> Reply {
        self.post_with(path, &[], body).await
    }

    pub async fn post_with(&self, path: &str, headers: &[(&str, &str)], body: &str) -> Reply {
        let mut all = vec![("content-type", "application/json")];
        all.extend(headers);
        self.send("POST", path, &all, body.as_bytes()).await
    }

    pub async fn command(&self, command_type: &str, id: &str, data: Value) -> Reply {
        let body = serde_json::json!({ "command_type": command_type, "aggregate_id": id, "data": data });
        self.post("/api/v1/commands", &body.to_string()).await
    }

    /// An account with a balance.
    pub async fn account(&self, id: &str, balance: i64) {
        let reply =
            self.command("CreateAccount", id, serde_json::json!({ "owner": "o", "initial_balance": balance })).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
    }

    /// Bytes as they are, and whatever comes back until the server closes.
    pub async fn raw(&self, request: &[u8]) -> Vec<u8> {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request).await.unwrap();
        let mut answer = Vec::new();
        let read = stream.read_to_end(&mut answer);
        let _ = tokio::time::timeout(Duration::from_secs(20), read).await.expect("the server closes within 20 s");
        answer
    }
}

/// A live answer, read piece by piece.
pub struct Live {
    body: Incoming,
    buffer: Vec<u8>,
}

impl Live {
    pub fn new(response: Response<Incoming>) -> Self {
        assert_eq!(response.status(), 200);
        Self { body: response.into_body(), buffer: Vec::new() }
    }

    /// The next line without its end; `None` when the stream is over.
    pub async fn line(&mut self) -> Option<String> {
        let next = async {
            loop {
                if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                    let line: Vec<u8> = self.buffer.drain(..=end).collect();
                    return Some(String::from_utf8(line).unwrap().trim_end().to_owned());
                }
                let frame = self.body.frame().await?.expect("the stream does not break");
                self.buffer.extend_from_slice(frame.data_ref().unwrap());
            }
        };
        tokio::time::timeout(Duration::from_secs(10), next).await.expect("a line within 10 s")
    }
}
