//! Second link: may this principal do this? The hook is the embedder's; by default everybody may.

use std::{fmt::Debug, sync::Arc};

use futures_util::future::BoxFuture;

use super::{CommandRequest, CommandResult, Middleware, Next};
use crate::error::CommandError;

/// Decides whether a principal may send a command.
pub trait Authorizer: Debug + Send + Sync + 'static {
    /// # Errors
    /// [`CommandError::Unauthenticated`] or [`CommandError::Forbidden`] with the role that is missing.
    fn authorize(&self, request: &CommandRequest) -> Result<(), CommandError>;
}

/// Lets everybody do everything.
#[derive(Debug, Clone, Copy, Default)]
pub struct AllowAll;

impl Authorizer for AllowAll {
    fn authorize(&self, _: &CommandRequest) -> Result<(), CommandError> {
        Ok(())
    }
}

#[derive(Debug)]
pub(crate) struct Authorise {
    pub authorizer: Arc<dyn Authorizer>,
}

impl Middleware for Authorise {
    fn handle<'a>(&'a self, request: CommandRequest, next: Next<'a>) -> BoxFuture<'a, CommandResult> {
        match self.authorizer.authorize(&request) {
            Ok(()) => next.run(request),
            Err(error) => Box::pin(async move { Err(error) }),
        }
    }
}
