//! Rows of `user_activity`: users, their sessions, and everything they did.

use chrono::{DateTime, Utc};
use event_sourcing_actors::{AggregateId, Position, Sequence};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::instant;
use crate::domain::user::UserStatus;

/// One user; collection `users`, sorted by user id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UserRow {
    /// The user.
    pub user_id: AggregateId,
    /// Where mail reaches the person.
    pub email: String,
    /// What the person is called.
    pub name: String,
    /// Whether the user can do anything.
    pub status: UserStatus,
    /// When the person was registered.
    #[serde(with = "instant")]
    #[schemars(with = "DateTime<Utc>")]
    pub registered_at: DateTime<Utc>,
    /// When the user last logged in or out or did something; none before the first time.
    #[serde(with = "instant::option")]
    #[schemars(with = "Option<DateTime<Utc>>")]
    pub last_seen_at: Option<DateTime<Utc>>,
    /// How many sessions are open.
    pub open_sessions: u64,
    /// Which ones, in the order they were opened; as many as the domain lets a user have.
    pub open_session_ids: Vec<String>,
    /// How many actions were recorded.
    pub actions: u64,
    /// Sequence of the last event in it.
    pub version: Sequence,
}

/// One session; collection `sessions`, grouped by user, sorted by opening. A session id may be used again after its
/// session ended, and is then another row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SessionRow {
    /// The user.
    pub user_id: AggregateId,
    /// The session.
    pub session_id: String,
    /// When it was opened.
    #[serde(with = "instant")]
    #[schemars(with = "DateTime<Utc>")]
    pub opened_at: DateTime<Utc>,
    /// When it ended, by logging out or by deactivation.
    #[serde(with = "instant::option")]
    #[schemars(with = "Option<DateTime<Utc>>")]
    pub closed_at: Option<DateTime<Utc>>,
    /// Whether it has not.
    pub open: bool,
}

/// Where an open session's row stands; collection `open_sessions`, grouped by user, sorted by session id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OpenSessionRow {
    /// Its sort in `sessions`.
    pub sort: String,
}

/// What kind of thing a user did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ActivityKind {
    /// The person was registered.
    Registered,
    /// A session was opened.
    LoggedIn,
    /// A session was ended.
    LoggedOut,
    /// The user did `action`.
    Action,
    /// All sessions were ended, and the user's time with us.
    Deactivated,
}

/// One entry of the time line; collection `activity`, grouped by user, sorted by instant.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct ActivityRow {
    /// The user.
    pub user_id: AggregateId,
    /// What kind of thing.
    pub kind: ActivityKind,
    /// Name of the action.
    pub action: Option<String>,
    /// The session.
    pub session_id: Option<String>,
    /// Details of the action: any JSON, byte for byte as it was recorded.
    pub details: Option<Box<RawValue>>,
    /// When it was recorded.
    #[serde(with = "instant")]
    #[schemars(with = "DateTime<Utc>")]
    pub at: DateTime<Utc>,
    /// Place in the whole log.
    pub position: Position,
}
