//! What an embedder says about sagas.

use std::sync::Arc;

use super::RuntimeBuilder;
use crate::saga::{Saga, SagaDefinitions, SagaTwice};

impl RuntimeBuilder {
    /// Adds a saga.
    ///
    /// # Errors
    /// [`SagaTwice`] when there is one of this name and version.
    pub fn saga(mut self, saga: impl Saga) -> Result<Self, SagaTwice> {
        Arc::make_mut(&mut self.sagas.definitions).register(saga)?;
        Ok(self)
    }

    /// Takes sagas collected elsewhere instead of those added so far.
    #[must_use]
    pub fn sagas(mut self, definitions: SagaDefinitions) -> Self {
        self.sagas.definitions = Arc::new(definitions);
        self
    }

    /// Whether this process works on sagas (the default, where it also moves projections), or only looks on.
    #[must_use]
    pub fn work_on_sagas(mut self, works: bool) -> Self {
        self.sagas.is_onlooker = !works;
        self
    }
}
