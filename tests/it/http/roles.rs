//! Every route against every role, as the route table says; and the page that says the same to people.

use std::collections::BTreeMap;

use chrono::TimeDelta;
use event_sourcing_actors::ports::{Clock, SystemClock};
use event_sourcing_cqrs::{
    auth::{Role, key::ApiKey},
    http::{RouteAccess, access_table},
};
use serde_json::json;

use crate::support::{access::Guarded, http::TestServer};

/// What a caller sends, and whether that is somebody.
#[derive(Debug, Clone)]
struct Caller {
    what: &'static str,
    key: Option<String>,
    role: Option<Role>,
}

/// Where nothing is, so that being let in changes nothing.
fn path_of(route: &RouteAccess) -> String {
    let part = |part: &'static str| if part.starts_with('{') { "none" } else { part };
    route.path.split('/').map(part).collect::<Vec<_>>().join("/")
}

/// The status that the table demands; `None` where it is the handler's.
fn demanded(route: &RouteAccess, caller: &Caller) -> Option<u16> {
    match (route.role, caller.role) {
        (None, _) => None,
        (Some(_), None) => Some(401),
        (Some(demanded), Some(role)) => (!role.may(demanded)).then_some(403),
    }
}

/// Where the server does not do what the table says.
async fn violations(server: &TestServer, callers: &[Caller]) -> (usize, Vec<String>) {
    let (mut asked, mut wrong) = (0, Vec::new());
    for route in access_table() {
        let methods = if route.method == "GET" { vec!["GET", "HEAD"] } else { vec![route.method] };
        for (method, caller) in methods.iter().flat_map(|method| callers.iter().map(move |caller| (method, caller))) {
            asked += 1;
            let bearer = caller.key.as_deref().map(|key| format!("Bearer {key}"));
            let mut headers = vec![("content-type", "application/json")];
            headers.extend(bearer.as_deref().map(|bearer| ("authorization", bearer)));
            let body: &[u8] = if *method == "POST" { b"{}" } else { b"" };
            let reply = server.send(method, &path_of(&route), &headers, body).await;
            let is_right = match demanded(&route, caller) {
                Some(status) => reply.status == status && (status == 401) == reply.header("www-authenticate").is_some(),
                None => !matches!(reply.status, 401 | 403 | 429) && reply.status < 500 || reply.status == 503,
            };
            if !is_right {
                wrong.push(format!("{method} {} by {}: {}", route.path, caller.what, reply.status));
            }
        }
    }
    (asked, wrong)
}

async fn callers(guarded: &Guarded) -> Vec<Caller> {
    let nobody = |what, key: Option<String>| Caller { what, key, role: None };
    let expired = guarded.key_until("late", &[Role::Admin], Some(SystemClock.now() + TimeDelta::hours(1))).await;
    guarded.clock.advance(TimeDelta::hours(2));
    let revoked = guarded.key("gone", &[Role::Admin]).await;
    let id = guarded.auth.tokens(None, 1.try_into().unwrap()).await.unwrap()[0].id;
    guarded.auth.revoke_token(id).await.unwrap();
    let mut callers = vec![
        nobody("nobody", None),
        nobody("a broken key", Some("escqrs_broken".to_owned())),
        nobody("an unknown key", Some(ApiKey::generate().expose().to_owned())),
        nobody("an expired key", Some(expired)),
        nobody("a revoked key", Some(revoked)),
    ];
    let keys: BTreeMap<Role, String> = guarded.keys().await;
    callers.extend(keys.into_iter().map(|(role, key)| Caller {
        what: role.as_str(),
        key: Some(key),
        role: Some(role),
    }));
    callers
}

#[tokio::test]
async fn every_route_lets_in_exactly_whom_the_table_says() {
    let guarded = Guarded::start().await;
    let callers = callers(&guarded).await;
    assert_eq!(callers.len(), 10);
    let (asked, wrong) = violations(&guarded.server, &callers).await;
    assert!(asked > 500, "only {asked} requests");
    assert!(wrong.is_empty(), "{} of {asked}: {wrong:#?}", wrong.len());
}

/// The control: a server that asks nobody fails the same matrix at every route that is not open.
#[tokio::test]
async fn server_without_a_gate_fails_the_matrix() {
    let callers = callers(&Guarded::start().await).await;
    let (_, wrong) = violations(&TestServer::with_views().await, &callers).await;
    for route in access_table().filter(|route| route.role.is_some()) {
        let line = format!("{} {} by a revoked key", route.method, route.path);
        assert!(wrong.iter().any(|wrong| wrong.starts_with(&line)), "{line} is not noticed");
    }
}

#[tokio::test]
async fn methods_and_paths_that_are_not_there_are_told_to_everybody() {
    let guarded = Guarded::start().await;
    assert_eq!(guarded.ask("GET", "/api/v1/nothing", None, "").await.status, 404);
    assert_eq!(guarded.ask("DELETE", "/api/v1/events", None, "").await.status, 405);
    assert_eq!(guarded.ask("OPTIONS", "/api/v1/tokens", None, "").await.status, 204);
}

#[tokio::test]
async fn the_document_names_the_role_of_each_operation_and_whether_it_is_asked_for() {
    let (guarded, open) = (Guarded::start().await, TestServer::start().await);
    for (server, is_guarded) in [(&guarded.server, true), (&open, false)] {
        let document = server.get("/api/v1/openapi.json").await.json();
        for route in access_table() {
            let demanded = match route.role {
                None => json!([]),
                Some(role) if is_guarded => json!([{ "bearer": [role.as_str()] }]),
                Some(role) => json!([{}, { "bearer": [role.as_str()] }]),
            };
            let named = &document["paths"][route.path][route.method.to_lowercase()]["security"];
            assert_eq!(*named, demanded, "{} {}", route.method, route.path);
        }
    }
}

#[test]
fn what_changes_or_ends_others_work_is_audited_and_no_reader_may() {
    for route in access_table() {
        let is_reading = route.method == "GET"
            || matches!(route.path, "/api/v1/queries" | "/api/v1/replay")
            || matches!(route.path, "/api/v1/temporal-query");
        if !is_reading {
            assert!(route.role.is_some_and(|role| role != Role::Reader), "{} {}", route.method, route.path);
        }
        if route.is_audited || route.path.starts_with("/api/v1/tokens") {
            assert!(matches!(route.role, Some(Role::Operator | Role::Admin)), "{} {}", route.method, route.path);
        }
        if !is_reading && matches!(route.role, Some(Role::Operator)) {
            assert!(route.is_audited, "{} {} is an operator's, and not audited", route.method, route.path);
        }
    }
}

#[test]
fn the_page_about_security_has_the_table() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/security.md")).unwrap();
    let line = |route: RouteAccess| {
        let role = route.role.map_or("everybody", Role::as_str);
        let audited = if route.is_audited { "yes" } else { "" };
        format!("| `{} {}` | {role} | {audited} |", route.method, route.path)
    };
    let table = access_table().map(line).collect::<Vec<_>>().join("\n");
    let written: Vec<&str> = page.lines().filter(|line| line.starts_with("| `")).collect();
    assert_eq!(written.join("\n"), table, "the table in docs/security.md is to be:\n{table}\n");
}
