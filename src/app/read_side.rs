//! What an app keeps and answers beside its aggregates: read models and query types, as the settings say.

use std::{sync::Arc, time::Duration};

use event_sourcing_actors::{
    RuntimeBuilder,
    catalog::Catalog,
    limits::ProjectionLimits,
    ports::OperationsKept,
    projection::Projection,
    query::{QueryCatalog, QueryType},
};

use super::AppError;
use crate::{
    projections::{self, Known},
    queries,
    settings::Settings,
};

/// What was registered with the builder.
#[derive(Debug, Clone, Default)]
pub(super) struct ReadSide {
    pub projections: Vec<Arc<dyn Projection>>,
    pub queries: Vec<QueryType>,
    pub has_built_in: bool,
}

impl ReadSide {
    /// Everything that is kept under these settings: the built-in and registered read models, and the declared ones.
    pub fn resolve(&self, settings: &Settings, catalog: &Catalog) -> Result<Resolved, AppError> {
        let mut kept = if self.has_built_in { projections::all() } else { Vec::new() };
        kept.extend(self.projections.iter().cloned());
        let mut types = QueryCatalog::default();
        if self.has_built_in {
            queries::register(&mut types)?;
        }
        self.queries.iter().try_for_each(|query| types.register(query.clone()))?;
        let declared = {
            let names: Vec<&str> = kept.iter().map(|projection| projection.name()).collect();
            let event_types: Vec<&str> =
                catalog.entries().flat_map(|(_, _, events)| events.iter().map(|(name, _)| *name)).collect();
            let place = |pointer: &str| settings.declaration_place(pointer);
            let known = Known { projections: &names, event_types: &event_types, place: &place };
            projections::declared::declare(&settings.projections.declarations, known)?
        };
        for projection in declared {
            queries::register_declared(&mut types, projection.name())?;
            kept.push(projection);
        }
        projections::check_names(settings.projections.definitions.keys().map(String::as_str), &kept)?;
        queries::check_names(settings.queries.types.keys().map(String::as_str), &types)?;
        kept.retain(|projection| settings.projections.is_enabled(projection.name()));
        let mut enabled = QueryCatalog::default();
        for query in types.iter().filter(|query| kept.iter().any(|kept| kept.name() == query.projection)) {
            enabled.register(query.clone())?;
        }
        Ok(Resolved { projections: kept, queries: enabled })
    }
}

/// What an app keeps and answers.
#[derive(Debug)]
pub(super) struct Resolved {
    projections: Vec<Arc<dyn Projection>>,
    queries: QueryCatalog,
}

impl Resolved {
    /// The query types.
    pub fn queries(self) -> QueryCatalog {
        self.queries
    }

    /// Hands it to the runtime, with its bounds.
    pub fn into_builder(self, mut builder: RuntimeBuilder, settings: &Settings) -> RuntimeBuilder {
        let common = projection_limits(settings);
        for projection in &self.projections {
            let name = projection.name();
            let batch = u32::try_from(settings.projections.batch_events_max_of(name)).unwrap_or(u32::MAX);
            let own = ProjectionLimits { batch_events_max: batch, rebuild_batch_events_max: batch, ..common.clone() };
            builder = builder.projection_limits(name, own);
        }
        builder.projections(self.projections).query_catalog(self.queries).query_limits(settings.query_limits())
    }
}

fn projection_limits(settings: &Settings) -> ProjectionLimits {
    let projections = &settings.projections;
    ProjectionLimits {
        apply_attempts: projections.apply_attempts,
        rows_remembered_max: projections.rows_in_memory_max,
        lease: Duration::from_millis(projections.lease_ms),
        change_retention: Duration::from_secs(projections.changes_retention_s),
        operations: OperationsKept {
            age: Duration::from_secs(u64::from(projections.operations_retention_days) * 86_400),
            newest_max: projections.operations_kept_max,
        },
        ..ProjectionLimits::default()
    }
}
