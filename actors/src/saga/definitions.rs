//! The sagas of a runtime by name and version, behind one face.

use std::{
    collections::{BTreeMap, BTreeSet},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::{Reaction, Route, Saga, SagaError, SagaInput, SagaRecord};
use crate::{aggregate::FieldError, catalog::nearest, id::EventType, projection::ProjectedEvent, schema::SchemaOf};

/// A saga whose state is JSON.
pub(crate) trait AnySaga: std::fmt::Debug + Send + Sync {
    fn name(&self) -> &str;
    fn version(&self) -> u32;
    fn check(&self, data: &Value) -> Vec<FieldError>;
    fn data_schema(&self) -> Option<SchemaOf>;
    fn timeout(&self) -> Option<Duration>;
    fn interest(&self) -> Vec<EventType>;
    fn route(&self, event: &ProjectedEvent<'_>) -> Result<Vec<Route>, SagaError>;
    fn steps(&self, saga: &SagaRecord) -> Vec<String>;
    /// The state after it, and what to do.
    fn react(
        &self,
        input: &SagaInput,
        saga: &SagaRecord,
        now: DateTime<Utc>,
    ) -> Result<(Value, Vec<Reaction>), SagaError>;
    fn migrate(&self, from_version: u32, state: Value) -> Result<Value, SagaError>;
}

#[derive(Debug)]
struct Erased<S>(S);

impl<S: Saga> Erased<S> {
    fn state(&self, state: &Value) -> Result<S::State, SagaError> {
        if state.is_null() {
            return Ok(S::State::default());
        }
        serde_json::from_value(state.clone())
            .map_err(|error| SagaError::new(format!("the state of {:?} cannot be read: {error}", self.0.name())))
    }

    fn json(&self, state: &S::State) -> Result<Value, SagaError> {
        serde_json::to_value(state)
            .map_err(|error| SagaError::new(format!("the state of {:?} has no JSON form: {error}", self.0.name())))
    }
}

impl<S: Saga> AnySaga for Erased<S> {
    fn name(&self) -> &str {
        self.0.name()
    }
    fn version(&self) -> u32 {
        self.0.version()
    }
    fn check(&self, data: &Value) -> Vec<FieldError> {
        self.0.check(data)
    }
    fn data_schema(&self) -> Option<SchemaOf> {
        self.0.data_schema()
    }
    fn timeout(&self) -> Option<Duration> {
        self.0.timeout()
    }
    fn interest(&self) -> Vec<EventType> {
        self.0.interest()
    }
    fn route(&self, event: &ProjectedEvent<'_>) -> Result<Vec<Route>, SagaError> {
        self.0.route(event)
    }
    fn steps(&self, saga: &SagaRecord) -> Vec<String> {
        catch_unwind(AssertUnwindSafe(|| self.0.steps(saga))).unwrap_or_default()
    }
    fn react(
        &self,
        input: &SagaInput,
        saga: &SagaRecord,
        now: DateTime<Utc>,
    ) -> Result<(Value, Vec<Reaction>), SagaError> {
        let mut state = self.state(&saga.state)?;
        let reactions = catch_unwind(AssertUnwindSafe(|| self.0.react(&mut state, input, saga, now)))
            .unwrap_or_else(|_| Err(SagaError::new(format!("the code of {:?} panicked", self.0.name()))))?;
        Ok((self.json(&state)?, reactions))
    }
    fn migrate(&self, from_version: u32, state: Value) -> Result<Value, SagaError> {
        self.json(&self.0.migrate(from_version, state)?)
    }
}

/// Two sagas have one name and version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("two sagas are called {name:?} in version {version}; raise the version of the newer one")]
pub struct SagaTwice {
    /// The name.
    pub name: String,
    /// The version.
    pub version: u32,
}

/// Every saga of a runtime; each in one or several versions, of which the newest starts new instances.
#[derive(Debug, Clone, Default)]
pub struct SagaDefinitions {
    by_name: BTreeMap<String, BTreeMap<u32, Arc<dyn AnySaga>>>,
}

/// Which definition an instance goes on with.
#[derive(Debug)]
pub(crate) enum Resolved {
    /// Its own.
    Exact(Arc<dyn AnySaga>),
    /// A newer one, if that says how.
    Newer(Arc<dyn AnySaga>),
    /// None here: the instance belongs to newer code, or to other processes.
    Foreign,
}

impl SagaDefinitions {
    /// Adds a saga.
    ///
    /// # Errors
    /// [`SagaTwice`].
    pub fn register(&mut self, saga: impl Saga) -> Result<(), SagaTwice> {
        let saga: Arc<dyn AnySaga> = Arc::new(Erased(saga));
        let (name, version) = (saga.name().to_owned(), saga.version());
        let versions = self.by_name.entry(name.clone()).or_default();
        match versions.insert(version, saga) {
            None => Ok(()),
            Some(first) => {
                versions.insert(version, first);
                Err(SagaTwice { name, version })
            }
        }
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// The names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(String::as_str)
    }

    /// Known names close to one, nearest first.
    #[must_use]
    pub fn nearest(&self, name: &str) -> Vec<String> {
        nearest(name, self.names())
    }

    /// The schema of what a saga's newest version is started with; none if there is no such saga or it shows none.
    #[must_use]
    pub fn data_schema(&self, name: &str) -> Option<SchemaOf> {
        self.newest(name)?.data_schema()
    }

    /// What new instances of a saga are started with.
    pub(crate) fn newest(&self, name: &str) -> Option<&Arc<dyn AnySaga>> {
        self.by_name.get(name)?.values().next_back()
    }

    /// The newest version of each.
    pub(crate) fn all_newest(&self) -> impl Iterator<Item = &Arc<dyn AnySaga>> {
        self.by_name.values().filter_map(|versions| versions.values().next_back())
    }

    /// Every event type that some saga wants to see.
    pub(crate) fn interests(&self) -> BTreeSet<EventType> {
        self.all_newest().flat_map(|saga| saga.interest()).collect()
    }

    pub(crate) fn resolve(&self, name: &str, version: u32) -> Resolved {
        let Some(versions) = self.by_name.get(name) else { return Resolved::Foreign };
        if let Some(exact) = versions.get(&version) {
            return Resolved::Exact(exact.clone());
        }
        match versions.range(version..).next_back() {
            Some((_, newest)) => Resolved::Newer(newest.clone()),
            None => Resolved::Foreign,
        }
    }

    /// The names of an instance's steps in order: those its definition tells, and what has begun beside them.
    #[must_use]
    pub fn steps_of(&self, saga: &SagaRecord) -> Vec<String> {
        let mut names = match self.resolve(&saga.saga_type, saga.definition_version) {
            Resolved::Exact(definition) | Resolved::Newer(definition) => definition.steps(saga),
            Resolved::Foreign => Vec::new(),
        };
        for step in &saga.steps {
            if !names.contains(&step.name) {
                names.push(step.name.clone());
            }
        }
        names
    }
}
