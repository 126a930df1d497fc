//! Fifth link: no command lives longer than the runtime's deadline, however long its caller would wait.

use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::time::Instant;

use super::{CommandRequest, CommandResult, Middleware, Next};

#[derive(Debug)]
pub(crate) struct Deadline {
    pub longest: Duration,
}

impl Middleware for Deadline {
    fn handle<'a>(&'a self, mut request: CommandRequest, next: Next<'a>) -> BoxFuture<'a, CommandResult> {
        request.deadline = request.deadline.min(Instant::now() + self.longest);
        next.run(request)
    }
}
