//! Keys made, listed and revoked.

use std::num::NonZeroU32;

use chrono::{DateTime, SubsecRound, Utc};
use event_sourcing_actors::{FieldError, ports::StoreError};
use uuid::Uuid;

use super::{
    Auth, Role,
    key::ApiKey,
    port::{ACTIVE_TOKENS_MAX, TokenRecord},
};

/// Names that mean somebody else.
const RESERVED: [&str; 3] = ["anonymous", "system", "local"];
const NAME_LENGTH_MAX: usize = 100;

/// A key to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewToken {
    /// The principal; made up if absent.
    pub name: Option<String>,
    /// What it may do.
    pub roles: Vec<Role>,
    /// From when on it is worth nothing.
    pub expires_at: Option<DateTime<Utc>>,
}

/// Why a key is not made or revoked.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// What was asked for is wrong.
    #[error("{} {}", error.pointer.trim_start_matches('/'), error.detail)]
    Invalid {
        /// Which member, and how.
        error: FieldError,
    },
    /// There are too many.
    #[error("there are {ACTIVE_TOKENS_MAX} active keys already: revoke those that are not needed")]
    TooMany,
    /// There is no such key.
    #[error("there is no key {id}")]
    Unknown {
        /// As asked.
        id: Uuid,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Whether a text can name a principal: 1 to 100 letters, digits and `. _ @ -`, and nobody else's name.
#[must_use]
pub fn is_name(text: &str) -> bool {
    let is_fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '@' | '-');
    (1..=NAME_LENGTH_MAX).contains(&text.len()) && text.chars().all(is_fine) && !is_reserved(text)
}

/// Whether a name means the program itself, or nobody.
pub(super) fn is_reserved(name: &str) -> bool {
    RESERVED.contains(&name)
}

impl Auth {
    /// Makes a key. It is in the answer and nowhere else; every process knows it within [`REFRESH`](super::REFRESH), this
    /// one at once.
    ///
    /// Cancellation safe: it is stored or it is not, and if nobody hears of it, nobody knows it.
    ///
    /// # Errors
    /// [`TokenError`].
    pub async fn create_token(&self, new: NewToken, by: &str) -> Result<(ApiKey, TokenRecord), TokenError> {
        let now = self.clock.now().trunc_subsecs(6);
        let invalid = |pointer: &str, detail: &str| {
            let (pointer, detail) = (pointer.to_owned(), detail.to_owned());
            Err(TokenError::Invalid { error: FieldError { pointer, detail } })
        };
        if new.name.as_deref().is_some_and(|name| !is_name(name)) {
            let detail =
                "must be 1 to 100 letters, digits, dots, dashes, underscores or @, and not anonymous, system or local";
            return invalid("/name", detail);
        }
        if new.roles.is_empty() {
            return invalid("/roles", "must name a role: reader, writer, operator, auditor or admin");
        }
        if new.expires_at.is_some_and(|at| at <= now) {
            return invalid("/expires_at", "must be in the future");
        }
        let mut roles = new.roles;
        roles.sort_unstable();
        roles.dedup();
        let (id, key) = (Uuid::now_v7(), ApiKey::generate());
        let token = TokenRecord {
            name: new.name.unwrap_or_else(|| format!("key-{}", &id.simple().to_string()[20..])),
            id,
            roles,
            digest: key.digest(),
            created_at: now,
            created_by: by.to_owned(),
            expires_at: new.expires_at.map(|at| at.trunc_subsecs(6)),
            revoked_at: None,
        };
        let (store, stored) = (self.store.clone(), token.clone());
        if !self.unhurried(async move { store.add_token(stored).await }).await? {
            return Err(TokenError::TooMany);
        }
        self.look().await;
        Ok((key, token))
    }

    /// Revokes a key for ever: this process knows at once, every other within [`TRUST`](super::TRUST).
    ///
    /// # Errors
    /// [`TokenError`].
    pub async fn revoke_token(&self, id: Uuid) -> Result<TokenRecord, TokenError> {
        let (store, now) = (self.store.clone(), self.clock.now().trunc_subsecs(6));
        let revoked = self.unhurried(async move { store.revoke_token(id, now).await }).await?;
        self.look().await;
        revoked.ok_or(TokenError::Unknown { id })
    }

    /// Keys, newest first, before one.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn tokens(&self, before: Option<Uuid>, limit: NonZeroU32) -> Result<Vec<TokenRecord>, StoreError> {
        self.store.tokens(before, limit).await
    }

    /// Database work that goes on when its caller goes away.
    async fn unhurried<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, StoreError>> + Send + 'static,
    ) -> Result<T, StoreError> {
        let lost = |_| StoreError::Unavailable { reason: "the work on the keys was given up".to_owned() };
        self.tasks.spawn(work).await.unwrap_or_else(|error| Err(lost(error)))
    }

    /// What was just stored counts here at once; should that fail, it counts with the next look.
    async fn look(&self) {
        if let Some(keyring) = &self.keyring
            && let Err(error) = keyring.look().await
        {
            tracing::warn!(%error, "the API keys could not be read again");
        }
    }
}
