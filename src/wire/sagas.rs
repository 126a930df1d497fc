//! Sagas as the outside sees them: one instance with its steps, timers and timeline, and the list of all.

mod timeline;

use std::{num::NonZeroU32, sync::Arc};

use chrono::{DateTime, Utc};
use event_sourcing_actors::{
    AggregateId, RecoveryError, Runtime, Sequence,
    catalog::nearest,
    ports::{Direction, StoreError, StreamRange},
    saga::{Reason, SAGA_TYPE, SagaRecord, SagaStatus, StepRecord, StepStatus, TimerStatus},
    sagas::{self, SagaCallError, SagaFilter},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Page, maybe_microseconds, microseconds};

pub use timeline::TimelineEvent;

/// Events one instance is shown with: the last ones. Its stream has all of them.
const TIMELINE_MAX: NonZeroU32 = NonZeroU32::MIN.saturating_add(999);

/// The answer to a start, a retry or a cancellation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SagaAccepted {
    /// The instance; its stream has the same id.
    pub saga_id: AggregateId,
    /// Which saga.
    pub saga_type: String,
    /// `running`, `compensating`, `completed`, `compensated` or `failed`.
    pub status: SagaStatus,
}

impl From<&SagaRecord> for SagaAccepted {
    fn from(record: &SagaRecord) -> Self {
        let (saga_id, saga_type) = (record.saga_id.clone(), record.saga_type.clone());
        Self { saga_id, saga_type, status: record.status }
    }
}

/// Everything about one instance.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Saga {
    /// The instance; its stream has the same id.
    pub saga_id: AggregateId,
    /// Which saga.
    pub saga_type: String,
    /// `running`, `compensating`, `completed`, `compensated` or `failed`.
    pub status: SagaStatus,
    /// What it works on.
    pub data: Value,
    /// Its definition's steps in order, as far as they are known now.
    pub steps: Vec<SagaStep>,
    /// Its timers, in the order they were set first.
    pub timers: Vec<SagaTimer>,
    /// Why it undoes, or was set aside.
    pub reason: Option<Reason>,
    /// The definition it keeps.
    pub definition_version: u32,
    /// Shared by everything it sets off.
    pub correlation_id: Arc<str>,
    /// When it began.
    #[serde(serialize_with = "microseconds")]
    pub started_at: DateTime<Utc>,
    /// When anything happened last.
    #[serde(serialize_with = "microseconds")]
    pub updated_at: DateTime<Utc>,
    /// When it ended.
    #[serde(serialize_with = "maybe_microseconds")]
    pub ended_at: Option<DateTime<Utc>>,
    /// The last event of its stream that this rests on.
    pub version: Sequence,
    /// What happened, in order: the last 1,000 events of its stream up to `version`.
    pub timeline: Vec<TimelineEvent>,
}

/// A step of an instance.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct SagaStep {
    /// Its name.
    pub name: String,
    /// `pending` (not begun), `running`, `completed`, `refused`, `compensating`, `compensated` or `failed` (its undo was
    /// refused).
    pub status: String,
    /// How often it was tried.
    pub attempts: u32,
    /// How often its undo was tried.
    pub undo_attempts: u32,
    /// When it began.
    #[serde(serialize_with = "maybe_microseconds")]
    pub started_at: Option<DateTime<Utc>>,
    /// When it was done, refused or undone last.
    #[serde(serialize_with = "maybe_microseconds")]
    pub ended_at: Option<DateTime<Utc>>,
    /// The last refusal.
    pub error: Option<Reason>,
}

/// A timer of an instance.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct SagaTimer {
    /// Its name; `timeout` is that of the whole instance.
    pub name: String,
    /// The step it goes with.
    pub step: Option<String>,
    /// When it fires.
    #[serde(serialize_with = "microseconds")]
    pub due_at: DateTime<Utc>,
    /// `set`, `fired` or `cancelled`.
    pub status: TimerStatus,
}

/// An instance in the list.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct ListedSaga {
    /// The instance.
    pub saga_id: AggregateId,
    /// Which saga.
    pub saga_type: String,
    /// How it stands.
    pub status: SagaStatus,
    /// When it began.
    #[serde(serialize_with = "microseconds")]
    pub started_at: DateTime<Utc>,
    /// When its status changed last.
    #[serde(serialize_with = "microseconds")]
    pub updated_at: DateTime<Utc>,
    /// When it ended.
    #[serde(serialize_with = "maybe_microseconds")]
    pub ended_at: Option<DateTime<Utc>>,
    /// Why it undoes, or was set aside.
    pub reason: Option<Reason>,
}

impl From<sagas::ListedSaga> for ListedSaga {
    fn from(listed: sagas::ListedSaga) -> Self {
        let sagas::ListedSaga { saga_id, saga_type, status, started_at, updated_at, ended_at, reason } = listed;
        Self { saga_id, saga_type, status, started_at, updated_at, ended_at, reason }
    }
}

impl ListedSaga {
    /// A page of the list, newest first. A saga type that neither this process nor the store knows is refused: an empty
    /// list would hide a slip of the pen.
    ///
    /// # Errors
    /// [`SagaCallError::UnknownType`], [`SagaCallError::Store`].
    pub async fn page(
        runtime: &Runtime,
        filter: &SagaFilter,
        cursor: Option<&str>,
        limit: NonZeroU32,
    ) -> Result<Page<Self, String>, SagaCallError> {
        let sagas = runtime.sagas();
        let page = sagas.list(filter, cursor, limit).await?;
        if let (true, Some(saga_type)) = (page.items.is_empty(), &filter.saga_type) {
            let names = || sagas.definitions().names();
            let any = SagaFilter { status: None, ..filter.clone() };
            let is_known = names().any(|known| known == saga_type)
                || !sagas.list(&any, None, NonZeroU32::MIN).await?.items.is_empty();
            if !is_known {
                let nearest = nearest(saga_type, names());
                return Err(SagaCallError::UnknownType { saga_type: saga_type.clone(), nearest });
            }
        }
        let items = page.items.into_iter().map(Into::into).collect();
        Ok(Page { items, next_cursor: page.next_cursor })
    }
}

impl Saga {
    /// Reads an instance as it is durable now; none when there is no saga of this id. State, version and timeline are of
    /// one moment.
    ///
    /// # Errors
    /// [`RecoveryError`].
    pub async fn read(runtime: &Runtime, id: &AggregateId) -> Result<Option<Self>, RecoveryError> {
        let Some(state) = runtime.history().state_at(id, Sequence(u64::MAX), true).await? else { return Ok(None) };
        if state.aggregate_type.as_str() != SAGA_TYPE {
            return Ok(None);
        }
        let unreadable = |error| StoreError::Corrupt { reason: format!("the state of saga {id}: {error}") };
        let record: Option<SagaRecord> = serde_json::from_slice(&state.state).map_err(unreadable)?;
        let Some(record) = record else { return Ok(None) };
        let (from, to) = (Sequence(1), state.version);
        let range = StreamRange { from, to, direction: Direction::Backward, limit: TIMELINE_MAX };
        let mut events = runtime.feed().stream(id, range).await?;
        events.reverse();
        let steps = runtime.sagas().definitions().steps_of(&record);
        let timeline = events.iter().map(TimelineEvent::from).collect();
        Ok(Some(Self::new(record, &steps, state.version, timeline)))
    }

    fn new(record: SagaRecord, steps: &[String], version: Sequence, timeline: Vec<TimelineEvent>) -> Self {
        let steps = steps.iter().map(|name| SagaStep::new(name, record.step(name)));
        let timers = record.timers.iter().map(|timer| SagaTimer {
            name: timer.name.clone(),
            step: timer.step.clone(),
            due_at: timer.due_at,
            status: timer.status,
        });
        Self {
            steps: steps.collect(),
            timers: timers.collect(),
            saga_id: record.saga_id,
            saga_type: record.saga_type,
            status: record.status,
            data: record.data,
            reason: record.reason,
            definition_version: record.definition_version,
            correlation_id: record.correlation_id,
            started_at: record.started_at,
            updated_at: record.updated_at,
            ended_at: record.ended_at,
            version,
            timeline,
        }
    }
}

impl SagaStep {
    fn new(name: &str, begun: Option<&StepRecord>) -> Self {
        Self {
            name: name.to_owned(),
            status: begun.map_or("pending", |step| step_status(step.status)).to_owned(),
            attempts: begun.map_or(0, |step| step.attempts),
            undo_attempts: begun.map_or(0, |step| step.undo_attempts),
            started_at: begun.map(|step| step.started_at),
            ended_at: begun.and_then(|step| step.ended_at),
            error: begun.and_then(|step| step.error.clone()),
        }
    }
}

fn step_status(status: StepStatus) -> &'static str {
    match status {
        StepStatus::Running => "running",
        StepStatus::Completed => "completed",
        StepStatus::Refused => "refused",
        StepStatus::Compensating => "compensating",
        StepStatus::Compensated => "compensated",
        StepStatus::Failed => "failed",
    }
}
