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
                let unknown = Err(CommandError::OutcomeUnknown { command_id: request.command_id });
                match &result {
                    Err(CommandError::Interrupted) => was_sent = true,
                    // "Nothing was done" would be a guess once an attempt was under way.
                    Err(CommandError::Draining | CommandError::DeadlineExceeded | CommandError::Internal { .. })
                        if was_sent =>
                    {
                        return unknown;
                    }
                    Err(
                        CommandError::Parked { .. }
                        | CommandError::StoreUnavailable { .. }
                        | CommandError::Overloaded { .. },
                    ) if was_sent => {}
                    _ => return result,
                }
                let jittered = pause.mul_f64(rand::rng().random_range(0.5..1.5));
                if Instant::now() + jittered >= request.deadline {
                    return unknown;
                }
                tokio::time::sleep(jittered).await;
                pause = (pause * 2).min(Duration::from_millis(100));
            }
        })
    }
}
