//! Snapshots, after the cases of Akka's snapshot store TCK.

use super::*;
use crate::{
    digest::ChainDigest,
    envelope::Snapshot,
    ports::{StoredSnapshot, superfluous},
};

listed!(
    no_snapshot_of_an_unknown_stream,
    no_snapshot_below_the_oldest,
    newest_snapshot_is_loaded,
    newest_snapshot_at_or_below_a_sequence_is_loaded,
    snapshot_of_another_stream_is_not_loaded,
    snapshot_at_the_same_sequence_is_replaced,
    snapshot_comes_back_as_it_was,
    large_snapshot_comes_back,
    discarded_snapshots_are_gone,
    discarding_keeps_older_ones_and_other_streams,
    discarding_nothing_is_no_error,
    snapshots_thin_out_with_age,
    an_older_snapshot_pushes_out_no_newer_one,
    removing_one_keeps_the_others,
    snapshots_do_not_depend_on_events,
);

fn snapshot(name: &str, sequence: u64) -> Snapshot {
    let byte = u8::try_from(sequence % 251).unwrap();
    Snapshot {
        aggregate_id: id(name),
        aggregate_type: kind("test"),
        head: StreamHead { sequence: Sequence(sequence), chain: ChainDigest([byte; 32]) },
        state_version: 3,
        state: format!(r#"{{"sequence":{sequence}}}"#).into(),
    }
}

async fn save(store: &Tested, sequences: &[u64]) {
    for sequence in sequences {
        store.save(snapshot("a", *sequence)).await.unwrap();
    }
}

async fn latest(store: &Tested, name: &str, at_most: u64) -> Option<u64> {
    store.latest(&id(name), Sequence(at_most)).await.unwrap().map(|found| found.sequence().0)
}

async fn readable(store: &Tested, name: &str, at_most: u64) -> Option<Snapshot> {
    store.latest(&id(name), Sequence(at_most)).await.unwrap().and_then(StoredSnapshot::readable)
}

async fn no_snapshot_of_an_unknown_stream(store: Tested) {
    assert_eq!(latest(&store, "a", WHOLE).await, None);
}

async fn no_snapshot_below_the_oldest(store: Tested) {
    save(&store, &[10, 20]).await;
    assert_eq!(latest(&store, "a", 9).await, None);
    assert_eq!(latest(&store, "a", 0).await, None);
}

async fn newest_snapshot_is_loaded(store: Tested) {
    save(&store, &[10, 20, 30]).await;
    assert_eq!(latest(&store, "a", WHOLE).await, Some(30));
}

async fn newest_snapshot_at_or_below_a_sequence_is_loaded(store: Tested) {
    save(&store, &[10, 20, 30]).await;
    assert_eq!(latest(&store, "a", 20).await, Some(20));
    assert_eq!(latest(&store, "a", 29).await, Some(20));
    assert_eq!(latest(&store, "a", 19).await, Some(10));
}

async fn snapshot_of_another_stream_is_not_loaded(store: Tested) {
    save(&store, &[10]).await;
    assert_eq!(latest(&store, "b", WHOLE).await, None);
    assert_eq!(latest(&store, "A", WHOLE).await, None);
}

async fn snapshot_at_the_same_sequence_is_replaced(store: Tested) {
    save(&store, &[10]).await;
    let other = Snapshot { state: "{}".into(), state_version: 4, ..snapshot("a", 10) };
    store.save(other.clone()).await.unwrap();
    assert_eq!(readable(&store, "a", 10).await, Some(other));
}

async fn snapshot_comes_back_as_it_was(store: Tested) {
    let odd = Snapshot {
        aggregate_id: id("日本/ü"),
        aggregate_type: kind("типы"),
        state_version: u16::MAX,
        state: Bytes::from((0..=255).collect::<Vec<u8>>()),
        ..snapshot("a", 7)
    };
    store.save(odd.clone()).await.unwrap();
    assert_eq!(readable(&store, odd.aggregate_id.as_str(), 7).await, Some(odd));
}

async fn large_snapshot_comes_back(store: Tested) {
    let large = Snapshot { state: vec![b'x'; 2_000_000].into(), ..snapshot("a", 7) };
    store.save(large.clone()).await.unwrap();
    assert_eq!(readable(&store, "a", 7).await, Some(large));
}

async fn discarded_snapshots_are_gone(store: Tested) {
    save(&store, &[10, 20, 30]).await;
    store.discard(&id("a"), Sequence(20)).await.unwrap();
    assert_eq!(latest(&store, "a", WHOLE).await, Some(10));
    store.discard(&id("a"), Sequence(0)).await.unwrap();
    assert_eq!(latest(&store, "a", WHOLE).await, None);
}

async fn discarding_keeps_older_ones_and_other_streams(store: Tested) {
    save(&store, &[10, 20]).await;
    store.save(snapshot("b", 20)).await.unwrap();
    store.discard(&id("a"), Sequence(11)).await.unwrap();
    assert_eq!(latest(&store, "a", WHOLE).await, Some(10));
    assert_eq!(latest(&store, "b", WHOLE).await, Some(20));
}

async fn discarding_nothing_is_no_error(store: Tested) {
    store.discard(&id("a"), Sequence(1)).await.unwrap();
}

/// The sequences of a stream's snapshots, oldest first.
async fn kept(store: &Tested, name: &str) -> Vec<Sequence> {
    let (mut kept, mut at_most) = (Vec::new(), WHOLE);
    while let Some(found) = latest(store, name, at_most).await {
        kept.insert(0, Sequence(found));
        at_most = found - 1;
    }
    kept
}

async fn snapshots_thin_out_with_age(store: Tested) {
    let mut expected: Vec<Sequence> = Vec::new();
    for number in 1..=80 {
        save(&store, &[number * 100]).await;
        expected.push(Sequence(number * 100));
        let gone = superfluous(&expected);
        expected.retain(|sequence| !gone.contains(sequence));
    }
    assert_eq!(kept(&store, "a").await, expected);
    assert!(expected.len() < 40 && expected.contains(&Sequence(8_000)), "{expected:?}");
    store.save(snapshot("b", 100)).await.unwrap();
    assert_eq!(kept(&store, "b").await, [Sequence(100)], "each stream by itself");
}

async fn an_older_snapshot_pushes_out_no_newer_one(store: Tested) {
    save(&store, &[10, 20, 30, 5]).await;
    assert_eq!(kept(&store, "a").await, [5, 10, 20, 30].map(Sequence));
}

async fn removing_one_keeps_the_others(store: Tested) {
    save(&store, &[10, 20, 30]).await;
    store.save(snapshot("b", 20)).await.unwrap();
    store.remove(&id("a"), Sequence(20)).await.unwrap();
    store.remove(&id("a"), Sequence(21)).await.unwrap();
    assert_eq!(kept(&store, "a").await, [Sequence(10), Sequence(30)]);
    assert_eq!(kept(&store, "b").await, [Sequence(20)]);
}

async fn snapshots_do_not_depend_on_events(store: Tested) {
    save(&store, &[10]).await;
    assert_eq!(store.head().await.unwrap(), Position(0));
    seeded(&store, "a", 2).await;
    assert_eq!(latest(&store, "a", WHOLE).await, Some(10));
}
