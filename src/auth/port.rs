//! What access control keeps in the database of the events: [`AccessStore`], for keys and for the audit.
//!
//! Neither takes positions of the log.

use std::{fmt::Debug, num::NonZeroU32};

use chrono::{DateTime, Utc};
use event_sourcing_actors::ports::StoreError;
use futures_util::future::BoxFuture;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{key::KeyDigest, role::Role};

/// Keys that are neither revoked nor expired, at most: every process holds them all.
pub const ACTIVE_TOKENS_MAX: u32 = 10_000;

/// What is kept of an API key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRecord {
    /// Names it where it is listed or revoked; of version 7, so that it tells when.
    pub id: Uuid,
    /// The principal. Several keys may share it: that is how one is replaced by another.
    pub name: String,
    /// What it may do.
    pub roles: Vec<Role>,
    /// SHA-256 of the key.
    pub digest: KeyDigest,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// By whom.
    pub created_by: String,
    /// From when on it is worth nothing.
    pub expires_at: Option<DateTime<Utc>>,
    /// Since when it is worth nothing.
    pub revoked_at: Option<DateTime<Utc>>,
}

impl TokenRecord {
    /// Whether it opens anything at this instant.
    #[must_use]
    pub fn is_active(&self, now: DateTime<Utc>) -> bool {
        self.revoked_at.is_none() && self.expires_at.is_none_or(|at| now < at)
    }
}

/// How an administrative or refused act ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "AuditOutcome")]
pub enum Outcome {
    /// It was begun; recorded before anything was done.
    Begun,
    /// It was done, or accepted as an operation.
    Succeeded,
    /// It was refused: who asked is not known, or may not, or it was wrong.
    Refused,
    /// It failed.
    Failed,
    /// Whoever asked went away before the end, which is not known.
    Unknown,
}

impl Outcome {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Begun, Self::Succeeded, Self::Refused, Self::Failed, Self::Unknown];

    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Begun => "begun",
            Self::Succeeded => "succeeded",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
        }
    }
}

/// One line of the audit. It is never changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AuditRecord {
    /// Names it; of version 7, by which lines are in order.
    #[serde(rename = "audit_id")]
    pub id: Uuid,
    /// When; of several acts in one line, the first.
    pub at: DateTime<Utc>,
    /// Who; nothing where the caller is not known.
    pub principal: Option<String>,
    /// From where; nothing for a word on the store itself.
    pub peer: Option<String>,
    /// What, as method and route, or as a word.
    pub act: String,
    /// To what: the path as it was sent, or what the word was about.
    pub target: String,
    /// How it ended.
    pub outcome: Outcome,
    /// The status of the answer, if there was one.
    pub status: Option<u16>,
    /// The request.
    pub request_id: Option<String>,
    /// How many acts this line stands for: refused ones of one caller within a minute share one.
    pub count: u64,
}

/// Keys and audit in the database of the events.
pub trait AccessStore: Debug + Send + Sync + 'static {
    /// Keeps a key; `false` when there are [`ACTIVE_TOKENS_MAX`] active ones at `created_at`, and then nothing was stored.
    /// Durable on return.
    ///
    /// # Errors
    /// [`StoreError`]; `Refused` when the id or the digest is taken.
    fn add_token(&self, token: TokenRecord) -> BoxFuture<'_, Result<bool, StoreError>>;

    /// Keys, newest first, before one; those that are revoked or expired too.
    ///
    /// # Errors
    /// [`StoreError`].
    fn tokens(&self, before: Option<Uuid>, limit: NonZeroU32) -> BoxFuture<'_, Result<Vec<TokenRecord>, StoreError>>;

    /// Every key that is neither revoked nor expired at this instant.
    ///
    /// # Errors
    /// [`StoreError`].
    fn active_tokens(&self, now: DateTime<Utc>) -> BoxFuture<'_, Result<Vec<TokenRecord>, StoreError>>;

    /// Revokes a key for ever; the first time counts. `None` if there is no such key. Durable on return.
    ///
    /// # Errors
    /// [`StoreError`].
    fn revoke_token(&self, id: Uuid, at: DateTime<Utc>) -> BoxFuture<'_, Result<Option<TokenRecord>, StoreError>>;

    /// Adds lines to the audit, all or none. Durable on return.
    ///
    /// # Errors
    /// [`StoreError`].
    fn record(&self, lines: Vec<AuditRecord>) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Announces that lines of the audit from before an instant leave, and records a line that says so: both or neither.
    /// `false`: that much is announced already, or nothing is so old, and nothing was stored. Durable on return.
    ///
    /// # Errors
    /// [`StoreError`]; from a database also when the instant is less than 7 days ago by its clock.
    fn announce_pruning(&self, before: DateTime<Utc>, line: AuditRecord) -> BoxFuture<'_, Result<bool, StoreError>>;

    /// Removes up to `limit` lines from before an instant, the oldest first. How many are gone; 0 means that was all.
    ///
    /// # Errors
    /// [`StoreError`]; also when that was not announced: then nothing is removed.
    fn prune_audit(&self, before: DateTime<Utc>, limit: NonZeroU32) -> BoxFuture<'_, Result<u64, StoreError>>;

    /// Lines of the audit, newest first, before one.
    ///
    /// # Errors
    /// [`StoreError`].
    fn audit(&self, before: Option<Uuid>, limit: NonZeroU32) -> BoxFuture<'_, Result<Vec<AuditRecord>, StoreError>>;
}
