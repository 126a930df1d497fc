//! Last link: an actor that ended before it answered leaves the command's fate open; the same command goes again,
//! under the same id, so that what was stored is recognised. Lost races are decided again by the aggregate itself.

use std::time::Duration;

use futures_util::future::BoxFuture;
use rand::RngExt;
use tokio::time::Instant;

use super::{CommandRequest, CommandResult, Middleware, Next};
use crate::error::CommandError;

#[derive(Debug)]
pub(crate) struct Retry;

impl Middleware for Retry {
    fn handle<'a>(&'a self, request: CommandRequest, next: Next<'a>) -> BoxFuture<'a, CommandResult> {
        Box::pin(async move {
            let mut pause = Duration::from_millis(2);
            let mut was_sent = false;
            loop {
                let result = next.run(request.clone()).await;
                let is_open = match &result {
                    Err(CommandError::Interrupted) => {
                        was_sent = true;
                        true
                    }
                    // It may have been stored before the aggregate was parked: go on asking until the deadline.
                    Err(CommandError::Parked { .. }) => was_sent,
                    _ => false,
                };
                if !is_open {
                    return result;
                }
                let jittered = pause.mul_f64(rand::rng().random_range(0.5..1.5));
                if Instant::now() + jittered >= request.deadline {
                    return Err(CommandError::OutcomeUnknown { command_id: request.command_id });
                }
                tokio::time::sleep(jittered).await;
                pause = (pause * 2).min(Duration::from_millis(100));
            }
        })
    }
}
