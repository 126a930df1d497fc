//! Reading across streams: the log with its filters and cursor, lists of streams, events by id.

use chrono::{DateTime, Duration, Utc};

use super::*;

listed!(
    empty_log_has_no_events,
    log_is_read_in_order_of_position,
    log_is_read_after_a_position,
    log_page_is_limited,
    log_beyond_the_end_is_empty,
    filter_by_event_type,
    filter_by_aggregate_type,
    filter_by_correlation_id,
    filter_by_time,
    filter_by_extreme_times,
    filters_combine,
    cursor_advances_over_what_a_filter_passes_over,
    cursor_of_a_full_page_is_its_last_event,
    selective_filter_is_bounded_and_finds_everything,
    follower_sees_every_event_once,
    streams_are_listed_in_order_of_id,
    streams_are_listed_page_by_page,
    streams_are_listed_by_type,
    stream_has_the_type_of_its_first_event,
    events_are_found_by_id_in_order_of_position,
    events_of_unknown_ids_are_left_out,
    head_follows_appends,
);

async fn log(store: &Tested, filter: &EventFilter) -> Vec<u64> {
    whole_log(store, filter, 2).await.iter().map(|event| event.position.0).collect()
}

async fn empty_log_has_no_events(store: Tested) {
    let page = store.read_all(Position(0), &EventFilter::default(), at_most(10)).await.unwrap();
    assert!(page.events.is_empty());
    assert_eq!(page.examined, Position(0));
    assert_eq!(store.head().await.unwrap(), Position(0));
}

async fn log_is_read_in_order_of_position(store: Tested) {
    let (mut a, mut b) = (Stream::new("a"), Stream::new("b"));
    let mut expected = Vec::new();
    for _ in 0..3 {
        for stream in [&mut a, &mut b] {
            let unit = stream.unit(2);
            expected.extend(unit.events.clone());
            commit(&store, unit).await;
        }
    }
    let log = whole_log(&store, &EventFilter::default(), 5).await;
    assert_eq!(log.into_iter().map(|event| event.event).collect::<Vec<_>>(), expected);
}

async fn log_is_read_after_a_position(store: Tested) {
    seeded(&store, "a", 5).await;
    let page = store.read_all(Position(3), &EventFilter::default(), at_most(10)).await.unwrap();
    assert_eq!(page.events.iter().map(|event| event.position.0).collect::<Vec<_>>(), [4, 5]);
    assert_eq!(page.examined, Position(5));
}

async fn log_page_is_limited(store: Tested) {
    seeded(&store, "a", 5).await;
    let page = store.read_all(Position(0), &EventFilter::default(), at_most(2)).await.unwrap();
    assert_eq!(page.events.len(), 2);
    assert_eq!(page.examined, Position(2));
}

async fn log_beyond_the_end_is_empty(store: Tested) {
    seeded(&store, "a", 5).await;
    for after in [5, 6, 1_000_000] {
        let page = store.read_all(Position(after), &EventFilter::default(), at_most(10)).await.unwrap();
        assert!(page.events.is_empty());
        assert_eq!(page.examined, Position(after), "the cursor never goes back");
    }
}

async fn typed_log(store: &Tested) {
    for (name, kind_name, event_type) in
        [("a", "account", "Opened"), ("b", "order", "Placed"), ("c", "account", "Opened"), ("d", "user", "Joined")]
    {
        let mut stream = Stream::of(name, kind_name);
        let claim = stream.claim();
        let events = vec![stream.typed(event_type, "{}"), stream.typed("Changed", "{}")];
        commit(store, unit(vec![claim], events)).await;
    }
}

async fn filter_by_event_type(store: Tested) {
    typed_log(&store).await;
    let types = |names: &[&str]| EventFilter {
        event_types: names.iter().map(|name| EventType::new(name).unwrap()).collect(),
        ..EventFilter::default()
    };
    assert_eq!(log(&store, &types(&["Opened"])).await, [1, 5]);
    assert_eq!(log(&store, &types(&["Opened", "Joined"])).await, [1, 5, 7]);
    assert!(log(&store, &types(&["opened"])).await.is_empty());
}

async fn filter_by_aggregate_type(store: Tested) {
    typed_log(&store).await;
    let filter = EventFilter { aggregate_types: vec![kind("order"), kind("user")], ..EventFilter::default() };
    assert_eq!(log(&store, &filter).await, [3, 4, 7, 8]);
}

async fn filter_by_correlation_id(store: Tested) {
    let mut stream = Stream::new("a");
    let claim = stream.claim();
    let metadata = |text: &str| EventBody {
        event_id: EventId(Uuid::now_v7()),
        event_type: EventType::new("E").unwrap(),
        schema_version: 1,
        data: Bytes::from_static(b"{}"),
        metadata: format!(r#"{{"command_id":"{}","correlation_id":{text}}}"#, Uuid::nil()).into(),
    };
    let texts = [r#""one""#, r#""two""#, r#""\u006fne""#, "7", r#""one""#];
    let events = texts.into_iter().map(|text| stream.with(metadata(text))).collect();
    commit(&store, unit(vec![claim], events)).await;
    let filter = EventFilter { correlation_id: Some("one".into()), ..EventFilter::default() };
    assert_eq!(log(&store, &filter).await, [1, 3, 5]);
}

async fn filter_by_time(store: Tested) {
    let mut instants = Vec::new();
    let mut stream = Stream::new("a");
    while instants.len() < 3 {
        let done = commit(&store, stream.unit(1)).await;
        if instants.last() != Some(&done.recorded_at) {
            instants.push(done.recorded_at);
        }
    }
    let all = whole_log(&store, &EventFilter::default(), 100).await;
    let (from, to) = (instants[1], instants[1]);
    for filter in [
        EventFilter { from_time: Some(from), ..EventFilter::default() },
        EventFilter { to_time: Some(to), ..EventFilter::default() },
        EventFilter { from_time: Some(from), to_time: Some(to), ..EventFilter::default() },
        EventFilter { from_time: Some(from + Duration::nanoseconds(1)), ..EventFilter::default() },
        EventFilter { to_time: Some(to - Duration::nanoseconds(1)), ..EventFilter::default() },
    ] {
        let expected: Vec<_> = all.iter().filter(|event| filter.matches(event)).cloned().collect();
        assert_eq!(whole_log(&store, &filter, 2).await, expected, "{filter:?}");
    }
}

async fn filter_by_extreme_times(store: Tested) {
    seeded(&store, "a", 2).await;
    let (least, most) = (DateTime::<Utc>::MIN_UTC, DateTime::<Utc>::MAX_UTC);
    let between = |from, to| EventFilter { from_time: Some(from), to_time: Some(to), ..EventFilter::default() };
    assert_eq!(log(&store, &between(least, most)).await, [1, 2]);
    assert!(log(&store, &between(most, least)).await.is_empty());
    assert!(log(&store, &between(least, least)).await.is_empty());
}

async fn filters_combine(store: Tested) {
    typed_log(&store).await;
    let filter = EventFilter {
        aggregate_types: vec![kind("account")],
        event_types: vec![EventType::new("Changed").unwrap()],
        correlation_id: Some("c".into()),
        from_time: Some(DateTime::UNIX_EPOCH),
        ..EventFilter::default()
    };
    assert_eq!(log(&store, &filter).await, [2, 6]);
}

async fn cursor_advances_over_what_a_filter_passes_over(store: Tested) {
    seeded(&store, "a", 5).await;
    let nothing = EventFilter { aggregate_types: vec![kind("other")], ..EventFilter::default() };
    let page = store.read_all(Position(1), &nothing, at_most(1)).await.unwrap();
    assert!(page.events.is_empty());
    assert_eq!(page.examined, Position(5));
    let correlated = EventFilter { correlation_id: Some("nobody".into()), ..EventFilter::default() };
    let page = store.read_all(Position(1), &correlated, at_most(1)).await.unwrap();
    assert!(page.events.is_empty());
    assert_eq!(page.examined, Position(5));
}

async fn cursor_of_a_full_page_is_its_last_event(store: Tested) {
    typed_log(&store).await;
    let filter = EventFilter { aggregate_types: vec![kind("account")], ..EventFilter::default() };
    let page = store.read_all(Position(0), &filter, at_most(3)).await.unwrap();
    assert_eq!(page.events.last().unwrap().position, page.examined);
    assert_eq!(page.examined, Position(5));
}

async fn selective_filter_is_bounded_and_finds_everything(store: Tested) {
    let mut stream = Stream::new("many");
    for _ in 0..11 {
        commit(&store, stream.unit(1_000)).await;
    }
    let mut rare = Stream::of("rare", "rare");
    commit(&store, rare.unit(1)).await;
    let filter = EventFilter { aggregate_types: vec![kind("rare")], ..EventFilter::default() };
    let first = store.read_all(Position(0), &filter, at_most(10)).await.unwrap();
    assert!(first.events.is_empty() && first.examined > Position(0), "one call examines a bounded number");
    assert!(first.examined < Position(11_001));
    assert_eq!(log(&store, &filter).await, [11_001]);
}

async fn follower_sees_every_event_once(store: Tested) {
    let writers = (0..4).map(|writer| {
        let store = store.clone();
        tokio::spawn(async move {
            let mut stream = Stream::new(&format!("writer-{writer}"));
            for _ in 0..20 {
                commit(&store, stream.unit(1)).await;
            }
        })
    });
    let writers: Vec<_> = writers.collect();
    let (mut seen, mut after) = (Vec::new(), Position::ZERO);
    while seen.len() < 80 {
        let page = store.read_all(after, &EventFilter::default(), at_most(7)).await.unwrap();
        seen.extend(page.events.iter().map(|event| event.position.0));
        after = page.examined;
        tokio::task::yield_now().await;
    }
    for writer in writers {
        writer.await.unwrap();
    }
    assert_eq!(seen, (1..=80).collect::<Vec<_>>());
}

async fn listed(store: &Tested, kind_name: Option<&str>, after: Option<&str>, limit: u32) -> Vec<String> {
    let (kind, after) = (kind_name.map(kind), after.map(id));
    let streams = store.list_streams(kind.as_ref(), after.as_ref(), at_most(limit)).await.unwrap();
    streams.iter().map(|stream| stream.aggregate_id.to_string()).collect()
}

async fn streams_are_listed_in_order_of_id(store: Tested) {
    assert!(listed(&store, None, None, 10).await.is_empty());
    for name in ["b", "B", "ä", "a", "a-1", "aa", "_"] {
        seeded(&store, name, 1).await;
    }
    assert_eq!(listed(&store, None, None, 10).await, ["B", "_", "a", "a-1", "aa", "b", "ä"], "bytewise");
}

async fn streams_are_listed_page_by_page(store: Tested) {
    for number in 0..7 {
        seeded(&store, &format!("s{number}"), number + 1).await;
    }
    assert_eq!(listed(&store, None, None, 3).await, ["s0", "s1", "s2"]);
    assert_eq!(listed(&store, None, Some("s2"), 3).await, ["s3", "s4", "s5"]);
    assert_eq!(listed(&store, None, Some("s5"), 3).await, ["s6"]);
    assert!(listed(&store, None, Some("s6"), 3).await.is_empty());
    let all = store.list_streams(None, None, at_most(10)).await.unwrap();
    let asked: Vec<_> = ["s5", "nobody", "s0", "s5"].map(id).to_vec();
    let expected = [Some(all[5].clone()), None, Some(all[0].clone()), Some(all[5].clone())];
    assert_eq!(store.find_streams(&asked).await.unwrap(), expected, "in the order asked");
    assert_eq!(store.find_streams(&[]).await.unwrap(), []);
    for summary in all {
        assert_eq!(store.stream(&summary.aggregate_id).await.unwrap(), Some(summary));
    }
}

async fn streams_are_listed_by_type(store: Tested) {
    typed_log(&store).await;
    assert_eq!(listed(&store, Some("account"), None, 10).await, ["a", "c"]);
    assert_eq!(listed(&store, Some("account"), Some("a"), 10).await, ["c"]);
    assert_eq!(listed(&store, Some("account"), None, 1).await, ["a"]);
    assert!(listed(&store, Some("nothing"), None, 10).await.is_empty());
}

async fn stream_has_the_type_of_its_first_event(store: Tested) {
    let mut stream = Stream::of("a", "first");
    commit(&store, stream.unit(1)).await;
    stream.kind = kind("second");
    commit(&store, stream.unit(1)).await;
    let summary = store.stream(&id("a")).await.unwrap().unwrap();
    assert_eq!((summary.aggregate_type, summary.head.sequence), (kind("first"), Sequence(2)));
    assert_eq!(listed(&store, Some("first"), None, 10).await, ["a"]);
    assert!(listed(&store, Some("second"), None, 10).await.is_empty());
}

async fn events_are_found_by_id_in_order_of_position(store: Tested) {
    let (_, events) = seeded(&store, "a", 5).await;
    let ids = [4, 0, 2, 0].map(|index: usize| events[index].event_id);
    let found = store.find_events(&ids).await.unwrap();
    assert_eq!(found.iter().map(|event| event.position.0).collect::<Vec<_>>(), [1, 3, 5]);
}

async fn events_of_unknown_ids_are_left_out(store: Tested) {
    let (_, events) = seeded(&store, "a", 1).await;
    let unknown = EventId(Uuid::now_v7());
    assert!(store.find_events(&[unknown]).await.unwrap().is_empty());
    assert!(store.find_events(&[]).await.unwrap().is_empty());
    assert_eq!(store.find_events(&[unknown, events[0].event_id]).await.unwrap().len(), 1);
}

async fn head_follows_appends(store: Tested) {
    let mut stream = Stream::new("a");
    for expected in [2, 4, 6] {
        commit(&store, stream.unit(2)).await;
        assert_eq!(store.head().await.unwrap(), Position(expected));
    }
}
