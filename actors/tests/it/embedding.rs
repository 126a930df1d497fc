//! What embedders add: links of the command bus, an authoriser, upcasters; and two runtimes in one process.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use event_sourcing_actors::{
    Aggregate, CommandData, DecisionContext, EventId, NewEvent, Rejection, RuntimeBuilder, Sequence, StreamHead,
    catalog::CatalogError,
    command_bus::{Authorizer, CommandRequest, CommandResult, Middleware, Next},
    commands,
    envelope::EventBody,
    error::CommandError,
    events,
    ports::{AppendBatch, AppendUnit, CommandProbe, EventStore, StreamClaim},
    runtime::StartError,
};
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::support::{Purse, Put, Take, builder, id, store};

/// Counts what passes, and stops every command to the aggregate "stop".
#[derive(Debug, Default)]
struct Gate {
    passed: AtomicU32,
}

impl Middleware for Gate {
    fn handle<'a>(&'a self, request: CommandRequest, next: Next<'a>) -> BoxFuture<'a, CommandResult> {
        Box::pin(async move {
            if request.aggregate_id.as_str() == "stop" {
                return Err(CommandError::Forbidden { reason: "stopped by the gate".to_owned() });
            }
            let result = next.run(request).await;
            self.passed.fetch_add(1, Ordering::Relaxed);
            result
        })
    }
}

#[tokio::test]
async fn embedders_add_links_to_the_bus() {
    let gate = Arc::new(Gate::default());
    let runtime = builder(&store()).middleware(gate.clone()).start().await.unwrap();
    runtime.execute::<Purse>("go", Put { amount: 1 }).await.unwrap();
    let stopped = runtime.execute::<Purse>("stop", Put { amount: 1 }).await;
    assert!(matches!(stopped, Err(CommandError::Forbidden { .. })), "{stopped:?}");
    assert_eq!(gate.passed.load(Ordering::Relaxed), 1);
    assert_eq!(runtime.feed().head().await.unwrap().0, 1);
}

/// Only whoever has the role `taker` may take.
#[derive(Debug)]
struct TakersOnly;

impl Authorizer for TakersOnly {
    fn authorize(&self, request: &CommandRequest) -> Result<(), CommandError> {
        if request.action.name() == "Take" && !request.principal.roles.iter().any(|role| &**role == "taker") {
            return Err(CommandError::Forbidden { reason: "the role taker is missing".to_owned() });
        }
        Ok(())
    }
}

#[tokio::test]
async fn the_authoriser_decides_who_may_do_what() {
    let runtime = builder(&store()).authorizer(Arc::new(TakersOnly)).start().await.unwrap();
    runtime.execute::<Purse>("p", Put { amount: 2 }).await.unwrap();
    let mut request = runtime.request::<Purse>("p", Take { amount: 1 }).unwrap();
    request.principal.roles = Arc::new([]);
    let denied = runtime.bus().send(request.clone()).await;
    assert!(matches!(denied, Err(CommandError::Forbidden { .. })), "{denied:?}");
    request.principal.roles = Arc::new(["taker".into()]);
    assert_eq!(runtime.bus().send(request).await.unwrap().version, Sequence(2));
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rename {
    name: String,
}
impl CommandData for Rename {}
commands! { enum TagCommand { Rename } }

/// Version 1 had `title`, version 2 had `label`, version 3 has `name`.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Named {
    name: String,
}
events! { enum TagEvent { Named = 3 } }

#[derive(Debug, thiserror::Error)]
#[error("never")]
struct Never;
impl Rejection for Never {
    fn code(&self) -> &'static str {
        "never"
    }
}

#[derive(Debug, Default, Clone, Serialize, Deserialize)]
struct Tag {
    name: String,
}
impl Aggregate for Tag {
    const TYPE: &'static str = "tag";
    type Command = TagCommand;
    type Event = TagEvent;
    type Rejection = Never;
    fn decide(&self, command: &TagCommand, _: &DecisionContext<'_>) -> Result<Vec<TagEvent>, Never> {
        let TagCommand::Rename(Rename { name }) = command;
        Ok(vec![Named { name: name.clone() }.into()])
    }
    fn apply(&mut self, event: &TagEvent) {
        let TagEvent::Named(Named { name }) = event;
        self.name.clone_from(name);
    }
}

fn moved(from: &'static str, to: &'static str) -> impl Fn(Value) -> Result<Value, String> {
    move |mut payload| {
        let members = payload.as_object_mut().ok_or("not an object")?;
        let value = members.remove(from).ok_or_else(|| format!("no member {from}"))?;
        members.insert(to.to_owned(), value);
        Ok(payload)
    }
}

/// Stores one event of each schema version, as old programs left them.
async fn history(store: &impl EventStore, tag: &str, payloads: &[(u32, Value)]) {
    let mut head = StreamHead::EMPTY;
    let mut events = Vec::new();
    for (version, payload) in payloads {
        let body = EventBody {
            event_id: EventId(uuid::Uuid::now_v7()),
            event_type: "Named".try_into().unwrap(),
            schema_version: *version,
            data: payload.to_string().into(),
            metadata: "{}".into(),
        };
        events.push(NewEvent::following(&mut head, &id(tag), &"tag".try_into().unwrap(), body));
    }
    let unit = AppendUnit {
        streams: vec![StreamClaim { aggregate_id: id(tag), head: StreamHead::EMPTY, losses: 0 }],
        commands: vec![CommandProbe { event_ids: vec![events[0].event_id], key: None, record: None }],
        events,
    };
    store.append(AppendBatch { units: vec![unit] }).await.unwrap();
}

async fn name_at(runtime: &event_sourcing_actors::Runtime, sequence: u64) -> Value {
    let state = runtime.history().state_at(&id("t"), Sequence(sequence), true).await.unwrap().unwrap();
    serde_json::from_slice::<Value>(&state.state).unwrap()["name"].clone()
}

#[tokio::test]
async fn events_of_every_past_shape_are_lifted_and_stay_stored_as_they_are() {
    let store = store();
    history(&*store, "t", &[(1, json!({"title": "a"})), (2, json!({"label": "b"})), (3, json!({"name": "c"}))]).await;
    let start = || {
        RuntimeBuilder::new(store.clone(), store.clone())
            .aggregate::<Tag>()
            .unwrap()
            .upcaster("Named", 1, 2, moved("title", "label"))
            .upcaster("Named", 2, 3, moved("label", "name"))
    };
    let runtime = start().start().await.unwrap();
    for (sequence, name) in [(1, "a"), (2, "b"), (3, "c")] {
        assert_eq!(name_at(&runtime, sequence).await, name);
    }
    let renamed = runtime.execute::<Tag>("t", Rename { name: "d".to_owned() }).await.unwrap();
    assert_eq!(renamed.version, Sequence(4));
    let range = event_sourcing_actors::ports::StreamRange {
        from: Sequence(1),
        to: Sequence(1),
        direction: event_sourcing_actors::ports::Direction::Forward,
        limit: std::num::NonZeroU32::MIN,
    };
    assert_eq!(&runtime.feed().stream(&id("t"), range).await.unwrap()[0].data[..], br#"{"title":"a"}"#);
}

#[tokio::test]
async fn a_hole_in_the_chain_stops_the_start() {
    let store = store();
    let builder = RuntimeBuilder::new(store.clone(), store).aggregate::<Tag>().unwrap();
    let refused = builder.upcaster("Named", 1, 2, moved("title", "label")).start().await;
    assert!(matches!(refused, Err(StartError::Catalog(CatalogError::Upcast(_)))), "{refused:?}");
}

#[tokio::test]
async fn an_event_from_the_future_is_not_guessed_at() {
    let store = store();
    history(&*store, "t", &[(4, json!({"name": "z"}))]).await;
    let builder = RuntimeBuilder::new(store.clone(), store.clone()).aggregate::<Tag>().unwrap();
    let runtime = builder
        .upcaster("Named", 1, 2, moved("title", "label"))
        .upcaster("Named", 2, 3, moved("label", "name"))
        .start()
        .await
        .unwrap();
    let refused = runtime.execute::<Tag>("t", Rename { name: "d".to_owned() }).await;
    assert!(matches!(&refused, Err(CommandError::Internal { reason }) if reason.contains("newer")), "{refused:?}");
}

#[tokio::test]
async fn names_belong_to_one_aggregate() {
    let twice = builder(&store()).aggregate::<Purse>();
    assert!(matches!(twice, Err(CatalogError::Twice { .. })), "{twice:?}");
}

#[tokio::test]
async fn two_runtimes_in_one_process_do_not_meet() {
    let (one, other) = (builder(&store()).start().await.unwrap(), builder(&store()).start().await.unwrap());
    one.execute::<Purse>("p", Put { amount: 5 }).await.unwrap();
    assert!(other.execute::<Purse>("p", Take { amount: 5 }).await.is_err());
    assert_eq!((one.health().live_aggregates, other.health().live_aggregates), (1, 1));
    let appended = |runtime: &event_sourcing_actors::Runtime| {
        let families = runtime.metrics().registry().gather();
        let family = families.iter().find(|family| family.name() == "es_events_appended_total").unwrap();
        family.get_metric().iter().map(|metric| metric.get_counter().get_value()).sum::<f64>()
    };
    assert!((appended(&one) - 1.0).abs() < f64::EPSILON && appended(&other).abs() < f64::EPSILON);
}
