//! Replaying one stream, after the cases of Akka's journal TCK; and the round trip of what is stored.

use super::*;

listed!(
    replay_all,
    replay_from_a_lower_bound,
    replay_to_an_upper_bound,
    replay_between_both_bounds,
    replay_a_limited_number,
    replay_between_bounds_limited,
    replay_one_event_where_both_bounds_are_equal,
    replay_nothing_where_from_is_above_to,
    replay_nothing_beyond_the_last,
    replay_nothing_up_to_zero,
    replay_no_other_streams,
    replay_nothing_of_an_unknown_stream,
    replay_page_by_page,
    replay_backwards,
    replay_backwards_between_bounds_limited,
    highest_sequence_of_an_existing_stream,
    highest_sequence_of_a_new_stream_is_absent,
    highest_sequence_follows_appends,
    fields_come_back_as_they_were,
    payload_bytes_come_back_verbatim,
    bytes_that_are_no_text_come_back_verbatim,
    large_payload_comes_back,
    empty_payload_comes_back,
    unicode_ids_come_back,
    longest_ids_come_back,
    metadata_comes_back_verbatim,
);

async fn replay_all(store: Tested) {
    let (_, events) = seeded(&store, "a", 5).await;
    let stored = read(&store, "a", range(1, WHOLE, 100)).await;
    assert_eq!(stored.iter().map(|event| event.event.clone()).collect::<Vec<_>>(), events);
    assert_eq!(stored.iter().map(|event| event.position.0).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    assert_eq!(sequences(&store, "a", range(0, WHOLE, 100)).await, [1, 2, 3, 4, 5], "0 means the first");
}

async fn replay_from_a_lower_bound(store: Tested) {
    seeded(&store, "a", 5).await;
    assert_eq!(sequences(&store, "a", range(3, WHOLE, 100)).await, [3, 4, 5]);
}

async fn replay_to_an_upper_bound(store: Tested) {
    seeded(&store, "a", 5).await;
    assert_eq!(sequences(&store, "a", range(1, 3, 100)).await, [1, 2, 3]);
}

async fn replay_between_both_bounds(store: Tested) {
    seeded(&store, "a", 5).await;
    assert_eq!(sequences(&store, "a", range(2, 4, 100)).await, [2, 3, 4]);
}

async fn replay_a_limited_number(store: Tested) {
    seeded(&store, "a", 5).await;
    assert_eq!(sequences(&store, "a", range(1, WHOLE, 2)).await, [1, 2]);
    assert_eq!(sequences(&store, "a", range(1, WHOLE, u32::MAX)).await, [1, 2, 3, 4, 5]);
}

async fn replay_between_bounds_limited(store: Tested) {
    seeded(&store, "a", 5).await;
    assert_eq!(sequences(&store, "a", range(2, 5, 2)).await, [2, 3]);
}

async fn replay_one_event_where_both_bounds_are_equal(store: Tested) {
    seeded(&store, "a", 5).await;
    assert_eq!(sequences(&store, "a", range(3, 3, 100)).await, [3]);
}

async fn replay_nothing_where_from_is_above_to(store: Tested) {
    seeded(&store, "a", 5).await;
    assert!(sequences(&store, "a", range(4, 2, 100)).await.is_empty());
}

async fn replay_nothing_beyond_the_last(store: Tested) {
    seeded(&store, "a", 5).await;
    assert!(sequences(&store, "a", range(6, WHOLE, 100)).await.is_empty());
    assert!(sequences(&store, "a", range(WHOLE, WHOLE, 100)).await.is_empty());
}

async fn replay_nothing_up_to_zero(store: Tested) {
    seeded(&store, "a", 5).await;
    assert!(sequences(&store, "a", range(0, 0, 100)).await.is_empty());
}

async fn replay_no_other_streams(store: Tested) {
    seeded(&store, "a", 2).await;
    seeded(&store, "ab", 3).await;
    seeded(&store, "A", 1).await;
    let stored = read(&store, "a", range(1, WHOLE, 100)).await;
    assert_eq!(stored.len(), 2);
    assert!(stored.iter().all(|event| event.aggregate_id == id("a")));
    assert_eq!(sequences(&store, "A", range(1, WHOLE, 100)).await, [1], "ids compare bytewise");
}

async fn replay_nothing_of_an_unknown_stream(store: Tested) {
    assert!(sequences(&store, "a", range(1, WHOLE, 100)).await.is_empty());
}

async fn replay_page_by_page(store: Tested) {
    seeded(&store, "a", 10).await;
    let (mut all, mut from) = (Vec::new(), 1);
    loop {
        let page = sequences(&store, "a", range(from, WHOLE, 3)).await;
        let Some(last) = page.last() else { break };
        from = last + 1;
        all.extend(page);
    }
    assert_eq!(all, (1..=10).collect::<Vec<_>>());
}

async fn replay_backwards(store: Tested) {
    seeded(&store, "a", 4).await;
    let backwards = StreamRange { direction: Direction::Backward, ..range(0, WHOLE, 100) };
    assert_eq!(sequences(&store, "a", backwards).await, [4, 3, 2, 1]);
}

async fn replay_backwards_between_bounds_limited(store: Tested) {
    seeded(&store, "a", 6).await;
    let backwards = StreamRange { direction: Direction::Backward, ..range(2, 5, 3) };
    assert_eq!(sequences(&store, "a", backwards).await, [5, 4, 3]);
}

async fn highest_sequence_of_an_existing_stream(store: Tested) {
    let (stream, _) = seeded(&store, "a", 5).await;
    seeded(&store, "b", 2).await;
    let summary = store.stream(&id("a")).await.unwrap().unwrap();
    assert_eq!((summary.head, summary.position), (stream.head, Position(5)));
    assert_eq!((summary.aggregate_id, summary.aggregate_type), (id("a"), kind("test")));
    let last = read(&store, "a", range(5, 5, 1)).await.remove(0);
    assert_eq!(summary.recorded_at, last.recorded_at);
}

async fn highest_sequence_of_a_new_stream_is_absent(store: Tested) {
    seeded(&store, "b", 2).await;
    assert_eq!(store.stream(&id("a")).await.unwrap(), None);
}

async fn highest_sequence_follows_appends(store: Tested) {
    let mut stream = Stream::new("a");
    for expected in 1..=3 {
        commit(&store, stream.unit(1)).await;
        assert_eq!(store.stream(&id("a")).await.unwrap().unwrap().head.sequence, Sequence(expected));
    }
}

fn body(data: &[u8], metadata: &[u8]) -> EventBody {
    EventBody {
        event_id: EventId(Uuid::now_v7()),
        event_type: EventType::new("Happened").unwrap(),
        schema_version: 1,
        data: Bytes::copy_from_slice(data),
        metadata: Bytes::copy_from_slice(metadata),
    }
}

/// Stores one event and asserts that every way of reading gives it back as it was.
async fn assert_round_trip(store: &Tested, mut stream: Stream, body: EventBody) {
    let claim = stream.claim();
    let event = stream.with(body);
    let done = commit(store, unit(vec![claim], vec![event.clone()])).await;
    let expected = RecordedEvent::new(done.first_position, done.recorded_at, event);
    assert!(expected.is_intact());
    assert_eq!(
        read(store, stream.id.as_str(), range(expected.sequence.0, WHOLE, 1)).await,
        std::slice::from_ref(&expected)
    );
    assert_eq!(store.find_events(&[expected.event_id]).await.unwrap(), std::slice::from_ref(&expected));
    let before = Position(done.first_position.0 - 1);
    let page = store.read_all(before, &EventFilter::default(), at_most(1)).await.unwrap();
    assert_eq!(page.events, [expected]);
}

async fn fields_come_back_as_they_were(store: Tested) {
    let (stream, _) = seeded(&store, "a", 1).await;
    let unusual = EventBody {
        event_id: EventId(Uuid::max()),
        event_type: EventType::new("Odd.Type-1/ü").unwrap(),
        schema_version: u32::MAX,
        ..body(b"{}", b"{}")
    };
    assert_round_trip(&store, stream, unusual).await;
}

async fn payload_bytes_come_back_verbatim(store: Tested) {
    let texts: [&[u8]; 6] = [
        b" { \"b\" : 1 ,\n\t\"a\":2, \"a\":3 } ",
        b"{\"n\":123456789012345678901234567890.000e+10}",
        b"{\"zero\":\"\\u0000\",\"pair\":\"\\ud83d\\ude00\"}",
        "{\"text\":\"日本語 🦀 ü\"}".as_bytes(),
        b"{\"quote\":\"'; DROP TABLE events; --\"}",
        b"{\"n\":-0.0,\"m\":1E400}",
    ];
    for (number, text) in texts.into_iter().enumerate() {
        assert_round_trip(&store, Stream::new(&format!("s{number}")), body(text, b"{}")).await;
    }
}

async fn bytes_that_are_no_text_come_back_verbatim(store: Tested) {
    let all: Vec<u8> = (0..=255).collect();
    assert_round_trip(&store, Stream::new("a"), body(&all, &all)).await;
}

async fn large_payload_comes_back(store: Tested) {
    let large: Vec<u8> = (0..1_500_000_u32).map(|number| number.to_le_bytes()[0]).collect();
    assert_round_trip(&store, Stream::new("a"), body(&large, b"{}")).await;
}

async fn empty_payload_comes_back(store: Tested) {
    assert_round_trip(&store, Stream::new("a"), body(b"", b"")).await;
}

async fn unicode_ids_come_back(store: Tested) {
    for (name, kind_name) in [("日本/ü", "типы"), ("a b'\"\\", "%_"), ("e\u{301}", "\u{e9}"), ("\u{e9}", "x")] {
        assert_round_trip(&store, Stream::of(name, kind_name), body(b"{}", b"{}")).await;
    }
}

async fn longest_ids_come_back(store: Tested) {
    let longest = "x".repeat(crate::id::ID_BYTES_MAX);
    assert_round_trip(&store, Stream::of(&longest, &longest), body(b"{}", b"{}")).await;
}

async fn metadata_comes_back_verbatim(store: Tested) {
    let metadata = br#"{"correlation_id":"x" , "command_id":"00000000-0000-0000-0000-000000000001","more":[1, 2]}"#;
    assert_round_trip(&store, Stream::new("a"), body(b"{}", metadata)).await;
}
