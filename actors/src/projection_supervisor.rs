//! The supervisor of all projections: starts each one's actor, and starts it again when it failed, later each time.

use std::{collections::HashMap, sync::Arc, time::Duration};

use ractor::{Actor, ActorId, ActorProcessingErr, ActorRef, ActorRuntime, SupervisionEvent};
use tokio::time::Instant;

use crate::projection_actor::{ProjectionActor, ProjectionContext};

/// The root of a runtime's projection actors.
#[derive(Debug)]
pub(crate) struct ProjectionSupervisor;

/// What the supervisor needs to know.
#[derive(Debug)]
pub(crate) struct ProjectionSupervisorArguments {
    pub projections: Vec<Arc<ProjectionContext>>,
    /// Failures within a minute before a projection rests.
    pub restarts_max: u32,
    /// For so long.
    pub rest: Duration,
}

/// What the supervisor is told.
#[derive(Debug)]
pub(crate) enum ProjectionSupervisorMessage {
    /// Start this projection's actor.
    Start(usize),
    /// End these actors in the middle of what they do: tests of restarts.
    #[cfg(any(test, feature = "testing"))]
    Kill,
}

/// The supervisor's memory.
#[derive(Debug)]
pub(crate) struct ProjectionSupervisorState {
    arguments: ProjectionSupervisorArguments,
    running: HashMap<ActorId, usize>,
    failures: Vec<(u32, Instant)>,
}

/// Failures further apart than this are not counted together.
const FAILURE_WINDOW: Duration = Duration::from_secs(60);

impl Actor for ProjectionSupervisor {
    type Msg = ProjectionSupervisorMessage;
    type State = ProjectionSupervisorState;
    type Arguments = ProjectionSupervisorArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<ProjectionSupervisorMessage>,
        arguments: ProjectionSupervisorArguments,
    ) -> Result<ProjectionSupervisorState, ActorProcessingErr> {
        for index in 0..arguments.projections.len() {
            myself.send_message(ProjectionSupervisorMessage::Start(index))?;
        }
        let failures = vec![(0, Instant::now()); arguments.projections.len()];
        Ok(ProjectionSupervisorState { arguments, running: HashMap::new(), failures })
    }

    async fn handle(
        &self,
        myself: ActorRef<ProjectionSupervisorMessage>,
        message: ProjectionSupervisorMessage,
        state: &mut ProjectionSupervisorState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            ProjectionSupervisorMessage::Start(index) => {
                let Some(context) = state.arguments.projections.get(index) else { return Ok(()) };
                if context.stop.is_cancelled() {
                    return Ok(());
                }
                let started =
                    ActorRuntime::spawn_linked_instant(None, ProjectionActor, context.clone(), myself.get_cell());
                match started {
                    Ok((actor, _)) => {
                        state.running.insert(actor.get_id(), index);
                    }
                    Err(error) => state.failed(index, &error.to_string(), &myself),
                }
            }
            #[cfg(any(test, feature = "testing"))]
            ProjectionSupervisorMessage::Kill => myself.get_children().iter().for_each(ractor::ActorCell::kill),
        }
        Ok(())
    }

    /// Overridden because the default takes the whole family down even on a child's normal end.
    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<ProjectionSupervisorMessage>,
        event: SupervisionEvent,
        state: &mut ProjectionSupervisorState,
    ) -> Result<(), ActorProcessingErr> {
        let (actor, reason) = match event {
            SupervisionEvent::ActorFailed(cell, error) => (cell.get_id(), error.to_string()),
            SupervisionEvent::ActorTerminated(cell, ..) => (cell.get_id(), "the actor ended".to_owned()),
            _ => return Ok(()),
        };
        if let Some(index) = state.running.remove(&actor) {
            state.failed(index, &reason, &myself);
        }
        Ok(())
    }
}

impl ProjectionSupervisorState {
    /// An actor ended without being asked: its successor comes later the more often that happens.
    fn failed(&mut self, index: usize, reason: &str, myself: &ActorRef<ProjectionSupervisorMessage>) {
        let Some(context) = self.arguments.projections.get(index) else { return };
        if context.stop.is_cancelled() {
            return;
        }
        let (count, since) = &mut self.failures[index];
        if since.elapsed() > FAILURE_WINDOW {
            (*count, *since) = (0, Instant::now());
        }
        *count += 1;
        let pause = if *count > self.arguments.restarts_max {
            self.arguments.rest
        } else {
            Duration::from_millis(50) * 2_u32.saturating_pow(*count - 1)
        };
        let projection = &context.name;
        tracing::error!(projection, reason, ?pause, "a projection's actor failed; it is started again");
        context.metrics.restarts.inc();
        context.note_trouble(format!("the projection's actor failed: {reason}"));
        context.board.lock().restarts += 1;
        let (stop, myself) = (context.stop.clone(), myself.clone());
        // Owned by the tracker: it ends at shutdown.
        context.tasks.spawn(async move {
            if stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_some() {
                let _ = myself.send_message(ProjectionSupervisorMessage::Start(index));
            }
        });
    }
}
