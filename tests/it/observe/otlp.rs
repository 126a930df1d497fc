//! A collector of traces on loopback, as far as a test needs one: it takes spans over OTLP/HTTP and remembers them.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
};

use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{KeyValue, any_value::Value},
    trace::v1::Span,
};
use prost::Message;

use super::until;

/// What one span tells.
#[derive(Debug, Clone)]
pub struct Told {
    pub name: String,
    pub service: String,
    pub trace: String,
    pub id: String,
    /// Empty for a root.
    pub parent: String,
    pub kind: i32,
    /// Trace and span of each link.
    pub links: Vec<(String, String)>,
    pub attributes: Vec<(String, String)>,
    pub events: usize,
}

impl Told {
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// A running collector; its threads end with the process.
#[derive(Debug)]
pub struct Collector {
    pub endpoint: String,
    told: Arc<Mutex<Vec<Told>>>,
}

impl Collector {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let told = Arc::default();
        let shared: Arc<Mutex<Vec<Told>>> = Arc::clone(&told);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let shared = shared.clone();
                std::thread::spawn(move || serve(&stream, &shared));
            }
        });
        Self { endpoint, told }
    }

    /// Every span so far.
    pub fn spans(&self) -> Vec<Told> {
        self.told.lock().unwrap().clone()
    }

    /// Waits for a span.
    pub fn find(&self, what: &str, passes: impl Fn(&Told) -> bool) -> Told {
        let found = || self.spans().into_iter().find(|span| passes(span));
        until(what, || found().is_some());
        found().unwrap()
    }
}

/// Requests of one connection, until its end.
fn serve(stream: &TcpStream, told: &Mutex<Vec<Told>>) {
    let mut reader = BufReader::new(stream);
    loop {
        let (mut length, mut line) = (0, String::new());
        while reader.read_line(&mut line).is_ok_and(|read| read > 2) {
            let head = line.to_ascii_lowercase();
            if let Some(value) = head.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            line.clear();
        }
        let mut body = vec![0; length];
        if length == 0 || reader.read_exact(&mut body).is_err() {
            return;
        }
        let request = ExportTraceServiceRequest::decode(&*body).expect("OTLP");
        for resource in request.resource_spans {
            let attributes = resource.resource.map(|resource| resource.attributes).unwrap_or_default();
            let service = texts(&attributes).into_iter().find(|(name, _)| name == "service.name").unwrap_or_default().1;
            let spans = resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
            told.lock().unwrap().extend(spans.map(|span| read(&span, &service)));
        }
        let answer = "HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n";
        let mut stream = stream;
        if stream.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

fn read(span: &Span, service: &str) -> Told {
    let link = |trace: &[u8], id: &[u8]| (hex::encode(trace), hex::encode(id));
    Told {
        name: span.name.clone(),
        service: service.to_owned(),
        trace: hex::encode(&span.trace_id),
        id: hex::encode(&span.span_id),
        parent: hex::encode(&span.parent_span_id),
        kind: span.kind,
        links: span.links.iter().map(|to| link(&to.trace_id, &to.span_id)).collect(),
        attributes: texts(&span.attributes),
        events: span.events.len(),
    }
}

fn texts(attributes: &[KeyValue]) -> Vec<(String, String)> {
    let text = |attribute: &KeyValue| {
        let value = match attribute.value.as_ref().and_then(|value| value.value.as_ref()) {
            Some(Value::StringValue(text)) => text.clone(),
            Some(Value::IntValue(number)) => number.to_string(),
            other => format!("{other:?}"),
        };
        (attribute.key.clone(), value)
    };
    attributes.iter().map(text).collect()
}
