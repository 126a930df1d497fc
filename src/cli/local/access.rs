//! Keys and audit in the configured store.

use std::num::NonZeroU32;

use event_sourcing_cqrs::{
    auth::{
        AuthError, NewToken, TokenError,
        audit::{Act, Begun},
        port::Outcome,
    },
    wire,
};
use uuid::Uuid;

use super::Local;
use crate::cli::exit::{Exit, Failure};

/// Whoever can open the store: there is nobody to ask who that is.
const LOCAL: &str = "local";

impl Local {
    /// Records that an administrative word begins.
    pub(crate) async fn begin(&self, act: &str, target: String) -> Result<Begun, Failure> {
        let (principal, act) = (Some(LOCAL.to_owned()), act.to_owned());
        let act = Act { principal, peer: None, act, target, request_id: None };
        self.bounded(self.app().auth().audit().begin(act)).await
    }

    /// Records how it ended.
    pub(crate) async fn end<T>(&self, begun: Begun, result: &Result<T, Failure>) -> Result<(), Failure> {
        let outcome = match result {
            Ok(_) => Outcome::Succeeded,
            Err(failure) if failure.exit == Exit::Unavailable => Outcome::Failed,
            Err(_) => Outcome::Refused,
        };
        self.bounded(begun.ended(outcome, None)).await
    }

    pub(crate) async fn create_token(&self, new: NewToken) -> Result<wire::CreatedToken, Failure> {
        let (key, token) = self.bounded(self.app().auth().create_token(new, LOCAL)).await?;
        Ok(wire::CreatedToken { key: key.expose().to_owned(), token: token.into() })
    }

    pub(crate) async fn tokens(
        &self,
        before: Option<Uuid>,
        limit: NonZeroU32,
    ) -> Result<wire::Page<wire::Token, Uuid>, Failure> {
        let tokens = self.bounded(self.app().auth().tokens(before, limit)).await?;
        let items = tokens.into_iter().map(wire::Token::from).collect();
        Ok(wire::Page::new(items, limit.get(), |last: &wire::Token| last.token_id))
    }

    pub(crate) async fn revoke_token(&self, id: Uuid) -> Result<wire::Token, Failure> {
        Ok(self.bounded(self.app().auth().revoke_token(id)).await?.into())
    }

    pub(crate) async fn audit(
        &self,
        before: Option<Uuid>,
        limit: NonZeroU32,
    ) -> Result<wire::Page<wire::AuditRecord, Uuid>, Failure> {
        let lines = self.bounded(self.app().auth().audit().list(before, limit)).await?;
        Ok(wire::Page::new(lines, limit.get(), |last: &wire::AuditRecord| last.id))
    }
}

impl From<TokenError> for Failure {
    fn from(error: TokenError) -> Self {
        match error {
            TokenError::Invalid { error } => {
                Self::new(Exit::Failed, format!("{} {} (validation-failed)", error.pointer, error.detail))
            }
            TokenError::TooMany => Self::new(Exit::Conflict, format!("{error} (too-many-tokens)")),
            TokenError::Unknown { .. } => Self::not_found(format!("{error} (unknown-token)")),
            TokenError::Store(error) => error.into(),
        }
    }
}

impl From<AuthError> for Failure {
    fn from(error: AuthError) -> Self {
        match error {
            AuthError::Store(error) => error.into(),
            AuthError::KeySet(_) => Self::usage(error.to_string()),
        }
    }
}
