//! Several processes on one PostgreSQL: one of them seals, all serve checkpoints that continue each other, and the death of
//! the one that seals is made good by another.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use event_sourcing_cqrs::{app::App, settings::Settings};
use serde_json::Value;

use super::program::{create, sealed};
use crate::support::{eventually, postgres, server::Server};

const QUICK: [(&str, &str); 2] = [("ES__INTEGRITY__INTERVAL_MS", "100"), ("ES__INTEGRITY__LEASE_MS", "2000")];

/// From the death of the owner to the next signature: its lease, and some slack for a busy machine.
const TAKEN_OVER: Duration = Duration::from_secs(15);

async fn app(url: &str, folder: &std::path::Path) -> Arc<App> {
    let mut settings = Settings::default();
    settings.integrity.directory = Some(folder.to_owned());
    settings.integrity.interval_ms = 50;
    Arc::new(App::builder().settings(settings).database_url(url).unwrap().start().await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn one_process_signs_and_the_other_keeps_what_it_signed() {
    use event_sourcing_cqrs::domain::account::{Account, CreateAccount};
    let Some(database) = postgres::database().await else { return };
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let apps = [app(&database.url, folders[0].path()).await, app(&database.url, folders[1].path()).await];
    let evidence = || apps.iter().map(|app| app.integrity().unwrap().clone());
    for number in 0..20 {
        let create: CreateAccount =
            serde_json::from_value(serde_json::json!({ "owner": "o", "initial_balance": number })).unwrap();
        apps[number % 2].execute::<Account>(format!("acc-{number}").as_str(), create).await.unwrap();
    }
    let size = |one: &event_sourcing_cqrs::integrity::Integrity| {
        one.checkpoint().map_or(0, |signed| signed.checkpoint.head.size)
    };
    eventually("both know the checkpoint", || async { evidence().all(|one| size(&one) == 20) }).await;
    assert_eq!(evidence().filter(|one| one.is_owner()).count(), 1);
    for (folder, app) in folders.iter().zip(&apps) {
        let store_id = app.storage().id().unwrap();
        let file = std::fs::read_to_string(folder.path().join(format!("{store_id}.checkpoint"))).unwrap();
        assert_eq!(file.lines().nth(1), Some("20"));
    }
    // The owner ends in order: the other goes on at once.
    let (owner, other) = if evidence().next().unwrap().is_owner() { (0, 1) } else { (1, 0) };
    assert!(apps[owner].shutdown().await);
    eventually("the other takes over", || async { apps[other].integrity().unwrap().is_owner() }).await;
    assert!(apps[other].shutdown().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_owner_is_replaced_and_its_checkpoints_are_continued() {
    let Some(database) = postgres::database().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let environment = [("DATABASE_URL", database.url.as_str()), QUICK[0], QUICK[1]];
    let start = || Server::start(folder.path(), &environment);
    let owner = start();
    create(&owner, "acc-0");
    let mut notes = vec![sealed(&owner, 1)];
    let heir = start();
    create(&owner, "acc-1");
    notes.push(sealed(&heir, 2));
    let killed = Instant::now();
    owner.kill9();
    create(&heir, "acc-2");
    notes.push(sealed(&heir, 3));
    assert!(killed.elapsed() < TAKEN_OVER, "not taken over: {:?}", killed.elapsed());
    println!("the owner was killed; the next checkpoint came after {:?}", killed.elapsed());
    for note in &notes {
        let body = serde_json::json!({ "checkpoint": note }).to_string();
        let (status, begun) = heir.request("POST", "/api/v1/integrity/verify", &body);
        assert_eq!(status, 202, "{begun}");
        let begun: Value = serde_json::from_str(&begun).unwrap();
        let path = format!("/api/v1/operations/{}", begun["operation_id"].as_str().unwrap());
        eventually("verified", || async { !heir.get(&path).1.contains("\"running\"") }).await;
        let ended: Value = serde_json::from_str(&heir.get(&path).1).unwrap();
        assert_eq!(ended["status"], "succeeded", "{ended}");
    }
    assert!(heir.terminate().success());
}
