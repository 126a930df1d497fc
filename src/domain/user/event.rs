//! What happens to a user.

use std::sync::Arc;

use event_sourcing_actors::{AggregateId, FieldError, events};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::email;
use crate::domain::{
    REFERENCE_BYTES_MAX, TEXT_BYTES_MAX,
    texts::{Reference, Text},
};

events! {
    /// All that happens to a user. Who it is, is the user's own: it is stored under the user's key, and can be erased.
    pub enum UserEvent {
        UserRegistered = 1 personal ["/email", "/name"],
        UserLoggedIn = 1,
        UserLoggedOut = 1,
        UserActionRecorded = 1,
        UserDeactivated = 1,
    }
}

/// A person was registered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UserRegistered {
    /// The user.
    pub user_id: AggregateId,
    /// Where mail reaches the person.
    #[schemars(with = "Text")]
    pub email: String,
    /// What the person is called.
    #[schemars(with = "Text")]
    pub name: String,
}

/// A session was opened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UserLoggedIn {
    /// The session.
    #[schemars(with = "Reference")]
    pub session_id: String,
}

/// A session was ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UserLoggedOut {
    /// The session.
    #[schemars(with = "Reference")]
    pub session_id: String,
}

/// The user did something.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct UserActionRecorded {
    /// Its name.
    #[schemars(with = "Reference")]
    pub action: String,
    /// Any JSON; numbers keep their bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub details: Option<Arc<RawValue>>,
}

/// All sessions were ended, and the user's time with us.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UserDeactivated {}

impl UserEvent {
    /// Checks what can be checked without state, as validation does for commands.
    pub(super) fn check(&self) -> Result<(), FieldError> {
        match self {
            Self::UserRegistered(registered) => {
                email("/email", &registered.email)?;
                FieldError::text("/name", &registered.name, TEXT_BYTES_MAX)
            }
            Self::UserLoggedIn(UserLoggedIn { session_id }) | Self::UserLoggedOut(UserLoggedOut { session_id }) => {
                FieldError::text("/session_id", session_id, REFERENCE_BYTES_MAX)
            }
            Self::UserActionRecorded(recorded) => FieldError::text("/action", &recorded.action, REFERENCE_BYTES_MAX),
            Self::UserDeactivated(_) => Ok(()),
        }
    }
}
