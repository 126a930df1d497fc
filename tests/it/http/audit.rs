//! The audit: what is recorded, when, and that nobody can make it grow as he likes.

use std::{num::NonZeroU32, sync::Arc};

use chrono::{DateTime, Utc};
use event_sourcing_actors::ports::{StoreError, SystemClock};
use event_sourcing_cqrs::auth::{
    Auth, Method, Parts, Role,
    audit::{Act, REFUSED_CALLERS_MAX},
    memory::MemoryAccess,
    port::{AccessStore, AuditRecord, Outcome, TokenRecord},
};
use futures_util::{FutureExt, future::BoxFuture};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{access::Guarded, eventually, http::TestServer};

async fn lines(guarded: &Guarded, key: &str) -> Vec<Value> {
    let page = guarded.ask("GET", "/api/v1/audit", Some(key), "").await.json();
    page["items"].as_array().unwrap().clone()
}

#[tokio::test]
async fn administrative_acts_are_recorded_with_who_what_and_how_it_ended() {
    let guarded = Guarded::start().await;
    let keys = guarded.keys().await;
    let (operator, auditor) = (&keys[&Role::Operator], &keys[&Role::Auditor]);
    let path = "/api/v1/projections/inventory/pause";
    assert_eq!(guarded.ask("POST", path, Some(operator), "").await.status, 200);
    assert_eq!(guarded.ask("POST", "/api/v1/projections/nothing/pause", Some(operator), "").await.status, 404);
    assert_eq!(guarded.ask("GET", "/api/v1/projections", Some(operator), "").await.status, 200);
    // The outcome is written behind the answer.
    eventually("four lines", || async { lines(&guarded, auditor).await.len() == 4 }).await;
    let all = lines(&guarded, auditor).await;
    let told: Vec<_> =
        all.iter().rev().map(|line| (line["outcome"].as_str().unwrap(), line["status"].as_u64())).collect();
    assert_eq!(told, [("begun", None), ("succeeded", Some(200)), ("begun", None), ("refused", Some(404))]);
    let done = &all[2];
    assert_eq!(done["principal"], "operator");
    assert_eq!((&done["act"], &done["target"]), (&json!("POST /api/v1/projections/{name}/pause"), &json!(path)));
    assert_eq!((&done["peer"], &done["count"]), (&json!("127.0.0.1"), &json!(1)));
    assert_eq!(done["request_id"], all[3]["request_id"]);
    assert!(done["request_id"].is_string() && done["at"].is_string());
    // Page by page the same.
    let first = guarded.ask("GET", "/api/v1/audit?limit=3", Some(auditor), "").await.json();
    let cursor = first["next_cursor"].as_str().unwrap();
    let rest = guarded.ask("GET", &format!("/api/v1/audit?limit=3&cursor={cursor}"), Some(auditor), "").await.json();
    assert_eq!((rest["items"].as_array().unwrap().len(), &rest["next_cursor"]), (1, &Value::Null));
    // None of it is in the log.
    assert_eq!(guarded.ask("GET", "/api/v1/events", Some(auditor), "").await.json()["events"], json!([]));
}

#[tokio::test]
async fn refused_requests_are_one_line_a_caller_and_minute() {
    let guarded = Guarded::start().await;
    let keys = guarded.keys().await;
    let auditor = &keys[&Role::Auditor];
    for _ in 0..20 {
        assert_eq!(guarded.ask("GET", "/api/v1/events", None, "").await.status, 401);
        assert_eq!(guarded.ask("GET", "/api/v1/events/x", Some("escqrs_secret-guess"), "").await.status, 401);
        assert_eq!(guarded.ask("POST", "/api/v1/commands", Some(&keys[&Role::Reader]), "{}").await.status, 403);
    }
    let all = lines(&guarded, auditor).await;
    let mut told: Vec<_> =
        all.iter().map(|line| (line["principal"].as_str(), line["status"].as_u64(), line["count"].as_u64())).collect();
    told.sort_unstable();
    assert_eq!(told, [(None, Some(401), Some(40)), (Some("reader"), Some(403), Some(20))]);
    assert!(all.iter().all(|line| line["outcome"] == "refused" && line["peer"] == "127.0.0.1"));
    assert!(!json!(all).to_string().contains("secret-guess"), "what was sent as a key is nobody's to read");
}

fn stranger(number: usize) -> Act {
    let text = |text: &str| text.to_owned();
    let peer = Some(format!("10.0.{}.{}", number / 256, number % 256));
    Act { principal: None, peer, act: text("GET /x"), target: "é".repeat(1_000 + number), request_id: None }
}

#[tokio::test]
async fn however_many_are_refused_the_audit_grows_by_a_bounded_number_of_lines() {
    let store = Arc::new(MemoryAccess::default());
    let parts = Parts { store: store.clone(), clock: Arc::new(SystemClock), method: Method::None, guards: true };
    let auth = Auth::start(parts).await.unwrap();
    for number in 0..5_000 {
        auth.audit().refused(stranger(number), 401);
    }
    // Its end writes what was gathered.
    auth.close().await;
    let lines = store.audit(None, NonZeroU32::new(1_000).unwrap()).await.unwrap();
    assert_eq!(lines.len(), REFUSED_CALLERS_MAX + 1);
    assert_eq!(lines.iter().map(|line| line.count).sum::<u64>(), 5_000, "every one is counted");
    assert!(lines.iter().all(|line| line.target.len() <= 512));
    let others = lines.iter().find(|line| line.peer.is_none()).unwrap();
    assert_eq!((others.act.as_str(), others.count), ("several", 5_000 - REFUSED_CALLERS_MAX as u64));
}

#[tokio::test]
async fn an_act_whose_end_nobody_tells_is_recorded_as_one_that_is_not_known() {
    let store = Arc::new(MemoryAccess::default());
    let parts = Parts { store: store.clone(), clock: Arc::new(SystemClock), method: Method::None, guards: true };
    let auth = Auth::start(parts).await.unwrap();
    // Whoever asked goes away, and with him what would have told.
    drop(auth.audit().begin(stranger(1)).await.unwrap());
    auth.audit().begin(stranger(1)).await.unwrap().end(Outcome::Failed, Some(500));
    auth.close().await;
    let lines = store.audit(None, NonZeroU32::new(10).unwrap()).await.unwrap();
    let told: Vec<_> = lines.iter().rev().map(|line| (line.outcome, line.status)).collect();
    let begun = (Outcome::Begun, None);
    assert_eq!(told, [begun, (Outcome::Unknown, None), begun, (Outcome::Failed, Some(500))]);
}

/// A store that takes no lines.
#[derive(Debug, Default)]
struct Deaf(MemoryAccess);

impl AccessStore for Deaf {
    fn announce_pruning(&self, before: DateTime<Utc>, line: AuditRecord) -> BoxFuture<'_, Result<bool, StoreError>> {
        self.0.announce_pruning(before, line)
    }

    fn prune_audit(&self, before: DateTime<Utc>, limit: NonZeroU32) -> BoxFuture<'_, Result<u64, StoreError>> {
        self.0.prune_audit(before, limit)
    }

    fn add_token(&self, token: TokenRecord) -> BoxFuture<'_, Result<bool, StoreError>> {
        self.0.add_token(token)
    }
    fn tokens(&self, before: Option<Uuid>, limit: NonZeroU32) -> BoxFuture<'_, Result<Vec<TokenRecord>, StoreError>> {
        self.0.tokens(before, limit)
    }
    fn active_tokens(&self, now: DateTime<Utc>) -> BoxFuture<'_, Result<Vec<TokenRecord>, StoreError>> {
        self.0.active_tokens(now)
    }
    fn revoke_token(&self, id: Uuid, at: DateTime<Utc>) -> BoxFuture<'_, Result<Option<TokenRecord>, StoreError>> {
        self.0.revoke_token(id, at)
    }
    fn record(&self, _: Vec<AuditRecord>) -> BoxFuture<'_, Result<(), StoreError>> {
        async { Err(StoreError::Unavailable { reason: "deaf".to_owned() }) }.boxed()
    }
    fn audit(&self, before: Option<Uuid>, limit: NonZeroU32) -> BoxFuture<'_, Result<Vec<AuditRecord>, StoreError>> {
        self.0.audit(before, limit)
    }
}

#[tokio::test]
async fn what_cannot_be_recorded_is_not_done() {
    let parts =
        Parts { store: Arc::new(Deaf::default()), clock: Arc::new(SystemClock), method: Method::None, guards: true };
    let auth = Arc::new(Auth::start(parts).await.unwrap());
    let kept = auth.clone();
    let server = TestServer::start_with(Default::default(), |context| context.auth(auth)).await;
    let reply = server.post("/api/v1/tokens", r#"{"roles":["admin"]}"#).await;
    assert_eq!((reply.status, &reply.json()["code"]), (503, &json!("store-unavailable")));
    assert!(kept.tokens(None, NonZeroU32::MIN).await.unwrap().is_empty(), "a key was made without a line about it");
    // What is not audited goes on.
    server.account("a", 1).await;
}

#[tokio::test]
async fn acts_without_authentication_are_recorded_too() {
    let parts = Parts {
        store: Arc::new(MemoryAccess::default()),
        clock: Arc::new(SystemClock),
        method: Method::None,
        guards: true,
    };
    let auth = Arc::new(Auth::start(parts).await.unwrap());
    let server = TestServer::start_with(Default::default(), |context| context.auth(auth)).await;
    assert_eq!(server.post("/api/v1/tokens", r#"{"roles":["reader"]}"#).await.status, 201);
    let written = || async { server.get("/api/v1/audit").await.json()["items"].as_array().unwrap().len() == 2 };
    eventually("both lines", written).await;
    assert_eq!(server.get("/api/v1/audit").await.json()["items"][0]["principal"], "anonymous");
}
