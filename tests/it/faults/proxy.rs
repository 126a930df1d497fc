//! A connection cut between the request and the answer of a commit: each command ends with exactly one effect.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU32, Ordering},
};

use event_sourcing_cqrs::{
    app::App,
    domain::account::{Account, CreateAccount, DepositMoney},
    store::{PostgresOptions, PostgresStore},
};
use futures_util::future::join_all;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::support::{load::sound_log, postgres, read_models::equal_the_fold_of, settings_for};

/// A loopback proxy that, when armed, swallows the next answer of the database and cuts that connection.
struct Proxy {
    port: u16,
    is_armed: Arc<AtomicBool>,
    cuts: Arc<AtomicU32>,
}

impl Proxy {
    async fn start(target: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (is_armed, cuts) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
        let (armed, counted) = (is_armed.clone(), cuts.clone());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(forward(client, target, armed.clone(), counted.clone()));
            }
        });
        Self { port, is_armed, cuts }
    }
}

async fn forward(client: TcpStream, target: u16, is_armed: Arc<AtomicBool>, cuts: Arc<AtomicU32>) {
    let Ok(server) = TcpStream::connect(("127.0.0.1", target)).await else { return };
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let requests = tokio::spawn(async move {
        let _ = tokio::io::copy(&mut from_client, &mut to_server).await;
    });
    let mut buffer = vec![0; 64 << 10];
    while let Ok(count) = from_server.read(&mut buffer).await {
        // Answers of reads pass: only the journal's calls carry the log's head back.
        if count > 0 && is_append(&buffer[..count]) && is_armed.swap(false, Ordering::AcqRel) {
            cuts.fetch_add(1, Ordering::AcqRel);
            break;
        }
        if count == 0 {
            break;
        }
        if to_client.write_all(&buffer[..count]).await.is_err() {
            break;
        }
    }
    requests.abort();
}

/// Whether an answer holds a row and a `SELECT 1` completion: what a call of a function looks like.
fn is_append(answer: &[u8]) -> bool {
    answer.windows(9).any(|window| window == b"SELECT 1\0") && answer.ends_with(b"I")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_cut_before_the_answer_of_a_commit_leaves_one_effect() {
    let Some(database) = postgres::database().await else { return };
    let (before, after) = database.url.split_once("127.0.0.1:").expect("a database on this machine");
    let (port, name) = after.split_once('/').unwrap();
    let proxy = Proxy::start(port.parse().unwrap()).await;
    let url = format!("{before}127.0.0.1:{}/{name}", proxy.port);
    let app = Arc::new(
        App::builder().seal(false).settings(settings_for(&url)).database_url(&url).unwrap().start().await.unwrap(),
    );
    for account in 0..4 {
        let create = CreateAccount { account_id: None, owner: "o".to_owned(), initial_balance: 0 };
        app.execute::<Account>(format!("acc-{account}"), create).await.unwrap();
    }
    let workers = (0..4_usize).map(|worker| {
        let (app, is_armed) = (app.clone(), proxy.is_armed.clone());
        tokio::spawn(async move {
            for turn in 0..100 {
                // Now and then, so that a repeated append is not cut again for ever.
                if turn % 9 == worker {
                    is_armed.store(true, Ordering::Release);
                }
                let deposit = DepositMoney { amount: 1, ..Default::default() };
                app.execute::<Account>(format!("acc-{}", (worker + turn) % 4), deposit).await.unwrap();
            }
        })
    });
    join_all(workers).await.into_iter().for_each(|worker| worker.unwrap());
    let cuts = proxy.cuts.load(Ordering::Acquire);
    app.shutdown().await;
    equal_the_fold_of(&database.url).await;
    let store = PostgresStore::connect(PostgresOptions::new(&database.url)).await.unwrap();
    let log = sound_log(&store).await;
    assert_eq!(log.len(), 4 + 400);
    assert!(cuts >= 5, "only {cuts} connections were cut");
    println!("{cuts} connections cut before the answer of a commit: 400 commands, 400 effects");
}
