//! Why a user refuses.

use event_sourcing_actors::{FieldError, Rejection};
use serde_json::{Value, json};

/// Why a user refuses a command or a raw event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UserRejection {
    /// The person was registered before, perhaps with equal data.
    #[error("the user exists already")]
    UserExists,
    /// The person was never registered.
    #[error("the user does not exist")]
    UserNotFound,
    /// The user's time with us is over.
    #[error("the user is deactivated")]
    UserDeactivated,
    /// The session is open.
    #[error("session {session_id:?} is open already")]
    SessionExists {
        /// The session.
        session_id: String,
    },
    /// The session is not open, or no longer.
    #[error("session {session_id:?} is not open")]
    SessionNotFound {
        /// The session.
        session_id: String,
    },
    /// A raw event's member is out of bounds.
    #[error("{} {}", .0.pointer, .0.detail)]
    InvalidEvent(FieldError),
}

impl From<FieldError> for UserRejection {
    fn from(error: FieldError) -> Self {
        Self::InvalidEvent(error)
    }
}

impl Rejection for UserRejection {
    fn code(&self) -> &'static str {
        match self {
            Self::UserExists => "user-exists",
            Self::UserNotFound => "user-not-found",
            Self::UserDeactivated => "user-deactivated",
            Self::SessionExists { .. } => "session-exists",
            Self::SessionNotFound { .. } => "session-not-found",
            Self::InvalidEvent(_) => "invalid-event",
        }
    }

    fn field(&self) -> Option<&FieldError> {
        match self {
            Self::InvalidEvent(error) => Some(error),
            _ => None,
        }
    }

    fn details(&self) -> Option<Value> {
        match self {
            Self::UserExists | Self::UserNotFound | Self::UserDeactivated => None,
            Self::SessionExists { session_id } | Self::SessionNotFound { session_id } => {
                Some(json!({ "session_id": session_id }))
            }
            Self::InvalidEvent(error) => Some(json!(error)),
        }
    }
}
