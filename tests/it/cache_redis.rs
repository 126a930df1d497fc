//! The Redis cache against a real Redis on its bad days: no errors but misses, bounded waits, and hits again after.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use event_sourcing_actors::{
    Position,
    ports::{CacheUnavailable, CachedAnswer, QueryCache, Revision},
};
use event_sourcing_cqrs::{
    cache::redis::{RedisCache, RedisCacheOptions},
    settings::SecretUrl,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::support::{eventually, redis::Redis};

/// What one look may take: its own bound, and what a busy machine adds.
const LOOK_MAX: Duration = Duration::from_millis(50 + 450);

fn answer(number: u64) -> CachedAnswer {
    CachedAnswer {
        revision: Revision(number),
        position: Position(number),
        data: format!(r#"{{"number":{number}}}"#).into(),
    }
}

fn cache(url: &str) -> Arc<RedisCache> {
    Arc::new(RedisCache::start(&SecretUrl::new(url), RedisCacheOptions::default()).unwrap())
}

/// One look, with its bound.
async fn look(cache: &RedisCache, key: &str) -> Result<Option<CachedAnswer>, CacheUnavailable> {
    let began = Instant::now();
    let found = cache.get(key).await;
    assert!(began.elapsed() < LOOK_MAX, "a look took {:?}", began.elapsed());
    found
}

/// Puts until it is found: the cache is in service.
async fn serves(cache: &RedisCache, key: &str, number: u64) {
    eventually("an answer is put and found", || async {
        cache.put(key.to_owned(), answer(number));
        look(cache, key).await == Ok(Some(answer(number)))
    })
    .await;
}

/// Many looks while something is wrong: each is bounded, and soon none waits at all.
async fn costs_little(cache: &RedisCache) {
    for _ in 0..3 {
        let _ = look(cache, "key").await;
    }
    let began = Instant::now();
    for number in 0..1_000 {
        cache.put("key".to_owned(), answer(number));
        let _ = look(cache, "key").await;
    }
    assert!(began.elapsed() < Duration::from_secs(3), "1,000 looks took {:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_found_until_they_expire_and_garbage_never_is() {
    let Some(redis) = Redis::start().await else { return };
    let cache = cache(&redis.url());
    serves(&cache, "a", 1).await;
    assert_eq!(look(&cache, "b").await, Ok(None));
    let ttl = redis.command(&["PTTL", "a"]).await.unwrap();
    assert!(matches!(ttl, redis::Value::Int(1..=60_000)), "{ttl:?}");
    redis.command(&["COPY", "a", "c"]).await.unwrap();
    assert_eq!(look(&cache, "c").await, Err(CacheUnavailable), "put under another key");
    redis.command(&["SET", "a", "garbage"]).await.unwrap();
    assert_eq!(look(&cache, "a").await, Err(CacheUnavailable));
    redis.command(&["DEL", "a"]).await.unwrap();
    redis.command(&["LPUSH", "a", "x"]).await.unwrap();
    assert_eq!(look(&cache, "a").await, Err(CacheUnavailable));
    serves(&cache, "a", 2).await;
    cache.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_redis_costs_nothing_and_is_used_again_when_it_is_back() {
    let Some(mut redis) = Redis::start().await else { return };
    let cache = cache(&redis.url());
    serves(&cache, "key", 1).await;
    redis.kill();
    costs_little(&cache).await;
    assert!(cache.ping().await.is_err());
    assert!(redis.run().await, "it starts again");
    serves(&cache, "key", 2).await;
    cache.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flushed_redis_is_filled_again() {
    let Some(redis) = Redis::start().await else { return };
    let cache = cache(&redis.url());
    serves(&cache, "key", 1).await;
    redis.command(&["FLUSHALL"]).await.unwrap();
    assert_eq!(look(&cache, "key").await, Ok(None));
    serves(&cache, "key", 2).await;
    cache.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_and_a_sleeping_redis_cost_little() {
    let Some(redis) = Redis::start().await else { return };
    let cache = cache(&redis.url());
    for (number, pause) in [(1, ["CLIENT", "PAUSE", "2000"]), (2, ["DEBUG", "SLEEP", "2"])] {
        serves(&cache, "key", number).await;
        // Its own answer comes late, or not in time.
        let url = redis.url();
        let paused = tokio::spawn(async move {
            let client = redis::Client::open(url).unwrap();
            let mut connection = client.get_multiplexed_async_connection().await.unwrap();
            let mut command = redis::cmd(pause[0]);
            let _ = command.arg(&pause[1..]).query_async::<redis::Value>(&mut connection).await;
        });
        eventually("it no longer answers", || async { look(&cache, "key").await.is_err() }).await;
        costs_little(&cache).await;
        paused.await.unwrap();
        serves(&cache, "key", number + 10).await;
    }
    cache.close().await;
}

/// A loopback proxy that delays every answer.
async fn slow_proxy(target: u16) -> (u16, Arc<AtomicU64>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let delay_ms = Arc::new(AtomicU64::new(0));
    let delay = delay_ms.clone();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(forward(client, target, delay.clone()));
        }
    });
    (port, delay_ms)
}

async fn forward(client: TcpStream, target: u16, delay_ms: Arc<AtomicU64>) {
    let Ok(server) = TcpStream::connect(("127.0.0.1", target)).await else { return };
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let requests = tokio::spawn(async move {
        let _ = tokio::io::copy(&mut from_client, &mut to_server).await;
    });
    let mut buffer = vec![0; 64 << 10];
    while let Ok(count @ 1..) = from_server.read(&mut buffer).await {
        tokio::time::sleep(Duration::from_millis(delay_ms.load(Ordering::Relaxed))).await;
        if to_client.write_all(&buffer[..count]).await.is_err() {
            break;
        }
    }
    requests.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_redis_is_left_alone_until_it_is_fast_again() {
    let Some(redis) = Redis::start().await else { return };
    let (port, delay_ms) = slow_proxy(redis.port).await;
    let cache = cache(&format!("redis://127.0.0.1:{port}"));
    serves(&cache, "key", 1).await;
    delay_ms.store(200, Ordering::Relaxed);
    eventually("it is given up", || async {
        let _ = look(&cache, "key").await;
        !cache.is_up()
    })
    .await;
    costs_little(&cache).await;
    // Two attempts to come back, each answered too late.
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    assert!(!cache.is_up());
    delay_ms.store(0, Ordering::Relaxed);
    serves(&cache, "key", 2).await;
    cache.close().await;
}
