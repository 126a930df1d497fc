//! JSON web tokens: what counts, what does not, and sets of keys that change, are late or never come.

mod elliptic;
#[cfg(unix)]
mod https;
mod sets;

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::TimeDelta;

use ed25519_dalek::{Signer, SigningKey};
use event_sourcing_actors::ports::{Clock, SystemClock};
use event_sourcing_cqrs::{
    auth::{
        Method,
        authorizer::RoleAuthorizer,
        jwt::{JwtOptions, KEEP_MAX, KeySource},
    },
    http::HttpOptions,
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use crate::support::{access::Guarded, eventually};

/// A key of an issuer.
struct Issuer {
    kid: &'static str,
    key: SigningKey,
}

impl Issuer {
    fn new(kid: &'static str) -> Self {
        Self { kid, key: SigningKey::from_bytes(&rand::random()) }
    }

    fn public(&self) -> Value {
        let x = URL_SAFE_NO_PAD.encode(self.key.verifying_key().as_bytes());
        json!({ "kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA", "kid": self.kid, "x": x })
    }

    fn signed(&self, header: &Value, claims: &Value) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", part(header), part(claims));
        let signature = self.key.sign(message.as_bytes());
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature.to_bytes()))
    }

    fn token(&self, claims: &Value) -> String {
        self.signed(&json!({ "alg": "EdDSA", "typ": "JWT", "kid": self.kid }), claims)
    }
}

fn set(issuers: &[&Issuer]) -> String {
    json!({ "keys": issuers.iter().map(|issuer| issuer.public()).collect::<Vec<_>>() }).to_string()
}

/// Claims that count, with others put over them; null takes one out.
fn claims(changes: &Value) -> Value {
    let now = SystemClock.now().timestamp();
    let mut claims = json!({
        "iss": "https://id.example", "aud": ["events", "others"], "sub": "alice", "exp": now + 3_600, "nbf": now - 5,
        "roles": ["writer", "something-else"],
    });
    for (name, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => drop(claims.as_object_mut().unwrap().remove(name)),
            value => claims[name] = value.clone(),
        }
    }
    claims
}

fn options(source: KeySource) -> JwtOptions {
    JwtOptions {
        source,
        issuer: "https://id.example".to_owned(),
        audience: vec!["events".to_owned()],
        algorithms: vec!["EdDSA".to_owned(), "ES256".to_owned()],
        roles_claim: "roles".to_owned(),
        leeway: Duration::from_secs(30),
        refresh: Duration::from_secs(3_600),
        fetch_pause: Duration::from_millis(20),
        keep: KEEP_MAX,
    }
}

async fn guarded(options: JwtOptions) -> Guarded {
    Guarded::with(Method::Jwt(options), HttpOptions::default(), RoleAuthorizer::default()).await
}

async fn by_file(issuers: &[&Issuer]) -> (Guarded, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let path: PathBuf = folder.path().join("keys.json");
    std::fs::write(&path, set(issuers)).unwrap();
    (guarded(options(KeySource::File(path))).await, folder)
}

async fn status(guarded: &Guarded, token: &str) -> u16 {
    guarded.ask("GET", "/version", Some(token), "").await.status
}

#[tokio::test]
async fn a_token_brings_its_subject_and_its_roles() {
    let issuer = Issuer::new("one");
    let (guarded, _folder) = by_file(&[&issuer]).await;
    let token = issuer.token(&claims(&json!({})));
    let create = r#"{"command_type":"CreateAccount","aggregate_id":"a","data":{"owner":"o","initial_balance":1}}"#;
    let made = guarded.ask("POST", "/api/v1/commands", Some(&token), create).await;
    assert_eq!(made.status, 200, "{}", made.text());
    let events = guarded.ask("GET", "/api/v1/events/a", Some(&token), "").await.json();
    assert_eq!(events["events"][0]["metadata"]["actor"], "alice");
    let refused = guarded.ask("GET", "/api/v1/tokens", Some(&token), "").await;
    assert_eq!((refused.status, &refused.json()["role"]), (403, &json!("admin")));
    for (roles, expected) in [
        (json!("reader operator"), 200),
        (json!(["admin"]), 200),
        (json!([]), 403),
        (json!(["Reader", "root"]), 403),
        (json!({ "reader": true }), 403),
        (Value::Null, 403),
    ] {
        let token = issuer.token(&claims(&json!({ "roles": roles })));
        assert_eq!(status(&guarded, &token).await, expected, "{roles}");
    }
}

#[tokio::test]
async fn roles_may_lie_deep_in_the_claims() {
    let issuer = Issuer::new("one");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.json");
    std::fs::write(&path, set(&[&issuer])).unwrap();
    let deep = JwtOptions { roles_claim: "/realm_access/roles".to_owned(), ..options(KeySource::File(path)) };
    let guarded = guarded(deep).await;
    let token = issuer.token(&claims(&json!({ "realm_access": { "roles": ["reader"] } })));
    assert_eq!(status(&guarded, &token).await, 200);
    assert_eq!(status(&guarded, &issuer.token(&claims(&json!({})))).await, 403);
}

#[tokio::test]
async fn whatever_is_wrong_with_a_token_opens_nothing() {
    let (issuer, forger) = (Issuer::new("one"), Issuer::new("one"));
    let (guarded, _folder) = by_file(&[&issuer]).await;
    let now = SystemClock.now().timestamp();
    let right = issuer.token(&claims(&json!({})));
    assert_eq!(status(&guarded, &right).await, 200);
    for wrong in [
        json!({ "exp": now - 60 }),
        json!({ "exp": null }),
        json!({ "exp": "soon" }),
        json!({ "nbf": now + 3_600 }),
        json!({ "iss": "https://evil.example" }),
        json!({ "iss": null }),
        json!({ "aud": "others" }),
        json!({ "aud": [] }),
        json!({ "aud": null }),
        json!({ "sub": null }),
        json!({ "sub": "" }),
        json!({ "sub": "system" }),
        json!({ "sub": "anonymous" }),
        json!({ "sub": "a\nb" }),
        json!({ "sub": "x".repeat(256) }),
    ] {
        let reply = guarded.ask("GET", "/version", Some(&issuer.token(&claims(&wrong))), "").await;
        assert_eq!((reply.status, &reply.json()["code"]), (401, &json!("unauthenticated")), "{wrong}");
    }
    let late = issuer.token(&claims(&json!({ "exp": now - 10 })));
    assert_eq!(status(&guarded, &late).await, 200, "clocks may differ by the leeway");

    let good = claims(&json!({}));
    let public = issuer.public()["x"].as_str().unwrap().to_owned();
    let by_secret = {
        // The public key taken for a shared secret: HMAC by hand would be no better than any other bytes here.
        let header = json!({ "alg": "HS256", "kid": "one" });
        issuer.signed(&header, &good)
    };
    let mut parts: Vec<&str> = right.split('.').collect();
    let stolen = URL_SAFE_NO_PAD.encode(claims(&json!({ "roles": ["admin"] })).to_string());
    parts[1] = &stolen;
    for (what, token) in [
        ("forged", forger.token(&good)),
        ("altered", parts.join(".")),
        ("by a secret", by_secret),
        ("without a signature", issuer.signed(&json!({ "alg": "none" }), &good)),
        ("of another algorithm", issuer.signed(&json!({ "alg": "ES256", "kid": "one" }), &good)),
        ("of one that is not allowed", issuer.signed(&json!({ "alg": "RS256", "kid": "one" }), &good)),
        ("of an unknown key", issuer.signed(&json!({ "alg": "EdDSA", "kid": "two" }), &good)),
        ("cut", right[..right.len() - 4].to_owned()),
        ("with an empty signature", format!("{}.", right.rsplit_once('.').unwrap().0)),
        ("too long", issuer.token(&claims(&json!({ "x": "x".repeat(20_000) })))),
        ("no token", "a.b.c".to_owned()),
        ("its key", public),
    ] {
        assert_eq!(status(&guarded, &token).await, 401, "{what}");
    }
    assert_eq!(guarded.ask("GET", "/version", None, "").await.status, 401);
    let only = issuer.signed(&json!({ "alg": "EdDSA" }), &good);
    assert_eq!(status(&guarded, &only).await, 200, "without an id the only key is meant");
    guarded.clock.advance(TimeDelta::hours(2));
    assert_eq!(status(&guarded, &right).await, 401, "the program's own clock counts, too");
}

/// Whatever answers for a set of keys.
struct KeyServer {
    url: String,
    body: Arc<Mutex<Option<String>>>,
    asked: Arc<AtomicUsize>,
    _task: tokio_util::task::AbortOnDropHandle<()>,
}

impl KeyServer {
    /// `None` takes connections and never answers.
    async fn start(body: Option<String>) -> Self {
        Self::answering("200 OK", body).await
    }

    async fn answering(status: &'static str, body: Option<String>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/keys", listener.local_addr().unwrap());
        let (body, asked) = (Arc::new(Mutex::new(body)), Arc::new(AtomicUsize::new(0)));
        let (answer, count) = (body.clone(), asked.clone());
        let task = tokio::spawn(async move {
            let mut silent = Vec::new();
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                count.fetch_add(1, Ordering::SeqCst);
                let body = answer.lock().unwrap().clone();
                let Some(body) = body else {
                    silent.push(stream);
                    continue;
                };
                let _ = stream.read(&mut [0; 4_096]).await;
                let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
                let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
            }
        });
        Self { url, body, asked, _task: tokio_util::task::AbortOnDropHandle::new(task) }
    }

    fn say(&self, body: Option<String>) {
        *self.body.lock().unwrap() = body;
    }
}

#[tokio::test]
async fn a_key_that_is_new_in_the_set_is_found_and_one_that_is_gone_is_not() {
    let (old, new) = (Issuer::new("old"), Issuer::new("new"));
    let keys = KeyServer::start(Some(set(&[&old]))).await;
    let guarded = guarded(options(KeySource::Url(keys.url.clone()))).await;
    let (by_old, by_new) = (old.token(&claims(&json!({}))), new.token(&claims(&json!({}))));
    assert_eq!((status(&guarded, &by_old).await, status(&guarded, &by_new).await), (200, 401));
    keys.say(Some(set(&[&new])));
    eventually("the new key counts", || async { status(&guarded, &by_new).await == 200 }).await;
    assert_eq!(status(&guarded, &by_old).await, 401);
    // A set that is none leaves the last one in force.
    keys.say(Some("nonsense".to_owned()));
    assert_eq!(status(&guarded, &by_old).await, 401);
    assert_eq!(status(&guarded, &by_new).await, 200);
}

#[tokio::test]
async fn unknown_keys_do_not_make_a_request_each_to_the_issuer() {
    let (one, other) = (Issuer::new("one"), Issuer::new("other"));
    let keys = KeyServer::start(Some(set(&[&one]))).await;
    let slow = JwtOptions { fetch_pause: Duration::from_secs(3_600), ..options(KeySource::Url(keys.url.clone())) };
    let guarded = guarded(slow).await;
    let token = other.token(&claims(&json!({})));
    for _ in 0..50 {
        assert_eq!(status(&guarded, &token).await, 401);
    }
    assert_eq!(keys.asked.load(Ordering::SeqCst), 1, "the issuer was asked at the start, and once a pause after that");
}

#[tokio::test]
async fn an_issuer_that_never_answers_holds_nobody_up_and_lets_nobody_in() {
    let one = Issuer::new("one");
    let keys = KeyServer::start(None).await;
    // The start gives up by itself, and so does each request.
    let started = guarded(options(KeySource::Url(keys.url.clone())));
    let guarded = tokio::time::timeout(Duration::from_secs(60), started).await.expect("the start gives up");
    let token = one.token(&claims(&json!({})));
    let reply = guarded.ask("GET", "/version", Some(&token), "").await;
    assert_eq!((reply.status, &reply.json()["code"]), (503, &json!("authentication-unavailable")));
    assert!(reply.header("retry-after").is_some());
    assert_eq!(guarded.server.get("/health/live").await.status, 200);
    keys.say(Some(set(&[&one])));
    eventually("the issuer is back", || async { status(&guarded, &token).await == 200 }).await;
}
