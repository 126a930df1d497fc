//! Recognising commands: by event ids, by keys, before heads; and forgetting keys.

use chrono::{DateTime, Duration};

use super::*;

listed!(
    same_batch_again_is_known,
    command_is_known_by_its_first_event_id,
    command_with_chosen_ids_is_known_by_any_of_them,
    known_comes_before_stale,
    known_is_told_per_command,
    known_member_leaves_the_others_alone,
    event_id_of_another_stream_is_known,
    duplicate_event_id_without_a_probe_is_refused_and_nothing_is_lost,
    event_id_used_twice_in_one_batch_is_refused_in_the_second,
    key_is_recorded_with_its_events,
    key_is_known_with_another_fingerprint_too,
    key_of_another_principal_is_another_key,
    key_of_an_unknown_name_is_absent,
    zero_event_unit_records_its_key,
    zero_event_unit_with_a_known_key_is_known,
    zero_event_unit_with_a_stale_head_records_no_key,
    stale_unit_records_no_key,
    keys_of_several_commands_are_told_apart,
    unicode_keys_are_kept,
    sweeping_forgets_old_keys_only,
    sweeping_is_bounded,
    swept_key_can_be_used_again,
);

fn keyed(mut unit: AppendUnit, command: usize, name: &str) -> AppendUnit {
    unit.commands[command].key = Some(key(name));
    unit
}

async fn same_batch_again_is_known(store: Tested) {
    let (mut a, mut b) = (Stream::new("a"), Stream::new("b"));
    let units = vec![a.unit(2), b.unit(1)];
    append(&store, units.clone()).await;
    let again = append(&store, units).await;
    assert_known(&again[0], &[0, 1]);
    assert_known(&again[1], &[0]);
    assert_lawful(&store, 3).await;
}

async fn command_is_known_by_its_first_event_id(store: Tested) {
    let mut stream = Stream::new("a");
    let claim = stream.claim();
    let events = vec![stream.event("1"), stream.event("2")];
    let command = CommandProbe { event_ids: vec![events[0].event_id], key: None, record: None };
    let unit = AppendUnit { streams: vec![claim], commands: vec![command], events };
    commit(&store, unit.clone()).await;
    assert_known(&append_one(&store, unit).await, &[0]);
    assert_lawful(&store, 2).await;
}

async fn command_with_chosen_ids_is_known_by_any_of_them(store: Tested) {
    let (mut stream, events) = seeded(&store, "a", 2).await;
    let mut unit = stream.unit(2);
    unit.events[1].event_id = EventId(Uuid::from_u128(5));
    unit.commands =
        vec![CommandProbe { event_ids: vec![unit.events[0].event_id, events[1].event_id], key: None, record: None }];
    assert_known(&append_one(&store, unit).await, &[0]);
    assert_lawful(&store, 2).await;
}

async fn known_comes_before_stale(store: Tested) {
    let mut stream = Stream::new("a");
    let unit = stream.unit(1);
    commit(&store, unit.clone()).await;
    commit(&store, stream.unit(1)).await;
    assert_known(&append_one(&store, unit).await, &[0]);
}

async fn known_is_told_per_command(store: Tested) {
    let (mut stream, events) = seeded(&store, "a", 1).await;
    let mut unit = stream.unit(3);
    unit.commands[1].event_ids = vec![events[0].event_id];
    assert_known(&append_one(&store, unit).await, &[1]);
    assert_lawful(&store, 1).await;
}

async fn known_member_leaves_the_others_alone(store: Tested) {
    let mut known = Stream::new("a");
    let again = known.unit(1);
    commit(&store, again.clone()).await;
    let (mut b, mut c) = (Stream::new("b"), Stream::new("c"));
    let outcomes = append(&store, vec![b.unit(1), again, c.unit(1)]).await;
    assert_eq!(committed(&outcomes[0]).first_position, Position(2));
    assert_known(&outcomes[1], &[0]);
    assert_eq!(committed(&outcomes[2]).first_position, Position(3));
    assert_lawful(&store, 3).await;
}

async fn event_id_of_another_stream_is_known(store: Tested) {
    let (_, events) = seeded(&store, "a", 1).await;
    let mut unit = Stream::new("b").unit(1);
    unit.commands[0].event_ids = vec![events[0].event_id];
    assert_known(&append_one(&store, unit).await, &[0]);
    assert_lawful(&store, 1).await;
}

async fn duplicate_event_id_without_a_probe_is_refused_and_nothing_is_lost(store: Tested) {
    let (_, events) = seeded(&store, "a", 1).await;
    let (mut b, mut c) = (Stream::new("b"), Stream::new("c"));
    let (good, mut guilty) = (b.unit(1), c.unit(1));
    guilty.events[0].event_id = events[0].event_id;
    guilty.commands.clear();
    let result = store.append(AppendBatch { units: vec![good.clone(), guilty] }).await;
    assert_refused(&result);
    if result.is_err() {
        commit(&store, good).await;
    }
    assert_eq!(sequences(&store, "b", range(0, WHOLE, 9)).await, [1]);
    assert!(store.stream(&id("c")).await.unwrap().is_none());
    assert_eq!(store.head().await.unwrap(), Position(2));
    commit(&store, Stream::new("d").unit(1)).await;
}

async fn event_id_used_twice_in_one_batch_is_refused_in_the_second(store: Tested) {
    let (mut a, mut b) = (Stream::new("a"), Stream::new("b"));
    let (first, mut second) = (a.unit(1), b.unit(1));
    second.events[0].event_id = first.events[0].event_id;
    let result = store.append(AppendBatch { units: vec![first, second] }).await;
    assert_refused(&result);
    assert!(store.stream(&id("b")).await.unwrap().is_none());
}

async fn key_is_recorded_with_its_events(store: Tested) {
    commit(&store, keyed(Stream::new("a").unit(1), 0, "k")).await;
    assert_eq!(store.find_key("alice", "k").await.unwrap(), Some(key("k")));
}

async fn key_is_known_with_another_fingerprint_too(store: Tested) {
    commit(&store, keyed(Stream::new("a").unit(1), 0, "k")).await;
    let mut unit = keyed(Stream::new("b").unit(1), 0, "k");
    unit.commands[0].key.as_mut().unwrap().fingerprint = [9; 32];
    assert_known(&append_one(&store, unit).await, &[0]);
    assert_eq!(store.find_key("alice", "k").await.unwrap(), Some(key("k")), "the first one stays");
    assert_lawful(&store, 1).await;
}

async fn key_of_another_principal_is_another_key(store: Tested) {
    commit(&store, keyed(Stream::new("a").unit(1), 0, "k")).await;
    let mut unit = keyed(Stream::new("b").unit(1), 0, "k");
    unit.commands[0].key.as_mut().unwrap().principal = "bob".into();
    commit(&store, unit).await;
    assert_eq!(store.find_key("bob", "k").await.unwrap().unwrap().principal, "bob".into());
    assert_lawful(&store, 2).await;
}

async fn key_of_an_unknown_name_is_absent(store: Tested) {
    assert_eq!(store.find_key("alice", "k").await.unwrap(), None);
}

async fn zero_event_unit_records_its_key(store: Tested) {
    let (stream, _) = seeded(&store, "a", 1).await;
    commit(&store, keyed(stream.confirmation(), 0, "k")).await;
    assert_eq!(store.find_key("alice", "k").await.unwrap(), Some(key("k")));
    assert_lawful(&store, 1).await;
}

async fn zero_event_unit_with_a_known_key_is_known(store: Tested) {
    let (stream, _) = seeded(&store, "a", 1).await;
    let unit = keyed(stream.confirmation(), 0, "k");
    commit(&store, unit.clone()).await;
    assert_known(&append_one(&store, unit).await, &[0]);
}

async fn zero_event_unit_with_a_stale_head_records_no_key(store: Tested) {
    seeded(&store, "a", 1).await;
    assert_stale(&append_one(&store, keyed(Stream::new("a").confirmation(), 0, "k")).await);
    assert_eq!(store.find_key("alice", "k").await.unwrap(), None);
}

async fn stale_unit_records_no_key(store: Tested) {
    seeded(&store, "a", 1).await;
    let (behind, mut other) = (keyed(Stream::new("a").unit(1), 0, "k"), Stream::new("b"));
    let outcomes = append(&store, vec![behind, keyed(other.unit(1), 0, "l")]).await;
    assert_stale(&outcomes[0]);
    committed(&outcomes[1]);
    assert_eq!(store.find_key("alice", "k").await.unwrap(), None);
    assert!(store.find_key("alice", "l").await.unwrap().is_some());
}

async fn keys_of_several_commands_are_told_apart(store: Tested) {
    let mut stream = Stream::new("a");
    commit(&store, keyed(stream.unit(1), 0, "second")).await;
    let mut unit = keyed(stream.unit(3), 1, "second");
    unit.commands[2].key = Some(key("third"));
    assert_known(&append_one(&store, unit).await, &[1]);
    assert_eq!(store.find_key("alice", "third").await.unwrap(), None);
}

async fn unicode_keys_are_kept(store: Tested) {
    let name = "ключ-🔑 '\"\\ %_";
    commit(&store, keyed(Stream::new("a").unit(1), 0, name)).await;
    assert_eq!(store.find_key("alice", name).await.unwrap(), Some(key(name)));
    assert_known(&append_one(&store, keyed(Stream::new("b").unit(1), 0, name)).await, &[0]);
}

async fn sweeping_forgets_old_keys_only(store: Tested) {
    let done = commit(&store, keyed(Stream::new("a").unit(1), 0, "k")).await;
    assert_eq!(store.sweep_keys(DateTime::UNIX_EPOCH, at_most(10)).await.unwrap(), 0);
    assert_eq!(store.sweep_keys(done.recorded_at, at_most(10)).await.unwrap(), 0, "recorded before, not at");
    assert!(store.find_key("alice", "k").await.unwrap().is_some());
    let later = done.recorded_at + Duration::microseconds(1);
    assert_eq!(store.sweep_keys(later, at_most(10)).await.unwrap(), 1);
    assert_eq!(store.find_key("alice", "k").await.unwrap(), None);
    assert_lawful(&store, 1).await;
}

async fn sweeping_is_bounded(store: Tested) {
    let mut stream = Stream::new("a");
    let mut unit = stream.unit(5);
    for (number, command) in unit.commands.iter_mut().enumerate() {
        command.key = Some(key(&number.to_string()));
    }
    let later = commit(&store, unit).await.recorded_at + Duration::seconds(1);
    assert_eq!(store.sweep_keys(later, at_most(3)).await.unwrap(), 3);
    assert_eq!(store.sweep_keys(later, at_most(3)).await.unwrap(), 2);
}

async fn swept_key_can_be_used_again(store: Tested) {
    let done = commit(&store, keyed(Stream::new("a").unit(1), 0, "k")).await;
    store.sweep_keys(done.recorded_at + Duration::seconds(1), at_most(10)).await.unwrap();
    commit(&store, keyed(Stream::new("b").unit(1), 0, "k")).await;
    assert!(store.find_key("alice", "k").await.unwrap().is_some());
}
