//! Keys that cannot be read any more: what is remembered of them does not count for ever; and what is compared of a key.

use std::{
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use chrono::{DateTime, Utc};
use event_sourcing_actors::ports::{StoreError, SystemClock};
use event_sourcing_cqrs::auth::{
    Auth, ConfiguredKey, Denied, Method, NewToken, Parts, Role,
    key::{ApiKey, KeyDigest},
    memory::MemoryAccess,
    port::{AccessStore, AuditRecord, TokenRecord},
};
use futures_util::{FutureExt, future::BoxFuture};
use tokio::time::timeout;
use uuid::Uuid;

use crate::support::eventually;

const ANSWERS: u8 = 0;
const FAILS: u8 = 1;
const IS_SILENT: u8 = 2;

/// A store that may fail, or not answer, when it is asked for the keys.
#[derive(Debug, Default)]
struct Moody(MemoryAccess, AtomicU8);

impl AccessStore for Moody {
    fn add_token(&self, token: TokenRecord) -> BoxFuture<'_, Result<bool, StoreError>> {
        self.0.add_token(token)
    }
    fn tokens(&self, before: Option<Uuid>, limit: NonZeroU32) -> BoxFuture<'_, Result<Vec<TokenRecord>, StoreError>> {
        self.0.tokens(before, limit)
    }
    fn active_tokens(&self, now: DateTime<Utc>) -> BoxFuture<'_, Result<Vec<TokenRecord>, StoreError>> {
        match self.1.load(Ordering::SeqCst) {
            ANSWERS => self.0.active_tokens(now),
            FAILS => async { Err(StoreError::Unavailable { reason: "moody".to_owned() }) }.boxed(),
            _ => std::future::pending().boxed(),
        }
    }
    fn revoke_token(&self, id: Uuid, at: DateTime<Utc>) -> BoxFuture<'_, Result<Option<TokenRecord>, StoreError>> {
        self.0.revoke_token(id, at)
    }
    fn record(&self, lines: Vec<AuditRecord>) -> BoxFuture<'_, Result<(), StoreError>> {
        self.0.record(lines)
    }
    fn announce_pruning(&self, before: DateTime<Utc>, line: AuditRecord) -> BoxFuture<'_, Result<bool, StoreError>> {
        self.0.announce_pruning(before, line)
    }
    fn prune_audit(&self, before: DateTime<Utc>, limit: NonZeroU32) -> BoxFuture<'_, Result<u64, StoreError>> {
        self.0.prune_audit(before, limit)
    }
    fn audit(&self, before: Option<Uuid>, limit: NonZeroU32) -> BoxFuture<'_, Result<Vec<AuditRecord>, StoreError>> {
        self.0.audit(before, limit)
    }
}

/// Guarded by a store that answers so far, with one key.
async fn guarded() -> (Arc<Moody>, Auth, String) {
    let store = Arc::new(Moody::default());
    let method = Method::ApiKey(Vec::new());
    let parts = Parts { store: store.clone(), clock: Arc::new(SystemClock), method, guards: true };
    let auth = Auth::start(parts).await.unwrap();
    let new = NewToken { name: Some("reader".to_owned()), roles: vec![Role::Reader], expires_at: None };
    let key = auth.create_token(new, "test").await.unwrap().0.expose().to_owned();
    (store, auth, key)
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_cannot_be_read_any_more_count_for_the_time_of_trust_and_no_longer() {
    for mood in [FAILS, IS_SILENT] {
        let (store, auth, key) = guarded().await;
        store.1.store(mood, Ordering::SeqCst);
        let asked = || timeout(Duration::from_secs(60), auth.authenticate(Some(&key)));
        let refused = || async {
            let answered = asked().await.expect("nobody is kept waiting for ever");
            answered.is_err_and(|denied| denied == Denied::Unavailable)
        };
        eventually("nobody is let in by what is only remembered", refused).await;
        store.1.store(ANSWERS, Ordering::SeqCst);
        let is_back = || async { auth.authenticate(Some(&key)).await.is_ok() };
        eventually("the keys can be read again", is_back).await;
        auth.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_on_ends_when_it_is_not_known_any_more_whether_it_may() {
    for mood in [FAILS, IS_SILENT] {
        let (store, auth, key) = guarded().await;
        let access = auth.authenticate(Some(&key)).await.unwrap();
        store.1.store(mood, Ordering::SeqCst);
        let ended = timeout(Duration::from_secs(120), access.ended()).await;
        assert!(ended.is_ok(), "it goes on by a key that nobody can look up");
        auth.close().await;
    }
}

#[tokio::test]
async fn a_digest_that_is_alike_in_part_opens_nothing() {
    let (key, other) = (ApiKey::generate(), ApiKey::generate());
    let configured = |name: &str, digest| ConfiguredKey { name: name.to_owned(), roles: vec![Role::Admin], digest };
    for place in 0..32 {
        let mut near = key.digest();
        near.0[place] ^= 1;
        let keys = vec![configured("near", near), configured("other", other.digest())];
        let store = Arc::new(MemoryAccess::default());
        let parts = Parts { store, clock: Arc::new(SystemClock), method: Method::ApiKey(keys), guards: true };
        let auth = Auth::start(parts).await.unwrap();
        assert!(auth.authenticate(Some(key.expose())).await.is_err(), "byte {place} of the digest is not looked at");
        assert!(auth.authenticate(Some(other.expose())).await.is_ok());
        auth.close().await;
    }
    assert_eq!(KeyDigest::of(key.expose()), key.digest());
}
