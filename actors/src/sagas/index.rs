//! The index of saga instances: an internal read model of their streams, by which open instances, due timers and waiting
//! inputs are found. The index proposes, the stream decides: its lag delays, and never doubles, anything.
//!
//! It also routes: an event of the log that a saga wants becomes an *input* row for each instance it concerns, in the same
//! commit as the checkpoint. The row goes when the instance's stream says that it came in, or that the instance is over.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    aggregate::DomainEvent,
    envelope::EventFilter,
    id::{AggregateId, EventType},
    projection::{ApplyError, ProjectedEvent, Projection, Rows},
    saga::{
        Reason, Route, SAGA_TYPE, SagaDefinitions, SagaEvent, SagaRecord, SagaStarted, SagaStatus, TimerRecord,
        Trigger, started_by_key,
    },
    version::Position,
    view::{instant_prefix, sort_of_number},
};

/// The projection's name. Whoever owns it works on the sagas.
pub const INDEX: &str = "sagas";

/// Instances for people, by type and status.
pub(crate) const LISTED: &str = "listed";
/// Everything known of an instance that may still go on.
pub(crate) const INSTANCES: &str = "instances";
/// Instances that wait for an answer, or have inputs.
pub(crate) const WORK: &str = "work";
/// The next timer of each instance, by its instant.
pub(crate) const DUE: &str = "due";
/// Events that concern an instance and have not come in yet.
pub(crate) const INBOX: &str = "inbox";
/// How many instances of each saga are in which status.
pub(crate) const COUNTS: &str = "counts";
/// Since where in the log a saga sees events.
pub(crate) const ADOPTED: &str = "adopted";
/// Open instances by correlation key.
const KEYS: &str = "keys";

/// Inputs that may wait for one instance, and instances for one key; one more parks the event.
const WAITING_MAX: usize = 1_000;

/// An instance as the index knows it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Entry {
    /// None until it has begun, and after its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    record: Option<SagaRecord>,
    /// Positions of inputs that have not come in yet, ascending.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    inbox: Vec<u64>,
    /// It is over; kept for instances that are named by a key, so that no later event starts them again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    is_over: bool,
}

impl Entry {
    fn status(&self) -> Option<SagaStatus> {
        self.record.as_ref().map(|record| record.status)
    }

    fn has_work(&self) -> bool {
        match &self.record {
            Some(record) => record.status.is_open() && !(record.is_quiet() && self.inbox.is_empty()),
            None => !self.inbox.is_empty(),
        }
    }

    fn due(&self) -> Option<&TimerRecord> {
        self.record.as_ref().filter(|record| record.status.is_open())?.next_timer()
    }
}

/// A row of [`WORK`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WorkRow {
    /// The instance's last event: a worker that has seen this one has nothing new to look for, unless there are inputs.
    pub position: Position,
    /// Whether inputs wait.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub has_inputs: bool,
}

/// A row of [`DUE`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DueRow {
    pub saga_id: AggregateId,
    pub timer: TimerRecord,
}

/// A row of [`INBOX`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "route")]
pub(crate) enum InboxRow {
    /// The event starts the instance.
    Start { saga_type: String, key: String, data: Value, trigger: Trigger, correlation_id: Option<Arc<str>> },
    /// The event is told to it.
    Continue,
}

/// An instance in the list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ListedSaga {
    /// Which instance.
    pub saga_id: AggregateId,
    /// Which saga.
    pub saga_type: String,
    /// How it stands.
    pub status: SagaStatus,
    /// When it began.
    pub started_at: chrono::DateTime<chrono::Utc>,
    /// When anything happened last.
    pub updated_at: chrono::DateTime<chrono::Utc>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<chrono::DateTime<chrono::Utc>>,
    /// Why it undoes, or was set aside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
}

/// A row of [`COUNTS`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Counts(pub BTreeMap<SagaStatus, u64>);

/// The group of [`LISTED`] rows of one type and status.
pub(crate) fn listed_group(saga_type: &str, status: SagaStatus) -> String {
    format!("{saga_type}\u{1f}{}", status.as_str())
}

/// The sort of an instance among those of its type and status: by its beginning.
fn listed_sort(record: &SagaRecord) -> String {
    format!("{}-{}", instant_prefix(record.started_at), record.saga_id)
}

fn due_sort(timer: &TimerRecord, id: &AggregateId) -> String {
    format!("{}-{id}", instant_prefix(timer.due_at))
}

/// The projection; it knows the sagas because it routes for them.
#[derive(Debug)]
pub(crate) struct SagaIndex {
    pub definitions: Arc<SagaDefinitions>,
    /// On a branch every saga sees what has happened since the fork.
    pub is_branch: bool,
}

impl Projection for SagaIndex {
    fn name(&self) -> &str {
        INDEX
    }

    /// Of the rows' shape. Not of the sagas: a rebuild for each new one would route the whole log again.
    fn version(&self) -> u64 {
        1
    }

    fn interest(&self) -> EventFilter {
        let own = SagaEvent::KINDS.iter().filter_map(|(name, _)| EventType::new(name).ok());
        EventFilter { event_types: own.chain(self.definitions.interests()).collect(), ..EventFilter::default() }
    }

    fn apply(&self, event: &ProjectedEvent<'_>, rows: &mut Rows<'_>) -> Result<(), ApplyError> {
        if event.aggregate_type.as_str() == SAGA_TYPE { folded(event, rows) } else { self.routed(event, rows) }
    }
}

/// Folds an event of an instance.
fn folded(event: &ProjectedEvent<'_>, rows: &mut Rows<'_>) -> Result<(), ApplyError> {
    let id = &event.aggregate_id;
    match event.domain::<SagaEvent>()? {
        SagaEvent::SagaDefinitionAdopted(adopted) => {
            rows.put(ADOPTED, "", &adopted.saga_type, &WorkRow { position: event.position, has_inputs: false })
        }
        SagaEvent::SagaStarted(started) => begun(event, &started, rows),
        other => {
            let Some(before) = rows.get::<Entry>(INSTANCES, "", id.as_str())? else { return Ok(()) };
            let mut after = before.clone();
            let Some(record) = &mut after.record else { return Ok(()) };
            record.apply(&other, event.event_id);
            if let SagaEvent::SagaEventReceived(received) = &other {
                came_in(id, received.event.position, &mut after, rows);
            }
            changed(event, &before, after, rows)
        }
    }
}

fn begun(event: &ProjectedEvent<'_>, started: &SagaStarted, rows: &mut Rows<'_>) -> Result<(), ApplyError> {
    let id = &event.aggregate_id;
    let before = match &started.key {
        Some(_) => rows.get::<Entry>(INSTANCES, "", id.as_str())?.unwrap_or_default(),
        None => Entry::default(),
    };
    let mut after = Entry { record: Some(SagaRecord::started(id.clone(), started)), ..before.clone() };
    if let Some(trigger) = &started.trigger {
        came_in(id, trigger.position, &mut after, rows);
    }
    changed(event, &before, after, rows)
}

/// An input came in.
fn came_in(id: &AggregateId, position: Position, entry: &mut Entry, rows: &mut Rows<'_>) {
    entry.inbox.retain(|waiting| *waiting != position.0);
    rows.delete(INBOX, id.as_str(), &sort_of_number(position.0));
}

/// Brings every row of an instance to what it is after an event.
fn changed(
    event: &ProjectedEvent<'_>,
    before: &Entry,
    mut after: Entry,
    rows: &mut Rows<'_>,
) -> Result<(), ApplyError> {
    let id = &event.aggregate_id;
    let Some(record) = after.record.clone() else { return Ok(()) };
    if record.status.is_final() {
        for position in std::mem::take(&mut after.inbox) {
            rows.delete(INBOX, id.as_str(), &sort_of_number(position));
        }
    }
    counted(&record.saga_type, before.status(), record.status, rows)?;
    listed(before.record.as_ref(), &record, rows)?;
    timed(before, &after, rows, id)?;
    correlated(before.record.as_ref(), &record, rows)?;
    to_do(event.position, id, before, &after, rows)?;
    match (record.status.is_final(), record.keys.is_empty()) {
        (false, _) => rows.put(INSTANCES, "", id.as_str(), &after),
        (true, false) => rows.put(INSTANCES, "", id.as_str(), &Entry { is_over: true, ..Entry::default() }),
        (true, true) => {
            rows.delete(INSTANCES, "", id.as_str());
            Ok(())
        }
    }
}

fn counted(
    saga_type: &str,
    before: Option<SagaStatus>,
    after: SagaStatus,
    rows: &mut Rows<'_>,
) -> Result<(), ApplyError> {
    if before == Some(after) {
        return Ok(());
    }
    let mut counts: Counts = rows.get(COUNTS, "", saga_type)?.unwrap_or_default();
    if let Some(count) = before.and_then(|before| counts.0.get_mut(&before)) {
        *count = count.saturating_sub(1);
    }
    *counts.0.entry(after).or_default() += 1;
    rows.put(COUNTS, "", saga_type, &counts)
}

fn listed(before: Option<&SagaRecord>, after: &SagaRecord, rows: &mut Rows<'_>) -> Result<(), ApplyError> {
    let sort = listed_sort(after);
    if let Some(before) = before.filter(|before| before.status != after.status) {
        rows.delete(LISTED, &listed_group(&before.saga_type, before.status), &sort);
    } else if before.is_some() {
        // Within one status the time of the last change is not worth a row; who wants it looks at the instance.
        return Ok(());
    }
    let row = ListedSaga {
        saga_id: after.saga_id.clone(),
        saga_type: after.saga_type.clone(),
        status: after.status,
        started_at: after.started_at,
        updated_at: after.updated_at,
        ended_at: after.ended_at,
        reason: after.reason.clone(),
    };
    rows.put(LISTED, &listed_group(&after.saga_type, after.status), &sort, &row)
}

fn timed(before: &Entry, after: &Entry, rows: &mut Rows<'_>, id: &AggregateId) -> Result<(), ApplyError> {
    let (was, is) = (before.due(), after.due());
    if was == is {
        return Ok(());
    }
    if let Some(was) = was {
        rows.delete(DUE, "", &due_sort(was, id));
    }
    match is {
        Some(is) => rows.put(DUE, "", &due_sort(is, id), &DueRow { saga_id: id.clone(), timer: is.clone() }),
        None => Ok(()),
    }
}

/// Keeps the lists of open instances by key.
fn correlated(before: Option<&SagaRecord>, after: &SagaRecord, rows: &mut Rows<'_>) -> Result<(), ApplyError> {
    if after.status.is_final() {
        return after.keys.iter().try_for_each(|key| unlink(&after.saga_type, key, &after.saga_id, rows));
    }
    let known = before.map_or(&[][..], |before| &before.keys);
    let new = after.keys.iter().filter(|key| !known.contains(key));
    new.into_iter().try_for_each(|key| link(&after.saga_type, key, &after.saga_id, rows))
}

fn link(saga_type: &str, key: &str, id: &AggregateId, rows: &mut Rows<'_>) -> Result<(), ApplyError> {
    let mut ids: Vec<AggregateId> = rows.get(KEYS, saga_type, key)?.map(|row: KeyRow| row.sagas).unwrap_or_default();
    if ids.contains(id) {
        return Ok(());
    }
    if ids.len() >= WAITING_MAX {
        return Err(ApplyError::failed(format!("{WAITING_MAX} open sagas are correlated by {key:?} already")));
    }
    ids.push(id.clone());
    rows.put(KEYS, saga_type, key, &KeyRow { sagas: ids })
}

fn unlink(saga_type: &str, key: &str, id: &AggregateId, rows: &mut Rows<'_>) -> Result<(), ApplyError> {
    let Some(KeyRow { mut sagas }) = rows.get(KEYS, saga_type, key)? else { return Ok(()) };
    sagas.retain(|known| known != id);
    if sagas.is_empty() {
        rows.delete(KEYS, saga_type, key);
        return Ok(());
    }
    rows.put(KEYS, saga_type, key, &KeyRow { sagas })
}

fn to_do(
    position: Position,
    id: &AggregateId,
    before: &Entry,
    after: &Entry,
    rows: &mut Rows<'_>,
) -> Result<(), ApplyError> {
    if after.has_work() {
        let has_inputs = !after.inbox.is_empty();
        return rows.put(WORK, "", id.as_str(), &WorkRow { position, has_inputs });
    }
    if before.has_work() {
        rows.delete(WORK, "", id.as_str());
    }
    Ok(())
}

/// A row of [`KEYS`].
#[derive(Debug, Serialize, Deserialize)]
struct KeyRow {
    sagas: Vec<AggregateId>,
}

impl SagaIndex {
    /// Finds out whom an event concerns.
    fn routed(&self, event: &ProjectedEvent<'_>, rows: &mut Rows<'_>) -> Result<(), ApplyError> {
        for saga in self.definitions.all_newest() {
            let name = saga.name();
            if !saga.interest().contains(&event.event_type) {
                continue;
            }
            if !self.is_branch && rows.get::<WorkRow>(ADOPTED, "", name)?.is_none() {
                continue;
            }
            for route in saga.route(event).map_err(|error| ApplyError::failed(error.reason))? {
                match route {
                    Route::Start { key, data } => start(event, name, key, data, rows)?,
                    Route::Continue { key } => {
                        let row: Option<KeyRow> = rows.get(KEYS, name, &key)?;
                        let sagas = row.map(|row| row.sagas).unwrap_or_default();
                        sagas.iter().try_for_each(|id| put_in(event, id, &InboxRow::Continue, rows))?;
                    }
                }
            }
        }
        Ok(())
    }
}

fn start(
    event: &ProjectedEvent<'_>,
    saga_type: &str,
    key: String,
    data: Value,
    rows: &mut Rows<'_>,
) -> Result<(), ApplyError> {
    let id = started_by_key(saga_type, &key);
    if rows.get::<Entry>(INSTANCES, "", id.as_str())?.is_some() {
        return Ok(());
    }
    // From here on events of this key concern it, though it has not begun yet.
    link(saga_type, &key, &id, rows)?;
    let (position, aggregate_id, event_type) = (event.position, event.aggregate_id.clone(), event.event_type.clone());
    let trigger = Trigger { position, aggregate_id, event_type };
    let correlation_id = event.parsed_metadata().map(|metadata| metadata.correlation_id);
    let row = InboxRow::Start { saga_type: saga_type.to_owned(), key, data, trigger, correlation_id };
    put_in(event, &id, &row, rows)
}

/// An event is to be told to an instance.
fn put_in(event: &ProjectedEvent<'_>, id: &AggregateId, row: &InboxRow, rows: &mut Rows<'_>) -> Result<(), ApplyError> {
    let mut entry = rows.get::<Entry>(INSTANCES, "", id.as_str())?.unwrap_or_default();
    let position = event.position;
    if entry.is_over || entry.inbox.contains(&position.0) {
        return Ok(());
    }
    if entry.inbox.len() >= WAITING_MAX {
        return Err(ApplyError::failed(format!("{WAITING_MAX} events wait for saga {id} already")));
    }
    entry.inbox.push(position.0);
    rows.put(INBOX, id.as_str(), &sort_of_number(position.0), row)?;
    if entry.has_work() {
        rows.put(WORK, "", id.as_str(), &WorkRow { position, has_inputs: true })?;
    }
    rows.put(INSTANCES, "", id.as_str(), &entry)
}
