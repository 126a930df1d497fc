//! Transfers while servers are killed, connections are cut and the database is restarted: money is conserved at every
//! position, every instance has one end, and soon.

use std::{sync::atomic::Ordering, time::Duration};

use event_sourcing_actors::ports::EventStore;
use event_sourcing_cqrs::store::{PostgresOptions, PostgresStore, SqliteOptions, SqliteStore};
use tokio::time::Instant;

use crate::support::{
    load::sound_log,
    postgres,
    read_models::equal_the_fold_of,
    server::Server,
    transfers::{self, Ends, Load, ends_of},
};

/// Lives of a server per run.
const KILLS: usize = 6;

async fn verify(backend: &str, store: &dyn EventStore, quiet: Duration) {
    let log = sound_log(store).await;
    let ends = ends_of(&log);
    assert_eq!(ends.wrong, Vec::<String>::new(), "{ends:?}");
    assert_eq!((ends.open, ends.failed), (0, 0), "{ends:?}");
    assert_eq!(ends.completed + ends.compensated, transfers::count(), "{ends:?}");
    assert!(ends.completed > 0 && ends.compensated > 0, "{ends:?}");
    let Ends { completed, compensated, .. } = ends;
    println!("{backend}: {completed} transfers completed, {compensated} compensated, quiet after {quiet:?}");
}

/// Waits until a part of the transfers is started.
async fn progress(load: &Load, part: usize, of: usize) {
    let wanted = transfers::count() * part / of;
    let give_up = Instant::now() + Duration::from_secs(600);
    while load.started.load(Ordering::Acquire) < wanted {
        assert!(Instant::now() < give_up, "{wanted} transfers are not started in ten minutes");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn money_is_conserved_while_the_server_is_killed_on_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let url = format!("sqlite://{}", path.display());
    let environment = [("DATABASE_URL", url.as_str())];
    let mut server = Server::start(folder.path(), &environment);
    let load = Load::new(&[server.port]);
    load.create_accounts().await;
    let work = tokio::spawn({
        let load = load.clone();
        async move { load.start_transfers(transfers::count()).await }
    });
    for kill in 1..=KILLS {
        progress(&load, kill, KILLS + 1).await;
        server.kill9();
        server = Server::start(folder.path(), &environment);
        load.turn_to(0, server.port);
    }
    work.await.unwrap();
    let quiet = load.quiet(|path| server.get(path)).await;
    assert!(server.terminate().success());
    equal_the_fold_of(&url).await;
    verify("sqlite", &SqliteStore::open(SqliteOptions::new(path)).await.unwrap(), quiet).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn money_is_conserved_on_three_replicas_while_servers_and_the_database_fail() {
    let Some(database) = postgres::restartable().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let url = database.url.clone();
    let environment = [("DATABASE_URL", url.as_str())];
    let start = || Server::start(folder.path(), &environment);
    let mut servers = vec![start(), start(), start()];
    let load = Load::new(&servers.iter().map(|server| server.port).collect::<Vec<_>>());
    load.create_accounts().await;
    let work = tokio::spawn({
        let load = load.clone();
        async move { load.start_transfers(transfers::count()).await }
    });
    for fault in 1..=KILLS {
        progress(&load, fault, KILLS + 1).await;
        match fault % 3 {
            // In turn, so that the owner of the sagas is among the killed.
            1 => {
                let at = fault / 3 % 3;
                servers.remove(at).kill9();
                servers.insert(at, start());
                load.turn_to(at, servers[at].port);
            }
            2 => database.cut_connections().await,
            _ => database.restart().await,
        }
    }
    work.await.unwrap();
    let quiet = load.quiet(|path| servers[2].get(path)).await;
    for server in servers {
        assert!(server.terminate().success());
    }
    equal_the_fold_of(&url).await;
    verify("postgres", &PostgresStore::connect(PostgresOptions::new(&url)).await.unwrap(), quiet).await;
}
