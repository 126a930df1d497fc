//! What can be asked of `user_activity`.

use chrono::{DateTime, Utc};
use event_sourcing_actors::{
    AggregateId,
    query::{PAGE_ROWS_MAX, QueryPlan, QueryType, Rows},
    view::{RowKey, instant_prefix},
};
use schemars::JsonSchema;
use serde::Deserialize;

use super::filters::{Instant, List, in_order};
use crate::projections::user_activity::{ACTIVITY, SESSIONS, USERS, UserActivity};
use crate::views::user_activity::{ActivityRow, SessionRow, UserRow};

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
struct OneUser {
    user_id: AggregateId,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
struct OfUser {
    user_id: AggregateId,
    #[schemars(range(min = 1, max = PAGE_ROWS_MAX))]
    limit: Option<u64>,
    cursor: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
struct Span {
    user_id: AggregateId,
    #[schemars(with = "Option<DateTime<Utc>>")]
    from_time: Option<Instant>,
    #[schemars(with = "Option<DateTime<Utc>>")]
    to_time: Option<Instant>,
    #[schemars(range(min = 1, max = PAGE_ROWS_MAX))]
    limit: Option<u64>,
    cursor: Option<String>,
}

/// All of them.
#[must_use]
pub fn all() -> Vec<QueryType> {
    let name = UserActivity::NAME;
    vec![
        QueryType::new("GetUser", name, "A user.", |filters: OneUser| {
            let id = filters.user_id;
            Ok(QueryPlan::row(RowKey::new(USERS, "", id.as_str()), format!("user {:?}", id.as_str())).of_stream(id))
        })
        .documented::<OneUser, UserRow>(),
        QueryType::new("GetUserSessions", name, "The sessions of a user, newest first.", |filters: OfUser| {
            List::new(SESSIONS, filters.user_id.as_str()).newest_first().page(filters.limit, filters.cursor)
        })
        .documented::<OfUser, Rows<SessionRow>>(),
        QueryType::new("GetUserActivity", name, "The time line of a user, in order.", |filters: Span| {
            in_order("/from_time", filters.from_time.as_ref(), filters.to_time.as_ref())?;
            let from = filters.from_time.map(|from| instant_prefix(from.rounded_up()));
            // `~` is above every position that follows the instant.
            let to = filters.to_time.map(|to| instant_prefix(to.rounded_down()) + "~");
            List::new(ACTIVITY, filters.user_id.as_str()).page_between(filters.limit, filters.cursor, (from, to))
        })
        .documented::<Span, Rows<ActivityRow>>(),
    ]
}
