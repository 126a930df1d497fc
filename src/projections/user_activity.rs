//! `user_activity`: users, their sessions, and the time line of what they did.

use event_sourcing_actors::{
    EventFilter, EventType,
    personal::{ERASED, SUBJECT_ERASED},
    projection::{ApplyError, ProjectedEvent, Projection, Rows},
    view::sort_of_instant,
};
use serde_json::value::RawValue;

use super::{expected, interest_in, unexpected, within};
use crate::{
    domain::user::{User, UserActionRecorded, UserEvent, UserRegistered, UserStatus},
    views::user_activity::{ActivityKind, ActivityRow, OpenSessionRow, SessionRow, UserRow},
};

/// Users, by user id.
pub const USERS: &str = "users";
/// Sessions of a user, by opening.
pub const SESSIONS: &str = "sessions";
/// Where the open sessions of a user stand, by session id.
pub const OPEN_SESSIONS: &str = "open_sessions";
/// Time line of a user, by instant.
pub const ACTIVITY: &str = "activity";

/// The projection.
#[derive(Debug, Clone, Copy, Default)]
pub struct UserActivity;

impl UserActivity {
    /// Its name.
    pub const NAME: &'static str = "user_activity";
    /// Version of what it does.
    pub const VERSION: u64 = 2;
}

impl Projection for UserActivity {
    fn name(&self) -> &str {
        Self::NAME
    }

    fn version(&self) -> u64 {
        Self::VERSION
    }

    fn interest(&self) -> EventFilter {
        let mut interest = interest_in::<User>();
        interest.event_types.extend(EventType::new(SUBJECT_ERASED));
        interest
    }

    fn forgets(&self) -> bool {
        true
    }

    fn apply(&self, event: &ProjectedEvent<'_>, rows: &mut Rows<'_>) -> Result<(), ApplyError> {
        let id = event.aggregate_id.as_str();
        let known: Option<UserRow> = rows.get(USERS, "", id)?;
        if event.event_type.as_str() == SUBJECT_ERASED {
            let Some(user) = known else { return Ok(()) };
            let (email, name) = (ERASED.to_owned(), ERASED.to_owned());
            return rows.put(USERS, "", id, &UserRow { email, name, version: event.sequence, ..user });
        }
        let change = event.domain::<UserEvent>()?;
        if let UserEvent::UserRegistered(registered) = change {
            unexpected(known, event)?;
            rows.put(USERS, "", id, &registered_user(event, registered))?;
            return put_activity(event, rows, Entry::of(ActivityKind::Registered));
        }
        let mut user = expected(known, event)?;
        let entry = match change {
            // Handled above.
            UserEvent::UserRegistered(_) => Entry::of(ActivityKind::Registered),
            UserEvent::UserLoggedIn(logged_in) => {
                open_session(event, rows, &mut user, &logged_in.session_id)?;
                user.last_seen_at = Some(event.recorded_at);
                Entry { session_id: Some(logged_in.session_id), ..Entry::of(ActivityKind::LoggedIn) }
            }
            UserEvent::UserLoggedOut(logged_out) => {
                close_sessions(event, rows, std::slice::from_ref(&logged_out.session_id))?;
                user.open_session_ids.retain(|open| *open != logged_out.session_id);
                user.last_seen_at = Some(event.recorded_at);
                Entry { session_id: Some(logged_out.session_id), ..Entry::of(ActivityKind::LoggedOut) }
            }
            UserEvent::UserActionRecorded(UserActionRecorded { action, details }) => {
                user.actions = within(user.actions.checked_add(1), "actions")?;
                user.last_seen_at = Some(event.recorded_at);
                let details = details.map(|details| (*details).to_owned());
                Entry { action: Some(action), details, ..Entry::of(ActivityKind::Action) }
            }
            UserEvent::UserDeactivated(_) => {
                close_sessions(event, rows, &std::mem::take(&mut user.open_session_ids))?;
                user.status = UserStatus::Deactivated;
                Entry::of(ActivityKind::Deactivated)
            }
        };
        user.open_sessions = user.open_session_ids.len() as u64;
        user.version = event.sequence;
        rows.put(USERS, "", id, &user)?;
        put_activity(event, rows, entry)
    }
}

/// What the time line is to say.
struct Entry {
    kind: ActivityKind,
    action: Option<String>,
    session_id: Option<String>,
    details: Option<Box<RawValue>>,
}

impl Entry {
    fn of(kind: ActivityKind) -> Self {
        Self { kind, action: None, session_id: None, details: None }
    }
}

fn registered_user(event: &ProjectedEvent<'_>, registered: UserRegistered) -> UserRow {
    UserRow {
        user_id: event.aggregate_id.clone(),
        email: registered.email,
        name: registered.name,
        status: UserStatus::Active,
        registered_at: event.recorded_at,
        last_seen_at: None,
        open_sessions: 0,
        open_session_ids: Vec::new(),
        actions: 0,
        version: event.sequence,
    }
}

fn open_session(
    event: &ProjectedEvent<'_>,
    rows: &mut Rows<'_>,
    user: &mut UserRow,
    session_id: &str,
) -> Result<(), ApplyError> {
    let user_id = event.aggregate_id.as_str();
    if user.open_session_ids.iter().any(|open| open == session_id) {
        return Err(ApplyError::failed(format!("session {session_id:?} of user {user_id:?} is open already")));
    }
    let sort = sort_of_instant(event.recorded_at, event.position);
    let session = SessionRow {
        user_id: event.aggregate_id.clone(),
        session_id: session_id.to_owned(),
        opened_at: event.recorded_at,
        closed_at: None,
        open: true,
    };
    rows.put(SESSIONS, user_id, &sort, &session)?;
    rows.put(OPEN_SESSIONS, user_id, session_id, &OpenSessionRow { sort })?;
    user.open_session_ids.push(session_id.to_owned());
    Ok(())
}

/// Closes sessions. All rows are asked for before any is missed, so that they are loaded in two steps however many they
/// are.
fn close_sessions(event: &ProjectedEvent<'_>, rows: &mut Rows<'_>, session_ids: &[String]) -> Result<(), ApplyError> {
    let user_id = event.aggregate_id.as_str();
    let damaged =
        |session: &str| ApplyError::failed(format!("user {user_id:?} has no open session {session:?} to close"));
    let places: Vec<_> =
        session_ids.iter().map(|session_id| rows.get::<OpenSessionRow>(OPEN_SESSIONS, user_id, session_id)).collect();
    let mut sorts = Vec::with_capacity(places.len());
    for (place, session_id) in places.into_iter().zip(session_ids) {
        sorts.push(place?.ok_or_else(|| damaged(session_id))?.sort);
    }
    let sessions: Vec<_> = sorts.iter().map(|sort| rows.get::<SessionRow>(SESSIONS, user_id, sort)).collect();
    for ((session, session_id), sort) in sessions.into_iter().zip(session_ids).zip(&sorts) {
        let session = session?.ok_or_else(|| damaged(session_id))?;
        let session = SessionRow { closed_at: Some(event.recorded_at), open: false, ..session };
        rows.put(SESSIONS, user_id, sort, &session)?;
        rows.delete(OPEN_SESSIONS, user_id, session_id);
    }
    Ok(())
}

fn put_activity(event: &ProjectedEvent<'_>, rows: &mut Rows<'_>, entry: Entry) -> Result<(), ApplyError> {
    let row = ActivityRow {
        user_id: event.aggregate_id.clone(),
        kind: entry.kind,
        action: entry.action,
        session_id: entry.session_id,
        details: entry.details,
        at: event.recorded_at,
        position: event.position,
    };
    let sort = sort_of_instant(event.recorded_at, event.position);
    rows.put(ACTIVITY, event.aggregate_id.as_str(), &sort, &row)
}

#[cfg(test)]
mod tests;
