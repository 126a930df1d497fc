//! The supervisor of all aggregates: survives their failures, counts them, and lets the registry start successors.

use std::sync::Arc;

use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};

use crate::registry::WriteSide;

/// The root of the actor tree of one runtime.
#[derive(Debug)]
pub(crate) struct Supervisor;

/// The supervisor is told nothing.
#[derive(Debug)]
pub(crate) enum SupervisorMessage {}

impl Actor for Supervisor {
    type Msg = SupervisorMessage;
    type State = Arc<WriteSide>;
    type Arguments = Arc<WriteSide>;

    async fn pre_start(
        &self,
        _: ActorRef<SupervisorMessage>,
        write_side: Arc<WriteSide>,
    ) -> Result<Arc<WriteSide>, ActorProcessingErr> {
        Ok(write_side)
    }

    /// Overridden because the default takes the whole family down even on a child's normal end.
    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<SupervisorMessage>,
        event: SupervisionEvent,
        write_side: &mut Arc<WriteSide>,
    ) -> Result<(), ActorProcessingErr> {
        match event {
            SupervisionEvent::ActorFailed(cell, error) => {
                let reason = error.to_string();
                tracing::error!(actor = %cell.get_id(), reason, "an aggregate's actor failed; the next command starts a new one");
                write_side.registry.failed(cell.get_id(), &reason, &write_side.limits);
            }
            // A killed actor does not get to say that it ends.
            SupervisionEvent::ActorTerminated(cell, ..) => write_side.registry.ended(cell.get_id()),
            _ => {}
        }
        Ok(())
    }
}
