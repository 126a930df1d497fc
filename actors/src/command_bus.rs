//! The command bus: a chain of middleware in front of the aggregates.
//!
//! trace → authorise → validate → (the embedder's own) → admission → deadline → idempotency → retry → aggregate.

mod admission;
mod authorise;
mod deadline;
mod idempotency;
mod middleware;
mod request;
mod retry;
mod trace;
mod validate;

use std::sync::Arc;

use tokio::sync::Semaphore;

pub use authorise::{AllowAll, Authorizer};
pub use middleware::{Middleware, Next};
pub use request::{
    Action, AppendedEvent, CommandAccepted, CommandRequest, CommandResult, DecodedCommand, Idempotency, Principal,
    RawAppend, RawEvent, RequestContext,
};

use crate::{registry::WriteSide, slow::SlowLog};

/// Where commands enter. Cloning shares it.
#[derive(Debug, Clone)]
pub struct CommandBus {
    chain: Arc<[Arc<dyn Middleware>]>,
    pub(crate) write_side: Arc<WriteSide>,
    pub(crate) permits: Arc<Semaphore>,
}

impl CommandBus {
    pub(crate) fn new(
        write_side: Arc<WriteSide>,
        authorizer: Arc<dyn Authorizer>,
        own: Vec<Arc<dyn Middleware>>,
    ) -> Self {
        let permits = Arc::new(Semaphore::new(write_side.limits.commands_in_flight_max));
        let mut chain: Vec<Arc<dyn Middleware>> = vec![
            Arc::new(trace::Trace {
                metrics: write_side.metrics.clone(),
                slow: SlowLog::new(write_side.limits.slow_command),
            }),
            Arc::new(authorise::Authorise { authorizer }),
            Arc::new(validate::Validate),
        ];
        chain.extend(own);
        chain.push(Arc::new(admission::Admission { permits: permits.clone() }));
        chain.push(Arc::new(deadline::Deadline { longest: write_side.limits.command_deadline }));
        chain.push(Arc::new(idempotency::Idempotency::default()));
        chain.push(Arc::new(retry::Retry));
        Self { chain: chain.into(), write_side, permits }
    }

    /// Sends a command and waits for its answer: events are durable and refusals confirmed when it comes.
    ///
    /// Cancellation safe in this sense: when the future is dropped, a command that was not decided yet has no effect,
    /// and one that was is settled without its caller.
    ///
    /// # Errors
    /// [`CommandError`](crate::error::CommandError).
    pub async fn send(&self, request: CommandRequest) -> CommandResult {
        Next { rest: &self.chain, write_side: &self.write_side }.run(request).await
    }
}
