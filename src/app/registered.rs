//! What an app would have, without opening anything: for documents about it.

use event_sourcing_actors::{catalog::Catalog, query::QueryCatalog, saga::SagaDefinitions};

use super::{AppBuilder, AppError, policies};
use crate::sagas;

/// Aggregates, query types and sagas of an app.
#[derive(Debug)]
pub struct Registered {
    /// Aggregates with their commands and events.
    pub catalog: Catalog,
    /// Query types, also those of declared projections.
    pub queries: QueryCatalog,
    /// Sagas.
    pub sagas: SagaDefinitions,
}

impl AppBuilder {
    /// What [`start`](Self::start) would register, without opening anything.
    ///
    /// # Errors
    /// [`AppError`]; its sentence says what to change.
    pub fn registered(self) -> Result<Registered, AppError> {
        self.check()?;
        let (mut catalog, mut sagas) = (self.catalog?, self.sagas);
        if self.read_side.has_built_in {
            sagas::register(&mut sagas, &policies(&self.settings))?;
        }
        let queries = self.read_side.resolve(&self.settings, &catalog)?.queries();
        catalog.register_saga_streams(&sagas)?;
        Ok(Registered { catalog, queries, sagas })
    }
}
