//! What every place of subjects' keys must do, as a list of cases; each wants a fresh, empty store.

#![allow(clippy::unwrap_used, reason = "a failed expectation is how a case fails")]

use std::{fmt, sync::Arc};

use bytes::Bytes;
use futures_util::future::{BoxFuture, join_all};
use uuid::Uuid;

use crate::{
    digest::ChainDigest,
    envelope::{Snapshot, StreamHead},
    id::{AggregateId, AggregateType},
    master_keys::MasterKeys,
    ports::{KeyCensus, SnapshotStore, StoredKey, StoredKeyState, SubjectKeys, Tombstone, WrappedKey},
    version::Sequence,
};

/// A store under test.
pub trait Store: SubjectKeys + SnapshotStore {}
impl<S: SubjectKeys + SnapshotStore> Store for S {}

/// One demand on a store.
#[derive(Clone, Copy)]
pub struct Case {
    /// The demand, as a claim.
    pub name: &'static str,
    /// Panics if the store does not meet it.
    pub run: fn(Arc<dyn Store>) -> BoxFuture<'static, ()>,
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Case").field(&self.name).finish()
    }
}

macro_rules! listed {
    ($($name:ident),* $(,)?) => {
        /// All cases, in reading order.
        #[must_use]
        pub fn cases() -> Vec<Case> {
            vec![$(Case { name: stringify!($name), run: |store| Box::pin($name(store)) }),*]
        }
    };
}

listed!(
    keys_come_in_the_order_asked,
    first_key_of_a_subject_wins,
    destroyed_key_is_gone_for_ever,
    destroyed_keys_are_listed_by_instant,
    subject_without_a_key_can_be_closed_too,
    keys_of_another_master_are_found_and_wrapped_anew,
    rewrapping_changes_only_the_very_key,
    master_is_named_once_and_replaced_by_who_knows_it,
    a_master_is_kept_only_where_none_stands,
    a_master_elsewhere_is_not_replaced_by_a_kept_one,
    makers_of_the_same_keys_do_not_wait_for_each_other,
    erased_stream_takes_no_snapshot_any_more,
    keys_are_counted_by_master,
    keys_are_listed_in_order_of_subject,
    keys_come_back_where_there_are_none,
    destroyed_key_does_not_come_back_and_a_destruction_does,
);

type Tested = Arc<dyn Store>;

fn id(name: &str) -> AggregateId {
    AggregateId::new(name).unwrap()
}

fn key(byte: u8) -> WrappedKey {
    WrappedKey { id: Uuid::from_u128(byte.into()), master: "m1".to_owned(), wrapped: vec![byte; 72] }
}

fn wrapped(stored: Option<&StoredKey>) -> Option<&WrappedKey> {
    match &stored?.state {
        StoredKeyState::Wrapped(key) => Some(key),
        StoredKeyState::Destroyed(_) => None,
    }
}

async fn find(store: &Tested, name: &str) -> Option<StoredKey> {
    store.find(&[id(name)]).await.unwrap().pop().unwrap()
}

async fn keys_come_in_the_order_asked(store: Tested) {
    let made = store.create(&[(id("b"), key(2)), (id("a"), key(1)), (id("ü/\"x"), key(3))]).await.unwrap();
    let subjects: Vec<_> = made.iter().map(|key| key.subject.as_str()).collect();
    assert_eq!(subjects, ["b", "a", "ü/\"x"]);
    let found = store.find(&[id("a"), id("none"), id("ü/\"x"), id("a")]).await.unwrap();
    let found: Vec<_> = found.iter().map(|found| wrapped(found.as_ref()).cloned()).collect();
    assert_eq!(found, [Some(key(1)), None, Some(key(3)), Some(key(1))]);
    assert_eq!(store.find(&[]).await.unwrap(), []);
}

async fn first_key_of_a_subject_wins(store: Tested) {
    store.create(&[(id("a"), key(1))]).await.unwrap();
    let stands = store.create(&[(id("a"), key(2)), (id("b"), key(3))]).await.unwrap();
    let stands: Vec<_> = stands.iter().map(|key| wrapped(Some(key)).cloned()).collect();
    assert_eq!(stands, [Some(key(1)), Some(key(3))]);
}

async fn destroyed_key_is_gone_for_ever(store: Tested) {
    store.create(&[(id("a"), key(1)), (id("b"), key(2))]).await.unwrap();
    let at = store.destroy(&id("a")).await.unwrap();
    assert_eq!(store.destroy(&id("a")).await.unwrap(), at, "it was destroyed once");
    let again = store.create(&[(id("a"), key(3))]).await.unwrap();
    assert_eq!(again, [StoredKey { subject: id("a"), state: StoredKeyState::Destroyed(at) }]);
    store.rewrap(&[(id("a"), key(1))]).await.unwrap();
    assert_eq!(find(&store, "a").await.unwrap().state, StoredKeyState::Destroyed(at));
    assert_eq!(wrapped(find(&store, "b").await.as_ref()), Some(&key(2)), "others stay");
}

async fn destroyed_keys_are_listed_by_instant(store: Tested) {
    store.create(&[(id("a"), key(1)), (id("b"), key(2))]).await.unwrap();
    let mut expected = Vec::new();
    for name in ["c", "a", "d"] {
        expected.push(Tombstone { destroyed_at: store.destroy(&id(name)).await.unwrap(), subject: id(name) });
    }
    expected.sort();
    let beginning = Tombstone { destroyed_at: chrono::DateTime::UNIX_EPOCH, subject: id("0") };
    assert_eq!(store.destroyed(&beginning, 10).await.unwrap(), expected);
    assert_eq!(store.destroyed(&beginning, 1).await.unwrap(), expected[..1]);
    assert_eq!(store.destroyed(&expected[0], 10).await.unwrap(), expected[1..]);
    assert_eq!(store.destroyed(&expected[2], 10).await.unwrap(), []);
}

async fn subject_without_a_key_can_be_closed_too(store: Tested) {
    let at = store.destroy(&id("a")).await.unwrap();
    let made = store.create(&[(id("a"), key(1))]).await.unwrap();
    assert_eq!(made[0].state, StoredKeyState::Destroyed(at));
}

async fn keys_of_another_master_are_found_and_wrapped_anew(store: Tested) {
    let keys: Vec<_> = (1..=5_u8).map(|n| (id(&format!("s{n}")), key(n))).collect();
    store.create(&keys).await.unwrap();
    store.destroy(&id("s3")).await.unwrap();
    assert_eq!(store.foreign("m1", 10).await.unwrap(), []);
    assert_eq!(store.foreign("m2", 2).await.unwrap().len(), 2);
    let foreign = store.foreign("m2", 10).await.unwrap();
    assert_eq!(foreign.len(), 4, "a destroyed key has no master");
    let anew = |stored: &StoredKey| {
        let old = wrapped(Some(stored)).unwrap();
        (stored.subject.clone(), WrappedKey { id: old.id, master: "m2".to_owned(), wrapped: vec![9; 72] })
    };
    store.rewrap(&foreign.iter().map(anew).collect::<Vec<_>>()).await.unwrap();
    assert_eq!(store.foreign("m2", 10).await.unwrap(), []);
    let stored = find(&store, "s1").await;
    let expected = WrappedKey { id: key(1).id, master: "m2".to_owned(), wrapped: vec![9; 72] };
    assert_eq!(wrapped(stored.as_ref()), Some(&expected));
}

async fn rewrapping_changes_only_the_very_key(store: Tested) {
    store.create(&[(id("a"), key(1))]).await.unwrap();
    store.rewrap(&[(id("a"), key(2)), (id("none"), key(1))]).await.unwrap();
    assert_eq!(wrapped(find(&store, "a").await.as_ref()), Some(&key(1)));
    assert_eq!(find(&store, "none").await, None);
}

async fn master_is_named_once_and_replaced_by_who_knows_it(store: Tested) {
    assert_eq!(store.appoint(&[], "m1").await.unwrap(), "m1");
    assert_eq!(store.appoint(&[], "m2").await.unwrap(), "m1", "who does not know it must not replace it");
    assert_eq!(store.appoint(&["m0".to_owned(), "m1".to_owned()], "m2").await.unwrap(), "m2");
    assert_eq!(store.appoint(&[], "m2").await.unwrap(), "m2");
}

async fn a_master_is_kept_only_where_none_stands(store: Tested) {
    assert!(store.kept_master(None).await.unwrap().is_none());
    let offers = [MasterKeys::random(), MasterKeys::random(), MasterKeys::random()];
    let all = join_all(offers.iter().map(|offer| store.kept_master(Some(offer)))).await;
    let all: Vec<MasterKeys> = all.into_iter().map(|kept| kept.unwrap().unwrap()).collect();
    let first = &all[0];
    assert!(all.iter().all(|kept| kept.to_text() == first.to_text()), "all have the same: {all:?}");
    assert!(offers.iter().any(|offer| offer.to_text() == first.to_text()));
    assert_eq!(store.appoint(&[], "m1").await.unwrap(), first.current(), "it is the one that is appointed");
    assert_eq!(store.appoint(&[first.current().to_owned()], "m1").await.unwrap(), "m1");
    let still = store.kept_master(Some(&MasterKeys::random())).await.unwrap().unwrap();
    assert_eq!(still.to_text(), first.to_text(), "a rotation leaves it");
}

async fn a_master_elsewhere_is_not_replaced_by_a_kept_one(store: Tested) {
    assert_eq!(store.appoint(&[], "m1").await.unwrap(), "m1");
    assert!(store.kept_master(Some(&MasterKeys::random())).await.unwrap().is_none());
    assert_eq!(store.appoint(&[], "m2").await.unwrap(), "m1");
}

async fn makers_of_the_same_keys_do_not_wait_for_each_other(store: Tested) {
    let make = |reversed: bool, byte: u8| {
        let store = store.clone();
        tokio::spawn(async move {
            let mut keys: Vec<_> = (0..50).map(|n| (id(&format!("s{n}")), key(byte))).collect();
            if reversed {
                keys.reverse();
            }
            store.create(&keys).await.unwrap()
        })
    };
    let makers: Vec<_> = (1..=8_u8).map(|byte| make(byte % 2 == 0, byte)).collect();
    let mut all = Vec::new();
    for maker in makers {
        let mut made = maker.await.unwrap();
        made.sort_by(|a, b| a.subject.cmp(&b.subject));
        all.push(made);
    }
    assert!(all.windows(2).all(|pair| pair[0] == pair[1]), "all agree on one key each");
}

async fn erased_stream_takes_no_snapshot_any_more(store: Tested) {
    let snapshot = |name: &str| Snapshot {
        aggregate_id: id(name),
        aggregate_type: AggregateType::new("t").unwrap(),
        head: StreamHead { sequence: Sequence(1), chain: ChainDigest::EMPTY },
        state_version: 1,
        state: Bytes::from_static(b"{}"),
    };
    store.destroy(&id("a")).await.unwrap();
    for name in ["a", "b"] {
        store.save(snapshot(name)).await.unwrap();
    }
    assert_eq!(store.latest(&id("a"), Sequence(9)).await.unwrap(), None);
    assert!(store.latest(&id("b"), Sequence(9)).await.unwrap().is_some());
}

async fn keys_are_counted_by_master(store: Tested) {
    assert_eq!(store.census().await.unwrap(), KeyCensus::default());
    store.appoint(&[], "m2").await.unwrap();
    let of_another = WrappedKey { master: "m2".to_owned(), ..key(3) };
    store.create(&[(id("a"), key(1)), (id("b"), key(2)), (id("c"), of_another), (id("d"), key(4))]).await.unwrap();
    store.destroy(&id("d")).await.unwrap();
    store.destroy(&id("never")).await.unwrap();
    let wrapped = vec![("m1".to_owned(), 2), ("m2".to_owned(), 1)];
    let census = store.census().await.unwrap();
    assert_eq!(census, KeyCensus { current: Some("m2".to_owned()), wrapped, destroyed: 2 });
    assert_eq!(census.keys(), 3);
}

async fn keys_are_listed_in_order_of_subject(store: Tested) {
    let names = ["b", "a", "B", "\u{fc}", "aa", "a/\"x"];
    let keys: Vec<_> = (1..).zip(names).map(|(number, name)| (id(name), key(number))).collect();
    store.create(&keys).await.unwrap();
    let at = store.destroy(&id("aa")).await.unwrap();
    let mut expected: Vec<_> = (keys.into_iter())
        .map(|(subject, key)| StoredKey { subject, state: StoredKeyState::Wrapped(key) })
        .map(
            |key| if key.subject == id("aa") { StoredKey { state: StoredKeyState::Destroyed(at), ..key } } else { key },
        )
        .collect();
    expected.sort_by(|a, b| a.subject.cmp(&b.subject));
    assert_eq!(store.list(None, 100).await.unwrap(), expected);
    let (mut paged, mut after) = (Vec::new(), None);
    loop {
        let page = store.list(after.as_ref(), 2).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some(last.subject.clone());
        paged.extend(page);
    }
    assert_eq!(paged, expected);
}

async fn keys_come_back_where_there_are_none(store: Tested) {
    store.create(&[(id("a"), key(1)), (id("b"), key(2))]).await.unwrap();
    let wrapped = |name: &str, number| StoredKey { subject: id(name), state: StoredKeyState::Wrapped(key(number)) };
    let put = [wrapped("b", 9), wrapped("c", 3), wrapped("a", 1)];
    let stands = store.put_back(&put).await.unwrap();
    assert_eq!(
        stands,
        [wrapped("b", 2), wrapped("c", 3), wrapped("a", 1)],
        "the first to come wins, in the order asked"
    );
    assert_eq!(store.put_back(&put).await.unwrap(), stands, "doing it again changes nothing");
    assert_eq!(store.list(None, 9).await.unwrap(), [wrapped("a", 1), wrapped("b", 2), wrapped("c", 3)]);
    assert_eq!(store.put_back(&[]).await.unwrap(), []);
}

async fn destroyed_key_does_not_come_back_and_a_destruction_does(store: Tested) {
    store.create(&[(id("a"), key(1)), (id("b"), key(2))]).await.unwrap();
    let at = store.destroy(&id("a")).await.unwrap();
    let then = "2020-01-02T03:04:05.000006Z".parse().unwrap();
    let destroyed = |name: &str, at| StoredKey { subject: id(name), state: StoredKeyState::Destroyed(at) };
    let wrapped = |name: &str, number| StoredKey { subject: id(name), state: StoredKeyState::Wrapped(key(number)) };
    let stands = store.put_back(&[wrapped("a", 1), destroyed("b", then), destroyed("c", then)]).await.unwrap();
    assert_eq!(stands, [destroyed("a", at), destroyed("b", then), destroyed("c", then)]);
    let stands = store.put_back(&[destroyed("a", then), wrapped("b", 2), wrapped("c", 3)]).await.unwrap();
    assert_eq!(stands, [destroyed("a", at), destroyed("b", then), destroyed("c", then)], "each once, for ever");
    let made = store.create(&[(id("c"), key(4))]).await.unwrap();
    assert_eq!(made, [destroyed("c", then)]);
    assert_eq!(store.destroy(&id("b")).await.unwrap(), then);
}
