//! What a user can be told.

use std::sync::Arc;

use event_sourcing_actors::{AggregateId, CommandData, Violations, commands};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::email;
use crate::domain::{
    REFERENCE_BYTES_MAX, TEXT_BYTES_MAX,
    texts::{Reference, Text},
};

commands! {
    /// All a user can be told.
    pub enum UserCommand { RegisterUser, LogInUser, LogOutUser, RecordUserAction, DeactivateUser }
}

/// Registers a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RegisterUser {
    /// The aggregate's id, repeated.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<AggregateId>")]
    pub user_id: Option<String>,
    /// Where mail reaches the person.
    #[schemars(with = "Text")]
    pub email: String,
    /// What the person is called.
    #[schemars(with = "Text")]
    pub name: String,
}

impl CommandData for RegisterUser {
    fn validate(&self, check: &mut Violations<'_>) {
        check.same_id("/user_id", self.user_id.as_deref());
        check.note(email("/email", &self.email));
        check.text("/name", &self.name, TEXT_BYTES_MAX);
    }
}

/// Opens a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LogInUser {
    /// The aggregate's id, repeated.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<AggregateId>")]
    pub user_id: Option<String>,
    /// The session; not open yet.
    #[schemars(with = "Reference")]
    pub session_id: String,
}

impl CommandData for LogInUser {
    fn validate(&self, check: &mut Violations<'_>) {
        check.same_id("/user_id", self.user_id.as_deref());
        check.text("/session_id", &self.session_id, REFERENCE_BYTES_MAX);
    }
}

/// Ends a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LogOutUser {
    /// The aggregate's id, repeated.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<AggregateId>")]
    pub user_id: Option<String>,
    /// The open session.
    #[schemars(with = "Reference")]
    pub session_id: String,
}

impl CommandData for LogOutUser {
    fn validate(&self, check: &mut Violations<'_>) {
        check.same_id("/user_id", self.user_id.as_deref());
        check.text("/session_id", &self.session_id, REFERENCE_BYTES_MAX);
    }
}

/// Notes something the user did.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RecordUserAction {
    /// The aggregate's id, repeated.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<AggregateId>")]
    pub user_id: Option<String>,
    /// Its name.
    #[schemars(with = "Reference")]
    pub action: String,
    /// Any JSON; numbers keep their bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub details: Option<Arc<RawValue>>,
}

impl CommandData for RecordUserAction {
    fn validate(&self, check: &mut Violations<'_>) {
        check.same_id("/user_id", self.user_id.as_deref());
        check.text("/action", &self.action, REFERENCE_BYTES_MAX);
    }
}

/// Ends all sessions, and the user's time with us.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeactivateUser {
    /// The aggregate's id, repeated.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<AggregateId>")]
    pub user_id: Option<String>,
}

impl CommandData for DeactivateUser {
    fn validate(&self, check: &mut Violations<'_>) {
        check.same_id("/user_id", self.user_id.as_deref());
    }
}
