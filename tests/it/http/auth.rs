//! Who comes in: keys known, revoked, expired and broken, and what callers are told.

use std::{sync::Arc, time::Duration};

use chrono::TimeDelta;
use event_sourcing_actors::{
    command_bus::{Action, CommandRequest, Principal},
    error::CommandError,
    ports::{Clock, SystemClock},
    query_bus::{QueryError, QueryRequest},
};
use event_sourcing_cqrs::{
    app::App,
    auth::{
        Auth, ConfiguredKey, Method, NewToken, Parts, Role,
        authorizer::RoleAuthorizer,
        key::{ApiKey, PREFIX},
    },
    http::HttpOptions,
    settings::{AuthMode, Settings},
};
use serde_json::json;

use crate::support::{
    access::Guarded,
    eventually,
    http::{Live, Reply, TestServer},
};

const CREATE: &str = r#"{"command_type":"CreateAccount","aggregate_id":"a","data":{"owner":"o","initial_balance":1}}"#;

#[track_caller]
fn assert_problem(reply: &Reply, status: u16, code: &str) {
    assert_eq!((reply.status, &reply.json()["code"]), (status, &json!(code)), "{}", reply.text());
    assert_eq!(reply.header("www-authenticate").is_some(), status == 401, "{}", reply.text());
}

#[tokio::test]
async fn a_key_opens_until_it_is_revoked_or_expires() {
    let guarded = Guarded::start().await;
    let missing = guarded.ask("GET", "/api/v1/events", None, "").await;
    assert_problem(&missing, 401, "unauthenticated");
    assert_eq!(missing.header("www-authenticate"), Some("Bearer"));
    let unknown = guarded.ask("GET", "/api/v1/events", Some(ApiKey::generate().expose()), "").await;
    assert_problem(&unknown, 401, "unauthenticated");
    assert_eq!(unknown.header("www-authenticate"), Some("Bearer error=\"invalid_token\""));

    let key = guarded.key("reader", &[Role::Reader]).await;
    assert!(key.starts_with(PREFIX));
    assert_eq!(guarded.ask("GET", "/api/v1/events", Some(&key), "").await.status, 200);
    let id = guarded.auth.tokens(None, 1.try_into().unwrap()).await.unwrap()[0].id;
    guarded.auth.revoke_token(id).await.unwrap();
    assert_problem(&guarded.ask("GET", "/api/v1/events", Some(&key), "").await, 401, "unauthenticated");

    let short = guarded.key_until("short", &[Role::Reader], Some(SystemClock.now() + TimeDelta::hours(1))).await;
    assert_eq!(guarded.ask("GET", "/api/v1/events", Some(&short), "").await.status, 200);
    guarded.clock.advance(TimeDelta::seconds(3_601));
    assert_problem(&guarded.ask("GET", "/api/v1/events", Some(&short), "").await, 401, "unauthenticated");
}

#[tokio::test]
async fn whatever_else_stands_in_the_header_opens_nothing() {
    let guarded = Guarded::start().await;
    let key = guarded.key("reader", &[Role::Reader]).await;
    let (cut, longer, shouted) = (&key[..key.len() - 1], format!("{key}x"), key.to_uppercase());
    let cases = [
        String::new(),
        "Bearer".to_owned(),
        "Bearer ".to_owned(),
        key.clone(),
        format!("Basic {key}"),
        format!("Bearer {cut}"),
        format!("Bearer {longer}"),
        format!("Bearer {shouted}"),
        format!("Bearer {key} {key}"),
        format!("Bearer,{key}"),
        "Bearer 日本".to_owned(),
    ];
    for header in cases {
        let reply = guarded.server.send("GET", "/api/v1/events", &[("authorization", &header)], b"").await;
        assert_problem(&reply, 401, "unauthenticated");
        assert!(!reply.text().contains(&key[8..]), "an answer repeats a key");
    }
    let bearer = format!("Bearer {key}");
    let twice = [("authorization", bearer.as_str()), ("authorization", bearer.as_str())];
    assert_problem(&guarded.server.send("GET", "/api/v1/events", &twice, b"").await, 401, "unauthenticated");
    let lower = format!("bearer  {key}");
    let reply = guarded.server.send("GET", "/api/v1/events", &[("authorization", &lower)], b"").await;
    assert_eq!(reply.status, 200, "the scheme is read in any case");
}

#[tokio::test]
async fn who_may_is_asked_before_anything_of_the_body() {
    let guarded = Guarded::start().await;
    let reader = guarded.key("reader", &[Role::Reader]).await;
    let huge = "x".repeat(2 << 20);
    let bearer = format!("Bearer {reader}");
    for (body, media) in [("{", "application/json"), ("{}", "text/plain"), (huge.as_str(), "application/json")] {
        let nobody = [("content-type", media)];
        let reply = guarded.server.send("POST", "/api/v1/commands", &nobody, body.as_bytes()).await;
        assert_problem(&reply, 401, "unauthenticated");
        let somebody = [("content-type", media), ("authorization", bearer.as_str())];
        let refused = guarded.server.send("POST", "/api/v1/commands", &somebody, body.as_bytes()).await;
        assert_problem(&refused, 403, "forbidden");
        assert_eq!(refused.json()["role"], "writer");
        assert!(refused.json()["detail"].as_str().unwrap().contains("needs the role writer"));
    }
}

#[tokio::test]
async fn events_name_their_actor_and_idempotency_keys_belong_to_a_principal() {
    let guarded = Guarded::start().await;
    let (one, other) = (guarded.key("alice", &[Role::Writer]).await, guarded.key("bob", &[Role::Writer]).await);
    let send = |key: String, body: &'static str| {
        let server = &guarded.server;
        async move {
            let bearer = format!("Bearer {key}");
            let headers = [("authorization", bearer.as_str()), ("idempotency-key", "k")];
            server.post_with("/api/v1/commands", &headers, body).await
        }
    };
    assert_eq!(send(one.clone(), CREATE).await.status, 200);
    let replayed = send(one.clone(), CREATE).await;
    assert_eq!((replayed.status, replayed.header("idempotency-replayed")), (200, Some("true")));
    assert_problem(&send(other, CREATE).await, 422, "domain-rejected");
    let events = guarded.ask("GET", "/api/v1/events/a", Some(&one), "").await.json();
    assert_eq!(events["events"][0]["metadata"]["actor"], "alice");
    // Another key of the same name is the same principal: that is how keys are replaced.
    let renewed = guarded.key("alice", &[Role::Writer]).await;
    assert_eq!(send(renewed, CREATE).await.header("idempotency-replayed"), Some("true"));
}

#[tokio::test]
async fn admins_make_list_and_revoke_keys_over_http() {
    let guarded = Guarded::start().await;
    let admin = guarded.key("root", &[Role::Admin]).await;
    let body = json!({ "name": "ci", "roles": ["writer", "writer"], "expires_at": "2999-01-01T00:00:00Z" }).to_string();
    let made = guarded.ask("POST", "/api/v1/tokens", Some(&admin), &body).await;
    assert_eq!((made.status, made.header("cache-control")), (201, Some("no-store")), "{}", made.text());
    let made = made.json();
    assert_eq!(
        (&made["name"], &made["roles"], &made["created_by"]),
        (&json!("ci"), &json!(["writer"]), &json!("root"))
    );
    let key = made["key"].as_str().unwrap();
    assert_eq!(guarded.ask("POST", "/api/v1/commands", Some(key), CREATE).await.status, 200);
    let list = guarded.ask("GET", "/api/v1/tokens?limit=1", Some(&admin), "").await;
    assert!(!list.text().contains(&key[8..]) && list.json()["next_cursor"].is_string(), "{}", list.text());
    let path = format!("/api/v1/tokens/{}", made["token_id"].as_str().unwrap());
    let revoked = guarded.ask("DELETE", &path, Some(&admin), "").await.json();
    assert!(revoked["revoked_at"].is_string());
    assert_eq!(guarded.ask("DELETE", &path, Some(&admin), "").await.json(), revoked, "the first time counts");
    assert_problem(&guarded.ask("POST", "/api/v1/commands", Some(key), CREATE).await, 401, "unauthenticated");
    for (body, pointer) in [
        (json!({ "roles": [] }), "/roles"),
        (json!({ "roles": ["writr"] }), "/roles/0"),
        (json!({ "roles": ["writer"], "name": "system" }), "/name"),
        (json!({ "roles": ["writer"], "name": "a b" }), "/name"),
        (json!({ "roles": ["writer"], "expires_at": "2001-01-01T00:00:00Z" }), "/expires_at"),
    ] {
        let reply = guarded.ask("POST", "/api/v1/tokens", Some(&admin), &body.to_string()).await;
        assert_problem(&reply, 422, "validation-failed");
        assert_eq!(reply.json()["errors"][0]["pointer"], pointer);
    }
    let soon = json!({ "roles": ["writer"], "expires_at": "soon" }).to_string();
    let reply = guarded.ask("POST", "/api/v1/tokens?strange=1", Some(&admin), &soon).await;
    assert_problem(&reply, 400, "invalid-time");
    let nobody = "/api/v1/tokens/01890000-0000-7000-8000-000000000000";
    assert_problem(&guarded.ask("DELETE", nobody, Some(&admin), "").await, 404, "unknown-token");
    assert_problem(&guarded.ask("DELETE", "/api/v1/tokens/x", Some(&admin), "").await, 400, "invalid-id");
}

#[tokio::test]
async fn event_streams_of_a_revoked_key_end() {
    let guarded = Guarded::start().await;
    let writer = guarded.key("writer", &[Role::Writer]).await;
    assert_eq!(guarded.ask("POST", "/api/v1/commands", Some(&writer), CREATE).await.status, 200);
    let key = guarded.key("reader", &[Role::Reader]).await;
    let id = guarded.auth.tokens(None, 1.try_into().unwrap()).await.unwrap()[0].id;
    let bearer = format!("Bearer {key}");
    let headers = [("authorization", bearer.as_str()), ("accept", "application/x-ndjson")];
    let mut live = Live::new(guarded.server.open("GET", "/api/v1/events", &headers, b"").await);
    assert!(live.line().await.unwrap().contains("AccountCreated"));
    // Behind this process's back, as another replica does it.
    guarded.store.revoke_token(id, SystemClock.now()).await.unwrap();
    assert_eq!(live.line().await, None, "the stream goes on");
}

#[tokio::test]
async fn a_key_revoked_elsewhere_is_refused_here_within_the_bound() {
    let guarded = Guarded::start().await;
    let key = guarded.key("reader", &[Role::Reader]).await;
    let id = guarded.auth.tokens(None, 1.try_into().unwrap()).await.unwrap()[0].id;
    guarded.store.revoke_token(id, SystemClock.now()).await.unwrap();
    let refused = || async { guarded.ask("GET", "/version", Some(&key), "").await.status == 401 };
    eventually("the key opens nothing any more", refused).await;
}

#[tokio::test]
async fn keys_of_the_settings_open_too() {
    let key = ApiKey::generate();
    let configured = ConfiguredKey { name: "ops".to_owned(), roles: vec![Role::Operator], digest: key.digest() };
    let method = Method::ApiKey(vec![configured]);
    let guarded = Guarded::with(method, HttpOptions::default(), RoleAuthorizer::default()).await;
    assert!(!guarded.auth.has_no_key());
    assert_eq!(guarded.ask("GET", "/api/v1/projections", Some(key.expose()), "").await.status, 200);
    assert_problem(&guarded.ask("POST", "/api/v1/commands", Some(key.expose()), CREATE).await, 403, "forbidden");
    assert!(Guarded::start().await.auth.has_no_key());
}

#[tokio::test]
async fn without_authentication_everybody_may_do_everything() {
    let server = TestServer::start().await;
    assert_eq!(server.send("GET", "/version", &[("authorization", "nonsense")], b"").await.status, 200);
    server.account("a", 1).await;
    assert_eq!(server.get("/api/v1/events/a").await.json()["events"][0]["metadata"]["actor"], "anonymous");
    for path in ["/api/v1/tokens", "/api/v1/tokens?strange=1", "/api/v1/audit?strange=1"] {
        assert_eq!(server.get(path).await.status, 404, "there is nowhere to keep keys");
    }
}

#[tokio::test]
async fn single_commands_and_queries_demand_roles_of_their_own_also_through_sagas() {
    let roles = RoleAuthorizer {
        commands: [("WithdrawMoney".to_owned(), Role::Operator)].into(),
        queries: [("ListAccounts".to_owned(), Role::Auditor)].into(),
    };
    let guarded = Guarded::with(Method::ApiKey(Vec::new()), HttpOptions::default(), roles).await;
    let writer = guarded.key("writer", &[Role::Writer]).await;
    let both = guarded.key("both", &[Role::Writer, Role::Operator, Role::Auditor]).await;
    assert_eq!(guarded.ask("POST", "/api/v1/commands", Some(&writer), CREATE).await.status, 200);
    let withdraw = r#"{"command_type":"WithdrawMoney","aggregate_id":"a","data":{"amount":1}}"#;
    let refused = guarded.ask("POST", "/api/v1/commands", Some(&writer), withdraw).await;
    assert_problem(&refused, 403, "forbidden");
    assert!(refused.text().contains("WithdrawMoney needs the role operator"), "{}", refused.text());
    assert_eq!(guarded.ask("POST", "/api/v1/commands", Some(&both), withdraw).await.status, 200);
    let list = r#"{"query_type":"ListAccounts"}"#;
    assert_problem(&guarded.ask("POST", "/api/v1/queries", Some(&writer), list).await, 403, "forbidden");
    assert_eq!(guarded.ask("POST", "/api/v1/queries", Some(&both), list).await.status, 200);
}

/// An app on a store of its own with API keys.
async fn app() -> App {
    let mut settings = Settings::default();
    settings.auth.mode = AuthMode::ApiKey;
    let builder = App::builder().settings(settings).database_url("memory:").unwrap();
    builder.start().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_embeds_the_app_is_held_to_roles_too() {
    let app = app().await;
    let principal = |role: &str| Principal { name: Arc::from("p"), roles: Arc::from([Arc::from(role)]) };
    let send = |principal: Principal| {
        let data: Arc<_> =
            serde_json::value::to_raw_value(&json!({ "owner": "o", "initial_balance": 1 })).unwrap().into();
        let action = Action::Named { command_type: "CreateAccount".to_owned(), data };
        let mut request = CommandRequest::new("a".parse().unwrap(), action, Duration::from_secs(30));
        request.principal = principal;
        app.runtime().bus().send(request)
    };
    assert_eq!(send(Principal::anonymous()).await, Err(CommandError::Unauthenticated));
    assert!(matches!(send(principal("reader")).await, Err(CommandError::Forbidden { .. })));
    assert!(send(principal("writer")).await.is_ok());
    let ask = |principal: Principal| {
        let mut request = QueryRequest::new("ListAccounts", "{}").unwrap();
        request.principal = principal;
        app.query(request)
    };
    assert!(matches!(ask(Principal::anonymous()).await, Err(QueryError::Unauthenticated)));
    assert!(ask(principal("auditor")).await.is_ok());
    app.shutdown().await;
}

#[tokio::test]
async fn keys_are_made_only_as_they_can_be_kept() {
    let store = Arc::new(event_sourcing_cqrs::auth::memory::MemoryAccess::default());
    let clock = Arc::new(event_sourcing_actors::ports::SystemClock);
    let auth = Auth::start(Parts { store, clock, method: Method::None, guards: true }).await.unwrap();
    let new = NewToken { name: None, roles: vec![Role::Reader], expires_at: None };
    let (key, token) = auth.create_token(new, "t").await.unwrap();
    assert!(token.name.starts_with("key-") && token.digest == key.digest());
    auth.close().await;
}
