//! What is erased stays erased: over a kill in the middle, over a process that never comes back, and over a database that is
//! restored from a backup in which it was still there.

use std::{
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use event_sourcing_actors::{
    Limits, Runtime, RuntimeBuilder,
    catalog::Catalog,
    master_keys::MasterKeys,
    memory::MemoryStore,
    ports::{OperationStatus, SystemClock, Tombstone, Tombstones},
};
use event_sourcing_cqrs::{
    app::App,
    domain::{
        self,
        user::{RegisterUser, User},
    },
};
use serde_json::{Value, json};

use super::canaries::{Person, erase, found_below, live, people, state, user};
use crate::support::{
    server::{Server, word},
    tombstones::List,
};

fn register(server: &Server, person: &Person) {
    let data = json!({ "email": person.email, "name": person.name });
    let body = json!({ "command_type": "RegisterUser", "aggregate_id": person.id, "data": data });
    assert_eq!(server.request("POST", "/api/v1/commands", &body.to_string()).0, 200);
    shows(server, person, &person.email);
}

fn row(server: &Server, person: &Person) -> String {
    let body = json!({ "query_type": "GetUser", "filters": { "user_id": person.id } });
    server.request("POST", "/api/v1/queries", &body.to_string()).1
}

/// Waits until a person's row shows this: on a box under load a query does not wait long enough by itself.
fn shows(server: &Server, person: &Person, word: &str) {
    let give_up = std::time::Instant::now() + Duration::from_secs(60);
    while !row(server, person).contains(word) {
        assert!(std::time::Instant::now() < give_up, "{}", row(server, person));
    }
}

fn erasures(server: &Server) -> Vec<Value> {
    let all: Value = serde_json::from_str(&server.get("/api/v1/operations").1).unwrap();
    let all = all["items"].as_array().unwrap().iter();
    all.filter(|operation| operation["kind"] == "subject-erase").cloned().collect()
}

/// Waits until every erasure on record has succeeded; how many they are.
fn all_succeed(server: &Server, at_least: usize) -> usize {
    let give_up = std::time::Instant::now() + Duration::from_secs(120);
    loop {
        let all = erasures(server);
        if all.len() >= at_least && all.iter().all(|operation| operation["status"] == "succeeded") {
            return all.len();
        }
        assert!(all.iter().all(|operation| operation["status"] != "failed"), "{all:?}");
        assert!(std::time::Instant::now() < give_up, "{all:?}");
    }
}

#[test]
fn erasure_that_was_killed_half_way_goes_on_at_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    let everyone = people("p", 4);
    let server = Server::start(folder.path(), &[("ES__ERASURE__KEY_LIFE_MS", "60000")]);
    for person in &everyone {
        register(&server, person);
        let (status, answer) = server.request("POST", &format!("/api/v1/subjects/{}/erase", person.id), "{}");
        assert_eq!(status, 202, "{answer}");
    }
    // Half-way: keys are destroyed, and rows and cells are as they were.
    let give_up = std::time::Instant::now() + Duration::from_secs(60);
    while erasures(&server).iter().any(|operation| operation["progress"]["done"] != 1) {
        assert!(std::time::Instant::now() < give_up, "{:?}", erasures(&server));
    }
    server.kill9();
    assert!(!found_below(&everyone, folder.path()).is_empty(), "it was killed before it was done");

    let server = Server::start(folder.path(), &[("ES__ERASURE__KEY_LIFE_MS", "200")]);
    assert_eq!(all_succeed(&server, 4), 4, "the very same operations");
    assert_eq!(found_below(&everyone, folder.path()), []);
    let (_, events) = server.get("/api/v1/events?event_type=SubjectErased");
    assert_eq!(events.matches("\"SubjectErased\"").count(), 4, "once each: {events}");
    assert!(server.terminate().success());
}

#[test]
fn person_that_an_older_backup_brings_back_is_erased_again_before_anything_is_served() {
    let folder = tempfile::tempdir().unwrap();
    let environment = [("ES__ERASURE__KEY_LIFE_MS", "200"), ("SNAPSHOT_FREQUENCY", "1")];
    let (erased, other) = (people("p", 3), people("other", 1));
    let server = Server::start(folder.path(), &environment);
    erased.iter().chain(&other).for_each(|person| register(&server, person));
    assert!(server.terminate().success());
    let database = folder.path().join("data/eventstore.db");
    let backup = std::fs::read(&database).unwrap();

    let server = Server::start(folder.path(), &environment);
    for person in &erased {
        assert_eq!(server.request("POST", &format!("/api/v1/subjects/{}/erase", person.id), "{}").0, 202);
    }
    all_succeed(&server, 3);
    assert!(server.terminate().success());
    assert_eq!(found_below(&erased, folder.path()), []);

    restore(&database, &backup);
    assert!(!found_below(&erased, folder.path()).is_empty(), "the backup holds them");
    // A word that only looks shows nothing of them either.
    let replayed = word(folder.path(), &environment, &["replay", "p-000", "--format", "json"]);
    assert_eq!((replayed.code, replayed.json()["state"]["email"].clone()), (0, json!("[erased]")), "{replayed:?}");
    restore(&database, &backup);
    // The log went back behind what was signed: it takes no appends before an operator has said that this is right, and
    // nothing shows what was sealed all the same.
    let server = Server::start(folder.path(), &environment);
    for person in &erased {
        let (_, events) = server.get(&format!("/api/v1/events/{}", person.id));
        let (_, state) = server.get(&format!("/api/v1/aggregates/{}", person.id));
        assert!(events.contains("[erased]") && state.contains("[erased]"), "{events} {state}");
        assert!(!person.is_in(events.as_bytes()) && !person.is_in(state.as_bytes()));
    }
    assert!(server.terminate().success());
    let accepted = word(folder.path(), &environment, &["verify", "--accept-rollback"]);
    assert_eq!(accepted.code, 0, "{accepted:?}");

    let server = Server::start(folder.path(), &environment);
    all_succeed(&server, 3);
    assert_eq!(found_below(&erased, folder.path()), []);
    for person in &erased {
        shows(&server, person, "[erased]");
    }
    shows(&server, &other[0], &other[0].email);
    assert!(server.terminate().success());

    // The control: without the list outside, the backup brings them back.
    restore(&database, &backup);
    let list = files(&folder.path().join("data")).into_iter().find(|name| name.ends_with(".erased")).unwrap();
    std::fs::remove_file(folder.path().join("data").join(list)).unwrap();
    let replayed = word(folder.path(), &environment, &["replay", "p-000", "--format", "json"]);
    assert_eq!(replayed.json()["state"]["email"], json!(erased[0].email), "{replayed:?}");
}

fn files(folder: &Path) -> Vec<String> {
    std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn restore(database: &Path, backup: &[u8]) {
    std::fs::write(database, backup).unwrap();
    for beside in ["db-wal", "db-shm"] {
        let _ = std::fs::remove_file(database.with_extension(beside));
    }
}

async fn app(url: &str, erasure: impl Fn(&mut event_sourcing_cqrs::settings::Settings)) -> Arc<App> {
    let mut settings = crate::support::settings_for(url);
    settings.erasure.key_life_ms = 200;
    erasure(&mut settings);
    Arc::new(App::builder().settings(settings).seal(false).database_url(url).unwrap().start().await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_replica_writes_down_what_any_of_them_erased() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("store.db").display());
    let lists = [folder.path().join("here"), folder.path().join("there")];
    let replica = |list: &Path| {
        app(&url, {
            let list = list.to_owned();
            move |settings| settings.erasure.tombstone_file = Some(list.clone())
        })
    };
    let (here, there) = (replica(&lists[0]).await, replica(&lists[1]).await);
    let everyone = people("p", 3);
    live(&here, &everyone).await;
    erase(&here, &everyone).await;
    let told = |list: &Path| std::fs::read_to_string(list).unwrap_or_default().lines().count();
    assert_eq!(told(&lists[0]), 3);
    let give_up = tokio::time::Instant::now() + Duration::from_secs(60);
    while told(&lists[1]) != 3 {
        assert!(tokio::time::Instant::now() < give_up, "the other one did not write it down");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // Erasing again writes nothing twice.
    erase(&here, &everyone).await;
    assert_eq!(told(&lists[0]), 3);
    for person in &everyone {
        assert_eq!(state(&there, person).await["email"], json!("[erased]"));
        assert_eq!(user(&there, person).await["email"], json!("[erased]"));
    }
    here.shutdown().await;
    there.shutdown().await;
}

/// A process on a shared store that looks often for what others left behind.
async fn process(store: &Arc<MemoryStore>, key_life: Duration) -> Runtime {
    process_with(store, key_life, Arc::new(List::default())).await
}

async fn process_with(store: &Arc<MemoryStore>, key_life: Duration, list: Arc<List>) -> Runtime {
    let mut catalog = Catalog::default();
    domain::register(&mut catalog).unwrap();
    let limits = Limits {
        subject_key_life: key_life,
        erasure_look: Duration::from_millis(50),
        erasure_silence: Duration::from_millis(300),
        ..Limits::default()
    };
    let masters = MasterKeys::parse(&"07".repeat(32)).unwrap();
    let builder = RuntimeBuilder::new(store.clone(), store.clone()).views(store.clone()).catalog(catalog);
    builder.subject_keys(store.clone(), masters).tombstones(list).limits(limits).start().await.unwrap()
}

/// What is logged on this thread.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Lines {
    /// The lines that say that somebody is erased again.
    fn again(&self) -> Vec<String> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        text.lines().filter(|line| line.contains("it is erased again")).map(str::to_owned).collect()
    }
}

#[tokio::test]
async fn only_who_is_not_being_erased_by_another_process_counts_as_brought_back() {
    let lines = Lines::default();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer({
        let lines = lines.clone();
        move || lines.clone()
    });
    // All tasks of this test run on its thread.
    let _logged = tracing::subscriber::set_default(subscriber.finish());
    let (store, list) = (Arc::new(MemoryStore::new(Arc::new(SystemClock))), Arc::new(List::default()));
    let first = process_with(&store, Duration::from_secs(600), list.clone()).await;
    for person in people("p", 2) {
        let register = RegisterUser { user_id: None, email: person.email.clone(), name: person.name.clone() };
        first.execute::<User>(person.id.as_str(), register).await.unwrap();
    }
    let [under_way, brought_back] = [0, 1].map(|number| people("p", 2)[number].id());
    // The key of one is destroyed, and the log does not say so yet.
    let begun = first.erasures().erase(under_way.clone(), "tester").await.unwrap();
    let give_up = tokio::time::Instant::now() + Duration::from_secs(60);
    while list.0.lock().unwrap().is_empty() {
        assert!(tokio::time::Instant::now() < give_up, "it is not on the list");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // The other one is on the list, and a backup has brought everything else back.
    let tombstone = Tombstone { destroyed_at: chrono::DateTime::UNIX_EPOCH, subject: brought_back.clone() };
    list.add(&[tombstone]).await.unwrap();

    let second = process_with(&store, Duration::from_secs(600), list.clone()).await;
    let give_up = tokio::time::Instant::now() + Duration::from_secs(60);
    while lines.again().is_empty() {
        assert!(tokio::time::Instant::now() < give_up, "nobody is erased again");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(second.erasures().erase(under_way, "tester").await.unwrap().id, begun.id, "there is one operation");
    let again = lines.again();
    assert!(again.len() == 1 && again[0].contains(brought_back.as_str()), "{again:?}");
    second.shutdown().await;
    first.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn erasure_whose_process_never_comes_back_is_taken_up_by_one_that_runs() {
    let store = Arc::new(MemoryStore::new(Arc::new(SystemClock)));
    let first = process(&store, Duration::from_secs(600)).await;
    // It looked for what was left behind at its start, when there was nothing.
    let second = process(&store, Duration::from_millis(100)).await;
    let ann = people("ann", 1).remove(0);
    let register = RegisterUser { user_id: None, email: ann.email.clone(), name: ann.name.clone() };
    first.execute::<User>(ann.id.as_str(), register).await.unwrap();
    let begun = first.erasures().erase(ann.id(), "tester").await.unwrap();
    first.shutdown().await;
    let give_up = tokio::time::Instant::now() + Duration::from_secs(120);
    loop {
        let operation = second.projections().operation(begun.id).await.unwrap();
        if operation.status == OperationStatus::Succeeded {
            break;
        }
        assert!(tokio::time::Instant::now() < give_up, "{operation:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    second.shutdown().await;
}
