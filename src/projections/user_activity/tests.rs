//! Users, sessions, the time line.

use std::collections::BTreeMap;

use event_sourcing_actors::Aggregate;
use serde_json::{Value, json, value::to_raw_value};

use super::*;
use crate::{
    domain::{
        tests::{Dice, id},
        user::{UserDeactivated, UserLoggedIn, UserLoggedOut},
    },
    projections::tests::ReadModel,
};

fn registered() -> UserRegistered {
    UserRegistered { user_id: id("u"), email: "ann@example.org".to_owned(), name: "Ann".to_owned() }
}

fn log_in(session: &str) -> UserLoggedIn {
    UserLoggedIn { session_id: session.to_owned() }
}

fn log_out(session: &str) -> UserLoggedOut {
    UserLoggedOut { session_id: session.to_owned() }
}

fn action(details: Option<&str>) -> UserActionRecorded {
    let details = details.map(|details| RawValue::from_string(details.to_owned()).unwrap().into());
    UserActionRecorded { action: "clicked".to_owned(), details }
}

#[test]
fn every_event_changes_the_user_and_extends_the_time_line() {
    let mut model = ReadModel::new(UserActivity);
    model.happens::<User>("u", registered()).unwrap();
    assert_eq!(model.row(USERS, "", "u").unwrap()["last_seen_at"], json!(null));
    model.happens::<User>("u", log_in("s-1")).unwrap();
    model.happens::<User>("u", action(Some("{\"n\":1.10}"))).unwrap();
    model.happens::<User>("u", log_out("s-1")).unwrap();
    model.happens::<User>("u", log_in("s-2")).unwrap();
    model.happens::<User>("u", UserDeactivated {}).unwrap();
    assert_eq!(
        model.row(USERS, "", "u").unwrap(),
        json!({"user_id": "u", "email": "ann@example.org", "name": "Ann", "status": "deactivated",
               "registered_at": "2024-01-01T12:00:01.000000Z", "last_seen_at": "2024-01-01T12:00:05.000000Z",
               "open_sessions": 0, "open_session_ids": [], "actions": 1, "version": 6})
    );
    let column = |member| model.column(ACTIVITY, "u", member);
    assert_eq!(column("kind"), json!(["registered", "logged_in", "action", "logged_out", "logged_in", "deactivated"]));
    assert_eq!(column("action"), json!([null, null, "clicked", null, null, null]));
    assert_eq!(column("session_id"), json!([null, "s-1", null, "s-1", "s-2", null]));
    assert_eq!(column("position"), json!([1, 2, 3, 4, 5, 6]));
}

#[test]
fn erasure_takes_the_person_out_of_the_row_and_leaves_the_user() {
    let mut model = ReadModel::new(UserActivity);
    model.happens::<User>("u", registered()).unwrap();
    model.happens::<User>("u", log_in("s-1")).unwrap();
    let before = model.row(USERS, "", "u").unwrap();
    model.records(User::TYPE, "u", SUBJECT_ERASED, b"{}".to_vec()).unwrap();
    let mut expected = before;
    (expected["email"], expected["name"], expected["version"]) = (json!(ERASED), json!(ERASED), json!(3));
    assert_eq!(model.row(USERS, "", "u").unwrap(), expected);
    assert_eq!(model.column(ACTIVITY, "u", "kind"), json!(["registered", "logged_in"]));
    model.records(User::TYPE, "nobody", SUBJECT_ERASED, b"{}".to_vec()).unwrap();
    assert_eq!(model.row(USERS, "", "nobody"), None, "whoever was never here is not made by it");
}

#[test]
fn details_keep_their_bytes() {
    let mut model = ReadModel::new(UserActivity);
    model.happens::<User>("u", registered()).unwrap();
    model.happens::<User>("u", action(Some("{\"n\":1.10,\"big\":123456789012345678901234567890}"))).unwrap();
    model.happens::<User>("u", action(None)).unwrap();
    let stored: Vec<String> = model
        .stored
        .iter()
        .filter(|(key, _)| key.collection == ACTIVITY)
        .map(|(_, data)| String::from_utf8(data.to_vec()).unwrap())
        .collect();
    assert!(stored[1].contains("\"details\":{\"n\":1.10,\"big\":123456789012345678901234567890}"), "{stored:?}");
    assert!(stored[2].contains("\"details\":null"), "{stored:?}");
    let row: ActivityRow = serde_json::from_str(&stored[1]).unwrap();
    assert_eq!(to_raw_value(&row).unwrap().get(), stored[1]);
}

#[test]
fn a_session_id_may_be_used_again_and_deactivation_ends_what_is_open() {
    let mut model = ReadModel::new(UserActivity);
    model.happens::<User>("u", registered()).unwrap();
    for _ in 0..2 {
        model.happens::<User>("u", log_in("s-1")).unwrap();
        model.happens::<User>("u", log_out("s-1")).unwrap();
    }
    model.happens::<User>("u", log_in("s-2")).unwrap();
    model.happens::<User>("u", log_in("s-1")).unwrap();
    let user = model.row(USERS, "", "u").unwrap();
    assert_eq!((&user["open_sessions"], &user["open_session_ids"]), (&json!(2), &json!(["s-2", "s-1"])));
    assert_eq!(model.column(SESSIONS, "u", "session_id"), json!(["s-1", "s-1", "s-2", "s-1"]));
    assert_eq!(model.column(SESSIONS, "u", "open"), json!([false, false, true, true]));
    assert_eq!(model.list(OPEN_SESSIONS, "u").len(), 2);
    model.happens::<User>("u", UserDeactivated {}).unwrap();
    assert_eq!(model.column(SESSIONS, "u", "open"), json!([false, false, false, false]));
    let closed = model.column(SESSIONS, "u", "closed_at");
    assert_eq!((&closed[2], &closed[3]), (&closed[3], &json!("2024-01-01T12:00:08.000000Z")));
    assert_eq!(model.list(OPEN_SESSIONS, "u"), Vec::<Value>::new());
}

#[test]
fn many_open_sessions_are_closed_in_few_steps() {
    let mut model = ReadModel::new(UserActivity);
    model.happens::<User>("u", registered()).unwrap();
    for number in 0..500 {
        model.happens::<User>("u", log_in(&format!("s-{number}"))).unwrap();
    }
    // The kit gives up after ten rounds of loading.
    model.happens::<User>("u", UserDeactivated {}).unwrap();
    assert!(model.list(SESSIONS, "u").iter().all(|session| session["open"] == json!(false)));
}

#[test]
fn sessions_that_do_not_fit_are_parked() {
    let mut model = ReadModel::new(UserActivity);
    model.happens::<User>("u", registered()).unwrap();
    model.happens::<User>("u", log_in("s-1")).unwrap();
    let before = model.stored.clone();
    let reason = model.happens::<User>("u", log_in("s-1")).unwrap_err();
    assert!(reason.contains("is open already"), "{reason}");
    let reason = model.happens::<User>("u", log_out("s-9")).unwrap_err();
    assert!(reason.contains("no open session \"s-9\""), "{reason}");
    let reason = model.happens::<User>("u", registered()).unwrap_err();
    assert!(reason.contains("there is user \"u\" already"), "{reason}");
    assert_eq!(model.stored, before);
}

#[test]
fn users_and_sessions_equal_the_folded_users() {
    for seed in 0..20 {
        let mut dice = Dice(seed);
        let (mut model, mut states) = (ReadModel::new(UserActivity), BTreeMap::<String, (User, u64)>::new());
        for _ in 0..200 {
            let name = format!("u-{}", dice.below(3));
            let session = format!("s-{}", dice.below(4));
            let event: UserEvent = match dice.below(20) {
                0..=2 => registered().into(),
                3..=10 => log_in(&session).into(),
                11..=14 => log_out(&session).into(),
                15..=18 => action(None).into(),
                _ => UserDeactivated {}.into(),
            };
            let (state, actions) = states.entry(name.clone()).or_default();
            if state.admits(&event).is_ok() {
                *actions += u64::from(matches!(event, UserEvent::UserActionRecorded(_)));
                state.apply(&event);
                model.happens::<User>(&name, event).unwrap();
            }
        }
        for (name, (state, actions)) in &states {
            let Some(state) = state.get() else { continue };
            let row = model.row(USERS, "", name).unwrap();
            assert_eq!((&row["status"], &row["actions"]), (&json!(state.status), &json!(actions)));
            let mut open: Vec<String> = serde_json::from_value(row["open_session_ids"].clone()).unwrap();
            open.sort();
            assert_eq!(open, state.sessions.iter().cloned().collect::<Vec<_>>());
            assert_eq!(row["open_sessions"], json!(open.len()));
            let listed = model.list(SESSIONS, name).iter().filter(|session| session["open"] == json!(true)).count();
            assert_eq!((listed, model.list(OPEN_SESSIONS, name).len()), (open.len(), open.len()));
        }
    }
}
