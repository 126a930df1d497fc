//! Erasures that are cut off, replicas that have not heard of them, data from before, and what is refused afterwards.

use std::{sync::Arc, time::Duration};

use event_sourcing_actors::{
    EventId, EventType, Metadata, NewEvent, StreamHead,
    branches::{ForkAt, NewFork},
    command_bus::{Action, CommandRequest},
    envelope::EventBody,
    error::CommandError,
    ports::{AppendBatch, AppendUnit, OperationStatus, StreamClaim, UnitOutcome},
    query_bus::QueryRequest,
};
use event_sourcing_cqrs::{
    app::{App, AppError},
    domain::user::{RegisterUser, User},
};
use serde_json::{Value, json, value::to_raw_value};

use super::canaries::{ended_of, erase, found, found_below, live, people};
use crate::support::{eventually, settings_for};

async fn app(url: &str, key_life_ms: u64) -> Arc<App> {
    let mut settings = settings_for(url);
    settings.erasure.key_life_ms = key_life_ms;
    settings.event_store.snapshot_frequency = 2;
    Arc::new(App::builder().settings(settings).database_url(url).unwrap().start().await.unwrap())
}

fn url_in(folder: &tempfile::TempDir) -> String {
    format!("sqlite://{}", folder.path().join("store.db").display())
}

#[tokio::test(flavor = "multi_thread")]
async fn erasure_that_was_cut_off_goes_on_at_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    let everyone = people("p", 3);
    let first = app(&url_in(&folder), 60_000).await;
    live(&first, &everyone).await;
    let mut begun = Vec::new();
    for person in &everyone {
        begun.push(first.runtime().erasures().erase(person.id(), "tester").await.unwrap());
    }
    let again = first.runtime().erasures().erase(everyone[0].id(), "tester").await.unwrap();
    assert_eq!(again.id, begun[0].id, "the one under way is found");
    first.shutdown().await;

    let second = app(&url_in(&folder), 200).await;
    for operation in begun {
        let ended = ended_of(&second, operation.id).await;
        assert_eq!(ended.status, OperationStatus::Succeeded, "{ended:?}");
    }
    assert_eq!(found_below(&everyone, folder.path()), []);
    // Once more, and nothing is recorded twice.
    let before = second.runtime().feed().head().await.unwrap();
    assert_eq!(erase(&second, &everyone[..1]).await[0].status, OperationStatus::Succeeded);
    assert_eq!(second.runtime().feed().head().await.unwrap(), before);
    second.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_replica_reads_nothing_once_its_memory_of_the_key_runs_out() {
    let folder = tempfile::tempdir().unwrap();
    let everyone = people("p", 1);
    let (here, there) = (app(&url_in(&folder), 1_000).await, app(&url_in(&folder), 1_000).await);
    live(&here, &everyone).await;
    let events = |app: &Arc<App>| {
        let (app, id) = (app.clone(), everyone[0].id());
        async move {
            let range = event_sourcing_actors::ports::StreamRange {
                from: event_sourcing_actors::Sequence(1),
                to: event_sourcing_actors::Sequence(1),
                direction: Default::default(),
                limit: std::num::NonZeroU32::MIN,
            };
            app.runtime().feed().stream(&id, range).await.unwrap().remove(0).payload().clone()
        }
    };
    for app in [&here, &there] {
        assert!(everyone[0].is_in(&events(app).await));
    }
    assert_eq!(erase(&here, &everyone).await[0].status, OperationStatus::Succeeded);
    // An erasure ends only after everybody's memory of the key has run out.
    for app in [&here, &there] {
        assert!(!everyone[0].is_in(&events(app).await));
    }
    for app in [here, there] {
        app.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn live_branch_shows_nothing_of_a_person_any_more() {
    let folder = tempfile::tempdir().unwrap();
    let app = app(&url_in(&folder), 200).await;
    let everyone = people("p", 1);
    live(&app, &everyone).await;
    let head = app.runtime().feed().head().await.unwrap();
    let fork = NewFork { name: "b".to_owned(), at: ForkAt::Position(head), key: None };
    let (branch, _) = app.runtime().branches().create(fork).await.unwrap();
    let branch = app.runtime().branches().enter(branch.id).await.unwrap();
    for session in 0..3 {
        let data = to_raw_value(&json!({ "session_id": format!("s{session}") })).unwrap().into();
        let action = Action::Named { command_type: "LogOutUser".to_owned(), data };
        branch.bus().send(CommandRequest::new(everyone[0].id(), action, Duration::from_secs(30))).await.unwrap();
    }
    let shown = || async {
        let filters = json!({ "user_id": everyone[0].id }).to_string();
        let row = branch.queries().ask(QueryRequest::new("GetUser", &filters).unwrap()).await.unwrap();
        let to = event_sourcing_actors::Sequence(u64::MAX);
        let state = branch.history().state_at(&everyone[0].id(), to, true).await.unwrap().unwrap();
        [row.data.to_vec(), state.state.to_vec()]
    };
    assert!(shown().await.iter().all(|bytes| everyone[0].is_in(bytes)), "it is read before");
    let is_remembered = || async {
        let filters = json!({ "user_id": everyone[0].id }).to_string();
        branch.queries().ask(QueryRequest::new("GetUser", &filters).unwrap()).await.unwrap().cached
    };
    eventually("the row is served from memory", is_remembered).await;
    assert_eq!(erase(&app, &everyone).await[0].status, OperationStatus::Succeeded);
    for bytes in shown().await {
        assert!(!everyone[0].is_in(&bytes), "{}", String::from_utf8_lossy(&bytes));
    }
    drop(branch);
    app.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_personal_is_taken_after_an_erasure_and_everything_else_is() {
    let folder = tempfile::tempdir().unwrap();
    let app = app(&url_in(&folder), 200).await;
    let everyone = people("p", 1);
    live(&app, &everyone).await;
    erase(&app, &everyone).await;
    let id = everyone[0].id.as_str();
    let log_out = event_sourcing_cqrs::domain::user::LogOutUser { user_id: None, session_id: "s0".to_owned() };
    app.execute::<User>(id, log_out).await.unwrap();
    let register = RegisterUser { user_id: None, email: "a@b.cd".to_owned(), name: "n".to_owned() };
    let refused = app.execute::<User>(id, register.clone()).await.unwrap_err();
    assert!(matches!(refused, CommandError::Rejected { .. }), "the user exists: {refused:?}");
    // An id whose key was destroyed before anything was recorded.
    app.storage().subject_keys().destroy(&people("q", 1)[0].id()).await.unwrap();
    let refused = app.execute::<User>("q-000", register).await.unwrap_err();
    assert!(matches!(refused, CommandError::SubjectErased { .. }), "{refused:?}");
    assert!(app.runtime().feed().summary(&people("q", 1)[0].id()).await.unwrap().is_none());
    app.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_stored_in_the_clear_is_told_of_and_read_as_erased() {
    let folder = tempfile::tempdir().unwrap();
    let app = app(&url_in(&folder), 200).await;
    let everyone = people("p", 1);
    let id = everyone[0].id();
    // As a program from before would have stored it.
    let metadata = Metadata {
        command_id: event_sourcing_actors::CommandId::generate(),
        correlation_id: "c".into(),
        causation_id: None,
        traceparent: None,
        actor: None,
    };
    let data = json!({ "user_id": id, "email": everyone[0].email, "name": everyone[0].name });
    let body = EventBody {
        event_id: EventId(uuid::Uuid::now_v7()),
        event_type: EventType::new("UserRegistered").unwrap(),
        schema_version: 1,
        data: data.to_string().into(),
        metadata: serde_json::to_vec(&metadata).unwrap().into(),
    };
    let kind = event_sourcing_actors::AggregateType::new("user").unwrap();
    let event = NewEvent::following(&mut StreamHead::EMPTY.clone(), &id, &kind, body);
    let claim = StreamClaim { aggregate_id: id.clone(), head: StreamHead::EMPTY, losses: 0 };
    let unit = AppendUnit { streams: vec![claim], commands: Vec::new(), events: vec![event] };
    let outcomes = app.storage().events().append(AppendBatch { units: vec![unit] }).await.unwrap();
    assert!(matches!(outcomes[..], [UnitOutcome::Committed(_)]));

    let state = |app: Arc<App>| {
        let id = id.clone();
        async move {
            let to = event_sourcing_actors::Sequence(u64::MAX);
            let state = app.runtime().history().state_at(&id, to, true).await.unwrap().unwrap();
            serde_json::from_slice::<Value>(&state.state).unwrap()
        }
    };
    assert_eq!(state(app.clone()).await["email"], json!(everyone[0].email), "it goes on to work");
    let ended = erase(&app, &everyone).await.remove(0);
    assert_eq!(ended.status, OperationStatus::Failed);
    assert!(ended.error.as_deref().unwrap().starts_with("1 events"), "{ended:?}");
    let result: Value = serde_json::from_slice(ended.result.as_deref().unwrap()).unwrap();
    assert_eq!((&result["events_in_the_clear"], &result["requested_by"]), (&json!(1), &json!("tester")));
    assert_eq!(state(app.clone()).await["email"], json!("[erased]"));
    let only_the_log = found_below(&everyone, folder.path());
    assert!(!only_the_log.is_empty(), "the log is never changed");
    app.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn master_key_is_rotated_and_a_lost_one_is_not_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let everyone = people("p", 5);
    let first = app(&url_in(&folder), 200).await;
    live(&first, &everyone).await;
    first.shutdown().await;
    let file = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path());
    let file = file.into_iter().find(|path| is_master_key_file(path)).unwrap();
    let old = std::fs::read_to_string(&file).unwrap();
    let new = event_sourcing_actors::master_keys::MasterKeys::random();
    std::fs::write(&file, format!("{}{old}", *new.to_text())).unwrap();
    let second = app(&url_in(&folder), 200).await;
    let keys = second.storage().subject_keys();
    eventually("all keys are wrapped anew", || async { keys.foreign(new.current(), 10).await.unwrap().is_empty() })
        .await;
    second.shutdown().await;
    // The old one is not needed any more.
    std::fs::write(&file, &*new.to_text()).unwrap();
    let third = app(&url_in(&folder), 200).await;
    let all = event_sourcing_actors::EventFilter::default();
    let page = third.runtime().feed().page(Default::default(), &all, std::num::NonZeroU32::MAX, 1).await.unwrap();
    let shown: Vec<u8> = page.events.iter().flat_map(|event| event.payload().to_vec()).collect();
    assert_eq!(found(&everyone, &shown).len(), 5);
    third.shutdown().await;

    std::fs::remove_file(&file).unwrap();
    let lost = App::builder().database_url(&url_in(&folder)).unwrap().start().await.unwrap_err();
    assert!(matches!(lost, AppError::MasterKeys(_)) && lost.to_string().contains("put the file back"), "{lost}");
    std::fs::write(&file, &old).unwrap();
    let foreign = App::builder().database_url(&url_in(&folder)).unwrap().start().await.unwrap_err();
    assert!(foreign.to_string().contains("master key"), "{foreign}");
    tokio::time::sleep(Duration::from_millis(10)).await;
}

fn is_master_key_file(path: &std::path::Path) -> bool {
    path.file_name().unwrap().to_str().is_some_and(|name| name.starts_with("erasure-") && name.ends_with(".key"))
}
