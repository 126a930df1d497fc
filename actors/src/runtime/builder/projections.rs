//! What an embedder says about projections.

use std::sync::Arc;

use super::RuntimeBuilder;
use crate::{limits::ProjectionLimits, ports::ViewStore, projection::Projection};

impl RuntimeBuilder {
    /// Adds a projection.
    #[must_use]
    pub fn projection(mut self, projection: impl Projection) -> Self {
        self.projections.projections.push(Arc::new(projection));
        self
    }

    /// Adds projections made elsewhere.
    #[must_use]
    pub fn projections(mut self, projections: Vec<Arc<dyn Projection>>) -> Self {
        self.projections.projections.extend(projections);
        self
    }

    /// Sets where read models lie; in memory unless it is called.
    #[must_use]
    pub fn views(mut self, views: Arc<dyn ViewStore>) -> Self {
        self.projections.views = Some(views);
        self
    }

    /// Whether this process moves projections (the default), or only reads what others move.
    #[must_use]
    pub fn follow(mut self, follows: bool) -> Self {
        self.projections.is_reader = !follows;
        self
    }

    /// Whether this process begins a rebuild by itself where another version wrote a projection's rows (the default), or
    /// leaves such a projection to others: for a process that only wants to look.
    #[must_use]
    pub fn upgrade(mut self, upgrades: bool) -> Self {
        self.projections.is_guest = !upgrades;
        self
    }

    /// Sets the bounds of one projection; the others have [`Limits::projection`](crate::Limits::projection).
    #[must_use]
    pub fn projection_limits(mut self, name: impl Into<String>, limits: ProjectionLimits) -> Self {
        self.projections.own_limits.insert(name.into(), limits);
        self
    }
}
