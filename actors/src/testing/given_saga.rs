//! When this comes in, then these commands: a saga as tests see it, without a runtime, store or waiting.
//!
//! A scenario is one instance. What comes in goes through the code that decides in a runtime. After each decision its
//! events are stored and read again, and the instance goes on from what was read; and whatever came in comes in a second
//! time and must change nothing.
//!
//! ```
//! use std::time::Duration;
//!
//! use event_sourcing_actors::{
//!     saga::{Call, SagaStatus, Step, StepPolicy, StepSaga, StepStatus, TIMEOUT, TimerStatus},
//!     testing::given_saga::scenario,
//! };
//! use serde_json::json;
//!
//! #[derive(serde::Deserialize)]
//! struct Moving { from: String, to: String, jars: i64 }
//!
//! let moving = || StepSaga::<Moving>::new("Moving")
//!     .step(|moving, _| {
//!         let jars = json!({ "count": moving.jars });
//!         let take = Call::new(&moving.from, "TakeJars", jars.clone())?;
//!         Ok(Step::command("take", take).undo(Call::new(&moving.from, "ReturnJars", jars)?))
//!     })
//!     .step(|moving, _| Ok(Step::command("put", Call::new(&moving.to, "PutJars", json!({ "count": moving.jars }))?)))
//!     .policy(StepPolicy { timeout: None, ..StepPolicy::default() })
//!     .timeout(Duration::from_secs(60));
//! let begun = || scenario(moving()).start(json!({ "from": "cellar", "to": "kitchen", "jars": 3 }));
//!
//! begun()
//!     .then_commands([("TakeJars", "cellar", json!({ "count": 3 }))])
//!     .answered("take")
//!     .then_commands([("PutJars", "kitchen", json!({ "count": 3 }))])
//!     .refused("put", "shelf-full")
//!     .then_undo([("ReturnJars", "cellar", json!({ "count": 3 }))])
//!     .answered("take")
//!     .then_steps([("take", StepStatus::Compensated), ("put", StepStatus::Refused)])
//!     .then_status(SagaStatus::Compensated);
//!
//! // Unknown is not an answer: nothing is undone before the pending command has one.
//! begun().timer_fires(TIMEOUT).then_nothing().then_status(SagaStatus::Compensating).answered("take").then_undo([
//!     ("ReturnJars", "cellar", json!({ "count": 3 })),
//! ]);
//! scenario(moving()).start(json!({ "from": "cellar", "to": "kitchen" })).then_invalid(["/jars"]);
//! ```

mod then;

use std::{collections::HashSet, sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use serde_json::Value;
use uuid::Uuid;

use crate::{
    aggregate::{DecisionContext, DomainEvent},
    catalog::{Catalog, DecidedEvent, Decline, Instance, Model},
    envelope::{EventBody, Metadata, NewEvent, RecordedEvent, StreamHead},
    id::{AggregateId, AggregateType, CommandId, EventId, EventType},
    projection::ProjectedEvent,
    saga::{
        CommandOutcome, Delivery, Initiator, ReadRecord, Reason, Route, RoutedEvent, Saga, SagaCommand,
        SagaDefinitions, SagaEvent, SagaModel, SagaOrder, SagaRecord, Slot, StartOrder, TimerRecord, TimerStatus,
        Trigger, saga_type, started_by_key,
    },
    version::{Position, Sequence},
};

/// Timers that may be due at once; more is a saga that never comes to rest.
const DUE_TIMERS_MAX: usize = 1_000;

/// An instance of a saga that has not begun.
///
/// Its id is `saga-1` until [`Scenario::of`] says otherwise, the instant 2024-01-01T00:00:00Z until time passes.
#[track_caller]
pub fn scenario(saga: impl Saga) -> Scenario {
    let name = saga.name().to_owned();
    let definitions = defined(SagaDefinitions::default(), saga);
    let model = model_of(&definitions);
    Scenario {
        name,
        instance: model.empty(),
        model,
        definitions,
        saga_id: identifier("saga-1"),
        timeout: None,
        now: DateTime::from_timestamp(1_704_067_200, 0).unwrap_or_default(),
        inputs: 0,
        head: StreamHead::EMPTY,
        stored: Vec::new(),
        issued: HashSet::new(),
        last: Vec::new(),
        decline: None,
    }
}

/// An instance and what came of the last thing that came in.
#[derive(Debug)]
pub struct Scenario {
    name: String,
    definitions: SagaDefinitions,
    model: SagaModel,
    instance: Box<dyn Instance>,
    saga_id: AggregateId,
    timeout: Option<Duration>,
    now: DateTime<Utc>,
    inputs: u64,
    head: StreamHead,
    stored: Vec<RecordedEvent>,
    issued: HashSet<CommandId>,
    last: Vec<SagaEvent>,
    decline: Option<Decline>,
}

impl Scenario {
    /// Names the instance.
    ///
    /// # Panics
    /// When the text is no identifier.
    #[track_caller]
    pub fn of(self, saga_id: &str) -> Self {
        Self { saga_id: identifier(saga_id), ..self }
    }

    /// How long the instance may take, instead of what its definition says; asked when it starts.
    pub fn within(self, timeout: Duration) -> Self {
        Self { timeout: Some(timeout), ..self }
    }

    /// It is started by a call.
    ///
    /// # Panics
    /// When the last decline was not looked at; so it is with everything that comes in.
    #[track_caller]
    pub fn start(self, data: Value) -> Self {
        self.started(data, None, None)
    }

    /// The command of a step is accepted.
    ///
    /// # Panics
    /// When the step waits for no answer.
    #[track_caller]
    pub fn answered(self, step: &str) -> Self {
        let place = self.inputs + 1;
        self.outcome(step, CommandOutcome::Accepted { version: Sequence(place), position: Position(place) })
    }

    /// The command of a step is refused with this code.
    ///
    /// # Panics
    /// When the step waits for no answer.
    #[track_caller]
    pub fn refused(self, step: &str, code: &str) -> Self {
        self.refused_for(step, Reason::new(code, format!("it was refused: {code}")))
    }

    /// The command of a step is refused for this reason.
    ///
    /// # Panics
    /// When the step waits for no answer.
    #[track_caller]
    pub fn refused_for(self, step: &str, reason: Reason) -> Self {
        self.outcome(step, CommandOutcome::Refused(reason))
    }

    /// The state that a step wanted to know is read.
    ///
    /// # Panics
    /// When the step wanted none, or the name is no aggregate type.
    #[track_caller]
    pub fn read(self, step: &str, aggregate_type: &str, version: u64, state: Value) -> Self {
        let kind = AggregateType::new(aggregate_type);
        let kind = kind.unwrap_or_else(|error| panic!("aggregate type {aggregate_type:?} {error}"));
        self.has_read(step, Some(kind), Sequence(version), state)
    }

    /// The state that a step wanted to know belongs to no aggregate.
    ///
    /// # Panics
    /// When the step wanted none.
    #[track_caller]
    pub fn read_nothing(self, step: &str) -> Self {
        self.has_read(step, None, Sequence::ZERO, Value::Null)
    }

    /// An event of the log. The saga says whom it concerns: it starts the instance, if it has not begun, or is told to
    /// it, if it is correlated by the key.
    ///
    /// # Panics
    /// When a name is none, or the saga does not say whom the event concerns.
    #[track_caller]
    pub fn happens(mut self, aggregate_type: &str, aggregate_id: &str, event_type: &str, data: Value) -> Self {
        let kind = AggregateType::new(aggregate_type).unwrap_or_else(|error| panic!("aggregate type {error}"));
        let event_type = EventType::new(event_type).unwrap_or_else(|error| panic!("event type {error}"));
        let (id, bytes) = (identifier(aggregate_id), data.to_string().into_bytes());
        let body = body(CommandId(Uuid::from_u128(u128::MAX)), 0, event_type.clone(), 1, bytes.into());
        let event = NewEvent::following(&mut StreamHead::EMPTY.clone(), &id, &kind, body);
        let position = Position(self.inputs + 1);
        let recorded = RecordedEvent::new(position, self.now, event);
        let catalog = Catalog::default();
        let event = ProjectedEvent::new(&recorded, &catalog).unwrap_or_else(|error| panic!("{error}"));
        let Some(saga) = self.definitions.newest(&self.name).cloned() else { return self };
        let is_wanted = saga.interest().contains(&event_type);
        let routes = if is_wanted { saga.route(&event) } else { Ok(Vec::new()) };
        self.last.clear();
        for route in routes.unwrap_or_else(|error| panic!("{event_type}: {error}")) {
            let (aggregate_id, event_type) = (id.clone(), event_type.clone());
            self = match route {
                Route::Start { key, data } => {
                    let saga_id = started_by_key(&self.name, &key);
                    let trigger = Trigger { position, aggregate_id, event_type };
                    Self { saga_id, ..self }.started(data, Some(trigger), Some(key))
                }
                Route::Continue { key } if self.known().is_some_and(|record| record.keys.contains(&key)) => {
                    let (aggregate_type, data) = (kind.clone(), data.clone());
                    let event = RoutedEvent { position, aggregate_id, aggregate_type, event_type, data };
                    self.told(SagaOrder::Deliver(Delivery::Event(event)))
                }
                Route::Continue { .. } => self,
            };
        }
        self
    }

    /// Time passes; timers that are due meanwhile do not fire by themselves.
    #[track_caller]
    pub fn after(self, time: Duration) -> Self {
        let time = chrono::Duration::from_std(time).unwrap_or_else(|error| panic!("{error}"));
        Self { now: self.now + time, ..self }
    }

    /// A timer fires: at its instant, or now if that is past.
    ///
    /// # Panics
    /// When there is no such timer, or it is not set.
    #[track_caller]
    pub fn timer_fires(self, timer: &str) -> Self {
        let timers = self.record().timers;
        let known = timers.iter().find(|known| known.name == timer && known.status == TimerStatus::Set);
        let due_at = known.unwrap_or_else(|| panic!("no timer {timer:?} is set, but: {timers:#?}")).due_at;
        let now = self.now.max(due_at);
        Self { now, ..self }.told(SagaOrder::Fire { timer: timer.to_owned(), due_at })
    }

    /// Every timer that is due fires, the earliest first. What came of the last one can be looked at.
    ///
    /// # Panics
    /// When none is due, or they do not come to an end.
    #[track_caller]
    pub fn due_timers_fire(mut self) -> Self {
        for fired in 0..DUE_TIMERS_MAX {
            let record = self.record();
            let due = record.next_timer().filter(|timer| record.status.is_open() && timer.due_at <= self.now);
            let Some(TimerRecord { name, .. }) = due.cloned() else {
                assert!(fired > 0, "no timer is due at {}, but: {:#?}", self.now, record.timers);
                return self;
            };
            self = self.timer_fires(&name);
        }
        panic!("{DUE_TIMERS_MAX} timers fired, and more are due")
    }

    /// Somebody wants it undone.
    #[track_caller]
    pub fn cancelled(self) -> Self {
        self.told(SagaOrder::Cancel)
    }

    /// An operator wants it to go on.
    #[track_caller]
    pub fn retried(self) -> Self {
        self.told(SagaOrder::Retry)
    }

    /// The runtime sets it aside with this code, as it does when the code of a saga fails again and again.
    #[track_caller]
    pub fn set_aside(self, code: &str) -> Self {
        self.told(SagaOrder::SetAside(Reason::new(code, format!("it was set aside: {code}"))))
    }

    /// The process is started anew with this saga beside those it had.
    ///
    /// # Panics
    /// When it had one of this name and version.
    #[track_caller]
    pub fn also(self, saga: impl Saga) -> Self {
        let definitions = defined(self.definitions.clone(), saga);
        self.restarted(definitions)
    }

    /// The process is started anew with this saga instead of those it had.
    #[track_caller]
    pub fn instead(self, saga: impl Saga) -> Self {
        self.restarted(defined(SagaDefinitions::default(), saga))
    }

    #[track_caller]
    fn restarted(self, definitions: SagaDefinitions) -> Self {
        let model = model_of(&definitions);
        let instance = folded(&model, &self.stored);
        Self { definitions, model, instance, ..self }
    }

    #[track_caller]
    fn started(self, data: Value, trigger: Option<Trigger>, key: Option<String>) -> Self {
        let initiator = Initiator { name: "tester".into(), roles: Vec::new() };
        let (saga_type, timeout) = (self.name.clone(), self.timeout);
        self.told(SagaOrder::Start(StartOrder { saga_type, data, timeout, initiator, trigger, key }))
    }

    #[track_caller]
    fn outcome(self, step: &str, outcome: CommandOutcome) -> Self {
        let pending = self.record().pending.into_iter().find(|command| command.step == step);
        let command_id = pending.unwrap_or_else(|| panic!("step {step:?} waits for no answer")).command_id;
        self.told(SagaOrder::Deliver(Delivery::Outcome { command_id, outcome }))
    }

    #[track_caller]
    fn has_read(self, step: &str, aggregate_type: Option<AggregateType>, version: Sequence, state: Value) -> Self {
        let pending = self.record().pending_reads.into_iter().find(|read| read.step == step);
        let aggregate_id = pending.unwrap_or_else(|| panic!("step {step:?} reads nothing")).aggregate_id;
        let read = ReadRecord { aggregate_id, aggregate_type, version, state };
        self.told(SagaOrder::Deliver(Delivery::Read { step: step.to_owned(), read }))
    }

    /// Decides an order, stores what came of it, and reads that again.
    #[track_caller]
    pub(crate) fn told(mut self, order: SagaOrder) -> Self {
        self.looked_at();
        self.inputs += 1;
        self.last.clear();
        match self.decided(&order) {
            Err(decline) => self.decline = Some(decline),
            Ok(decided) => {
                self.store(decided);
                // The bus itself recognises an event of the log that comes twice, by the id of its command.
                if !matches!(order, SagaOrder::Deliver(Delivery::Event(_)) | SagaOrder::Cancel | SagaOrder::Retry) {
                    let again = self.decided(&order);
                    let is_quiet = again.as_ref().is_ok_and(Vec::is_empty);
                    assert!(is_quiet, "the same came in twice and was not recognised: {order:?}\n{again:#?}");
                    self.restore();
                }
            }
        }
        self
    }

    #[track_caller]
    fn decided(&mut self, order: &SagaOrder) -> Result<Vec<DecidedEvent>, Decline> {
        let (command_id, slot) = (self.command_id(), Slot::default());
        let metadata = Metadata {
            command_id,
            correlation_id: "scenario".into(),
            causation_id: None,
            traceparent: None,
            actor: Some("tester".into()),
        };
        let context = DecisionContext { aggregate_id: &self.saga_id, command_id, now: self.now, metadata: &metadata };
        let before = state_of(&*self.instance);
        let decided = self.instance.decide(&SagaCommand::decoded(order.clone(), slot.clone()), &context);
        let after = state_of(&*self.instance);
        match &decided {
            Err(_) => assert_eq!(before, after, "a decline leaves the instance as it was"),
            Ok(_) => assert_eq!(slot.take().map_or(Value::Null, |record| json(&record)), after, "what it tells"),
        }
        decided
    }

    #[track_caller]
    fn store(&mut self, decided: Vec<DecidedEvent>) {
        let command_id = self.command_id();
        for (ordinal, event) in (0..).zip(decided) {
            let DecidedEvent { event_type, schema_version, data } = event;
            let read = SagaEvent::decode(event_type.as_str(), &data).unwrap_or_else(|error| panic!("{error}"));
            if let SagaEvent::SagaCommandIssued(issued) = &read {
                assert!(self.issued.insert(issued.command_id), "two commands have one id: {issued:?}");
            }
            self.last.push(read);
            let body = body(command_id, ordinal, event_type, schema_version, data);
            let event = NewEvent::following(&mut self.head, &self.saga_id, &saga_type(), body);
            let position = Position(self.stored.len() as u64 + 1);
            self.stored.push(RecordedEvent::new(position, self.now, event));
        }
        let decided = state_of(&*self.instance);
        self.restore();
        assert_eq!(decided, state_of(&*self.instance), "decided on the left, folded from what was stored on the right");
    }

    /// Goes on from a snapshot of what was stored.
    #[track_caller]
    fn restore(&mut self) {
        let folded = folded(&self.model, &self.stored);
        let snapshot = folded.state().unwrap_or_else(|error| panic!("the record has no JSON form: {error}"));
        self.instance = self.model.restore(&snapshot).unwrap_or_else(|error| panic!("no snapshot: {error}"));
        assert_eq!(state_of(&*folded), state_of(&*self.instance), "folded on the left, its snapshot on the right");
    }

    fn command_id(&self) -> CommandId {
        CommandId(Uuid::from_u128(u128::from(self.inputs)))
    }

    fn known(&self) -> Option<SagaRecord> {
        serde_json::from_value(state_of(&*self.instance)).unwrap_or_else(|error| panic!("no record: {error}"))
    }
}

#[track_caller]
fn defined(mut definitions: SagaDefinitions, saga: impl Saga) -> SagaDefinitions {
    definitions.register(saga).unwrap_or_else(|error| panic!("{error}"));
    definitions
}

fn model_of(definitions: &SagaDefinitions) -> SagaModel {
    SagaModel::new(Arc::new(definitions.clone())).unwrap_or_else(|error| panic!("the names of saga events: {error}"))
}

#[track_caller]
fn identifier(text: &str) -> AggregateId {
    AggregateId::new(text).unwrap_or_else(|error| panic!("aggregate id {text:?} {error}"))
}

fn body(command: CommandId, ordinal: u32, event_type: EventType, schema_version: u32, data: bytes::Bytes) -> EventBody {
    let event_id = EventId::derived(command, ordinal);
    EventBody { event_id, event_type, schema_version, data, metadata: bytes::Bytes::from_static(b"{}") }
}

#[track_caller]
fn folded(model: &SagaModel, stored: &[RecordedEvent]) -> Box<dyn Instance> {
    let (mut instance, catalog) = (model.empty(), Catalog::default());
    for event in stored {
        let read = instance.fold(event, catalog.upcasters());
        read.unwrap_or_else(|error| panic!("{} cannot be read: {error}", event.event_type));
    }
    instance
}

#[track_caller]
fn state_of(instance: &dyn Instance) -> Value {
    let state = instance.state().unwrap_or_else(|error| panic!("the record has no JSON form: {error}"));
    serde_json::from_slice(&state).unwrap_or_else(|error| panic!("the record is no JSON: {error}"))
}

#[track_caller]
fn json(record: &SagaRecord) -> Value {
    serde_json::to_value(record).unwrap_or_else(|error| panic!("the record has no JSON form: {error}"))
}

#[cfg(test)]
mod tests;
