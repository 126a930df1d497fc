//! Following the log: one look for all followers, wake-ups of other processes, and what goes wrong with them.

use std::{sync::Arc, time::Duration};

use event_sourcing_actors::{
    Limits, Position, RecordedEvent, Runtime, RuntimeBuilder, Sequence,
    envelope::EventFilter,
    memory::MemoryStore,
    ports::{EventStore, StoreError, SystemClock, Wakeup, Wakeups},
    testing::faults::FaultStore,
};
use futures_util::{
    StreamExt,
    stream::{self, BoxStream},
};
use tokio::{
    sync::{Mutex, mpsc},
    time::timeout,
};

use crate::support::{Purse, Put, id, runtime, store};

const LONG: Duration = Duration::from_secs(3_600);
const SOON: Duration = Duration::from_secs(5);

/// Wake-ups that the test sends.
#[derive(Debug)]
struct Told(Arc<Mutex<mpsc::Receiver<Wakeup>>>);

impl Wakeups for Told {
    fn listen(&self) -> BoxStream<'static, Wakeup> {
        let told = self.0.clone();
        stream::unfold(told, |told| async move {
            let next = told.lock().await.recv().await;
            match next {
                Some(wakeup) => Some((wakeup, told)),
                None => std::future::pending().await,
            }
        })
        .boxed()
    }
}

/// A runtime that looks at the store once an hour, and what wakes it.
async fn told(store: Arc<dyn EventStore>) -> (Runtime, mpsc::Sender<Wakeup>) {
    let (tell, heard) = mpsc::channel(8);
    let snapshots = Arc::new(MemoryStore::new(Arc::new(SystemClock)));
    let builder = RuntimeBuilder::new(store, snapshots).aggregate::<Purse>().unwrap();
    let limits = Limits { feed_poll: LONG, ..Limits::default() };
    (builder.limits(limits).wakeups(Arc::new(Told(Arc::new(Mutex::new(heard))))).start().await.unwrap(), tell)
}

type Next = Option<Result<RecordedEvent, StoreError>>;

fn position(next: Next) -> u64 {
    next.expect("an event").expect("no error").position.0
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wake_up_brings_the_events_of_another_process() {
    let store = store();
    let (reader, tell) = told(store.clone()).await;
    let writer = runtime(&store, Limits::default()).await;
    let mut log = Box::pin(reader.feed().follow(Position::ZERO, EventFilter::default()));
    let mut own = Box::pin(reader.feed().follow_stream(id("p"), Sequence(1), Position::ZERO));
    for amount in 1..=3 {
        let done = writer.execute::<Purse>("p", Put { amount }).await.unwrap();
        tell.send(Wakeup::Log(done.position)).await.unwrap();
        assert_eq!(position(timeout(SOON, log.next()).await.unwrap()), done.position.0);
        assert_eq!(position(timeout(SOON, own.next()).await.unwrap()), done.position.0);
    }
    writer.execute::<Purse>("p", Put { amount: 1 }).await.unwrap();
    tell.send(Wakeup::Resync).await.unwrap();
    assert_eq!(position(timeout(SOON, log.next()).await.unwrap()), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn views_that_move_elsewhere_wake_who_waits_for_them() {
    let (reader, tell) = told(store()).await;
    let mut views = reader.feed().publisher().subscribe_views();
    tell.send(Wakeup::Views).await.unwrap();
    timeout(SOON, views.changed()).await.unwrap().unwrap();
    tell.send(Wakeup::Resync).await.unwrap();
    timeout(SOON, views.changed()).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wake_up_that_lies_deafens_nobody() {
    let store = store();
    let (reader, tell) = told(store.clone()).await;
    let writer = runtime(&store, Limits::default()).await;
    writer.execute::<Purse>("p", Put { amount: 1 }).await.unwrap();
    let mut log = Box::pin(reader.feed().follow(Position::ZERO, EventFilter::default()));
    let mut own = Box::pin(reader.feed().follow_stream(id("p"), Sequence(1), Position::ZERO));
    position(log.next().await);
    position(own.next().await);
    tell.send(Wakeup::Log(Position(u64::MAX >> 1))).await.unwrap();
    assert!(timeout(Duration::from_millis(50), log.next()).await.is_err());
    assert!(timeout(Duration::from_millis(50), own.next()).await.is_err());
    // The next look at the store puts it right.
    tell.send(Wakeup::Resync).await.unwrap();
    let known = reader.feed().publisher().clone();
    timeout(SOON, known.subscribe().wait_for(|head| *head == Position(1))).await.unwrap().unwrap();
    let done = writer.execute::<Purse>("p", Put { amount: 1 }).await.unwrap();
    tell.send(Wakeup::Log(done.position)).await.unwrap();
    assert_eq!(position(timeout(SOON, log.next()).await.unwrap()), 2);
    assert_eq!(position(timeout(SOON, own.next()).await.unwrap()), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn followers_survive_a_store_that_fails_and_hear_what_came_meanwhile() {
    let inner = Arc::new(MemoryStore::new(Arc::new(SystemClock)));
    let faults = FaultStore::new(inner.as_ref().clone());
    let limits = Limits { feed_poll: Duration::from_millis(5), ..Limits::default() };
    let builder = RuntimeBuilder::new(faults.clone(), inner.clone()).aggregate::<Purse>().unwrap();
    let reader = builder.limits(limits).start().await.unwrap();
    let writer = runtime(&inner, Limits::default()).await;
    let mut log = Box::pin(reader.feed().follow(Position::ZERO, EventFilter::default()));
    assert!(timeout(Duration::from_millis(50), log.next()).await.is_err());
    faults.darken(true);
    writer.execute::<Purse>("p", Put { amount: 1 }).await.unwrap();
    // Long enough for several looks that fail; the follower asks nothing, so it does not fail with them.
    assert!(timeout(Duration::from_millis(100), log.next()).await.is_err());
    faults.darken(false);
    assert_eq!(position(timeout(SOON, log.next()).await.unwrap()), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_followers_ask_the_store_nothing() {
    let runtime = runtime(&store(), Limits { feed_poll: Duration::from_millis(1), ..Limits::default() }).await;
    let done = runtime.execute::<Purse>("p", Put { amount: 1 }).await.unwrap();
    let mut followers = Vec::new();
    for number in 0..100 {
        let mut follower = match number % 2 {
            0 => runtime.feed().follow(Position::ZERO, EventFilter::default()).boxed(),
            _ => runtime.feed().follow_stream(id("p"), Sequence(1), Position::ZERO).boxed(),
        };
        assert_eq!(position(follower.next().await), done.position.0);
        followers.push(follower);
    }
    let reads = || {
        let families = runtime.metrics().registry().gather();
        let calls = families.iter().flat_map(|family| family.get_metric());
        let reads = calls.filter(|call| call.get_label().iter().any(|label| label.value().starts_with("read_")));
        reads.map(|call| call.get_histogram().get_sample_count()).sum::<u64>()
    };
    let waiting: Vec<_> =
        followers.into_iter().map(|mut follower| tokio::spawn(async move { follower.next().await })).collect();
    tokio::time::sleep(Duration::from_millis(20)).await;
    let before = reads();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(reads(), before);
    let done = runtime.execute::<Purse>("p", Put { amount: 1 }).await.unwrap();
    for follower in waiting {
        assert_eq!(position(timeout(SOON, follower).await.unwrap().unwrap()), done.position.0);
    }
    let more = reads() - before;
    assert!(more <= 2, "one read of one event for all, not {more}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_is_as_small_as_its_events_are_large() {
    let store = store();
    let runtime = runtime(&store, Limits { follow_page_bytes: 1, feed_poll: LONG, ..Limits::default() }).await;
    for amount in 1..=100 {
        runtime.execute::<Purse>("p", Put { amount }).await.unwrap();
    }
    let mut own = Box::pin(runtime.feed().follow_stream(id("p"), Sequence(1), Position::ZERO));
    let mut log = Box::pin(runtime.feed().follow(Position::ZERO, EventFilter::default()));
    for expected in 1..=100 {
        assert_eq!(position(timeout(SOON, own.next()).await.unwrap()), expected);
        assert_eq!(position(timeout(SOON, log.next()).await.unwrap()), expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_ends_with_an_error_when_its_runtime_ends() {
    let runtime = runtime(&store(), Limits::default()).await;
    runtime.execute::<Purse>("p", Put { amount: 1 }).await.unwrap();
    let mut log = Box::pin(runtime.feed().follow(Position::ZERO, EventFilter::default()));
    assert!(runtime.shutdown().await);
    // What is there can still be read.
    assert_eq!(position(log.next().await), 1);
    let end = timeout(SOON, log.next()).await.unwrap();
    assert!(matches!(end, Some(Err(StoreError::Unavailable { .. }))), "{end:?}");
    assert!(log.next().await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn followers_of_a_tail_of_any_length_see_each_event_once() {
    for tail_events_max in [0, 1, 7, 4_096] {
        let limits = Limits { tail_events_max, feed_poll: LONG, ..Limits::default() };
        let runtime = Arc::new(runtime(&store(), limits).await);
        let follow = |number: u64| {
            let purse = id(&format!("p-{}", number % 3));
            match number % 2 {
                0 => runtime.feed().follow(Position::ZERO, EventFilter::default()).boxed(),
                _ => runtime.feed().follow_stream(purse, Sequence(1), Position::ZERO).boxed(),
            }
        };
        let readers = (0..12).map(|number| {
            let mut follower = follow(number);
            tokio::spawn(async move {
                let (mut count, mut last) = (0, 0);
                while count < if number % 2 == 0 { 300 } else { 100 } {
                    let event = follower.next().await.unwrap().unwrap();
                    let place = if number % 2 == 0 { event.position.0 } else { event.sequence.0 };
                    assert_eq!(place, last + 1, "reader {number}, tail of {tail_events_max}");
                    (last, count) = (place, count + 1);
                    if count % (number + 2) == 0 {
                        tokio::task::yield_now().await;
                    }
                }
            })
        });
        let readers: Vec<_> = readers.collect();
        let writers = (0..3).map(|purse| {
            let runtime = runtime.clone();
            tokio::spawn(async move {
                for amount in 1..=100 {
                    runtime.execute::<Purse>(&*format!("p-{purse}"), Put { amount }).await.unwrap();
                }
            })
        });
        for writer in writers.collect::<Vec<_>>() {
            writer.await.unwrap();
        }
        for reader in readers {
            timeout(SOON, reader).await.unwrap().unwrap();
        }
    }
}
