//! Read your writes over three replicas on one PostgreSQL and one Redis, while Redis is killed, flushed, paused and slow:
//! no answer is older than its token, and no error comes of Redis. `PROBES=50000` for the long run.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use event_sourcing_actors::query_bus::QueryRequest;
use event_sourcing_cqrs::{
    app::App,
    domain::account::{Account, CreateAccount, DepositMoney},
    settings::SecretUrl,
};
use serde_json::Value;

use crate::support::{postgres, redis::Redis, settings_for};

const REPLICAS: usize = 3;
const WORKERS: usize = 12;

/// What the probes of all workers came to.
#[derive(Debug, Default)]
struct Counts {
    probes: AtomicU64,
    from_cache: AtomicU64,
    stale: AtomicU64,
}

fn probes() -> u64 {
    std::env::var("PROBES").ok().and_then(|probes| probes.parse().ok()).unwrap_or(3_000)
}

async fn replica(database: &str, redis: &str) -> Arc<App> {
    let mut settings = settings_for(database);
    settings.cache.redis_url = Some(SecretUrl::new(redis));
    Arc::new(App::builder().settings(settings).seal(false).database_url(database).unwrap().start().await.unwrap())
}

fn balance_of(account: &str) -> QueryRequest {
    QueryRequest::new("GetAccountBalance", &format!(r#"{{"account_id":"{account}"}}"#)).unwrap()
}

/// Writes on one replica and reads on another, in turn; between two writes it reads several times, so that the cache
/// has something to answer.
async fn work(worker: usize, replicas: Arc<[Arc<App>]>, counts: Arc<Counts>) {
    let account = format!("acc-{worker}");
    let create = CreateAccount { account_id: None, owner: "o".to_owned(), initial_balance: 0 };
    replicas[0].execute::<Account>(account.as_str(), create).await.unwrap();
    let mut turn = worker;
    while counts.probes.load(Ordering::Relaxed) < probes() {
        turn += 1;
        let deposit = DepositMoney { amount: 1, ..Default::default() };
        let accepted = replicas[turn % REPLICAS].execute::<Account>(account.as_str(), deposit).await.unwrap();
        for read in 1..=3 {
            let mut query = balance_of(&account);
            query.min_position = Some(accepted.position);
            query.wait = Some(Duration::from_secs(20));
            let answer = replicas[(turn + read) % REPLICAS].runtime().queries().ask(query).await.unwrap();
            let row: Value = serde_json::from_slice(&answer.data).unwrap();
            counts.probes.fetch_add(1, Ordering::Relaxed);
            counts.from_cache.fetch_add(u64::from(answer.cached), Ordering::Relaxed);
            // The account has no other writer: whatever is not the version just written is an old one.
            if answer.position < accepted.position || row["version"] != accepted.version.0 {
                counts.stale.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// Does to Redis what happens to a Redis, again and again.
async fn torment(redis: &mut Redis, stop: &AtomicBool) -> u32 {
    let mut rounds = 0;
    while !stop.load(Ordering::Relaxed) {
        // A Redis that is paused or busy may answer its tormentor late, or not at all.
        match rounds % 4 {
            0 => drop(redis.command(&["FLUSHALL"]).await),
            1 => drop(redis.command(&["CLIENT", "PAUSE", "400"]).await),
            2 => {
                for _ in 0..10 {
                    let _ = redis.command(&["DEBUG", "SLEEP", "0.03"]).await;
                }
            }
            _ => {
                redis.kill();
                tokio::time::sleep(Duration::from_millis(200)).await;
                assert!(redis.run().await, "Redis starts again");
            }
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
        rounds += 1;
    }
    rounds
}

#[tokio::test(flavor = "multi_thread")]
async fn no_answer_is_older_than_its_token_whatever_redis_does() {
    let Some(database) = postgres::database().await else { return };
    let Some(mut redis) = Redis::start().await else { return };
    let mut replicas = Vec::new();
    for _ in 0..REPLICAS {
        replicas.push(replica(&database.url, &redis.url()).await);
    }
    let replicas: Arc<[Arc<App>]> = replicas.into();
    let (counts, stop) = (Arc::new(Counts::default()), Arc::new(AtomicBool::new(false)));
    let workers: Vec<_> =
        (0..WORKERS).map(|worker| tokio::spawn(work(worker, replicas.clone(), counts.clone()))).collect();
    let tormented = tokio::spawn({
        let stop = stop.clone();
        async move { (torment(&mut redis, &stop).await, redis) }
    });
    for worker in workers {
        worker.await.unwrap();
    }
    stop.store(true, Ordering::Relaxed);
    let (rounds, _redis) = tormented.await.unwrap();
    let Counts { probes, from_cache, stale } = &*counts;
    println!(
        "{} probes over {REPLICAS} replicas, {} from the cache, Redis tormented {rounds} times: {} stale",
        probes.load(Ordering::Relaxed),
        from_cache.load(Ordering::Relaxed),
        stale.load(Ordering::Relaxed),
    );
    assert_eq!(stale.load(Ordering::Relaxed), 0);
    assert!(from_cache.load(Ordering::Relaxed) > 0, "the cache answered nothing, so nothing was proven of it");
    for replica in &*replicas {
        replica.shutdown().await;
    }
}
