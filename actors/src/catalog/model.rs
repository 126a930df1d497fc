//! One face ([`Model`], [`Instance`]) for every aggregate type and for generic streams, so that one concrete actor
//! serves them all.

use std::{collections::BTreeMap, fmt::Debug, marker::PhantomData, sync::Arc};

use bytes::Bytes;
use serde_json::value::RawValue;

use crate::{
    aggregate::{Aggregate, Command, DecisionContext, DomainEvent, FieldError, Refusal, Rejection, Violations},
    codec::CodecError,
    command_bus::DecodedCommand,
    envelope::RecordedEvent,
    id::{AggregateId, AggregateType, EventType, IdError},
    personal::{Personal, SUBJECT_ERASED},
    saga::SagaRecord,
    schema::SchemaOf,
    upcast::Upcasters,
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
    fn admit(&mut self, id: &AggregateId, event_type: &EventType, data: &RawValue) -> Result<DecidedEvent, Decline>;
    /// Folds a stored event in.
    fn fold(&mut self, event: &RecordedEvent, upcasters: &Upcasters) -> Result<(), CodecError>;
    /// The state as JSON.
    fn state(&self) -> Result<Vec<u8>, serde_json::Error>;
    /// What is known of a saga, if this is one.
    fn saga(&self) -> Option<Arc<SagaRecord>> {
        None
    }
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
    fn command_schema(&self, _name: &str) -> Option<SchemaOf> {
        None
    }
    fn event_schema(&self, _event_type: &str) -> Option<SchemaOf> {
        None
    }
    fn state_schema(&self) -> Option<SchemaOf> {
        None
    }
    fn decode(&self, name: &str, data: &RawValue) -> Result<DecodedCommand, Vec<FieldError>>;
    fn validate(&self, command: &DecodedCommand, id: &AggregateId) -> Vec<FieldError>;
    /// Which members of which of its events tell of a person.
    fn personal(&self) -> &'static [Personal] {
        &[]
    }
    fn empty(&self) -> Box<dyn Instance>;
    fn restore(&self, state: &[u8]) -> Result<Box<dyn Instance>, serde_json::Error>;
}

/// An aggregate of some domain.
#[derive(Debug)]
pub(super) struct Typed<A> {
    aggregate_type: AggregateType,
    kinds: Kinds,
    aggregate: PhantomData<fn() -> A>,
}

/// The event types of an aggregate with their schema versions, made once.
type Kinds = Arc<[(EventType, u32)]>;

#[derive(Debug)]
struct TypedInstance<A> {
    state: A,
    kinds: Kinds,
}

impl<A: Aggregate> Typed<A> {
    pub fn new(aggregate_type: AggregateType) -> Result<Self, IdError> {
        let kinds = A::Event::KINDS.iter().map(|(name, version)| EventType::new(name).map(|kind| (kind, *version)));
        Ok(Self { aggregate_type, kinds: kinds.collect::<Result<_, _>>()?, aggregate: PhantomData })
    }

    fn instance(&self, state: A) -> Box<dyn Instance> {
        Box::new(TypedInstance { state, kinds: self.kinds.clone() })
    }
}

/// Refuses an event whose id member names another stream: readers of the log would count it there.
fn names_own_stream(member: &str, id: &AggregateId, data: &RawValue) -> Result<(), Decline> {
    let members: BTreeMap<String, &RawValue> = serde_json::from_str(data.get()).unwrap_or_default();
    let Some(claimed) = members.get(member) else { return Ok(()) };
    if serde_json::from_str::<String>(claimed.get()).is_ok_and(|claimed| claimed == id.as_str()) {
        return Ok(());
    }
    let detail = format!("must equal the aggregate_id {:?}", id.as_str());
    Err(Decline::Invalid(vec![FieldError { pointer: format!("/{member}"), detail }]))
}

impl<A> TypedInstance<A> {
    /// An event type as a shared name, and its current schema version.
    fn kind(&self, name: &str) -> Option<&(EventType, u32)> {
        self.kinds.iter().find(|(kind, _)| kind.as_str() == name)
    }
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
        let events = self.state.decide(command, context).map_err(|rejection| Decline::Refused(rejection.into()))?;
        // Encode all before folding any: a fault must leave the state as it was.
        let mut decided = Vec::with_capacity(events.len());
        for event in &events {
            let name = event.event_type();
            let (event_type, schema_version) = self
                .kind(name)
                .ok_or_else(|| Decline::Fault(format!("{name} is not among the event kinds of {}", A::TYPE)))?;
            decided.push(DecidedEvent {
                event_type: event_type.clone(),
                schema_version: *schema_version,
                data: event.encode().map_err(|error| Decline::Fault(error.to_string()))?.into(),
            });
        }
        for event in &events {
            self.state.apply(event);
        }
        Ok(decided)
    }

    fn admit(&mut self, id: &AggregateId, name: &EventType, data: &RawValue) -> Result<DecidedEvent, Decline> {
        let schema_version = self.kind(name.as_str()).ok_or(Decline::UnknownEventType)?.1;
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
        if let Some(member) = A::ID_MEMBER {
            names_own_stream(member, id, data)?;
        }
        self.state.admits(&event).map_err(|rejection| match rejection.field() {
            Some(field) => Decline::Invalid(vec![field.clone()]),
            None => Decline::Refused(rejection.into()),
        })?;
        self.state.apply(&event);
        Ok(DecidedEvent { event_type: name.clone(), schema_version, data: bytes })
    }

    fn fold(&mut self, stored: &RecordedEvent, upcasters: &Upcasters) -> Result<(), CodecError> {
        let name = stored.event_type.as_str();
        if name == SUBJECT_ERASED {
            // The events before it read as tombstones; nothing else has changed.
            return Ok(());
        }
        let Some(current) = self.kind(name).map(|(_, version)| *version) else {
            return Err(CodecError::UnknownEventType { event_type: name.to_owned() });
        };
        let event = A::Event::decode(name, &upcasters.current(stored, current)?)?;
        self.state.apply(&event);
        Ok(())
    }

    fn state(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(&self.state)
    }

    fn duplicate(&self) -> Box<dyn Instance> {
        Box::new(Self { state: self.state.clone(), kinds: self.kinds.clone() })
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
    fn command_schema(&self, name: &str) -> Option<SchemaOf> {
        A::Command::schema(name)
    }
    fn event_schema(&self, event_type: &str) -> Option<SchemaOf> {
        A::Event::schema(event_type)
    }
    fn state_schema(&self) -> Option<SchemaOf> {
        A::state_schema()
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
    fn personal(&self) -> &'static [Personal] {
        A::Event::PERSONAL
    }
    fn empty(&self) -> Box<dyn Instance> {
        self.instance(A::default())
    }
    fn restore(&self, state: &[u8]) -> Result<Box<dyn Instance>, serde_json::Error> {
        serde_json::from_slice::<A>(state).map(|state| self.instance(state))
    }
}

/// A stream of events that no aggregate owns: no state, no commands, any payload.
#[derive(Debug)]
pub(super) struct Generic(pub AggregateType);

#[derive(Debug)]
struct GenericInstance;

impl Instance for GenericInstance {
    fn decide(&mut self, command: &DecodedCommand, _: &DecisionContext<'_>) -> Result<Vec<DecidedEvent>, Decline> {
        Err(Decline::Fault(format!("a generic stream has no command {}", command.name)))
    }
    fn admit(&mut self, _: &AggregateId, event_type: &EventType, data: &RawValue) -> Result<DecidedEvent, Decline> {
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
