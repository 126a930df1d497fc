//! Pages of other origins: those of the list may read answers, and no cookie is ever asked for.

use event_sourcing_cqrs::{
    auth::{Method, Role, authorizer::RoleAuthorizer},
    http::HttpOptions,
};

use crate::support::{
    access::Guarded,
    http::{Reply, TestServer},
};

const PAGE: &str = "https://app.example";

fn options(origins: &[&str]) -> HttpOptions {
    HttpOptions { cors_origins: origins.iter().map(|origin| (*origin).to_owned()).collect(), ..HttpOptions::default() }
}

fn allowed(reply: &Reply) -> Option<&str> {
    assert_eq!(reply.header("access-control-allow-credentials"), None, "never with credentials");
    reply.header("access-control-allow-origin")
}

#[tokio::test]
async fn only_origins_of_the_list_may_read() {
    let server = TestServer::start_with(options(&[PAGE, "http://localhost:3000"]), |context| context).await;
    let reply = server.send("GET", "/version", &[("origin", PAGE)], b"").await;
    assert_eq!((reply.status, allowed(&reply)), (200, Some(PAGE)));
    let exposed = reply.header("access-control-expose-headers").unwrap();
    for header in ["etag", "location", "x-request-id", "x-correlation-id", "ratelimit", "idempotency-replayed"] {
        assert!(exposed.split(", ").any(|name| name == header), "{header} in {exposed}");
    }
    assert_eq!(reply.header("vary"), Some("origin"));
    for wrong in ["https://evil.example", "https://app.example.evil.example", "http://app.example", "null"] {
        let reply = server.send("GET", "/version", &[("origin", wrong)], b"").await;
        assert_eq!((reply.status, allowed(&reply), reply.header("vary")), (200, None, Some("origin")), "{wrong}");
    }
    let none = server.get("/version").await;
    assert_eq!((allowed(&none), none.header("vary")), (None, Some("origin")), "caches must not mix them up");
    // A problem can be read as well.
    let problem = server.send("GET", "/api/v1/nothing", &[("origin", PAGE)], b"").await;
    assert_eq!((problem.status, allowed(&problem)), (404, Some(PAGE)));
}

#[tokio::test]
async fn browsers_ask_before_they_send_and_need_no_key_for_it() {
    let guarded = Guarded::with(Method::ApiKey(Vec::new()), options(&[PAGE]), RoleAuthorizer::default()).await;
    let asking = [
        ("origin", PAGE),
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "authorization, content-type, idempotency-key"),
    ];
    let reply = guarded.server.send("OPTIONS", "/api/v1/commands", &asking, b"").await;
    assert_eq!((reply.status, allowed(&reply)), (204, Some(PAGE)));
    assert_eq!(reply.header("access-control-allow-methods"), Some("POST, OPTIONS"));
    let headers = reply.header("access-control-allow-headers").unwrap();
    for header in ["authorization", "content-type", "idempotency-key", "if-match", "es-min-position", "prefer"] {
        assert!(headers.split(", ").any(|name| name == header), "{header} in {headers}");
    }
    assert!(reply.header("access-control-max-age").is_some());
    let stranger = [("origin", "https://evil.example"), asking[1]];
    let reply = guarded.server.send("OPTIONS", "/api/v1/commands", &stranger, b"").await;
    assert_eq!((reply.status, allowed(&reply), reply.header("access-control-allow-methods")), (204, None, None));
    // What is refused can be read, so that a page can say why.
    let refused = guarded.server.send("GET", "/version", &[("origin", PAGE)], b"").await;
    assert_eq!((refused.status, allowed(&refused)), (401, Some(PAGE)));
    let key = format!("Bearer {}", guarded.key("page", &[Role::Reader]).await);
    let headers = [("origin", PAGE), ("authorization", key.as_str())];
    assert_eq!(guarded.server.send("GET", "/version", &headers, b"").await.status, 200);
}

#[tokio::test]
async fn all_origins_are_a_star_and_no_list_is_silence() {
    let server = TestServer::start_with(options(&["*"]), |context| context).await;
    let reply = server.send("GET", "/version", &[("origin", PAGE)], b"").await;
    assert_eq!(allowed(&reply), Some("*"));
    let server = TestServer::start().await;
    let asking = [("origin", PAGE), ("access-control-request-method", "POST")];
    for method in ["GET", "OPTIONS"] {
        let reply = server.send(method, "/version", &asking, b"").await;
        assert_eq!((allowed(&reply), reply.header("vary")), (None, None));
        assert!(reply.headers.keys().all(|name| !name.as_str().starts_with("access-control")));
    }
}

#[tokio::test]
async fn pages_of_other_origins_change_nothing_where_nobody_is_asked_for_a_key() {
    let server = TestServer::start_with(options(&[PAGE]), |context| context).await;
    let here = "http://test";
    for (headers, expected) in [
        (vec![], 200),
        (vec![("origin", here)], 200),
        (vec![("origin", "https://TEST")], 200),
        (vec![("origin", PAGE), ("sec-fetch-site", "cross-site")], 200),
        (vec![("origin", "https://elsewhere.example"), ("sec-fetch-site", "same-origin")], 200),
        (vec![("sec-fetch-site", "none")], 200),
        (vec![("origin", "https://evil.example"), ("authorization", "Bearer x")], 200),
        (vec![("origin", "https://evil.example")], 403),
        // A browser adds what it remembers for a proxy by itself; a key it does not.
        (vec![("origin", "https://evil.example"), ("authorization", "Basic eDp5")], 403),
        (vec![("origin", "http://test.evil.example")], 403),
        (vec![("origin", "null")], 403),
        (vec![("origin", here), ("sec-fetch-site", "cross-site")], 403),
        (vec![("origin", here), ("sec-fetch-site", "same-site")], 403),
        (vec![("sec-fetch-site", "cross-site")], 403),
    ] {
        let reply = server.post_with("/api/v1/replay", &headers, "{}").await;
        // Who is let in is told what is wrong with the body.
        let expected = if expected == 200 { (400, "malformed-body") } else { (403, "cross-origin") };
        let code = reply.json()["code"].as_str().unwrap_or_default().to_owned();
        assert_eq!((reply.status, code.as_str()), expected, "{headers:?}: {}", reply.text());
        let read = server.send("GET", "/version", &headers, b"").await;
        assert_eq!(read.status, 200, "reading changes nothing, and the page learns nothing");
    }
}
