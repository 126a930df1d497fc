//! What an app keeps and answers beside its aggregates: read models and query types, as the settings say.

use std::{sync::Arc, time::Duration};

use event_sourcing_actors::{
    RuntimeBuilder,
    catalog::{Catalog, nearest},
    limits::ProjectionLimits,
    projection::Projection,
    query::{QueryCatalog, QueryType},
    query_bus::{Consistency, QueryLimits},
};

use super::AppError;
use crate::{
    projections::{self, Known},
    queries,
    settings::{self, Settings},
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
        let names: Vec<&str> = kept.iter().map(|projection| projection.name()).collect();
        let defined = settings.projections.definitions.keys().map(|name| ("projections.definitions", name));
        unknown(defined, &names)?;
        let asked = settings.queries.types.keys().map(|name| ("queries.types", name));
        unknown(asked, &types.names().collect::<Vec<_>>())?;
        kept.retain(|projection| settings.projections.is_enabled(projection.name()));
        let mut enabled = QueryCatalog::default();
        for query in types.iter().filter(|query| kept.iter().any(|kept| kept.name() == query.projection)) {
            enabled.register(query.clone())?;
        }
        Ok(Resolved { projections: kept, queries: enabled })
    }
}

/// A name in the settings that nothing has.
fn unknown<'a>(named: impl Iterator<Item = (&'static str, &'a String)>, known: &[&str]) -> Result<(), AppError> {
    for (section, name) in named {
        if !known.contains(&name.as_str()) {
            let nearest = nearest(name, known.iter().copied());
            return Err(AppError::UnknownName { section, name: name.clone(), nearest });
        }
    }
    Ok(())
}

/// What an app keeps and answers.
#[derive(Debug)]
pub(super) struct Resolved {
    projections: Vec<Arc<dyn Projection>>,
    queries: QueryCatalog,
}

impl Resolved {
    /// Hands it to the runtime, with its bounds.
    pub fn into_builder(self, mut builder: RuntimeBuilder, settings: &Settings) -> RuntimeBuilder {
        let common = projection_limits(settings);
        for projection in &self.projections {
            let name = projection.name();
            let batch = u32::try_from(settings.projections.batch_events_max_of(name)).unwrap_or(u32::MAX);
            builder = builder.projection_limits(name, ProjectionLimits { batch_events_max: batch, ..common.clone() });
        }
        let limits = query_limits(settings, &self.projections);
        builder.projections(self.projections).query_catalog(self.queries).query_limits(limits)
    }
}

fn projection_limits(settings: &Settings) -> ProjectionLimits {
    let projections = &settings.projections;
    ProjectionLimits {
        apply_attempts: projections.apply_attempts,
        rows_remembered_max: projections.rows_in_memory_max,
        lease: Duration::from_millis(projections.lease_ms),
        change_retention: Duration::from_secs(projections.changes_retention_s),
        ..ProjectionLimits::default()
    }
}

fn query_limits(settings: &Settings, kept: &[Arc<dyn Projection>]) -> QueryLimits {
    let queries = &settings.queries;
    let own = queries.types.iter().filter_map(|(name, own)| Some((name.clone(), own.timeout_ms?)));
    let consistency = |projection: &Arc<dyn Projection>| {
        let consistency = match settings.projections.consistency_of(projection.name()) {
            settings::Consistency::Latest => Consistency::Latest,
            settings::Consistency::Eventual => Consistency::Eventual,
        };
        (projection.name().to_owned(), consistency)
    };
    QueryLimits {
        in_flight_max: queries.in_flight_max,
        deadline: Duration::from_millis(queries.timeout_ms),
        deadlines: own.map(|(name, ms)| (name, Duration::from_millis(ms))).collect(),
        wait_max: Duration::from_millis(queries.wait_max_ms),
        latest_wait: Duration::from_millis(queries.latest_wait_ms),
        consistency: kept.iter().map(consistency).collect(),
        cache_ttl: Duration::from_secs(settings.cache.ttl_s),
    }
}
