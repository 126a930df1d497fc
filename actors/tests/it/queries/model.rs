//! A model test of the serve rule: one writer at random, many readers, and caches that do everything a Redis can.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use event_sourcing_actors::{
    ports::{CacheUnavailable, CachedAnswer, QueryCache, Revision},
    query_bus::{Consistency, QueryError, QueryLimits},
    view::Touched,
};
use futures_util::future::BoxFuture;
use rand::{
    RngExt,
    distr::uniform::{SampleRange, SampleUniform},
};

use super::{
    desk::{Desk, get, get_at, over},
    shelf::{PROJECTION, Shelf, Shelved, key},
};

/// Keeps every answer it was ever given, and gives back any of them, late, or none.
#[derive(Debug, Default)]
struct Hostile {
    answers: Mutex<HashMap<String, Vec<CachedAnswer>>>,
}

impl QueryCache for Hostile {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<CachedAnswer>, CacheUnavailable>> {
        Box::pin(async move {
            let mood = dice(0..20);
            if mood == 0 {
                return Err(CacheUnavailable);
            }
            if mood == 1 {
                tokio::time::sleep(Duration::from_millis(dice(1..30))).await;
            }
            let answers = self.answers.lock().unwrap();
            let Some(all) = answers.get(key) else { return Ok(None) };
            // Mostly the newest, now and then any that ever was.
            let age = if mood < 14 { 0 } else { dice(0..all.len()) };
            Ok(all.get(all.len() - 1 - age).cloned())
        })
    }
    fn sweep<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<(), CacheUnavailable>> {
        Box::pin(async { Err(CacheUnavailable) })
    }
    fn put(&self, key: String, answer: CachedAnswer) {
        let mut answers = self.answers.lock().unwrap();
        let all = answers.entry(key).or_default();
        all.push(answer);
        // Order is nobody's promise.
        if all.len() > 1 && dice(0..4) == 0 {
            let last = all.len() - 1;
            all.swap(last, last - 1);
        }
    }
}

/// What the rows were, and from when to when.
#[derive(Default)]
struct History {
    /// Per row: its data, from when, until when.
    rows: HashMap<String, Vec<(String, Instant, Option<Instant>)>>,
}

fn dice<T: SampleUniform>(range: impl SampleRange<T>) -> T {
    rand::rng().random_range(range)
}

const ROWS: u64 = 4;
const RUN: Duration = Duration::from_millis(2_500);
/// The promise, and what a busy machine may add between a judgement and our look at the clock.
const LATE_MAX: Duration = Duration::from_millis(250 + 400);

/// The writer: each commit changes a random row or none; sometimes it rolls back; sometimes it announces, and loses the
/// commit it announced.
async fn write(shelf: Arc<Shelf>, desks: Arc<[Desk; 2]>, history: Arc<Mutex<History>>, seen: Arc<Seen>) -> u64 {
    let (mut position, mut commits) = (1, 0);
    let mut earlier: Option<Shelved> = None;
    while !seen.stop.load(Ordering::Relaxed) {
        let row = format!("p{}", dice(0..ROWS));
        let mood = dice(0..100);
        position += 1;
        commits += 1;
        let freshness = desks[0].runtime.freshness();
        if mood < 50 {
            let next = Revision(shelf.lock().revision + 1);
            freshness.announce(PROJECTION, &Touched::rows([key(&row)].iter()), next);
        }
        // Instants around a change: the old data was right until after it, the new from before it.
        let before = Instant::now();
        if mood >= 98
            && let Some(earlier) = earlier.take()
        {
            position = earlier.position;
            shelf.roll_back(earlier.rows, earlier.position);
        } else if (40..50).contains(&mood) {
            shelf.put(&[], position); // the announced commit is lost; something irrelevant passes
        } else {
            shelf.put(&[(&row, format!(r#"{{"sum":{commits},"at":{position}}}"#))], position);
        }
        let after = Instant::now();
        let now = shelf.lock().clone();
        note(&mut history.lock().unwrap(), &now, before, after);
        if mood < 50 {
            freshness.note(&shelf.state());
        }
        if mood == 97 && !seen.is_straight {
            earlier = Some(now);
        }
        if mood == 96 {
            shelf.forget_changes();
        }
        tokio::time::sleep(Duration::from_millis(dice(0..15))).await;
    }
    commits
}

fn note(history: &mut History, now: &Shelved, before: Instant, after: Instant) {
    for (key, data) in &now.rows {
        let versions = history.rows.entry(key.sort.to_string()).or_default();
        let data = String::from_utf8(data.to_vec()).unwrap();
        if versions.last().is_some_and(|(last, ..)| *last == data) {
            continue;
        }
        if let Some(last) = versions.last_mut() {
            last.2 = Some(after);
        }
        versions.push((data, before, None));
    }
}

/// A reader: asks, half of the time with the position the rows are at as its token, and counts broken promises.
async fn read(shelf: Arc<Shelf>, desks: Arc<[Desk; 2]>, seen: Arc<Seen>, history: Arc<Mutex<History>>) {
    while !seen.stop.load(Ordering::Relaxed) {
        let bus = desks[dice(0..2)].runtime.queries();
        let row = format!("p{}", dice(0..ROWS));
        let has_token = dice(0..2) == 0;
        // The row as it is, and the position it is at: an answer with that token must be this data or a later one.
        let now = shelf.lock().clone();
        let least = now.rows.get(&key(&row)).map(|data| String::from_utf8(data.to_vec()).unwrap());
        let asked = Instant::now();
        let request = if has_token { get_at(&row, now.position, 2_000) } else { get(&row) };
        match bus.ask(request).await {
            Ok(answer) => {
                seen.answers.fetch_add(1, Ordering::Relaxed);
                seen.cached.fetch_add(u64::from(answer.cached), Ordering::Relaxed);
                let data = String::from_utf8(answer.data.to_vec()).unwrap();
                let history = history.lock().unwrap();
                let versions = &history.rows[&row];
                let Some((_, _, until)) = versions.iter().rev().find(|(known, ..)| *known == data) else {
                    continue; // the writer has not noted it yet
                };
                if until.is_some_and(|until| asked.saturating_duration_since(until) > LATE_MAX) {
                    seen.late.fetch_add(1, Ordering::Relaxed);
                }
                // Judged without rollbacks in between, after which lower positions come again.
                let place = |data: &str| versions.iter().rposition(|(known, ..)| known == data);
                if has_token
                    && seen.is_straight
                    && let Some(least) = least.and_then(|least| place(&least))
                    && place(&data).is_some_and(|place| place < least)
                {
                    seen.below.fetch_add(1, Ordering::Relaxed);
                }
            }
            Err(QueryError::NotFound { .. } | QueryError::Behind { .. }) => {}
            Err(other) => panic!("{other}"),
        }
        tokio::task::yield_now().await;
    }
}

#[derive(Default)]
struct Seen {
    stop: AtomicBool,
    /// No rollback is written.
    is_straight: bool,
    answers: AtomicU64,
    cached: AtomicU64,
    late: AtomicU64,
    below: AtomicU64,
}

async fn run(is_control: bool, is_straight: bool) -> Seen {
    let limits = QueryLimits { consistency: Consistency::Eventual, ..QueryLimits::default() };
    let (shelf, cache) = (Shelf::new(), Arc::new(Hostile::default()));
    let desk = async || {
        let runtime = over(&shelf, limits.clone()).query_cache(cache.clone()).start().await.unwrap();
        if is_control {
            runtime.freshness().trust_everything();
        }
        Desk { shelf: shelf.clone(), drawer: Arc::default(), runtime: Arc::new(runtime) }
    };
    let desks = Arc::new([desk().await, desk().await]);
    let history = Arc::new(Mutex::new(History::default()));
    let seen = Arc::new(Seen { is_straight, ..Seen::default() });
    let writer = tokio::spawn(write(shelf.clone(), desks.clone(), history.clone(), seen.clone()));
    let readers: Vec<_> =
        (0..8).map(|_| tokio::spawn(read(shelf.clone(), desks.clone(), seen.clone(), history.clone()))).collect();
    tokio::time::sleep(RUN).await;
    seen.stop.store(true, Ordering::Relaxed);
    let commits = writer.await.unwrap();
    for reader in readers {
        reader.await.unwrap();
    }
    let seen = Arc::into_inner(seen).unwrap();
    println!("{commits} commits, {:?} answers, {:?} cached", seen.answers, seen.cached);
    seen
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_the_cache_does_no_answer_is_below_its_token_or_later_than_promised() {
    let (straight, winding) = tokio::join!(run(false, true), run(false, false));
    for seen in [&straight, &winding] {
        assert!(seen.cached.load(Ordering::Relaxed) > 100, "the cache was hardly used");
        assert_eq!((seen.late.load(Ordering::Relaxed), seen.below.load(Ordering::Relaxed)), (0, 0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_serve_rule_the_model_test_fails() {
    let seen = run(true, true).await;
    assert!(seen.late.load(Ordering::Relaxed) > 0 && seen.below.load(Ordering::Relaxed) > 0);
}
