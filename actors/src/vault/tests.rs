//! How long a key is used, and that a destroyed one is never used again.

use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::{
    memory::MemoryStore,
    ports::{KeyCensus, SystemClock},
};

fn subject(name: &str) -> AggregateId {
    AggregateId::new(name).unwrap()
}

fn vault(store: &MemoryStore, masters: &MasterKeys, life: Duration) -> Vault {
    let masters = MasterKeys::parse(&masters.to_text()).unwrap();
    Vault::new(Arc::default(), Some((Arc::new(store.clone()), masters)), life, 8)
}

fn is_live(state: &KeyState) -> bool {
    matches!(state, KeyState::Live(_))
}

#[tokio::test(start_paused = true)]
async fn key_destroyed_elsewhere_is_not_used_past_its_life() {
    let (store, masters) = (MemoryStore::new(Arc::new(SystemClock)), MasterKeys::random());
    let (here, there) =
        (vault(&store, &masters, Duration::from_secs(5)), vault(&store, &masters, Duration::from_secs(5)));
    let ann = subject("ann");
    assert!(is_live(&here.make(&ann).await.unwrap()));
    there.destroy(&ann).await.unwrap();
    tokio::time::advance(Duration::from_millis(4_999)).await;
    assert!(here.held(&ann).as_ref().is_some_and(is_live), "within its life");
    tokio::time::advance(Duration::from_millis(1)).await;
    assert!(here.held(&ann).is_none());
    assert!(matches!(here.load(std::slice::from_ref(&ann)).await.unwrap()[..], [KeyState::Destroyed]));
    assert!(matches!(here.make(&ann).await.unwrap(), KeyState::Destroyed), "a subject gets no second key");
    assert!(matches!(there.held(&ann), Some(KeyState::Destroyed)), "at once where it was destroyed");
}

#[tokio::test(start_paused = true)]
async fn late_answer_does_not_bring_a_destroyed_key_back() {
    let mut remembered = Remembered::new(8);
    let before = Instant::now();
    tokio::time::advance(Duration::from_secs(1)).await;
    remembered.put(subject("ann"), KeyState::Destroyed, Instant::now());
    let late = KeyState::Live(Arc::new(SubjectKey::random()));
    remembered.put(subject("ann"), late, before);
    assert!(matches!(remembered.get(&subject("ann"), Duration::from_secs(5)), Some(KeyState::Destroyed)));
}

#[tokio::test]
async fn keys_remembered_are_bounded() {
    let (store, masters) = (MemoryStore::new(Arc::new(SystemClock)), MasterKeys::random());
    let vault = vault(&store, &masters, Duration::from_secs(5));
    for number in 0..100 {
        vault.make(&subject(&format!("s{number}"))).await.unwrap();
    }
    let held = (0..100).filter(|number| vault.held(&subject(&format!("s{number}"))).is_some()).count();
    assert!((4..=8).contains(&held), "{held}");
}

#[tokio::test]
async fn those_who_come_at_once_share_a_call_and_agree_on_one_key() {
    let (store, masters) = (MemoryStore::new(Arc::new(SystemClock)), MasterKeys::random());
    let counted = Arc::new(Counted { inner: store, calls: AtomicU64::new(0) });
    let vault = Arc::new(Vault::new(Arc::default(), Some((counted.clone(), masters)), Duration::from_secs(5), 1_000));
    let makes: Vec<_> = (0..200).map(|n| (vault.clone(), subject(&format!("s{}", n % 20)))).collect();
    let makes = makes.into_iter().map(|(vault, subject)| tokio::spawn(async move { vault.make(&subject).await }));
    let mut ids: Vec<_> = Vec::new();
    for (number, made) in makes.collect::<Vec<_>>().into_iter().enumerate() {
        let KeyState::Live(key) = made.await.unwrap().unwrap() else { panic!("no key") };
        ids.push((number % 20, key.id()));
    }
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 20, "one key for each");
    assert!(counted.calls.load(Ordering::Relaxed) < 20, "{counted:?}");
}

#[derive(Debug)]
struct Counted {
    inner: MemoryStore,
    calls: AtomicU64,
}

impl SubjectKeys for Counted {
    fn destroyed<'a>(
        &'a self,
        after: &'a Tombstone,
        limit: u32,
    ) -> futures_util::future::BoxFuture<'a, Result<Vec<Tombstone>, StoreError>> {
        self.inner.destroyed(after, limit)
    }
    fn find<'a>(
        &'a self,
        subjects: &'a [AggregateId],
    ) -> futures_util::future::BoxFuture<'a, Result<Vec<Option<StoredKey>>, StoreError>> {
        SubjectKeys::find(&self.inner, subjects)
    }
    fn create<'a>(
        &'a self,
        keys: &'a [(AggregateId, WrappedKey)],
    ) -> futures_util::future::BoxFuture<'a, Result<Vec<StoredKey>, StoreError>> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        Box::pin(async move {
            tokio::task::yield_now().await;
            SubjectKeys::create(&self.inner, keys).await
        })
    }
    fn destroy<'a>(
        &'a self,
        subject: &'a AggregateId,
    ) -> futures_util::future::BoxFuture<'a, Result<chrono::DateTime<chrono::Utc>, StoreError>> {
        self.inner.destroy(subject)
    }
    fn foreign<'a>(
        &'a self,
        master: &'a str,
        limit: u32,
    ) -> futures_util::future::BoxFuture<'a, Result<Vec<StoredKey>, StoreError>> {
        self.inner.foreign(master, limit)
    }
    fn rewrap<'a>(
        &'a self,
        keys: &'a [(AggregateId, WrappedKey)],
    ) -> futures_util::future::BoxFuture<'a, Result<(), StoreError>> {
        self.inner.rewrap(keys)
    }
    fn census(&self) -> futures_util::future::BoxFuture<'_, Result<KeyCensus, StoreError>> {
        self.inner.census()
    }
    fn list<'a>(
        &'a self,
        after: Option<&'a AggregateId>,
        limit: u32,
    ) -> futures_util::future::BoxFuture<'a, Result<Vec<StoredKey>, StoreError>> {
        SubjectKeys::list(&self.inner, after, limit)
    }
    fn put_back<'a>(
        &'a self,
        keys: &'a [StoredKey],
    ) -> futures_util::future::BoxFuture<'a, Result<Vec<StoredKey>, StoreError>> {
        self.inner.put_back(keys)
    }
    fn appoint<'a>(
        &'a self,
        from: &'a [String],
        to: &'a str,
    ) -> futures_util::future::BoxFuture<'a, Result<String, StoreError>> {
        self.inner.appoint(from, to)
    }
    fn kept_master<'a>(
        &'a self,
        offer: Option<&'a MasterKeys>,
    ) -> futures_util::future::BoxFuture<'a, Result<Option<MasterKeys>, StoreError>> {
        self.inner.kept_master(offer)
    }
}
