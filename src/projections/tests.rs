//! Given events, then rows: a projection over a log and a row store in memory; and what holds for all four.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use event_sourcing_actors::{
    Aggregate, AggregateId, AggregateType, DomainEvent, EventId, EventType, NewEvent, Position, RecordedEvent,
    StreamHead,
    catalog::Catalog,
    envelope::EventBody,
    projection::{Applied, Projection, RowMemory},
    view::RowKey,
};
use serde_json::{Value, json};
use uuid::Uuid;

use super::all;
use crate::domain;

/// A projection, the log it has seen, and its rows. Memory is emptied before each event, so that every row is asked for.
pub(crate) struct ReadModel<P> {
    projection: P,
    catalog: Catalog,
    heads: HashMap<AggregateId, StreamHead>,
    pub(crate) position: Position,
    pub(crate) now: DateTime<Utc>,
    pub(crate) stored: BTreeMap<RowKey, Bytes>,
}

pub(crate) fn instant(text: &str) -> DateTime<Utc> {
    DateTime::parse_from_rfc3339(text).expect("an instant").to_utc()
}

impl<P: Projection> ReadModel<P> {
    pub(crate) fn new(projection: P) -> Self {
        let mut catalog = Catalog::default();
        domain::register(&mut catalog).expect("the four domains");
        let now = instant("2024-01-01T12:00:00Z");
        let (heads, stored) = (HashMap::new(), BTreeMap::new());
        Self { projection, catalog, heads, position: Position::ZERO, now, stored }
    }

    /// Records an event a second after the last and applies it.
    pub(crate) fn happens<A: Aggregate>(&mut self, id: &str, event: impl Into<A::Event>) -> Result<(), String> {
        let event: A::Event = event.into();
        let data = event.encode().expect("a payload");
        self.records(A::TYPE, id, event.event_type(), data)
    }

    /// The same for any payload in a stream of any type.
    pub(crate) fn records(&mut self, kind: &str, id: &str, event_type: &str, data: Vec<u8>) -> Result<(), String> {
        self.now += TimeDelta::seconds(1);
        self.position = self.position.next();
        let (id, kind) = (AggregateId::new(id).expect("an id"), AggregateType::new(kind).expect("a type"));
        let head = self.heads.entry(id.clone()).or_insert(StreamHead::EMPTY);
        let body = EventBody {
            event_id: EventId(Uuid::from_u128(u128::from(self.position.0))),
            event_type: EventType::new(event_type).expect("an event type"),
            schema_version: 1,
            data: data.into(),
            metadata: Bytes::from_static(
                br#"{"command_id":"018f0000-0000-7000-8000-000000000001","correlation_id":"c-1"}"#,
            ),
        };
        let event = NewEvent::following(head, &id, &kind, body);
        self.apply(&RecordedEvent::new(self.position, self.now, event))
    }

    fn apply(&mut self, event: &RecordedEvent) -> Result<(), String> {
        if !self.projection.interest().matches(event) {
            return Ok(());
        }
        let mut memory = RowMemory::default();
        for _ in 0..10 {
            match memory.apply(&self.projection, event, &self.catalog) {
                Applied::NotLoaded(keys) => {
                    for key in keys {
                        let data = self.stored.get(&key).cloned();
                        memory.remember(key, data);
                    }
                }
                Applied::Failed(reason) => return Err(reason),
                Applied::Changes(changes) => {
                    for (key, data) in changes {
                        match data {
                            Some(data) => self.stored.insert(key, data),
                            None => self.stored.remove(&key),
                        };
                    }
                    return Ok(());
                }
            }
        }
        panic!("{} asks for rows again and again", self.projection.name());
    }

    pub(crate) fn row(&self, collection: &'static str, group: &str, sort: &str) -> Option<Value> {
        let data = self.stored.get(&RowKey::new(collection, group, sort))?;
        Some(serde_json::from_slice(data).expect("a row is JSON"))
    }

    /// The rows of a list, in order.
    pub(crate) fn list(&self, collection: &str, group: &str) -> Vec<Value> {
        let within = self.stored.iter().filter(|(key, _)| key.collection == collection && &*key.group == group);
        within.map(|(_, data)| serde_json::from_slice(data).expect("a row is JSON")).collect()
    }

    /// One member of each row of a list, in order.
    pub(crate) fn column(&self, collection: &str, group: &str, member: &str) -> Value {
        self.list(collection, group).into_iter().map(|row| row[member].clone()).collect()
    }
}

/// Names of a row's members.
pub(crate) fn members(row: &Value) -> Vec<&str> {
    row.as_object().expect("an object").keys().map(String::as_str).collect()
}

#[test]
fn names_are_the_specifications_and_every_event_of_a_domain_is_wanted_by_one() {
    let all = all();
    let names: Vec<&str> = all.iter().map(|projection| projection.name()).collect();
    assert_eq!(names, ["account_balance", "order_summary", "inventory", "user_activity"]);
    let mut catalog = Catalog::default();
    domain::register(&mut catalog).unwrap();
    for (kind, _, events) in catalog.entries() {
        for (event, _) in events {
            let wanting = all.iter().filter(|projection| {
                let interest = projection.interest();
                interest.aggregate_types == [kind.clone()]
                    && interest.event_types.contains(&EventType::new(event).unwrap())
            });
            assert_eq!(wanting.count(), 1, "{event}");
        }
    }
    let versions: Vec<_> = all.iter().map(|projection| (projection.name(), projection.version())).collect();
    let expected = [("account_balance", 2), ("inventory", 1), ("order_summary", 1), ("user_activity", 2)];
    assert_eq!(BTreeMap::from_iter(versions), BTreeMap::from(expected));
}

#[test]
fn settings_of_projections_that_are_not_there_are_told() {
    assert_eq!(super::check_names(["inventory", "user_activity"], &all()), Ok(()));
    let told = super::check_names(["inventry"], &all()).unwrap_err().to_string();
    assert_eq!(told, "projections.definitions.inventry names no projection; did you mean \"inventory\"?");
}

#[test]
fn events_of_other_types_in_a_stream_are_passed_over() {
    let mut model = ReadModel::new(super::AccountBalance);
    model.records("account", "a-1", "Noted", b"{}".to_vec()).unwrap();
    model.records("ledger", "l-1", "AccountCreated", b"{}".to_vec()).unwrap();
    assert_eq!(model.stored, BTreeMap::new());
}

#[test]
fn events_whose_stream_never_began_are_parked_with_a_reason() {
    let reason = |projection: usize, kind: &str, event_type: &str, payload: Value| {
        let mut model = ReadModel::new(Shared(all()[projection].clone()));
        model.records(kind, "x-1", event_type, payload.to_string().into_bytes()).unwrap_err()
    };
    let cases = [
        reason(0, "account", "AccountClosed", json!({})),
        reason(0, "account", "MoneyDeposited", json!({"amount": 1, "transfer_id": "t"})),
        reason(1, "order", "OrderPaid", json!({})),
        reason(2, "inventory", "StockReceived", json!({"quantity": 1})),
        reason(3, "user", "UserDeactivated", json!({})),
    ];
    for case in cases {
        assert!(case.contains("no earlier event made") && case.contains("\"x-1\""), "{case}");
    }
    let unreadable = reason(0, "account", "AccountCreated", json!({"owner": 5}));
    assert!(unreadable.contains("AccountCreated"), "{unreadable}");
}

/// One of [`all`].
#[derive(Debug)]
struct Shared(std::sync::Arc<dyn Projection>);

impl Projection for Shared {
    fn name(&self) -> &str {
        self.0.name()
    }
    fn version(&self) -> u64 {
        self.0.version()
    }
    fn interest(&self) -> event_sourcing_actors::EventFilter {
        self.0.interest()
    }
    fn apply(
        &self,
        event: &event_sourcing_actors::projection::ProjectedEvent<'_>,
        rows: &mut event_sourcing_actors::projection::Rows<'_>,
    ) -> Result<(), event_sourcing_actors::projection::ApplyError> {
        self.0.apply(event, rows)
    }
}
