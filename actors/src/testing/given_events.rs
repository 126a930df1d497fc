//! Given events, then rows: a projection as tests see it, without a runtime, clock or store.
//!
//! ```
//! use event_sourcing_actors::{
//!     EventFilter,
//!     projection::{ApplyError, ProjectedEvent, Projection, Rows},
//!     testing::given_events::given,
//! };
//! use serde::{Deserialize, Serialize};
//! use serde_json::json;
//!
//! #[derive(Debug, Serialize, Deserialize)]
//! struct Filled { count: i64 }
//!
//! #[derive(Debug)]
//! struct Jars;
//! impl Projection for Jars {
//!     fn name(&self) -> &str { "jars" }
//!     fn version(&self) -> u64 { 1 }
//!     fn interest(&self) -> EventFilter { EventFilter::default() }
//!     fn apply(&self, event: &ProjectedEvent<'_>, rows: &mut Rows<'_>) -> Result<(), ApplyError> {
//!         let Filled { count } = event.read()?;
//!         let before: Option<Filled> = rows.get("jars", "", event.aggregate_id.as_str())?;
//!         let count = before.map_or(0, |before| before.count) + count;
//!         rows.put("jars", "", event.aggregate_id.as_str(), &Filled { count })
//!     }
//! }
//!
//! let jars = given(Jars).event("jar-1", Filled { count: 2 }).event("jar-1", Filled { count: 3 });
//! assert_eq!(jars.row("jars", "", "jar-1"), Some(json!({ "count": 5 })));
//! assert!(jars.failed().is_empty());
//! ```

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt::Debug,
    sync::Arc,
};

use bytes::Bytes;
use chrono::{DateTime, Duration, Utc};
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use crate::{
    catalog::Catalog,
    envelope::{EventBody, Metadata, NewEvent, RecordedEvent, StreamHead},
    id::{AggregateId, AggregateType, CommandId, EventId, EventType},
    projection::{Applied, Projection, RowMemory},
    version::Position,
    view::{Row, RowKey},
};

/// A projection to which nothing has happened yet; events are of now = 2024-01-01T00:00:00Z, a second apart.
#[must_use]
pub fn given(projection: impl Projection) -> GivenEvents {
    GivenEvents {
        projection: Arc::new(projection),
        catalog: Arc::new(Catalog::default()),
        aggregate_type: "given".to_owned(),
        schema_version: 1,
        actor: None,
        now: DateTime::from_timestamp(1_704_067_200, 0).unwrap_or_default(),
        heads: HashMap::new(),
        events: Vec::new(),
    }
}

/// The canonical rows of a whole log by the simplest single pass: what [`ViewStore::dump`] must show, byte for byte.
///
/// Events that fail are left out, with everything later of their key, as an owner parks them.
///
/// [`ViewStore::dump`]: crate::ports::ViewStore::dump
#[must_use]
pub fn fold_of_log<'a>(
    projection: &dyn Projection,
    catalog: &Catalog,
    events: impl IntoIterator<Item = &'a RecordedEvent>,
) -> Vec<Row> {
    let mut fold = Fold::default();
    let interest = projection.interest();
    for event in events.into_iter().filter(|event| interest.matches(event)) {
        fold.apply(projection, catalog, event);
    }
    fold.rows()
}

/// A projection and the events that happened; made by [`given`].
#[derive(Debug, Clone)]
pub struct GivenEvents {
    projection: Arc<dyn Projection>,
    catalog: Arc<Catalog>,
    aggregate_type: String,
    schema_version: u32,
    actor: Option<Arc<str>>,
    now: DateTime<Utc>,
    heads: HashMap<AggregateId, StreamHead>,
    events: Vec<RecordedEvent>,
}

impl GivenEvents {
    /// Lifts old payloads by this catalog's upcasters.
    #[must_use]
    pub fn catalog(self, catalog: Catalog) -> Self {
        Self { catalog: Arc::new(catalog), ..self }
    }

    /// The aggregate type of the events that follow; `given` until it is called.
    #[must_use]
    pub fn of(self, aggregate_type: &str) -> Self {
        Self { aggregate_type: aggregate_type.to_owned(), ..self }
    }

    /// The schema version of the events that follow; 1 until it is called.
    #[must_use]
    pub fn schema(self, schema_version: u32) -> Self {
        Self { schema_version, ..self }
    }

    /// In whose name the events that follow happen.
    #[must_use]
    pub fn by(self, actor: &str) -> Self {
        Self { actor: Some(actor.into()), ..self }
    }

    /// When the next event happens.
    #[must_use]
    pub fn at(self, now: DateTime<Utc>) -> Self {
        Self { now, ..self }
    }

    /// An event: a struct that is called as its event type, as with [`events!`](crate::events).
    ///
    /// # Panics
    /// When the id is none, or the event has no JSON form.
    #[track_caller]
    #[must_use]
    pub fn event<E: Serialize>(self, aggregate_id: &str, event: E) -> Self {
        let event_type = std::any::type_name::<E>().rsplit("::").next().unwrap_or_default();
        let data = serde_json::to_vec(&event).unwrap_or_else(|error| panic!("{event_type} has no JSON form: {error}"));
        self.raw(aggregate_id, event_type, data)
    }

    /// An event by name and payload.
    ///
    /// # Panics
    /// When a name is none.
    #[track_caller]
    #[must_use]
    pub fn raw(mut self, aggregate_id: &str, event_type: &str, data: impl Into<Bytes>) -> Self {
        let number = self.events.len() as u64 + 1;
        let id = AggregateId::new(aggregate_id).unwrap_or_else(|error| panic!("aggregate id {aggregate_id:?} {error}"));
        let kind = AggregateType::new(&self.aggregate_type).unwrap_or_else(|error| panic!("aggregate type {error}"));
        let event_type = EventType::new(event_type).unwrap_or_else(|error| panic!("event type {event_type:?} {error}"));
        let metadata = Metadata {
            command_id: CommandId(Uuid::from_u128(u128::from(number))),
            correlation_id: "given".into(),
            causation_id: None,
            traceparent: None,
            actor: self.actor.clone(),
        };
        let body = EventBody {
            event_id: EventId(Uuid::from_u128(u128::from(number))),
            event_type,
            schema_version: self.schema_version,
            data: data.into(),
            metadata: serde_json::to_vec(&metadata).unwrap_or_default().into(),
        };
        let head = self.heads.entry(id.clone()).or_insert(StreamHead::EMPTY);
        let event = NewEvent::following(head, &id, &kind, body);
        self.events.push(RecordedEvent::new(Position(number), self.now, event));
        self.now += Duration::seconds(1);
        self
    }

    /// The events so far.
    #[must_use]
    pub fn events(&self) -> &[RecordedEvent] {
        &self.events
    }

    /// A row.
    ///
    /// # Panics
    /// When it is no JSON.
    #[track_caller]
    #[must_use]
    pub fn row(&self, collection: &'static str, group: &str, sort: &str) -> Option<Value> {
        let key = RowKey::new(collection, group, sort);
        let rows = self.fold().rows();
        rows.iter().find(|row| row.key == key).map(|row| value(&row.data))
    }

    /// The rows of a list, in order.
    ///
    /// # Panics
    /// When one is no JSON.
    #[track_caller]
    #[must_use]
    pub fn rows(&self, collection: &str, group: &str) -> Vec<Value> {
        let rows = self.fold().rows();
        let of_list = rows.iter().filter(|row| row.key.collection == collection && &*row.key.group == group);
        of_list.map(|row| value(&row.data)).collect()
    }

    /// All rows, in order of collection, group and sort.
    #[must_use]
    pub fn dump(&self) -> Vec<Row> {
        self.fold().rows()
    }

    /// Events that could not be applied, and why; later ones of the same key are left out, and not told.
    #[must_use]
    pub fn failed(&self) -> Vec<(Position, String)> {
        self.fold().failed
    }

    fn fold(&self) -> Fold {
        let mut fold = Fold::default();
        let types = self.projection.interest().event_types;
        for event in self.events.iter().filter(|event| types.is_empty() || types.contains(&event.event_type)) {
            fold.apply(&*self.projection, &self.catalog, event);
        }
        fold
    }
}

#[track_caller]
fn value(data: &Bytes) -> Value {
    serde_json::from_slice(data).unwrap_or_else(|error| panic!("a row is no JSON: {error}"))
}

/// Rows in memory: nothing is ever loaded, because nothing was stored before.
#[derive(Debug, Default)]
struct Fold {
    memory: RowMemory,
    rows: BTreeMap<RowKey, Bytes>,
    held: HashSet<String>,
    failed: Vec<(Position, String)>,
}

impl Fold {
    fn apply(&mut self, projection: &dyn Projection, catalog: &Catalog, event: &RecordedEvent) {
        let key = projection.parking_key(event);
        if self.held.contains(&*key) {
            return;
        }
        loop {
            match self.memory.apply(projection, event, catalog) {
                Applied::NotLoaded(keys) => keys.into_iter().for_each(|key| self.memory.remember(key, None)),
                Applied::Failed(reason) => {
                    self.held.insert(key.into_owned());
                    self.failed.push((event.position, reason));
                    return;
                }
                Applied::Changes(changes) => {
                    self.memory.take_over(&changes);
                    for (key, data) in changes {
                        match data {
                            Some(data) => self.rows.insert(key, data),
                            None => self.rows.remove(&key),
                        };
                    }
                    return;
                }
            }
        }
    }

    fn rows(self) -> Vec<Row> {
        self.rows.into_iter().map(|(key, data)| Row { key, data }).collect()
    }
}
