//! Given events, when a command, then events: the rules of an aggregate as tests, without a runtime, clock or store.
//!
//! ```
//! use event_sourcing_actors::{
//!     Aggregate, CommandData, DecisionContext, Rejection, Violations, commands, events,
//!     testing::given::{given, invalid},
//! };
//! use serde::{Deserialize, Serialize};
//! use serde_json::json;
//!
//! #[derive(Debug, Clone, Deserialize)]
//! #[serde(deny_unknown_fields)]
//! pub struct Take { count: i64 }
//! impl CommandData for Take {
//!     fn validate(&self, check: &mut Violations<'_>) {
//!         check.at_least("/count", self.count, 1);
//!     }
//! }
//! #[derive(Debug, Clone, Serialize, Deserialize)]
//! pub struct Filled { count: i64 }
//! #[derive(Debug, Clone, Serialize, Deserialize)]
//! pub struct Taken { count: i64 }
//! commands! { pub enum JarCommand { Take } }
//! events! { pub enum JarEvent { Filled = 1, Taken = 1 } }
//!
//! #[derive(Debug, thiserror::Error)]
//! #[error("the jar holds only {left}")]
//! pub struct TooFew { left: i64 }
//! impl Rejection for TooFew {
//!     fn code(&self) -> &'static str { "too-few" }
//! }
//!
//! #[derive(Debug, Clone, Default, Serialize, Deserialize)]
//! pub struct Jar { left: i64 }
//! impl Aggregate for Jar {
//!     const TYPE: &'static str = "jar";
//!     type Command = JarCommand;
//!     type Event = JarEvent;
//!     type Rejection = TooFew;
//!     fn decide(&self, command: &JarCommand, _: &DecisionContext<'_>) -> Result<Vec<JarEvent>, TooFew> {
//!         let JarCommand::Take(Take { count }) = command;
//!         if *count > self.left { return Err(TooFew { left: self.left }); }
//!         Ok(vec![Taken { count: *count }.into()])
//!     }
//!     fn apply(&mut self, event: &JarEvent) {
//!         match event {
//!             JarEvent::Filled(filled) => self.left += filled.count,
//!             JarEvent::Taken(taken) => self.left -= taken.count,
//!         }
//!     }
//! }
//!
//! given::<Jar>([Filled { count: 3 }.into()])
//!     .when(Take { count: 2 })
//!     .then([Taken { count: 2 }.into()])
//!     .then_state(json!({ "left": 1 }));
//! given::<Jar>([]).when(Take { count: 1 }).then_refused("too-few");
//! assert_eq!(invalid::<Jar>("jar-1", "Take", json!({ "count": 0 })), ["/count"]);
//! ```

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde_json::{Value, json, value::to_raw_value};
use uuid::Uuid;

use crate::{
    aggregate::{Aggregate, Command, DecisionContext, DomainEvent, Refusal, Violations},
    envelope::Metadata,
    id::{AggregateId, CommandId},
};

/// An aggregate to which these events have happened.
///
/// Its id is `aggregate-1` until [`Given::of`] says otherwise, the instant 2024-01-01T00:00:00Z until [`Given::at`].
///
/// # Panics
/// When an event does not survive being stored and read.
#[track_caller]
pub fn given<A: Aggregate>(events: impl IntoIterator<Item = A::Event>) -> Given<A> {
    let mut state = A::default();
    for event in events {
        state.apply(&stored(&event));
    }
    let now = DateTime::from_timestamp(1_704_067_200, 0).unwrap_or_default();
    Given { state, aggregate_id: identifier("aggregate-1"), now }
}

/// JSON pointers to everything that decoding and validation find wrong with a command's data; empty if it is valid.
///
/// # Panics
/// When `aggregate_id` is no identifier, or `data` has no JSON form.
#[track_caller]
#[must_use]
pub fn invalid<A: Aggregate>(aggregate_id: &str, command_type: &str, data: Value) -> Vec<String> {
    let raw = to_raw_value(&data).unwrap_or_else(|error| panic!("the data has no JSON form: {error}"));
    let errors = match A::Command::decode(command_type, &raw) {
        Err(errors) => errors,
        Ok(command) => {
            let aggregate_id = identifier(aggregate_id);
            let mut check = Violations::new(&aggregate_id);
            command.validate(&mut check);
            check.into_errors()
        }
    };
    errors.into_iter().map(|error| error.pointer).collect()
}

/// An aggregate with a past; made by [`given`].
#[derive(Debug, Clone)]
pub struct Given<A> {
    state: A,
    aggregate_id: AggregateId,
    now: DateTime<Utc>,
}

impl<A: Aggregate> Given<A> {
    /// Names the aggregate.
    ///
    /// # Panics
    /// When the text is no identifier.
    #[track_caller]
    #[must_use]
    pub fn of(mut self, aggregate_id: &str) -> Self {
        self.aggregate_id = identifier(aggregate_id);
        self
    }

    /// Sets the instant of the decision.
    #[must_use]
    pub fn at(mut self, now: DateTime<Utc>) -> Self {
        self.now = now;
        self
    }

    /// Takes a snapshot and goes on from it alone.
    ///
    /// # Panics
    /// When the state does not come back from its own JSON as it went.
    #[track_caller]
    #[must_use]
    pub fn restored(mut self) -> Self {
        let snapshot = state_of(&self.state);
        self.state = serde_json::from_value(snapshot.clone())
            .unwrap_or_else(|error| panic!("the snapshot cannot be read: {error}\n{}", pretty(&snapshot)));
        assert_same("the restored state", &snapshot, &state_of(&self.state));
        self
    }

    /// Validates and decides a command, and folds what it led to.
    ///
    /// # Panics
    /// When the command is not valid (see [`invalid`]), or an event does not survive being stored and read.
    #[track_caller]
    pub fn when(mut self, command: impl Into<A::Command>) -> Outcome<A> {
        let command = command.into();
        let mut check = Violations::new(&self.aggregate_id);
        command.validate(&mut check);
        let errors = check.into_errors();
        assert!(errors.is_empty(), "{} is not valid:\n{}", command.name(), pretty(&json!(errors)));
        let text: Arc<str> = Arc::from("given");
        let metadata = Metadata {
            command_id: CommandId(Uuid::from_u128(1)),
            correlation_id: text,
            causation_id: None,
            traceparent: None,
            actor: None,
        };
        let context = DecisionContext {
            aggregate_id: &self.aggregate_id,
            command_id: metadata.command_id,
            now: self.now,
            metadata: &metadata,
        };
        let decided = self.state.decide(&command, &context).map_err(Refusal::from);
        self.folded(decided)
    }

    /// Appends an event that nobody decided: the aggregate admits it, or refuses.
    ///
    /// # Panics
    /// When the event does not survive being stored and read.
    #[track_caller]
    pub fn when_appended(mut self, event: impl Into<A::Event>) -> Outcome<A> {
        let event = event.into();
        let admitted = self.state.admits(&event).map(|()| vec![event]).map_err(Refusal::from);
        self.folded(admitted)
    }

    #[track_caller]
    fn folded(&mut self, decided: Result<Vec<A::Event>, Refusal>) -> Outcome<A> {
        let mut state = self.state.clone();
        for event in decided.iter().flatten() {
            state.apply(&stored(event));
        }
        Outcome { decided, state }
    }
}

/// What came of it; each `then…` panics with both sides as JSON when it does not hold.
#[derive(Debug)]
#[must_use = "say what should have come of it"]
pub struct Outcome<A: Aggregate> {
    decided: Result<Vec<A::Event>, Refusal>,
    state: A,
}

impl<A: Aggregate> Outcome<A> {
    /// Exactly these events, compared by type and encoded payload.
    ///
    /// # Panics
    /// When there are other events, or a refusal.
    #[track_caller]
    pub fn then(self, expected: impl IntoIterator<Item = A::Event>) -> Checked<A> {
        let expected: Vec<A::Event> = expected.into_iter().collect();
        let same = self.decided.as_ref().is_ok_and(|decided| {
            decided.len() == expected.len() && decided.iter().zip(&expected).all(|(a, b)| bytes_of(a) == bytes_of(b))
        });
        assert!(same, "expected events:\n{}\ngot {}", pretty(&listed(&expected)), self.told());
        Checked(self)
    }

    /// No event and no refusal.
    ///
    /// # Panics
    /// When there is one.
    #[track_caller]
    pub fn then_nothing(self) -> Checked<A> {
        self.then([])
    }

    /// A refusal with this code.
    ///
    /// # Panics
    /// When there is another refusal, or none.
    #[track_caller]
    pub fn then_refused(self, code: &str) -> Checked<A> {
        let same = self.decided.as_ref().is_err_and(|refusal| refusal.code == code);
        assert!(same, "expected the refusal {code:?}\ngot {}", self.told());
        Checked(self)
    }

    /// This state, whatever led to it.
    ///
    /// # Panics
    /// When it is another one.
    #[track_caller]
    pub fn then_state(self, expected: Value) -> Checked<A> {
        Checked(self).then_state(expected)
    }

    fn told(&self) -> String {
        match &self.decided {
            Ok(events) => format!("events:\n{}", pretty(&listed(events))),
            Err(refusal) => format!("the refusal:\n{}", pretty(&json!(refusal))),
        }
    }
}

/// An outcome that held so far; more can be asked of it.
#[derive(Debug)]
pub struct Checked<A: Aggregate>(Outcome<A>);

impl<A: Aggregate> Checked<A> {
    /// The state after the events, as people see it.
    ///
    /// # Panics
    /// When it is another one.
    #[track_caller]
    pub fn then_state(self, expected: Value) -> Self {
        assert_same("the state", &expected, &state_of(&self.0.state));
        self
    }

    /// The facts of the refusal.
    ///
    /// # Panics
    /// When they are others, or nothing was refused.
    #[track_caller]
    pub fn with_details(self, expected: Value) -> Self {
        let details = self.0.decided.as_ref().err().and_then(|refusal| refusal.details.clone());
        assert_same("the details of the refusal", &expected, &details.unwrap_or_default());
        self
    }
}

#[track_caller]
fn identifier(text: &str) -> AggregateId {
    AggregateId::new(text).unwrap_or_else(|error| panic!("aggregate id {text:?} {error}"))
}

#[track_caller]
fn bytes_of<E: DomainEvent>(event: &E) -> (&'static str, Vec<u8>) {
    let bytes = event.encode().unwrap_or_else(|error| panic!("{}: {error}", event.event_type()));
    (event.event_type(), bytes)
}

/// The event as it comes back from a store.
#[track_caller]
fn stored<E: DomainEvent>(event: &E) -> E {
    let (event_type, bytes) = bytes_of(event);
    let read = E::decode(event_type, &bytes).unwrap_or_else(|error| panic!("{error}"));
    assert_same(
        &format!("the stored {event_type}"),
        &listed(std::slice::from_ref(event)),
        &listed(std::slice::from_ref(&read)),
    );
    read
}

#[track_caller]
fn state_of<A: Aggregate>(state: &A) -> Value {
    serde_json::to_value(state).unwrap_or_else(|error| panic!("the state has no JSON form: {error}"))
}

#[track_caller]
fn listed<E: DomainEvent>(events: &[E]) -> Value {
    let one = |event: &E| {
        let (event_type, bytes) = bytes_of(event);
        let data = serde_json::from_slice(&bytes)
            .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&bytes).into_owned()));
        json!({ "event_type": event_type, "data": data })
    };
    events.iter().map(one).collect()
}

#[track_caller]
fn assert_same(what: &str, expected: &Value, got: &Value) {
    assert!(expected == got, "{what} should be:\n{}\nbut is:\n{}", pretty(expected), pretty(got));
}

fn pretty(value: &Value) -> String {
    format!("{value:#}")
}

#[cfg(test)]
mod tests;
