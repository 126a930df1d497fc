//! What a read model is made by: [`Projection`], pure functions from events to rows; and [`Rows`], what they see.
//!
//! A projection says which events it wants and what each does to its rows. It owns neither a connection nor a
//! checkpoint: the runtime reads the log, loads the rows that are asked for, and stores the changed ones together with
//! the checkpoint, so each event counts exactly once, in counters too.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap},
    fmt::Debug,
    ops::Deref,
};

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    aggregate::DomainEvent,
    catalog::Catalog,
    envelope::{EventFilter, RecordedEvent},
    personal::SUBJECT_ERASED,
    view::{Row, RowKey},
};

/// Makes a read model of the log.
///
/// ```
/// use event_sourcing_actors::{
///     EventFilter, EventType,
///     projection::{ApplyError, ProjectedEvent, Projection, Rows},
/// };
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Deserialize)]
/// struct Incremented { by: i64 }
/// #[derive(Default, Serialize, Deserialize)]
/// struct Total { value: i64 }
///
/// #[derive(Debug)]
/// struct Totals;
/// impl Projection for Totals {
///     fn name(&self) -> &str { "totals" }
///     fn version(&self) -> u64 { 1 }
///     fn interest(&self) -> EventFilter {
///         EventFilter { event_types: EventType::new("Incremented").into_iter().collect(), ..EventFilter::default() }
///     }
///     fn apply(&self, event: &ProjectedEvent<'_>, rows: &mut Rows<'_>) -> Result<(), ApplyError> {
///         let Incremented { by } = event.read()?;
///         let Total { value } = rows.get("totals", "", event.aggregate_id.as_str())?.unwrap_or_default();
///         let value = value.checked_add(by).ok_or_else(|| ApplyError::failed("the total would not fit"))?;
///         rows.put("totals", "", event.aggregate_id.as_str(), &Total { value })
///     }
/// }
/// ```
pub trait Projection: Debug + Send + Sync + 'static {
    /// Its name, unique in a runtime: 1–255 bytes.
    fn name(&self) -> &str;

    /// Version of what [`Projection::apply`] does. When it differs from the version that wrote the stored rows, new rows
    /// are built beside them and then served: raise it with every change of meaning.
    fn version(&self) -> u64;

    /// Whether a greater version is a newer one, so that a process with the lesser one stands by. Otherwise the version
    /// only tells same from different, and the process that was started last has its way.
    fn is_version_ordered(&self) -> bool {
        true
    }

    /// Which events it wants; the checkpoint passes over the others.
    fn interest(&self) -> EventFilter;

    /// Turns one event into changes of rows.
    ///
    /// Pure: the outcome depends on the event and the rows alone. It may be called several times for one event, because
    /// rows that are not in memory yet make [`Rows::get`] fail with [`ApplyError::NotLoaded`]; pass that on with `?`.
    ///
    /// # Errors
    /// [`ApplyError::Failed`] (or a panic) parks the event, with everything later of the same
    /// [`parking_key`](Projection::parking_key), until an operator retries or skips it; nothing of it is stored.
    fn apply(&self, event: &ProjectedEvent<'_>, rows: &mut Rows<'_>) -> Result<(), ApplyError>;

    /// Whether [`Projection::apply`] takes the personal data of a stream's subject out of its rows at the event
    /// [`SUBJECT_ERASED`] (which [`Projection::interest`] then has to name). A projection that does not, and wants events
    /// with personal members, is rebuilt by each erasure, and never sees that event.
    fn forgets(&self) -> bool {
        false
    }

    /// What has to wait behind an event that cannot be applied; by default everything of its stream.
    fn parking_key<'a>(&self, event: &'a RecordedEvent) -> Cow<'a, str> {
        Cow::Borrowed(event.aggregate_id.as_str())
    }

    /// A number among its rows that is shown as a metric.
    fn gauges(&self) -> &'static [RowGauge] {
        &[]
    }
}

/// A member of a row, shown as a metric by the process that owns the projection.
#[derive(Debug, Clone, Copy)]
pub struct RowGauge {
    /// Name of the metric, such as `es_inventory_low_stock_products`.
    pub metric: &'static str,
    /// What it tells.
    pub help: &'static str,
    /// The row: collection, group and sort.
    pub row: (&'static str, &'static str, &'static str),
    /// The row's member, a whole number; 0 while there is no such row.
    pub member: &'static str,
}

/// Why an event was not applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// A row has to be loaded first; the runtime loads it and calls again. Pass it on.
    #[error("a row is not loaded yet")]
    NotLoaded,
    /// The event cannot be applied.
    #[error("{reason}")]
    Failed {
        /// Why, for the operator who finds the event parked.
        reason: String,
    },
}

impl ApplyError {
    /// The event cannot be applied, for this reason.
    #[must_use]
    pub fn failed(reason: impl Into<String>) -> Self {
        Self::Failed { reason: reason.into() }
    }
}

/// A stored event with its payload in today's shape.
#[derive(Debug)]
pub struct ProjectedEvent<'a> {
    recorded: &'a RecordedEvent,
    current: Bytes,
}

impl Deref for ProjectedEvent<'_> {
    type Target = RecordedEvent;
    fn deref(&self) -> &RecordedEvent {
        self.recorded
    }
}

impl<'a> ProjectedEvent<'a> {
    /// Lifts a stored event.
    ///
    /// # Errors
    /// [`ApplyError::Failed`] when its payload cannot be lifted.
    pub fn new(recorded: &'a RecordedEvent, catalog: &Catalog) -> Result<Self, ApplyError> {
        let current = catalog.current_data(recorded).map_err(|error| ApplyError::failed(error.to_string()))?;
        Ok(Self { recorded, current })
    }

    /// The payload in today's shape. (`data` of the event it derefs to is the stored one.)
    #[must_use]
    pub fn payload(&self) -> &Bytes {
        &self.current
    }

    /// The payload as an event of a domain.
    ///
    /// # Errors
    /// [`ApplyError::Failed`].
    pub fn domain<E: DomainEvent>(&self) -> Result<E, ApplyError> {
        E::decode(self.event_type.as_str(), &self.current).map_err(|error| ApplyError::failed(error.to_string()))
    }

    /// The payload as any value.
    ///
    /// # Errors
    /// [`ApplyError::Failed`].
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, ApplyError> {
        serde_json::from_slice(&self.current)
            .map_err(|error| ApplyError::failed(format!("{} cannot be read: {error}", self.event_type)))
    }
}

/// The rows one call of [`Projection::apply`] sees and changes.
#[derive(Debug)]
pub struct Rows<'a> {
    memory: &'a RowMemory,
    /// This event's changes; `None` removes.
    staged: BTreeMap<RowKey, Option<Bytes>>,
    missing: Vec<RowKey>,
}

impl Rows<'_> {
    /// A row, if there is one.
    ///
    /// # Errors
    /// [`ApplyError::NotLoaded`], to be passed on; [`ApplyError::Failed`] when the row is not a `T`.
    pub fn get<T: DeserializeOwned>(
        &mut self,
        collection: &'static str,
        group: &str,
        sort: &str,
    ) -> Result<Option<T>, ApplyError> {
        let key = RowKey::new(collection, group, sort);
        let data = match self.staged.get(&key).or_else(|| self.memory.rows.get(&key)) {
            Some(data) => data,
            None => {
                self.missing.push(key);
                return Err(ApplyError::NotLoaded);
            }
        };
        data.as_ref()
            .map(|data| {
                serde_json::from_slice(data)
                    .map_err(|error| ApplyError::failed(format!("row {key} is damaged: {error}")))
            })
            .transpose()
    }

    /// Writes a row, whether or not there is one: a JSON object.
    ///
    /// # Errors
    /// [`ApplyError::Failed`] when a store could not keep it.
    pub fn put<T: Serialize>(
        &mut self,
        collection: &'static str,
        group: &str,
        sort: &str,
        row: &T,
    ) -> Result<(), ApplyError> {
        let key = RowKey::new(collection, group, sort);
        if let Some(problem) = key.problem() {
            return Err(ApplyError::failed(problem));
        }
        let data = serde_json::to_vec(row).map_err(|error| ApplyError::failed(format!("row {key}: {error}")))?;
        self.staged.insert(key, Some(data.into()));
        Ok(())
    }

    /// Removes a row; one that is not there is no fault, nor is one that no store could keep.
    pub fn delete(&mut self, collection: &'static str, group: &str, sort: &str) {
        let key = RowKey::new(collection, group, sort);
        if key.problem().is_none() {
            self.staged.insert(key, None);
        }
    }
}

/// The rows of one generation that its owner remembers; also those it knows not to exist.
#[derive(Debug, Default)]
pub struct RowMemory {
    rows: HashMap<RowKey, Option<Bytes>>,
}

/// What applying one event came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Applied {
    /// These rows change; `None` removes.
    Changes(BTreeMap<RowKey, Option<Bytes>>),
    /// These rows have to be [remembered](RowMemory::remember) first.
    NotLoaded(Vec<RowKey>),
    /// The event cannot be applied.
    Failed(String),
}

impl RowMemory {
    /// Applies one event; nothing is changed here yet.
    ///
    /// A panic of the projection is caught: its outcome is [`Applied::Failed`].
    #[must_use]
    pub fn apply(&self, projection: &dyn Projection, event: &RecordedEvent, catalog: &Catalog) -> Applied {
        if event.event_type.as_str() == SUBJECT_ERASED && !projection.forgets() {
            return Applied::Changes(BTreeMap::new());
        }
        let mut rows = Rows { memory: self, staged: BTreeMap::new(), missing: Vec::new() };
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            projection.apply(&ProjectedEvent::new(event, catalog)?, &mut rows)
        }));
        match outcome {
            // What was not loaded comes first: an outcome that ignored it means nothing.
            _ if !rows.missing.is_empty() => Applied::NotLoaded(rows.missing),
            Ok(Ok(())) => Applied::Changes(rows.staged),
            Ok(Err(ApplyError::Failed { reason })) => Applied::Failed(reason),
            Ok(Err(ApplyError::NotLoaded)) => {
                Applied::Failed("the projection says a row is not loaded, but asked for none".to_owned())
            }
            Err(panic) => Applied::Failed(format!("the projection panicked: {}", words(&*panic))),
        }
    }

    /// Takes a row as the store has it; `None` = it has none.
    pub fn remember(&mut self, key: RowKey, data: Option<Bytes>) {
        self.rows.insert(key, data);
    }

    /// Takes over what an event changed.
    pub fn take_over(&mut self, changes: &BTreeMap<RowKey, Option<Bytes>>) {
        for (key, data) in changes {
            self.rows.insert(key.clone(), data.clone());
        }
    }

    /// A remembered row: `None` if nothing is known of it.
    #[must_use]
    pub fn known(&self, key: &RowKey) -> Option<&Option<Bytes>> {
        self.rows.get(key)
    }

    /// How many rows are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.rows.clear();
    }
}

/// The rows to write and those to remove, each key once.
#[must_use]
pub fn split_changes(changes: BTreeMap<RowKey, Option<Bytes>>) -> (Vec<Row>, Vec<RowKey>) {
    let (mut puts, mut deletes) = (Vec::with_capacity(changes.len()), Vec::new());
    for (key, data) in changes {
        match data {
            Some(data) => puts.push(Row { key, data }),
            None => deletes.push(key),
        }
    }
    (puts, deletes)
}

fn words(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "without a word".to_owned())
}
