//! Bodies: media types, sizes, depth, time.

use std::time::Duration;

use event_sourcing_cqrs::http::HttpOptions;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::http::TestServer;

const CLOSE: &str = r#"{"command_type":"CloseAccount","aggregate_id":"a","data":{}}"#;

#[tokio::test]
async fn only_json_in_utf8_is_taken() {
    let server = TestServer::start().await;
    for (media, is_taken) in [
        (Some("application/json"), true),
        (Some("application/json; charset=utf-8"), true),
        (Some("Application/JSON;charset=\"UTF-8\""), true),
        (Some("application/json; charset=latin1"), false),
        (Some("text/plain"), false),
        (Some("application/x-www-form-urlencoded"), false),
        (None, false),
    ] {
        let headers: Vec<_> = media.into_iter().map(|media| ("content-type", media)).collect();
        let reply = server.send("POST", "/api/v1/commands", &headers, CLOSE.as_bytes()).await;
        assert_eq!(reply.status, if is_taken { 422 } else { 415 }, "{media:?}: {}", reply.text());
    }
    let zipped = [("content-type", "application/json"), ("content-encoding", "gzip")];
    assert_eq!(server.send("POST", "/api/v1/commands", &zipped, b"x").await.status, 415);
    // An empty body is {}, and needs no media type.
    let empty = server.send("POST", "/api/v1/commands", &[], b"").await;
    assert_eq!((empty.status, &empty.json()["errors"][1]["pointer"]), (400, &json!("/aggregate_id")));
}

#[tokio::test]
async fn depth_is_bounded_and_half_characters_are_refused() {
    let server = TestServer::start().await;
    let nested = |depth: usize| {
        format!(
            r#"{{"aggregate_id":"g","aggregate_type":"t","event_type":"T","data":{}{}}}"#,
            "[".repeat(depth),
            "]".repeat(depth)
        )
    };
    assert_eq!(server.post("/api/v1/events", &nested(63)).await.status, 201);
    for body in [nested(64), nested(200_000), nested(3).replace("[[[]]]", r#""\ud800""#)] {
        let reply = server.post("/api/v1/events", &body).await;
        assert_eq!((reply.status, &reply.json()["code"]), (400, &json!("malformed-body")));
    }
}

#[tokio::test]
async fn an_over_long_body_gets_its_413() {
    let server = TestServer::start().await;
    let large = |bytes: usize| format!(r#"{{"x":"{}"}}"#, "x".repeat(bytes - 8));
    for (path, bytes, status) in [
        ("/api/v1/commands", 1 << 20, 400),
        ("/api/v1/commands", (1 << 20) + 1, 413),
        ("/api/v1/commands", 6 << 20, 413),
        ("/api/v1/sagas", 1 << 20, 400),
        ("/api/v1/sagas", (1 << 20) + 1, 413),
        ("/api/v1/sagas/s/cancel", (1 << 20) + 1, 413),
        ("/api/v1/events", 4 << 20, 400),
        ("/api/v1/events", (4 << 20) + 1, 413),
    ] {
        let reply = server.post(path, &large(bytes)).await;
        assert_eq!(reply.status, status, "{path} {bytes}");
    }
    // A client that asks first is told before it sends.
    let asked = b"POST /api/v1/commands HTTP/1.1\r\nhost: t\r\ncontent-type: application/json\r\ncontent-length: 9000000\r\nexpect: 100-continue\r\n\r\n";
    let answer = server.raw(asked).await;
    assert!(answer.starts_with(b"HTTP/1.1 413"), "{}", String::from_utf8_lossy(&answer));
}

#[tokio::test]
async fn chunked_bodies_are_bounded_as_well() {
    let server = TestServer::start().await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream
        .write_all(b"POST /api/v1/commands HTTP/1.1\r\nhost: t\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n")
        .await
        .unwrap();
    let chunk = [b"10000\r\n".as_slice(), &[b' '; 0x10000], b"\r\n"].concat();
    for _ in 0..17 {
        stream.write_all(&chunk).await.unwrap();
    }
    stream.write_all(b"0\r\n\r\n").await.unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 413");
}

#[tokio::test]
async fn a_body_that_does_not_arrive_is_answered_408() {
    let options = HttpOptions { body_deadline: Duration::from_millis(100), ..HttpOptions::default() };
    let server = TestServer::start_with(options, |context| context).await;
    let half = b"POST /api/v1/commands HTTP/1.1\r\nhost: t\r\ncontent-type: application/json\r\ncontent-length: 50\r\n\r\n{\"comm";
    let answer = String::from_utf8(server.raw(half).await).unwrap();
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert!(answer.contains("request-timeout"), "{answer}");
}

#[tokio::test]
async fn a_body_of_faults_only_is_told_its_first_twenty() {
    let server = TestServer::start().await;
    let members: Vec<String> = (0..80_000).map(|index| format!("\"m{index}\":1")).collect();
    let members = members.join(",");
    let event = format!(r#"{{"aggregate_id":"g","aggregate_type":"t","events":[{{{members}}}]}}"#);
    let list = format!(r#"{{"aggregate_id":"g","aggregate_type":"t","events":[0{}]}}"#, ",0".repeat(400_000));
    for (path, body, status) in [
        ("/api/v1/commands", format!("{{{members}}}"), 400),
        ("/api/v1/sagas", format!("{{{members}}}"), 400),
        ("/api/v1/events", event, 422),
        ("/api/v1/events", list, 422),
    ] {
        let reply = server.post(path, &body).await;
        assert_eq!((reply.status, reply.json()["errors"].as_array().unwrap().len()), (status, 20), "{path}");
    }
    let query = vec!["x=1"; 10_000].join("&");
    let reply = server.get(&format!("/api/v1/events?{query}")).await;
    assert_eq!((reply.status, reply.json()["errors"].as_array().unwrap().len()), (422, 20));
}
