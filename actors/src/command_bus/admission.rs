//! Fourth link: a bound on the commands in flight. The permit travels with the command until it is answered.

use std::{sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use tokio::sync::{Semaphore, TryAcquireError};

use super::{CommandRequest, CommandResult, Middleware, Next};
use crate::error::CommandError;

#[derive(Debug)]
pub(crate) struct Admission {
    /// Closed when the runtime shuts down.
    pub permits: Arc<Semaphore>,
}

impl Middleware for Admission {
    fn handle<'a>(&'a self, mut request: CommandRequest, next: Next<'a>) -> BoxFuture<'a, CommandResult> {
        match self.permits.clone().try_acquire_owned() {
            Ok(permit) => {
                request.permit = Some(Arc::new(permit));
                next.run(request)
            }
            Err(TryAcquireError::Closed) => Box::pin(async { Err(CommandError::Draining) }),
            Err(TryAcquireError::NoPermits) => Box::pin(async {
                Err(CommandError::Overloaded { scope: "process", retry_after: Duration::from_secs(1) })
            }),
        }
    }
}
