//! Sets of keys that are too long, and how long one counts.

use std::path::Path;

use event_sourcing_cqrs::auth::{Auth, Denied, Parts, memory::MemoryAccess};

use super::*;

async fn started(options: JwtOptions) -> Result<Auth, event_sourcing_cqrs::auth::AuthError> {
    let (store, clock) = (Arc::new(MemoryAccess::default()), Arc::new(SystemClock));
    Auth::start(Parts { store, clock, method: Method::Jwt(options), guards: true }).await
}

fn by_path(path: &Path) -> JwtOptions {
    options(KeySource::File(path.to_owned()))
}

/// Waits until a token is answered so.
async fn becomes(auth: &Auth, token: &str, expected: Denied) {
    let is_so = || async { auth.authenticate(Some(token)).await.is_err_and(|denied| denied == expected) };
    eventually("the token opens nothing any more", is_so).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_set_that_cannot_be_fetched_any_more_does_not_count_for_ever() {
    let issuer = Issuer::new("one");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.json");
    let token = issuer.token(&claims(&json!({})));
    for (keep, is_over) in [(Duration::from_secs(3_600), false), (Duration::from_millis(200), true)] {
        std::fs::write(&path, set(&[&issuer])).unwrap();
        let refresh = Duration::from_millis(20);
        let auth = started(JwtOptions { keep, refresh, ..by_path(&path) }).await.unwrap();
        std::fs::remove_file(&path).unwrap();
        if is_over {
            becomes(&auth, &token, Denied::Unavailable).await;
        } else {
            assert!(auth.authenticate(Some(&token)).await.is_ok(), "an issuer that is away shuts nobody out");
        }
        auth.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_was_taken_out_of_the_set_ends_with_the_next_look_at_it() {
    let (old, new) = (Issuer::new("old"), Issuer::new("new"));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.json");
    std::fs::write(&path, set(&[&old])).unwrap();
    let auth = started(JwtOptions { refresh: Duration::from_millis(50), ..by_path(&path) }).await.unwrap();
    let token = old.token(&claims(&json!({})));
    assert!(auth.authenticate(Some(&token)).await.is_ok());
    // Whole at once, since the set may be read at any moment.
    let fresh = folder.path().join("fresh.json");
    std::fs::write(&fresh, set(&[&new])).unwrap();
    std::fs::rename(&fresh, &path).unwrap();
    becomes(&auth, &token, Denied::Invalid("the token is signed by a key that is not in the set")).await;
    auth.close().await;
}

#[tokio::test]
async fn a_set_that_is_too_long_counts_for_nothing() {
    let issuer = Issuer::new("one");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.json");
    let many = |count: usize| json!({ "keys": vec![issuer.public(); count] }).to_string();
    // Blanks at the end are no part of JSON, but they must be read.
    let padded = |length: usize| set(&[&issuer]) + &" ".repeat(length - set(&[&issuer]).len());
    for (what, text, is_fine) in [
        ("of a hundred keys", many(100), true),
        ("of one more", many(101), false),
        ("of a mebibyte", padded(1 << 20), true),
        ("of one byte more", padded((1 << 20) + 1), false),
    ] {
        std::fs::write(&path, &text).unwrap();
        match started(by_path(&path)).await {
            Ok(auth) => {
                assert!(is_fine, "a set {what} is taken from a file");
                auth.close().await;
            }
            Err(error) => assert!(!is_fine && error.to_string().contains("than"), "{what}: {error}"),
        }
        let keys = KeyServer::start(Some(text)).await;
        let auth = started(options(KeySource::Url(keys.url.clone()))).await.unwrap();
        let answered = auth.authenticate(Some(&issuer.token(&claims(&json!({}))))).await;
        assert_eq!(answered.is_ok(), is_fine, "a set {what} over HTTP: {answered:?}");
        auth.close().await;
    }
}

#[tokio::test]
async fn a_set_counts_only_in_an_answer_that_says_it_is_one() {
    let issuer = Issuer::new("one");
    let token = issuer.token(&claims(&json!({})));
    let elsewhere = KeyServer::start(Some(set(&[&issuer]))).await;
    let moved: &'static str = format!("302 Found\r\nLocation: {}", elsewhere.url).leak();
    for (status, is_fine) in
        [("200 OK", true), ("500 Internal Server Error", false), ("404 Not Found", false), (moved, false)]
    {
        let keys = KeyServer::answering(status, Some(set(&[&issuer]))).await;
        let auth = started(options(KeySource::Url(keys.url.clone()))).await.unwrap();
        assert_eq!(auth.authenticate(Some(&token)).await.is_ok(), is_fine, "{status}");
        auth.close().await;
    }
    assert_eq!(elsewhere.asked.load(Ordering::SeqCst), 0, "nobody is sent elsewhere");
}
