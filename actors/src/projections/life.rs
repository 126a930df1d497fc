//! How the projections of a runtime begin and end.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use ractor::{Actor, ActorRef};
use tokio::sync::Notify;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::Projections;
use crate::{
    freshness::Freshness,
    limits::ProjectionLimits,
    memory::MemoryStore,
    ports::{EventStore, ViewStore},
    projection::Projection,
    projection_actor::{Audience, Board, ProjectionContext},
    projection_supervisor::{ProjectionSupervisor, ProjectionSupervisorArguments, ProjectionSupervisorMessage},
    pubsub::Publisher,
    registry::WriteSide,
};

/// Bytes of a projection's name.
const NAME_BYTES_MAX: usize = 255;

/// What the builder is told of projections.
#[derive(Debug, Default)]
pub(crate) struct ProjectionsSetup {
    pub projections: Vec<Arc<dyn Projection>>,
    pub own_limits: BTreeMap<String, ProjectionLimits>,
    /// Who hears what the owner of one does, by name.
    pub audiences: BTreeMap<String, Arc<dyn Audience>>,
    /// This process only reads what others move.
    pub is_reader: bool,
    /// This process leaves rows of another version alone.
    pub is_guest: bool,
    /// In memory, if there is none.
    pub views: Option<Arc<dyn ViewStore>>,
}

/// The running projections of a runtime.
#[derive(Debug)]
pub(crate) struct ProjectionsLife {
    pub handle: Projections,
    pub freshness: Freshness,
    supervisor: Option<ActorRef<ProjectionSupervisorMessage>>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

/// Why they do not begin.
#[derive(Debug, thiserror::Error)]
pub enum ProjectionsStartError {
    /// A name is too long, or empty.
    #[error("a projection's name must have 1 to {NAME_BYTES_MAX} bytes: {name:?}")]
    Name {
        /// The name.
        name: String,
    },
    /// Two projections have one name.
    #[error("two projections are called {name:?}")]
    Twice {
        /// The name.
        name: String,
    },
    /// Bounds were set for a projection that is not there.
    #[error("there are limits for a projection {name:?}, but no such projection")]
    LimitsOfNone {
        /// The name.
        name: String,
    },
    /// The root actor did not start.
    #[error("the projections' supervisor could not start: {reason}")]
    Supervisor {
        /// Why.
        reason: String,
    },
}

impl ProjectionsSetup {
    fn check(&self) -> Result<(), ProjectionsStartError> {
        let mut names = BTreeSet::new();
        for projection in &self.projections {
            let name = projection.name();
            if name.is_empty() || name.len() > NAME_BYTES_MAX {
                return Err(ProjectionsStartError::Name { name: name.to_owned() });
            }
            if !names.insert(name) {
                return Err(ProjectionsStartError::Twice { name: name.to_owned() });
            }
        }
        match self.own_limits.keys().find(|name| !names.contains(name.as_str())) {
            Some(name) => Err(ProjectionsStartError::LimitsOfNone { name: name.clone() }),
            None => Ok(()),
        }
    }

    /// Starts actors and watcher. Needs a tokio runtime.
    pub async fn start(
        mut self,
        write_side: &WriteSide,
        events: Arc<dyn EventStore>,
        publisher: Publisher,
    ) -> Result<ProjectionsLife, ProjectionsStartError> {
        self.check()?;
        self.projections.sort_by(|a, b| a.name().cmp(b.name()));
        let clock = write_side.clock.clone();
        let views = self.views.unwrap_or_else(|| Arc::new(MemoryStore::new(clock.clone())));
        let limits = &write_side.limits;
        let (stop, tasks, freshness) = (CancellationToken::new(), TaskTracker::new(), Freshness::default());
        let context = |projection: &Arc<dyn Projection>| ProjectionContext {
            name: projection.name().to_owned(),
            version: projection.version(),
            interest: projection.interest(),
            limits: self.own_limits.get(projection.name()).unwrap_or(&limits.projection).clone(),
            poll: limits.feed_poll,
            upgrades: !self.is_guest,
            events: events.clone(),
            views: views.clone(),
            catalog: write_side.recovery.catalog.clone(),
            publisher: publisher.clone(),
            freshness: freshness.clone(),
            clock: clock.clone(),
            metrics: write_side.metrics.projection(projection.name(), projection.gauges()),
            traces: write_side.traces.clone(),
            stop: stop.clone(),
            tasks: tasks.clone(),
            nudge: Notify::new(),
            board: Board::default(),
            audience: self.audiences.get(projection.name()).cloned(),
            projection: projection.clone(),
        };
        let contexts: Vec<_> = self.projections.iter().map(|projection| Arc::new(context(projection))).collect();
        let handle = Projections { contexts: contexts.clone().into(), views, events, clock };
        let mut life = ProjectionsLife { handle, freshness, supervisor: None, stop, tasks };
        if contexts.is_empty() {
            return Ok(life);
        }
        let (restarts_max, rest) = (limits.restarts_max, limits.parked);
        if !self.is_reader {
            let arguments = ProjectionSupervisorArguments { projections: contexts, restarts_max, rest };
            let supervisor = ProjectionSupervisor::spawn(None, ProjectionSupervisor, arguments).await;
            let (supervisor, _) =
                supervisor.map_err(|error| ProjectionsStartError::Supervisor { reason: error.to_string() })?;
            life.supervisor = Some(supervisor);
        }
        // Last, so that a start that fails leaves no task behind.
        life.tasks.spawn(life.handle.clone().watch(limits.projection_watch));
        Ok(life)
    }
}

impl ProjectionsLife {
    /// Whether the supervisor runs, if there is to be one.
    pub fn is_alive(&self) -> bool {
        self.supervisor.as_ref().is_none_or(|actor| actor.get_status() < ractor::ActorStatus::Draining)
    }

    /// Ends the actors of all projections in the middle of what they do; their successors come.
    #[cfg(any(test, feature = "testing"))]
    pub fn kill(&self) {
        if let Some(supervisor) = &self.supervisor {
            let _ = supervisor.send_message(ProjectionSupervisorMessage::Kill);
        }
    }

    /// Finishes the commits under way and gives the leases back.
    pub async fn shutdown(&self, bound: Duration) {
        self.stop.cancel();
        let give_up = tokio::time::Instant::now() + bound;
        if let Some(supervisor) = &self.supervisor {
            let _ = tokio::time::timeout_at(give_up, async {
                while !supervisor.get_children().is_empty() {
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
            })
            .await;
            supervisor.stop(None);
            let _ = supervisor.wait(Some(Duration::from_secs(1))).await;
        }
        self.tasks.close();
        if tokio::time::timeout_at(give_up, self.tasks.wait()).await.is_err() {
            tracing::error!("a projection's commit did not end in time; the next owner finds what is stored");
        }
    }
}
