//! The catalog: every aggregate of a runtime by name.

mod model;

use std::{
    any::Any,
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use bytes::Bytes;
use serde_json::value::RawValue;

pub(crate) use model::{DecidedEvent, Decline, Instance, Model};

use crate::{
    aggregate::{Aggregate, Command, FieldError},
    codec::CodecError,
    command_bus::DecodedCommand,
    envelope::RecordedEvent,
    error::CommandError,
    id::{AggregateId, AggregateType, EventType, IdError},
    personal::SUBJECT_ERASED,
    saga::{SAGA_TYPE, SagaDefinitions, SagaModel},
    schema::SchemaOf,
    upcast::{UpcastError, Upcasters},
};
use model::{Generic, Typed};

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
    /// The aggregate's name, or that of one of its events, is no identifier.
    #[error("a name of aggregate {name:?} {error}")]
    Name {
        /// The name.
        name: &'static str,
        /// What is wrong.
        error: IdError,
    },
    /// An aggregate claims an event type that the runtime writes.
    #[error("event type {name:?} is written by the runtime: {aggregate_type} must not own it")]
    Reserved {
        /// The event type.
        name: &'static str,
        /// Who claims it.
        aggregate_type: String,
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
    personal: HashMap<&'static str, &'static [&'static str]>,
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
            Arc::new(Typed::<A>::new(aggregate_type).map_err(|error| CatalogError::Name { name: A::TYPE, error })?);
        self.add(model)
    }

    /// Adds the streams of sagas, as the start of a runtime does: for documents that are made without one.
    ///
    /// # Errors
    /// [`CatalogError`] when a name is taken.
    pub fn register_saga_streams(&mut self, definitions: &SagaDefinitions) -> Result<(), CatalogError> {
        self.register_sagas(Arc::new(definitions.clone()))
    }

    /// Adds the streams of sagas.
    pub(crate) fn register_sagas(&mut self, definitions: Arc<SagaDefinitions>) -> Result<(), CatalogError> {
        let model = SagaModel::new(definitions).map_err(|error| CatalogError::Name { name: SAGA_TYPE, error })?;
        self.add(Arc::new(model))
    }

    fn add(&mut self, model: Arc<dyn Model>) -> Result<(), CatalogError> {
        let aggregate_type = model.aggregate_type().clone();
        let twice = |kind, name: &str, first: &dyn Model| CatalogError::Twice {
            kind,
            name: name.to_owned(),
            first: first.aggregate_type().to_string(),
            second: aggregate_type.to_string(),
        };
        if let Some(first) = self.models.get(&aggregate_type) {
            return Err(twice("aggregate type", aggregate_type.as_str(), &**first));
        }
        for name in model.commands() {
            if let Some(first) = self.commands.insert(name, model.clone()) {
                return Err(twice("command type", name, &*first));
            }
        }
        if let Some((name, _)) = model.events().iter().find(|(name, _)| *name == SUBJECT_ERASED) {
            return Err(CatalogError::Reserved { name, aggregate_type: aggregate_type.to_string() });
        }
        for (name, _) in model.events() {
            if let Some(first) = self.events.insert(name, model.clone()) {
                return Err(twice("event type", name, &*first));
            }
        }
        self.personal.extend(model.personal().iter().map(|personal| (personal.event_type, personal.members)));
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

    /// The schema of a command type's members; none if there is no such type or it shows none.
    #[must_use]
    pub fn command_schema(&self, command_type: &str) -> Option<SchemaOf> {
        self.commands.get(command_type)?.command_schema(command_type)
    }

    /// The schema of an event type's members; none if nobody owns it or it shows none.
    #[must_use]
    pub fn event_schema(&self, event_type: &str) -> Option<SchemaOf> {
        self.events.get(event_type)?.event_schema(event_type)
    }

    /// The schema of an aggregate type's state; none if nobody owns it or it shows none.
    #[must_use]
    pub fn state_schema(&self, aggregate_type: &AggregateType) -> Option<SchemaOf> {
        self.models.get(aggregate_type)?.state_schema()
    }

    /// The aggregate type that owns an event type.
    #[must_use]
    pub fn owner_of_event(&self, event_type: &str) -> Option<&AggregateType> {
        self.events.get(event_type).map(|model| model.aggregate_type())
    }

    /// A stored payload in the shape its owner knows today; events that nobody owns come as they are.
    ///
    /// # Errors
    /// [`CodecError`] when it cannot be lifted.
    pub fn current_data(&self, event: &RecordedEvent) -> Result<Bytes, CodecError> {
        let kinds = self.events.get(event.event_type.as_str()).map_or(&[][..], |model| model.events());
        match kinds.iter().find(|(name, _)| *name == event.event_type.as_str()) {
            Some((_, current)) => self.upcasters.current(event, *current),
            None => Ok(event.payload().clone()),
        }
    }

    /// The personal members of an event type, as JSON pointers into its payload; `None` if it has none.
    #[must_use]
    pub fn personal(&self, event_type: &EventType) -> Option<&'static [&'static str]> {
        // Most runtimes ask this of every event, and have nothing to look up.
        if self.personal.is_empty() { None } else { self.personal.get(event_type.as_str()).copied() }
    }

    /// Whether some event type has personal members.
    #[must_use]
    pub fn has_personal(&self) -> bool {
        !self.personal.is_empty()
    }

    /// Whether some event type of this aggregate type has personal members.
    #[must_use]
    pub fn is_about_people(&self, aggregate_type: &AggregateType) -> bool {
        self.models.get(aggregate_type).is_some_and(|model| !model.personal().is_empty())
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
    ranked.dedup_by(|a, b| a.1 == b.1);
    ranked.into_iter().take(3).map(|(_, name)| name.to_owned()).collect()
}
