//! What an embedder says about branches, and what a branch says about itself.

use std::sync::Arc;

use super::RuntimeBuilder;
use crate::{
    branches::{BranchPart, Recipe},
    ports::{BranchStore, EventStore},
    projection::Projection,
    pubsub::Publisher,
    saga::SagaDefinitions,
};

impl RuntimeBuilder {
    /// Sets where branches are kept, usually the event store itself; without, there are none.
    #[must_use]
    pub fn branches(mut self, branches: Arc<dyn BranchStore>) -> Self {
        self.branches = Some(branches);
        self
    }

    /// The timeline is a branch, with these sagas.
    pub(crate) fn on_branch(mut self, definitions: Arc<SagaDefinitions>, part: BranchPart) -> Self {
        self.sagas.definitions = definitions;
        self.sagas.is_branch = true;
        self.branch = Some(part);
        self
    }

    /// What projections follow, and those whose rows can be made on the spot.
    pub(super) fn timeline(&self, store: &Arc<dyn EventStore>) -> (Arc<dyn EventStore>, &[Arc<dyn Projection>]) {
        match &self.branch {
            Some(branch) => (branch.since_fork.clone(), &branch.past),
            None => (store.clone(), &self.projections.projections),
        }
    }

    /// What the runtimes of branches are made of; none where no branches are kept.
    pub(super) fn recipe(&self, publisher: &Publisher) -> Option<Recipe> {
        Some(Recipe {
            own: self.branches.clone()?,
            keys: self.keys.clone(),
            is_sealed: self.is_sealed,
            store: self.store.clone(),
            snapshots: self.snapshots.clone(),
            catalog: self.catalog.clone(),
            definitions: self.sagas.definitions.clone(),
            limits: self.limits.clone(),
            clock: self.clock.clone(),
            traces: self.traces.clone(),
            authorizer: self.authorizer.clone(),
            middleware: self.middleware.clone(),
            snapshot_frequency: self.snapshot_frequency.clone(),
            projections: self.projections.projections.clone(),
            queries: self.queries.catalog.clone(),
            query_authorizer: self.queries.authorizer.clone(),
            query_middleware: self.queries.middleware.clone(),
            query_limits: self.queries.limits.clone(),
            publisher: publisher.clone(),
            metrics: self.metrics.branches.clone(),
        })
    }
}
