//! The middleware chain: each link may answer, change the request, or pass it on and look at the answer.

use std::{fmt::Debug, sync::Arc};

use futures_util::future::BoxFuture;

use super::{CommandRequest, CommandResult};
use crate::registry::WriteSide;

/// One link of the chain. Embedders add their own with
/// [`RuntimeBuilder::middleware`](crate::runtime::RuntimeBuilder::middleware).
pub trait Middleware: Debug + Send + Sync + 'static {
    /// Handles a request; `next.run(request)` passes it on.
    ///
    /// The future is dropped when the caller goes away; what was passed on to an aggregate is settled regardless.
    fn handle<'a>(&'a self, request: CommandRequest, next: Next<'a>) -> BoxFuture<'a, CommandResult>;
}

/// The rest of the chain.
#[derive(Debug, Clone, Copy)]
pub struct Next<'a> {
    pub(crate) rest: &'a [Arc<dyn Middleware>],
    pub(crate) write_side: &'a Arc<WriteSide>,
}

impl<'a> Next<'a> {
    /// Passes a request on.
    #[must_use]
    pub fn run(self, request: CommandRequest) -> BoxFuture<'a, CommandResult> {
        match self.rest.split_first() {
            Some((link, rest)) => link.handle(request, Next { rest, ..self }),
            None => Box::pin(self.write_side.dispatch(request)),
        }
    }
}
