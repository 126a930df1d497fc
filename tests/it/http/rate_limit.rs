//! Requests per caller: the quota, what callers are told of it, and who is not counted.

use std::time::Duration;

use event_sourcing_cqrs::{
    auth::{Method, Role, authorizer::RoleAuthorizer, rate::Quota},
    http::HttpOptions,
};

use crate::support::{access::Guarded, http::TestServer};

fn options(requests: u32) -> HttpOptions {
    // So long a window that nothing comes back while the test runs.
    let quota = Quota { requests, window: Duration::from_secs(86_400) };
    HttpOptions { quota: Some(quota), ..HttpOptions::default() }
}

#[tokio::test]
async fn a_caller_beyond_its_quota_is_told_to_wait() {
    let server = TestServer::start_with(options(3), |context| context).await;
    for left in ["2", "1", "0"] {
        let reply = server.get("/version").await;
        assert_eq!(reply.status, 200);
        assert_eq!(reply.header("ratelimit-policy"), Some("\"default\";q=3;w=86400"));
        let state = reply.header("ratelimit").unwrap();
        assert!(state.starts_with(&format!("\"default\";r={left};t=")), "{state}");
    }
    for path in ["/version", "/api/v1/events"] {
        let refused = server.get(path).await;
        assert_eq!((refused.status, &refused.json()["code"]), (429, &serde_json::json!("rate-limited")));
        let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=28_801).contains(&wait), "{wait}");
        assert!(refused.header("ratelimit").unwrap().starts_with("\"default\";r=0;t="));
    }
    let body = "x".repeat(100_000);
    assert_eq!(server.post("/api/v1/commands", &body).await.status, 429, "before anything of the body is looked at");
    for path in ["/health", "/health/live", "/health/ready", "/metrics"] {
        let reply = server.get(path).await;
        assert_eq!((reply.status, reply.header("ratelimit")), (200, None), "{path} is not counted");
    }
}

#[tokio::test]
async fn principals_have_quotas_of_their_own_and_strangers_share_that_of_their_address() {
    let guarded = Guarded::with(Method::ApiKey(Vec::new()), options(2), RoleAuthorizer::default()).await;
    let (one, other) = (guarded.key("one", &[Role::Reader]).await, guarded.key("two", &[Role::Reader]).await);
    let second = guarded.key("one", &[Role::Reader]).await;
    let ask = |key: Option<&str>| {
        let (guarded, key) = (&guarded, key.map(str::to_owned));
        async move { guarded.ask("GET", "/version", key.as_deref(), "").await.status }
    };
    assert_eq!((ask(Some(&one)).await, ask(Some(&second)).await), (200, 200));
    assert_eq!(ask(Some(&one)).await, 429, "two keys of one principal share its quota");
    assert_eq!(ask(Some(&other)).await, 200);
    assert_eq!((ask(None).await, ask(Some("escqrs_guess")).await), (401, 401));
    assert_eq!((ask(None).await, ask(Some("escqrs_guess")).await), (429, 429), "guesses are counted by address");
    assert_eq!(ask(Some(&other)).await, 200, "and cost nobody else anything");
}

#[tokio::test]
async fn nothing_is_counted_unless_that_is_set() {
    let server = TestServer::start().await;
    for _ in 0..50 {
        let reply = server.get("/version").await;
        assert_eq!((reply.status, reply.header("ratelimit"), reply.header("ratelimit-policy")), (200, None, None));
    }
}
