//! A user's state: decisions and folding.

use std::collections::BTreeSet;

use event_sourcing_actors::{Aggregate, AggregateId, DecisionContext, codec::compact, schema::SchemaOf};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    UserActionRecorded, UserCommand, UserDeactivated, UserEvent, UserLoggedIn, UserLoggedOut, UserRegistered,
    UserRejection,
};

/// A person; `null` as JSON before the first event.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct User(Option<UserState>);

/// A person who was registered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UserState {
    /// The user.
    pub user_id: AggregateId,
    /// Where mail reaches the person.
    pub email: String,
    /// What the person is called.
    pub name: String,
    /// Whether the user can do anything.
    pub status: UserStatus,
    /// The open sessions.
    pub sessions: BTreeSet<String>,
}

/// Whether a user can do anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum UserStatus {
    /// Yes.
    Active,
    /// Never again.
    Deactivated,
}

impl User {
    /// The state, once the person was registered.
    #[must_use]
    pub fn get(&self) -> Option<&UserState> {
        self.0.as_ref()
    }

    fn active(&self) -> Result<&UserState, UserRejection> {
        let user = self.0.as_ref().ok_or(UserRejection::UserNotFound)?;
        match user.status {
            UserStatus::Active => Ok(user),
            UserStatus::Deactivated => Err(UserRejection::UserDeactivated),
        }
    }
}

impl Aggregate for User {
    const TYPE: &'static str = "user";
    const ID_MEMBER: Option<&'static str> = Some("user_id");
    type Command = UserCommand;
    type Event = UserEvent;
    type Rejection = UserRejection;

    fn decide(&self, command: &UserCommand, context: &DecisionContext<'_>) -> Result<Vec<UserEvent>, UserRejection> {
        let event: UserEvent = match command {
            UserCommand::RegisterUser(register) => UserRegistered {
                user_id: context.aggregate_id.clone(),
                email: register.email.clone(),
                name: register.name.clone(),
            }
            .into(),
            UserCommand::LogInUser(log_in) => UserLoggedIn { session_id: log_in.session_id.clone() }.into(),
            UserCommand::LogOutUser(log_out) => UserLoggedOut { session_id: log_out.session_id.clone() }.into(),
            UserCommand::RecordUserAction(record) => UserActionRecorded {
                action: record.action.clone(),
                // A stored event stays on one line, as everything else that is written here does.
                details: record.details.as_deref().map(|details| compact(details).into()),
            }
            .into(),
            UserCommand::DeactivateUser(_) => UserDeactivated {}.into(),
        };
        self.admits(&event)?;
        Ok(vec![event])
    }

    fn state_schema() -> Option<SchemaOf> {
        Some(SchemaOf::type_of::<UserState>())
    }

    fn apply(&mut self, event: &UserEvent) {
        if let UserEvent::UserRegistered(registered) = event {
            self.0 = Some(UserState {
                user_id: registered.user_id.clone(),
                email: registered.email.clone(),
                name: registered.name.clone(),
                status: UserStatus::Active,
                sessions: BTreeSet::new(),
            });
            return;
        }
        let Some(user) = &mut self.0 else { return };
        match event {
            UserEvent::UserRegistered(_) | UserEvent::UserActionRecorded(_) => {}
            UserEvent::UserLoggedIn(logged_in) => {
                user.sessions.insert(logged_in.session_id.clone());
            }
            UserEvent::UserLoggedOut(logged_out) => {
                user.sessions.remove(&logged_out.session_id);
            }
            UserEvent::UserDeactivated(_) => {
                user.sessions.clear();
                user.status = UserStatus::Deactivated;
            }
        }
    }

    fn admits(&self, event: &UserEvent) -> Result<(), UserRejection> {
        event.check()?;
        match event {
            UserEvent::UserRegistered(_) if self.0.is_some() => Err(UserRejection::UserExists),
            UserEvent::UserRegistered(_) => Ok(()),
            UserEvent::UserLoggedIn(UserLoggedIn { session_id }) => {
                if self.active()?.sessions.contains(session_id) {
                    return Err(UserRejection::SessionExists { session_id: session_id.clone() });
                }
                Ok(())
            }
            UserEvent::UserLoggedOut(UserLoggedOut { session_id }) => {
                if self.active()?.sessions.contains(session_id) {
                    return Ok(());
                }
                Err(UserRejection::SessionNotFound { session_id: session_id.clone() })
            }
            UserEvent::UserActionRecorded(_) | UserEvent::UserDeactivated(_) => self.active().map(drop),
        }
    }
}
