//! The catalog: every aggregate of a runtime by name; names to types, and one face ([`Model`]) for all of them.

use std::{
    any::Any,
    collections::{BTreeMap, HashMap},
    fmt::Debug,
    marker::PhantomData,
    sync::Arc,
};

use bytes::Bytes;
use serde_json::value::RawValue;

use crate::{
    aggregate::{Aggregate, Command, DecisionContext, DomainEvent, FieldError, Refusal, Violations},
    codec::CodecError,
    command_bus::DecodedCommand,
    envelope::RecordedEvent,
    error::CommandError,
    id::{AggregateId, AggregateType, EventType, IdError},
    upcast::{UpcastError, Upcasters},
};

/// An event that was decided, encoded and not yet placed.
#[derive(Debug, Clone)]
pub(crate) struct DecidedEvent {
    pub event_type: EventType,
    pub schema_version: u32,
    pub data: Bytes,
}

/// One aggregate's state behind a common face.
pub(crate) trait Instance: Debug + Send + Sync {
    /// Decides a command and folds its events in; a refusal leaves the state as it was.
    fn decide(&mut self, command: &DecodedCommand, context: &DecisionContext<'_>)
    -> Result<Vec<DecidedEvent>, Decline>;
    /// Checks a raw event, and folds it in.
    fn admit(
        &mut self,
        event_type: &EventType,
        data: &RawValue,
        upcasters: &Upcasters,
    ) -> Result<DecidedEvent, Decline>;
    /// Folds a stored event in.
    fn fold(&mut self, event: &RecordedEvent, upcasters: &Upcasters) -> Result<(), CodecError>;
    /// The state as JSON.
    fn state(&self) -> Result<Vec<u8>, serde_json::Error>;
    /// A copy, for decisions that must not stay.
    fn duplicate(&self) -> Box<dyn Instance>;
}

/// Why an instance does not take a command or an event.
#[derive(Debug)]
pub(crate) enum Decline {
    /// The domain refuses.
    Refused(Refusal),
    /// The document does not fit.
    Invalid(Vec<FieldError>),
    /// The event type is not this stream's.
    UnknownEventType,
    /// The domain's code is at fault.
    Fault(String),
}

/// One aggregate type behind a common face.
pub(crate) trait Model: Debug + Send + Sync {
    fn aggregate_type(&self) -> &AggregateType;
    fn state_version(&self) -> u16;
    fn commands(&self) -> &'static [&'static str];
    fn events(&self) -> &'static [(&'static str, u32)];
    fn decode(&self, name: &str, data: &RawValue) -> Result<DecodedCommand, Vec<FieldError>>;
    fn validate(&self, command: &DecodedCommand, id: &AggregateId) -> Vec<FieldError>;
    fn empty(&self) -> Box<dyn Instance>;
    fn restore(&self, state: &[u8]) -> Result<Box<dyn Instance>, serde_json::Error>;
}

#[derive(Debug)]
struct Typed<A> {
    aggregate_type: AggregateType,
    aggregate: PhantomData<fn() -> A>,
}

#[derive(Debug)]
struct TypedInstance<A>(A);

fn event_type(name: &str) -> Result<EventType, Decline> {
    EventType::new(name).map_err(|error| Decline::Fault(format!("event type {name:?} {error}")))
}

fn schema_version<E: DomainEvent>(name: &str) -> Option<u32> {
    E::KINDS.iter().find(|(kind, _)| *kind == name).map(|(_, version)| *version)
}

impl<A: Aggregate> Instance for TypedInstance<A> {
    fn decide(
        &mut self,
        command: &DecodedCommand,
        context: &DecisionContext<'_>,
    ) -> Result<Vec<DecidedEvent>, Decline> {
        let Some(command) = command.value.downcast_ref::<A::Command>() else {
            return Err(Decline::Fault(format!("{} is no command of {}", command.name, A::TYPE)));
        };
        let events = self.0.decide(command, context).map_err(|rejection| Decline::Refused(rejection.into()))?;
        // Encode all before folding any: a fault must leave the state as it was.
        let mut decided = Vec::with_capacity(events.len());
        for event in &events {
            let name = event.event_type();
            decided.push(DecidedEvent {
                event_type: event_type(name)?,
                schema_version: schema_version::<A::Event>(name)
                    .ok_or_else(|| Decline::Fault(format!("{name} is not among the event kinds of {}", A::TYPE)))?,
                data: event.encode().map_err(|error| Decline::Fault(error.to_string()))?.into(),
            });
        }
        for event in &events {
            self.0.apply(event);
        }
        Ok(decided)
    }

    fn admit(&mut self, name: &EventType, data: &RawValue, _: &Upcasters) -> Result<DecidedEvent, Decline> {
        let schema_version = schema_version::<A::Event>(name.as_str()).ok_or(Decline::UnknownEventType)?;
        let bytes = Bytes::copy_from_slice(data.get().as_bytes());
        let event = A::Event::decode(name.as_str(), &bytes).map_err(|error| {
            Decline::Invalid(match error {
                CodecError::Decode { detail, .. } => {
                    let (pointer, detail) = detail.split_once(": ").unwrap_or(("", &detail));
                    vec![FieldError { pointer: pointer.to_owned(), detail: detail.to_owned() }]
                }
                other => vec![FieldError { pointer: String::new(), detail: other.to_string() }],
            })
        })?;
        self.0.admits(&event).map_err(|rejection| Decline::Refused(rejection.into()))?;
        self.0.apply(&event);
        Ok(DecidedEvent { event_type: name.clone(), schema_version, data: bytes })
    }

    fn fold(&mut self, stored: &RecordedEvent, upcasters: &Upcasters) -> Result<(), CodecError> {
        let name = stored.event_type.as_str();
        let Some(current) = schema_version::<A::Event>(name) else {
            return Err(CodecError::UnknownEventType { event_type: name.to_owned() });
        };
        let event = if stored.schema_version == current {
            A::Event::decode(name, &stored.data)?
        } else if stored.schema_version > current {
            return Err(CodecError::FutureVersion {
                event_type: name.to_owned(),
                stored: stored.schema_version,
                current,
            });
        } else {
            let payload = serde_json::from_slice(&stored.data)
                .map_err(|error| CodecError::Decode { event_type: name.to_owned(), detail: error.to_string() })?;
            let lifted = upcasters.lift(name, stored.schema_version, current, payload)?;
            A::Event::decode(name, &crate::codec::encode(&lifted)?)?
        };
        self.0.apply(&event);
        Ok(())
    }

    fn state(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(&self.0)
    }

    fn duplicate(&self) -> Box<dyn Instance> {
        Box::new(Self(self.0.clone()))
    }
}

impl<A: Aggregate> Model for Typed<A> {
    fn aggregate_type(&self) -> &AggregateType {
        &self.aggregate_type
    }
    fn state_version(&self) -> u16 {
        A::STATE_VERSION
    }
    fn commands(&self) -> &'static [&'static str] {
        A::Command::NAMES
    }
    fn events(&self) -> &'static [(&'static str, u32)] {
        A::Event::KINDS
    }
    fn decode(&self, name: &str, data: &RawValue) -> Result<DecodedCommand, Vec<FieldError>> {
        let command = A::Command::decode(name, data)?;
        Ok(DecodedCommand {
            name: command.name(),
            aggregate_type: self.aggregate_type.clone(),
            value: Arc::new(command),
        })
    }
    fn validate(&self, command: &DecodedCommand, id: &AggregateId) -> Vec<FieldError> {
        let mut check = Violations::new(id);
        if let Some(command) = command.value.downcast_ref::<A::Command>() {
            command.validate(&mut check);
        }
        check.into_errors()
    }
    fn empty(&self) -> Box<dyn Instance> {
        Box::new(TypedInstance(A::default()))
    }
    fn restore(&self, state: &[u8]) -> Result<Box<dyn Instance>, serde_json::Error> {
        serde_json::from_slice::<A>(state).map(|state| Box::new(TypedInstance(state)) as _)
    }
}

/// A stream of events that no aggregate owns: no state, no commands, any payload.
#[derive(Debug)]
struct Generic(AggregateType);

#[derive(Debug)]
struct GenericInstance;

impl Instance for GenericInstance {
    fn decide(&mut self, command: &DecodedCommand, _: &DecisionContext<'_>) -> Result<Vec<DecidedEvent>, Decline> {
        Err(Decline::Fault(format!("a generic stream has no command {}", command.name)))
    }
    fn admit(&mut self, event_type: &EventType, data: &RawValue, _: &Upcasters) -> Result<DecidedEvent, Decline> {
        let data = Bytes::copy_from_slice(data.get().as_bytes());
        Ok(DecidedEvent { event_type: event_type.clone(), schema_version: 1, data })
    }
    fn fold(&mut self, _: &RecordedEvent, _: &Upcasters) -> Result<(), CodecError> {
        Ok(())
    }
    fn state(&self) -> Result<Vec<u8>, serde_json::Error> {
        Ok(b"null".to_vec())
    }
    fn duplicate(&self) -> Box<dyn Instance> {
        Box::new(Self)
    }
}

impl Model for Generic {
    fn aggregate_type(&self) -> &AggregateType {
        &self.0
    }
    fn state_version(&self) -> u16 {
        1
    }
    fn commands(&self) -> &'static [&'static str] {
        &[]
    }
    fn events(&self) -> &'static [(&'static str, u32)] {
        &[]
    }
    fn decode(&self, name: &str, _: &RawValue) -> Result<DecodedCommand, Vec<FieldError>> {
        Err(vec![FieldError { pointer: String::new(), detail: format!("a generic stream has no command {name:?}") }])
    }
    fn validate(&self, _: &DecodedCommand, _: &AggregateId) -> Vec<FieldError> {
        Vec::new()
    }
    fn empty(&self) -> Box<dyn Instance> {
        Box::new(GenericInstance)
    }
    fn restore(&self, _: &[u8]) -> Result<Box<dyn Instance>, serde_json::Error> {
        Ok(self.empty())
    }
}

/// Why aggregates do not fit together; found at start.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// Two aggregates claim one name.
    #[error("{kind} {name:?} belongs to both {first} and {second}; each name may belong to one aggregate")]
    Twice {
        /// `aggregate type`, `command type` or `event type`.
        kind: &'static str,
        /// The name.
        name: String,
        /// Who came first.
        first: String,
        /// Who came second.
        second: String,
    },
    /// A name is no identifier.
    #[error("aggregate type {name:?} {error}")]
    Name {
        /// The name.
        name: &'static str,
        /// What is wrong.
        error: IdError,
    },
    /// A chain of upcasters does not hold.
    #[error(transparent)]
    Upcast(#[from] UpcastError),
}

/// Every aggregate type, command type and event type of a runtime.
#[derive(Debug, Default)]
pub struct Catalog {
    models: BTreeMap<AggregateType, Arc<dyn Model>>,
    commands: HashMap<&'static str, Arc<dyn Model>>,
    events: HashMap<&'static str, Arc<dyn Model>>,
    upcasters: Upcasters,
}

impl Catalog {
    /// Adds an aggregate.
    ///
    /// # Errors
    /// [`CatalogError`] when a name is taken.
    pub fn register<A: Aggregate>(&mut self) -> Result<(), CatalogError> {
        let aggregate_type =
            AggregateType::new(A::TYPE).map_err(|error| CatalogError::Name { name: A::TYPE, error })?;
        let model: Arc<dyn Model> =
            Arc::new(Typed::<A> { aggregate_type: aggregate_type.clone(), aggregate: PhantomData });
        let twice = |kind, name: &str, first: &dyn Model| CatalogError::Twice {
            kind,
            name: name.to_owned(),
            first: first.aggregate_type().to_string(),
            second: A::TYPE.to_owned(),
        };
        if let Some(first) = self.models.get(&aggregate_type) {
            return Err(twice("aggregate type", A::TYPE, &**first));
        }
        for name in model.commands() {
            if let Some(first) = self.commands.insert(name, model.clone()) {
                return Err(twice("command type", name, &*first));
            }
        }
        for (name, _) in model.events() {
            if let Some(first) = self.events.insert(name, model.clone()) {
                return Err(twice("event type", name, &*first));
            }
        }
        self.models.insert(aggregate_type, model);
        Ok(())
    }

    /// The upcasters, to register more.
    pub fn upcasters_mut(&mut self) -> &mut Upcasters {
        &mut self.upcasters
    }

    pub(crate) fn upcasters(&self) -> &Upcasters {
        &self.upcasters
    }

    /// Checks that upcasters lead from every old schema version to the current one.
    ///
    /// # Errors
    /// [`CatalogError::Upcast`].
    pub fn check(&self) -> Result<(), CatalogError> {
        let current: BTreeMap<&str, u32> =
            self.models.values().flat_map(|model| model.events().iter().copied()).collect();
        Ok(self.upcasters.check(&current)?)
    }

    /// All aggregate types, each with its command types and its event types.
    pub fn entries(
        &self,
    ) -> impl Iterator<Item = (&AggregateType, &'static [&'static str], &'static [(&'static str, u32)])> {
        self.models.iter().map(|(kind, model)| (kind, model.commands(), model.events()))
    }

    /// The aggregate type that owns an event type.
    #[must_use]
    pub fn owner_of_event(&self, event_type: &str) -> Option<&AggregateType> {
        self.events.get(event_type).map(|model| model.aggregate_type())
    }

    /// Whether an aggregate type is an aggregate's (else a stream of that type is generic).
    #[must_use]
    pub fn owns(&self, aggregate_type: &AggregateType) -> bool {
        self.models.contains_key(aggregate_type)
    }

    /// The name as a constant, if some aggregate has this command type.
    #[must_use]
    pub fn known_command(&self, name: &str) -> Option<&'static str> {
        self.commands.get_key_value(name).map(|(name, _)| *name)
    }

    /// Decodes a command by its name.
    ///
    /// # Errors
    /// [`CommandError::UnknownCommandType`] with near names, or [`CommandError::Invalid`].
    pub fn decode_command(&self, name: &str, data: &RawValue) -> Result<DecodedCommand, CommandError> {
        let Some(model) = self.commands.get(name) else {
            return Err(CommandError::UnknownCommandType {
                command_type: name.to_owned(),
                nearest: nearest(name, self.commands.keys().copied()),
            });
        };
        model.decode(name, data).map_err(|errors| CommandError::Invalid { errors })
    }

    /// Wraps a typed command.
    #[must_use]
    pub fn typed_command<A: Aggregate>(&self, command: A::Command) -> Option<DecodedCommand> {
        let model = self.models.get(A::TYPE)?;
        let value: Arc<dyn Any + Send + Sync> = Arc::new(command);
        let name = value.downcast_ref::<A::Command>()?.name();
        Some(DecodedCommand { name, aggregate_type: model.aggregate_type().clone(), value })
    }

    pub(crate) fn validate(&self, command: &DecodedCommand, id: &AggregateId) -> Vec<FieldError> {
        self.models.get(&command.aggregate_type).map(|model| model.validate(command, id)).unwrap_or_default()
    }

    /// The model of an aggregate type; streams of a type that nobody owns are generic.
    pub(crate) fn model(&self, aggregate_type: &AggregateType) -> Arc<dyn Model> {
        match self.models.get(aggregate_type) {
            Some(model) => model.clone(),
            None => Arc::new(Generic(aggregate_type.clone())),
        }
    }

    pub(crate) fn nearest_event(&self, name: &str) -> Vec<String> {
        nearest(name, self.events.keys().copied())
    }
}

/// Up to three known names that resemble one, nearest first.
#[must_use]
pub fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Vec<String> {
    let lower = name.to_lowercase();
    let mut ranked: Vec<(f64, &str)> = known
        .map(|candidate| (strsim::jaro_winkler(&lower, &candidate.to_lowercase()), candidate))
        .filter(|(likeness, _)| *likeness > 0.75)
        .collect();
    ranked.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
    ranked.into_iter().take(3).map(|(_, name)| name.to_owned()).collect()
}
