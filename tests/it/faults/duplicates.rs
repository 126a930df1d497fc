//! Each key eight times, at once, over two processes, one of which is killed: one effect and equal answers.

use std::sync::{
    Arc,
    atomic::{AtomicU16, Ordering},
};

use event_sourcing_cqrs::store::{PostgresOptions, PostgresStore};
use futures_util::{StreamExt, future::join_all, stream};
use serde_json::json;

use crate::support::{
    load::{Client, each_has_one_effect, sound_log},
    postgres,
    read_models::equal_the_fold_of,
    server::Server,
};

const KEYS: usize = 1_000;
const COPIES: usize = 8;
const ACCOUNTS: usize = 20;

#[tokio::test(flavor = "multi_thread")]
async fn a_key_sent_eight_times_over_two_processes_has_one_effect_and_one_answer() {
    let Some(database) = postgres::database().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let environment = [("DATABASE_URL", database.url.as_str())];
    let steady = Server::start(folder.path(), &environment);
    let mut mortal = Server::start(folder.path(), &environment);
    let ports = Arc::new([AtomicU16::new(steady.port), AtomicU16::new(mortal.port)]);
    for account in 0..ACCOUNTS {
        let data = json!({ "owner": "o", "initial_balance": 0 });
        Client::new(steady.port).command(None, "CreateAccount", &format!("acc-{account}"), data).await.unwrap();
    }
    let senders = ports.clone();
    let sending = tokio::spawn(async move {
        stream::iter(0..KEYS)
            .map(|key| {
                let ports = senders.clone();
                async move {
                    let copies = (0..COPIES).map(|copy| {
                        let ports = ports.clone();
                        async move {
                            let account = format!("acc-{}", key % ACCOUNTS);
                            let mut attempts = 0;
                            loop {
                                // A port that went away comes back as another: ask for it anew each time.
                                let port = ports[copy % 2].load(Ordering::Acquire);
                                let deposit = Client::new(port)
                                    .command(
                                        Some(&format!("key-{key}")),
                                        "DepositMoney",
                                        &account,
                                        json!({ "amount": 1 }),
                                    )
                                    .await;
                                match deposit {
                                    Ok(answer) if answer.status == 200 => return answer.body,
                                    Ok(answer) if answer.status != 503 && answer.status != 409 => panic!("{answer:?}"),
                                    _ => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
                                }
                                attempts += 1;
                                assert!(attempts < 1_000, "key-{key} was never answered");
                            }
                        }
                    });
                    let answers = join_all(copies).await;
                    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:#?}");
                    answers.into_iter().next().unwrap()
                }
            })
            .buffer_unordered(12)
            .collect::<Vec<_>>()
            .await
    });
    for _ in 0..3 {
        tokio::time::sleep(std::time::Duration::from_millis(400)).await;
        mortal.kill9();
        mortal = Server::start(folder.path(), &environment);
        ports[1].store(mortal.port, Ordering::Release);
    }
    let answers = sending.await.unwrap();
    let store = PostgresStore::connect(PostgresOptions::new(&database.url)).await.unwrap();
    each_has_one_effect(&sound_log(&store).await, "MoneyDeposited", &answers);
    drop((steady, mortal));
    equal_the_fold_of(&database.url).await;
    println!("{KEYS} keys x {COPIES} over two processes, one killed 3 times: {} effects", answers.len());
}
